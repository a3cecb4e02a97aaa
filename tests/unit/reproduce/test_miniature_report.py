"""The report's pages from made-up results: what a reader sees, what is missing, what the files need."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from reproduce.__main__ import main
from reproduce.miniature.claims import CLAIMS
from reproduce.miniature.page import Page, Table, Text
from reproduce.miniature.reading import read_results, setting
from reproduce.miniature.report import (
    README_BEGIN,
    README_END,
    page_of,
    renew_verdicts,
    verdict_table,
    with_verdicts,
    write_report,
)
from reproduce.miniature.results import RUNS
from reproduce.miniature.verdicts import HEAD
from tests.unit.reproduce.made_up_runs import complete, made_up_run, write_all, write_everything
from vlp.config.schema import ConfigError
from vlp.files import write_json

ROOT = Path(__file__).parents[3]
HASH = setting(made_up_run("meter", "vanilla", 0, 0))
RESULTS = ROOT / "reproduce" / "results" / "miniature"


def page(folder: Path) -> Page:
    return page_of(read_results(folder))


def tables(page: Page, title: str) -> list[Table]:
    (section,) = (each for each in page.sections if each.title.startswith(title))
    return [block for block in section.blocks if isinstance(block, Table)]


def warnings(page: Page, title: str) -> list[str]:
    (section,) = (each for each in page.sections if each.title.startswith(title))
    return [block.text for block in section.blocks if isinstance(block, Text) and block.warns]


def drawn(page: Page, name: str) -> Figure:
    (picture,) = (each for each in page.pictures if each.name == name)
    return picture.draw()


@pytest.fixture
def two_variants(tmp_path: Path) -> Path:
    """ITC (rand.) 3 points above vanilla in five seeds, one of which ITC (rand.) lacks."""
    runs = [made_up_run("meter", "vanilla", seed, 10 + seed) for seed in range(6)]
    more = [made_up_run("meter", "itc_rand", seed, 13 + seed + 0.1 * seed) for seed in range(5)]
    return write_all(tmp_path / "results", [*runs, *more])


def test_the_verdict_table_shows_difference_interval_and_pairs(two_variants: Path) -> None:
    (table,) = tables(page(two_variants), "Verdicts")
    lines = {line[1]: line for line in table.lines}
    assert tuple(table.head) == HEAD and len(lines) == sum(len(claim.questions) for claim in CLAIMS)
    # Differences 3.0 to 3.4: mean 3.2, s = 0.158, t(4) = 2.776.
    assert [*lines["ITC (rand.) beats vanilla"]] == [
        *("C3", "ITC (rand.) beats vanilla", "supported", "+0.65", "+3.2 [+3.0, +3.4]", "5")
    ]
    assert [*lines["EPIC beats ITC+LM"][2:]] == ["not run enough", "+0.75", "", "0"]


def test_both_sides_are_means_over_the_pairs(two_variants: Path) -> None:
    """Vanilla's sixth seed has no partner: its mean is 12.0 over the pairs, 12.5 over all."""
    shown = page(two_variants)
    assert [*tables(shown, "C3.")[0].lines[0][3:]] == ["15.2", "12.0", "+3.2 [+3.0, +3.4]", "5"]
    assert [*tables(shown, "C4.")[0].lines[0][3:]] == ["", "15.2", "", "0"]


def test_what_is_missing_is_said(two_variants: Path) -> None:
    shown = page(two_variants)
    assert warnings(shown, "C3.") == ["Missing: METER, ITC (rand.): seed 5."]
    assert warnings(shown, "C4.") == ["Missing: METER, ITC (rand.): seed 5; METER, ITC+LM: no run."]
    assert warnings(shown, "C1.") == ["Missing: figure2a.json was not made."]
    assert "calibration.json" in warnings(shown, "The setting")[0]
    assert warnings(shown, "False negatives") == ["Missing: no run has it."]
    assert {picture.name for picture in shown.pictures} == {"C3", "learning_ablation", "learning_baselines"}


def test_runs_without_what_is_compared_are_named(tmp_path: Path) -> None:
    write_all(tmp_path, [complete("meter", "epic", 1, 10), complete("meter", "epic", 2, 10, foils=None)])
    says = warnings(page(tmp_path), "Wrong words found")
    assert says == [
        "Missing: the ITC head finds the wrong word: 1 of at least 5 pairs; the ITC head knows captions from foils "
        "better than the ITM head: 1 of at least 5 pairs."
    ]
    write_all(tmp_path, [complete("meter", "epic", 1, 10, foils=None)])
    assert "the wrong word: 0 of at least 5 pairs" in warnings(page(tmp_path), "Wrong words found")[0]


