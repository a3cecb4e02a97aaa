"""Small X-VLMs that write: VQA's answers, captions; and batches and words for them."""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from tests.unit.small_parts import Batch, stirred
from tests.unit.xvlm.small import CLS, CONFIG, PAD, SEP, VOCAB, config_of, pretraining_batch
from vlp.nn.step_plan import caption_plan, step_plan

OWN: dict[str, Any] = {
    **{"num_dec_layers": 2, "k_test": 3, "eos": "[SEP]", "answer_list": "answers.json", "evaluate": False},
    **{"label_smoothing": 0.1, "prompt": "w110 w111 ", "num_beams": 3, "min_length": 5, "max_length": 9},
}
LOSSES = {"vqa": "vqa_loss", "captioning": "lm_loss", "captioning_pretrain": "lm_loss"}
PROMPT = [CLS, 110, 111]


def task_model(task: str, seed: int = 0, **changes: Any) -> Any:
    """A small model of ``task`` with stirred weights, in evaluation mode."""
    torch.manual_seed(seed)
    model_class = importlib.import_module(f"xvlm.models.model_{task}").XVLM
    return stirred(model_class(config_of(**{**OWN, **changes})))


def official_model(task: str, res: int, window: int) -> Any:
    """The official one for images of ``res``, without values."""
    read = {
        name: json.loads(Path("xvlm/configs", f"config_{name}.json").read_text()) for name in ("bert", f"swinB_{res}")
    }
    vision = read[f"swinB_{res}"]
    assert vision["window_size"] == window
    sizes = {"num_dec_layers": 6, "image_res": res, "vision_config": vision, "text_config": read["bert"]}
    with torch.device("meta"):
        return importlib.import_module(f"xvlm.models.model_{task}").XVLM({**CONFIG, **OWN, **sizes})


def task_batch(task: str, lengths: Sequence[int] = (6, 4, 9), seed: int = 0) -> Batch:
    """A training batch as the loaders give it."""
    rng = torch.Generator().manual_seed(seed + 1)
    batch = {key: value for key, value in pretraining_batch(lengths, seed=seed).items() if not key.endswith("_mlm")}
    if task != "vqa":
        batch["text_ids"][torch.arange(len(lengths)), torch.tensor(lengths) - 1] = SEP
        return batch | caption_plan(batch, prompt_length=3 if task == "captioning" else 1)
    counts = [1 + i % 2 for i in range(len(lengths))]
    answers = torch.randint(110, VOCAB, (sum(counts), 4), generator=rng)
    tokens = torch.arange(4) < torch.tensor([3 + i % 2 for i in range(sum(counts))])[:, None]
    answers[:, 0] = CLS
    batch |= {"answer_ids": answers.masked_fill(~tokens, PAD), "answer_masks": tokens.long(), "answer_counts": counts}
    batch |= {"answer_weights": torch.rand(sum(counts), generator=rng), "question_id": list(range(len(lengths)))}
    return batch | step_plan(batch)


class Words:
    """A tokenizer whose word "w<id>" is its id, ``[CLS] X`` without a closing ``[SEP]``."""

    cls_token_id, sep_token_id = CLS, SEP

    def __call__(self, texts: Sequence[str], **_: Any) -> dict[str, list[list[int]]]:
        rows = [[CLS, *self.encode(text)] for text in texts]
        longest = max(map(len, rows))
        return {
            "input_ids": [row + [PAD] * (longest - len(row)) for row in rows],
            "attention_mask": [[1] * len(row) + [0] * (longest - len(row)) for row in rows],
        }

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        words = text.replace("[SEP]", f" w{SEP}").split()
        return [int(word.removeprefix("w")) for word in words]

    def batch_decode(self, rows: Sequence[Sequence[int]], skip_special_tokens: bool) -> list[str]:
        assert skip_special_tokens
        return [" ".join(f"w{i}" for i in row if i not in (PAD, CLS, SEP)) for row in rows]


def in_evaluation(model: Any, split: str, folder: Path, rank: int = 0, epoch: int = 2, **of_set: Any) -> Any:
    """The model in the evaluation of ``split`` after an epoch of training."""
    model.config["output_dir"] = str(folder)
    data = SimpleNamespace(sets={split: SimpleNamespace(**of_set)}, tokenizer=Words(), eval_splits=(split,))
    state = SimpleNamespace(fn="fit")
    model._trainer = SimpleNamespace(datamodule=data, current_epoch=epoch, global_rank=rank, state=state)
    model.check_data(data)
    model.start_evaluation(split)
    return model
