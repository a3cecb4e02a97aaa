"""ALBEF's steps by a closed formula, and the formula against FLOPs that were counted from the official code."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from tests.unit.benchmarks.products import BOTH, FORWARD, NO_PIXELS, attention, block, linear


class Shape(NamedTuple):
    """An ALBEF, and the masked language model beside it (``lm_layers``, of the same widths); FLOPs of one pair."""

    patches: int
    pixels: int  # numbers of a patch
    image_layers: int
    image_width: int
    image_mlp: int
    tokens: int
    width: int
    mlp: int
    text_layers: int
    fusion_layers: int
    lm_layers: int
    words: int
    embed: int
    queue: int

    @property
    def image(self) -> int:
        """Forward without the patches' projection."""
        return self.image_layers * block(1 + self.patches, self.image_width, self.image_mlp)

    @property
    def pixels_read(self) -> int:
        return linear(self.patches, self.pixels, self.image_width)

    @property
    def image_forward(self) -> int:
        return self.image + self.pixels_read

    @property
    def image_trained(self) -> int:
        return BOTH * self.image + NO_PIXELS * self.pixels_read

    @property
    def text(self) -> int:
        return self.text_layers * block(self.tokens, self.width, self.mlp)

    @property
    def image_keys_and_values(self) -> int:
        """Of one fusion layer."""
        return 2 * linear(1 + self.patches, self.image_width, self.width)

    @property
    def fusion(self) -> int:
        """One row: its text through the fusion layers, beside one image."""
        cross = 2 * linear(self.tokens, self.width, self.width) + self.image_keys_and_values
        cross += attention(self.tokens, 1 + self.patches, self.width)
        return self.fusion_layers * (block(self.tokens, self.width, self.mlp) + cross)

    def vocabulary(self, read: int) -> int:
        """The MLM head at ``read`` positions."""
        return linear(read, self.width, self.width) + linear(read, self.width, self.words)

    def contrast(self, batch: int) -> int:
        """Projections, similarities with the queues, soft targets; forward and backward.

        What a feature is compared with is a constant: the backward is one product.
        """
        projections = linear(1, self.image_width, self.embed) + linear(1, self.width, self.embed)
        compared = 2 * linear(1, self.embed, batch + self.queue)
        return (BOTH + FORWARD) * projections + (NO_PIXELS + FORWARD) * compared

    @property
    def matching(self) -> int:
        return BOTH * 3 * linear(1, self.width, 2)

    def official_step(self, batch: int) -> int:
        """Per pair: each objective's passes, and the momentum model's."""
        online = self.image_trained + BOTH * (2 * self.text + 4 * self.fusion + self.vocabulary(self.tokens))
        momentum = self.image_forward + 2 * self.text + self.fusion + self.vocabulary(self.tokens)
        return online + momentum + self.contrast(batch) + self.matching

    @property
    def teacher(self) -> int:
        return self.image_forward + self.text + self.fusion

    def generator(self, tokens: int) -> int:
        """Its own passes of ``tokens``, logits everywhere."""
        logits = linear(tokens, self.width, self.width) + linear(tokens, self.width, self.words)
        return BOTH * (self.lm_layers * block(tokens, self.width, self.mlp) + logits)

    @property
    def student_pass(self) -> int:
        return self.image_trained + BOTH * (self.text + self.fusion + linear(self.tokens, self.width, 1))


OFFICIAL = Shape(256, 3 * 16**2, 12, 768, 3072, 25, 768, 3072, 6, 6, 12, 30522, 256, 65536)
GFLOP_OF_4 = 4 / 1e9  # the official code was counted in batches of 4


def test_the_formula_gives_what_was_counted_from_the_official_code() -> None:
    """GFLOP of 4 pairs, forward and backward."""
    anchors = {
        "image encoder": (OFFICIAL.image_trained, 555.5),
        "text encoder": (BOTH * 2 * OFFICIAL.text, 51.2),
        "fusion": (BOTH * 4 * OFFICIAL.fusion, 299.8),
        "vocabulary": (BOTH * OFFICIAL.vocabulary(25), 14.4),
        "momentum image encoder": (OFFICIAL.image_forward, 185.6),
        "momentum text encoder": (2 * OFFICIAL.text, 17.1),
        "momentum fusion": (OFFICIAL.fusion, 25.0),
        "momentum vocabulary": (OFFICIAL.vocabulary(25), 4.8),
        "contrast and matching": (OFFICIAL.contrast(4) + OFFICIAL.matching, 0.8),
        "official step": (OFFICIAL.official_step(4), 1154.2),
        "teacher": (OFFICIAL.teacher, 219.1),
        "generator": (OFFICIAL.generator(25), 65.7),
        "student pass": (OFFICIAL.student_pass, 656.1),
    }
    for name, (flops, counted) in anchors.items():
        assert flops * GFLOP_OF_4 == pytest.approx(counted, abs=0.06), name
    naive = OFFICIAL.official_step(4) + OFFICIAL.teacher + OFFICIAL.generator(25) + OFFICIAL.student_pass
    assert naive / OFFICIAL.official_step(4) == pytest.approx(1.815, abs=5e-4)
