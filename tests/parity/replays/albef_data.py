"""ALBEF's data pieces: transforms, augmentation, texts, masking, schedules, positions, metrics and collation.

A piece is known by its array's name; its parameters are the inputs that share the name's beginning.

Source: docs/official/albef.md §3, §4, §6, §7.
"""

from __future__ import annotations

import json
import random
import re
import tempfile
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import PreTrainedTokenizerBase

from albef.epoch_schedule import epoch_rate
from albef.models.albef_module import AlbefModule
from tests.parity.replays import Fixture, Outputs, replay
from tests.tokenizers import folder_of_vocabulary
from vlp.data.json.collate import JsonCollator
from vlp.data.json.dataset import Roots
from vlp.data.json.datasets import QuestionTrainDataset
from vlp.data.json.text import encode_cls, load_cls_tokenizer, pre_caption, pre_question
from vlp.data.json.transforms import EvalTransform
from vlp.data.masking import TokenMasker
from vlp.data.random_augment import FILL, OPERATIONS, RandomAugment
from vlp.data.tokenizers import encode
from vlp.evaluation.grounding import iou
from vlp.evaluation.reranked_retrieval import RerankedScores, official_metrics
from vlp.nn.positions import interpolate_pos_embed

_UNCUT = 512  # positions of the text encoder: what a text is cut to where the official code cuts none


@replay("albef", "data")
def data(fixture: Fixture, mode: str) -> Outputs:
    pieces = _Pieces(fixture)
    for name in fixture.required(mode):
        for pattern, function in PIECES.items():
            if match := re.fullmatch(pattern, name):
                yield name, partial(function, pieces, *match.groups())
                break


