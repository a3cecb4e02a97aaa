"""The image of the report: taken by a real browser where there is one, small, and refused in one line."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from demo import screenshot
from demo.screenshot import COLORS, HEIGHT, WIDTH, find_browser, main, shrink

PAGE = "<!DOCTYPE html><body style='margin:0;background:#0a7'><div style='height:100px;background:#fff'></div>"


def script(folder: Path, text: str) -> str:
    """An executable in place of a browser."""
    path = folder / "chromium"
    path.write_text(f"#!{sys.executable}\nimport sys\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_a_page_becomes_an_image_of_it(tmp_path: Path) -> None:
    try:
        browser = find_browser()
    except RuntimeError as error:
        pytest.skip(str(error))
    (tmp_path / "page.html").write_text(PAGE)
    screenshot.screenshot(browser, tmp_path / "page.html", tmp_path / "page.png")
    with Image.open(tmp_path / "page.png") as image:
        pixels = np.asarray(image.convert("RGB"))
    assert pixels.shape[1] == WIDTH and pixels.shape[0] <= HEIGHT
    assert pixels[50, 500].tolist() == [255, 255, 255] and pixels[-1, 500].tolist() == [0, 170, 119]


def test_the_report_is_printed_beside_its_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        find_browser()
    except RuntimeError as error:
        pytest.skip(str(error))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "report.html").write_text(PAGE + "<p>printed")
    main(["report.html", "out.png"])
    assert (tmp_path / "out.pdf").read_bytes().startswith(b"%PDF-")
    assert (tmp_path / "out.png").is_file() and "written: out.pdf" in capsys.readouterr().out


def test_an_image_is_reduced_to_few_colours(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    shrink(tmp_path / "a.png", tmp_path / "b.png")
    with Image.open(tmp_path / "a.png") as before, Image.open(tmp_path / "b.png") as after:
        colours = after.convert("RGB").getcolors()
        difference = np.abs(np.asarray(before.convert("RGB"), float) - np.asarray(after.convert("RGB"), float))
    assert colours is not None and len(colours) <= COLORS
    assert difference.mean() < 32  # half a step between four levels a channel
    assert (tmp_path / "b.png").stat().st_size < (tmp_path / "a.png").stat().st_size
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png"]


def test_no_browser_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text(PAGE)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match="no Chromium or Chrome on PATH"):
        main([str(tmp_path / "report.html"), str(tmp_path / "out.png")])


def test_a_browser_that_writes_nothing_is_quoted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text(PAGE)
    script(tmp_path, "print('cannot open display', file=sys.stderr); sys.exit(3)")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match=r"status 3\): cannot open display"):
        main([str(tmp_path / "report.html"), str(tmp_path / "out.png")])
    assert not (tmp_path / "out.png").exists()


def test_a_report_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"nothing\.html is not there"):
        main([str(tmp_path / "nothing.html"), str(tmp_path / "out.png")])
