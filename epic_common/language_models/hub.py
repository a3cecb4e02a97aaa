"""A language model by its folder or hub name: a whole one, and no minutes of attempts where there is no network."""

from __future__ import annotations

import os
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from transformers import AutoModelForMaskedLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from epic_common.finite import check_weights
from epic_common.teacher import file_sha256

SUMS = "SHA256SUMS"  # of a folder that fit_lm has written; sha256sum -c reads it


def write_sums(folder: Path) -> None:
    """List the SHA-256 of every file of ``folder``."""
    lines = [f"{file_sha256(path)}  {path.name}\n" for path in sorted(folder.iterdir())]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")


def load_pair(name: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The masked language model and the tokenizer of a folder or hub name; the local cache is looked into first.

    Raises:
        ValueError: the folder is damaged or of something else, or the hub does not give the name.
    """
    if os.path.isdir(name):
        return _from_folder(Path(name))
    try:
        return _load(name, local_files_only=True)
    except OSError:
        why = _load_or_why(name)
    if isinstance(why, str):
        raise ValueError(f"{name}: neither a folder nor in the local cache, and {why}; give the folder of a masked LM")
    return why


def _from_folder(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    if (folder / SUMS).is_file():
        for line in (folder / SUMS).read_text(encoding="utf-8", errors="replace").splitlines():
            digest, _, file = line.partition("  ")
            if not (folder / file).is_file() or file_sha256(folder / file) != digest:
                raise ValueError(
                    f"{folder / file}: is not the file that was saved (check sum in {folder / SUMS}); restore it from "
                    f"a copy, or remove {SUMS} if you have changed it yourself"
                )
    try:
        return _load(str(folder))
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"{folder}: not a whole folder of a masked language model ({_first_line(error)})") from error


def _load_or_why(name: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase] | str:
    """What the hub gives, or why it gives nothing."""
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    if os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE"):
        return "HF_HUB_OFFLINE forbids to ask the Hugging Face hub"
    if not _answers(endpoint):
        return f"{endpoint} cannot be reached"
    try:
        return _load(name)
    except OSError as error:
        return f"{endpoint} does not have it ({_first_line(error)})"


def _load(name: str, **options: Any) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    model = AutoModelForMaskedLM.from_pretrained(name, **options)
    check_weights(model, name)
    return model, AutoTokenizer.from_pretrained(name, **options)


def _answers(endpoint: str) -> bool:
    try:
        with urllib.request.urlopen(urllib.request.Request(endpoint, method="HEAD"), timeout=5):
            return True
    except urllib.error.HTTPError:
        return True
    except urllib.error.URLError as error:
        return isinstance(error.reason, ssl.SSLError)  # transformers may know other certificates
    except OSError:
        return False


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
