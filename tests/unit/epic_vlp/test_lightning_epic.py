"""What every Lightning baseline gets of EPIC: optimiser groups, parts that fit, and a generator without padding."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from epic_common.generator import build_generator
from epic_common.teacher import SasSnapshot, Teacher
from epic_vlp.lightning_epic import encode_stored
from tests.unit.epic.tiny import VOCABULARY, config_of, language_model
from tests.unit.epic_vlp.kits import METER_KIT, Kit, every
from vlp.nn.packed_text import TextLayout, TextPlan, encode_packed


@every("epic")
def test_epics_parameters_have_groups_of_their_own(kit: Kit, preset: str) -> None:
    model = kit.epic_model(preset)
    (ours,), _ = kit.set_schedule(kit.student(max_steps=10))
    (theirs,), _ = kit.set_schedule(model)
    shape = [
        [(p.shape, group["initial_lr"], group["weight_decay"]) for p in group["params"]] for group in ours.param_groups
    ]
    official = [
        [(p.shape, group["initial_lr"], group["weight_decay"]) for p in group["params"]]
        for group in theirs.param_groups[: kit.official_groups]
    ]
    assert official == shape
    names = {id(p): name for name, p in model.named_parameters()}
    own = {
        names[id(p)]: (group["initial_lr"], group["weight_decay"])
        for group in theirs.param_groups[kit.official_groups :]
        for p in group["params"]
    }
    assert own.keys() == {name for name in names.values() if name.startswith("epic.")}
    for name, (lr, decay) in own.items():
        assert lr == pytest.approx(kit.rates[0 if name.startswith("epic.head") else 1]), name
        assert decay == (0 if "bias" in name or "norm.weight" in name.replace("LayerNorm", "norm") else 0.01), name


def test_the_hash_is_that_of_the_teacher_or_of_the_first_snapshot() -> None:
    for changes in ({}, {"masking": "uniform"}):
        epic = METER_KIT.epic_model("vlm_sas", **changes).epic
        assert epic.teacher_sha256 is None
        (epic.teacher or epic.snapshot).sha256 = "ab"
        assert epic.run_state()["teacher_sha256"] == "ab"
    assert METER_KIT.epic_model("itc_lm").epic.run_state()["teacher_sha256"] is None


def test_parts_that_do_not_fit_are_refused() -> None:
    def build(preset: str, **parts: Any) -> Any:
        config = config_of(preset)
        lm = language_model() if config.replacement == "lm" else None
        generator = build_generator(config, VOCABULARY, lm)
        return METER_KIT.parts.epic(config, VOCABULARY, METER_KIT.width, generator, **parts)

    held = Teacher(METER_KIT.teacher())
    for preset, parts, message in (
        ("epic", {}, r"a teacher is needed where epic\.masking='saliency'"),
        ("itc_lm", {"teacher": held}, r"a teacher is needed where epic\.masking='saliency', and nowhere else"),
        ("vlm_sas", {"teacher": held}, r"a snapshot is needed where epic\.replacement='vlm'"),
        ("epic", {"teacher": held, "snapshot": SasSnapshot(held)}, "a snapshot is needed .* and nowhere else"),
    ):
        with pytest.raises(ValueError, match=message):
            build(preset, **parts)


@every("epic", "lm_cond")
@pytest.mark.parametrize("own", [{}, {"itc_head_lr_mult": 2.5, "generator_lr_mult": 0.5}])
def test_epics_parameters_learn_at_the_rates_that_are_asked_for(kit: Kit, preset: str, own: dict[str, float]) -> None:
    """The ITC head as fast as the pre-training heads: METER multiplies theirs by ``lr_mult_head``, ViLT by nothing."""
    model = kit.epic_model(preset, **own)
    model.config |= {"max_steps": 10, "lr_mult": 11.0, "lr_mult_head": 7.0, "lr_mult_cross_modal": 3.0}
    (optimizer,), _ = kit.set_schedule(model)
    rates = {id(p): group["initial_lr"] for group in optimizer.param_groups for p in group["params"]}
    base = model.config["learning_rate"]
    of_heads = base * {"roberta": 7.0, "bert": 1.0}[kit.baseline.text_family]
    expected = {
        "itm_score": of_heads,
        "epic.head": base * own["itc_head_lr_mult"] if own else of_heads,
        "epic.generator": base * own.get("generator_lr_mult", 1.0),
    }
    for part, rate in expected.items():
        found = {rates[id(p)] for p in model.get_submodule(part).parameters()}
        assert list(found) == [pytest.approx(rate)], part


@every("epic")
@torch.no_grad()
@settings(max_examples=10, deadline=None)
@given(lengths=st.lists(st.integers(3, 9), min_size=1, max_size=5), seed=st.integers(0, 9))
def test_the_generator_runs_without_padding_and_gives_the_same_logits(
    kit: Kit, preset: str, lengths: list[int], seed: int
) -> None:
    epic = kit.epic_model(preset).epic
    batch = kit.batch_of(lengths, padded_to=12, seed=seed)
    ids, mask = batch["text_ids"], batch["text_masks"].bool()
    masked = mask & (torch.rand(mask.shape, generator=torch.Generator().manual_seed(seed)) < 0.5)
    generator: Any = epic.generator
    assert generator.encode is encode_packed
    expected = generator.language_model(
        input_ids=ids.masked_fill(masked, kit.vocabulary.mask_id), attention_mask=mask.long()
    ).logits
    sentence, places = ids.masked_fill(masked, kit.vocabulary.mask_id), masked.flatten().nonzero().squeeze(1)
    layout = TextLayout(TextPlan.of(mask))
    for encode in (None, partial(encode_stored, layout=layout)):
        logits = generator.logits(sentence, mask, places, encode=encode)
        assert torch.allclose(logits, expected[masked], atol=1e-5)
