"""Images and captions as each baseline's evaluation reads them, and which characters each token stands for."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from albef.dataset import PretrainData
from epic_common.masking import maskable_positions
from epic_common.vocabulary import Vocabulary
from vlp.baseline import Config
from vlp.data.collate import Collator
from vlp.data.draws import SampleKey
from vlp.data.images import decode_image
from vlp.data.json.collate import JsonCollator
from vlp.data.json.text import load_cls_tokenizer, pre_caption
from vlp.data.json.transforms import EvalTransform
from vlp.data.jsonl.pairs import PairCollator
from vlp.data.jsonl.texts import TextReader
from vlp.data.masking import MlmMasker
from vlp.data.tokenizers import load_tokenizer
from vlp.data.transforms import build_transform
from vlp.data.trim import trimmed
from xvlm.dataset.tokenizers import plain_tokenizer

_KEY = SampleKey(0, 0, "figure", 0)  # nothing is drawn in an evaluation

Spans = list[tuple[int, int]]
Sample = dict[str, Any]


@dataclass(frozen=True)
class Pair:
    """An image-caption pair as a model takes it.

    Attributes:
        text: the caption as its tokens are made from it.
        batch: of this pair alone: the image, ``text_ids`` and ``text_masks`` (1, n).
        view: what the model sees of the image.
        maskable: (n,) bool, the tokens that are neither special nor padding.
        spans: characters of ``text`` that each of the n tokens stands for, (0, 0) for special ones.
    """

    text: str
    batch: Mapping[str, Any]
    view: Image.Image
    maskable: Tensor
    spans: Spans

    @property
    def ids(self) -> Tensor:
        """(1, n) token ids."""
        return self.batch["text_ids"]

    def tokens_of(self, start: int, end: int) -> list[int]:
        """:func:`tokens_of`."""
        return tokens_of(self.spans, start, end)


def tokens_of(spans: Spans, start: int, end: int) -> list[int]:
    """The tokens that stand for a character from ``start`` to ``end``, ``end`` left out; ``spans`` are all tokens'."""
    return [i for i, (a, b) in enumerate(spans) if a < end and start < b]


@dataclass(frozen=True)
class Pairs:
    """B pairs as one batch; the attributes are those of :class:`Pair`, maskable is (B, n)."""

    texts: list[str]
    batch: dict[str, Any]
    maskable: Tensor
    spans: list[Spans]


class PairReader(ABC):
    """How a baseline reads pairs; a subclass says what becomes of image and caption."""

    tokenizer: PreTrainedTokenizerBase
    mode: str | None = "RGB"  # that an image is decoded to; None: RGBA where it has transparency

    def __call__(self, data: bytes, caption: str) -> Pair:
        """Read the bytes of an image file, and its caption.

        Raises:
            ImageError: no readable image.
            ValueError: the caption has no word.
        """
        image = self.decoded(data)
        pairs = self.together([({**self.shown(image), **self.read(caption)}, caption)])
        return Pair(pairs.texts[0], pairs.batch, self.view(image), pairs.maskable[0], pairs.spans[0])

    def decoded(self, data: bytes) -> Image.Image:
        """The image of a file's bytes.

        Raises:
            ImageError: no readable image.
        """
        return decode_image(data, self.mode)

    def together(self, samples: Sequence[tuple[Sample, str]]) -> Pairs:
        """Several samples, of :meth:`shown` and :meth:`read`, each with its caption.

        Raises:
            ValueError: a caption has no token that the model knows.
        """
        batch = self.collated([sample for sample, _ in samples])
        ids, special = batch["text_ids"], torch.tensor(Vocabulary.from_tokenizer(self.tokenizer).special_ids)
        maskable = maskable_positions(ids, batch["text_masks"], special)
        for (_, caption), any_token in zip(samples, maskable.any(dim=1).tolist(), strict=True):
            if not any_token:
                raise ValueError(f"the caption {caption!r} has no token that the model knows")
        texts = [self.cleaned(caption) for _, caption in samples]
        return Pairs(texts, batch, maskable, [self._spans(text, ids.shape[1]) for text in texts])

    def read(self, caption: str) -> Sample:
        """The text of a sample.

        Raises:
            ValueError: the caption has no word.
        """
        text = self.cleaned(caption)
        if not text.strip():
            raise ValueError(f"the caption {caption!r} has no word: give one that describes the image")
        return {"text": self.encoded(text), "_key": _KEY}

    def cleaned(self, caption: str) -> str:
        """The caption as its tokens are made from it."""
        return pre_caption(caption)

    def encoded(self, text: str) -> Any:
        """A cleaned caption as the collation takes it."""
        return text

    @abstractmethod
    def shown(self, image: Image.Image) -> Sample:
        """The image of a sample."""

    @abstractmethod
    def collated(self, samples: Sequence[Sample]) -> dict[str, Any]:
        """The batch of several samples."""

    def view(self, image: Image.Image) -> Image.Image:
        """What the model sees of an image."""
        return image

    def _spans(self, text: str, n: int) -> Spans:
        """Every text begins with one special token; behind it come the pieces, and at most a closing one."""
        encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, split_special_tokens=True)
        spans = [(0, 0), *map(tuple, encoded["offset_mapping"])][:n]
        return spans + [(0, 0)] * (n - len(spans))


