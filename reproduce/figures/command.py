"""``python -m reproduce figure 2a|2b|4|5``: the paper's figures of any checkpoint, as PDF, PNG and JSON."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import Any

from reproduce.figures.configuration import add_model, asked_model
from reproduce.figures.given_pairs import add_pairs, given_pairs
from vlp.arguments import whole
from vlp.checkpoint.weights import WeightsError
from vlp.data.errors import DataError
from vlp.quiet_libraries import quiet_libraries

OUTPUT = Path("runs/reproduce/figures")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The figures, each with its own flags."""
    figures = parser.add_subparsers(dest="figure", required=True, metavar="2a|2b|4|5")
    bias = figures.add_parser("2a", help="masked-token accuracy with the image and without it, along training")
    unused = figures.add_parser("2b", help="its drop where unmasked tokens are corrupted")
    saliency = figures.add_parser("4", help="saliency of a caption's tokens for its image")
    gradcam = figures.add_parser("5", help="Grad-CAM of EPIC's verdict on a word and on its replacement")
    for each in (bias, unused, saliency, gradcam):
        _add_common(each, checkpoint_needed=each in (saliency, gradcam))
    for each in (bias, unused):
        _add_repeats(each)
    unused.add_argument(
        "--language-model",
        default="",
        metavar="FOLDER",
        help="train nothing: compare --checkpoint with this masked language model of the same tokens",
    )
    add_pairs(saliency)
    add_pairs(gradcam, words=True)


def _add_common(parser: argparse.ArgumentParser, checkpoint_needed: bool) -> None:
    if checkpoint_needed:
        add_model(parser)
    else:
        add_model(parser, "whose configuration is trained anew, or of 2b the model", needed=False)
    parser.add_argument("--output", type=Path, help=f"default {OUTPUT}/<baseline>")


def _add_repeats(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--steps", type=whole(1), help="optimiser steps of each model")
    parser.add_argument("--repeats", type=whole(1), default=5, help="seeds, default 5")
    parser.add_argument(
        "--held-out", default="", metavar="FILE", help="pairs like train_file (ALBEF, X-VLM); else the val split"
    )
    parser.add_argument("--held-out-pairs", type=whole(1), default=1000, help="how many, default 1000")


def main(arguments: argparse.Namespace) -> int:
    """Draw a figure, return 0; or 1 after a line for each thing that does not serve."""
    quieten()
    try:
        written = draw(arguments)
    except (ValueError, DataError, WeightsError, OSError) as error:
        print("\n".join(f"error: {line}" for line in str(error).splitlines()), file=sys.stderr)
        return 1
    for path in written:
        print(f"written: {path}")
    return 0


def quieten() -> None:
    """Warnings alone, as plain lines; of transformers errors alone."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    quiet_libraries()


def draw(arguments: argparse.Namespace) -> list[Path]:
    """Draw the figure; the files that were written.

    Raises:
        ValueError, DataError, WeightsError, OSError: naming the flag or the file that does not serve.
    """
    output = arguments.output or OUTPUT / arguments.baseline
    trains = arguments.figure in ("2a", "2b")
    pairs = [] if trains else given_pairs(arguments)
    baseline, config = asked_model(arguments, trains)
    if arguments.figure == "4":
        from reproduce.figures.saliency import figure_4

        return figure_4(baseline, config, arguments.checkpoint, pairs, output)
    if arguments.figure == "5":
        from reproduce.figures.gradcam import figure_5

        return figure_5(baseline, config, arguments.checkpoint, pairs, output)
    return _of_repeats(arguments, baseline, config, output)


def _of_repeats(arguments: argparse.Namespace, baseline: Any, config: dict[str, Any], output: Path) -> list[Path]:
    from reproduce.figures.modality_bias import figure_2a
    from reproduce.figures.repeats import Repeats
    from reproduce.figures.unused_tokens import figure_2b

    compared = arguments.language_model if arguments.figure == "2b" else ""
    if arguments.steps is None and not compared:
        raise ValueError(f"figure {arguments.figure} trains its models: give --steps N")
    repeats = Repeats(
        baseline,
        config,
        output / "figure2",
        count=arguments.repeats,
        steps=arguments.steps or 1,
        held_out=arguments.held_out,
        pairs=arguments.held_out_pairs,
    )
    if arguments.figure == "2a":
        return figure_2a(repeats, output)
    return figure_2b(repeats, output, arguments.checkpoint, compared)
