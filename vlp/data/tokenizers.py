"""Text tokenizers: RoBERTa's byte-level BPE or BERT's WordPiece, from the hub or from local files.

Source: docs/official/meter.md §3.4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from transformers import BertTokenizerFast, PreTrainedTokenizerBase, RobertaTokenizerFast  # type: ignore[attr-defined]

from vlp.checkpoint.errors import WeightsError
from vlp.checkpoint.folder import check_folder, read_object
from vlp.data.errors import DataError
from vlp.files import regular
from vlp.hub import hub_access, is_path

_NEEDED = "give the folder of a tokenizer: vocab.txt (BERT), vocab.json and merges.txt (RoBERTa), or tokenizer.json"
_INSTEAD = "give tokenizer=FOLDER, saved on a connected machine with save_pretrained"


class Encoding(NamedTuple):
    """Token ids and attention masks (1 = token, 0 = padding), one row per text."""

    ids: list[list[int]]
    masks: list[list[int]]


def load_tokenizer(name_or_path: str | Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a hub name ("roberta-base", "bert-base-uncased") or of a local folder.

    A hub name with "roberta" in it is RoBERTa, any other is BERT, lower-casing if "uncased" is in it. A folder's own
    files decide: `merges.txt` (RoBERTa), `vocab.txt` (BERT), else the model in `tokenizer.json`.

    Raises:
        OSError: there is no such folder, it holds no tokenizer, or the hub did not give one (a ``HubError``).
        WeightsError: a file of the folder is cut or damaged.
    """
    if Path(name_or_path).is_dir():
        return _from_folder(Path(name_or_path))
    name = str(name_or_path)
    if Path(name).exists():
        raise NotADirectoryError(f"tokenizer={name}: is no folder; {_NEEDED}")
    if is_path(name):
        raise FileNotFoundError(f"tokenizer={name}: no such folder; {_NEEDED}")
    if "roberta" in name:
        return _from_hub(RobertaTokenizerFast, name)
    return _from_hub(BertTokenizerFast, name, do_lower_case="uncased" in name)


def named_tokenizer(name: str | None, config: Mapping[str, Any] | None = None) -> PreTrainedTokenizerBase | None:
    """The tokenizer ``name``, else that of a recipe's ``text_encoder``, if its folder is here; None for neither.

    Raises:
        DataError: it cannot be had.
    """
    own = (config or {}).get("text_encoder")
    if name is None and isinstance(own, str) and Path(own).is_dir():
        name = own
    try:
        return None if name is None else load_tokenizer(name)
    except (OSError, WeightsError) as error:
        raise DataError(str(error)) from error


def encode(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_length: int) -> Encoding:
    """Encode texts as the official loaders do: special tokens added, cut and padded to `max_length`.

    A caption that spells a special token ("<mask>", "[SEP]") holds these characters, not the token: otherwise a caption
    from the web could end its own sentence, or show the model a mask where nothing is masked.
    """
    encoded = tokenizer(
        list(texts), padding="max_length", truncation=True, max_length=max_length, split_special_tokens=True
    )
    return Encoding(encoded["input_ids"], encoded["attention_mask"])


def _from_folder(folder: Path) -> PreTrainedTokenizerBase:
    check_folder(folder)
    has = {name: (folder / name).exists() for name in ("merges.txt", "vocab.json", "vocab.txt", "tokenizer.json")}
    whole = read_object(folder / "tokenizer.json").get("model") if has["tokenizer.json"] else None
    kind = whole.get("type") if isinstance(whole, dict) else None
    if has["merges.txt"] or has["vocab.json"]:
        family: Any = RobertaTokenizerFast
        _check_bpe(folder, has, whole)
    elif has["vocab.txt"]:
        family = BertTokenizerFast
        _check_wordpiece(folder, whole)
    elif not has["tokenizer.json"]:
        raise FileNotFoundError(f"tokenizer={folder}: the folder holds no tokenizer; {_NEEDED}")
    elif kind in ("BPE", "WordPiece"):
        family = RobertaTokenizerFast if kind == "BPE" else BertTokenizerFast
    else:
        raise OSError(f"{folder / 'tokenizer.json'} is a {kind} tokenizer; BPE (RoBERTa) or WordPiece (BERT) is needed")
    try:
        tokenizer = family.from_pretrained(folder)
    except Exception as error:  # what the tokenizers library raises, too
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise OSError(f"tokenizer={folder}: its files do not make a tokenizer ({reason})") from error
    if not _has_vocabulary(tokenizer):
        raise OSError(f"tokenizer={folder}: the tokenizer files in the folder hold no vocabulary")
    return tokenizer


def _check_bpe(folder: Path, has: Mapping[str, bool], whole: Any) -> None:
    """That RoBERTa's two files are there, or the one that holds both, and that none is cut."""
    if missing := [name for name in ("vocab.json", "merges.txt") if not has[name] and not has["tokenizer.json"]]:
        raise FileNotFoundError(f"{folder / missing[0]}: no such file; {_NEEDED}")
    if not has["merges.txt"]:
        return
    merges = [line for line in _lines(folder / "merges.txt") if not line.startswith("#version")]
    expected = _length(whole, "merges")
    if not expected and has["vocab.json"]:
        # A merge a token, but for bytes and special tokens; leave room for some that no merge makes.
        expected = int((len(read_object(folder / "vocab.json")) - 256) / 1.05) - 100
    if len(merges) < expected or any(line.count(" ") != 1 for line in merges):
        raise OSError(f"{folder / 'merges.txt'}: cut off or damaged ({len(merges)} merges); restore it from a copy")


def _check_wordpiece(folder: Path, whole: Any) -> None:
    """That BERT's list of tokens is not cut."""
    tokens = _lines(folder / "vocab.txt")
    if not tokens:
        raise OSError(f"{folder / 'vocab.txt'}: is empty; the file holds no vocabulary")
    lacking = [token for token in ("[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]") if token not in tokens]
    if lacking or len(tokens) < _length(whole, "vocab"):
        raise OSError(f"{folder / 'vocab.txt'}: cut off or damaged ({len(tokens)} tokens); restore it from a copy")


def _length(whole: Any, part: str) -> int:
    """How many entries tokenizer.json has of ``part``."""
    entries = whole.get(part) if isinstance(whole, dict) else None
    return len(entries) if isinstance(entries, dict | list) else 0


def _lines(path: Path) -> list[str]:
    try:
        return regular(path).read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise OSError(f"{path}: damaged, not UTF-8 text (byte {error.start}); restore it from a copy") from error


def _from_hub(family: Any, name: str, **options: Any) -> PreTrainedTokenizerBase:
    with suppress(OSError):  # the cache first: then nothing is asked
        tokenizer = family.from_pretrained(name, local_files_only=True, **options)
        if _has_vocabulary(tokenizer):
            return tokenizer
    with hub_access("tokenizer", name, _INSTEAD):
        tokenizer = family.from_pretrained(name, **options)
        if not _has_vocabulary(tokenizer):
            raise OSError(f"no tokenizer files under the name {name}")
    return tokenizer


def _has_vocabulary(tokenizer: PreTrainedTokenizerBase) -> bool:
    """False for the bare special tokens that transformers 5 returns, without an error, where files are missing."""
    return len(tokenizer) > len(set(tokenizer.all_special_ids))
