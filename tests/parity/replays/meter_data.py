"""METER's data pieces: transforms, RandAugment, answers, learning rates, tokenisers, masking.

Every output says in `args` which function makes it and from which inputs.

Source: docs/official/meter.md §3, §6.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np

from tests.parity.replays import Fixture, Outputs, replay
from tests.parity.replays.data_pieces import (
    learning_rates,
    mask_statistics,
    normalized,
    randaugment_op,
    transformed,
    vqa_scores,
)
from tests.tokenizers import tokenizer_from_files
from vlp.data.masking import MlmMasker
from vlp.data.randaugment import OPERATIONS, RandAugment
from vlp.data.tokenizers import encode
from vlp.data.transforms import build_transform


@replay("meter", "data")
def data(fixture: Fixture, mode: str) -> Outputs:
    pieces = _Pieces(fixture)
    functions: dict[str, Callable[..., np.ndarray]] = {
        "transform": pieces.transform,
        "randaugment_op": pieces.randaugment_op,
        "normalize_word": pieces.normalize_word,
        "vqa_score": pieces.vqa_score,
        "learning_rate": pieces.learning_rate,
        "tokenize": pieces.tokenize,
    }
    for name in fixture.required(mode):
        args = dict(fixture.arrays[name]["args"])
        function = args.pop("function")
        if function == "randaugment_table":
            yield name, randaugment_table(**args)[name]
        elif function == "mask_statistics":
            yield name, partial(pieces.mask_statistics_of, name.rsplit(".", 1)[1], **args)
        else:
            yield name, partial(functions[function], **args)


def randaugment_table(n: int, m: float) -> dict[str, np.ndarray]:
    """The operations in order, the range of each and its value at magnitude m; n and m are RandAugment's defaults."""
    assert (RandAugment().n, RandAugment().m) == (n, m)
    return {
        "randaug_op": np.array([op.name for op in OPERATIONS]),
        "randaug_min": np.array([op.low for op in OPERATIONS], dtype=np.float64),
        "randaug_max": np.array([op.high for op in OPERATIONS], dtype=np.float64),
        "randaug_value": np.array([op.value(m) for op in OPERATIONS]),
    }


class _Pieces:
    """The functions of `args`, by name; parameters are the other entries of `args`."""

    def __init__(self, fixture: Fixture) -> None:
        self.fixture = fixture
        files = fixture.inputs
        self.tokenizers = {
            "bert": tokenizer_from_files(fixture.file(files["bert_vocab"])),
            "roberta": tokenizer_from_files(
                fixture.file(files["roberta_vocab"]), fixture.file(files["roberta_merges"])
            ),
        }
        self.mask_statistics = cache(self._mask_statistics)  # three arrays a text come from the same trials

    def mask_statistics_of(self, what: str, **args: Any) -> np.ndarray:
        return self.mask_statistics(**args)[what]

    def transform(self, key: str, size: int, image: str, mode: str, reduce: str | None) -> np.ndarray:
        assert build_transform(key, size).mode == mode
        out = transformed(self.fixture.inputs[image], key, size)
        return out.mean(axis=(1, 2), dtype=np.float64) if reduce == "mean" else out

    def randaugment_op(self, op: str, value: float, sign: str, image: str) -> np.ndarray:
        return randaugment_op(self.fixture.inputs[image], op, value, {"plus": 0.0, "minus": 1.0}[sign])

    def normalize_word(self, input: str) -> np.ndarray:
        return normalized(self.fixture.inputs[input])

    def vqa_score(self, input: str) -> np.ndarray:
        return vqa_scores(self.fixture.inputs[input])

    def learning_rate(self, steps: str, **schedule: Any) -> np.ndarray:
        return learning_rates(self.fixture.inputs[steps], **schedule)

    def tokenize(self, text: str, tokenizer: str, max_len: int) -> np.ndarray:
        (ids,) = encode(self.tokenizers[tokenizer], [str(self.fixture.inputs[text])], max_len).ids
        return np.array(ids)

    def _mask_statistics(
        self, text: str, tokenizer: str, max_len: int, whole_word: bool, mlm_prob: float, trials: int
    ) -> dict[str, np.ndarray]:
        masker = MlmMasker(self.tokenizers[tokenizer], mlm_prob, whole_word)
        return mask_statistics(masker, self.tokenize(text, tokenizer, max_len).tolist(), trials)
