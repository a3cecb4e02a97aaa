"""X-VLM's data pieces: transforms, augmentation, texts, masking, regions, schedules, tables, metrics and groups.

Inputs list the cases of one function. An array belongs to the piece whose pattern its name matches, or to the case
that names it.

Source: docs/official/xvlm.md §3, §6, §7, §8.
"""

from __future__ import annotations

import csv
import random
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import PreTrainedTokenizerBase

from tests.parity.replays import PLAIN, Fixture, Outputs, replay
from tests.parity.replays.xvlm_models import built
from tests.tokenizers import folder_of_vocabulary
from vlp.data.boxes import Box, View
from vlp.data.draws import SampleKey
from vlp.data.json.text import encode_cls, load_cls_tokenizer, pre_caption, pre_question
from vlp.data.json.transforms import EvalTransform, to_tensor
from vlp.data.jsonl.mixed import steps_of_epoch
from vlp.data.jsonl.region_batch import RegionCollator
from vlp.data.jsonl.regions import Region
from vlp.data.jsonl.rows import RowImages
from vlp.data.jsonl.texts import RowText
from vlp.data.random_augment import OPERATIONS
from vlp.data.span_masking import SpanMasker
from vlp.data.tokenizers import load_tokenizer
from vlp.evaluation.grounding import iou
from vlp.evaluation.reranked_retrieval import RerankedScores, official_metrics
from vlp.nn.relative_bias import interpolate_bias_table
from vlp.training.schedules import lr_multiplier, resolve_warmup
from xvlm.dataset import streams

_UNCUT = 512  # positions of the text encoder
_NO_KEY = SampleKey(0, 0, "", 0)


