"""Fig. 4: the saliency of a caption's tokens for its image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from demo.examples import token_texts
from reproduce.figures.drawing import draw_bars, save
from reproduce.figures.given_pairs import Given
from reproduce.figures.models import Saliency
from reproduce.figures.reading import READERS, Pair
from reproduce.figures.record import file_record, write_record
from vlp.baseline import Config


def figure_4(baseline: Any, config: Config, checkpoint: Path, pairs: Sequence[Given], output: Path) -> list[Path]:
    """Draw the image of every pair, and a bar of alpha per token; the checkpoint is its own teacher.

    Returns:
        the files that were written: figure4_<n>.pdf and .png of every pair, and figure4.json.

    Raises:
        DataError, ImageError, ValueError: naming the pair that does not serve.
        WeightsError: the checkpoint does not.
    """
    reader = READERS[baseline.name](config)
    read = [reader(given.content(), given.caption) for given in pairs]
    saliency = Saliency.of_checkpoint(baseline, config, checkpoint, reader)
    written, rows = list[Path](), []
    for number, (given, pair) in enumerate(zip(pairs, read, strict=True), start=1):
        tokens, alpha = bars(pair, saliency.alpha(pair), reader.tokenizer)
        rows.append({"image": file_record(given.image), "caption": given.caption, "tokens": tokens, "alpha": alpha})
        written += save(draw_bars(pair.view, tokens, alpha), output / f"figure4_{number}")
    record = write_record(
        output / "figure4.json",
        *("4", baseline.name),
        checkpoint=file_record(checkpoint),
        layer=saliency.settings.saliency_layer,
        temperature=saliency.settings.saliency_temperature,
        pairs=rows,
    )
    return [*written, record]


def bars(pair: Pair, alpha: Sequence[float], tokenizer: Any) -> tuple[list[str], list[float]]:
    """The tokens that have a bar, special ones left out, and their alpha."""
    kept = pair.maskable.nonzero().squeeze(1).tolist()
    return token_texts(tokenizer, pair.ids[0], kept), [alpha[i] for i in kept]
