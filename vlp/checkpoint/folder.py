"""Whether a folder of a tokenizer and a language model, as ``save_pretrained`` writes it, is whole."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vlp.checkpoint.errors import WeightsError
from vlp.checkpoint.integrity import whole_file
from vlp.checkpoint.weights import sha256_of_file
from vlp.files import read_json, regular

SUMS = "SHA256SUMS"  # as sha256sum(1) writes and checks it; folders of fit_lm have one
_JSON = ("config.json", "tokenizer.json", "tokenizer_config.json", "vocab.json")
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")


def check_folder(folder: str | Path) -> None:
    """Refuse a folder of which a file is cut, empty or, where it has check sums, changed; once in a process.

    Raises:
        WeightsError: naming the file; OSError: of a file's name is something else.
    """
    folder = Path(folder)
    files = [(path.name, path.stat()) for path in sorted(folder.iterdir()) if path.is_file()]
    _check_once(folder, tuple((name, about.st_ino, about.st_size, about.st_mtime_ns) for name, about in files))


@functools.lru_cache(maxsize=64)
def _check_once(folder: Path, files: tuple[tuple[str, int, int, int], ...]) -> None:
    for name in _JSON:
        if (folder / name).exists():
            read_object(folder / name)
    for pattern in _WEIGHTS:
        for path in sorted(folder.glob(pattern)):
            whole_file(path)
    if (folder / SUMS).exists():
        _compare(folder)


def read_object(path: Path) -> Mapping[str, Any]:
    """The object of a JSON file.

    Raises:
        WeightsError: it is cut, or none.
    """
    try:
        content = read_json(path)
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: cut off, damaged or not JSON; restore it from a copy") from error
    if not isinstance(content, dict):
        raise WeightsError(f"{path}: holds no JSON object; restore it from a copy")
    return content


def _compare(folder: Path) -> None:
    for line in regular(folder / SUMS).read_text(encoding="utf-8", errors="replace").splitlines():
        digest, _, name = line.partition("  ")
        path = folder / name
        if not path.is_file():
            raise WeightsError(f"{path}: is missing, {folder / SUMS} names it; restore it from a copy")
        if sha256_of_file(path) != digest:
            raise WeightsError(
                f"{path}: is not the file that was saved (check sum in {folder / SUMS}); restore it from a copy, or "
                f"remove {SUMS} if you have changed it yourself"
            )
