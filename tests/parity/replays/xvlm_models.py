"""What the replays of X-VLM's models share: configs and batches of a fixture, models filled or loaded as it says.

Source: docs/official/xvlm.md §11.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tests.parity.replays import TRAINING_PATH, Fixture, Given, Outputs, once
from vlp.nn.fusion_passes import Negatives
from xvlm.models.checkpoints import load_checkpoint

Batch = dict[str, Any]


def model_of(fixture: Fixture, mode: str, model_class: Any = None, **ours: Any) -> Any:
    """The fixture's model without dropout, filled or loaded as the fixture says.

    Args:
        model_class: one of the same state dict as the class that ``arch`` names, by default that.
        ours: further keys.
    """
    model, checkpoint = built(fixture.arch, fixture.config, mode, model_class, **ours), fixture.checkpoint
    if not checkpoint:
        model.load_state_dict(fixture.fill(model.state_dict()))
        return model
    source = built(checkpoint["arch"], checkpoint["config"], mode, **ours)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint.th"
        torch.save({"model": fixture.fill(source.state_dict(), checkpoint=True)}, path)
        del source
        load_checkpoint(model, path, fixture.arch["model"], "is_eval True" in checkpoint["how"])
    if checkpoint["then_fill"]:
        name = checkpoint.get("then_fill_name") or "{key}"
        model.load_state_dict(fixture.fill(model.state_dict(), prefixes=checkpoint["then_fill"], name=name))
    return model


def built(arch: Mapping[str, Any], config: Mapping[str, Any], mode: str, model_class: Any = None, **ours: Any) -> Any:
    """A model of ``model_class``, by default the one that ``arch`` names, in evaluation mode."""
    model_class = model_class or import_module(f"xvlm.models.model_{arch['model']}").XVLM
    return model_class(config_of(arch, config, mode, **ours)).eval()


def config_of(arch: Mapping[str, Any], config: Mapping[str, Any], mode: str, **ours: Any) -> Given:
    """A resolved config: the official keys of ``arch`` and ``config``, and ours; the plain mode keeps padding."""
    sizes = {key: arch[key] for key in ("image_res", "patch_size", "embed_dim", "temp", "num_dec_layers")}
    blocks = {"vision_config": vision_config(arch), "text_config": text_config(arch)}
    start = {"init": "random", "checkpoint": "", "resume_from": None, "load_bertL_by_sep": False}
    regions = {"train_file_regions": ["regions"], "regions": {"iter_perc": 0.5}, "calc_image_bbox_loss": False}
    optimizer = {"optimizer": {"opt": "adamW", "lr": 1e-4, "weight_decay": 0.01, "lr_mult": 2}}
    own = {"pack_text": mode == TRAINING_PATH, "gradient_checkpointing": False, "compile": False}
    names = {"text_encoder": "bert-base-uncased", "label_smoothing": arch["label_smoothing"]}
    images = {"use_clip_vit": False, "use_swin": True}
    official = {**sizes, **blocks, **start, **regions, **optimizer, **own, **names, **images}
    return Given({**official, **config, **ours}, block="config.")


def vision_config(arch: Mapping[str, Any]) -> dict[str, Any]:
    """The content of the file that ``vision_config`` names."""
    return {"ckpt": "", "image_res": arch["image_res"], **arch["vision"]}


def text_config(arch: Mapping[str, Any]) -> dict[str, Any]:
    """The content of the file that ``text_config`` names, from which a model makes its encoder and decoder."""
    sizes = arch["text_encoder"] or arch["text_decoder"]
    first, images = sizes["fusion_layer"], sizes["images_per_text"]
    return {**sizes, "num_hidden_layers": first + (sizes["num_hidden_layers"] - first) // images}


def tensor(value: Any) -> Tensor:
    """An input or choice of a fixture; integers as int64."""
    made = torch.as_tensor(value)
    return made if made.is_floating_point() else made.long()


def pretraining_batch(fixture: Fixture, prefix: str = "", regions: bool = False) -> Given:
    """A batch of pre-training under the loader's names, of images or of regions; the fixture's have a prefix."""
    names = ("image", "text_ids", *(("image_atts", "idx_to_group_img", "target_bbox", "is_image") if regions else ()))
    official = {**{name: name for name in names}, "text_masks": "text_atts", "text_ids_mlm": "text_ids_masked"}
    official |= {"places": "masked_pos", "labels": "masked_ids"}
    batch = Given.renamed(fixture.given, {ours: prefix + name for ours, name in official.items()}, tensor)
    if {"places", "labels", "text_ids"} <= batch.keys():
        labels = torch.full_like(batch["text_ids"], -100)
        chosen = batch["labels"] != -100
        rows = torch.arange(len(labels))[:, None].expand_as(chosen)
        labels[rows[chosen], batch["places"][chosen]] = batch["labels"][chosen]
        return batch.also(text_labels_mlm=labels)
    return batch


def in_official_order(fixture: Fixture, logits: Tensor) -> Tensor:
    """MLM logits (K, vocab), by row and position, in the order of ``masked_pos``."""
    places, labels = tensor(fixture.choices["masked_pos"]), tensor(fixture.choices["masked_ids"])
    official = [(row, int(places[row, i])) for row, i in (labels != -100).nonzero().tolist()]
    ours = sorted(official)
    return logits[[ours.index(place) for place in official]]


def negatives_of(fixture: Fixture, prefix: str = "") -> Negatives:
    """The negatives that a call is forced to draw."""
    return Negatives(*(tensor(fixture.choices[f"{prefix}neg_{kind}"]) for kind in ("image", "text")))


def task_batch(fixture: Fixture, **names: str) -> Given:
    """A batch of a downstream task under the loader's names; ``names`` are ours -> the fixture's of further inputs."""
    names |= {"image": "image", "text_ids": "text_ids", "text_masks": "text_atts"}
    return Given.renamed(fixture.inputs, names, tensor)


def loaded_sums(fixture: Fixture, model: nn.Module) -> Outputs:
    """What a loaded model holds: sums of the parameters that the fixture names."""
    yield from sums(fixture, model.state_dict(), "")


def sums(fixture: Fixture, state: Mapping[str, Tensor], prefix: str) -> Outputs:
    """Of the parameters that an input of the fixture names."""
    named = once(lambda: [state[str(name)].double() for name in fixture.inputs[f"{prefix}param_names"]])
    yield f"{prefix}param_sum", lambda: torch.stack([each.sum() for each in named()])
    yield f"{prefix}param_abs_sum", lambda: torch.stack([each.abs().sum() for each in named()])
