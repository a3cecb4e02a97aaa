"""The fifth baseline (tests/fifth) is small and uses public names alone, and docs/add_a_baseline.md quotes it."""

from __future__ import annotations

import ast
import re
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from epic_vlp.parts import EpicParts
from patches.check import mentions
from patches.tree import read_tree, vanilla
from patches.unified import applied, difference
from tests.fifth.baseline import BASELINE
from tests.fifth.epic_fifth import FifthTeacher
from tests.unit.configs import resolve
from vlp.checkpoint.layout import CheckpointLayout
from vlp.sacred_dialect.baseline import SacredBaseline
from vlp.sacred_dialect.config import base_config

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "tests" / "fifth").glob("*.py"))
PAGE = (ROOT / "docs" / "add_a_baseline.md").read_text(encoding="utf-8")
MAY_USE = {"vlp", "epic_common", "epic_vlp", "torch", "transformers"} | set(sys.stdlib_module_names)


def names_used(tree: ast.AST) -> Iterator[str]:
    """Dotted names of what a file imports, and the attributes that it reads."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Attribute):
            yield f".{node.attr}"


def test_it_has_at_most_200_lines() -> None:
    lines = [line for path in FILES for line in path.read_text(encoding="utf-8").splitlines()]
    assert 100 < sum(bool(line.strip()) for line in lines) <= 200  # blank ones are the formatter's


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_it_uses_public_names_alone(path: Path) -> None:
    used = list(names_used(ast.parse(path.read_text(encoding="utf-8"))))
    imported = {name for name in used if not name.startswith(".")} - {"__future__.annotations"}
    assert not [name for name in imported if name.split(".")[0] not in MAY_USE and not name.startswith("tests.fifth.")]
    parts = {part for name in used for part in name.split(".")} - {"__future__", "__init__"}
    assert not [part for part in parts if part.startswith("_")]


def test_its_configuration_has_what_the_shared_parts_and_the_model_read() -> None:
    paths = [path for part in ("vlp", "epic_vlp") for path in (ROOT / part).rglob("*.py")]
    of_another_dialect = {"yaml_dialect", "json", "jsonl"}
    paths = [path for path in paths if not of_another_dialect & set(path.parts) and path.name != "stream_cache.py"]
    texts = [path.read_text(encoding="utf-8") for path in paths]
    read = {key for text in texts for key in re.findall(r"""\b(?:config|c)\[["'](\w+)["']\]""", text)}
    by_the_model = {"patch_size", "num_heads", "num_layers", "drop_rate", "gradient_checkpointing", "weight_decay"}
    vqa = {"vqav2_label_size"}
    keys = base_config(BASELINE.experiment).keys()
    assert read >= {"data_root", "exp_name", "teacher_path"}  # the pattern finds what it looks for
    assert read - vqa <= keys
    assert keys - read == by_the_model


def test_without_its_marked_lines_nothing_names_epic() -> None:
    tree = read_tree("tests/fifth")
    bare = vanilla(tree)
    assert not mentions(tree) and not [name for name, text in bare.items() if "epic" in text.lower()]
    assert applied(difference(tree), bare, "fifth.patch") == tree


@torch.no_grad()
@pytest.mark.parametrize("layer", [-1, -2])
def test_query_and_key_are_those_of_the_attention_map(layer: int) -> None:
    """A patch's attention is softmax(q·k / sqrt(d_h)): its logarithms of two words differ as q·k / sqrt(d_h) do."""
    torch.manual_seed(0)
    teacher = FifthTeacher(resolve(BASELINE.experiment, vocab_size=50)).eval()
    ids, mask = torch.randint(50, (2, 7)), torch.tensor([[1] * 7, [1] * 5 + [0] * 2])
    batch: dict[str, Any] = {"text_ids": ids, "text_masks": mask, "image": [torch.randn(2, 3, 64, 64)]}
    query, key = teacher.query_key(batch, layer)
    scores = torch.einsum("bhd,bhnd->bhn", query, key) / query.shape[-1] ** 0.5

    teacher.transformer.set_attn_implementation("eager")
    image = teacher.encode_image(batch["image"][0])
    maps = teacher.joint(ids, mask, image, output_attentions=True).attentions[layer]  # (B, h, P + n, P + n)
    expected = maps[:, :, : image.shape[1], image.shape[1] :].log().mean(dim=2)
    for row, count in enumerate(mask.sum(dim=1)):
        ours, theirs = (centred(each[row, :, :count]) for each in (scores, expected))
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
        assert theirs.abs().max() > 1e-2


def centred(values: Tensor) -> Tensor:
    return values - values.mean(dim=-1, keepdim=True)


# The page -----------------------------------------------------------------------------------------------------------


def excerpts() -> list[tuple[str, str]]:
    """File and text of every excerpt: a block of Python below a paragraph that begins with a link to the file."""
    return re.findall(r"^\[`[\w./]+`\]\(\.\./([\w./]+)\).*\n(?:.+\n)*\n```python\n((?:.*\n)*?)```$", PAGE, re.MULTILINE)


def stands_in(excerpt: str, text: str) -> bool:
    """Whether every part of an excerpt (parts end at a line ``…``) stands in ``text``, in order, indented or not."""
    lines, place = text.splitlines(), 0
    for part in re.split(r"^\s*…\n", excerpt, flags=re.MULTILINE):
        wanted = textwrap.dedent(part).strip("\n").splitlines()
        starts = range(place, len(lines) - len(wanted) + 1)
        found = (i for i in starts if textwrap.dedent("\n".join(lines[i : i + len(wanted)])).splitlines() == wanted)
        start = next(found, None)
        if start is None:
            return False
        place = start + len(wanted)
    return True


def test_every_excerpt_stands_in_its_file() -> None:
    assert len(excerpts()) == PAGE.count("```python") > 5
    texts = {name: (ROOT / name).read_text(encoding="utf-8") for name, _ in excerpts()}
    assert not [(name, excerpt) for name, excerpt in excerpts() if not stands_in(excerpt, texts[name])]


def test_an_excerpt_that_has_drifted_is_seen() -> None:
    text = "def f():\n    a = 1\n\n    b = 2\n    c = 3\n"
    assert stands_in("a = 1\n…\nc = 3\n", text) and stands_in("a = 1\n\nb = 2\n", text)
    for drifted in ("a = 2\n", "c = 3\n…\na = 1\n", "a = 1\nb = 2\n", "a = 1\n…\na = 1\n"):
        assert not stands_in(drifted, text)


def test_every_file_is_quoted_or_named() -> None:
    assert not [path.name for path in FILES if path.stat().st_size and f"tests/fifth/{path.name}" not in PAGE]


@pytest.mark.parametrize("kind", [SacredBaseline, CheckpointLayout, EpicParts])
def test_every_field_of_the_description_is_explained(kind: Any) -> None:
    assert not [field.name for field in fields(kind) if f"| `{field.name}` |" not in PAGE]
