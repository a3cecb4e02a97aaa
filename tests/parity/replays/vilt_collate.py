"""From Arrow files through samples to one collated batch, every random draw forced (fixture ``golden_collate``)."""

from __future__ import annotations

import random
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tests.parity.replays import Fixture, Outputs, replay
from tests.parity.replays.data_pieces import collator, dataset
from tests.parity.replays.vilt_vocabulary import tokenizer
from vilt.datamodules.multitask_datamodule import MTDataModule
from vlp.data.arrow.caption_dataset import CaptionDataset, FalseDraws
from vlp.data.collate import Batch, Collator
from vlp.data.draws import SampleKey
from vlp.data.tokenizers import encode


@replay("vilt", "collate")
def collate(fixture: Fixture, mode: str) -> Outputs:
    collator_of_fixture = collator(tokenizer(fixture), fixture.config)
    (key,) = fixture.config["datasets"]
    spec, split = MTDataModule.specs[key], fixture.inputs["split"]
    with tempfile.TemporaryDirectory() as folder:
        for table in spec.tables(split):
            Path(folder, f"{table}.arrow").write_bytes(fixture.inputs[f"{table}.arrow"].tobytes())
        captions = dataset(spec, split, fixture.config, Path(folder))
        assert isinstance(captions, CaptionDataset)
        items = fixture.inputs["item_index"].tolist()
        draws = [_false(fixture, kind, len(items)) for kind in ("image", "text")]
        captions.forced = {item: FalseDraws(*drawn) for item, *drawn in zip(items, *draws, strict=True)}
        samples = [captions[item] for item in items]
    for name, value in _arrays(collator_of_fixture(samples)):
        if not name.endswith("_mlm"):
            yield name, partial(_drawn, fixture, name, value)
    for row, sample in enumerate(samples):
        sample["_key"] = ForcedKey.of(sample["_key"], _masking(fixture, row, sample["text"], collator_of_fixture))
    yield from (output for output in _arrays(collator_of_fixture(samples)) if output[0].endswith("_mlm"))


def _drawn(fixture: Fixture, name: str, value: Any) -> Any:
    """An array of the batch, if the draws behind it are there: images are padded to the largest, be it a false one."""
    if name in ("image", "image_shape") or name.startswith("false_"):
        fixture.choices[f"false_{'text' if 'text' in name else 'image'}_index"]
    return value


def _false(fixture: Fixture, kind: str, items: int) -> list[list[int]]:
    """The false images or texts of each item; without draws, item 0, which is not compared."""
    count = fixture.config[f"draw_false_{kind}"]
    drawn = fixture.choices.get(f"false_{kind}_index", np.zeros((items, count), dtype=int))
    indices: list[list[int]] = drawn.reshape(items, count).tolist()
    return indices


class ForcedMasking(random.Random):
    """A source whose shuffle gives the words in a stored order, and whose draws are those of a list, in turn."""

    def __init__(self, word_order: list[int], draws: list[float]) -> None:
        super().__init__()
        self._word_order, self._draws = word_order, draws

    def shuffle(self, x: Any) -> None:
        assert sorted(self._word_order) == list(range(len(x)))
        x[:] = [x[i] for i in self._word_order]

    def random(self) -> float:
        return self._draws.pop(0)

    def randrange(self, *arguments: int) -> int:  # type: ignore[override]
        return int(self._draws.pop(0))


@dataclass(frozen=True)
class ForcedKey(SampleKey):
    """A sample's key whose draws for the masking of its caption are forced."""

    masking: ForcedMasking

    @classmethod
    def of(cls, key: SampleKey, masking: ForcedMasking) -> ForcedKey:
        return cls(**vars(key), masking=masking)

    def rng(self, purpose: str) -> random.Random:
        return self.masking if purpose == "mlm text" else super().rng(purpose)


def _masking(fixture: Fixture, row: int, text: str, collate: Collator) -> ForcedMasking:
    """The stored draws of one caption: the order of its words, then those of each position in the order of choice."""
    names = ("word_order", "mask_draw", "random_draw", "random_ids")
    choices = {name: fixture.choices[name][row].tolist() for name in names}
    order = [word for word in choices["word_order"] if word >= 0]
    (ids,) = encode(collate.tokenizer, [text], collate.max_text_len).ids
    draws: list[float] = []
    for position in collate.masker.select(ids, ForcedMasking(order, [])):
        if choices["mask_draw"][position]:
            draws += [0.0]
        else:
            draws += [1.0, 0.0, choices["random_ids"][position]] if choices["random_draw"][position] else [1.0, 1.0]
    return ForcedMasking(order, draws)


def _arrays(batch: Batch) -> Outputs:
    for key, sizes in batch.pop("sizes").items():
        yield f"{key}_sizes", sizes
        yield f"{key}_shape", np.array(batch[key][0].shape)
        yield key, batch.pop(key)[0]
    for key, value in batch.items():
        yield key, np.asarray(value)
