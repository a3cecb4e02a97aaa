"""Fig. 4: alpha of Eq. 8 by hand, and bars that sum to 1."""

from __future__ import annotations

import pytest
import torch

from epic_common.config import EpicConfig
from epic_common.teacher import Teacher
from reproduce.figures.models import Saliency
from tests.unit.reproduce.figure_parts import CASES


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("temperature", [1.0, 0.25])
def test_alpha_is_the_softmax_of_eq_8_over_the_words(name: str, temperature: float) -> None:
    case = CASES[name]
    pair, teacher = case.pair(), Teacher(case.teacher())  # type: ignore[arg-type]
    alpha = Saliency(teacher, EpicConfig(saliency_temperature=temperature)).alpha(pair)
    with torch.no_grad():
        query, key = teacher.model.query_key(pair.batch, -2)
    heads = query.shape[1]
    scores = [sum(float(query[0, h] @ key[0, h, i]) for h in range(heads)) / heads for i in range(len(alpha))]
    kept = [bool(word) for word in pair.maskable]
    weights = [
        torch.tensor(score / temperature).exp() if word else 0.0 for score, word in zip(scores, kept, strict=True)
    ]
    assert alpha == pytest.approx([float(weight / sum(weights)) for weight in weights], rel=1e-3)
    assert sum(alpha) == pytest.approx(1) and not kept[0] and any(kept)
