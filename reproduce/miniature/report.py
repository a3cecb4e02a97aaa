"""Write what the miniature shows of every claim: one Markdown page, one HTML file, and the figures as PDF and PNG."""

from __future__ import annotations

from pathlib import Path

from reproduce.figures.drawing import save
from reproduce.miniature.claims import DROP_ALIKE
from reproduce.miniature.evidence import answers
from reproduce.miniature.intervals import FEWEST_PAIRS, NOT_ENOUGH
from reproduce.miniature.page import Bullets, Page, Section, Text, html, markdown, markdown_table
from reproduce.miniature.reading import Results, read_results
from reproduce.miniature.sections import claim_section
from reproduce.miniature.setting import costs_section, limits_section, setting_section
from reproduce.miniature.training import (
    false_negatives_section,
    learning_section,
    replaced_section,
    salient_section,
)
from reproduce.miniature.verdicts import verdicts
from vlp.config.schema import ConfigError
from vlp.files import atomic_open, regular

TITLE = "The paper's claims in miniature"
README_BEGIN, README_END = "<!-- miniature verdicts -->", "<!-- end -->"
LEGEND = (
    "Measured on scenes with small models: not the paper's data, not its sizes. Each comparison has one measure, which "
    "was fixed before any run: the mean of TR R@1 and IR R@1, zero-shot, at the last step, unless its line names "
    f"another. Two models are compared by seed, and the interval is the two-sided 95 % t interval of the differences. "
    "Supported: the interval is above 0; contradicted: it is below 0; undecided: 0 lies in it. For C2, which says that "
    f"two things are alike, supported: the interval lies within ±{DROP_ALIKE.alike_within:g} points; contradicted: "
    f"outside. Of less than "
    f"{FEWEST_PAIRS} pairs no verdict is given: not run enough. Numbers are points of per cent. In the paper: the "
    "difference of that mean on Flickr30k, zero-shot, from the table that the claim names, one run each; of C1 and C2 "
    "what its figure shows."
)


def write_report(results_folder: Path, output: Path) -> list[Path]:
    """Write report.md, report.html and the figures of the results into ``output``; the files that were written.

    Raises:
        ConfigError: a results file is broken; names it and what is wrong.
        OSError: a file cannot be written.
    """
    page = page_of(read_results(results_folder))
    files: dict[str, Path] = {}
    written = []
    for picture in page.pictures:
        pdf, png = save(picture.draw(), output / "figures" / picture.name)
        files[picture.name] = png
        written += [pdf, png]
    for name, text in (("report.md", markdown(page, files, output)), ("report.html", html(page, files))):
        with atomic_open(output / name) as handle:
            handle.write(text.encode())
        written.append(output / name)
    return written


def page_of(results: Results) -> Page:
    """The report; figures are drawn when it is written."""
    given = answers(results)
    sections = [
        Section("Verdicts", [Text(LEGEND), verdicts(given)]),
        *(claim_section(claim, of_claim, results) for claim, of_claim in given),
        costs_section(results),
        learning_section(results),
        replaced_section(results),
        false_negatives_section(results),
        salient_section(results),
        setting_section(results),
        limits_section(),
    ]
    if results.left_out:
        sections.append(Section("Runs that are not shown", [Bullets(results.left_out)]))
    return Page(TITLE, sections)


def verdict_table(results_folder: Path) -> str:
    """The verdicts as Markdown, and the claims that have comparisons without one, for the README.

    Raises:
        ConfigError: as :func:`write_report`.
    """
    given = answers(read_results(results_folder))
    judged = [(claim, [each for each in of_claim if each.verdict != NOT_ENOUGH]) for claim, of_claim in given]
    lacking = [claim.name for claim, of_claim in given if any(each.verdict == NOT_ENOUGH for each in of_claim)]
    missing = ["", f"Not run enough: comparisons of {', '.join(lacking)}."] if lacking else []
    return "\n".join([*markdown_table(verdicts(judged)), *missing])


def renew_verdicts(path: Path, results_folder: Path) -> None:
    """Write the verdicts into a page that has the markers.

    Raises:
        ConfigError: as :func:`write_report`; or the page lacks a marker.
        OSError: it cannot be read or written.
    """
    try:
        page = with_verdicts(regular(path).read_text(encoding="utf-8"), verdict_table(results_folder))
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None
    with atomic_open(path) as handle:
        handle.write(page.encode())


def with_verdicts(page: str, table: str) -> str:
    """``page`` with ``table`` between its markers :data:`README_BEGIN` and :data:`README_END`.

    Raises:
        ValueError: it lacks one of them.
    """
    before, begin, rest = page.partition(README_BEGIN)
    _, end, after = rest.partition(README_END)
    if not end:
        raise ValueError(f"the page has no {README_BEGIN} with {README_END} behind it")
    return f"{before}{begin}\n{table}\n{end}{after}"
