"""The training step embeds each image once and computes nothing that no objective reads; its dropout and memory."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor

from tests.unit.small_parts import gradients
from tests.unit.vilt.plain_step import every_other
from tests.unit.vilt.small import batch_of, image_pair, vilt
from vilt.modules import masked_patches, vision_transformer

# What is computed ----------------------------------------------------------------------------------------


class Watch:
    """Shapes of what goes into sub-modules during a step."""

    def __init__(self, **modules: Any) -> None:
        self.shapes: dict[str, list[tuple[int, ...]]] = {name: [] for name in modules}
        for name, module in modules.items():
            module.register_forward_pre_hook(lambda _, args, name=name: self.shapes[name].append(tuple(args[0].shape)))


@pytest.mark.parametrize("itm_labels", [[0, 0, 0, 0], [0, 1, 0, 1], [1, 1, 1, 1]])
def test_every_distinct_image_is_embedded_once(itm_labels: list[int]) -> None:
    model = vilt(("itm", "mlm", "mpp"))
    watch = Watch(patches=model.transformer.patch_embed.proj)
    model(batch_of([5, 4, 6, 3]), torch.tensor(itm_labels))
    assert [shape[0] for shape in watch.shapes["patches"]] == [4 + itm_labels.count(0)]


def test_an_image_keeps_its_patches_through_all_passes_of_a_step() -> None:
    """The choice under a cap is drawn once: MLM and a matched pair of ITM see the same patches."""
    model = vilt(max_image_len=3)
    seen: list[Tensor] = []
    take = vision_transformer.ImageTokens.take

    def noted(tokens: vision_transformer.ImageTokens, samples: Tensor) -> vision_transformer.ImageTokens:
        seen.append((taken := take(tokens, samples)).patch_index)
        return taken

    with patch.object(vision_transformer.ImageTokens, "take", noted):
        model(batch_of([5, 4, 6, 3]), torch.tensor([1, 0, 1, 1]))
    mlm, itm = seen
    assert mlm.shape == (4, 3, 2)
    assert torch.equal(mlm[[0, 2, 3]], itm[[0, 2, 3]])


def test_retrieval_embeds_an_image_once_for_all_its_captions() -> None:
    model = vilt(("itm", "irtr"), loss_names={**vilt(()).config["loss_names"], "itm": 0.5, "irtr": 1})
    watch = Watch(patches=model.transformer.patch_embed.proj)
    model(batch_of([5, 4], false_texts=2))
    assert [shape[0] for shape in watch.shapes["patches"]] == [2]


def test_logits_at_masked_positions_alone() -> None:
    model = vilt(("mlm", "mpp"))
    watch = Watch(words=model.mlm_score, patches=model.mpp_score)
    batch = batch_of([5, 4, 6], masked=[(0, 1), (2, 3), (2, 1)], sizes=[(3, 4), (1, 2), (2, 1)])
    with patch.object(masked_patches, "draw_patches", every_other):
        outputs = model(batch)
    assert watch.shapes["words"] == [(3, 16)]
    assert outputs["mlm_logits"].shape == (3, 40) and len(outputs["mlm_labels"]) == 3
    labelled = 6 + 1 + 2  # of the valid patches those at even places of the grid
    assert watch.shapes["patches"] == [(labelled, 16)]
    assert outputs["mpp_logits"].shape == (3 * labelled, 256) and len(outputs["mpp_labels"]) == 3 * labelled


def test_no_block_sees_padding() -> None:
    model = vilt()
    blocks: Any = model.transformer.blocks
    watch = Watch(mlp=blocks[0].mlp, attention=blocks[1].attn.qkv)
    model(batch_of([5, 7], padded_to=15, sizes=[(3, 4), (1, 2)], false_sizes=[(2, 2), (1, 1)]), torch.tensor([0, 1]))
    mlm, itm = 5 + 7 + 2 + 12 + 2, 5 + 7 + 2 + 4 + 2
    assert watch.shapes == {"mlp": [(mlm + itm, 16)], "attention": [(mlm + itm, 16)]}


@pytest.mark.parametrize(
    ("task", "read"), [("mlm", [4]), ("itm", [5 + 7 + 2 + 24]), ("vqa", [2]), ("nlvr2", [2, 2]), ("irtr", [6])]
)
def test_the_last_block_computes_what_is_read(task: str, read: list[int]) -> None:
    model = vilt((task,))
    watch = Watch(mlp=model.transformer.blocks[-1].mlp, norm=model.transformer.norm)
    batch = batch_of([5, 7], masked=[(0, 1), (0, 2), (1, 1), (1, 5)], false_texts=2)
    answers = {"vqa_labels": [[1], [2]], "vqa_scores": [[1.0], [1.0]]}
    model({**(image_pair(batch) if task == "nlvr2" else batch), **answers})
    assert watch.shapes == {"mlp": [(n, 16) for n in read], "norm": [(n, 16) for n in read]}


# Dropout, memory, parameters -----------------------------------------------------------------------------


def test_dropout_stands_where_the_official_code_has_it() -> None:
    """Text embedding, positions, attention output, both points of the MLP; not on attention probabilities."""
    model = vilt(drop_rate=0.1)
    dropped = {name for name, module in model.named_modules() if getattr(module, "p", 0.0) == 0.1}
    blocks = {
        f"transformer.blocks.{i}.{part}" for i in range(3) for part in ("attn.proj_drop", "mlp.drop1", "mlp.drop2")
    }
    assert dropped == {"text_embeddings.dropout", "transformer.pos_drop"} | blocks
    others = [m for n, m in model.named_modules() if isinstance(m, torch.nn.Dropout) and n not in dropped]
    assert all(module.p == 0 for module in others)


def test_the_modality_is_added_after_dropout() -> None:
    model = vilt().train()
    model.text_embeddings.dropout.p = model.transformer.pos_drop.p = 1.0
    entering: list[Tensor] = []
    model.transformer.blocks[0].register_forward_pre_hook(lambda _, args: entering.append(args[0]))
    model.infer(batch_of([5, 4]))
    types = model.token_type_embeddings.weight
    assert torch.equal(entering[0][:, :5], types[0].expand(2, 5, -1))
    assert torch.equal(entering[0][:, 5:], types[1].expand(2, 13, -1))


def test_every_pass_drops_units_of_its_own() -> None:
    """Patches are embedded once per step, but MLM and ITM draw their dropout apart, as in two official passes."""
    model = vilt().train()
    model.transformer.pos_drop.p = 0.5
    kept: list[Tensor] = []
    model.transformer.pos_drop.register_forward_hook(lambda _, args, output: kept.append(output != 0))
    model(batch_of([5, 4]), torch.tensor([1, 1]))
    (together,) = kept
    mlm, itm = together.chunk(2)
    assert mlm.shape == itm.shape and not torch.equal(mlm, itm)


def test_gradient_checkpointing_changes_no_number() -> None:
    """With dropout: a recomputed layer drops the same units."""
    plain_model, saving = (vilt(drop_rate=0.3, gradient_checkpointing=choice) for choice in (False, True))
    saving.load_state_dict(plain_model.state_dict())
    batch, itm_labels = batch_of([5, 4, 6]), torch.tensor([0, 1, 0])
    results = []
    for model in (plain_model, saving):
        model.train()
        torch.manual_seed(3)
        outputs = model(batch, itm_labels)
        losses = {key: value for key, value in outputs.items() if key.endswith("_loss")}
        results.append((losses, gradients(model, losses)))
    (losses, wanted), (saved, got) = results
    assert all(torch.equal(saved[key], value) for key, value in losses.items())
    assert all(torch.allclose(got[key], value, atol=1e-6) for key, value in wanted.items())


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradient_checkpointing_recomputes_the_blocks(checkpointing: bool) -> None:
    model = vilt(gradient_checkpointing=checkpointing).train()
    watch = Watch(mlp=model.transformer.blocks[0].mlp)
    outputs = model(batch_of([5, 4]), torch.tensor([0, 1]))
    assert len(watch.shapes["mlp"]) == 1
    (outputs["mlm_loss"] + outputs["itm_loss"]).backward()
    assert len(watch.shapes["mlp"]) == (2 if checkpointing else 1)


def test_every_parameter_gets_a_gradient() -> None:
    model = vilt(("itm", "mlm", "mpp"))
    with patch.object(masked_patches, "draw_patches", every_other):
        outputs = model(batch_of([5, 4]), torch.tensor([0, 1]))
    sum(value for key, value in outputs.items() if key.endswith("_loss")).backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None]


def test_half_precision_keeps_positions_and_alignment_in_float32() -> None:
    model, batch, itm_labels = vilt(), batch_of([5, 4, 6]), torch.tensor([0, 1, 0])
    with torch.autocast("cpu", torch.bfloat16):
        outputs = model(batch, itm_labels)
        tokens = model.encode_image(batch["image"][0])
    full = model(batch, itm_labels)
    exact = model.encode_image(batch["image"][0])
    assert torch.equal(tokens.positions, exact.positions)
    assert torch.equal(tokens.states[:, 0], exact.states[:, 0]) and not torch.equal(tokens.states, exact.states)
    for key in ("mlm_loss", "itm_loss", "itm_wpa_loss"):
        assert outputs[key].dtype == torch.float32
        assert torch.allclose(outputs[key], full[key], atol=0.1), key
