"""METER's MLM + ITM step: every layer, saliency, logits, losses, gradients, optimiser steps (SPEC §4-6, §10, §11)."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModel, BertConfig, RobertaConfig

from epic_common.saliency import log_saliency
from meter.config import ex
from meter.modules.checkpoints import load_checkpoint
from meter.modules.clip_model import ClipSize, ClipVisualTower
from meter.modules.encoders import Encoders
from meter.modules.epic_meter import saliency_query_key
from meter.modules.meter_module import METERTransformerSS, trimmed
from meter.modules.meter_utils import set_schedule
from meter.modules.swin_transformer import SwinSize, SwinTower
from tests.parity.replays import PLAIN, TRAINING_PATH, Fixture, Outputs, replay

Batch = dict[str, Any]
Losses = tuple[Tensor, Tensor]


@replay("meter", "pretrain", modes=(PLAIN, TRAINING_PATH))
def pretrain(fixture: Fixture, mode: str) -> Outputs:
    model = filled_model(fixture)
    batch = batch_of(fixture)
    itm_labels = torch.from_numpy(fixture.choices["itm_labels"]).long()
    yield from _built(fixture, model)
    yield from (_plain_outputs if mode == PLAIN else _training_outputs)(model, batch, itm_labels)
    if "grad_rows" in fixture.arrays:
        yield from _gradients(fixture, model, batch, itm_labels, mode)
    if fixture.trajectory is not None:
        yield from _trajectory(fixture, model, batch, mode)


# Building ------------------------------------------------------------------------------------------------


def encoders_of(arch: dict[str, Any]) -> Encoders:
    """Both towers from a fixture's ``arch`` block alone."""
    v, t = arch["vision"], arch["text"]
    vision: ClipVisualTower | SwinTower
    if v["kind"] == "clip":
        # arch counts the blocks that exist, ClipSize those of CLIP, whose last one METER drops.
        layers = v["depths"][0] + 1
        leftovers = (v["unused_text_positions"], v["unused_text_width"])
        size = ClipSize(v["width"], layers, v["heads"][0], v["patch_size"], None, *leftovers)
        vision = ClipVisualTower(size, arch["image_size"])
    else:
        swin = SwinSize(v["width"], tuple(v["depths"]), tuple(v["heads"]), None, v["drop_path"])
        vision = SwinTower(swin, arch["image_size"])
    config = {"roberta": RobertaConfig, "bert": BertConfig}[t["kind"]](
        vocab_size=t["vocab"],
        hidden_size=t["width"],
        num_hidden_layers=t["layers"],
        num_attention_heads=t["heads"],
        intermediate_size=t["mlp_width"],
        layer_norm_eps=t["layer_norm_eps"],
        max_position_embeddings=t["positions"],
        type_vocab_size=t["type_vocab"],
        pad_token_id=t["pad_id"],
        hidden_dropout_prob=t["dropout"],
        attention_probs_dropout_prob=t["dropout"],
    )
    return Encoders(vision, AutoModel.from_config(config))


def model_of(arch: dict[str, Any], config: dict[str, Any]) -> METERTransformerSS:
    """The model of ``arch``; ``config`` holds the official keys that the fixture sets."""
    full: dict[str, Any] = dict(ex.configurations[0]())
    known = {key: value for key, value in config.items() if value is not None and key != "loss_names"}
    fusion = arch["fusion"]
    sizes = {
        "hidden_size": fusion["width"],
        "num_heads": fusion["heads"],
        "num_top_layer": fusion["layers"],
        "mlp_ratio": fusion["mlp_width"] / fusion["width"],
        "drop_rate": fusion["dropout"],
        "input_text_embed_size": fusion["text_in"],
        "input_image_embed_size": fusion["image_in"],
        "vocab_size": arch["text"]["vocab"],
    }
    loss_names = {**dict.fromkeys(full["loss_names"], 0), **config["loss_names"]}
    model = METERTransformerSS({**full, **known, **sizes, "loss_names": loss_names}, encoders_of(arch))
    return model.eval()


def filled_model(fixture: Fixture) -> METERTransformerSS:
    """Built from ``arch`` and filled by golden.py's rule, or loaded through the launcher's own loading path."""
    model = model_of(fixture.arch, fixture.config)
    checkpoint = fixture.checkpoint
    if checkpoint is None:
        model.load_state_dict(fixture.fill(model.state_dict()))
        return model
    source = model_of(checkpoint["arch"], checkpoint["config"])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "source.ckpt"
        torch.save({"state_dict": fixture.fill(source.state_dict(), checkpoint=True)}, path)
        load_checkpoint(model, path)
    if checkpoint["then_fill"]:
        model.load_state_dict(fixture.fill(model.state_dict(), prefixes=checkpoint["then_fill"]))
    return model