def test_few_pairs_are_shown_with_their_number(tmp_path: Path) -> None:
    for count in (1, 2):
        write_all(tmp_path, (made_up_run("xvlm", name, count, r) for name, r in (("vanilla", 10), ("epic", 12))))
        shown = page(tmp_path)
        assert f"X-VLM: EPIC beats vanilla: {count} of at least 5 pairs" in warnings(shown, "C9.")[0]
        (line,) = (line for line in tables(shown, "Verdicts")[0].lines if line[1] == "X-VLM: EPIC beats vanilla")
        assert line[2] == "not run enough" and line[5] == str(count)
        assert line[4] == ("+2.0" if count == 1 else "+2.0 [+2.0, +2.0]")


def test_runs_of_another_configuration_are_named(two_variants: Path) -> None:
    write_all(two_variants, [replace(made_up_run("meter", "epic", 1, 50), settings={"images": 9})])
    shown = page(two_variants)
    assert shown.sections[-1].title == "Runs that are not shown"
    assert tables(shown, "The setting")[0].lines[0][:2] == ["METER", HASH]
    assert "meter_epic_seed1" in str(shown.sections[-1].blocks)


def test_a_figure_has_the_points_and_the_interval(two_variants: Path) -> None:
    (axes,) = drawn(page(two_variants), "C3").axes
    dots, interval = (next(line for line in axes.lines if line.get_marker() == mark) for mark in ("o", "D"))
    assert np.asarray(dots.get_xdata()) == pytest.approx([3.0, 3.1, 3.2, 3.3, 3.4])
    assert np.asarray(interval.get_xdata()) == pytest.approx([3.2])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["ITC (rand.) beats vanilla"]


def test_learning_curves_have_the_mean_over_seeds(two_variants: Path) -> None:
    (axes,) = drawn(page(two_variants), "learning_ablation").axes
    curves = {str(line.get_label()): np.asarray(line.get_ydata()).tolist() for line in axes.lines}
    assert curves == {
        "vanilla": pytest.approx([2.5, 5.0, 7.5, 10.0, 12.5]),
        "ITC (rand.)": pytest.approx([15.2 * share for share in (0.2, 0.4, 0.6, 0.8, 1)]),
    }


def test_steps_to_a_recall_count_who_has_it(tmp_path: Path) -> None:
    write_all(tmp_path, (made_up_run("vilt", "vanilla", seed, r) for seed, r in enumerate((8, 12, 20))))
    write_all(tmp_path, (made_up_run("vilt", "epic", seed, 40) for seed in range(3)))
    vanilla, epic = tables(page(tmp_path), "Learning curves")[0].lines
    assert [*vanilla] == ["ViLT", "vanilla", "83", "2 of 3", "never", "1 of 3"]
    # 40 % at step 100: 10 % at step 25, vanilla's mean of 40 / 3 % at step 33.
    assert [*epic] == ["ViLT", "EPIC", "25", "3 of 3", "33", "3 of 3"]


def test_costs_false_negatives_and_salient_mass(tmp_path: Path) -> None:
    runs = [complete("meter", name, seed, 10) for name in ("vanilla", "epic", "vanilla_compute") for seed in range(5)]
    shown = page(write_all(tmp_path, runs))
    assert tables(shown, "Costs")[0].lines[0] == [
        *("METER", "1e+09", "2e+09", "2.00", "1.00", "0.0 [0.0, 0.0]", "0.0 [0.0, 0.0]")
    ]
    assert ["EPIC", "5.0", "25.0", "5"] in [[*line] for line in tables(shown, "False negatives")[0].lines]
    assert ["EPIC", "42.0", "5"] in [[*line] for line in tables(shown, "Salient mass")[0].lines]
    settings = {line[0]: line[1] for line in tables(shown, "The setting")[2].lines}
    assert settings == {"images": "8", "baseline.lr": "0.1"}


