"""X-VLM's data: the loaders of each script, made from the files that its configuration names.

Source: docs/official/xvlm.md §3.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from transformers import PreTrainedTokenizerBase

from vlp.data.collate import Plan
from vlp.data.json.answers import read_answers
from vlp.data.json.collate import JsonCollator
from vlp.data.json.datamodule import TRAIN, JsonDataModule, Part
from vlp.data.json.dataset import JsonDataset, Roots
from vlp.data.json.datasets import (
    GroundingTestDataset,
    GroundingTrainDataset,
    RetrievalEvalDataset,
    RetrievalTrainDataset,
    StatementTestDataset,
    StatementTrainDataset,
)
from vlp.data.json.transforms import EvalTransform, TrainTransform
from vlp.nn.step_plan import caption_plan, step_plan
from xvlm.dataset.finetuning import (
    GQA,
    BoxTrainDataset,
    CaptionTestCollator,
    CaptionTestDataset,
    CaptionTrainDataset,
    XvlmQuestionTestDataset,
    XvlmQuestionTrainDataset,
)
from xvlm.dataset.streams import (
    CaptioningPretrainData,
    GroundingBboxPretrainData,
    NlvrPretrainData,
    PretrainData,
    XvlmStreams,
)
from xvlm.dataset.tokenizers import cls_tokenizer, plain_tokenizer, prompt_ids

Config = Mapping[str, Any]


class FinetuningData(JsonDataModule):
    """The lists of a script: a subclass names its data sets and what the official loaders do to them."""

    train_set: ClassVar[type[JsonDataset]]
    eval_set: ClassVar[type[JsonDataset]]
    eval_collator: ClassVar[type[JsonCollator]] = JsonCollator
    root_keys: ClassVar[tuple[str, ...]] = ("image_root",)
    fixed_roots: ClassVar[Mapping[str, str]] = {}
    # Of the area of an image that a random crop keeps; None: the whole image is resized.
    scale: ClassVar[tuple[float, float] | None] = (0.5, 1.0)
    flip: ClassVar[bool] = True
    cut = False  # whether texts are cut to max_tokens
    sharded = True

    def __init__(self, config: Config) -> None:
        """Open what the run reads: with ``evaluate`` the evaluation splits alone.

        Raises:
            DataError: a list is missing or broken.
            OSError, ValueError: there is no tokenizer ``text_encoder``, or it does not fit the text encoder.
        """
        tokenizer = self.new_tokenizer(config)
        positions = config["text_config"]["max_position_embeddings"]
        longest = min(config["max_tokens"], positions) if self.cut else positions
        folders = {key: config[key] for key in self.root_keys}
        roots = Roots({**folders, **self.fixed_roots}, config["allow_outside_root"])
        parts = {}
        if not config.get("evaluate"):
            parts[TRAIN] = Part(
                self.new_train_set(config, roots),
                config.get("batch_size") or config["batch_size_train"],
                JsonCollator(tokenizer, longest, positions, plans=[self.new_plan(config, tokenizer)]),
            )
        for split in self.eval_splits:
            parts[split] = Part(
                self.eval_set(
                    files(config[self.eval_file(split)]), roots, EvalTransform(config["image_res"]), config["seed"]
                ),
                config.get("batch_size") or config["batch_size_test"],
                self.eval_collator(tokenizer, longest, positions, plans=[step_plan]),
                self.sharded,
            )
        super().__init__(config, tokenizer, parts)

    def new_tokenizer(self, config: Config) -> PreTrainedTokenizerBase:
        """The tokenizer of the script."""
        return cls_tokenizer(config)

    def new_plan(self, config: Config, tokenizer: PreTrainedTokenizerBase) -> Plan:
        """What works out a training step where its batch is made."""
        return step_plan

    def new_train_set(self, config: Config, roots: Roots) -> JsonDataset:
        """The training set."""
        transform = TrainTransform(config["image_res"], self.scale, self.flip)
        return self.train_set(files(config["train_file"]), roots, transform, config["seed"])

    @staticmethod
    def eval_file(split: str) -> str:
        """The configuration key of an evaluation split's lists."""
        return f"{split}_file"


class RetrievalData(FinetuningData):
    """Retrieval.py: every process encodes all images of an evaluation."""

    train_set, eval_set, eval_splits = RetrievalTrainDataset, RetrievalEvalDataset, ("val", "test")
    sharded = False


class VqaData(FinetuningData):
    """VQA.py: images are flipped with their question in view, and every text is cut."""

    train_set, eval_set, eval_splits = XvlmQuestionTrainDataset, XvlmQuestionTestDataset, ("test",)
    root_keys, fixed_roots = ("vqa_root", "vg_root"), {GQA: "."}
    flip, cut = False, True

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        questions = self.sets["test"]
        assert isinstance(questions, XvlmQuestionTestDataset)
        questions.answer_list = read_answers(config["answer_list"])


class NlvrData(FinetuningData):
    """NLVR.py."""

    train_set, eval_set, eval_splits = StatementTrainDataset, StatementTestDataset, ("val", "test")


class GroundingData(FinetuningData):
    """Grounding.py: ``test_file`` holds the references of every split, and is scored as a whole."""

    train_set, eval_set, eval_splits = GroundingTrainDataset, GroundingTestDataset, ("val",)
    scale = None

    @staticmethod
    def eval_file(split: str) -> str:
        return "test_file"


class GroundingBboxData(GroundingData):
    """Grounding_bbox.py: training shows a crop around the box."""

    def new_train_set(self, config: Config, roots: Roots) -> JsonDataset:
        return BoxTrainDataset(
            files(config["train_file"]),
            roots,
            config["image_res"],
            config["seed"],
            Path(config["refcoco_data"]),
            config.get("careful_hflip", True),
        )


class CaptioningData(FinetuningData):
    """Captioning.py: a training text is the prompt and a caption, ``[CLS] X [SEP]``; an evaluation has images alone."""

    train_set, eval_set, eval_splits = CaptionTrainDataset, CaptionTestDataset, ("val", "test")
    eval_collator, cut = CaptionTestCollator, True

    def new_tokenizer(self, config: Config) -> PreTrainedTokenizerBase:
        return plain_tokenizer(config)

    def new_plan(self, config: Config, tokenizer: PreTrainedTokenizerBase) -> Plan:
        return partial(caption_plan, prompt_length=len(prompt_ids(tokenizer, config["prompt"])))

    def new_train_set(self, config: Config, roots: Roots) -> JsonDataset:
        captions = super().new_train_set(config, roots)
        assert isinstance(captions, CaptionTrainDataset)
        captions.prompt = config["prompt"]
        return captions


# By the name of the script.
DATA: dict[str, type[FinetuningData] | type[XvlmStreams]] = {
    "Pretrain": PretrainData,
    "Retrieval": RetrievalData,
    "VQA": VqaData,
    "NLVR": NlvrData,
    "NLVR_pretrain": NlvrPretrainData,
    "Grounding": GroundingData,
    "Grounding_bbox": GroundingBboxData,
    "Grounding_bbox_pretrain": GroundingBboxPretrainData,
    "Captioning": CaptioningData,
    "Captioning_pretrain": CaptioningPretrainData,
}


def files(value: Any) -> list[str]:
    """The list files that a configuration key names: one, or several."""
    return [value] if isinstance(value, str) else list(value)
