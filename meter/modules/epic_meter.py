"""EPIC in METER: the teacher's saliency (Eq. 8), and one EPIC step on the student's verbs (SPEC §10).

Any command of run.py trains with EPIC once it names the config ``epic`` and the frozen teacher, a METER pre-trained
without EPIC:
    python run.py with … epic teacher_path=meter_clip16_288_roberta_pretrain.ckpt
"""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from epic_common.config import EpicConfig
from epic_common.generator import Vocabulary
from epic_common.language_model import load_language_model
from epic_common.objective import Epic
from epic_common.saliency import saliency_scores
from epic_common.teacher import Teacher
from meter.modules.checkpoints import ARCHITECTURE, load_checkpoint
from meter.modules.epic_cache import load_cached_teacher
from meter.modules.meter_module import METERTransformerSS
from meter.modules.meter_utils import phase_of
from vlp.checkpoint.baselines import refuse_other
from vlp.data.tokenizers import load_tokenizer
from vlp.nn.packed_text import encode_packed
from vlp.nn.rows import PackedRows, Rows
from vlp.training.compile import compile_layers
from vlp.training.rng import gathered
from vlp.training.weights import read_checkpoint, read_state_dict, saved_config

log = logging.getLogger(__name__)


class MeterTeacher(METERTransformerSS):
    """A METER that answers what EPIC asks of a frozen model."""

    def saliency_scores(self, batch: dict[str, Any], layer: int) -> Tensor:
        """Eq. 8's scores (B, n) on the unmasked text and the true image; Swin's query is the mean over its tokens."""
        query, key = saliency_query_key(self, batch, layer, self.image_pool)
        return saliency_scores(query, key)

    def mlm_logits_at(self, batch: dict[str, Any], input_ids: Tensor, masked: Tensor) -> Tensor:
        """input_ids (B, n), masked (B, n) bool -> MLM logits (K, vocab) with the true image, for "VLM (SAS)"."""
        mask = batch["text_masks"]
        image = self.encode_image(batch["image"][0])
        fused = self.fuse(self.encode_text(input_ids, mask), mask, image, image_stream=False)
        return self.mlm_score(fused.text[masked])


def saliency_query_key(
    model: METERTransformerSS, batch: dict[str, Any], layer: int, pool: str, *, packed: bool = True
) -> tuple[Tensor, Tensor]:
    """q (B, h, d_h) of the image and K (B, h, n, d_h) of the text in fusion layer ``layer``'s image stream.

    Nothing after that layer's cross-attention scores is computed. ``pool`` "first" takes the query of image token 0
    ([CLS]), "mean" that of the mean token (the query is affine, so it is the mean of the queries). ``packed`` leaves
    out padding, whose keys are zero then.
    """
    mask = batch["text_masks"].bool()
    rows, image_rows = PackedRows(mask) if packed else Rows(mask), Rows(reorder=packed)
    x = rows.gather(model.encode_text(batch["text_ids"], mask, packed=packed))
    y = model.encode_image(batch["image"][0])
    layers = list(zip(model.cross_modal_text_layers, model.cross_modal_image_layers, strict=True))
    last = range(len(layers))[layer]
    for text_layer, image_layer in layers[:last]:
        x, y = text_layer(x, y, rows, image_rows), image_layer(y, x, image_rows, rows)
    fusion: Any = layers[last][1]
    asking = y[:, :1] if pool == "first" else y
    states = fusion.attention(asking, y, image_rows, image_rows).mean(dim=1, keepdim=True)
    cross = fusion.crossattention.self
    return cross.split_heads(cross.query(states)).squeeze(2), cross.split_heads(rows.spread(cross.key(x)))


