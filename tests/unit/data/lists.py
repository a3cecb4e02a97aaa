"""Small JSON lists with their images."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.parity.fixture import FIXTURES
from tests.tokenizers import folder_of_vocabulary
from tests.unit.data.raw import image_bytes, write
from vlp.data.json.text import load_cls_tokenizer

VOCABULARY = FIXTURES / "albef" / "golden_data_vocab.txt"

Row = Mapping[str, Any]


def write_list(path: Path, rows: Sequence[Row]) -> Path:
    """A list file."""
    write(path, json.dumps(list(rows)))
    return path


def write_images(folder: Path, names: Sequence[str]) -> None:
    """A readable image for each name."""
    for number, name in enumerate(names):
        write(folder / name, image_bytes(number))


def captions(folder: Path, name: str = "pairs", rows: int = 4, **fields: Any) -> Path:
    """A list of ``rows`` images ``{name}{i}.jpg``, each with the caption "{name} {i}" or ``fields``."""
    names = [f"{name}{i}.jpg" for i in range(rows)]
    write_images(folder, names)
    return write_list(
        folder / f"{name}.json",
        [{"image": image, "caption": f"{name} {i}", **fields} for i, image in enumerate(names)],
    )


def tokenizer():  # type: ignore[no-untyped-def]
    """ALBEF's tokenizer over the fixture's vocabulary."""
    with folder_of_vocabulary(VOCABULARY) as folder:
        return load_cls_tokenizer(folder)
