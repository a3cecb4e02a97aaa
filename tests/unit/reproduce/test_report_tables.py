"""The tables of the report: every printed cell once, differences and gains by brute force, nothing that was not run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reproduce.experiments import Cell, load, printed_tables
from reproduce.report import latex, markdown
from reproduce.report.command import FORMATS
from reproduce.report.pages import MOST_COLUMNS, Report
from reproduce.report.readings import Reading, Source
from reproduce.report.tables import signed, tables
from tests.unit.reproduce.report_pages import READERS, Row, page

EXPERIMENTS, PRINTED = load(), printed_tables()
NAMES = ("baseline", "data", "epic", "variant")
FOLDER = Path("/runs/reproduce")
CELLS = [(row.name, cell) for row in EXPERIMENTS.rows.values() for cell in row.cells]


def source(stage: str, scale: str = "") -> Source:
    return Source(1, stage, FOLDER / stage / "results.json", "last.ckpt", "ab" * 32, "recall", scale)


def report(values: Mapping[tuple[str, str], float] | None = None, scale: str = "") -> Report:
    """Of measured values by stage and column."""

    def measure(cell: Cell) -> Reading | None:
        value = (values or {}).get((cell.stage, cell.column))
        return None if value is None else Reading(value, source(cell.stage, scale))

    return Report(tuple(tables(EXPERIMENTS, PRINTED, measure)), tuple(PRINTED["notes"]["text"]), ())


def lines(name: str, made: Report) -> list[Row]:
    return READERS[name](FORMATS[name][1](made, FOLDER))


def columns(table: int) -> list[str]:
    return [key for key in PRINTED[f"table{table}"][0] if key not in NAMES]


def printed_line(raw: Mapping[str, Any], table: int) -> list[str]:
    return ["–" if raw[key] is None else f"{raw[key]:.1f}" for key in columns(table)]


@pytest.mark.parametrize("name", FORMATS)
def test_every_printed_cell_stands_once_in_its_place(name: str) -> None:
    found = [line for line in lines(name, report()) if line.what == "printed" and line.variant != "gain"]
    expected = [(n, raw) for n in range(1, 6) for raw in PRINTED[f"table{n}"]]
    assert [[cell.text for cell in line.cells] for line in found] == [printed_line(raw, n) for n, raw in expected]
    assert sum(cell.text != "–" for line in found for cell in line.cells) == 423
    for line, (n, raw) in zip(found, expected, strict=True):
        variant = raw.get("variant") or ("EPIC" if raw["epic"] else "vanilla")
        assert (line.table, line.variant) == (n, variant)
        assert line.model == ((raw["baseline"], raw["data"]) if "baseline" in raw else ())


def test_the_cells_of_the_page_have_their_names() -> None:
    ids = page(FORMATS["html"][1](report(), FOLDER)).ids
    expected = [("printed", f"{row}/{cell.column}") for row, cell in CELLS]
    assert sorted(ids) == sorted(expected) and len(set(ids)) == 423


@pytest.mark.parametrize("name", FORMATS)
def test_what_was_not_run_is_empty(name: str) -> None:
    for line in lines(name, report()):
        if line.what != "printed":
            assert {cell.text for cell in line.cells} <= {"", "–"}
            assert not any(cell.address for cell in line.cells)
    assert any(cell.text == "" for line in lines(name, report()) for cell in line.cells)


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_differences_and_gains_are_those_of_the_numbers(data: st.DataObject) -> None:
    """Any cells measured, any values: brute force over the lines of tables.json, in every format."""
    keys = data.draw(st.lists(st.sampled_from([(cell.stage, cell.column) for _, cell in CELLS]), unique=True))
    values = {key: data.draw(st.integers(0, 10000)) / 100 for key in keys}
    name = data.draw(st.sampled_from([*FORMATS]))
    found = {(line.table, *line.model, line.variant, line.what): line for line in lines(name, report(values))}
    gains = [line for line in lines(name, report(values)) if line.variant == "gain"]
    assert len(found) + 3 * 2 == len(lines(name, report(values)))  # Table 4 has three gains
    rows = iter(EXPERIMENTS.rows.values())
    seen_gains = 0
    for n in range(1, 6):
        vanilla: list[tuple[float | None, float | None]] = []
        for raw in PRINTED[f"table{n}"]:
            row = next(rows)
            stages = {cell.column: cell.stage for cell in row.cells}
            both = [(raw[key], values.get((stages.get(key, ""), key))) for key in columns(n)]
            place = (n, *((raw["baseline"], raw["data"]) if "baseline" in raw else ()))
            variant = raw.get("variant") or ("EPIC" if raw["epic"] else "vanilla")
            measured, difference = (found[(*place, variant, what)].cells for what in ("measured", "difference"))
            for (p, m), shown, less in zip(both, measured, difference, strict=True):
                assert shown.text == ("–" if p is None else "" if m is None else f"{m:.1f}")
                assert bool(shown.address) == (m is not None and p is not None)
                assert less.text == ("–" if p is None else "" if m is None else text_of(m - p))
            if row.variant == "vanilla":
                vanilla = both
            elif n != 5:
                three = gains[seen_gains : seen_gains + 3]
                seen_gains += 3
                assert [line.what for line in three] == ["printed", "measured", "difference"]
                for i, ((p, m), (vp, vm)) in enumerate(zip(both, vanilla, strict=True)):
                    texts = [line.cells[i].text for line in three]
                    if p is None or vp is None:
                        assert texts == ["–"] * 3
                    elif m is None or vm is None:
                        assert texts == [text_of(p - vp), "", ""]
                    else:
                        assert texts == [text_of(p - vp), text_of(m - vm), text_of((m - vm) - (p - vp))]
    assert seen_gains == len(gains)


def text_of(value: float) -> str:
    """With a sign, one digit; no sign for zero."""
    text = f"{value:+.1f}"
    return "0.0" if float(text) == 0 else text.replace("-", "−")


def test_no_zero_has_a_sign() -> None:
    assert [signed(value) for value in (0.04, -0.04, 0.0, 1.25, -1.26)] == ["0.0", "0.0", "0.0", "+1.2", "−1.3"]


@pytest.mark.parametrize("name", FORMATS)
def test_small_runs_are_labelled_and_not_compared(name: str) -> None:
    values = {(cell.stage, cell.column): 50.0 for _, cell in CELLS}
    made = report(values, "scenes")
    text = FORMATS[name][1](made, FOLDER)
    assert "Measured on scenes" in text and "not the paper" in text and "on scenes, not the paper" in text
    for line in lines(name, made):
        texts = {cell.text for cell in line.cells} - {"–"}
        if line.what == "measured":
            assert texts == ({"0.0"} if line.variant == "gain" else {"50.0"})
        elif line.what == "difference":
            assert texts == {""}
    assert "scenes" not in FORMATS[name][1](report(values), FOLDER)
    assert "scenes at the least sizes" in FORMATS[name][1](report(values, "smoke"), FOLDER)


def test_a_gain_is_taken_over_the_same_data_alone() -> None:
    values = {(cell.stage, cell.column): 50.0 for _, cell in CELLS}

    def measure(cell: Cell) -> Reading:
        scale = "scenes" if "/epic/" in cell.stage else ""
        return Reading(values[cell.stage, cell.column], source(cell.stage, scale))

    made = tables(EXPERIMENTS, PRINTED, measure)
    gains = [line for table in made[:3] for line in table.lines if line.variant == "gain" and line.what == "measured"]
    assert gains and all(entry.text in ("", "–") for line in gains for entry in line.entries)


@pytest.mark.parametrize("name", FORMATS)
def test_the_notes_of_the_print_are_footnotes(name: str) -> None:
    text = FORMATS[name][1](report(), FOLDER)
    plain = re.sub(r"\\textsuperscript\{(\w)\}", r"\1", text).replace("\\", "").replace("&#39;", "'")
    for notes in PRINTED["notes"].values():
        for note in notes:
            assert plain.count(note) == 1, note


@pytest.mark.parametrize("name", FORMATS)
def test_what_was_not_run_can_be_left_out(name: str) -> None:
    """One cell of a vanilla model, and one of both models of another, by whose measured lines a reader finds them."""
    values = {("meter/4m/vanilla/f30k_zs", "f30k_zs_tr_r1"): 90.0}
    values |= {
        (f"albef/16m/{model}/snli", "snli_ve_dev"): score for model, score in (("vanilla", 80.0), ("epic", 81.5))
    }
    made = replace(report(values), measured_only=True)
    found = [(line.table, *line.model, line.variant, line.what) for line in lines(name, made)]
    three = ("printed", "measured", "difference")
    models = [(1, "METER", "4M", "vanilla"), *((3, "ALBEF", "16M+", each) for each in ("vanilla", "EPIC", "gain"))]
    assert found == [(*model, what) for model in models for what in three]
    assert [len(line.cells) for line in lines(name, made)] == [6] * 12  # of Table 1 the part with a measured cell
    assert FORMATS[name][1](made, FOLDER).count("Nothing of this table has been run.") == 3
    on_scenes = replace(report(values, "scenes"), measured_only=True)
    assert {line.what for line in lines(name, on_scenes)} == {"printed", "measured"}  # no difference is taken


# What text may hold ---------------------------------------------------------------------------------------------------


@settings(max_examples=50)
@given(st.text())
def test_any_text_is_text_in_latex(text: str) -> None:
    made = latex.escaped(text)
    assert made.isascii() and made.isprintable()
    rest = re.sub(r"\\text\w+\{\}|\\dots\{\}|\$-\$|\$\\times\$|\{[\[\]]\}|\\[&%$#_{}]", "", made)
    assert not set(rest) & set("\\{}$&#^_~%[]")


@settings(max_examples=50)
@given(st.text())
def test_any_text_is_text_in_markdown(text: str) -> None:
    made = markdown.escaped(text)
    assert len(made.splitlines()) <= 1
    assert not re.search(r"(?<!\\)(?:\\\\)*[|*_`<>\[\]&#]", re.sub(r"\\[\\`*_\[\]<>|&#~]", "", made))


def test_the_latex_document_is_well_formed() -> None:
    values = {(cell.stage, cell.column): 50.0 for _, cell in CELLS}
    made = report(values)
    odd = Report(made.tables, made.notes, (r"C:\odd_path\{50% of} [x]: #1 & ~é <html>|$",))
    text = latex.latex(odd, Path("/elsewhere 1%/deep"))
    depth = 0
    for each in re.sub(r"\\[{}%$#&_]", "", text):
        depth += {"{": 1, "}": -1}.get(each, 0)
        assert depth >= 0
    assert depth == 0 and text.isascii()
    opened: list[str] = []
    for what, name in re.findall(r"\\(begin|end)\{(\w+)\}", text):
        assert what == "begin" or opened.pop() == name
        opened += [name] if what == "begin" else []
    assert not opened
    counts = [int(a) + int(b) for a, b in re.findall(r"\\begin\{longtable\}\{\*\{(\d)\}\{l\}\*\{(\d+)\}\{r\}\}", text)]
    assert len(counts) == 7  # Table 1 in three parts
    assert max(counts) <= MOST_COLUMNS + 4
    bodies = re.findall(r"\\begin\{longtable\}(.*?)\\end\{longtable\}", text, re.DOTALL)
    for count, body in zip(counts, bodies, strict=True):
        for line in body.splitlines():
            if line.endswith(r"\\"):
                spans = [int(n) - 1 for n in re.findall(r"\\multicolumn\{(\d+)\}", line)]
                assert len(re.findall(r"(?<!\\)&", line)) + 1 + sum(spans) == count
    assert set(re.findall(r"\\([a-zA-Z]+)", text)) <= {
        *("documentclass", "usepackage", "setlength", "tabcolsep", "parindent", "begin", "end", "footnotesize", "item"),
        *("section", "subsection", "begingroup", "endgroup", "scriptsize", "toprule", "midrule", "bottomrule", "par"),
        *("cmidrule", "multicolumn", "endhead", "href", "textsuperscript", "textbackslash", "textasciitilde"),
        *("textless", "textgreater", "textbar"),
    }


def test_the_page_loads_nothing() -> None:
    values = {(cell.stage, cell.column): 50.0 for _, cell in CELLS}
    text = FORMATS["html"][1](report(values), FOLDER)
    assert page(text).outside == [] and "url(" not in text and "@import" not in text
