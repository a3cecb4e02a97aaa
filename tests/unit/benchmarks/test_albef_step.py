"""ALBEF's steps by a closed formula, and the formula against FLOPs that were counted from the official code."""

from __future__ import annotations

import copy
from typing import NamedTuple

import pytest

from benchmarks.albef_official import official_loss
from benchmarks.albef_step import AlbefSteps
from benchmarks.step import parameters
from tests.unit.benchmarks.products import BOTH, FORWARD, NO_PIXELS, attention, block, flops_by_part, linear
from vlp.losses.total import total_loss


class Shape(NamedTuple):
    """An ALBEF, and the masked language model beside it (``lm_layers``, of the same widths); FLOPs of one pair."""

    patches: int
    pixels: int  # numbers of a patch
    image_layers: int
    image_width: int
    image_mlp: int
    tokens: int
    width: int
    heads: int
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

    def naive_epic(self, batch: int, of_generator: int) -> int:
        """Beside the official step, with a generator that reads ``of_generator`` tokens."""
        return self.official_step(batch) + self.teacher + self.generator(of_generator) + self.student_pass


OFFICIAL = Shape(256, 3 * 16**2, 12, 768, 3072, 25, 768, 12, 3072, 6, 6, 12, 30522, 256, 65536)
TINY = Shape(16, 3 * 16**2, 3, 128, 512, 16, 128, 4, 512, 2, 2, 4, 1000, 64, 512)
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
    assert OFFICIAL.naive_epic(4, 25) / OFFICIAL.official_step(4) == pytest.approx(1.815, abs=5e-4)


@pytest.fixture(scope="module")
def steps() -> AlbefSteps:
    return AlbefSteps("tiny")


@pytest.mark.parametrize("lengths", [[16, 16], [5, 16, 9, 12]], ids=["full", "padded"])
def test_the_official_step_and_naive_epic_cost_what_their_shapes_say(steps: AlbefSteps, lengths: list[int]) -> None:
    """Padded to the longest sentence; the generator's sentences have a [SEP] more."""
    size = len(lengths)
    assert sum(flops_by_part(steps, "vanilla_official", lengths).values()) == size * TINY.official_step(size)
    naive = flops_by_part(steps, "epic_naive", lengths)
    assert naive["teacher"] == size * TINY.teacher
    assert naive["generator"] == size * TINY.generator(17)
    assert sum(naive.values()) == size * TINY.naive_epic(size, 17)


def test_the_official_step_is_ours_computed_otherwise(steps: AlbefSteps) -> None:
    """Two pairs, so that each has one possible negative; without dropout."""
    batch, student = steps.batch([6, 11]), copy.deepcopy(steps.student).eval()
    student.epic = None
    theirs = official_loss(copy.deepcopy(student), batch, 0.3)
    assert theirs.item() == pytest.approx(total_loss(student(batch, 0.3)).item(), rel=1e-5)


@pytest.mark.slow
def test_the_official_size_is_that_of_the_formula() -> None:
    steps = AlbefSteps("official")
    assert sum(flops_by_part(steps, "vanilla_official", [25, 25]).values()) == 2 * OFFICIAL.official_step(2)
    assert sum(flops_by_part(steps, "epic_naive", [25, 25]).values()) == 2 * OFFICIAL.naive_epic(2, 26)
    # 209.9 million of each; the momentum models lack the matching head and the temperature.
    assert parameters(steps.variant("vanilla")) == {"trained": 209_937_725, "frozen": 209_936_186}


class Stored(NamedTuple):
    """Sentences of one n in a layer: their tokens, and how many of each a layer's attention is asked for."""

    rows: int
    tokens: int
    asking: int  # of all rows
    most_asking: int  # of one


def cross_attention(images: int, of: Stored, s: Shape = TINY) -> int:
    """In the order of products that needs fewer: of projected images, or of projected questions."""
    seen, asked = 1 + s.patches, of.rows * of.most_asking
    projected = images * s.image_keys_and_values + of.rows * attention(of.most_asking, seen, s.width)
    unprojected = 2 * linear(asked, s.width, s.image_width) + 2 * 2 * asked * s.heads * seen * s.image_width
    return 2 * linear(of.asking, s.width, s.width) + min(projected, unprojected)


def layer(of: Stored, longest: int, s: Shape = TINY) -> int:
    """Self-attention and feed-forward block."""
    projections = 2 * linear(of.tokens, s.width, s.width) + 2 * linear(of.asking, s.width, s.width)
    attended = of.rows * attention(of.most_asking, longest, s.width)
    return projections + attended + 2 * linear(of.asking, s.width, s.mlp)


def fused(images: int, rows: int, tokens: int, longest: int, read: int, most_read: int, s: Shape = TINY) -> int:
    """Fusion layers over ``rows`` sentences; the last one gives the ``read`` tokens alone."""
    inner, last = Stored(rows, tokens, tokens, longest), Stored(rows, tokens, read, most_read)
    each = layer(inner, longest) + cross_attention(images, inner)
    return (s.fusion_layers - 1) * each + layer(last, longest) + cross_attention(images, last)


def test_our_step_projects_images_once_and_computes_no_padding_and_nothing_unread(steps: AlbefSteps) -> None:
    lengths, longest = [5, 16, 9, 12], 16
    size, tokens = len(lengths), sum(lengths)
    chosen = (steps.batch(lengths)["text_labels_mlm"] != -100).sum(dim=1)
    masked, most = int(chosen.sum()), int(chosen.max())
    assert 0 < masked < tokens
    text = TINY.text_layers * layer(Stored(size, tokens, tokens, longest), longest)
    # Matched and masked sentences, those with another image, and those of other images with their padding.
    together = (4 * size, 3 * tokens + size * longest, longest, 3 * size + masked, most)
    online = size * TINY.image_trained + BOTH * (2 * text + fused(size, *together) + TINY.vocabulary(masked))
    momentum = size * TINY.image_forward + 2 * text + TINY.vocabulary(masked)
    momentum += fused(size, size, tokens, longest, masked, most)
    vanilla = online + momentum + size * (TINY.contrast(size) + TINY.matching)
    assert sum(flops_by_part(steps, "vanilla", lengths).values()) == vanilla

    epic = flops_by_part(steps, "epic", lengths)
    judged = (5 * size, 4 * tokens + size * longest, longest, 3 * size + masked + tokens, longest)
    itc = BOTH * (text + fused(size, *judged) - fused(size, *together) + linear(size * longest, TINY.width, 1))
    scores = size * linear(longest, TINY.width, 1)
    assert sum(epic.values()) - epic["generator"] - epic["teacher"] == vanilla + itc + scores
