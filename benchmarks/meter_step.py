"""METER's pre-training step for the step benchmark: its models and their parts."""

from __future__ import annotations

from typing import ClassVar

from torch import nn
from transformers import AutoModel, RobertaConfig

from benchmarks.arrow_steps import ArrowSteps, Size
from meter.baseline import BASELINE
from meter.modules.clip_model import ClipVisualTower
from meter.modules.encoders import TEXT_CONFIGS, Encoders
from meter.modules.epic_meter import MeterEpic, MeterTeacher
from meter.modules.meter_module import METERTransformerSS
from meter.modules.sizes import CLIP_SIZES
from vlp.sacred_dialect.baseline import SacredBaseline

_TINY_TEXT = RobertaConfig(
    vocab_size=1000,
    hidden_size=128,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=512,
    max_position_embeddings=34,
    type_vocab_size=1,
)
_BASE_TEXT = TEXT_CONFIGS["roberta-base"]
_PRETRAIN = "task_mlm_itm_clip_bert"


class MeterSteps(ArrowSteps):
    """METER with CLIP's image tower and RoBERTa, whose architecture the generator has too."""

    description: ClassVar[SacredBaseline] = BASELINE
    switches = ("pack_text", "reorder_attention")
    epic = MeterEpic
    sizes: ClassVar[dict[str, Size]] = {
        "official": Size((_PRETRAIN, "clip16", "text_roberta"), {"image_size": 288}, _BASE_TEXT, 5.7, 1.8),
        "ablation": Size((_PRETRAIN, "clip32", "text_roberta"), {"image_size": 224}, _BASE_TEXT, 5.7, 0.8),
        "tiny": Size((_PRETRAIN, "tiny"), {"vocab_size": 1000, "drop_rate": 0.1}, _TINY_TEXT, 0.7, 0.02),
    }

    def new_student(self) -> METERTransformerSS:
        return METERTransformerSS(self.config, self._encoders())

    def new_teacher(self) -> MeterTeacher:
        return MeterTeacher(self.without_heads, self._encoders())

    def _encoders(self) -> Encoders:
        tower = ClipVisualTower(CLIP_SIZES[self.config["vit"]], self.config["image_size"])
        return Encoders(tower, AutoModel.from_config(self.recipe.text))

    def parts(self) -> dict[str, list[nn.Module]]:
        m = self.student
        return {
            "image tower": [m.vit_model],
            "text encoder": [m.text_transformer, m.token_type_embeddings],
            "fusion: text": [m.cross_modal_text_transform, m.cross_modal_text_layers, m.cross_modal_text_pooler],
            "fusion: image": [m.cross_modal_image_transform, m.cross_modal_image_layers, m.cross_modal_image_pooler],
            "heads": [m.mlm_score, m.itm_score],
        }