class Addresses(HTMLParser):
    """What a page loads or leads to."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [str(value) for name, value in attrs if name in ("src", "href", "srcset", "data")]
        assert tag not in ("script", "link", "iframe", "object")


def check_files(written: list[Path], output: Path) -> None:
    assert all(path.stat().st_size for path in written) and len(set(written)) == len(written)
    figures = [path for path in written if path.parent == output / "figures"]
    assert {path.suffix for path in figures} == {".pdf", ".png"}
    assert {*written} - {*figures} == {output / "report.md", output / "report.html"}
    text = (output / "report.html").read_text()
    page = Addresses()
    page.feed(text)
    assert len(page.found) == len(figures) / 2 and all(each.startswith("data:image/png;base64,") for each in page.found)
    assert "url(" not in text and "@import" not in text
    links = re.findall(r"\]\(([^)]+)\)", (output / "report.md").read_text())
    assert {output / link for link in links} == {*figures}


def test_the_report_is_written(tmp_path: Path, two_variants: Path) -> None:
    output = tmp_path / "report"
    check_files(write_report(two_variants, output), output)
    for name in ("report.md", "report.html"):
        text = (output / name).read_text()
        assert "not run enough" in text and "What a miniature cannot show" in text and HASH in text
    assert "<td>+3.2 [+3.0, +3.4]</td>" in (output / "report.html").read_text()


@pytest.mark.slow
def test_a_complete_report_is_written(tmp_path: Path) -> None:
    results = write_everything(tmp_path / "results")
    written = write_report(results, tmp_path / "report")
    check_files(written, tmp_path / "report")
    names = {path.stem for path in written}
    assert {claim.name for claim in CLAIMS} <= names
    assert {"figure2a", "figure2b", "replaced", "false_negatives", "salient_mass", "learning_baselines"} <= names
    text = (tmp_path / "report" / "report.md").read_text()
    assert "Missing" not in text and "not run enough |" not in text


def test_an_empty_folder_gives_a_report_without_verdicts(tmp_path: Path) -> None:
    (table,) = tables(page(tmp_path), "Verdicts")
    assert {line[2] for line in table.lines} == {"not run enough"}


def test_the_readme_takes_the_verdicts(two_variants: Path) -> None:
    table = verdict_table(two_variants)
    lines = table.splitlines()
    assert len(lines) == 2 + 1 + 2 and lines[2].startswith("| C3 | ITC (rand.) beats vanilla | supported | +0.65 |")
    assert lines[-1].startswith("Not run enough: comparisons of C1, C2, C4, ") and "C3" not in lines[-1]
    readme = f"# Title\n\n{README_BEGIN}\nold\n{README_END}\n\nThe rest. {README_END}\n"
    written = with_verdicts(readme, table)
    assert written == f"# Title\n\n{README_BEGIN}\n{table}\n{README_END}\n\nThe rest. {README_END}\n"
    assert with_verdicts(written, table) == written
    with pytest.raises(ValueError, match="miniature verdicts"):
        with_verdicts("# Title\n", table)


def test_the_command_renews_a_page(two_variants: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# Title\n{README_BEGIN}\n{README_END}\n")
    command = ["miniature", "report", "--results", str(two_variants), "--output", str(tmp_path / "report")]
    assert main([*command, "--readme", str(page)]) == 0
    assert page.read_text() == f"# Title\n{README_BEGIN}\n{verdict_table(two_variants)}\n{README_END}\n"
    assert capsys.readouterr().out.endswith(f"written: {page}\n")
    page.write_text("# Title\n")
    with pytest.raises(ConfigError, match=r"page\.md: the page has no <!-- miniature verdicts -->"):
        renew_verdicts(page, two_variants)
    assert page.read_text() == "# Title\n"


def test_the_readme_shows_the_committed_results() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    there = any((RESULTS / RUNS).glob("*.json"))
    assert (README_BEGIN in readme) == there  # no runs, no verdicts
    assert not there or with_verdicts(readme, verdict_table(RESULTS)) == readme


def test_the_calibration_is_shown_with_what_it_tried(tmp_path: Path) -> None:
    tried = [
        {"baseline": "vilt", "settings": settings, "tr_r1": 5.0, "ir_r1": recall, "seconds": 60.4, "commit": commit}
        for settings, recall, commit in (({}, 4.04, "a" * 40), ({"steps": 400, "rate": 1e-3}, 21.0, "b" * 40))
    ]
    chosen = {"vilt": {"changes": tried[1]["settings"], "of": "hash"}}
    write_json(tmp_path / "calibration.json", {"chosen": chosen, "tried": tried})
    (section,) = (each for each in page(tmp_path).sections if each.title == "The setting")
    says, table = section.blocks[-2:]
    assert isinstance(says, Text) and "It chose ViLT: steps 400, rate 0.001." in says.text
    assert isinstance(table, Table)
    assert [[*line] for line in table.lines] == [
        ["ViLT", "as they stand", "5.0", "4.0", "60", "a" * 12],
        ["ViLT", "steps 400, rate 0.001", "5.0", "21.0", "60", "b" * 12],
    ]
