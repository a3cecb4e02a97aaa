"""ViLT's data pieces: transforms, RandAugment, AdamW, recall, texts, answers, learning rates, masking.

Pieces are told apart by the first word of an array's name.

Source: docs/official/vilt.md §3, §6.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from tests.parity.replays import Fixture, Outputs, once, piece, replay
from tests.parity.replays.data_pieces import (
    learning_rates,
    mask_statistics,
    normalized,
    randaugment_op,
    transformed,
    vqa_scores,
)
from tests.parity.replays.vilt_vocabulary import tokenizer
from vlp.data.masking import IGNORED, MlmMasker
from vlp.data.randaugment import OPERATIONS, RandAugment
from vlp.data.tokenizers import encode
from vlp.data.transforms import pixelbert_size
from vlp.evaluation.recall import recalls
from vlp.training.optim import build_optimizer

_TRIALS = 5  # times as many maskings as the fixture's own frequencies come from


@replay("vilt", "data")
def data(fixture: Fixture, mode: str) -> Outputs:
    inputs = fixture.inputs
    yield from _transforms(fixture)
    yield "resize_out_h_w", lambda: np.array([_resized(*row) for row in inputs["resize_size_h_w"].tolist()])
    yield from _randaugment(fixture)
    yield from _adamw(fixture)
    yield from _recall(fixture)
    yield from _texts(fixture)
    yield "normalize_out", lambda: normalized(inputs["normalize_in"])
    yield from _rates(fixture)
    yield "score_out", lambda: vqa_scores(inputs["score_counts"])
    yield from _masking(fixture)


@piece
def _recall(fixture: Fixture) -> Outputs:
    scores, image = (torch.from_numpy(fixture.inputs[f"recall_{name}"]) for name in ("scores", "text_image_index"))
    yield "recall_ir1_ir5_ir10_tr1_tr5_tr10", np.array(recalls(scores, image))


@piece
def _rates(fixture: Fixture) -> Outputs:
    for entry in fixture.inputs["lr_schedules"]:
        lr, steps, warmup = entry["learning_rate"], entry["max_steps"], entry["warmup_steps"]
        rates = learning_rates(entry["steps"], lr, steps, warmup, entry["decay_power"], entry["end_lr"])
        yield f"lr_{entry['name']}", rates


@piece
def _transforms(fixture: Fixture) -> Outputs:
    outs = {name: once(partial(_transformed, fixture, name)) for name in fixture.inputs["transform_images"]}
    for name, out in outs.items():
        yield f"transform_{name}_out", out
        yield f"transform_{name}_out_mean_std", partial(_mean_std, out)
    yield "transform_out_h_w", lambda: np.array([out().shape[1:] for out in outs.values()])


def _mean_std(out: Callable[[], np.ndarray]) -> np.ndarray:
    return np.array([out().mean(dtype=np.float64), out().std(dtype=np.float64)])


def _transformed(fixture: Fixture, name: str) -> np.ndarray:
    (key,), size = fixture.config["val_transform_keys"], fixture.config["image_size"]
    return transformed(fixture.inputs[f"transform_{name}_uint8"], key, size)


def _resized(shorter: int, height: int, width: int) -> tuple[int, int]:
    """Height and width after the resize; -1 for an image that the transform refuses."""
    new_width, new_height = pixelbert_size(width, height, shorter)
    return (new_height, new_width) if new_width and new_height else (-1, -1)


def _augmented(fixture: Fixture, name: str, value: float, sign: int) -> np.ndarray:
    return randaugment_op(
        fixture.inputs["randaug_input_uint8"], name, value, fixture.choices["randaug_draw"].tolist()[sign]
    )


def _randaugment(fixture: Fixture) -> Outputs:
    magnitude, ours = RandAugment().m, [operation.name for operation in OPERATIONS]
    yield from _names(fixture, ours)
    for operation in OPERATIONS:
        name, value = f"randaug_{operation.name}", operation.value(magnitude)
        yield f"{name}_value", np.array(value)
        for sign, which in enumerate(("pos", "neg")[: 1 + operation.signed]):
            yield f"{name}_{which}", partial(_augmented, fixture, operation.name, value, sign)


@piece
def _names(fixture: Fixture, ours: list[str]) -> Outputs:
    assert fixture.inputs["randaug_ops"] == ours
    yield from ()


@piece
def _adamw(fixture: Fixture) -> Outputs:
    """The parameters after each step of the official optimiser at a constant learning rate."""
    told = fixture.trajectory
    assert told["schedule"] == "constant"
    parameters, groups = {}, []
    for name, factor in told["group_multipliers"].items():
        parameters[name] = torch.nn.Parameter(torch.from_numpy(fixture.inputs[f"{name}0"]).clone())
        rates = {key: told[key] * factor[key] for key in ("lr", "weight_decay")}
        groups.append({"params": [parameters[name]], **rates})
    optimizer = build_optimizer(groups, fixture.config["optim_type"], told["lr"])
    assert all((list(g["betas"]), g["eps"]) == (told["betas"], told["eps"]) for g in optimizer.param_groups)
    for step in range(told["steps"]):
        for name, parameter in parameters.items():
            parameter.grad = torch.from_numpy(fixture.inputs[f"{name}_grads"][step])
        optimizer.step()
        for name, parameter in parameters.items():
            yield f"{name}{step + 1}", parameter.detach().numpy().copy()


@piece
def _texts(fixture: Fixture) -> Outputs:
    """Token ids by the official reading, in which a spelled "[MASK]" is the token; special tokens are never masked."""
    wordpiece, config = tokenizer(fixture), fixture.config
    # As `vlp.data.tokenizers.encode`, which reads a spelled token as text.
    options = {"padding": "max_length", "truncation": True, "max_length": config["max_text_len"]}
    encoded = wordpiece(fixture.inputs["texts"], **options)
    yield "text_ids", np.array(encoded["input_ids"])
    yield "text_masks", np.array(encoded["attention_mask"])
    every = MlmMasker(wordpiece, 1.0, whole_word=False)
    labels = np.array([every(ids, random.Random(0))[1] for ids in encoded["input_ids"]])
    yield "text_special_tokens_masks", (labels == IGNORED).astype(np.int64)


@piece
def _masking(fixture: Fixture) -> Outputs:
    wordpiece, config = tokenizer(fixture), fixture.config
    for kind, whole_word in (("wwm", True), ("lm", False)):
        masker = MlmMasker(wordpiece, config["mlm_prob"], whole_word)
        for number, text in enumerate(fixture.inputs["masking_texts"]):
            (ids,) = encode(wordpiece, [text], config["max_text_len"]).ids
            length = sum(token != wordpiece.pad_token_id for token in ids)
            found = once(partial(_statistics, fixture, masker, f"masking_text{number}_ids", ids))
            for what, key, kept in (
                ("rate", "rate", slice(length)),
                ("label_count_share", "count_fraction", slice(length + 1)),
                ("mask_kept_share", "kind_fraction", slice(0, 3, 2)),
            ):
                yield f"masking_{kind}_text{number}_{what}", partial(_of, found, key, kept)


def _of(found: Callable[[], dict[str, np.ndarray]], key: str, kept: slice) -> np.ndarray:
    return found()[key][kept]


def _statistics(fixture: Fixture, masker: MlmMasker, stored: str, ids: list[int]) -> dict[str, np.ndarray]:
    assert fixture.inputs[stored].tolist() == ids
    return mask_statistics(masker, ids, _TRIALS * fixture.inputs["masking_samples"])
