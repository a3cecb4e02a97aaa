"""X-VLM's steps by a closed formula, and the formula against FLOPs that were counted from the official code."""

from __future__ import annotations

import copy
from typing import NamedTuple

import pytest

from benchmarks.step import parameters
from benchmarks.xvlm_official import official_batch, official_loss
from benchmarks.xvlm_step import XvlmSteps
from tests.unit.benchmarks.products import BOTH, NO_PIXELS, attention, block, flops_by_part, linear
from vlp.losses.total import losses_of, total_loss


class Shape(NamedTuple):
    """An X-VLM, and the masked language model beside it (``lm_layers``, of the same widths); FLOPs of one pair."""

    res: int
    swin_width: int  # of the first stage
    depths: tuple[int, ...]
    window: int
    tokens: int
    width: int
    mlp: int
    text_layers: int
    fusion_layers: int
    lm_layers: int
    words: int
    embed: int
    masks: int

    @property
    def image_width(self) -> int:
        return self.swin_width << len(self.depths) - 1

    @property
    def seen(self) -> int:
        """Image tokens."""
        return 1 + (self.res // 32) ** 2

    @property
    def pixels_read(self) -> int:
        return linear((self.res // 4) ** 2, 3 * 4**2, self.swin_width)

    @property
    def image(self) -> int:
        """Forward without the patches' projection; a token attends to those of its window."""
        flops, side, width = 0, self.res // 4, self.swin_width
        for stage, depth in enumerate(self.depths):
            rows, of_window = side**2, min(side, self.window) ** 2
            each = 4 * linear(rows, width, width) + 2 * linear(rows, width, 4 * width)
            flops += depth * (each + attention(rows, of_window, width))
            if stage < len(self.depths) - 1:
                side, width = side // 2, 2 * width
                flops += linear(side**2, 2 * width, width)
        return flops

    @property
    def image_trained(self) -> int:
        return BOTH * self.image + NO_PIXELS * self.pixels_read

    @property
    def text(self) -> int:
        return self.text_layers * block(self.tokens, self.width, self.mlp)

    @property
    def fusion(self) -> int:
        """One row: its text through the fusion layers, beside one image."""
        cross = 2 * linear(self.tokens, self.width, self.width) + 2 * linear(self.seen, self.image_width, self.width)
        cross += attention(self.tokens, self.seen, self.width)
        return self.fusion_layers * (block(self.tokens, self.width, self.mlp) + cross)

    def vocabulary(self, read: int) -> int:
        """The MLM head at ``read`` positions."""
        return linear(read, self.width, self.width) + linear(read, self.width, self.words)

    def head(self, answers: int) -> int:
        return linear(1, self.width, 2 * self.width) + linear(1, 2 * self.width, answers)

    def contrast(self, batch: int) -> int:
        projections = linear(1, self.image_width, self.embed) + linear(1, self.width, self.embed)
        return projections + linear(1, self.embed, batch)

    def rows(self, batch: int, passes: int) -> int:
        """What a step does for each text; ``passes`` rows of it go through the fusion layers."""
        trained = 2 * self.text + passes * self.fusion + self.vocabulary(self.masks) + self.contrast(batch)
        return BOTH * (trained + 3 * self.head(2))

    def official_step(self, batch: int) -> int:
        """Per pair: each objective's passes."""
        return self.image_trained + self.rows(batch, 4)

    def official_region_step(self, batch: int, images: int) -> int:
        """Of a whole batch, with a fourth pass and a head for the boxes."""
        return images * self.image_trained + batch * (self.rows(batch, 5) + BOTH * self.head(4))

    @property
    def teacher(self) -> int:
        return self.image + self.pixels_read + self.text + self.fusion

    def generator(self, tokens: int) -> int:
        """Its own passes of ``tokens``, logits everywhere."""
        return BOTH * (self.lm_layers * block(tokens, self.width, self.mlp) + self.vocabulary(tokens))

    @property
    def student_pass(self) -> int:
        return self.image_trained + BOTH * (self.text + self.fusion + linear(self.tokens, self.width, 1))

    def naive_epic(self, batch: int) -> int:
        """Beside the official step; the generator's sentences have a [SEP] more."""
        return self.official_step(batch) + self.teacher + self.generator(self.tokens + 1) + self.student_pass


OFFICIAL = Shape(224, 128, (2, 2, 18, 2), 7, 40, 768, 3072, 6, 6, 12, 30522, 256, 8)
TINY = Shape(64, 16, (2, 2, 2, 2), 2, 40, 128, 512, 2, 2, 4, 1000, 64, 8)
GFLOP_OF_4 = 4 / 1e9  # the official code was counted in batches of 4


def test_the_formula_gives_what_was_counted_from_the_official_code() -> None:
    """GFLOP of 4 pairs, forward and backward."""
    anchors = {
        "image encoder": (OFFICIAL.image_trained, 370.2),
        "text encoder": (BOTH * 2 * OFFICIAL.text, 82.2),
        "fusion": (BOTH * 4 * OFFICIAL.fusion, 238.7),
        "vocabulary": (BOTH * OFFICIAL.vocabulary(8), 4.6),
        "contrast and matching": (BOTH * (OFFICIAL.contrast(4) + 3 * OFFICIAL.head(2)), 0.1),
        "official step": (OFFICIAL.official_step(4), 695.9),
        "teacher": (OFFICIAL.teacher, 157.0),
        "generator": (OFFICIAL.generator(40), 105.3),
        "student pass": (OFFICIAL.student_pass, 471.0),
    }
    for name, (flops, counted) in anchors.items():
        assert flops * GFLOP_OF_4 == pytest.approx(counted, abs=0.06), name
    of_128 = OFFICIAL.official_region_step(128, 48) / 128
    assert of_128 / OFFICIAL.official_step(4) == pytest.approx(0.753, abs=1e-3)


@pytest.fixture(scope="module")
def steps() -> XvlmSteps:
    return XvlmSteps("tiny")


@pytest.mark.parametrize("lengths", [[40, 40], [5, 16, 9, 12]], ids=["full", "padded"])
def test_the_official_steps_and_naive_epic_cost_what_their_shapes_say(steps: XvlmSteps, lengths: list[int]) -> None:
    """Padded to ``max_tokens`` whatever their lengths."""
    size = len(lengths)
    assert sum(flops_by_part(steps, "vanilla_official", lengths).values()) == size * TINY.official_step(size)
    naive = flops_by_part(steps, "epic_naive", lengths)
    assert naive["teacher"] == size * TINY.teacher
    assert naive["generator"] == size * TINY.generator(41)
    assert sum(naive.values()) == size * TINY.naive_epic(size)
    images = round(size * 48 / 128)
    region = flops_by_part(steps, "region_official", lengths)
    assert sum(region.values()) == TINY.official_region_step(size, images)


@pytest.mark.parametrize("stream", ["images", "regions"])
def test_the_official_step_is_ours_computed_otherwise(steps: XvlmSteps, stream: str) -> None:
    """Two pairs, so that each has one possible negative; without dropout and stochastic depth."""
    batch, student = steps.batch([6, 11]), copy.deepcopy(steps.student).eval()
    student.epic = None
    batch = batch["regions"] if stream == "regions" else batch
    theirs = official_loss(copy.deepcopy(student), official_batch(batch, 40), 8)
    ours = losses_of(student(batch))
    assert {"bbox_loss", "giou_loss"} <= ours.keys() or stream == "images"
    assert theirs.item() == pytest.approx(total_loss(ours).item(), rel=1e-5)


def test_what_epic_adds_to_our_step(steps: XvlmSteps) -> None:
    """A saliency cache spares the teacher alone; a batch of regions costs what it costs without EPIC."""
    lengths = [5, 16, 9, 12]
    vanilla, epic, cached = (flops_by_part(steps, name, lengths) for name in ("vanilla", "epic", "epic_cached"))
    scores = len(lengths) * linear(16, TINY.width, 1)
    assert sum(epic.values()) - epic["teacher"] - scores == sum(cached.values())
    assert epic["image encoder"] == vanilla["image encoder"] == len(lengths) * TINY.image_trained
    # One more list of sentences beside the clean and the masked ones, through the text layers.
    assert epic["text encoder"] * 2 == vanilla["text encoder"] * 3


@pytest.mark.slow
def test_the_official_size_is_that_of_the_formula() -> None:
    steps = XvlmSteps("official")
    assert sum(flops_by_part(steps, "vanilla_official", [40, 40]).values()) == 2 * OFFICIAL.official_step(2)
    assert sum(flops_by_part(steps, "epic_naive", [40, 40]).values()) == 2 * OFFICIAL.naive_epic(2)
    assert parameters(steps.variant("vanilla")) == {"trained": 215_637_241, "frozen": 0}
