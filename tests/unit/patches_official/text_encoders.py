"""Folders that hold what the name of a text encoder stands for; of no library but transformers and tokenizers."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from tests.unit.epic.tiny import language_model


def text_encoder(
    folder: Path, family: str, specials: dict[str, str], places: dict[str, int] | None = None, size: int = 40
) -> str:
    """A folder with a masked LM of ``family`` and a tokenizer of ``size`` words; the special ones are the first."""
    words = [f"w{i}" for i in range(size)]
    for place, (name, word) in enumerate(specials.items()):
        words[places[name] if places else place] = word
    model = WordLevel({word: i for i, word in enumerate(words)}, unk_token=specials["unk_token"])
    PreTrainedTokenizerFast(tokenizer_object=Tokenizer(model), **specials).save_pretrained(folder)
    language_model(family, size=size).save_pretrained(folder)
    return str(folder)


ROBERTA = {
    "cls_token": "<s>",
    "pad_token": "<pad>",
    "sep_token": "</s>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
}
BERT = {
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
    "unk_token": "[UNK]",
}
