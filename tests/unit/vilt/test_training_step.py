"""The training step computes what the plain formulas say, each image once and nothing that no objective reads."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from tests.unit.vilt.small import GRID, Batch, Sizes, batch_of, image_pair, vilt
from vilt.modules import masked_patches, vision_transformer
from vilt.modules.vilt_module import ViLTransformerSS
from vilt.modules.word_patch_alignment import aligned_patches, aligned_words, alignment_loss

Losses = dict[str, Tensor]


def plain(model: ViLTransformerSS, batch: Batch, itm_labels: Tensor) -> Losses:
    """SPEC §5 and §7 word for word: a full pass per objective, logits everywhere."""
    losses: Losses = {}
    tasks = model.current_tasks
    if "mlm" in tasks:
        result = model.infer(batch, mask_text=True)
        losses["mlm_loss"] = mean_at_labels(model.mlm_score(result["text_feats"]), result["text_labels"])
    if "mpp" in tasks:
        result = model.infer(batch, mask_image=True)
        losses["mpp_loss"] = mean_at_labels(model.mpp_score(result["image_feats"]), result["image_labels"])
    if "itm" in tasks:
        result = model.infer(mixed(batch, itm_labels))
        losses["itm_loss"] = F.cross_entropy(model.itm_score(result["cls_feats"]), itm_labels)
        words, patches = aligned_words(batch["text_masks"]), aligned_patches(result["image_masks"].bool())
        losses["itm_wpa_loss"] = alignment_loss(result["text_feats"], words, result["image_feats"], patches, itm_labels)
    if "vqa" in tasks:
        logits = model.vqa_classifier(model.infer(batch)["cls_feats"])
        targets = torch.zeros_like(logits)
        for row, (labels, scores) in enumerate(zip(batch["vqa_labels"], batch["vqa_scores"], strict=True)):
            for label, score in zip(labels, scores, strict=True):
                targets[row, label] = score
        losses["vqa_loss"] = F.binary_cross_entropy_with_logits(logits, targets, reduction="sum") / len(logits)
    if "nlvr2" in tasks:
        pair = [model.infer(batch, image_token_type_idx=i)["cls_feats"] for i in (1, 2)]
        logits = model.nlvr2_classifier(torch.cat(pair, dim=1))
        losses["nlvr2_loss"] = F.cross_entropy(logits, torch.tensor(batch["answers"]).long())
    if "irtr" in tasks:
        scores = [model.rank_output(model.infer(b)["cls_feats"]) for b in candidates(model, batch)]
        losses["irtr_loss"] = F.cross_entropy(torch.cat(scores, dim=1), torch.zeros(len(itm_labels)).long())
    return losses


def mean_at_labels(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy where labels are not -100; 0 if all are."""
    each = F.cross_entropy(logits.flatten(0, -2), labels.flatten(), reduction="none")
    return each.sum() / max(int((labels != -100).sum()), 1)


def mixed(batch: Batch, itm_labels: Tensor) -> Batch:
    """The batch with ITM's images: the sample's own where its label is 1, else its false one."""

    def chosen(own: Tensor, false: Tensor) -> Tensor:
        return torch.stack([(own if label else false)[i] for i, label in enumerate(itm_labels.tolist())])

    image = {"image": [chosen(batch["image"][0], batch["false_image_0"][0])]}
    if "sizes" in batch:
        image["sizes"] = {"image": chosen(batch["sizes"]["image"], batch["sizes"]["false_image_0"])}  # type: ignore
    return {**batch, **image}


def candidates(model: ViLTransformerSS, batch: Batch) -> list[Batch]:
    """The batch with its true captions, then with each list of false ones."""
    names = ["text", *(f"false_text_{i}" for i in range(model.config["draw_false_text"]))]
    return [
        {**batch, **{f"text_{kind}": batch[f"{name}_{kind}"] for kind in ("ids", "masks", "labels")}} for name in names
    ]


def gradients(model: ViLTransformerSS, losses: Losses) -> dict[str, Tensor]:
    model.zero_grad()
    torch.stack(list(losses.values())).sum().backward()
    return {name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in model.named_parameters()}


