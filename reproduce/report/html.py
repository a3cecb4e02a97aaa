"""The report as one HTML file that loads nothing."""

from __future__ import annotations

from pathlib import Path

import jinja2

from reproduce.report import pages
from reproduce.report.columns import settings
from reproduce.report.pages import Report

TEMPLATES = Path(__file__).parent / "templates"


def html(report: Report, folder: Path) -> str:
    """The page, to stand in ``folder``."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals |= {"pages": pages, "settings": settings, "folder": folder}
    return environment.get_template("report.html").render(report=report)
