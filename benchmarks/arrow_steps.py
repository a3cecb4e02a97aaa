"""What METER's and ViLT's steps share: batches, EPIC's parts, and the five variants."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from sacred.initialize import create_run
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only
from transformers import AutoModelForMaskedLM, PretrainedConfig, PreTrainedModel

from benchmarks.baseline import Batch, Steps, Variant
from epic_common.config import EpicConfig
from epic_common.generator import LanguageModelGenerator, build_generator
from epic_common.language_models.logits import Encode
from epic_common.language_models.small import FAMILIES
from epic_common.objective import MaskCount
from epic_common.teacher import SaliencyTeacher, Teacher
from epic_common.vocabulary import Vocabulary
from epic_vlp.lightning_epic import MASKED_COUNT, LightningEpic
from epic_vlp.parts import parts_of
from vlp.data.collate import Collator
from vlp.data.draws import SampleKey, itm_labels_of_batch
from vlp.data.masking import MlmMasker
from vlp.losses.total import total_loss
from vlp.nn.packed_text import encode_packed
from vlp.sacred_dialect.baseline import SacredBaseline

# A token in both families: to WordPiece a word of its own, and the tokenizers made here know no merges.
ONE_TOKEN = "."


class Size(NamedTuple):
    """A recipe of the baseline's config, and the language model beside it."""

    named_configs: Sequence[str]
    updates: Mapping[str, Any]
    text: PretrainedConfig
    # Peak memory of the naive EPIC step, measured and rounded up: weights and gradients, and each pair's activations.
    base_gib: float
    gib_per_pair: float
    width: int | None = None  # of an image in pixels, where it is not as wide as high