@st.composite
def batches(draw: st.DrawFn) -> tuple[Batch, Tensor]:
    """1 to 4 sentences with any padding, empty ones too, images of any size, any masked positions and labels."""
    lengths = draw(st.lists(st.integers(2, 9), min_size=1, max_size=4))
    size = len(lengths)
    grids = st.lists(st.tuples(*(st.integers(1, side) for side in GRID)), min_size=size, max_size=size)
    positions = [(row, column) for row, length in enumerate(lengths) for column in range(1, length - 1)]
    masked = draw(st.lists(st.sampled_from(positions), unique=True, max_size=6)) if positions else []
    labels = draw(st.lists(st.integers(0, 1), min_size=size, max_size=size))
    images: tuple[Sizes, Sizes] = draw(grids), draw(grids)
    padded_to, told = draw(st.integers(0, 12)), draw(st.booleans())
    batch = batch_of(lengths, padded_to, masked, *images, false_texts=2, tell_sizes=told, seed=draw(st.integers(0, 99)))
    answers = {"vqa_labels": [[i, 6] for i in range(size)], "vqa_scores": [[1.0, 0.3]] * size}
    return {**batch, **answers}, torch.tensor(labels)


def first_ones(valid: Tensor, max_image_len: int) -> Tensor:
    """Instead of the random choice: one that is the same in every pass."""
    return valid if max_image_len < 0 else valid & (valid.cumsum(dim=1) <= max_image_len)


def every_other(size: int, grid: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor]:
    """Instead of the random draws of masked patch prediction."""
    place = torch.arange(grid[0] * grid[1]).repeat(size, 1)
    return place % 2 == 0, place % 3 == 0


def check_step(model: ViLTransformerSS, batch: Batch, itm_labels: Tensor) -> None:
    model = model.double()
    batch = {key: [v.double() for v in value] if "image" in key else value for key, value in batch.items()}
    with (
        patch.object(vision_transformer, "choose_patches", first_ones),
        patch.object(masked_patches, "draw_patches", every_other),
    ):
        expected = plain(model, batch, itm_labels)
        wanted = gradients(model, expected)
        outputs = model(batch, itm_labels if "itm" in model.current_tasks else None)
    losses = {key: value for key, value in outputs.items() if key.endswith("_loss")}
    assert losses.keys() == expected.keys()
    for key, value in expected.items():  # losses are taken in float32
        assert torch.allclose(losses[key].double(), value.double(), rtol=1e-6, atol=1e-6), key
    got = gradients(model, losses)
    scale = max(float(gradient.abs().max()) for gradient in wanted.values())
    for name, gradient in wanted.items():
        assert torch.isfinite(got[name]).all()
        # Equal candidates cancel each other: then the float32 rounding of the loss is all that is left.
        assert torch.allclose(got[name], gradient, atol=1e-5 * scale + 1e-7), name


CAPS = st.sampled_from([-1, 1, 5, 200])


@settings(max_examples=20, deadline=None)
@given(batches(), CAPS)
def test_pretraining_equals_the_plain_computation(drawn: tuple[Batch, Tensor], cap: int) -> None:
    check_step(vilt(("itm", "mlm", "mpp"), max_image_len=cap), *drawn)


@settings(max_examples=8, deadline=None)
@given(batches(), CAPS)
def test_retrieval_training_equals_the_plain_computation(drawn: tuple[Batch, Tensor], cap: int) -> None:
    model = vilt(("irtr",), max_image_len=cap, loss_names={**vilt(()).config["loss_names"], "itm": 0.5, "irtr": 1})
    assert model.current_tasks == ["irtr"]
    check_step(model, *drawn)


@settings(max_examples=5, deadline=None)
@given(batches(), CAPS)
def test_vqa_equals_the_plain_computation(drawn: tuple[Batch, Tensor], cap: int) -> None:
    check_step(vilt(("vqa",), max_image_len=cap), *drawn)


@settings(max_examples=5, deadline=None)
@given(batches(), CAPS)
def test_nlvr2_equals_the_plain_computation(drawn: tuple[Batch, Tensor], cap: int) -> None:
    batch, itm_labels = drawn
    check_step(vilt(("nlvr2",), max_image_len=cap), image_pair(batch), itm_labels)


@settings(max_examples=5, deadline=None)
@given(batches(), st.sampled_from([("mlm",), ("itm",), ("mpp",)]))
def test_one_objective_alone(drawn: tuple[Batch, Tensor], tasks: tuple[str, ...]) -> None:
    check_step(vilt(tasks), *drawn)


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
    assert watch.shapes == {"mlp": [(mlm, 16), (itm, 16)], "attention": [(mlm, 16), (itm, 16)]}


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


