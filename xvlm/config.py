"""X-VLM's configuration: the keys of each script, whose defaults are the official values, and its command.

Official paths of the streams begin with ``hdfs://path/to/``; here with ``data/pretrain_4m/``. Not official: what stands
under "Ours" in ``vlp.yaml_dialect.keys`` and ``xvlm.keys``, fixed_views, --checkpoint of Pretrain and the lists of
VLUE. Self-critical training of captions is not part of this code.

Source: docs/official/xvlm.md §1, §2.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge

from vlp.config.kinds import Count, Name, Positive, Share, Switch, Text
from vlp.config.paths import MustExist
from vlp.config.schema import Schema, key, with_defaults
from vlp.yaml_dialect.command import Command
from vlp.yaml_dialect.keys import (
    EvaluateKeys,
    Flag,
    Folder,
    ImageRootKeys,
    OneFile,
    TestFiles,
    TrainFiles,
    TrainTestBatchKeys,
)
from xvlm.keys import (
    ContrastKeys,
    FinetuningKeys,
    Images,
    MaskingKeys,
    RegionLines,
    Regions,
    StageKeys,
    TokensKeys,
    TrainLines,
    optimisation,
)

# EPIC >
from epic_vlp.keys import with_region_epic_keys  # isort: skip
# < EPIC

_PAIRS = [f"data/pretrain_4m/{name}" for name in ("coco", "vg", "sbu", "cc3m")]
_REGIONS = [f"data/pretrain_4m/{name}" for name in ("coco_objs", "vg_objs", "vg_regions")]
_REFCOCO = ["data/finetune/refcoco+_val.json", "data/finetune/refcoco+_test.json"]


DetFile = Annotated[Text, MustExist(advice="; docs/data.md says how to make it")]


class RegionKeys(Schema):
    """Of the scripts with regions."""

    train_file_regions: RegionLines = key([*_REGIONS], "files and folders of regions as JSON lines")
    regions: Regions = key(Regions(), "the stream of regions")
    calc_image_bbox_loss: Switch = key(False, "whole images enter the box loss, too")


# EPIC >
@with_region_epic_keys
# < EPIC
@with_defaults(output_dir="output/pretrain", **optimisation(1e-4, 41, 2500))
class PretrainKeys(RegionKeys, MaskingKeys, ContrastKeys, StageKeys):
    """Pretrain.py; Pretrain_XVLM_base_4m.yaml."""

    batch_key: ClassVar[str] = "images.batch_size"
    least_batch: ClassVar[int] = 2

    train_file: TrainLines = key([*_PAIRS], "files and folders of image-text pairs as JSON lines")
    images: Images = key(Images(), "the stream of image-text pairs")
    ckpt_frequent_step: Positive = key(50000, "iterations between two model_state_step_XX.th")
    ckpt_frequent: Positive = key(5, "epochs between two model_state_epoch_XX.th")
    fixed_views: Switch = key(False, "ours: resize images only, so that a saliency cache holds for every epoch")

    def relations(self) -> Iterator[str]:
        yield from super().relations()
        if self.train_file_regions and self.regions.iter_perc and self.regions.batch_size < 2:
            yield f"regions.batch_size={self.regions.batch_size}: matching needs at least 2 texts of a GPU"


@with_defaults(output_dir="output/nlvr_pretrain", **optimisation(3e-5, 2))
class NlvrPretrainKeys(MaskingKeys, StageKeys):
    """NLVR_pretrain.py; NLVR_pretrain_O1.yaml."""

    batch_key: ClassVar[str] = "images.batch_size"
    least_batch: ClassVar[int] = 3

    train_file: TrainLines = key([*_PAIRS], "files and folders of image-text pairs as JSON lines")
    images: Images = key(Images(), "the stream of image-text pairs")
    embed_dim: Positive = key(256, "channels of the contrastive features")


@with_defaults(
    output_dir="output/bbox_pretrain",
    train_dataset_size=318547,
    train_file_regions=[f"{path}_rm_leak" for path in _REGIONS],  # without images that RefCOCO evaluates on
    regions=Regions(iter_perc=1.0, batch_size=24, max_images=9),
    **optimisation(3e-5, 2),
)
class GroundingBboxPretrainKeys(RegionKeys, MaskingKeys, StageKeys):
    """Grounding_bbox_pretrain.py; Grounding_bbox_pretrain_O1.yaml."""

    batch_key: ClassVar[str] = "regions.batch_size"

    def relations(self) -> Iterator[str]:
        yield from super().relations()
        if not self.train_file_regions:
            yield "train_file_regions is empty: this stage trains on regions alone"


@with_defaults(output_dir="output/capt_pretrain", **optimisation(3e-5, 2))
class CaptioningPretrainKeys(MaskingKeys, StageKeys):
    """Captioning_pretrain.py; Captioning_pretrain_O1.yaml."""

    batch_key: ClassVar[str] = "images.batch_size"

    train_file: TrainLines = key([*_PAIRS], "files and folders of image-text pairs as JSON lines")
    images: Images = key(Images(caption_key="desc"), "the stream of image-text pairs")


@with_defaults(
    output_dir="output/itr_flickr",
    image_root="images/",
    batch_size_train=20,
    batch_size_test=12,
    **optimisation(3e-5, 10),
)
class RetrievalKeys(EvaluateKeys, TrainTestBatchKeys, ImageRootKeys, TokensKeys, ContrastKeys, FinetuningKeys):
    """Retrieval.py; Retrieval_flickr.yaml."""

    least_batch: ClassVar[int] = 2

    train_file: TrainFiles = key(["data/finetune/flickr30k_train.json"], "the lists of training captions")
    val_file: TestFiles = key("data/finetune/flickr30k_val.json", "the list of validation images")
    test_file: TestFiles = key("data/finetune/flickr30k_test.json", "the list of test images")
    batch_size_test_text: Positive = key(64, "evaluated texts of a GPU")
    k_test: Positive = key(128, "most similar candidates that the matching head ranks")


@with_defaults(output_dir="output/vqa", batch_size_train=24, batch_size_test=32, **optimisation(5e-5, 10))
class VqaKeys(EvaluateKeys, TrainTestBatchKeys, TokensKeys, FinetuningKeys):
    """VQA.py; VQA.yaml."""

    train_file: TrainFiles = key(
        [f"data/finetune/{name}.json" for name in ("vqa_train", "vqa_val", "vg_qa")],
        "the lists of questions with answers",
    )
    test_file: TestFiles = key(["data/finetune/vqa_test.json"], "the lists of questions to answer")
    answer_list: OneFile = key("data/finetune/answer_list.json", "the candidate answers")
    vqa_root: Folder = key("images/coco/", "folder of the images of vqa; empty: that of each list")
    vg_root: Folder = key("images/visualgenome/", "folder of the images of vg; empty: that of each list")
    k_test: Positive = key(128, "candidates that are scored as a whole")
    num_dec_layers: Positive = key(6, "layers of the answer decoder")
    start_eval: Count = key(7, "first epoch after which the test questions are answered")
    eos: Name = key("[SEP]", "end of an answer")


@with_defaults(output_dir="output/nlvr", image_root="images/nlvr2/", **optimisation(3e-5, 10))
class NlvrKeys(EvaluateKeys, ImageRootKeys, FinetuningKeys):
    """NLVR.py; NLVR.yaml."""

    load_nlvr_pretrain: Annotated[Switch, Flag()] = key(
        False, "official: --checkpoint is of NLVR_pretrain.py; here its tensors show it"
    )
    train_file: TrainFiles = key(["data/finetune/nlvr_train.json"], "the lists of training statements")
    val_file: TestFiles = key(["data/finetune/nlvr_dev.json"], "the lists of development statements")
    test_file: TestFiles = key(["data/finetune/nlvr_test.json"], "the lists of test statements")
    batch_size: Positive = key(10, "statements of a GPU, two images each")


class ReferenceKeys(EvaluateKeys, ImageRootKeys, TokensKeys, FinetuningKeys):
    """Of the two scripts that find what a phrase refers to."""

    train_file: TrainFiles = key(["data/finetune/refcoco+_train.json"], "the lists of training pairs")
    test_file: TestFiles = key([*_REFCOCO], "the lists of phrases to find")
    refcoco_data: Folder = key(
        "data/finetune/", "folder of refcoco+/refs(unc).p and refcoco+/instances.json; empty: test_file has all of it"
    )
    batch_size: Positive = key(20, "pairs of a GPU")
    vlue_test: Switch = key(False, "test_file is VLUE's, which holds boxes, sizes and detections itself")

    def relations(self) -> Iterator[str]:
        yield from super().relations()
        for name in ("refcoco_data", "det_file"):
            if not self.vlue_test and getattr(self, name, "-") == "":
                yield f"{name} is empty: only vlue_test=True, whose test_file has it all, needs none"


@with_defaults(output_dir="output/refcoco", image_root="images/coco/", **optimisation(2e-5, 5))
class GroundingKeys(ReferenceKeys, ContrastKeys):
    """Grounding.py; Grounding.yaml."""

    least_batch: ClassVar[int] = 2

    gradcam_mode: Annotated[Literal["itm"], Flag()] = key("itm", "whose gradient makes the maps")
    block_num: Annotated[Count, Flag(unset=-1)] = key(
        9, "text layer whose attention is read; --block_num -1: the file's"
    )
    epochs: Annotated[int, Ge(-1), Flag(unset=-1)] = key(-1, "passes over the training set; -1: schedular.epochs")
    det_file: DetFile = key("data/finetune/refcoco+/dets.json", "the detector's boxes; empty: test_file has them")
    coco_file: Name = key("data/finetune/refcoco+/cocos.json", "official, without effect")

    def relations(self) -> Iterator[str]:
        yield from super().relations()
        first, layers = self.text_config.fusion_layer, self.text_config.num_hidden_layers
        if not first <= self.block_num < layers:
            yield f"block_num={self.block_num}: the fusion layers are {first} to {layers - 1}"
        if self.epochs == 0:
            yield "--epochs 0: expected a whole number of passes, at least 1, or -1"

    @classmethod
    def settled(cls, config: dict[str, Any]) -> dict[str, Any]:
        """``--epochs`` is the length of the schedule."""
        config = super().settled(config)
        if config["epochs"] > 0:
            config["schedular"] = {**config["schedular"], "epochs": config["epochs"]}
        return config


@with_defaults(output_dir="output/refcoco_bbox", image_root="images/coco/", **optimisation(3e-5, 10))
class GroundingBboxKeys(ReferenceKeys):
    """Grounding_bbox.py; Grounding_bbox.yaml."""

    load_bbox_pretrain: Annotated[Switch, Flag()] = key(
        False, "official: --checkpoint is of Grounding_bbox_pretrain.py; here its tensors show it"
    )
    careful_hflip: Switch = key(True, "no flip of an image whose phrase speaks of left or right")


@with_defaults(
    output_dir="output/coco_captioning",
    image_root="images/coco/",
    batch_size_train=32,
    batch_size_test=32,
    **optimisation(1e-5, 5),
)
class CaptioningKeys(EvaluateKeys, TrainTestBatchKeys, ImageRootKeys, TokensKeys, FinetuningKeys):
    """Captioning.py; Captioning.yaml."""

    load_capt_pretrain: Annotated[Switch, Flag()] = key(
        False, "official: --checkpoint is of Captioning_pretrain.py; here its tensors show it"
    )
    scst: Annotated[Switch, Flag()] = key(False, "official: self-critical training, which is not part of this code")
    train_file: TrainFiles = key(
        ["data/finetune/coco_karpathy/coco_karpathy_train.json"], "the lists of training captions"
    )
    val_file: TestFiles = key("data/finetune/coco_karpathy/coco_karpathy_val.json", "the list of validation images")
    test_file: TestFiles = key("data/finetune/coco_karpathy/coco_karpathy_test.json", "the list of test images")
    val_gt_file: OneFile = key(
        "data/finetune/coco_karpathy/coco_karpathy_val_gt.json", "captions that val is scored by"
    )
    test_gt_file: OneFile = key(
        "data/finetune/coco_karpathy/coco_karpathy_test_gt.json", "captions that test is scored by"
    )
    num_dec_layers: Positive = key(6, "official, without effect: the decoder is the whole text model")
    label_smoothing: Share = key(0.1, "share of a target's weight that all other tokens get")
    max_length: Positive = key(20, "most tokens of a written caption")
    min_length: Positive = key(5, "fewest tokens of a written caption")
    num_beams: Positive = key(3, "beams of the search")
    prompt: Text = key("a picture of ", "beginning of every caption")
    start_eval: Count = key(0, "first epoch after which captions are written")

    def relations(self) -> Iterator[str]:
        yield from super().relations()
        if self.scst:
            yield "--scst: self-critical training is not part of this code: leave it out, to train by cross-entropy"
        if self.min_length > self.max_length:
            yield f"min_length={self.min_length} is above max_length={self.max_length}"


# Script -> its command: name of the YAML file that it reads by default, and its keys.
COMMANDS = {
    name: Command(name, f"./configs/{config}.yaml", schema)
    for name, config, schema in (
        ("Pretrain", "Pretrain_XVLM_base_4m", PretrainKeys),
        ("Retrieval", "Retrieval_flickr", RetrievalKeys),
        ("VQA", "VQA", VqaKeys),
        ("NLVR", "NLVR", NlvrKeys),
        ("NLVR_pretrain", "NLVR_pretrain_O1", NlvrPretrainKeys),
        ("Grounding", "Grounding", GroundingKeys),
        ("Grounding_bbox", "Grounding_bbox", GroundingBboxKeys),
        ("Grounding_bbox_pretrain", "Grounding_bbox_pretrain_O1", GroundingBboxPretrainKeys),
        ("Captioning", "Captioning", CaptioningKeys),
        ("Captioning_pretrain", "Captioning_pretrain_O1", CaptioningPretrainKeys),
    )
}
