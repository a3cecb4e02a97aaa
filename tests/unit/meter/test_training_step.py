"""The training step computes what the plain formulas say, each image once and nothing that no objective reads."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from meter.modules.meter_module import METERTransformerSS
from tests.unit.meter.small import IMAGE_SIZE, Batch, batch_of, meter
from tests.unit.small_parts import candidates, gradients
from vlp.sacred_dialect.step_plan import draw_itm_labels
from vlp.sacred_dialect.task_metrics import accuracy

Losses = dict[str, Tensor]


def mixed_images(batch: Batch, itm_labels: Tensor) -> Tensor:
    return torch.stack(
        [(batch["image"] if label else batch["false_image_0"])[0][i] for i, label in enumerate(itm_labels.tolist())]
    )


def plain(model: METERTransformerSS, batch: Batch, itm_labels: Tensor) -> Losses:
    """docs/official/meter.md §5 and §7.1 word for word: a full pass per objective, vocabulary logits everywhere."""
    losses: Losses = {}
    if "mlm" in model.current_tasks:
        result = model.infer(batch, mask_text=True)
        logits = model.mlm_score(result["text_feats"])
        each = F.cross_entropy(logits.flatten(0, 1), result["text_labels"].flatten(), reduction="none")
        count = int((result["text_labels"] != -100).sum())
        losses["mlm_loss"] = each.sum() / count if count else 0 * each.sum()
    if "itm" in model.current_tasks:
        pair = model.infer(batch, img=mixed_images(batch, itm_labels))["cls_feats"]
        losses["itm_loss"] = F.cross_entropy(model.itm_score(pair), itm_labels)
    if "irtr" in model.current_tasks:
        scores = [model.rank_output(model.infer(b)["cls_feats"]) for b in candidates(batch)]
        losses["irtr_loss"] = F.cross_entropy(torch.cat(scores, dim=1), torch.zeros(len(itm_labels)).long())
    return losses


@st.composite
def batches(draw: st.DrawFn, image_size: int = IMAGE_SIZE["clip"]) -> tuple[Batch, Tensor]:
    """A batch of 1 to 4 sentences with any padding, any masked positions (also none), and any matching labels."""
    lengths = draw(st.lists(st.integers(3, 9), min_size=1, max_size=4))
    positions = [(row, column) for row, length in enumerate(lengths) for column in range(1, length - 1)]
    masked = draw(st.lists(st.sampled_from(positions), unique=True, max_size=6))
    labels = draw(st.lists(st.integers(0, 1), min_size=len(lengths), max_size=len(lengths)))
    batch = batch_of(
        lengths, draw(st.integers(0, 12)), masked, image_size, false_texts=2, seed=draw(st.integers(0, 99))
    )
    return batch, torch.tensor(labels)


def check_step(model: METERTransformerSS, batch: Batch, itm_labels: Tensor) -> None:
    model = model.double()
    batch = {key: [v.double() for v in value] if "image" in key else value for key, value in batch.items()}
    expected = plain(model, batch, itm_labels)
    wanted = gradients(model, expected)
    outputs = model(batch, itm_labels)
    losses = {key: value for key, value in outputs.items() if key.endswith("_loss")}
    assert losses.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.allclose(losses[key].double(), value, rtol=1e-6), key  # losses are taken in float32
    got = gradients(model, losses)
    scale = max(float(gradient.abs().max()) for gradient in wanted.values())
    for name, gradient in wanted.items():
        assert torch.isfinite(got[name]).all()
        assert torch.allclose(got[name], gradient, atol=1e-5 * scale), name


@settings(max_examples=20, deadline=None)
@given(batches())
def test_pretraining_equals_the_plain_computation(drawn: tuple[Batch, Tensor]) -> None:
    check_step(meter(), *drawn)


@settings(max_examples=8, deadline=None)
@given(batches(IMAGE_SIZE["swin"]))
def test_swin_pretraining_equals_the_plain_computation(drawn: tuple[Batch, Tensor]) -> None:
    check_step(meter("swin"), *drawn)


@settings(max_examples=8, deadline=None)
@given(batches())
def test_retrieval_training_equals_the_plain_computation(drawn: tuple[Batch, Tensor]) -> None:
    check_step(meter(tasks=("itm", "irtr")), *drawn)


@settings(max_examples=5, deadline=None)
@given(batches(), st.sampled_from([("mlm",), ("itm",)]))
def test_one_objective_alone(drawn: tuple[Batch, Tensor], tasks: tuple[str, ...]) -> None:
    batch, itm_labels = drawn
    model = meter(tasks=tasks)
    outputs = model(batch, itm_labels if "itm" in tasks else None)
    assert [key for key in outputs if key.endswith("_loss")] == [f"{tasks[0]}_loss"]
    assert torch.allclose(outputs[f"{tasks[0]}_loss"], plain(model, batch, itm_labels)[f"{tasks[0]}_loss"], atol=1e-5)


# What is computed ----------------------------------------------------------------------------------------


class Watch:
    """Shapes of what goes into sub-modules during a step."""

    def __init__(self, model: METERTransformerSS, **modules: Any) -> None:
        self.shapes: dict[str, list[tuple[int, ...]]] = {name: [] for name in modules}
        for name, module in modules.items():
            module.register_forward_pre_hook(self._note(name), with_kwargs=True)

    def _note(self, name: str) -> Any:
        def hook(_: Any, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> None:
            self.shapes[name].append(tuple((args[0] if args else kwargs["input_ids"]).shape))

        return hook


@pytest.mark.parametrize("itm_labels", [[0, 0, 0, 0], [0, 1, 0, 1], [1, 1, 1, 1]])
@pytest.mark.parametrize("vision", ["clip", "swin"])
def test_every_distinct_image_goes_through_the_tower_once(vision: str, itm_labels: list[int]) -> None:
    model = meter(vision)
    watch = Watch(model, vision=model.vit_model)
    model(batch_of([5, 4, 6, 3], image_size=IMAGE_SIZE[vision]), torch.tensor(itm_labels))
    assert [shape[0] for shape in watch.shapes["vision"]] == [4 + itm_labels.count(0)]


def test_retrieval_encodes_an_image_once_for_all_its_captions() -> None:
    model = meter(tasks=("itm", "irtr"))
    watch = Watch(model, vision=model.vit_model, text=model.cross_modal_text_transform)
    batch = batch_of([5, 4], false_texts=2)
    model(batch, torch.tensor([0, 1]))
    assert watch.shapes["vision"] == [(3, 3, 32, 32)]
    candidates = sum(int(batch[f"{name}_masks"].sum()) for name in ("text", "false_text_0", "false_text_1"))
    assert sorted(shape[0] for shape in watch.shapes["text"]) == [9, candidates]


def test_vocabulary_logits_at_masked_positions_alone() -> None:
    model = meter()
    watch = Watch(model, decoder=model.mlm_score)
    masked = [(0, 1), (2, 3), (2, 1)]
    outputs = model(batch_of([5, 4, 6], masked=masked), torch.tensor([0, 1, 0]))
    assert watch.shapes["decoder"] == [(3, 16)]
    assert outputs["mlm_logits"].shape == (3, 40) and len(outputs["mlm_labels"]) == 3


def test_no_linear_layer_sees_padding() -> None:
    model = meter()
    text, fusion = model.text_transformer, model.cross_modal_text_layers[0]
    parts: dict[str, Any] = {
        "encoder": text.get_submodule("encoder.layer.0.intermediate"),
        "entering": model.cross_modal_text_transform,
        "fusion": fusion.get_submodule("intermediate"),
        "keys": model.cross_modal_image_layers[0].get_submodule("crossattention.self.key"),
    }
    watch = Watch(model, **parts)
    model(batch_of([5, 7], padded_to=30), torch.tensor([0, 1]))
    assert watch.shapes.pop("encoder") == [(2, 12, 16)]  # both sentences in one row, for MLM and for ITM
    assert all(shapes == [(24, 16)] for shapes in watch.shapes.values())


def test_what_no_head_reads_is_not_computed() -> None:
    """MLM leaves out the last image layer, and of the last text layer all but masked tokens; ITM reads token 0."""
    model = meter()
    last = model.cross_modal_image_layers[-1]
    watch = Watch(model, image=last.intermediate, text=model.cross_modal_text_layers[-1].intermediate)
    model(batch_of([5, 7]), torch.tensor([0, 1]))
    assert watch.shapes["image"] == [(2, 1, 16)]
    assert watch.shapes["text"] == [(2, 16), (2, 1, 16)]


# Corners -------------------------------------------------------------------------------------------------


def test_a_batch_without_a_masked_token_has_loss_0_and_finite_gradients() -> None:
    model = meter()
    outputs = model(batch_of([5, 4], masked=[]), torch.tensor([0, 1]))
    assert outputs["mlm_loss"] == 0
    assert all(torch.isfinite(g).all() for g in gradients(model, {"mlm": outputs["mlm_loss"]}).values())
    assert accuracy(outputs["mlm_logits"], outputs["mlm_labels"]).isnan()


def test_a_batch_of_one_is_a_mismatch() -> None:
    batch = batch_of([5])
    assert draw_itm_labels(1).tolist() == [0]
    outputs = meter()(batch)
    assert outputs["itm_labels"].tolist() == [0] and torch.isfinite(outputs["itm_loss"])


@given(st.integers(1, 9))
def test_matching_labels_are_half_and_half_and_permuted(size: int) -> None:
    torch.manual_seed(0)
    drawn = [draw_itm_labels(size) for _ in range(40)]
    assert {int(labels.sum()) for labels in drawn} == {size // 2}
    if size > 1:
        assert len({tuple(labels.tolist()) for labels in drawn}) > 1


def test_without_a_task_forward_is_infer() -> None:
    model, batch = meter(tasks=()), batch_of([5, 4])
    outputs, expected = model(batch), model.infer(batch)
    assert outputs.keys() == expected.keys()
    assert all(torch.equal(outputs[key], value) for key, value in expected.items())


def test_infer_takes_the_official_arguments() -> None:
    model, batch = meter(), batch_of([5, 4])
    first, second = (torch.randn(2, 3, 32, 32) for _ in range(2))
    clean = model.infer(batch)
    assert clean["text_feats"].shape == (2, 5, 16) and clean["image_feats"].shape == (2, 5, 16)
    assert clean["cls_feats"].shape == (2, 32)
    assert torch.equal(clean["text_labels"], batch["text_labels"])
    assert torch.equal(model.infer(batch, mask_image=True)["cls_feats"], clean["cls_feats"])
    assert torch.equal(model.infer(batch, mask_text=True)["text_ids"], batch["text_ids_mlm"])
    assert torch.equal(
        model.infer({**batch, "image_0": [first]})["cls_feats"], model.infer(batch, img=first)["cls_feats"]
    )
    model.token_type_embeddings = torch.nn.Embedding(3, 16)
    pair = {**batch, "image_0": [first], "image_1": [second]}
    typed = model.infer(pair, image_token_type_idx=2)["cls_feats"]
    assert torch.equal(typed, model.infer(batch, image_token_type_idx=2, img=second)["cls_feats"])
    assert not torch.allclose(typed, model.infer(batch, img=second)["cls_feats"])


@pytest.mark.parametrize("vision", ["clip", "swin"])
def test_gradient_checkpointing_changes_no_number(vision: str) -> None:
    """With dropout: a recomputed layer drops the same units."""
    plain_model = meter(vision, drop_rate=0.3)
    saving = meter(vision, drop_rate=0.3, gradient_checkpointing=True)
    saving.load_state_dict(plain_model.state_dict())
    batch, itm_labels = batch_of([5, 4, 6], image_size=IMAGE_SIZE[vision]), torch.tensor([0, 1, 0])
    results = []
    for model in (plain_model, saving):
        model.train()
        torch.manual_seed(3)
        outputs = model(batch, itm_labels)
        losses = {key: outputs[key] for key in ("mlm_loss", "itm_loss")}
        results.append((losses, gradients(model, losses)))
    (losses, wanted), (saved, got) = results
    assert all(torch.equal(saved[key], value) for key, value in losses.items())
    assert all(torch.allclose(got[key], value, atol=1e-6) for key, value in wanted.items())


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradient_checkpointing_recomputes_all_three_parts(checkpointing: bool) -> None:
    model = meter(gradient_checkpointing=checkpointing).train()
    parts: dict[str, Any] = {
        "vision": model.vit_model.get_submodule("visual.blocks.0"),
        "text": model.text_transformer.get_submodule("encoder.layer.0.intermediate"),
        "fusion": model.cross_modal_text_layers[0],
    }
    watch = Watch(model, **parts)
    outputs = model(batch_of([5, 4]), torch.tensor([0, 1]))
    before = {name: len(shapes) for name, shapes in watch.shapes.items()}
    (outputs["mlm_loss"] + outputs["itm_loss"]).backward()
    assert before == {"vision": 1, "text": 1, "fusion": 1}
    times = 2 if checkpointing else 1
    assert {name: len(shapes) for name, shapes in watch.shapes.items()} == {k: times * n for k, n in before.items()}


def test_every_trained_parameter_gets_a_gradient() -> None:
    """All but CLIP's leftovers and the text pooler, which no objective reads."""
    model = meter()
    outputs = model(batch_of([5, 4]), torch.tensor([0, 1]))
    (outputs["mlm_loss"] + outputs["itm_loss"]).backward()
    without = {name for name, p in model.named_parameters() if p.grad is None}
    leftovers = ("vit_model.positional_embedding", "vit_model.ln_final", "text_transformer.pooler")
    assert without and all(name.startswith(leftovers) for name in without)
