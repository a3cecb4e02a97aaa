"""How the masking and the generator of a checkpoint with EPIC corrupt captions of scenes, whose truth is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities import move_data_to_device

from demo.baselines import BASELINES
from epic_common.corruption import Corruption
from epic_vlp.attach import build_epic
from epic_vlp.parts import settings_of
from reproduce.figures.configuration import config_of
from reproduce.figures.masked_data import mlm_config
from reproduce.figures.reading import READERS, PairReader, Spans
from scenes.layout_files import TRAINING, Record, image_file
from scenes.model import Caption, Scene, Span
from scenes.readings import caption_of, read_truth, scene_of
from vlp.baseline import Config, get_baseline
from vlp.checkpoint.loading import load_into
from vlp.checkpoint.weights import WeightsError, read_checkpoint
from vlp.data.errors import DataError
from vlp.data.images import ImageError
from vlp.data.masking import IGNORED
from vlp.files import regular

Batch = dict[str, Any]
TOGETHER = 32  # pairs that are corrupted as one batch
# The step of a baseline, where it takes more than a batch: the weight of ALBEF's soft targets.
_STEPS: dict[str, Callable[[Any, Batch], Any]] = {"albef": lambda model, batch: model(batch, 0.0)}


@dataclass(frozen=True)
class Corrupted:
    """A caption of a scene with n tokens, as EPIC corrupts it.

    Attributes:
        span_of: of each token the span of the caption that it belongs to; None: it is of no span.
        alpha: of each token the probability that it is the first to be masked; they sum to 1.
        replaced: of each token whether it is in T.
        ids: the corrupted sentence.
    """

    scene: Scene
    caption: Caption
    span_of: list[Span | None]
    alpha: list[float]
    replaced: list[bool]
    ids: list[int]


def corruptions(
    baseline: str, checkpoint: Path, changes: Sequence[str], truth: Path, pairs: int, seed: int
) -> tuple[PairReader, Iterator[Corrupted]]:
    """Corrupt captions of the scenes' val and test images once, as the step of a training run does.

    The generator is in eval mode, and nothing is trained or averaged.

    Args:
        baseline: its name.
        checkpoint: of a run with EPIC; what it holds of the run's configuration, teacher and snapshot counts.
        changes: items of the official command line on top of that configuration.
        truth: the scenes' truth file, beside their images.
        pairs: how many captions, evenly spread; all, if there are fewer.
        seed: of the draws.

    Raises:
        ValueError, WeightsError, HubError: configuration, checkpoint, teacher or language model do not serve.
        OSError, ValueError, DataError: nor does the truth, or an image.
    """
    description = get_baseline(baseline)
    config = config_of(description, checkpoint, None, changes, trains=False)
    reader = READERS[baseline](config)
    rows = held_out_captions(read_truth(truth), truth, pairs)
    model = load_student(description, config, checkpoint, reader, seed)
    return reader, _corrupted(baseline, model, reader, rows, truth.parent)


def held_out_captions(records: Sequence[Record], truth: Path, count: int) -> list[tuple[Record, Record]]:
    """``count`` captions of images that are not trained on, evenly spread, each behind the record of its image.

    Raises:
        ValueError: there are none.
    """
    rows = [(each, caption) for each in records if each["split"] not in TRAINING for caption in each["captions"]]
    if not rows:
        raise ValueError(f"{truth}: no image of val or test: make scenes with --val or --test images")
    count = min(count, len(rows))
    return [rows[number * len(rows) // count] for number in range(count)]


def load_student(baseline: Any, config: Config, checkpoint: Path, reader: PairReader, seed: int) -> Any:
    """The model of a checkpoint with EPIC's parts as a run builds them, whose draws ``seed`` decides.

    Raises:
        ValueError, WeightsError, HubError: see :func:`corruptions`.
    """
    settings = settings_of(baseline, config)
    if not settings.enabled:
        raise WeightsError(f"{checkpoint}: was trained without EPIC and corrupts no caption")
    config = {**mlm_config(baseline, config, seed, steps=1), "saliency_cache": "", "compile": False}
    # Running averages of the student, ALBEF's own and EPIC's, stay what the checkpoint has.
    if "momentum" in config:
        config["momentum"] = 1.0
    if settings.teacher == "momentum" and "teacher_decay" in config["epic"]:
        settings = settings_of(baseline, {"epic": {**config["epic"], "teacher_decay": 1.0}})
    model: Any = baseline.model(BASELINES[baseline.name].asked(config, checkpoint))
    model.epic = build_epic(baseline, config, settings, reader.tokenizer, rank=0)
    missing = load_into(model, checkpoint, baseline.layout)
    if of_epic := [name for name in missing if name.startswith("epic.")]:
        raise WeightsError(f"{checkpoint}: lacks {of_epic[0]}, and so what corrupts captions")
    if (state := read_checkpoint(checkpoint, mmap=True).get("epic")) is not None:
        model.epic.load_run_state(state, 0)
        model.epic.set_rng_state(torch.empty(0, dtype=torch.uint8))  # draw by the seed, not where the run stopped
    elif model.epic.snapshot is not None:
        raise WeightsError(f"{checkpoint}: lacks the state of its run, and so the snapshot that replaces tokens")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.eval().to(device)
    model.epic.place_frozen(device)
    model.epic.train()  # each batch goes on drawing; an evaluation would repeat its draws
    model.epic.generator.eval()
    return model


@torch.no_grad()
def _corrupted(
    baseline: str, model: Any, reader: PairReader, rows: Sequence[tuple[Record, Record]], root: Path
) -> Iterator[Corrupted]:
    for start in range(0, len(rows), TOGETHER):
        some = rows[start : start + TOGETHER]
        samples = []
        for record, raw in some:
            path = image_file(root, record)
            try:
                shown = reader.shown(reader.decoded(regular(path).read_bytes()))
            except ImageError as error:
                raise DataError(f"{path}: {error}") from error
            samples.append(({**shown, **reader.read(raw["raw"])}, raw["raw"]))
        read = reader.together(samples)
        batch = move_data_to_device(_with_masked_word(read.batch), model.device)
        corruption = corruption_of_step(model, batch, _STEPS.get(baseline, lambda model, batch: model(batch)))
        for row, (record, raw) in enumerate(some):
            caption = caption_of(raw)
            n = int(read.batch["text_masks"][row].sum())
            yield Corrupted(
                scene_of(record),
                caption,
                spans_of_tokens(caption, read.texts[row], read.spans[row][:n]),
                corruption.log_alpha[row, :n].exp().tolist(),
                corruption.replaced[row, :n].tolist(),
                corruption.input_ids[row, :n].tolist(),
            )


def _with_masked_word(batch: Batch) -> Batch:
    """The batch with what the step's MLM reads: here a label at the first word of each sentence."""
    labels = torch.full_like(batch["text_ids"], IGNORED)
    labels[:, 1] = batch["text_ids"][:, 1]
    return {**batch, "text_ids_mlm": batch["text_ids"], "text_labels_mlm": labels}


