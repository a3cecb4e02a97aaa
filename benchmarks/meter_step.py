"""METER's pre-training step in the variants that are compared: as the official code computes it, and as ours does."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from sacred.initialize import create_run
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    RobertaConfig,
)

from benchmarks.baseline import Batch, Steps, Variant
from epic_common.config import EpicConfig
from epic_common.generator import LanguageModelGenerator, Vocabulary
from epic_common.masking import mask_tokens
from epic_common.small_models import train_bpe
from epic_common.teacher import SaliencyTeacher, Teacher
from meter.config import ex
from meter.modules.clip_model import CLIP_SIZES, ClipVisualTower
from meter.modules.encoders import TEXT_CONFIGS, Encoders
from meter.modules.epic_meter import MeterEpic, MeterTeacher
from meter.modules.meter_module import METERTransformerSS
from vlp.data.collate import Collator
from vlp.data.draws import SampleKey
from vlp.data.masking import MlmMasker
from vlp.training.losses import total_loss
from vlp.training.objectives import draw_itm_labels


class Size(NamedTuple):
    """A recipe of METER's config, and the text encoder that it names."""

    named_configs: Sequence[str]
    updates: Mapping[str, Any]
    text: PretrainedConfig
    # Peak memory of the naive EPIC step, measured and rounded up: weights and gradients, and each pair's activations.
    base_gib: float
    gib_per_pair: float


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
SIZES = {
    "official": Size((_PRETRAIN, "clip16", "text_roberta"), {"image_size": 288}, _BASE_TEXT, 5.0, 1.8),
    "ablation": Size((_PRETRAIN, "clip32", "text_roberta"), {"image_size": 224}, _BASE_TEXT, 5.0, 0.8),
    "tiny": Size((_PRETRAIN, "tiny"), {"vocab_size": 1000, "drop_rate": 0.1}, _TINY_TEXT, 0.7, 0.02),
}


