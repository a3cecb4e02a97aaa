"""Text tokenizers: RoBERTa's byte-level BPE or BERT's WordPiece, from the hub or from local files.

Source: docs/official/meter.md §3.4.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from transformers import BertTokenizerFast, PreTrainedTokenizerBase, RobertaTokenizerFast  # type: ignore[attr-defined]


class Encoding(NamedTuple):
    """Token ids and attention masks (1 = token, 0 = padding), one row per text."""

    ids: list[list[int]]
    masks: list[list[int]]


def load_tokenizer(name_or_path: str | Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a hub name ("roberta-base", "bert-base-uncased") or of a local folder.

    A hub name with "roberta" in it is RoBERTa, any other is BERT, lower-casing if "uncased" is in it. A folder's own
    files decide: `merges.txt` (RoBERTa), `vocab.txt` (BERT), else the model in `tokenizer.json`.

    Raises:
        OSError: there is no such folder, it holds no tokenizer, or the hub did not give one.
    """
    if Path(name_or_path).is_dir():
        return _from_folder(Path(name_or_path))
    name = str(name_or_path)
    if name.startswith(("/", ".", "~")):
        raise FileNotFoundError(f"tokenizer folder {name} does not exist")
    if "roberta" in name:
        return _from_hub(RobertaTokenizerFast, name)
    return _from_hub(BertTokenizerFast, name, do_lower_case="uncased" in name)


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
    if (folder / "merges.txt").is_file():
        family: Any = RobertaTokenizerFast
    elif (folder / "vocab.txt").is_file():
        family = BertTokenizerFast
    elif (folder / "tokenizer.json").is_file():
        kind = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8")).get("model", {}).get("type")
        if kind not in ("BPE", "WordPiece"):
            raise OSError(
                f"{folder / 'tokenizer.json'} is a {kind} tokenizer; BPE (RoBERTa) or WordPiece (BERT) is needed"
            )
        family = RobertaTokenizerFast if kind == "BPE" else BertTokenizerFast
    else:
        raise FileNotFoundError(f"{folder} holds no tokenizer: vocab.txt, vocab.json + merges.txt or tokenizer.json")
    tokenizer = family.from_pretrained(folder)
    if not _has_vocabulary(tokenizer):
        raise OSError(f"the tokenizer files in {folder} hold no vocabulary")
    return tokenizer


def _from_hub(family: Any, name: str, **options: Any) -> PreTrainedTokenizerBase:
    cause: OSError | None = None
    for cached_only in (True, False):  # the cache first: a node without a network must not wait for its time-outs
        try:
            tokenizer = family.from_pretrained(name, local_files_only=cached_only, **options)
        except OSError as error:
            cause = error
            continue
        if _has_vocabulary(tokenizer):
            return tokenizer
    raise OSError(
        f"no tokenizer {name!r} in the local cache or on the Hugging Face hub: check the name and the network, or "
        f"save it on a connected machine with save_pretrained and pass that folder"
    ) from cause


def _has_vocabulary(tokenizer: PreTrainedTokenizerBase) -> bool:
    """False for the bare special tokens that transformers 5 returns, without an error, where files are missing."""
    return len(tokenizer) > len(set(tokenizer.all_special_ids))
