"""ALBEF's configuration: the keys of each script, whose defaults are the official values, and its command.

Not official: what stands under "Ours" in ``vlp.yaml_dialect.keys``, the image_root of pre-training, --evaluate and
momentum_after_loading of NLVR.

Source: docs/official/albef.md §1, §2.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from albef.keys import AlbefKeys, MomentumKeys, QueueKeys, Schedular
from vlp.config.kinds import Count, Name, Positive, Share, Switch
from vlp.config.schema import key, with_defaults
from vlp.yaml_dialect.command import Command
from vlp.yaml_dialect.keys import (
    EvaluateKeys,
    Flag,
    Folder,
    ImageRootKeys,
    OneFile,
    Optimizer,
    TestFiles,
    TrainFiles,
    TrainTestBatchKeys,
)

# EPIC >
from epic_vlp.keys import with_epic_keys  # isort: skip
# < EPIC

_FOUR_MILLION = ["data/coco.json", "data/vg.json", "data/cc3m_train.json", "data/cc3m_val.json", "data/sbu.json"]


def _optimizer(lr: float) -> Optimizer:
    return Optimizer(lr=lr)


def _schedular(lr: float, epochs: int, min_lr: float, warmup_epochs: int = 1) -> Schedular:
    return Schedular(lr=lr, epochs=epochs, min_lr=min_lr, warmup_epochs=warmup_epochs)


# EPIC >
@with_epic_keys
# < EPIC
@with_defaults(output_dir="Pretrain/")
class PretrainKeys(ImageRootKeys, QueueKeys, AlbefKeys):
    """Pretrain.py; Pretrain.yaml, the 14M setting of ALBEF."""

    least_batch: ClassVar[int] = 2

    resume: Annotated[Switch, Flag()] = key(
        False, "go on after the epoch of --checkpoint, a checkpoint_XX.pth with its optimiser"
    )
    train_file: TrainFiles = key(
        [*_FOUR_MILLION[:2], "data/cc12m.json", *_FOUR_MILLION[2:]], "the lists of image-text pairs"
    )
    batch_size: Positive = key(64, "pairs of a GPU")
    mlm_probability: Share = key(0.15, "share of the tokens that masked language modelling chooses")
    alpha: Share = key(0.4, "weight of the momentum model's soft targets")
    optimizer: Optimizer = key(_optimizer(1e-4), "the optimiser")
    schedular: Schedular = key(_schedular(1e-4, 30, 1e-5, 20), "the schedule")

    def relations(self) -> Iterator[str]:
        yield from super().relations()
        if self.resume and not self.checkpoint:
            yield "--resume needs --checkpoint, the checkpoint_XX.pth to go on from"
        if self.resume and self.resume_from:
            yield "--resume and resume_from contradict each other: give one of them"


@with_defaults(output_dir="output/Retrieval_flickr", image_res=384)
class RetrievalKeys(EvaluateKeys, TrainTestBatchKeys, ImageRootKeys, QueueKeys, MomentumKeys, AlbefKeys):
    """Retrieval.py; Retrieval_flickr.yaml."""

    least_batch: ClassVar[int] = 2

    train_file: TrainFiles = key(["data/flickr30k_train.json"], "the lists of training captions")
    val_file: TestFiles = key("data/flickr30k_val.json", "the list of validation images")
    test_file: TestFiles = key("data/flickr30k_test.json", "the list of test images")
    k_test: Positive = key(128, "most similar candidates that the matching head ranks")
    optimizer: Optimizer = key(_optimizer(1e-5), "the optimiser")
    schedular: Schedular = key(_schedular(1e-5, 10, 1e-6), "the schedule")


@with_defaults(output_dir="output/vqa", image_res=384, batch_size_test=16)
class VqaKeys(EvaluateKeys, TrainTestBatchKeys, MomentumKeys, AlbefKeys):
    """VQA.py; VQA.yaml."""

    text_decoder: Annotated[Name, Flag()] = key("bert-base-uncased", "as text_encoder, of the answer decoder")
    train_file: TrainFiles = key(
        ["data/vqa_train.json", "data/vqa_val.json", "data/vg_qa.json"], "the lists of questions with answers"
    )
    test_file: TestFiles = key(["data/vqa_test.json"], "the lists of questions to answer")
    answer_list: OneFile = key("data/answer_list.json", "the candidate answers")
    vqa_root: Folder = key("", "folder of the images of vqa; empty: that of each list")
    vg_root: Folder = key("", "folder of the images of vg; empty: that of each list")
    k_test: Positive = key(128, "candidates that are scored as a whole")
    eos: Name = key("[SEP]", "end of an answer")
    optimizer: Optimizer = key(_optimizer(2e-5), "the optimiser")
    schedular: Schedular = key(_schedular(2e-5, 8, 1e-6, 4), "the schedule")

    def relations(self) -> Iterator[str]:
        yield from super().relations()
        text = self.bert_config
        if text.encoder_width != text.hidden_size:
            yield (
                f"bert_config.encoder_width={text.encoder_width}: the answer decoder reads questions with what reads "
                f"images, so give them one width, that of bert_config.hidden_size={text.hidden_size}"
            )


@with_defaults(output_dir="output/VE", image_res=384, warm_up=False)
class VeKeys(EvaluateKeys, TrainTestBatchKeys, ImageRootKeys, MomentumKeys, AlbefKeys):
    """VE.py; VE.yaml."""

    train_file: TrainFiles = key("data/ve_train.json", "the list of training pairs")
    val_file: TestFiles = key("data/ve_dev.json", "the list of development pairs")
    test_file: TestFiles = key("data/ve_test.json", "the list of test pairs")
    optimizer: Optimizer = key(_optimizer(2e-5), "the optimiser")
    schedular: Schedular = key(_schedular(2e-5, 5, 1e-6), "the schedule")


@with_defaults(output_dir="output/NLVR_pretrain")
class NlvrPretrainKeys(ImageRootKeys, AlbefKeys):
    """Pretrain_nlvr.py; NLVR_pretrain.yaml."""

    least_batch: ClassVar[int] = 3

    train_file: TrainFiles = key([*_FOUR_MILLION], "the lists of image-text pairs")
    batch_size: Positive = key(64, "pairs of a GPU")
    vision_width: Positive = key(768, "channels of the image states")
    embed_dim: Positive = key(256, "channels of the contrastive features")
    optimizer: Optimizer = key(_optimizer(2e-5), "the optimiser")
    schedular: Schedular = key(_schedular(2e-5, 1, 1e-5), "the schedule")


@with_defaults(output_dir="output/NLVR", image_res=384)
class NlvrKeys(ImageRootKeys, EvaluateKeys, MomentumKeys, AlbefKeys):
    """NLVR.py; NLVR.yaml."""

    train_file: TrainFiles = key(["data/nlvr_train.json"], "the lists of training statements")
    val_file: TestFiles = key(["data/nlvr_dev.json"], "the lists of development statements")
    test_file: TestFiles = key(["data/nlvr_test.json"], "the lists of test statements")
    batch_size: Positive = key(16, "statements of a GPU, two images each")
    eval_ema: Switch = key(False, "official, without effect")
    momentum_after_loading: Switch = key(
        False, "ours: start the momentum model as a copy of the checkpoint; officially it is copied before loading"
    )
    optimizer: Optimizer = key(_optimizer(2e-5), "the optimiser")
    schedular: Schedular = key(_schedular(2e-5, 10, 1e-6), "the schedule")


@with_defaults(output_dir="output/RefCOCO", image_res=384)
class GroundingKeys(ImageRootKeys, EvaluateKeys, QueueKeys, MomentumKeys, AlbefKeys):
    """Grounding.py; Grounding.yaml."""

    least_batch: ClassVar[int] = 2

    gradcam_mode: Annotated[Literal["itm", "itc"], Flag()] = key("itm", "whose gradient makes the maps")
    block_num: Annotated[Count, Flag()] = key(8, "text layer (itm) or image block (itc) whose attention is read")
    train_file: TrainFiles = key(["data/refcoco+_train.json"], "the lists of training pairs")
    test_file: TestFiles = key(["data/refcoco+_val.json", "data/refcoco+_test.json"], "the lists of phrases to find")
    refcoco_data: Folder = key("data", "folder of refcoco+/refs(unc).p and refcoco+/instances.json")
    det_file: OneFile = key("data/refcoco+/dets.json", "the detector's boxes")
    coco_file: Name = key("data/refcoco+/cocos.json", "official, without effect")
    batch_size: Positive = key(32, "pairs of a GPU")
    optimizer: Optimizer = key(_optimizer(1e-5), "the optimiser")
    schedular: Schedular = key(_schedular(1e-5, 5, 1e-6), "the schedule")

    def relations(self) -> Iterator[str]:
        yield from super().relations()
        first, layers = self.bert_config.fusion_layer, self.bert_config.num_hidden_layers
        if self.gradcam_mode == "itm" and not first <= self.block_num < layers:
            yield f"block_num={self.block_num}: the fusion layers are {first} to {layers - 1}"
        if self.gradcam_mode == "itc" and self.block_num >= self.vision_config.depth:
            yield f"block_num={self.block_num}: the image blocks are 0 to {self.vision_config.depth - 1}"


# Script -> its command: name of the YAML file that it reads by default, and its keys.
COMMANDS = {
    name: Command(name, f"./configs/{config}.yaml", schema)
    for name, config, schema in (
        ("Pretrain", "Pretrain", PretrainKeys),
        ("Retrieval", "Retrieval_flickr", RetrievalKeys),
        ("VQA", "VQA", VqaKeys),
        ("VE", "VE", VeKeys),
        ("NLVR", "NLVR", NlvrKeys),
        ("Pretrain_nlvr", "NLVR_pretrain", NlvrPretrainKeys),
        ("Grounding", "Grounding", GroundingKeys),
    )
}