class _Pieces:
    """The functions of :data:`PIECES`; their arguments are the groups of a name's pattern."""

    def __init__(self, fixture: Fixture) -> None:
        self.fixture, self.inputs, self.choices = fixture, fixture.inputs, fixture.choices

    # Images

    def eval_transform(self, res: str) -> np.ndarray:
        image = Image.fromarray(self.inputs["image_uint8"])
        return EvalTransform(int(res))(image, random.Random()).numpy()

    def operation(self, name: str) -> np.ndarray:
        operation, arguments = OPERATIONS[name.split(".")[0]], list(self.inputs["aug.args"][name])
        if operation.amount is not None:
            assert np.isclose(abs(arguments[0]), operation.amount(self.inputs["aug.level"]), rtol=1e-12)
        if operation.negative is not None:
            assert arguments.pop() == [FILL] * 3
        return operation.apply(self.inputs["image_uint8"], *arguments)

    def random_augment(self) -> np.ndarray:
        assert list(OPERATIONS) == self.inputs["randaugment.ops"]
        augment = RandomAugment(self.inputs["randaugment.N"], self.inputs["randaugment.M"])
        draws = np.random.RandomState(int(self.choices["randaugment.numpy_seed"]))
        calls = len(self.choices["randaugment.chosen"])
        return np.stack([augment(self.inputs["image_uint8"], draws) for _ in range(calls)])

    # Texts

    def cleaned(self, kind: str, words: str) -> np.ndarray:
        clean = {"caption": pre_caption, "question": pre_question}[kind]
        name = f"pre_{kind}_{words}"
        return np.array([clean(str(text), self.inputs[f"{name}.max_words"]) for text in self.inputs[f"{name}.in"]])

    def encoded(self, call: str, what: str) -> np.ndarray:
        arguments = self.inputs[f"tokenizer.{call}.call"]
        texts = [str(text) for text in self.inputs[arguments["texts"]]]
        length = arguments["max_length"] if arguments["truncation"] else _UNCUT
        if arguments["padding"] == "max_length":  # retrieval's evaluation
            ids, masks = map(torch.tensor, encode(self.tokenizer, texts, length))
        else:
            ids, masks = encode_cls(self.tokenizer, texts, length, spelled=arguments["texts"] == "tokenizer.answers")
        if what == "token_type_ids_len":  # of the ids with the [SEP] that this tokenizer leaves out; nothing reads them
            return np.full(len(ids), ids.shape[1] + 1)
        return (ids if what == "input_ids" else masks).numpy()

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        vocabulary = self.fixture.file(self.inputs.get("tokenizer.vocab_file", "golden_data_vocab.txt"))
        with folder_of_vocabulary(vocabulary) as folder:
            return load_cls_tokenizer(folder)

    def masking(self, what: str) -> np.ndarray:
        return np.array(self._masked[what])

    @cached_property
    def _masked(self) -> dict[str, Any]:
        ids, mask_id = np.array(self.inputs["mask.input_ids"]), self.inputs["mask.mask_token_id"]
        pad, cls = 0, 101
        probability = self.fixture.config["mlm_probability"]
        masker = TokenMasker(mask_id, self.inputs["mask.vocab_size"], {pad, cls}, probability)
        rng = random.Random(0)
        rows = [masker(row, rng) for row in ids.tolist()]
        masked, labels = np.array([row for row, _ in rows]), np.array([labels for _, labels in rows])
        chosen, eligible = labels != -100, (ids != pad) & (ids != cls)
        kinds = {"mask": masked == mask_id, "kept": masked == ids, "random": (masked != ids) & (masked != mask_id)}
        return {
            "eligible": eligible.sum(),
            "selected_rate": chosen.sum() / eligible.sum(),
            "selected_on_pad": (chosen & (ids == pad)).sum(),
            "selected_on_cls": (chosen & (ids == cls)).sum(),
            **{f"{kind}_rate": (chosen & which).sum() / chosen.sum() for kind, which in kinds.items()},
        }

    # Training

    def learning_rate(self, config: str) -> np.ndarray:
        schedule = self.inputs[f"lr.{config}.schedular"]
        rates = {name: schedule[name] for name in ("lr", "min_lr", "warmup_lr", "warmup_epochs", "epochs")}
        return np.array([epoch_rate(int(e), int(i), **rates) for e, i in self.inputs[f"lr.{config}.at"]])

    def alpha(self) -> np.ndarray:
        module = AlbefModule({name: self.fixture.config[name] for name in ("alpha", "warm_up")})
        return np.array([module.alpha(*map(int, at)) for at in self.inputs["alpha.at"]])

    def positions(self, before: str, after: str) -> torch.Tensor:
        table = torch.from_numpy(self.inputs[f"pos_{before}"])
        return interpolate_pos_embed(table, 1 + int(after) ** 2)

    # Evaluation

    def iou(self) -> np.ndarray:
        return np.array([iou(a, b) for a, b in zip(*(self.inputs[f"iou.{box}"].tolist() for box in "ab"), strict=True)])

    def metric(self, name: str) -> np.ndarray:
        scores = RerankedScores(*(torch.from_numpy(self.inputs[f"scores_{way}"]) for way in ("i2t", "t2i")))
        text_image = torch.empty(scores.image_to_text.shape[1], dtype=torch.int64)
        for image, texts in enumerate(np.asarray(self.inputs["img2txt"])):
            text_image[torch.from_numpy(texts)] = image
        return np.array(official_metrics(scores, text_image)[name])

    # Collation

    def collated(self, what: str) -> np.ndarray:
        samples, batch = self._questions
        answers = [answer for sample in samples for answer in sample["answers"]]
        values: dict[str, Any] = {"questions": batch["text"], "answers": answers, "n": batch["answer_counts"]}
        return batch["answer_weights"].numpy() if what == "weights" else np.array(values[what])

    @cached_property
    def _questions(self) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        with tempfile.TemporaryDirectory() as folder:
            annotations = self.inputs["vqa_collate.annotations"]
            Path(folder, "vqa_train.json").write_text(json.dumps(annotations))
            for name in {row["image"] for row in annotations}:
                Image.new("RGB", (40, 30)).save(Path(folder, name))
            roots = Roots(dict.fromkeys(("vqa_root", "vg_root"), folder))
            rows = QuestionTrainDataset([Path(folder, "vqa_train.json")], roots, EvalTransform(32))
            samples = [rows[i] for i in range(len(rows))]
        return samples, JsonCollator(self.tokenizer, 25, _UNCUT)(samples)


PIECES: dict[str, Callable[..., Any]] = {
    r"eval_transform_(\d+)": _Pieces.eval_transform,
    r"aug\.(.+)": _Pieces.operation,
    r"randaugment_seed.*": _Pieces.random_augment,
    r"pre_(caption|question)_(\w+)\.out": _Pieces.cleaned,
    r"tokenizer\.(\w+)\.(input_ids|attention_mask|token_type_ids_len)": _Pieces.encoded,
    r"mask\.(\w+)": _Pieces.masking,
    r"lr\.(\w+)\.lr": _Pieces.learning_rate,
    r"alpha\.value": _Pieces.alpha,
    r"pos_(\d+)_to_(\d+)": _Pieces.positions,
    r"iou\.value": _Pieces.iou,
    r"metric\.(\w+)": _Pieces.metric,
    r"vqa_collate[._](\w+)": _Pieces.collated,
}
