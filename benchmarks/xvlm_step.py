"""X-VLM's pre-training steps for the step benchmark: its models and their parts, and batches as its loader gives them.

The step of the region stream stands in rows of its own: as many texts of as many tokens as the other rows, of the
fewer images that its official batch has.
"""

from __future__ import annotations

from collections.abc import Sequence
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only
from transformers import BertConfig, PreTrainedTokenizerBase

from benchmarks.baseline import Batch, Variant
from benchmarks.epic_steps import ONE_TOKEN, EpicSteps
from benchmarks.xvlm_official import full_states, official_batch, official_loss
from epic_common.config import RegionEpicConfig
from epic_common.corruption import Corruption
from epic_common.language_models.small import train_wordpiece
from epic_vlp.lightning_epic import LightningEpic
from vlp.config.schema import defaults
from vlp.data.draws import SampleKey
from vlp.data.jsonl.pairs import PairCollator
from vlp.data.jsonl.region_batch import RegionCollator
from vlp.data.jsonl.regions import Region
from vlp.data.jsonl.texts import RowText, TextReader, masker_of
from vlp.data.tokenizers import load_tokenizer
from vlp.nn.step_plan import step_plan
from xvlm.config import PretrainKeys
from xvlm.models.epic_xvlm import XvlmEpic, XvlmTeacher
from xvlm.models.model_pretrain import XVLM


class Size(NamedTuple):
    """Keys of Pretrain.py that are not official, and the language model beside the student."""

    keys: dict[str, Any]
    text: BertConfig
    base_gib: float  # of EpicSteps
    gib_per_pair: float


_TINY_TEXT = BertConfig(
    vocab_size=1000,
    hidden_size=128,
    num_hidden_layers=4,
    num_attention_heads=4,
    intermediate_size=512,
    max_position_embeddings=64,
)
_TINY_KEYS = {
    "image_res": 64,
    "vision_config": {
        **{"ckpt": "", "vision_width": 128, "image_res": 64, "window_size": 2, "embed_dim": 16},
        **{"depths": [2, 2, 2, 2], "num_heads": [2, 2, 4, 4]},
    },
    "text_config": {**_TINY_TEXT.to_dict(), "fusion_layer": 2},
    "embed_dim": 64,
}


