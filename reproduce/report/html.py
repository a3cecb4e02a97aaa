"""The report as one HTML file that loads nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2

from reproduce.report import pages
from reproduce.report.columns import settings
from reproduce.report.pages import Report

TEMPLATES = Path(__file__).parent / "templates"


def environment(**names: Any) -> jinja2.Environment:
    """Of the templates beside this file, which know ``names``."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.globals |= names
    return made


def html(report: Report, folder: Path) -> str:
    """The page, to stand in ``folder``."""
    template = environment(pages=pages, settings=settings, folder=folder).get_template("report.html")
    return template.render(report=report)