def batch_of(fixture: Fixture) -> Batch:
    """The batch as METER's collation gives it."""
    tensors = {name: torch.from_numpy(fixture.inputs[name]) for name in ("text_ids", "text_masks")}
    for name in ("text_ids_mlm", "text_labels_mlm"):
        tensors[name] = torch.from_numpy(fixture.choices[name])
    tensors = {name: value.long() for name, value in tensors.items()}
    images = {name: [torch.from_numpy(fixture.inputs[name])] for name in ("image", "false_image_0")}
    return {**tensors, **images, "text_labels": torch.full_like(tensors["text_ids"], -100)}


def mixed_images(batch: Batch, itm_labels: Tensor) -> Tensor:
    keeps = itm_labels.bool()[:, None, None, None]
    return torch.where(keeps, batch["image"][0], batch["false_image_0"][0])


# The plain computation -----------------------------------------------------------------------------------


@torch.no_grad()
def _plain_outputs(model: METERTransformerSS, batch: Batch, itm_labels: Tensor) -> Outputs:
    mixed = mixed_images(batch, itm_labels)
    masked_batch = {**batch, "text_ids": batch["text_ids_mlm"]}
    passes = {
        "mlm": (masked_batch, batch["image"][0]),
        "itm": (batch, mixed),
        "clean": (batch, batch["image"][0]),
    }
    results = {}
    for name, (inputs, images) in passes.items():
        states: dict[str, Tensor] = {}
        with captured_states(model, states):
            results[name] = model.infer(inputs, img=images)
        for point, value in states.items():
            yield from summaries(f"{name}.{point}", value)
        yield from _saliency(model, f"{name}.", {**inputs, "image": [images]})
    clean = results["clean"]
    yield from summaries("text_feats", clean["text_feats"])
    yield from summaries("image_feats", clean["image_feats"])
    yield "cls_feats", clean["cls_feats"]
    yield "itm_logits_true_image", model.itm_score(clean["cls_feats"])
    logits = model.mlm_score(results["mlm"]["text_feats"])
    labels = batch["text_labels_mlm"]
    masked = labels != -100
    yield "mlm_positions", masked.nonzero()
    yield from _mlm_logits(logits[masked], labels[masked])
    yield "mlm_logsumexp", logits.double().logsumexp(dim=-1)
    yield "itm_logits", model.itm_score(results["itm"]["cls_feats"])
    mlm_loss, itm_loss = plain_losses(model, batch, itm_labels)
    yield "mlm_loss", mlm_loss
    yield "itm_loss", itm_loss


def plain_losses(model: METERTransformerSS, batch: Batch, itm_labels: Tensor) -> Losses:
    """Both losses as the formulas say: every image again for every objective, logits at every position."""
    text = model.infer(batch, mask_text=True)
    mlm = F.cross_entropy(model.mlm_score(text["text_feats"]).flatten(0, 1), text["text_labels"].flatten())
    pair = model.infer(batch, img=mixed_images(batch, itm_labels))
    return mlm, F.cross_entropy(model.itm_score(pair["cls_feats"]), itm_labels)


def _mlm_logits(logits: Tensor, labels: Tensor) -> Outputs:
    yield "mlm_logits_at", logits
    yield "mlm_logits_label", logits.gather(1, labels[:, None]).squeeze(1)


def _saliency(model: METERTransformerSS, prefix: str, batch: Batch) -> Outputs:
    """Eq. 8 with the query of image token 0 and with the mean query, whatever pooling the tower has."""
    valid = batch["text_masks"].bool()
    scores = {}
    for pool, name in (("first", "saliency_score"), ("mean", "saliency_score_mean_query")):
        query, key = saliency_query_key(model, batch, layer=-2, pool=pool)
        scores[name] = torch.einsum("bhd,bhnd->bhn", query, key).mean(dim=1)
        yield prefix + name, scores[name]
        if pool == "first":
            yield prefix + "saliency_q", query.flatten(1)
            yield prefix + "saliency_k", key.transpose(1, 2).flatten(2)
    score = scores["saliency_score"]
    yield prefix + "saliency_alpha_all", score.softmax(dim=-1)
    yield prefix + "saliency_alpha_masked", log_saliency(score, valid, 1.0).exp()