class XvlmSteps(EpicSteps):
    """X-VLM with Swin-B and BERT, whose architecture the generator has, too."""

    epic: ClassVar[type[LightningEpic]] = XvlmEpic
    settings: ClassVar[RegionEpicConfig] = RegionEpicConfig(enabled=True, append_sep=True)
    variants: ClassVar[tuple[str, ...]] = (
        *("vanilla_official", "vanilla", "epic_naive", "epic", "epic_cached"),
        *("region_official", "region"),
    )
    switches: ClassVar[tuple[str, ...]] = ("pack_text",)
    special_tokens: ClassVar[int] = 1  # [CLS] X
    text_family = "bert"
    sizes: ClassVar[dict[str, Size]] = {
        "official": Size({}, BertConfig(), 7.0, 1.2),
        "tiny": Size(_TINY_KEYS, _TINY_TEXT, 0.7, 0.02),
    }

    def __init__(self, size: str, device: str = "cpu", without: Sequence[str] = ()) -> None:
        recipe, self.device = self.sizes[size], device
        self.config = {**defaults(PretrainKeys), "init": "random", **recipe.keys, **dict.fromkeys(without, False)}
        self.text, self.width = recipe.text, recipe.text.hidden_size
        self.base_gib, self.gib_per_pair = recipe.base_gib, recipe.gib_per_pair
        self.max_text_len = self.config["max_tokens"]
        self.tokenizer = new_tokenizer(self.max_text_len)

    def new_student(self) -> XVLM:
        return XVLM(self.config)

    def new_teacher(self) -> XvlmTeacher:
        return XvlmTeacher(self.config)

    def parts(self) -> dict[str, list[nn.Module]]:
        m = self.student
        return {
            "image encoder": [m.vision_encoder],
            "text encoder": [m.bert],
            "fusion": [*m.bert.layers[m.bert.fusion_layer :]],  # the later name holds
            "heads": [
                *(m.vision_proj, m.text_proj, m.itm_head, m.bbox_head, m.text_encoder.cls),
                nn.ParameterList([m.temp]),
            ],
        }

    def variant(self, name: str) -> Variant:
        """The steps of the region stream are vanilla ones on their part of the batch."""
        if not name.startswith("region"):
            return super().variant(name)
        step = super().variant(name.replace("region", "vanilla")).step
        return Variant(lambda batch: step(batch["regions"]), self.parts())

    def batch(self, lengths: Sequence[int]) -> Batch:
        """A batch of the loader's own collation and masking, with its plans; ``regions`` holds one of that stream."""
        keys, texts = self._texts(lengths)
        plans, pad = [step_plan, self.plan_of_epic], self.tokenizer.pad_token_id
        pairs = [{"image": self._image(), "text": text, "_key": key} for key, text in zip(keys, texts, strict=True)]
        batch = {
            **PairCollator(pad, plans)(pairs),
            "regions": RegionCollator(len(texts), pad, plans)(self._regions(keys, texts)),
        }
        return tree_map_only(Tensor, lambda tensor: tensor.to(self.device), batch)

    def _texts(self, lengths: Sequence[int]) -> tuple[list[SampleKey], list[RowText]]:
        """Sentences of ``lengths`` tokens, masked."""
        c = self.config
        masking = {name: c[name] for name in ("mask_prob", "max_masks", "skipgram_prb", "skipgram_size")}
        masker = masker_of(self.tokenizer, **masking, whole_word=c["mask_whole_word"])
        longest = {"max_words": c["max_words"], "max_tokens": c["max_tokens"]}
        read = TextReader(self.tokenizer, masker, **longest, tokenized=True)
        keys = [SampleKey(c["seed"], 0, "benchmark", row) for row in range(len(lengths))]
        captions = (" ".join(ONE_TOKEN * (length - self.special_tokens)) for length in lengths)
        return keys, [read(caption, key) for caption, key in zip(captions, keys, strict=True)]

    def _regions(self, keys: Sequence[SampleKey], texts: Sequence[RowText]) -> list[dict[str, Any]]:
        """Samples of the region stream: the texts shared out to images, each about a quarter of its image."""
        most, rows = self.config["regions"]["max_images"], self.config["regions"]["batch_size"]
        images = max(1, round(len(texts) * most / rows))
        side = self.config["image_res"] // self.config["patch_size"]
        half = (side + 1) // 2
        atts = [1] + [int(row < half and column < half) for row in range(side) for column in range(side)]
        regions = [Region(text, atts, [0.25, 0.25, 0.5, 0.5], 0) for text in texts]
        return [
            {"image": self._image(), "regions": regions[number::images], "_key": keys[number]}
            for number in range(images)
        ]

    def _image(self) -> Tensor:
        return torch.randn(3, self.config["image_res"], self.config["image_res"])

    def outputs(self, batch: Batch) -> dict[str, Any]:
        return self.student(batch)

    def official(self, batch: Batch) -> Tensor:
        return official_loss(self.student, self._as_officially(batch), self.config["max_masks"])

    def corruption(self, epic: LightningEpic, batch: Batch) -> Corruption:
        batch = self._as_officially(batch)
        return epic.corruption_of(batch["text_ids"], batch["text_masks"], batch)

    def full_states(self, batch: Batch, ids: Tensor) -> Tensor:
        return full_states(self.student, self._as_officially(batch), ids)

    def full_pass(self, teacher: Any, batch: Batch) -> None:
        batch = self._as_officially(batch)
        full_states(teacher, batch, batch["text_ids"])

    def _as_officially(self, batch: Batch) -> Batch:
        return official_batch(batch, self.max_text_len)


def new_tokenizer(longest: int) -> PreTrainedTokenizerBase:
    """A tokenizer that knows one word."""
    with TemporaryDirectory() as folder:
        train_wordpiece([ONE_TOKEN], 0, longest).save_pretrained(folder)
        return load_tokenizer(folder)