class MeterEpic(Epic):
    """EPIC's objective as one entry of METER's step."""

    encode = staticmethod(encode_packed)
    _logged_step = 0

    def step(self, model: METERTransformerSS, batch: dict[str, Any], image: Tensor) -> dict[str, Tensor]:
        """Corrupt the sentence, fuse it with the true image's states (B, P, d), judge every token.

        Returns ``epic_itc_loss`` (already times lambda) and ``epic_gen_loss``, to be added to METER's own losses.
        """
        if model.training:
            self.maybe_refresh(model.global_step, model, self.steps_per_epoch(model))
        mask = batch["text_masks"]
        image_cls = image[:, 0] if model.image_pool == "first" else image.mean(dim=1)
        corruption = self.corrupt(batch["text_ids"], mask, batch, image_cls)
        text = model.encode_text(corruption.input_ids, mask)
        fused = model.fuse(text, mask, image, image_stream=False)
        return self.losses(fused.text, corruption)

    def log_interval(self, model: METERTransformerSS) -> None:
        """After a training batch: log the metrics since the last log, reduced over ranks, if an interval has ended."""
        step = model.global_step
        if step % model.config["log_every_n_steps"] == 0 and step != self._logged_step:
            self._logged_step = step
            values = self._take(model)
            for logger in model.loggers:  # not model.log, which repeats an old value where an interval has none
                logger.log_metrics(values, step=step - 1)

    def log_epoch(self, model: METERTransformerSS) -> None:
        """After an evaluation epoch: log the metrics over all of it."""
        if not model.training:
            model.log_dict(self._take(model))

    def _take(self, model: METERTransformerSS) -> dict[str, float]:
        metrics = self.metrics.compute(model.device)
        self.metrics.reset()
        return {f"epic/{phase_of(model)}/{name}": value for name, value in metrics.items()}

    def own_groups(self, groups: list[dict[str, Any]], model: METERTransformerSS) -> list[dict[str, Any]]:
        """The six official groups without EPIC's parameters, then those in groups of their own.

        The ITC head learns at ``lr_mult_head`` like METER's other heads (``epic.itc_head_lr_mult`` overrides it), the
        generator at the base rate times ``epic.generator_lr_mult``; weight decay by METER's rule.
        """
        factors = {
            self.head: self.config.itc_head_lr_mult or model.config["lr_mult_head"],
            self.generator: self.config.generator_lr_mult,
        }
        epic = {id(p) for p in self.parameters()}
        rest = [{**group, "params": [p for p in group["params"] if id(p) not in epic]} for group in groups]
        for part, factor in factors.items():
            members = {id(p) for p in part.parameters()}
            for group in groups:
                own = [p for p in group["params"] if id(p) in members]
                if own:
                    rest.append({**group, "params": own, "lr": model.config["learning_rate"] * factor})
        return rest

    def run_state(self) -> dict[str, Any]:
        """What a resumed run needs beside the weights.

        Of every rank the random state and the running metrics; the step of the last log; the snapshot of "VLM (SAS)";
        the hash of the teacher, which is in no checkpoint.
        """
        return {
            "rng": gathered(self.rng_state()),
            "metrics": gathered(self.train_metrics.state_dict()),
            "logged_step": self._logged_step,
            "snapshot": self.snapshot.state_dict() if self.snapshot else None,
            "teacher_sha256": self.teacher_sha256,
        }

    def load_run_state(self, state: dict[str, Any], rank: int) -> None:
        """Go on from :meth:`run_state` of as many ranks."""
        self.set_rng_state(state["rng"][rank])
        self.train_metrics.load_state_dict(state["metrics"][rank])
        self._logged_step = state["logged_step"]
        if self.snapshot is not None and state["snapshot"] is not None:
            self.snapshot.load_state_dict(state["snapshot"])

    @property
    def teacher_sha256(self) -> str | None:
        """Hash of the file that the teacher, or the cache of its scores, came from."""
        return getattr(self.teacher, "sha256", None)

    def check_same_teacher(self, path: str) -> None:
        """Refuse to go on from the checkpoint of a run with another teacher.

        Raises:
            ValueError: naming both hashes.
        """
        state = read_checkpoint(path, mmap=True).get("epic")
        if isinstance(state, dict) and state["teacher_sha256"] != self.teacher_sha256:
            raise ValueError(
                f"resume_from={path}: its run had the teacher of sha256 {state['teacher_sha256']}, this one has "
                f"{self.teacher_sha256}; give the same teacher"
            )

    @staticmethod
    def steps_per_epoch(model: METERTransformerSS) -> int:
        """Optimiser steps of one epoch."""
        return max(int(model.trainer.num_training_batches) // model.trainer.accumulate_grad_batches, 1)


def attach_epic(model: METERTransformerSS, tokenizer: PreTrainedTokenizerBase, rank: int) -> None:
    """Build EPIC's parts for an already built student, so that its initial weights are those of the vanilla run.

    Raises:
        ValueError: a bad ``epic.<field>``, no ``teacher_path`` where one is needed, or a cache that does not fit.
        WeightsError: a teacher that does not fit.
    """
    config = model.config
    settings = EpicConfig.from_dict(config["epic"])
    if not settings.enabled:
        return
    if not {"mlm", "itm"} & set(model.current_tasks):
        raise ValueError("epic.enabled: EPIC is a pre-training objective; fine-tune its checkpoint without it")
    settings.check_baseline("METER", image_encoder=True, regions=False)
    cached = load_cached_teacher(config, settings, tokenizer) if config["saliency_cache"] else None
    needs_weights = settings.replacement == "vlm" or (settings.needs_teacher and cached is None)
    if needs_weights and not config["teacher_path"]:
        raise ValueError("teacher_path must be given: the checkpoint of a METER pre-trained without EPIC")
    teacher = load_teacher(config, settings, tokenizer) if needs_weights else None
    model.epic = MeterEpic(
        settings,
        Vocabulary.from_tokenizer(tokenizer),
        config["hidden_size"],
        load_language_model(settings, config["tokenizer"], tokenizer),
        image_width=config["hidden_size"],
        teacher=cached or teacher,
        seed=config["seed"],
        rank=rank,
        first_snapshot=teacher,
    )
    compile_layers(model.epic, config["compile"])
    if config["resume_from"]:
        model.epic.check_same_teacher(config["resume_from"])
    log.info("[epic] %s", settings)


def load_teacher(config: dict[str, Any], settings: EpicConfig, tokenizer: PreTrainedTokenizerBase) -> Teacher:
    """The frozen teacher of ``teacher_path``: its own architecture if the file says it, the student's image size."""
    path = config["teacher_path"]
    refuse_other(path, read_state_dict(path, mmap=True), "METER")
    own = saved_config(path)
    needs_mlm = settings.replacement == "vlm"
    teacher_config = {
        **config,
        **{key: own[key] for key in ARCHITECTURE if key in own},
        "loss_names": {task: int(task == "mlm" and needs_mlm) for task in config["loss_names"]},
        "load_path": path,
        "gradient_checkpointing": False,
    }
    teacher_config["tokenizer"] = _tokenizer_of(path, teacher_config["tokenizer"], config["tokenizer"], tokenizer)
    if teacher_config["num_top_layer"] < -settings.saliency_layer:
        raise ValueError(
            f"the teacher {path} has {teacher_config['num_top_layer']} fusion layers, epic.saliency_layer="
            f"{settings.saliency_layer} needs more"
        )
    with torch.random.fork_rng():
        model = MeterTeacher(teacher_config)
    load_checkpoint(model, path)
    teacher = Teacher(model, settings.saliency_layer, path)
    log.info("[epic] teacher %s, sha256 %s", path, teacher.sha256)
    return teacher


def _tokenizer_of(path: str, theirs: str, ours: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """The name of the teacher's tokenizer and text encoder: this run's if the teacher's folder is not here.

    Raises:
        ValueError: the teacher has other token ids.
    """
    if theirs == ours:
        return ours
    try:
        vocabulary = load_tokenizer(theirs).get_vocab()
    except OSError:
        log.warning("[epic] the teacher %s has tokenizer=%s, which is not here: taken to be %s", path, theirs, ours)
        return ours
    if vocabulary != tokenizer.get_vocab():
        raise ValueError(f"the teacher {path} has tokenizer={theirs}, this run {ours}: other token ids")
    return theirs
