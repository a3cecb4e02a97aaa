"""SNLI-VE: JSON lines, one premise and hypothesis about a Flickr30k image a line (docs/official/meter.md §3.9)."""

from __future__ import annotations

from vlp.data.conversion.skips import Skips
from vlp.data.errors import DataError
from vlp.data.raw.lazy import LazyRecords
from vlp.data.raw.records import Entailment, EntailmentImage
from vlp.data.raw.source import Source, iter_json_lines

_LABELS = {label: label for label in ("contradiction", "neutral", "entailment")}  # one string each, not one a line


def read_snli(source: Source) -> dict[str, LazyRecords[EntailmentImage]]:
    """Read train, dev and test from ``snli_ve_{split}.jsonl`` and ``Flickr30K/images``, as far as they are there.

    An image comes once, with all its hypotheses, in file order. Lines without a gold label are left out.
    """
    splits = ("train", "dev", "test")
    return {split: _read(source, split) for split in splits if source.optional(split, f"snli_ve_{split}.jsonl")}


def _read(source: Source, split: str) -> LazyRecords[EntailmentImage]:
    by_image = _read_entailments(source, split)
    source.found[f"annotated images in {split}"] = len(by_image)
    image_ids = list(by_image)

    def build(number: int, _: Skips) -> EntailmentImage:
        image_id = image_ids[number]
        path = source.path("Flickr30K/images", f"{image_id}.jpg")
        return EntailmentImage(path, image_id, split, by_image[image_id])

    return LazyRecords(range(len(image_ids)), build)


def _read_entailments(source: Source, split: str) -> dict[str, list[Entailment]]:
    """Group the lines by Flickr30k image id."""
    path = source.root / f"snli_ve_{split}.jsonl"
    by_image: dict[str, list[Entailment]] = {}
    for number, line in iter_json_lines(path):
        place = f"{path.name}, line {number}"
        try:
            image_id = source.text(str(line["Flickr30K_ID"]), place)
            premise, hypothesis, label = (source.text(line[k], place) for k in ("sentence1", "sentence2", "gold_label"))
        except (KeyError, TypeError) as error:
            raise DataError(
                f"{path}, line {number}: not in SNLI-VE's format (Flickr30K_ID, sentence1, sentence2, gold_label): "
                f"{error!r}"
            ) from error
        if label not in _LABELS:
            source.skips.add(f"gold label {label!r}", place)
            continue
        by_image.setdefault(image_id, []).append(Entailment(premise, hypothesis, _LABELS[label]))
    return by_image