# Corners -------------------------------------------------------------------------------------------------


def test_a_batch_without_a_masked_token_has_loss_0_and_finite_gradients() -> None:
    model = vilt()
    outputs = model(batch_of([5, 4], masked=[]), torch.tensor([0, 1]))
    assert outputs["mlm_loss"] == 0
    assert all(torch.isfinite(g).all() for g in gradients(model, {"mlm": outputs["mlm_loss"]}).values())


def test_captions_without_words_are_no_nan() -> None:
    model = vilt()
    outputs = model(batch_of([2, 2], masked=[]), torch.tensor([0, 1]))
    losses = {key: value for key, value in outputs.items() if key.endswith("_loss")}
    assert losses["itm_wpa_loss"] == 0
    assert all(torch.isfinite(g).all() for g in gradients(model, losses).values())


def test_drawn_matching_labels_are_returned() -> None:
    outputs = vilt()(batch_of([5, 4, 6, 7, 3]))
    assert sorted(outputs["itm_labels"].tolist()) == [0, 0, 0, 1, 1]  # odd: one negative more


def test_without_a_task_forward_is_infer() -> None:
    model, batch = vilt(()), batch_of([5, 4])
    outputs, expected = model(batch), model.infer(batch)
    assert outputs.keys() == expected.keys()
    assert torch.equal(outputs["cls_feats"], expected["cls_feats"])


def test_infer_takes_the_official_arguments_and_returns_the_official_keys() -> None:
    model, batch = vilt(), batch_of([5, 4], sizes=[(3, 4), (2, 1)])
    clean = model.infer(batch)
    shapes = {key: tuple(value.shape) for key, value in clean.items() if isinstance(value, Tensor)}
    states = {"text_feats": (2, 5, 16), "image_feats": (2, 13, 16), "cls_feats": (2, 16), "raw_cls_feats": (2, 16)}
    inputs = {"image_masks": (2, 13), "text_labels": (2, 5), "text_ids": (2, 5), "text_masks": (2, 5)}
    assert shapes == {**states, **inputs}
    patch_index, grid = clean["patch_index"]
    assert clean["image_labels"] is None and patch_index.shape == (2, 12, 2) and grid == GRID
    assert clean["image_masks"].sum(dim=1).tolist() == [1 + 12, 1 + 2]
    assert torch.equal(clean["raw_cls_feats"], clean["text_feats"][:, 0])
    assert torch.equal(model.infer(batch, mask_text=True)["text_ids"], batch["text_ids_mlm"])
    again = model.infer(
        batch, image_embeds=model.encode_image(batch["image"][0]).states, image_masks=clean["image_masks"]
    )
    assert torch.allclose(again["cls_feats"], clean["cls_feats"], atol=1e-6) and again["patch_index"] is None


def test_infer_reads_the_second_image_with_its_own_modality() -> None:
    model = vilt(("nlvr2",))
    batch = image_pair(batch_of([5, 4]))
    second = model.infer(batch, image_token_type_idx=2)["cls_feats"]
    alone = {**batch, "image": batch["image_1"], "sizes": {}}
    del alone["image_0"], alone["image_1"]
    assert torch.allclose(second, model.infer(alone, image_token_type_idx=2)["cls_feats"], atol=1e-6)
    assert not torch.allclose(second, model.infer(alone)["cls_feats"])


def test_sizes_tell_a_grey_image_from_padding() -> None:
    """A pixel whose channels sum to 0 is one where the batch says so, and padding where it does not."""
    model, batch = vilt(), batch_of([5, 4])
    batch["image"][0][1] = 0
    assert model.infer(batch)["image_masks"].sum(dim=1).tolist() == [13, 13]
    del batch["sizes"]
    with pytest.raises(ValueError, match=r"image 1 of the batch .* batch\['sizes'\]"):
        model.infer(batch)


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
    mlm, itm = kept
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
    assert len(watch.shapes["mlp"]) == 2
    (outputs["mlm_loss"] + outputs["itm_loss"]).backward()
    assert len(watch.shapes["mlp"]) == (4 if checkpointing else 2)


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
