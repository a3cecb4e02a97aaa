"""ViLT's steps by a closed formula, and the formula against FLOPs that were counted from the official code."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from benchmarks.step import parameters
from benchmarks.vilt_step import ViltSteps
from tests.unit.benchmarks.products import BOTH, FORWARD, NO_PIXELS, attention, block, flops_by_part, linear

ITERATIONS = 50  # of IPOT


class Shape(NamedTuple):
    """A ViLT, its images, and the masked language model beside it (``lm_layers``, of the same widths)."""

    grid: int  # patches of an image
    kept: int  # of them, at most max_image_len
    table: int  # entries of the position table
    pixels: int  # numbers of a patch
    tokens: int
    width: int
    mlp: int
    layers: int
    lm_layers: int
    words: int

    @property
    def joint(self) -> int:
        """Text, class token, patches."""
        return self.tokens + 1 + self.kept

    @property
    def patches(self) -> int:
        return linear(self.grid, self.pixels, self.width)

    @property
    def positions(self) -> int:
        """The position table, interpolated by a product: the official code does it without one."""
        return linear(self.kept, self.table, self.width)

    @property
    def embedding(self) -> int:
        """Forward and backward."""
        return NO_PIXELS * (self.patches + self.positions)

    @property
    def blocks(self) -> int:
        return self.layers * block(self.joint, self.width, self.mlp)

    @property
    def pooler(self) -> int:
        return linear(1, self.width, self.width)

    def vocabulary(self, rows: int) -> int:
        """A masked language model's head."""
        return linear(rows, self.width, self.width) + linear(rows, self.width, self.words)

    @property
    def matching(self) -> int:
        """Forward and backward of ITM's head and the alignment: cosines, and the plan, which takes no gradient."""
        plan = ITERATIONS * 2 * linear(1, 1 + self.kept, self.tokens)
        return BOTH * (linear(1, self.width, 2) + linear(self.tokens, self.width, 1 + self.kept)) + plan

    @property
    def transformer(self) -> int:
        """An MLM pass, which pools for nothing, and an ITM pass."""
        return 2 * BOTH * self.blocks + (FORWARD + BOTH) * self.pooler

    @property
    def official_step(self) -> int:
        """FLOPs of one pair: two passes, everything anew and at all positions."""
        return 2 * self.embedding + self.transformer + BOTH * self.vocabulary(self.tokens) + self.matching

    @property
    def teacher(self) -> int:
        return self.patches + self.blocks + self.pooler

    @property
    def generator(self) -> int:
        encoder = self.lm_layers * block(self.tokens, self.width, self.mlp)
        return BOTH * (encoder + self.vocabulary(self.tokens))

    @property
    def student_pass(self) -> int:
        """The ITC pass in full, with a linear head on every token."""
        return self.embedding + BOTH * (self.blocks + linear(self.tokens, self.width, 1)) + FORWARD * self.pooler

    @property
    def naive_epic(self) -> int:
        return self.official_step + self.teacher + self.positions + self.generator + self.student_pass


TINY = Shape(16, 16, 16, 3 * 16**2, 30, 128, 512, 4, 2, 1000)
OFFICIAL = Shape(144, 144, 144, 3 * 32**2, 40, 768, 3072, 12, 12, 30522)
WIDEST = OFFICIAL._replace(grid=12 * 19, kept=200)  # 384 x 608 pixels
GFLOP_OF_4 = 4 / 1e9  # the official code was counted in batches of 4


@pytest.fixture(scope="module")
def steps() -> ViltSteps:
    return ViltSteps("tiny")


def test_the_formula_gives_what_was_counted_from_the_official_code() -> None:
    """GFLOP of 4 pairs, forward and backward; the interpolation was no product there."""
    anchors = {
        "patch embedding": (2 * NO_PIXELS * OFFICIAL.patches, 10.9),
        "joint transformer and pooler": (OFFICIAL.transformer, 784.5),
        "vocabulary": (BOTH * OFFICIAL.vocabulary(40), 23.1),
        "matching and alignment": (OFFICIAL.matching, 0.12),
        "official step": (OFFICIAL.official_step - 2 * NO_PIXELS * OFFICIAL.positions, 818.6),
        "teacher": (OFFICIAL.teacher, 133.5),
        "generator": (OFFICIAL.generator, 105.3),
        "student pass": (OFFICIAL.student_pass - NO_PIXELS * OFFICIAL.positions, 397.7),
        "official step, widest": (WIDEST.official_step - 2 * NO_PIXELS * WIDEST.positions, 1074.4),
    }
    for name, (flops, counted) in anchors.items():
        assert flops * GFLOP_OF_4 == pytest.approx(counted, abs=0.06), name
    assert OFFICIAL.naive_epic / OFFICIAL.official_step == pytest.approx(1.778, abs=5e-4)
    assert WIDEST.naive_epic / WIDEST.official_step == pytest.approx(1.752, abs=5e-4)


