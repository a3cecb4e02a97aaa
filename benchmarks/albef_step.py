"""ALBEF's pre-training step for the step benchmark: its models and their parts, and a batch as its loader gives it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only
from transformers import BertConfig

from albef.config import PretrainKeys
from albef.models.epic_albef import AlbefEpic, AlbefTeacher
from albef.models.model_pretrain import ALBEF
from albef.models.step_plan import step_plan
from benchmarks.albef_official import full_states, official_loss
from benchmarks.baseline import Batch
from benchmarks.epic_steps import EpicSteps
from epic_common.config import EpicConfig
from epic_common.corruption import Corruption
from epic_common.language_models.small import FAMILIES
from epic_vlp.lightning_epic import LightningEpic
from vlp.config.schema import defaults
from vlp.data.draws import SampleKey
from vlp.data.masking import MlmMasker

_WORD = "."  # of one token


class Size(NamedTuple):
    """Keys of Pretrain.py that are not official, and the language model beside the student."""

    keys: dict[str, Any]
    text: BertConfig
    max_text_len: int
    base_gib: float  # of EpicSteps
    gib_per_pair: float


_TINY_TEXT = BertConfig(
    vocab_size=1000,
    hidden_size=128,
    num_hidden_layers=4,
    num_attention_heads=4,
    intermediate_size=512,
    max_position_embeddings=40,
)
_TINY_KEYS = {
    "image_res": 64,
    "vision_config": {"patch_size": 16, "width": 128, "depth": 3, "heads": 4},
    "bert_config": {**_TINY_TEXT.to_dict(), "fusion_layer": 2, "encoder_width": 128},
    "embed_dim": 64,
    "queue_size": 512,
}


class AlbefSteps(EpicSteps):
    """ALBEF with ViT-B/16 and BERT, whose architecture the generator has, too."""

    epic: ClassVar[type[LightningEpic]] = AlbefEpic
    settings: ClassVar[EpicConfig] = EpicConfig(enabled=True, append_sep=True)
    variants: ClassVar[tuple[str, ...]] = ("vanilla_official", "vanilla", "epic_naive", "epic", "epic_momentum")
    switches: ClassVar[tuple[str, ...]] = ("pack_text",)
    special_tokens: ClassVar[int] = 1  # [CLS] X
    text_family = "bert"
    sizes: ClassVar[dict[str, Size]] = {
        "official": Size({}, BertConfig(), 25, 7.0, 1.2),
        "tiny": Size(_TINY_KEYS, _TINY_TEXT, 30, 0.7, 0.02),
    }

    def __init__(self, size: str, device: str = "cpu", without: Sequence[str] = ()) -> None:
        recipe, self.device = self.sizes[size], device
        self.config = {**defaults(PretrainKeys), "init": "random", **recipe.keys, **dict.fromkeys(without, False)}
        self.text, self.width = recipe.text, recipe.text.hidden_size
        self.base_gib, self.gib_per_pair = recipe.base_gib, recipe.gib_per_pair
        self.max_text_len = recipe.max_text_len
        self.tokenizer = FAMILIES[self.text_family].train_tokenizer([_WORD], 0, self.max_text_len)

    def new_student(self) -> ALBEF:
        return ALBEF(self.config)

    def new_teacher(self) -> AlbefTeacher:
        return AlbefTeacher(self.config)

    def parts(self) -> dict[str, list[nn.Module]]:
        m = self.student
        return {
            "image encoder": [m.visual_encoder],
            "text encoder": [m.bert],
            "fusion": [*m.bert.layers[m.bert.fusion_layer :]],  # the later name holds
            "heads": [m.vision_proj, m.text_proj, m.itm_head, m.text_encoder.cls, nn.ParameterList([m.temp])],
            "momentum models": [copied for _, copied in m.pairs],
        }

    def batch(self, lengths: Sequence[int]) -> Batch:
        """Sentences of one word over and over, masked as the loader masks them, with a loader's plans."""
        size, longest = len(lengths), max(lengths)
        cls, word = self.tokenizer.convert_tokens_to_ids(["[CLS]", _WORD])
        mask = (torch.arange(longest) < torch.tensor(lengths)[:, None]).long()
        ids = torch.full((size, longest), word).masked_fill(mask == 0, self.tokenizer.pad_token_id)
        ids[:, 0] = cls
        masker = MlmMasker(self.tokenizer, self.config["mlm_probability"], whole_word=False)
        keys = [SampleKey(0, 0, "benchmark", row) for row in range(size)]
        masked = [masker(row, key.rng("mlm text")) for row, key in zip(ids.tolist(), keys, strict=True)]
        batch: Batch = {
            "image": torch.randn(size, 3, self.config["image_res"], self.config["image_res"]),
            "text_ids": ids,
            "text_masks": mask,
            "text_ids_mlm": torch.tensor([sentence for sentence, _ in masked]),
            "text_labels_mlm": torch.tensor([labels for _, labels in masked]),
        }
        for plan in (step_plan, self.plan_of_epic):
            batch |= plan(batch)
        return tree_map_only(Tensor, lambda tensor: tensor.to(self.device), batch)

    def outputs(self, batch: Batch) -> dict[str, Any]:
        return self.student(batch, self.config["alpha"])

    def official(self, batch: Batch) -> Tensor:
        return official_loss(self.student, batch, self.config["alpha"])

    def corruption(self, epic: LightningEpic, batch: Batch) -> Corruption:
        return epic.corruption_of(batch["text_ids"], batch["text_masks"], batch)

    def full_states(self, batch: Batch, ids: Tensor) -> Tensor:
        return full_states(self.student, batch, ids)

    def full_pass(self, teacher: Any, batch: Batch) -> None:
        full_states(teacher, batch, batch["text_ids"])