class captured_states:
    """Collect, while the block runs, what enters and leaves the towers and every fusion layer."""

    def __init__(self, model: METERTransformerSS, states: dict[str, Tensor]) -> None:
        self.model, self.states = model, states

    def __enter__(self) -> None:
        def keep(name: str) -> Any:
            return lambda module, args, output: self.states.update(
                {name: output if isinstance(output, Tensor) else output.last_hidden_state}
            )

        def keep_input(name: str) -> Any:
            return lambda module, args: self.states.update({name: args[0]})

        m = self.model
        self.handles = [
            m.text_transformer.get_submodule("embeddings").register_forward_hook(keep("text_embeddings")),
            m.text_transformer.register_forward_hook(keep("text_encoder_out")),
            m.vit_model.register_forward_hook(keep("vit_out")),
            m.cross_modal_text_layers[0].register_forward_pre_hook(keep_input("fusion_text_in")),
            m.cross_modal_image_layers[0].register_forward_pre_hook(keep_input("fusion_image_in")),
        ]
        for stream, layers in (("text", m.cross_modal_text_layers), ("image", m.cross_modal_image_layers)):
            for i, layer in enumerate(layers):
                self.handles.append(layer.register_forward_hook(keep(f"fusion_{stream}_{i}")))

    def __exit__(self, *_: object) -> None:
        for handle in self.handles:
            handle.remove()


def summaries(name: str, value: Tensor) -> Outputs:
    """A state (B, n, d) as the fixtures keep it; slices are cut by the comparison."""
    yield f"{name}_slice", value
    yield f"{name}_tail", value
    yield f"{name}_mean", value.double().flatten(1).mean(dim=1)
    yield f"{name}_std", value.double().flatten(1).std(dim=1)


# The training path ---------------------------------------------------------------------------------------


@torch.no_grad()
def _training_outputs(model: METERTransformerSS, batch: Batch, itm_labels: Tensor) -> Outputs:
    outputs = model(batch, itm_labels)
    yield "mlm_loss", outputs["mlm_loss"]
    yield "itm_loss", outputs["itm_loss"]
    yield "itm_logits", outputs["itm_logits"]
    yield from _mlm_logits(outputs["mlm_logits"], outputs["mlm_labels"])
    short = trimmed(batch)
    mask = short["text_masks"]
    text, image = model.encode_text(short["text_ids"], mask), model.encode_image(batch["image"][0])
    pair = model.pool(model.fuse(text, mask, image, pooled_only=True))
    yield "cls_feats", pair
    yield "itm_logits_true_image", model.itm_score(pair)
    for name, value in _saliency(model, "clean.", short):
        if name == "clean.saliency_alpha_masked":
            yield name, F.pad(torch.as_tensor(value), (0, batch["text_ids"].shape[1] - mask.shape[1]))


def training_losses(model: METERTransformerSS, batch: Batch, itm_labels: Tensor) -> Losses:
    outputs = model(batch, itm_labels)
    return outputs["mlm_loss"], outputs["itm_loss"]


# Gradients and optimiser steps ---------------------------------------------------------------------------

LOSSES = {PLAIN: plain_losses, TRAINING_PATH: training_losses}


def _gradients(fixture: Fixture, model: METERTransformerSS, batch: Batch, itm_labels: Tensor, mode: str) -> Outputs:
    model.zero_grad()
    sum(LOSSES[mode](model, batch, itm_labels)).backward()  # type: ignore[union-attr]
    gradients = {name: p.grad for name, p in model.official_named_parameters()}
    rows = [i for i, key in enumerate(fixture.key_table()) if gradients.get(key) is not None]
    keys = list(fixture.key_table())
    norms = torch.stack([gradients[keys[i]].double().norm() for i in rows])  # type: ignore[union-attr]
    yield "grad_rows", torch.tensor(rows)
    yield "grad_norms", norms
    yield "grad_total_norm", norms.norm()
    model.zero_grad()


def _trajectory(fixture: Fixture, model: METERTransformerSS, batch: Batch, mode: str) -> Outputs:
    assert fixture.trajectory is not None
    (optimizer,), (schedule,) = set_schedule(model)
    losses, rates = [], []
    for itm_labels in torch.from_numpy(fixture.choices["traj_itm_labels"]).long():
        step = LOSSES[mode](model, batch, itm_labels)
        losses.append([float(loss.detach()) for loss in step])
        rates.append([group["lr"] for group in optimizer.param_groups])
        sum(step).backward()  # type: ignore[union-attr]
        optimizer.step()
        optimizer.zero_grad()
        schedule["scheduler"].step()
    yield "traj_losses", torch.tensor(losses)
    yield "traj_lr", torch.tensor(rates, dtype=torch.float64)
    state, keys = model.state_dict(), list(fixture.key_table())
    for name in fixture.arrays:
        if name.startswith("after."):
            yield name, state[name.removeprefix("after.")]
    for name in ("after", "after_roundoff"):
        rows = fixture.inputs[f"{name}_rows"]
        yield f"{name}_abs_sum", torch.stack([state[keys[row]].double().abs().sum() for row in rows])


def _built(fixture: Fixture, model: METERTransformerSS) -> Iterator[tuple[str, Tensor]]:
    state = model.state_dict()
    for name in fixture.arrays:
        if name.startswith("built."):
            yield name, state[name.removeprefix("built.")]
