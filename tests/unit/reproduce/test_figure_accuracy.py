"""Masked-token accuracy of Fig. 2: token by token, from the same sentences, with the image and without."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from reproduce.figures.accuracy import masked_sentences, masked_token_accuracy
from reproduce.figures.unused_tokens import accuracies, relative_drop
from tests.unit.reproduce.figure_parts import CASES, Batch, Case, other_images

LENGTHS = [[7, 5, 9], [6, 8]]


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    torch.manual_seed(0)
    return CASES[request.param]


def batches(case: Case) -> list[Batch]:
    return [case.batch_of(lengths) for lengths in LENGTHS]


@torch.no_grad()
def one_by_one(case: Case, models: Any, found: list[Batch]) -> dict[str, float]:
    """Every masked token alone, from the whole sentence's full pass."""
    right, count = {"with_image": 0, "text_only": 0}, 0
    for batch in found:
        masked = batch["text_labels_mlm"] != -100
        ids = batch["text_ids"].masked_fill(masked, case.vocabulary.mask_id)
        n = ids.shape[1]
        for row, place in masked.nonzero().tolist():
            count += 1
            target, at = int(batch["text_ids"][row, place]), torch.tensor([row * n + place])
            right["with_image"] += int(models.with_image.mlm_logits_at(batch, ids, at)[0].argmax()) == target
            length = int(batch["text_masks"][row].sum())
            alone = ids[row : row + 1, :length]
            if models.text_only.config.append_sep:
                alone = torch.cat([alone, torch.tensor([[case.vocabulary.sep_id]])], dim=1)
            logits = models.text_only.language_model(input_ids=alone).logits
            right["text_only"] += int(logits[0, place].argmax()) == target
    return {name: number / count for name, number in right.items()}


def rigged(case: Case) -> tuple[Any, list[Batch]]:
    """Models, and batches whose masked tokens are now and then what one of the models says."""
    models, found = case.models(), batches(case)
    for batch in found:
        masked = batch["text_labels_mlm"] != -100
        ids = batch["text_ids"].masked_fill(masked, case.vocabulary.mask_id)
        places = masked.flatten().nonzero().squeeze(1)
        with torch.no_grad():
            said = [predict(batch, ids, places).argmax(dim=-1) for predict in models.predict().values()]
        for number, place in enumerate(places.tolist()):
            if number % 3 < 2:
                batch["text_ids"].view(-1)[place] = said[number % 3][number]
                batch["text_labels_mlm"].view(-1)[place] = said[number % 3][number]
    return models, found


def test_accuracy_is_that_of_every_masked_token_alone(case: Case) -> None:
    models, found = rigged(case)
    read = masked_sentences(case.vocabulary.mask_id)
    accuracy = masked_token_accuracy(models, lambda: found, read)
    assert accuracy == pytest.approx(one_by_one(case, models, found))
    assert all(0 < value < 1 for value in accuracy.values())


def test_both_models_read_the_same_sentences_and_are_asked_for_the_same_tokens(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    models, asked = case.models(), dict[str, list[Tensor]]()
    for module, method in ((models.with_image, "mlm_logits_at"), (models.text_only, "logits")):
        plain = getattr(module, method)

        def watched(*arguments: Any, plain: Any = plain, method: str = method) -> Tensor:
            sentences, places = arguments[-2 if method == "mlm_logits_at" else 0], arguments[-1]
            asked.setdefault(method, []).extend([sentences, places])
            return plain(*arguments)

        monkeypatch.setattr(module, method, watched)
    masked_token_accuracy(models, lambda: batches(case), masked_sentences(case.vocabulary.mask_id))
    pairs = list(zip(asked["mlm_logits_at"], asked["logits"], strict=True))
    assert len(pairs) == 2 * len(LENGTHS) and all(torch.equal(*pair) for pair in pairs)
    for batch, (sentences, _) in zip(batches(case), pairs[::2], strict=True):
        masked = batch["text_labels_mlm"] != -100
        assert torch.equal(sentences == case.vocabulary.mask_id, masked)


def test_the_language_model_is_blind_and_the_other_is_not(case: Case) -> None:
    models, (batch, _) = case.models(), batches(case)
    places = (batch["text_labels_mlm"] != -100).flatten().nonzero().squeeze(1)
    with torch.no_grad():
        for name, predict in models.predict().items():
            seen, changed = (predict(each, batch["text_ids_mlm"], places) for each in (batch, other_images(batch)))
            assert torch.equal(seen, changed) == (name == "text_only")


def test_the_models_are_left_in_the_mode_that_they_had(case: Case) -> None:
    models = case.models()
    models.with_image.train()
    masked_token_accuracy(models, lambda: batches(case), masked_sentences(case.vocabulary.mask_id))
    assert models.with_image.training and not models.text_only.training


def test_nothing_corrupted_is_the_plain_accuracy(case: Case) -> None:
    models, found = rigged(case)
    plain = masked_token_accuracy(models, lambda: found, masked_sentences(case.vocabulary.mask_id))
    by_share = accuracies(models, lambda: found, case.generator("fixed"), (0.0, 1.0), seed=0)
    assert {name: values[0] for name, values in by_share.items()} == plain
    again = accuracies(models, lambda: found, case.generator("fixed"), (0.0,), seed=1)
    assert {name: values[0] for name, values in again.items()} == plain


def test_the_drop_is_relative_to_nothing_corrupted() -> None:
    drop = relative_drop({"with_image": [0.8, 0.6], "text_only": [0.5, 0.0]})
    assert drop["with_image"] == pytest.approx([0.0, 0.25]) and drop["text_only"] == [0.0, 1.0]
    with pytest.raises(ValueError, match="text alone: no masked token is found"):
        relative_drop({"with_image": [0.8], "text_only": [0.0]})


def test_without_a_masked_token_there_is_no_accuracy(case: Case) -> None:
    (batch, _) = batches(case)
    batch["text_labels_mlm"].fill_(-100)
    with pytest.raises(ValueError, match="no token of the held-out pairs is masked"):
        masked_token_accuracy(case.models(), lambda: [batch], masked_sentences(case.vocabulary.mask_id))
