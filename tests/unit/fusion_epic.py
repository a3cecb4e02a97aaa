"""What the tests of EPIC in ALBEF and in X-VLM share."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from epic_common.config import EpicConfig
from epic_common.generator import build_generator
from epic_common.separator import append_sep
from epic_common.teacher import SasSnapshot, Teacher
from epic_common.vocabulary import Vocabulary
from epic_vlp.extension import EpicExtension
from epic_vlp.lightning_epic import WITH_SEP
from epic_vlp.loader_plan import EpicPlan
from tests.unit.epic.tiny import language_model
from tests.unit.small_parts import Batch
from vlp.nn.cross_attention import Seen
from vlp.nn.step_plan import step_plan


def add_epic(model: Any, epic: EpicExtension, settings: EpicConfig, vocabulary: Vocabulary, teacher: Any) -> Any:
    """A small student with EPIC, as attach_epic builds it; ``teacher`` () -> its frozen model."""
    lm = language_model("bert", size=vocabulary.size) if settings.replacement == "lm" else None
    held = Teacher(teacher(), settings.saliency_layer) if settings.needs_teacher else None
    model.epic = epic.epic(
        settings,
        vocabulary,
        epic.text_width(model.config),
        build_generator(settings, vocabulary, lm, epic.image_width(model.config)),
        teacher=held if settings.scores_from_teacher else None,
        snapshot=SasSnapshot(held) if settings.replacement == "vlm" and held is not None else None,
    )
    return model.eval()


def planned(model: Any, batch: Batch) -> Batch:
    """The batch as the loader of a run makes it."""
    batch = {**batch, **step_plan(batch)}
    return batch if model.epic is None else {**batch, **EpicPlan(model.epic, model.config, None)(batch)}


def read_alike(model: Any, batch: Batch) -> Batch:
    """The batch without a plan, but for how f_L stores its sentences, so that losses are equal to the bit.

    Without that f_L gets them padded: (4, 10, d) in place of (1, 29, d). A product's sums run in an order that BLAS
    chooses by its shape and the threads, so its logits differ by 2e-6, and L_GEN's last bit is a matter of luck.
    ``test_lightning_epic.py`` compares the two ways.
    """
    return {**batch, **{key: value for key, value in planned(model, batch).items() if key == WITH_SEP}}


def corruptions_of(epic: Any) -> list[Any]:
    """What ``epic`` makes of its sentences from now on."""
    made, corrupt = list[Any](), epic.corrupt

    def watched(*args: Any, **options: Any) -> Any:
        made.append(corrupt(*args, **options))
        return made[-1]

    epic.corrupt = watched
    return made


@torch.no_grad()
def plain_epic_losses(
    model: Any,
    batch: Batch,
    vocabulary: Vocabulary,
    drawn: tuple[Tensor, Tensor],
    image: Tensor,
    image_mask: Tensor | None = None,
) -> dict[str, float]:
    """docs/method.md §2, steps 5-9, token by token from full passes over the sentence that the step drew.

    Args:
        drawn: which tokens were masked, (B, n) bool, and the corrupted sentences (B, n).
        image: (B, N, c), what each sentence is true of; image_mask (B, N) bool, which of it can be seen.
    """
    ids, mask, generator, (masked, corrupted) = batch["text_ids"], batch["text_masks"], model.epic.generator, drawn
    long_ids, long_mask = append_sep(ids.masked_fill(masked, vocabulary.mask_id), mask, vocabulary)
    words = generator.language_model.get_input_embeddings()(long_ids)
    if model.epic.config.image_conditioned:
        words[:, 0] = generator.image_map(image[:, 0])
    log_p = generator.language_model(inputs_embeds=words, attention_mask=long_mask).logits.log_softmax(-1)
    gen = [-float(log_p[b, i, ids[b, i]]) for b, i in masked.nonzero().tolist()]
    itc = list[float]()
    for row in range(len(ids)):
        one, n = slice(row, row + 1), int(mask[row].sum())
        layout = model.text_layout(step_plan({"text_masks": mask[one, :n]})["plan"]["text"])
        seen = Seen(mask=None if image_mask is None else image_mask[one])
        states = model.bert.fuse(model.bert.text(corrupted[one, :n], layout), layout, image[one], seen)
        d = torch.sigmoid(model.epic.head(states)).double()
        same = corrupted[row] == ids[row]
        itc += [-math.log(d[i] if same[i] else 1 - d[i]) for i in range(1, n)]
    return {"epic_itc_loss": 8 * sum(itc) / len(itc), "epic_gen_loss": sum(gen) / len(gen)}
