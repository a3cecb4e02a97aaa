"""What the replays of METER's tasks share: building and filling a model, and describing one pass.

Source: docs/official/meter.md §11.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModel, BertConfig, RobertaConfig

from epic_common.saliency import log_saliency
from meter.config import ex
from meter.modules.checkpoints import load_checkpoint
from meter.modules.clip_model import ClipVisualTower
from meter.modules.encoders import Encoders
from meter.modules.meter_module import METERTransformerSS
from meter.modules.sizes import ClipSize, SwinSize
from meter.modules.swin_transformer import SwinTower
from tests.parity.replays import Fixture, Given
from tests.parity.replays.filling import filled, texts
from vlp.sacred_dialect.config import base_config

Batch = dict[str, Any]

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
    full: dict[str, Any] = base_config(ex)
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
    return filled(fixture, model_of, load_checkpoint)


# One pass -----------------------------------------------------------------------------------------------


def batch_of(fixture: Fixture, *needed: str) -> Given:
    """The inputs and choices that METER's collation gives, under its names; labels are each task's own affair.

    ``needed`` are further pieces of a whole batch.
    """
    given = fixture.given
    batch: Batch = {name: [torch.from_numpy(value)] for name, value in given.items() if "image" in name}
    return texts(given, *needed).also(**batch)


def mixed_images(batch: Batch, itm_labels: Tensor) -> Tensor:
    """ITM's images (B, 3, S, S): the sample's own where its label is 1, else its false one."""
    keeps = itm_labels.bool()[:, None, None, None]
    return torch.where(keeps, batch["image"][0], batch["false_image_0"][0])


def described_pass(
    model: METERTransformerSS, name: str, batch: Batch, images: Tensor, token_type: int = 1
) -> tuple[dict[str, Tensor], list[tuple[str, Tensor]]]:
    """One plain pass -> its result, and every state and saliency array as the fixtures name them."""
    states: dict[str, Tensor] = {}
    asked: dict[str, Tensor] = {}
    with captured_states(model, states), captured_projections(model, asked):
        result = model.infer(batch, img=images, image_token_type_idx=token_type)
    outputs = [output for point, value in states.items() for output in summaries(f"{name}.{point}", value)]
    cross: Any = model.cross_modal_image_layers[-2].crossattention.self  # type: ignore[union-attr]
    queries, key = cross.split_heads(asked["query"]), cross.split_heads(asked["key"])
    outputs += saliency_outputs(f"{name}.", queries[:, :, 0], key, batch["text_masks"].bool())
    outputs.append((f"{name}.saliency_score_mean_query", scores_of(queries.mean(dim=2), key)))
    return result, outputs


def pooled(model: METERTransformerSS, batch: Given, image: str = "image", token_type: int = 1) -> Tensor:
    """cls_feats (B, 2d) of the unmasked text and one image, as the training step computes them."""
    short = batch.also(**model.prepared(batch))
    layout = model.text_layout(short["plan"]["text"])
    text, states = model.encode_text(short["text_ids"], layout), model.encode_image(batch[image][0], token_type)
    return model.pool(model.fuse(text, layout, states, model.image_layout, pooled_only=True))


def saliency_outputs(prefix: str, query: Tensor, key: Tensor, valid: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Eq. 8 from the query (B, h, d_h) of image token 0 and the keys (B, h, n, d_h); valid (B, n)."""
    score = scores_of(query, key)
    yield prefix + "saliency_q", query.flatten(1)
    yield prefix + "saliency_k", key.transpose(1, 2).flatten(2)
    yield prefix + "saliency_score", score
    yield prefix + "saliency_alpha_all", score.softmax(dim=-1)
    yield prefix + "saliency_alpha_masked", log_saliency(score, valid, 1.0).exp()


def scores_of(query: Tensor, key: Tensor) -> Tensor:
    """The mean over heads of q · K: query (B, h, d_h), key (B, h, n, d_h) -> (B, n)."""
    return torch.einsum("bhd,bhnd->bhn", query, key).mean(dim=1)


@contextmanager
def captured_projections(model: METERTransformerSS, kept: dict[str, Tensor]) -> Iterator[None]:
    """Collect, while the block runs, query and key (B, n, d) of the penultimate image layer's cross-attention."""
    cross: Any = model.cross_modal_image_layers[-2].crossattention.self  # type: ignore[union-attr]
    handles = [
        getattr(cross, name).register_forward_hook(lambda _, args, output, name=name: kept.update({name: output}))
        for name in ("query", "key")
    ]
    yield
    for handle in handles:
        handle.remove()


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


def summaries(name: str, value: Tensor) -> Iterator[tuple[str, Tensor]]:
    """A state (B, n, d) as the fixtures keep it; slices are cut by the comparison."""
    yield f"{name}_slice", value
    yield f"{name}_tail", value
    yield f"{name}_mean", value.double().flatten(1).mean(dim=1)
    yield f"{name}_std", value.double().flatten(1).std(dim=1)