class MeterSteps(Steps):
    """A student, a teacher and a generator with random weights, each built when a variant first needs it."""

    tokenizer_family = "roberta"

    def __init__(self, size: str, device: str = "cpu") -> None:
        self.recipe, self.device = SIZES[size], device
        named = list(self.recipe.named_configs)
        run = create_run(ex, "print_config", dict(self.recipe.updates), named_configs=named)
        self.config: dict[str, Any] = copy.deepcopy(run.config)
        self.max_text_len = self.config["max_text_len"]
        # A sentence of k letters is k tokens: the alphabet of bytes alone, no merges.
        self.tokenizer: PreTrainedTokenizerBase = train_bpe([], 0, self.config["max_text_len"])

    def batch(self, lengths: Sequence[int]) -> Batch:
        """A batch of METER's own collation and masking, whose budget counts padding."""
        c = self.config
        masker = MlmMasker(self.tokenizer, c["mlm_prob"], c["whole_word_masking"])
        shape = (3, c["image_size"], c["image_size"])
        samples = [
            {
                "text": "a" * (length - 2),
                "image": [torch.randn(shape)],
                "false_image_0": [torch.randn(shape)],
                "_key": SampleKey(c["seed"], 0, "benchmark", row),
            }
            for row, length in enumerate(lengths)
        ]
        batch = Collator(self.tokenizer, masker, c["max_text_len"])(samples)
        return tree_map_only(Tensor, lambda tensor: tensor.to(self.device), batch)

    def variant(self, name: str) -> Variant:
        m = self.student
        parts: dict[str, list[nn.Module]] = {
            "image tower": [m.vit_model],
            "text encoder": [m.text_transformer, m.token_type_embeddings],
            "fusion: text": [m.cross_modal_text_transform, m.cross_modal_text_layers, m.cross_modal_text_pooler],
            "fusion: image": [m.cross_modal_image_transform, m.cross_modal_image_layers, m.cross_modal_image_pooler],
            "heads": [m.mlm_score, m.itm_score],
        }
        if name == "vanilla_official":
            return Variant(self._official, parts)
        if name == "vanilla":
            return Variant(partial(self._ours, None), parts)
        teacher: SaliencyTeacher = StoredScores()
        if name != "epic_cached":
            parts["teacher"] = [self.teacher.module]
            teacher = NaiveTeacher(self.teacher) if name == "epic_naive" else self.teacher
        epic = self._epic(teacher)
        if name == "epic_naive":
            epic.generator = NaiveGenerator(self.language_model, epic.vocabulary, epic.config)
        parts["heads"].append(epic.head)
        parts["generator"] = [epic.generator]
        return Variant(partial(self._naive if name == "epic_naive" else self._ours, epic), parts)

    def clear_gradients(self) -> None:
        for model in (self.student, self.language_model):
            model.zero_grad(set_to_none=True)

    def needed_gib(self, pairs: int) -> float:
        return self.recipe.base_gib + pairs * self.recipe.gib_per_pair

    def _official(self, batch: Batch) -> Tensor:
        """Two full passes: MLM with logits at every position, ITM with its images encoded anew (SPEC §5)."""
        m, batch = self.student, padded(batch)
        logits = m.mlm_score(m.infer(batch, mask_text=True)["text_feats"])
        mlm = F.cross_entropy(logits.flatten(0, 1), batch["text_labels_mlm"].flatten())
        labels = draw_itm_labels(batch)
        images = torch.where(labels.bool()[:, None, None, None], batch["image"][0], batch["false_image_0"][0])
        return mlm + F.cross_entropy(m.itm_score(m.infer(batch, img=images)["cls_feats"]), labels)

    def _naive(self, epic: MeterEpic, batch: Batch) -> Tensor:
        """The official step, and EPIC beside it with full passes of teacher, generator and student."""
        full = padded(batch)
        corruption = epic.corrupt(batch["text_ids"], batch["text_masks"], full)
        states = self.student.infer({**full, "text_ids": corruption.input_ids})["text_feats"]
        return self._official(batch) + total_loss(epic.losses(states, corruption))

    def _ours(self, epic: MeterEpic | None, batch: Batch) -> Tensor:
        """The training step of this repository, vanilla or with EPIC."""
        self.student.epic = epic
        return total_loss(self.student(batch))

    # What the steps are made of -----------------------------------------------------------------------------

    @cached_property
    def student(self) -> METERTransformerSS:
        return METERTransformerSS(self.config, self._encoders()).to(self.device).train()

    @cached_property
    def teacher(self) -> Teacher:
        no_heads = {**self.config, "loss_names": dict.fromkeys(self.config["loss_names"], 0)}
        return Teacher(MeterTeacher(no_heads, self._encoders()))

    @cached_property
    def language_model(self) -> PreTrainedModel:
        return AutoModelForMaskedLM.from_config(self.recipe.text).to(self.device)

    def _encoders(self) -> Encoders:
        tower = ClipVisualTower(CLIP_SIZES[self.config["vit"]], self.config["image_size"])
        return Encoders(tower, AutoModel.from_config(self.recipe.text))

    def _epic(self, teacher: SaliencyTeacher) -> MeterEpic:
        vocabulary = Vocabulary.from_tokenizer(self.tokenizer)
        config, width = EpicConfig(enabled=True), self.config["hidden_size"]
        epic = StandaloneEpic(config, vocabulary, width, self.language_model, image_width=width, teacher=teacher)
        return epic.to(self.device)


class StandaloneEpic(MeterEpic):
    """EPIC without a trainer, which is asked for the length of an epoch."""

    @staticmethod
    def steps_per_epoch(model: METERTransformerSS) -> int:
        return 1


class StoredScores:
    """The saliency cache: scores that need no teacher."""

    def saliency(self, batch: Batch) -> Tensor:
        return torch.zeros(batch["text_ids"].shape, device=batch["text_ids"].device)


class NaiveTeacher:
    """The teacher's full forward. It holds Eq. 8's scores anyway, so which are returned changes no cost."""

    def __init__(self, teacher: Teacher) -> None:
        self.teacher = teacher

    @torch.no_grad()
    def saliency(self, batch: Batch) -> Tensor:
        model: Any = self.teacher.ready(batch)
        model.infer(batch)
        return torch.zeros(batch["text_ids"].shape, device=batch["text_ids"].device)


class NaiveGenerator(LanguageModelGenerator):
    """Vocabulary logits at every position, padding included."""

    def logits(self, ids: Tensor, mask: Tensor, masked: Tensor, first_embedding: Tensor | None = None) -> Tensor:
        sentence = mask_tokens(ids, masked, self.vocabulary.mask_id)
        return self.language_model(sentence, attention_mask=torch.ones_like(mask)).logits[masked]


def padded(batch: Batch) -> Batch:
    """The batch with its padding marked as text: whoever leaves out padding computes all of it, like official code."""
    return {**batch, "text_masks": torch.ones_like(batch["text_masks"])}
