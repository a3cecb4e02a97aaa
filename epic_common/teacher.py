"""The frozen teacher, which gives Eq. 8's saliency, and the student's snapshot of the variant "VLM (SAS)"."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from epic_common.finite import check_weights
from epic_common.saliency import saliency_scores


class VisionLanguageModel(Protocol):
    """What a baseline's model offers, as teacher and as student; every baseline is an ``nn.Module`` besides."""

    def query_key(self, batch: Any, layer: int) -> tuple[Tensor, Tensor]:
        """q (B, h, d_h) of the image and K (B, h, n, d_h) of the n text tokens in fusion layer ``layer`` (Eq. 8).

        On the unmasked text and the true image, per head, without any scaling; what K is at padding does not matter.
        Where text attends to the image and not the other way round, q is the image's key and K the text's queries.
        """

    def mlm_logits_at(self, batch: Any, input_ids: Tensor, places: Tensor) -> Tensor:
        """Logits of the MLM head with the true image: input_ids (B, n), places (K,) in (B·n), ascending -> (K, V)."""


class SaliencyTeacher(Protocol):
    """What gives a batch its scores; a teacher of another baseline, or a saliency cache, can serve."""

    def saliency(self, batch: Any) -> Tensor:
        """Raw scores of Eq. 8, before the softmax: (B, n)."""


class FrozenModel:
    """A model that takes no gradient, is in eval mode and no sub-module of whoever holds it.

    It is a plain object on purpose: it never shows up in the holder's state dict, parameters or DDP buckets, and does
    not move or change its mode with the holder. Who runs it moves it once, by :meth:`place`.
    """

    def __init__(self, model: VisionLanguageModel) -> None:
        self.model = model
        self.module = cast(nn.Module, model)
        self.module.requires_grad_(False)
        self.module.eval()

    def place(self, device: torch.device | str) -> None:
        """Move the model, before its first batch.

        Raises:
            RuntimeError: in inference mode, whose tensors no later refresh could fill.
        """
        if torch.is_inference_mode_enabled():
            raise RuntimeError("place the frozen model before inference mode: its weights would be inference tensors")
        self.module.to(device)

    def fill(self, weights: Mapping[str, Tensor]) -> None:
        """Take all weights from the student's state dict, which has EPIC's own and its heads besides.

        Raises:
            ValueError: the student lacks one of them.
        """
        wanted = self.module.state_dict()
        missing = [name for name in wanted if name not in weights]
        if missing:
            raise ValueError(f"the student lacks {len(missing)} weights of its teacher, for example {missing[0]!r}")
        self.module.load_state_dict({name: weights[name] for name in wanted})

    def on_device_of(self, batch: Any) -> VisionLanguageModel:
        """The model.

        Raises:
            RuntimeError: the batch is on another device.
        """
        own, device = next(self.module.parameters()).device, _device_of(batch)
        if device not in (None, own):
            raise RuntimeError(f"the frozen model is on {own} and its batch on {device}: call place({device}) once")
        return self.model


class Teacher(FrozenModel):
    """The baseline's own architecture, pre-trained without EPIC.

    Args:
        model: the pre-trained baseline.
        layer: ``epic.saliency_layer``.
        checkpoint: the file that the weights came from; its SHA-256 is kept in ``sha256``.

    Raises:
        ValueError: the file's weights are NaN or infinite.
    """

    def __init__(self, model: VisionLanguageModel, layer: int = -2, checkpoint: str | Path | None = None) -> None:
        super().__init__(model)
        self.layer = layer
        self.sha256: str | None = None
        if checkpoint is not None:
            check_weights(self.module, checkpoint)
            self.sha256 = file_sha256(checkpoint)

    @torch.no_grad()
    def saliency(self, batch: Any) -> Tensor:
        """Raw scores of Eq. 8, (B, n)."""
        return saliency_scores(*self.on_device_of(batch).query_key(batch, self.layer))


class SasSnapshot:
    """An earlier state of the student that proposes replacements; the teacher until the first refresh.

    Args:
        teacher: whose model is copied and then filled with the student's weights; ``sha256`` is that of its file.
    """

    def __init__(self, teacher: Teacher) -> None:
        self.frozen: FrozenModel = teacher
        self.sha256 = teacher.sha256
        self.refreshed_at = 0

    def place(self, device: torch.device | str) -> None:
        """:meth:`FrozenModel.place`."""
        self.frozen.place(device)

    @torch.no_grad()
    def mlm_logits_at(self, batch: Any, input_ids: Tensor, places: Tensor) -> Tensor:
        """(K, V) logits of the snapshot's MLM head."""
        return self.frozen.on_device_of(batch).mlm_logits_at(batch, input_ids, places)

    def maybe_refresh(self, step: int, student: nn.Module, every: int) -> bool:
        """Copy the student's weights when ``every`` steps have passed since the last copy; True if it did.

        Args:
            step: optimiser steps done; calling again at the same step does nothing.

        Raises:
            ValueError: ``every`` is below 1, or the student lacks a weight of the teacher.
        """
        if every < 1:
            raise ValueError(f"the snapshot must be refreshed every 1 or more steps, not {every}")
        if step - self.refreshed_at < every:
            return False
        self._fill(student.state_dict())
        self.refreshed_at = step
        return True

    def state_dict(self) -> dict[str, Any]:
        """What an exact resume needs: the step of the last refresh and, after one, the weights."""
        weights = None if isinstance(self.frozen, Teacher) else self.frozen.module.state_dict()
        return {"refreshed_at": self.refreshed_at, "weights": weights}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` gave."""
        self.refreshed_at = int(state["refreshed_at"])
        if state["weights"] is not None:
            self._fill(state["weights"])

    def _fill(self, weights: Mapping[str, Tensor]) -> None:
        if isinstance(self.frozen, Teacher):
            self.frozen = FrozenModel(copy.deepcopy(self.frozen.model))
        self.frozen.fill(weights)


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file's bytes, as hexadecimal digits.

    Raises:
        FileNotFoundError: there is none; a pipe, whose end may never come, is not read.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file")
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _device_of(batch: Any) -> torch.device | None:
    """The device of the first tensor in a batch of nested mappings and sequences."""
    if isinstance(batch, Tensor):
        return batch.device
    if isinstance(batch, Mapping):
        batch = batch.values()
    elif isinstance(batch, str) or not isinstance(batch, Iterable):
        return None
    return next((device for item in batch if (device := _device_of(item)) is not None), None)
