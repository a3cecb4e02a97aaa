"""Every citation of a section, such as ``docs/method.md §2, steps 2-3``, names a document, a heading and its steps."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NUMBERS = r"§\d+(?:\.\d+)*(?:(?:, | and )§\d+(?:\.\d+)*)*"
CITATION = re.compile(rf"([\w./-]+\.md) ({NUMBERS})(?:, steps? (\d+)(?:-(\d+))?)?")
HEADING = re.compile(r"^#+ (\d+(?:\.\d+)*)\.? ", re.MULTILINE)


@cache
def sections(document: Path) -> dict[str, str]:
    """Number -> text of every numbered heading of a document; a chapter's text ends at its first numbered section."""
    if not document.is_file():
        return {}
    _, *parts = HEADING.split(document.read_text(encoding="utf-8"))
    return dict(zip(parts[::2], parts[1::2], strict=True))


def has_step(section: str, number: int) -> bool:
    return re.search(rf"^(?:\| )?{number}\. ", section, re.MULTILINE) is not None


def dead_citations(text: str, own: dict[str, str]) -> Iterator[str]:
    """What in ``text`` cites nothing.

    Args:
        own: the numbered sections of the file that ``text`` comes from, which it may name without its own name.
    """
    flat = re.sub(r"\s*\n\s*(?:[#+-] *)?", " ", text)  # a citation may go on in the next line, of a comment or a patch
    for document, numbers, first, last in CITATION.findall(flat):
        known = sections(ROOT / document)
        for number in re.findall(r"§([\d.]+)", numbers):
            if number not in known:
                yield f"{document} has no section {number}"
        wanted = range(int(first), int(last or first) + 1) if first else range(0)
        cited = known.get(re.findall(r"§([\d.]+)", numbers)[-1], "")
        yield from (f"{document} {numbers} has no step {step}" for step in wanted if not has_step(cited, step))
    for number in re.findall(r"§(\d+(?:\.\d+)*)", CITATION.sub("", flat)):
        if number not in own:
            yield f"§{number} names no document"
    yield from (f"{name} § names no document" for name in re.findall(r"\b(SPEC|METHOD) §", flat))


def text_files() -> dict[str, str]:
    """Name -> text of every file of the checkout but this one, which cites wrongly on purpose."""
    git = ["git", "-c", f"safe.directory={ROOT}"]  # whoever owns the checkout
    command = [*git, "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    texts = {}
    for name in listed:
        path = ROOT / name
        if path.is_file() and path != Path(__file__) and b"\0" not in (raw := path.read_bytes()):
            texts[name] = raw.decode("utf-8")
    return texts


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="the list of files is git's")
def test_every_citation_leads_to_a_heading() -> None:
    texts = text_files()
    cited = {name: CITATION.findall(re.sub(r"\s+", " ", text)) for name, text in texts.items()}
    assert sum(map(len, cited.values())) > 100  # the pattern finds what it looks for
    dead = {name: list(dead_citations(text, sections(ROOT / name))) for name, text in texts.items()}
    assert not {name: found for name, found in dead.items() if found}


@pytest.mark.parametrize(
    "text",
    [
        "docs/official/meter.md §4.2",
        "docs/official/meter.md §4, §5 and §7.1",
        '"""Drawing M (docs/method.md §2, steps 2-3; Eq. 3)."""',
        "# see docs/official/vilt.md\n    # §4.1, step 6",
        '+"""EPIC in METER (docs/official/meter.md §10).\n',
    ],
)
def test_a_good_citation_is_let_pass(text: str) -> None:
    assert not list(dead_citations(text, {}))


@pytest.mark.parametrize(
    "text, said",
    [
        ("docs/official/meter.md §4.9", "docs/official/meter.md has no section 4.9"),
        ("docs/official/meter.md §4.2 and §12", "docs/official/meter.md has no section 12"),
        ("docs/official/beit.md §1", "docs/official/beit.md has no section 1"),
        ("docs/method.md §2, steps 8-10", "docs/method.md §2 has no step 10"),
        ("see §4.2", "§4.2 names no document"),
        ("as SPEC §4.2 says", "§4.2 names no document"),
        ("METHOD §…", "METHOD § names no document"),
    ],
)
def test_a_dead_citation_is_named(text: str, said: str) -> None:
    assert said in list(dead_citations(text, {}))
