"""What the baselines' steps share: EPIC's parts and its variants, naive ones among them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from functools import cached_property, partial
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from transformers import AutoModelForMaskedLM, PretrainedConfig, PreTrainedModel

from benchmarks.baseline import Batch, Steps, Variant
from epic_common.config import EpicConfig
from epic_common.corruption import Corruption
from epic_common.generator import LanguageModelGenerator, build_generator
from epic_common.language_models.logits import Encode
from epic_common.separator import append_sep
from epic_common.teacher import SaliencyTeacher, Teacher
from epic_common.vocabulary import Vocabulary
from epic_vlp.lightning_epic import LightningEpic
from epic_vlp.loader_plan import EpicPlan
from epic_vlp.parts import TeacherPlan
from vlp.losses.total import total_loss
from vlp.nn.packed_text import encode_packed

# A token in both families: to WordPiece a word of its own, and the tokenizers made here know no merges.
ONE_TOKEN = "."


class EpicSteps(Steps, ABC):
    """A student, a teacher and a generator with random weights, each built when a variant first needs it."""

    epic: ClassVar[type[LightningEpic]]
    settings: ClassVar[EpicConfig]
    teacher_plan: TeacherPlan | None = None  # of EPIC's parts
    config: dict[str, Any]
    tokenizer: Any
    device: str
    text: PretrainedConfig  # of the language model
    width: int  # of the student's last states
    # Peak memory of the naive EPIC step, measured and rounded up: weights and gradients, and each pair's activations.
    base_gib: float
    gib_per_pair: float

    @abstractmethod
    def new_student(self) -> Any:
        """The model that is trained."""

    @abstractmethod
    def new_teacher(self) -> Any:
        """The model that EPIC asks for saliency, without heads."""

    @abstractmethod
    def parts(self) -> dict[str, list[nn.Module]]:
        """The student's modules whose FLOPs are shown together, "heads" among them."""

    @abstractmethod
    def outputs(self, batch: Batch) -> dict[str, Any]:
        """What the student's training forward gives."""

    @abstractmethod
    def official(self, batch: Batch) -> Tensor:
        """The loss of the official vanilla step."""

    @abstractmethod
    def corruption(self, epic: LightningEpic, batch: Batch) -> Corruption:
        """EPIC's corruption of the batch's sentences, padding computed."""

    @abstractmethod
    def full_states(self, batch: Batch, ids: Tensor) -> Tensor:
        """The student's last states (B, n, d) of sentences ``ids`` (B, n) in a pass of their own."""

    @abstractmethod
    def full_pass(self, teacher: Any, batch: Batch) -> None:
        """The official forward of a teacher."""

    def variant(self, name: str) -> Variant:
        parts = self.parts()
        if name == "vanilla_official":
            return Variant(self.official, parts)
        if name == "vanilla":
            return Variant(partial(self._ours, None), parts)
        if name in ("epic", "epic_naive"):
            parts["teacher"] = [self.teacher.module]
        epic = self._epic(name)
        if name == "epic_naive":
            epic.generator = NaiveGenerator(self.language_model, epic.vocabulary, epic.config)
        parts["heads"].append(epic.head)
        parts["generator"] = [epic.generator]
        return Variant(partial(self._naive if name == "epic_naive" else self._ours, epic), parts)

    def plan_of_epic(self, batch: Batch) -> Batch:
        """What EPIC's loaders add; a vanilla step does not read it."""
        epic = SimpleNamespace(config=self.settings, vocabulary=Vocabulary.from_tokenizer(self.tokenizer), teacher=None)
        return EpicPlan(cast(Any, epic), self.config, self.teacher_plan)(batch)

    def needed_gib(self, pairs: int) -> float:
        return self.base_gib + pairs * self.gib_per_pair

    def _naive(self, epic: LightningEpic, batch: Batch) -> Tensor:
        """The official step, and EPIC beside it with full passes of teacher, generator and student."""
        corruption = self.corruption(epic, batch)
        states = self.full_states(batch, corruption.input_ids)
        return self.official(batch) + total_loss(epic.losses(states, corruption))

    def _ours(self, epic: LightningEpic | None, batch: Batch) -> Tensor:
        """The training step of this repository, vanilla or with EPIC."""
        self.student.epic = epic
        return total_loss(self.outputs(batch))

    # What the steps are made of -----------------------------------------------------------------------------

    @cached_property
    def student(self) -> Any:
        return self.new_student().to(self.device).train()

    @cached_property
    def teacher(self) -> Teacher:
        held = Teacher(self.new_teacher())
        held.place(self.device)
        return held

    @cached_property
    def language_model(self) -> PreTrainedModel:
        return AutoModelForMaskedLM.from_config(self.text).to(self.device)

    def _epic(self, name: str) -> LightningEpic:
        """EPIC of a variant, outside of a run."""
        teachers: dict[str, SaliencyTeacher] = {"epic_cached": StoredScores()}
        settings = self.settings
        if name == "epic_momentum":
            settings = replace(settings, teacher="momentum")
        elif name != "epic_cached":
            teachers |= {"epic": self.teacher, "epic_naive": NaiveTeacher(self)}
        vocabulary = Vocabulary.from_tokenizer(self.tokenizer)
        generator = build_generator(settings, vocabulary, self.language_model, encode=encode_packed)
        epic = self.epic(settings, vocabulary, self.width, generator, teacher=teachers.get(name))
        return epic.to(self.device)


class StoredScores:
    """The saliency cache: scores that need no teacher."""

    def saliency(self, batch: Batch) -> Tensor:
        return torch.zeros(batch["text_ids"].shape, device=batch["text_ids"].device)


class NaiveTeacher:
    """The teacher's full forward. It holds Eq. 8's scores anyway, so which are returned changes no cost."""

    def __init__(self, steps: EpicSteps) -> None:
        self.steps = steps

    @torch.no_grad()
    def saliency(self, batch: Batch) -> Tensor:
        self.steps.full_pass(self.steps.teacher.model, batch)
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
        width = sentence.shape[1]
        if self.config.append_sep:
            sentence, mask = append_sep(sentence, mask, self.vocabulary)
            places = places + places // width  # a column more in every row
        logits = self.language_model(sentence, attention_mask=torch.ones_like(mask)).logits
        return logits.flatten(0, 1).index_select(0, places)
