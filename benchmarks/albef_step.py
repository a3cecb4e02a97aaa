"""ALBEF's pre-training step for the step benchmark: its models and their parts, and a batch as its loader gives it."""

from __future__ import annotations

from collections.abc import Sequence
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only
from transformers import BertConfig, PreTrainedTokenizerBase

from albef.config import PretrainKeys
from albef.models.epic_albef import AlbefEpic, AlbefTeacher
from albef.models.model_pretrain import ALBEF
from benchmarks.albef_official import full_states, official_loss
from benchmarks.baseline import Batch
from benchmarks.epic_steps import ONE_TOKEN, EpicSteps
from epic_common.config import EpicConfig
from epic_common.corruption import Corruption
from epic_common.language_models.small import train_wordpiece
from epic_vlp.lightning_epic import LightningEpic
from vlp.config.schema import defaults
from vlp.data.draws import SampleKey
from vlp.data.json.collate import JsonCollator
from vlp.data.json.text import load_cls_tokenizer
from vlp.data.masking import TokenMasker
from vlp.nn.step_plan import step_plan


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
        self.tokenizer = new_cls_tokenizer(self.max_text_len)

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
        """A batch of the loader's own collation and masking, with its plans."""
        shape = (3, self.config["image_res"], self.config["image_res"])
        samples = [
            {
                "images": [torch.randn(shape)],
                "text": ONE_TOKEN * (length - self.special_tokens),
                "_key": SampleKey(self.config["seed"], 0, "benchmark", row),
            }
            for row, length in enumerate(lengths)
        ]
        spared = {self.tokenizer.pad_token_id, self.tokenizer.cls_token_id}
        masker = TokenMasker(self.tokenizer.mask_token_id, len(self.tokenizer), spared, self.config["mlm_probability"])
        positions = self.config["bert_config"]["max_position_embeddings"]
        plans = [step_plan, self.plan_of_epic]
        batch = JsonCollator(self.tokenizer, self.max_text_len, positions, masker, plans)(samples)
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


def new_cls_tokenizer(longest: int) -> PreTrainedTokenizerBase:
    """A tokenizer of the loader's form that knows one word."""
    with TemporaryDirectory() as folder:
        train_wordpiece([ONE_TOKEN], 0, longest).save_pretrained(folder)
        return load_cls_tokenizer(folder)
