"""Checkpoint files as official code, our runs and attackers write them."""

from __future__ import annotations

import os
from argparse import Namespace
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.parsing import AttributeDict
from sacred.config.custom_containers import make_read_only

CONFIG = {"vit": "ViT-B/16", "image_size": 288, "loss_names": {"mlm": 1, "itm": 0.5}, "datasets": ["coco", "vg"]}
# What Lightning 1.3 pickled beside the tensors, by the way in which the hyper-parameters were given.
HYPER_PARAMETERS: dict[str, Any] = {
    "plain": {"config": CONFIG},
    "namespace": Namespace(config=CONFIG),
    "namespace inside": {"config": Namespace(**CONFIG)},
    "attributes": AttributeDict(config=CONFIG),
    "read-only": {"config": make_read_only(CONFIG)},
}


def meter_state() -> dict[str, torch.Tensor]:
    """A few of METER's tensors, of several types, two of them tied, one not contiguous."""
    words = torch.randn(7, 4)
    return {
        "cross_modal_text_transform.weight": torch.randn(4, 4),
        "vit_model.visual.conv1.weight": torch.randn(4, 3, 16, 16),
        "vit_model.visual.positional_embedding": torch.randn(1 + 18 * 18, 4),
        "vit_model.token_embedding.weight": torch.randn(9, 4),
        "text_transformer.embeddings.position_ids": torch.arange(14)[None],
        "text_transformer.embeddings.word_embeddings.weight": words,
        "text_transformer.embeddings.position_embeddings.weight": torch.randn(14, 4),
        "cross_modal_text_layers.0.output.dense.weight": torch.randn(6, 4).T,
        "cross_modal_text_layers.1.output.dense.weight": torch.randn(4, 4).bfloat16(),
        "mlm_score.decoder.weight": words,
        "itm_score.fc.bias": torch.randn(2).half(),
    }


def official(path: Path, hyper_parameters: str = "plain", zipped: bool = True) -> dict[str, Any]:
    """Write a file in the layout of Lightning 1.3, whose callbacks stand under their classes; return its content."""
    callbacks = {} if hyper_parameters == "plain" else {ModelCheckpoint: {"best_model_score": torch.tensor(1.5)}}
    content = {
        "epoch": 9,
        "global_step": 100000,
        "pytorch-lightning_version": "1.3.2",
        "state_dict": meter_state(),
        "callbacks": callbacks,
        "optimizer_states": [{"state": {0: {"step": 5, "exp_avg": torch.randn(4)}}, "param_groups": [{"lr": 1e-5}]}],
        "lr_schedulers": [{"last_epoch": 5}],
        "hparams_name": "config",
        "hyper_parameters": HYPER_PARAMETERS[hyper_parameters],
    }
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return content


class Command:
    """Unpickling this runs a shell command."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


def malicious(path: Path, mark: Path, zipped: bool = True) -> None:
    """A METER checkpoint that creates ``mark`` where it is unpickled."""
    content = {"state_dict": meter_state(), "hyper_parameters": {"config": Command(f"touch {mark}")}}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