class _Corrupted(Exception):
    """Ends a step when EPIC has drawn: what follows is not needed."""

    def __init__(self, corruption: Corruption) -> None:
        super().__init__()
        self.corruption = corruption


def corruption_of_step(model: Any, batch: Batch, step: Callable[[Any, Batch], Any]) -> Corruption:
    """What EPIC makes of a batch in the baseline's own step, whichever masking and generator it has."""
    corrupt = model.epic.corrupt

    def corrupt_and_end(*given: Any, **options: Any) -> Corruption:
        raise _Corrupted(corrupt(*given, **options))

    model.epic.corrupt = corrupt_and_end
    try:
        step(model, batch)
    except _Corrupted as drawn:
        return drawn.corruption
    finally:
        del model.epic.corrupt
    raise AssertionError("the step has corrupted no caption")


def spans_of_tokens(caption: Caption, text: str, tokens: Spans) -> list[Span | None]:
    """The span of a caption that each token of ``text`` belongs to.

    Args:
        text: the caption as a model reads it, with the same letters and digits in their order; it may end earlier.
        tokens: the characters of ``text`` that each token stands for.
    """
    letters = (place for place, letter in enumerate(caption.text) if letter.isalnum())
    places = [next(letters) if letter.isalnum() else -1 for letter in text]

    def span_of(start: int, end: int) -> Span | None:
        inside = [span for span in caption.spans if any(span.start <= place < span.end for place in places[start:end])]
        return inside[0] if inside else None

    return [span_of(start, end) for start, end in tokens]