class ArrowPairReader(PairReader):
    """METER and ViLT."""

    def __init__(self, config: Config) -> None:
        self.tokenizer = load_tokenizer(config["tokenizer"])
        self.transform = build_transform(config["val_transform_keys"][0], config["image_size"])
        self.mode = None if self.transform.mode == "RGBA" else "RGB"
        masker = MlmMasker(self.tokenizer, config["mlm_prob"], config["whole_word_masking"])
        self.collate = Collator(self.tokenizer, masker, config["max_text_len"])

    def cleaned(self, caption: str) -> str:
        return caption

    def shown(self, image: Image.Image) -> Sample:
        return {"image": [self.transform(image)]}

    def collated(self, samples: Sequence[Sample]) -> dict[str, Any]:
        return trimmed(self.collate(samples))

    def view(self, image: Image.Image) -> Image.Image:
        return self.transform.framed(image)

    def _spans(self, text: str, n: int) -> Spans:
        return [*super()._spans(text, n - 1), (0, 0)]  # a closing token, also of a text that is cut


class AlbefPairReader(PairReader):
    """ALBEF."""

    def __init__(self, config: Config) -> None:
        positions = config["bert_config"]["max_position_embeddings"]
        self.tokenizer = load_cls_tokenizer(config["text_encoder"])
        self.transform = EvalTransform(config["image_res"])
        self.collate = JsonCollator(self.tokenizer, min(PretrainData.longest, positions), positions)

    def shown(self, image: Image.Image) -> Sample:
        return {"images": [self.transform(image, random.Random(0))]}

    def collated(self, samples: Sequence[Sample]) -> dict[str, Any]:
        return self.collate(samples)


class XvlmPairReader(PairReader):
    """X-VLM."""

    def __init__(self, config: Config) -> None:
        self.tokenizer = plain_tokenizer(config)
        self.transform, self.words = EvalTransform(config["image_res"]), config["max_words"]
        self.texts = TextReader(self.tokenizer, None, max_words=self.words, max_tokens=config["max_tokens"])
        self.collate = PairCollator(self.tokenizer.pad_token_id)

    def cleaned(self, caption: str) -> str:
        return pre_caption(caption, self.words)

    def encoded(self, text: str) -> Any:
        return self.texts(text, _KEY)

    def shown(self, image: Image.Image) -> Sample:
        return {"image": self.transform(image, random.Random(0))}

    def collated(self, samples: Sequence[Sample]) -> dict[str, Any]:
        return self.collate(samples)


READERS: dict[str, Callable[[Config], PairReader]] = {
    "meter": ArrowPairReader,
    "vilt": ArrowPairReader,
    "albef": AlbefPairReader,
    "xvlm": XvlmPairReader,
}