@pytest.mark.parametrize("lengths", [[30, 30], [5, 12]], ids=["full", "padded"])
def test_the_official_step_and_naive_epic_cost_what_their_shapes_say(steps: ViltSteps, lengths: list[int]) -> None:
    """At any length: the official code computes its padding."""
    assert sum(flops_by_part(steps, "vanilla_official", lengths).values()) == len(lengths) * TINY.official_step
    naive = flops_by_part(steps, "epic_naive", lengths)
    assert naive["teacher"] == len(lengths) * TINY.teacher
    assert naive["generator"] == len(lengths) * TINY.generator
    assert sum(naive.values()) == len(lengths) * TINY.naive_epic


@pytest.mark.slow
@pytest.mark.parametrize(("size", "shape"), [("official", OFFICIAL), ("widest", WIDEST)])
def test_the_large_sizes_are_those_of_the_formula(size: str, shape: Shape) -> None:
    steps = ViltSteps(size)
    assert sum(flops_by_part(steps, "vanilla_official", [40, 40]).values()) == 2 * shape.official_step
    assert sum(flops_by_part(steps, "epic_naive", [40, 40]).values()) == 2 * shape.naive_epic
    assert parameters(steps.variant("vanilla")) == {"trained": 135_660_092, "frozen": 0}  # the official pre-training's


def pass_of(states: int, longest: int, size: int, read: int, most_read: int, s: Shape = TINY) -> int:
    """Forward and backward of all blocks over ``states`` tokens in ``size`` rows of ``longest``.

    The last block has keys and values of all tokens and the rest of the ``read`` ones, at most ``most_read`` a row.
    """
    d = s.width
    full = 4 * linear(states, d, d) + size * attention(longest, longest, d) + 2 * linear(states, d, s.mlp)
    last = 2 * linear(states, d, d) + 2 * linear(read, d, d) + 2 * linear(read, d, s.mlp)
    return BOTH * ((s.layers - 1) * full + last + size * attention(most_read, longest, d))


def test_our_step_computes_no_padding_and_nothing_unread(steps: ViltSteps) -> None:
    lengths = [5, 12, 9, 16]
    size, image = len(lengths), 1 + TINY.kept
    states, longest = sum(lengths) + size * image, max(lengths) + image
    masked = (steps.batch(lengths)["text_labels_mlm"] != -100).sum(dim=1)
    read, most_read = int(masked.sum()), int(masked.max())
    assert 0 < read < sum(lengths)

    images = size + size // 2  # the true ones, and the false ones of the mismatched half
    mlm = pass_of(states, longest, size, read, most_read) + BOTH * TINY.vocabulary(read)
    cosines = linear(max(lengths), TINY.width, image)
    plan = ITERATIONS * 2 * linear(1, image, max(lengths))
    itm = pass_of(states, longest, size, states, longest) + size * (BOTH * cosines + plan)
    itm += size * BOTH * (TINY.pooler + linear(1, TINY.width, 2))
    vanilla = images * TINY.embedding + mlm + itm
    assert sum(flops_by_part(steps, "vanilla", lengths).values()) == vanilla

    epic = flops_by_part(steps, "epic_cached", lengths)
    itc = pass_of(states, longest, size, sum(lengths), max(lengths))
    itc += BOTH * linear(size * max(lengths), TINY.width, 1)
    assert sum(epic.values()) - epic["generator"] == vanilla + itc


def test_our_teacher_stops_at_the_scores(steps: ViltSteps) -> None:
    """Of its four blocks: the first whole, the second for text and class token alone, the third's q and k."""
    lengths, d = [5, 12, 9, 16], TINY.width
    size, image = len(lengths), 1 + TINY.kept
    states, longest, read = sum(lengths) + size * image, max(lengths) + image, sum(lengths) + size
    passed = pass_of(states, longest, size, read, max(lengths) + 1, TINY._replace(layers=2)) // BOTH
    scores = linear(sum(lengths), d, d) + linear(size, d, d) + size * linear(1, d, max(lengths))
    ours = sum(flops_by_part(steps, "epic", lengths).values())
    cached = sum(flops_by_part(steps, "epic_cached", lengths).values())
    assert ours - cached == size * (TINY.patches + TINY.positions) + passed + scores
