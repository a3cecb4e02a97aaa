"""ALBEF's data: the loaders of each script, made from the lists that its configuration names.

Source: docs/official/albef.md §3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from albef.dataset.ve_dataset import EntailmentTestDataset, EntailmentTrainDataset
from vlp.data.json.answers import read_answers
from vlp.data.json.collate import JsonCollator
from vlp.data.json.datamodule import TRAIN, JsonDataModule, Part
from vlp.data.json.dataset import JsonDataset, Roots
from vlp.data.json.datasets import (
    GroundingTestDataset,
    GroundingTrainDataset,
    PretrainDataset,
    QuestionTestDataset,
    QuestionTrainDataset,
    RetrievalEvalDataset,
    RetrievalTrainDataset,
    StatementTestDataset,
    StatementTrainDataset,
)
from vlp.data.json.text import load_cls_tokenizer
from vlp.data.json.transforms import EvalTransform, TrainTransform
from vlp.data.masking import TokenMasker
from vlp.nn.step_plan import step_plan

_LONGEST = 25  # tokens of a caption in pre-training and of a question in training


class AlbefData(JsonDataModule):
    """The data of a script: a subclass names its data sets and what the official loaders do to them."""

    train_set: ClassVar[type[JsonDataset]]
    eval_set: ClassVar[type[JsonDataset]]
    root_keys: ClassVar[tuple[str, ...]] = ("image_root",)
    # Of the area of an image that a random crop keeps; None: the whole image is resized.
    scale: ClassVar[tuple[float, float] | None] = (0.5, 1.0)
    # Tokens that a training text is cut to; None where the official code cuts none.
    longest: ClassVar[int | None] = None
    mlm = False
    sharded = True

    def __init__(self, config: Mapping[str, Any]) -> None:
        """Open what the run reads: with ``evaluate`` the evaluation splits alone.

        Raises:
            DataError: a list is missing or broken.
            OSError: there is no tokenizer ``text_encoder``.
            ValueError: it does not fit the text encoder.
        """
        tokenizer = load_cls_tokenizer(config["text_encoder"])
        if len(tokenizer) > (size := config["bert_config"]["vocab_size"]):
            raise ValueError(
                f"bert_config: vocab_size is {size}, but text_encoder={config['text_encoder']} has {len(tokenizer)}"
            )
        roots = Roots({key: config[key] for key in self.root_keys}, config["allow_outside_root"])
        positions = config["bert_config"]["max_position_embeddings"]
        res, seed = config["image_res"], config["seed"]
        parts = {}
        if not config.get("evaluate"):
            masker = _masker(tokenizer, config["mlm_probability"]) if self.mlm else None
            longest = min(self.longest or positions, positions)
            parts[TRAIN] = Part(
                self.train_set(files(config["train_file"]), roots, TrainTransform(res, self.scale), seed),
                config.get("batch_size") or config["batch_size_train"],
                JsonCollator(tokenizer, longest, positions, masker, [step_plan]),
            )
        for split in self.eval_splits:
            parts[split] = Part(
                self.eval_set(files(config[self.eval_file(split)]), roots, EvalTransform(res), seed),
                config.get("batch_size") or config["batch_size_test"],
                JsonCollator(tokenizer, positions, positions, plans=[step_plan]),
                self.sharded,
            )
        super().__init__(config, tokenizer, parts)

    @staticmethod
    def eval_file(split: str) -> str:
        """The configuration key of an evaluation split's lists."""
        return f"{split}_file"


class PretrainData(AlbefData):
    """Pretrain.py."""

    train_set = PretrainDataset
    scale, longest, mlm, has_validation = (0.2, 1.0), _LONGEST, True, False


class NlvrPretrainData(AlbefData):
    """Pretrain_nlvr.py, text assignment: pre-training's captions and transform, no masks."""

    train_set = PretrainDataset
    scale, longest, has_validation = (0.2, 1.0), _LONGEST, False


class RetrievalData(AlbefData):
    """Retrieval.py: every process encodes all images of an evaluation."""

    train_set, eval_set, eval_splits = RetrievalTrainDataset, RetrievalEvalDataset, ("val", "test")
    sharded = False


class VqaData(AlbefData):
    """VQA.py: the test questions are answered once, after training."""

    train_set, eval_set, eval_splits = QuestionTrainDataset, QuestionTestDataset, ("test",)
    root_keys, longest, has_validation = ("vqa_root", "vg_root"), _LONGEST, False

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        questions = self.sets["test"]
        assert isinstance(questions, QuestionTestDataset)
        questions.answer_list = read_answers(config["answer_list"])


class VeData(AlbefData):
    """VE.py."""

    train_set, eval_set, eval_splits = EntailmentTrainDataset, EntailmentTestDataset, ("val", "test")


class NlvrData(AlbefData):
    """NLVR.py."""

    train_set, eval_set, eval_splits = StatementTrainDataset, StatementTestDataset, ("val", "test")


class GroundingData(AlbefData):
    """Grounding.py: ``test_file`` holds the references of every split, and is scored as a whole."""

    train_set, eval_set, eval_splits = GroundingTrainDataset, GroundingTestDataset, ("val",)
    scale = None

    @staticmethod
    def eval_file(split: str) -> str:
        return "test_file"


# By the name of the script.
DATA: dict[str, type[AlbefData]] = {
    "Pretrain": PretrainData,
    "Retrieval": RetrievalData,
    "VQA": VqaData,
    "VE": VeData,
    "NLVR": NlvrData,
    "Pretrain_nlvr": NlvrPretrainData,
    "Grounding": GroundingData,
}


def files(value: str | Sequence[str]) -> list[str]:
    """The list files that a configuration key names: one, or several."""
    return [value] if isinstance(value, str) else list(value)


def _masker(tokenizer: Any, probability: float) -> TokenMasker:
    spared = {tokenizer.pad_token_id, tokenizer.cls_token_id}
    return TokenMasker(tokenizer.mask_token_id, len(tokenizer), spared, probability)
