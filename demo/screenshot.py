"""``python -m demo.screenshot [REPORT.html] [OUT.png]``: an image of the demo's report, small enough for a README.

Beside it OUT.pdf, the whole report, whose charts are drawings that a paper can take.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from demo.sizes import REPOSITORY
from vlp.files import regular
from vlp.safe_output import make_output_safe

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
# Of the whole report, which is five times as long, what no table says: the saliency bars and the verdicts on words.
SHOWN = """<style>
  main { padding: 24px } h2 { margin-top: 0 } header, section { display: none }
  #saliency, #verdicts { display: block; margin: 0 0 32px }
</style>"""
WIDTH, HEIGHT = 1000, 1430  # CSS pixels, one to one: two verdicts with short captions
COLORS = 64
TIMEOUT = 120  # seconds
FLAGS = (
    "--headless",
    "--no-sandbox",  # the page is ours and loads nothing; a container's root user has no sandbox
    "--disable-gpu",
    "--hide-scrollbars",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


def main(argv: Sequence[str]) -> None:
    """Take the image; what cannot be had ends in one line and status 1."""
    parser = argparse.ArgumentParser("python -m demo.screenshot", description="An image of the demo's report.")
    parser.add_argument("report", nargs="?", type=Path, default=REPOSITORY / "runs/demo/report.html")
    parser.add_argument("out", nargs="?", type=Path, default=REPOSITORY / "docs/demo_report.png")
    chosen = parser.parse_args(argv)
    if not chosen.report.is_file():
        sys.exit(f"error: {chosen.report} is not there; `make demo` writes a report")
    try:
        browser = find_browser()
        screenshot(browser, chosen.report, chosen.out)
        print_pdf(browser, chosen.report, chosen.out.with_suffix(".pdf"))
    except (RuntimeError, OSError) as error:
        sys.exit(f"error: {error}")
    for path in (chosen.out, chosen.out.with_suffix(".pdf")):
        print(f"written: {path}, {path.stat().st_size / 1000:.0f} kB")


def find_browser() -> str:
    """The first Chromium or Chrome on PATH.

    Raises:
        RuntimeError: there is none.
    """
    for name in BROWSERS:
        if path := shutil.which(name):
            return path
    raise RuntimeError(f"no Chromium or Chrome on PATH (looked for {', '.join(BROWSERS)}); install one of them")


def screenshot(browser: str, page: Path, out: Path) -> None:
    """Render a report and write what ``SHOWN`` leaves of it as a PNG of few colours.

    Raises:
        RuntimeError: the browser wrote no image; its last words are in the message.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy, image = Path(folder, "page.html"), Path(folder, "page.png")
        copy.write_text(regular(page).read_text(encoding="utf-8") + SHOWN, encoding="utf-8")
        run(browser, copy, image, f"--window-size={WIDTH},{HEIGHT}", f"--screenshot={image}")
        shrink(image, out)


def print_pdf(browser: str, page: Path, out: Path) -> None:
    """Print the whole report, atomically.

    Raises:
        RuntimeError: the browser wrote nothing.
    """
    fresh = out.absolute().with_name(f".{out.name}.{os.getpid()}.tmp")
    run(browser, page.absolute(), fresh, "--no-pdf-header-footer", f"--print-to-pdf={fresh}")
    os.replace(fresh, out)


def run(browser: str, page: Path, written: Path, *flags: str) -> None:
    """Let the browser write a file of a page.

    Raises:
        RuntimeError: it wrote none; its last words are in the message.
    """
    with tempfile.TemporaryDirectory() as profile:
        command = [browser, *FLAGS, f"--user-data-dir={profile}", *flags, page.as_uri()]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
        except subprocess.TimeoutExpired as error:
            raise RuntimeError(f"{browser} took more than {TIMEOUT} s") from error
    if not written.is_file():
        last = done.stderr.strip().splitlines()[-1:] or ["nothing on stderr"]
        raise RuntimeError(f"{browser} wrote nothing (status {done.returncode}): {last[0]}")


def shrink(taken: Path, out: Path) -> None:
    """Write an image file as a PNG of ``COLORS`` colours, atomically."""
    fresh = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    with Image.open(regular(taken)) as image:
        image.convert("RGB").quantize(COLORS).save(fresh, format="PNG", optimize=True)
    os.replace(fresh, out)


if __name__ == "__main__":
    make_output_safe()
    main(sys.argv[1:])
