"""Retrieval scores of ViLT are those of a full pass for every pair, whatever is computed once.

Source: docs/official/vilt.md §7.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.unit.vilt.small import GRID, PATCH, batch_of, vilt
from vilt.modules.vilt_module import ViLTransformerSS
from vlp.evaluation.retrieval import EncodedCaptions

SIZES = [GRID, (1, 2), (3, 1), (2, 2)]  # of the images, in patches
LENGTHS = [[5, 7, 3], [4, 9]]  # of the captions, in two batches


def images() -> list[Tensor]:
    return [torch.randn(3, PATCH * rows, PATCH * columns) for rows, columns in SIZES]


def captions(model: ViLTransformerSS) -> tuple[list[EncodedCaptions], list[tuple[Tensor, Tensor]]]:
    """As the model encodes them, and every caption's ids and mask alone."""
    batches = [batch_of(lengths, seed=i) for i, lengths in enumerate(LENGTHS)]
    pairs = [(batch["text_ids"], batch["text_masks"]) for batch in batches]
    alone = [(ids[i : i + 1], mask[i : i + 1]) for ids, mask in pairs for i in range(len(ids))]
    return [model.caption_states(ids, mask) for ids, mask in pairs], alone


@torch.no_grad()
def test_scores_are_those_of_every_pair() -> None:
    model = vilt(("itm", "irtr"))
    encoded, alone = captions(model)
    shown = images()
    scores = torch.stack([model.score_captions(image, encoded) for image in shown])
    expected = torch.zeros(len(SIZES), len(alone))
    for i, image in enumerate(shown):
        for j, (ids, mask) in enumerate(alone):
            batch = {"text_ids": ids, "text_masks": mask, "text_labels": ids, "image": [image[None]]}
            expected[i, j] = model.rank_output(model.infer(batch)["cls_feats"])[0, 0]
    assert torch.allclose(scores, expected, atol=1e-5)
    assert min(expected.std(dim=0).min(), expected.std(dim=1).min()) > 1e-3  # pairs differ both ways


@torch.no_grad()
def test_a_grey_image_is_ranked_as_large_as_it_is() -> None:
    """Channels that sum to 0 mark padding in a batch that does not tell its sizes; an image alone has none."""
    model = vilt(("itm", "irtr"))
    encoded, alone = captions(model)
    image = images()[0]
    image[..., 0] = 0
    sizes = {"image": torch.tensor([image.shape[1:]])}
    for score, (ids, mask) in zip(model.score_captions(image, encoded), alone, strict=True):
        batch = {"text_ids": ids, "text_masks": mask, "text_labels": ids, "image": [image[None]], "sizes": sizes}
        assert torch.allclose(score, model.rank_output(model.infer(batch)["cls_feats"])[0, 0], atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("cap", [-1, 3])
def test_an_image_is_embedded_once_and_keeps_its_patches_for_all_captions(cap: int) -> None:
    model = vilt(("itm", "irtr"), max_image_len=cap)
    encoded, _ = captions(model)
    embedded: list[int] = []
    model.transformer.patch_embed.proj.register_forward_pre_hook(lambda _, args: embedded.append(len(args[0])))
    torch.manual_seed(0)
    scores = model.score_captions(images()[0], [*encoded, *encoded])
    assert embedded == [1]
    first, again = scores.chunk(2)
    assert torch.allclose(first, again, atol=1e-6)
