"""Fig. 5: where in the image EPIC's verdict on a word comes from, as the word stands and replaced by another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn

from demo.baselines import BASELINES
from demo.figures import overlay
from demo.judgement import in_words
from reproduce.figures.drawing import Panel, draw_images, enlarged, save
from reproduce.figures.given_pairs import Given
from reproduce.figures.models import Saliency, load_judge
from reproduce.figures.reading import READERS, Pair, PairReader
from reproduce.figures.record import file_record, write_record
from reproduce.figures.words import Word, find_word, likeliest_other_word, most_salient_word, with_word
from vlp.baseline import Config


class Verdict(NamedTuple):
    """EPIC's verdict on a word of a caption."""

    word: str
    consistent: float  # mean of D (Eq. 1) over the word's tokens
    heat: NDArray[np.float32]  # (rows, columns) over the image, mean of the Grad-CAM maps of these tokens


class Asked(NamedTuple):
    """A pair, the word that is looked at, and the caption with another word in its place."""

    pair: Pair
    word: Word
    other: str
    changed: Pair


def figure_5(baseline: Any, config: Config, checkpoint: Path, pairs: Sequence[Given], output: Path) -> list[Path]:
    """Draw for every pair the image, the heat map of a replaced word, and that of the original one.

    Returns:
        the files that were written: figure5_<n>.pdf and .png of every pair, and figure5.json.

    Raises:
        DataError, ImageError, ValueError: naming the pair, or the word, that does not serve.
        WeightsError: the checkpoint does not, or has no EPIC.
    """
    reader = READERS[baseline.name](config)
    read = [reader(given.content(), given.caption) for given in pairs]
    model = load_judge(baseline, config, checkpoint, reader)
    saliency = None
    if not all(given.word for given in pairs):
        saliency = Saliency.of_checkpoint(baseline, config, checkpoint, reader)
    asked = [_asked(model, saliency, reader, given, pair) for given, pair in zip(pairs, read, strict=True)]
    written, rows = list[Path](), []
    for number, (given, each) in enumerate(zip(pairs, asked, strict=True), start=1):
        original = verdict_on(baseline.name, model, each.pair, each.word)
        replaced = verdict_on(baseline.name, model, each.changed, _moved(each.word, each.other))
        rows.append(
            {
                "image": file_record(given.image),
                "caption": each.pair.text,
                "replaced_caption": each.changed.text,
                "original": _numbers(original),
                "replaced": _numbers(replaced),
            }
        )
        written += save(_drawn(each.pair, original, replaced), output / f"figure5_{number}")
    record = write_record(
        output / "figure5.json", "5", baseline.name, checkpoint=file_record(checkpoint), layer=-2, pairs=rows
    )
    return [*written, record]


def verdict_on(name: str, model: nn.Module, pair: Pair, word: Word) -> Verdict:
    """The verdict of the baseline ``name``'s model on a word of a pair."""
    ids: Tensor = pair.ids
    judgement = BASELINES[name].judge(model, dict(pair.batch), ids)
    tokens = pair.tokens_of(word.start, word.end)
    consistent = judgement.logits[0, tokens].sigmoid().mean()
    return Verdict(word.text, consistent.item(), np.mean([judgement.heat(token) for token in tokens], axis=0))


def _asked(model: Any, saliency: Saliency | None, reader: PairReader, given: Given, pair: Pair) -> Asked:
    """Which word, and which other one: those that are given, else the most salient and the generator's likeliest."""
    if given.word:
        word = find_word(pair, given.word)
    else:
        assert saliency is not None
        word = most_salient_word(pair, saliency.alpha(pair))
    if not given.replace:
        return Asked(pair, word, *likeliest_other_word(model.epic.generator, reader, given.content(), pair, word))
    other = reader.cleaned(given.replace)
    changed = reader(given.content(), with_word(pair.text, word, other))
    if other.casefold() == word.text.casefold() or not changed.tokens_of(word.start, word.start + len(other)):
        raise ValueError(f"--replace {given.replace}: no other word than {word.text!r} that the model reads")
    return Asked(pair, word, other, changed)


def _moved(word: Word, other: str) -> Word:
    return Word(other, word.start, word.start + len(other))


def _drawn(pair: Pair, original: Verdict, replaced: Verdict) -> Figure:
    image = enlarged(pair.view)
    words = {f"“{replaced.word}” put for “{original.word}”": replaced, f"“{original.word}” as it stands": original}
    heats = [
        Panel(
            f"{word}\n{in_words(verdict.consistent)}",
            overlay(image, verdict.heat, scale=1),
            float(verdict.heat.max()),
        )
        for word, verdict in words.items()
    ]
    return draw_images([Panel("original image", image), *heats])


def _numbers(verdict: Verdict) -> dict[str, Any]:
    return {"word": verdict.word, "consistent": verdict.consistent, "heat": verdict.heat.tolist()}