class ArrowSteps(Steps, ABC):
    """A student, a teacher and a generator with random weights, each built when a variant first needs it."""

    description: ClassVar[SacredBaseline]
    sizes: ClassVar[Mapping[str, Size]]
    switches: ClassVar[tuple[str, ...]] = ("pack_text",)
    epic: ClassVar[type[LightningEpic]]  # of the description, outside of a run
    settings: ClassVar[EpicConfig] = EpicConfig(enabled=True)

    def __init__(self, size: str, device: str = "cpu", without: Sequence[str] = ()) -> None:
        self.recipe, self.device = self.sizes[size], device
        updates, named = {**self.recipe.updates, **dict.fromkeys(without, False)}, list(self.recipe.named_configs)
        run = create_run(self.description.experiment, "print_config", updates, named_configs=named)
        self.config: dict[str, Any] = copy.deepcopy(run.config)
        self.max_text_len = self.config["max_text_len"]
        new_tokenizer = FAMILIES[self.description.text_family].train_tokenizer
        self.tokenizer = new_tokenizer([ONE_TOKEN], 0, self.max_text_len)

    @abstractmethod
    def new_student(self) -> Any:
        """The model that is trained."""

    @abstractmethod
    def new_teacher(self, config: dict[str, Any]) -> Any:
        """The model that EPIC asks for saliency; ``config`` has no heads."""

    @abstractmethod
    def parts(self) -> dict[str, list[nn.Module]]:
        """The student's modules whose FLOPs are shown together, "heads" among them."""

    @property
    def text_family(self) -> str:
        return self.description.text_family

    def batch(self, lengths: Sequence[int]) -> Batch:
        """A batch of the baseline's own collation and masking, whose budget counts padding, with a loader's plans."""
        c = self.config
        keys = [SampleKey(c["seed"], 0, "benchmark", row) for row in range(len(lengths))]
        shape = (3, c["image_size"], self.recipe.width or c["image_size"])
        samples: list[dict[str, Any]] = []
        for key, length, label in zip(keys, lengths, itm_labels_of_batch(keys[0], len(keys)), strict=True):
            sample = {"text": ONE_TOKEN * (length - 2), "image": [torch.randn(shape)], "itm_labels": label, "_key": key}
            samples.append(sample if label else {**sample, "false_image_0": [torch.randn(shape)]})
        masker = MlmMasker(self.tokenizer, c["mlm_prob"], c["whole_word_masking"])
        collate = Collator(self.tokenizer, masker, c["max_text_len"], [self.student.plan, self._epic_plan])
        return tree_map_only(Tensor, lambda tensor: tensor.to(self.device), collate(samples))

    def _epic_plan(self, batch: Batch) -> Batch:
        """What EPIC's loaders add; a vanilla step does not read it."""
        count = MaskCount(self.settings, Vocabulary.from_tokenizer(self.tokenizer))
        of_teacher = parts_of(self.description).teacher_plan
        added = {MASKED_COUNT: count(batch["text_ids"], batch["text_masks"])}
        return added | (of_teacher(batch, self.config) if of_teacher else {})

    def variant(self, name: str) -> Variant:
        parts = self.parts()
        if name == "vanilla_official":
            return Variant(self._official, parts)
        if name == "vanilla":
            return Variant(partial(self._ours, None), parts)
        teacher: SaliencyTeacher = StoredScores()
        if name != "epic_cached":
            parts["teacher"] = [self.teacher.module]
            teacher = NaiveTeacher(self.teacher, self.full_pass) if name == "epic_naive" else self.teacher
        epic = self._epic(teacher)
        if name == "epic_naive":
            epic.generator = NaiveGenerator(self.language_model, epic.vocabulary, epic.config)
        parts["heads"].append(epic.head)
        parts["generator"] = [epic.generator]
        return Variant(partial(self._naive if name == "epic_naive" else self._ours, epic), parts)

    def needed_gib(self, pairs: int) -> float:
        return self.recipe.base_gib + pairs * self.recipe.gib_per_pair

    def matching_loss(self, batch: Batch, pair: dict[str, Tensor], labels: Tensor) -> Tensor:
        """Of the official ITM pass, which gave ``pair``; labels (B,), 1 = matched."""
        return F.cross_entropy(self.student.itm_score(pair["cls_feats"]), labels)

    def full_pass(self, teacher: Any, batch: Batch) -> None:
        """The official forward of a teacher."""
        teacher.infer(batch)

    def _official(self, batch: Batch) -> Tensor:
        """Two full passes: MLM with logits at every position, ITM with its images encoded anew.

        Source: docs/official/meter.md §5, docs/official/vilt.md §5.
        """
        m, batch = self.student, padded(batch)
        logits = m.mlm_score(m.infer(batch, mask_text=True)["text_feats"])
        mlm = F.cross_entropy(logits.flatten(0, 1), batch["text_labels_mlm"].flatten())
        images = batch["image"][0].index_copy(0, batch["itm_negatives"], batch["false_image_0"][0])
        return mlm + self.matching_loss(batch, m.infer({**batch, "image": [images]}), batch["itm_labels"])

    def _naive(self, epic: LightningEpic, batch: Batch) -> Tensor:
        """The official step, and EPIC beside it with full passes of teacher, generator and student."""
        full = padded(batch)
        corruption = epic.corruption_of(batch["text_ids"], batch["text_masks"], full)
        states = self.student.infer({**full, "text_ids": corruption.input_ids})["text_feats"]
        return self._official(batch) + total_loss(epic.losses(states, corruption))

    def _ours(self, epic: LightningEpic | None, batch: Batch) -> Tensor:
        """The training step of this repository, vanilla or with EPIC."""
        self.student.epic = epic
        return total_loss(self.student(batch))

    # What the steps are made of -----------------------------------------------------------------------------

    @cached_property
    def student(self) -> Any:
        return self.new_student().to(self.device).train()

    @cached_property
    def teacher(self) -> Teacher:
        held = Teacher(self.new_teacher({**self.config, "loss_names": dict.fromkeys(self.config["loss_names"], 0)}))
        held.place(self.device)
        return held

    @cached_property
    def language_model(self) -> PreTrainedModel:
        return AutoModelForMaskedLM.from_config(self.recipe.text).to(self.device)

    def _epic(self, teacher: SaliencyTeacher) -> LightningEpic:
        vocabulary, width = Vocabulary.from_tokenizer(self.tokenizer), self.config["hidden_size"]
        generator = build_generator(self.settings, vocabulary, self.language_model, encode=encode_packed)
        return self.epic(self.settings, vocabulary, width, generator, teacher=teacher).to(self.device)


class StoredScores:
    """The saliency cache: scores that need no teacher."""

    def saliency(self, batch: Batch) -> Tensor:
        return torch.zeros(batch["text_ids"].shape, device=batch["text_ids"].device)


class NaiveTeacher:
    """The teacher's full forward. It holds Eq. 8's scores anyway, so which are returned changes no cost."""

    def __init__(self, teacher: Teacher, full_pass: Callable[[Any, Batch], None]) -> None:
        self.teacher, self.full_pass = teacher, full_pass

    @torch.no_grad()
    def saliency(self, batch: Batch) -> Tensor:
        self.full_pass(self.teacher.model, batch)
        return torch.zeros(batch["text_ids"].shape, device=batch["text_ids"].device)


class NaiveGenerator(LanguageModelGenerator):
    """Vocabulary logits at every position, padding included."""

    def logits(
        self,
        sentence: Tensor,
        mask: Tensor,
        places: Tensor,
        first_embedding: Tensor | None = None,
        encode: Encode | None = None,
    ) -> Tensor:
        logits = self.language_model(sentence, attention_mask=torch.ones_like(mask)).logits
        return logits.flatten(0, 1).index_select(0, places)


def padded(batch: Batch) -> Batch:
    """The batch with its padding marked as text: whoever leaves out padding computes all of it, like official code."""
    return {**batch, "text_masks": torch.ones_like(batch["text_masks"])}