@replay("xvlm", "data")
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

    def case(self, call: str, **names: str) -> dict[str, Any]:
        """The case of a list of cases that has these values."""
        found: list[dict[str, Any]] = [case for case in self.inputs[call] if names.items() <= case.items()]
        return found[0]

    # Images

    def eval_transform(self, res: str, what: str) -> np.ndarray:
        case = self.case("eval_transform", **{what: f"eval_{res}_{what}"})
        image = Image.fromarray(self.inputs["image"])
        pixels = EvalTransform(case["image_res"])(image, random.Random()).numpy()
        return pixels if what == "slice" else pixels.mean((1, 2))

    def region_transform(self) -> np.ndarray:
        case = self.inputs["region_transform"]
        view = View(tuple(case["crop_xyxy"]), case["hflip"], case["image_res"])
        return to_tensor(view.image(Image.fromarray(self.inputs["image"]))).numpy()

    def operation(self, name: str) -> np.ndarray:
        case = self.case("randaugment", array=f"ra_{name}")
        operation, draw = OPERATIONS[case["op"]], self.choices["ra_draw"][self.inputs["randaugment"].index(case)]
        arguments = []
        if operation.amount is not None:
            amount = operation.amount(case["level"])
            arguments = [-amount if operation.negative is not None and operation.negative(draw) else amount]
        return operation.apply(self.inputs["ra_image"], *arguments)

    # Texts

    def cleaned(self, kind: str) -> np.ndarray:
        clean = {"caption": pre_caption, "question": pre_question}[kind]
        return np.array([clean(case["text"], case["max_words"]) for case in self.inputs[f"pre_{kind}"]])

    def encoded(self, kind: str) -> np.ndarray:
        tokenizer = {"ft": self.cls_tokenizer, "hf": self.tokenizer}[kind]
        return encode_cls(tokenizer, self.inputs[f"tokenizer_{kind}"], _UNCUT, spelled=True).ids.numpy()

    def preprocessed(self, what: str) -> np.ndarray:
        rows = []
        for case in self.inputs["preprocess"]:
            reader = streams.texts(self.tokenizer, None, self.fixture.config, case["tokenized"], case["add_eos"])
            rows.append(reader.encode(case["text"])[1])
        length = self.fixture.config["max_tokens"]
        values = rows if what == "ids" else [[1] * len(row) for row in rows]
        return np.array([row + [0] * (length - len(row)) for row in values])

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        with self._vocabulary() as folder:
            return load_tokenizer(folder)

    @cached_property
    def cls_tokenizer(self) -> PreTrainedTokenizerBase:
        with self._vocabulary() as folder:
            return load_cls_tokenizer(folder)

    @contextmanager
    def _vocabulary(self) -> Iterator[Path]:
        """A folder with the table's tokens at their ids, and placeholders at the others."""
        given = self.inputs["vocabulary"]
        tokens = [f"[placeholder{number}]" for number in range(given["size"])]
        with self.fixture.file(given["table"]).open(newline="", encoding="utf-8") as handle:
            for row in csv.DictReader(handle, delimiter="\t", quoting=csv.QUOTE_NONE):
                tokens[int(row["id"])] = row["token"]
        if "[MASK]" not in tokens:
            tokens[103] = "[MASK]"
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "tokens")
            path.write_text("\n".join(tokens), encoding="utf-8")
            with folder_of_vocabulary(path) as made:
                yield made

    # Masking

    def masker(self) -> SpanMasker:
        return streams.masker(self.tokenizer, self.fixture.config)

    def masked(self, text: str, what: str) -> np.ndarray:
        shares, counts, _ = self._masking(int(text))
        return shares if what == "p_masked" else counts

    def masking_actions(self) -> np.ndarray:
        return np.stack([self._masking(text)[2] for text in range(len(self.inputs["masking"]["texts"]))])

    def _masking(self, text: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of one text: the share of draws that mask each token, that mask so many, and what masked ones become."""
        given, masker = self.inputs["masking"], self.masker()
        reader = streams.texts(self.tokenizer, None, self.fixture.config, tokenized=False)
        ids = reader.encode(given["texts"][text])[1]
        rng, draws = random.Random(text), given["draws"]
        results = [masker(ids, rng) for _ in range(draws)]
        masked, labels = (np.array(rows) for rows in zip(*results, strict=True))
        chosen = labels != -100
        kinds = masked == masker.mask_id, (masked != ids) & (masked != masker.mask_id), masked == ids
        counts = np.bincount(chosen.sum(1), minlength=masker.max_masks + 1) / draws
        return chosen.mean(0), counts, np.array([kind[chosen].mean() for kind in kinds])

    def number_masked(self) -> np.ndarray:
        masker = self.masker()
        return np.array([masker.number(length) for length in self.inputs["n_pred_lengths"]])

    # Regions

    def patches(self, res: str) -> np.ndarray:
        case = self.case("box_to_patches", array=f"atts_{res}")
        patch = self.fixture.arch["patch_size"]
        return np.array([Box(*box).patches(case["image_res"], patch) for box in self.inputs[case["boxes"]].tolist()])

    def region(self, case: str, what: str) -> np.ndarray:
        _, regions = self._regions[int(case)]
        if what == "texts":
            return np.array([" ".join(self.tokenizer.tokenize(region.text.text)) for region in regions])
        field = {"target_bbox": "target", "is_image": "is_image", "image_atts": "atts"}[what]
        values = np.array([getattr(region, field) for region in regions])
        return values.astype(np.float32) if what == "target_bbox" else values

    def region_flip(self) -> np.ndarray:
        return np.array([int(view.flip) for view, _ in self._regions])

    @cached_property
    def _regions(self) -> list[tuple[View, list[Region]]]:
        return [self._region(case) for case in range(len(self.inputs["region_rows"]["careful_hflip"]))]

    def _region(self, case: int) -> tuple[View, list[Region]]:
        given = self.inputs["region_rows"]
        row, config = given["annotation"], self.fixture.config
        block = {**config["regions"], "careful_hflip": given["careful_hflip"][case], "caption_key": "caption"}
        full = {**config, "regions": block, "image_res": self.fixture.arch["image_res"]}
        full["patch_size"] = self.fixture.arch["patch_size"]
        texts = streams.texts(self.tokenizer, None, config, tokenized=False)
        reader = streams.regions(full, texts, RowImages("", None))
        draws = _Chosen(self.choices, case, row["elems"])
        view = reader.view(row, row["elems"], tuple(given["image_size_WH"]), draws)
        found = reader.regions(row, row["elems"], view, draws, _NO_KEY)
        return view, [region for region in found if isinstance(region, Region)]

    def collated(self, case: str, what: str) -> np.ndarray:
        image, batch = self._collations[case]
        if what == "images":
            return image
        return batch["idx_to_group_img" if what == "idx_to_group_img" else "is_image"].numpy()

    @cached_property
    def _collations(self) -> dict[str, tuple[np.ndarray, dict[str, Any]]]:
        return {str(case): self._collation(case) for case in range(len(self.inputs["collate"]))}

    def _collation(self, case: int) -> tuple[np.ndarray, dict[str, Any]]:
        given = self.inputs["collate"][case]
        rows = iter(range(sum(given["elems_per_image"])))
        samples = [
            {"image": torch.full((3, 1, 1), float(number)), "regions": [_region(next(rows)) for _ in range(count)]}
            for number, count in enumerate(given["elems_per_image"])
        ]
        picks = self.choices[f"collate_{case}_picks"].tolist()
        collate = RegionCollator(given["batch_size"], pad=0)
        batch = collate([{**sample, "_key": _PickingKey(0, 0, "", 0, picks)} for sample in samples])
        return batch["image"][:, 0, 0, 0].long().numpy(), batch

    # Training

    def learning_rate(self, name: str) -> np.ndarray:
        case, (_, total, warmup) = self.case("schedule", array=f"lr_{name}"), self.counts(name)
        factors = [lr_multiplier(step, max_steps=total, warmup_steps=warmup) for step in case["steps"]]
        return case["lr"] * np.array(factors)

    def counts(self, name: str) -> np.ndarray:
        case = self.case("schedule", array=f"lr_{name}")
        steps = case["steps_per_epoch"] or steps_of_epoch(
            case["train_dataset_size"], case["batch_size"], case["world_size"]
        )
        total = steps * case["epochs"]
        return np.array([steps, total, resolve_warmup(case["num_warmup_steps"], total)])

    def bias_table(self, name: str) -> torch.Tensor:
        case = self.case("interpolate", array=f"interp_{name}")
        rows = (2 * case["window_size"] - 1) ** 2
        return interpolate_bias_table(torch.from_numpy(self.inputs[case["source"]]), rows)

    def group_sizes(self) -> np.ndarray:
        given = {key: value for key, value in self.inputs["optimiser_groups"].items() if key != "table"}
        with torch.device("meta"):
            model = built(self.fixture.arch, self.fixture.config, PLAIN, optimizer={"opt": "adamW", **given})
        groups = model.parameter_groups()
        return np.array([(group["lr"] / given["lr"], group["weight_decay"], len(group["params"])) for group in groups])

    # Evaluation

    def metrics(self) -> np.ndarray:
        given = self.inputs["itm_eval"]
        scores = RerankedScores(*(torch.from_numpy(self.inputs[f"itm_{way}"]) for way in ("i2t", "t2i")))
        of_image = torch.arange(scores.image_to_text.shape[0]).repeat_interleave(given["texts_per_image"])
        metrics = official_metrics(scores, of_image)
        return np.array([metrics[name] for name in given["names"]])

    def iou(self) -> np.ndarray:
        return np.array([iou(case["a"], case["b"]) for case in self.inputs["computeIoU"]])


class _Chosen(random.Random):
    """A source whose draws are those of one case of region rows."""

    def __init__(self, choices: dict[str, np.ndarray], case: int, elements: Sequence[dict[str, Any]]) -> None:
        super().__init__()
        self._of = {name.removeprefix("region_"): choices[name][case].tolist() for name in choices if "region" in name}
        self._crop, self._elements = iter(self._of["crop_xyxy"]), elements

    def randrange(self, *_: Any) -> int:
        return self._of["drawn_elem"]

    def randint(self, a: int, b: int) -> int:
        corner = next(self._crop)
        assert a <= corner <= b
        return corner

    def random(self) -> float:
        return 0.0 if self._of["coin_flip"] else 0.9

    def sample(self, population: Any, k: int, **_: Any) -> list[Any]:
        return [list(population)[number] for number in self._of["elem_order"]]

    def choice(self, seq: Any) -> Any:
        for field, chosen in (("caption", "caption_index"), ("attributes", "attribute_index")):
            for number, element in enumerate(self._elements):
                if field in element and element[field] is seq:
                    return seq[self._of[chosen][number]]
        assert len(seq) == 1  # the caption of the whole image
        return seq[0]


class _Picks(random.Random):
    """A source whose samples are given."""

    def __init__(self, picks: list[int]) -> None:
        super().__init__()
        self._picks = picks

    def sample(self, population: Any, k: int, **_: Any) -> list[Any]:
        assert len(self._picks) == k
        return self._picks


@dataclass(frozen=True)
class _PickingKey(SampleKey):
    """A key whose draws of rows are given."""

    picks: list[int]

    def rng(self, purpose: str) -> random.Random:
        return _Picks(self.picks)


def _region(number: int) -> Region:
    """A region that is known by its number, in ``is_image``."""
    return Region(RowText("", [1], [], []), [1], [0.0] * 4, number)


PIECES: dict[str, Callable[..., Any]] = {
    r"eval_(\d+)_(slice|mean)": _Pieces.eval_transform,
    r"region_crop_flip_\d+_slice": _Pieces.region_transform,
    r"ra_(\w+)": _Pieces.operation,
    r"pre_(caption|question)": _Pieces.cleaned,
    r"tokenizer_(ft|hf)_ids": _Pieces.encoded,
    r"preprocess_text_(ids|atts)": _Pieces.preprocessed,
    r"masking_(\d+)_(p_masked|count)": _Pieces.masked,
    r"masking_actions": _Pieces.masking_actions,
    r"n_pred": _Pieces.number_masked,
    r"atts_(\d+)": _Pieces.patches,
    r"region_(\d+)_(texts|target_bbox|is_image|image_atts)": _Pieces.region,
    r"region_flip": _Pieces.region_flip,
    r"collate_(\d+)_(images|idx_to_group_img|rows)": _Pieces.collated,
    r"lr_(\w+)_counts": _Pieces.counts,
    r"lr_(\w+)": _Pieces.learning_rate,
    r"interp_(\w+)": _Pieces.bias_table,
    r"optimiser_group_sizes": _Pieces.group_sizes,
    r"itm_eval": _Pieces.metrics,
    r"computeIoU": _Pieces.iou,
}
