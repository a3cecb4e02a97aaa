"""The blocks of X-VLM's YAML files and the keys that several of its scripts share.

Source: docs/official/xvlm.md §2.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Le, MinLen

from vlp.config.engine_keys import Precision
from vlp.config.kinds import Allowed, Amount, Count, Name, Positive, PositiveAmount, Share, Switch, Text
from vlp.config.schema import Schema, key
from vlp.yaml_dialect.keys import BertConfig, Flag, FromJson, Lists, Optimizer, Size, YamlKeys

_ENCODERS = {"clip": "CLIP as vision_config describes it", "swin": "Swin", "deit": "DeiT"}
_PATCHES = {"swin": 32, "deit": 16}  # pixels of a patch's side


class VisionConfig(Schema):
    """The content of the JSON of the image encoder: Swin's keys, then those that CLIP's ViT alone reads."""

    ckpt: Name = key("data/swin_base_patch4_window7_224_22k.pth", "weights that init.vision=pretrained starts from")
    vision_width: Size = key(1024, "channels of the image states")
    image_res: Annotated[int, Ge(1), Le(4096)] = key(224, "as image_res, which Swin's tables are made for")
    window_size: Size = key(7, "patches of a window's side")
    embed_dim: Size = key(128, "channels of the first stage; each further one doubles them")
    depths: Annotated[list[Positive], MinLen(1)] = key([2, 2, 18, 2], "blocks of each stage")
    num_heads: Annotated[list[Positive], MinLen(1)] = key([4, 8, 16, 32], "attention heads of each stage")
    patch_size: Size = key(16, "CLIP: pixels of a patch's side")
    hidden_act: Literal["quick_gelu", "gelu"] = key("quick_gelu", "CLIP: the activation")
    num_attention_heads: Positive = key(12, "CLIP: attention heads of a layer")
    attention_dropout: Share = key(0.0, "CLIP: dropout of attention")
    intermediate_size: Positive = key(3072, "CLIP: width of a feed-forward layer")
    num_hidden_layers: Positive = key(12, "CLIP: layers")
    local_attn_depth: Count = key(4, "CLIP and DeiT: last layers that see a region's patches alone")

    def swin_problems(self) -> Iterator[str]:
        """What no Swin can be."""
        c, name = self, "vision_config"
        if len(c.depths) != len(c.num_heads):
            yield f"{name}.depths={c.depths} and {name}.num_heads={c.num_heads}: give each stage one of both"
            return
        if (width := c.embed_dim << len(c.depths) - 1) != c.vision_width:
            yield f"{name}.vision_width={c.vision_width}, but {name}.embed_dim={c.embed_dim} grows to {width}"
        for stage, heads in enumerate(c.num_heads):
            if (width := c.embed_dim << stage) % heads:
                yield f"{name}.num_heads={c.num_heads}: stage {stage} has {width} channels, not a multiple of {heads}"
            side = c.image_res // (4 << stage)
            if side > c.window_size and side % c.window_size:
                yield (
                    f"{name}.window_size={c.window_size}: stage {stage} of image_res={c.image_res} is {side} patches "
                    "wide, which whole windows do not fill"
                )
                return


class TextConfig(BertConfig):
    """The content of the JSON of the text and fusion layers; ``encoder_width`` becomes the image states' width."""

    named: ClassVar[str] = "text_config"
    encoder_width: Size = key(1024, "set to vision_config.vision_width, as officially")
    bos_token_id: Count | None = key(None, "for other readers")
    eos_token_id: Count | None = key(None, "for other readers")


class XvlmOptimizer(Optimizer):
    """AdamW, with larger steps for what starts at random."""

    weight_decay: Amount = key(0.01, "of parameters whose names hold neither bias nor norm")
    lr_mult: PositiveAmount = key(2, "times lr: the rate of what no checkpoint gives")


class Schedular(Schema):
    """The official spelling of the schedule's block."""

    sched: Literal["linear"] = key("linear", "up over the warm-up, then down to 0")
    lr: PositiveAmount = key(1e-4, "official, without effect: optimizer.lr counts")
    epochs: Positive = key(10, "passes over the training set")
    num_warmup_steps: Count | Share = key(0.1, "a whole number: steps of the warm-up; 0.1: a tenth of all")


class Accelerator(Schema):
    """Precision and gradient clipping of the pre-training stages."""

    SYNCBN: Switch = key(False, "processes share statistics of batch normalisation, of which there is none")
    FP16_OPT_LEVEL: Literal["O0", "O1", "O2"] = key("O1", "O0: float32; O1, O2: float16 with loss scaling")
    FP16_LOSS_SCALE: Literal["dynamic"] | PositiveAmount = key("dynamic", "factor of the loss in float16")
    RNG_SEED: Count = key(
        42, "of dropout and negatives, the same on every rank; --seed is that of weights, data and order"
    )
    GRAD_ACCUMULATE_STEPS: Literal[1] = key(1, "official: nothing accumulates")
    CLIP_GRAD_NORM: Amount = key(1.0, "norm that gradients are clipped to; 0: none")
    backend: Literal["native", "apex"] = key("native", "ours: torch's own AMP and DDP, or NVIDIA's apex as officially")


class Images(Schema):
    """The stream of image-text pairs."""

    image_key: Name = key("binary", "key of a row's image")
    is_image_rpath: Switch = key(False, "it holds a path; False: the image file itself in base64")
    caption_key: Name = key("caption", "key of a row's text")
    tokenized: Switch = key(False, "texts are word pieces with spaces between them")
    batch_size: Positive = key(128, "pairs of a GPU")
    num_workers: Annotated[int, Ge(0), Le(1024)] = key(4, "loader processes of each process; 0: none")


class Regions(Images):
    """The stream of regions and their texts."""

    caption_key: Literal["caption"] = key("caption", "key of an element's text")
    batch_size: Positive = key(128, "texts of a GPU")
    iter_perc: Share = key(0.5, "share of the iterations with a batch of regions")
    max_images: Positive = key(48, "images of a GPU's batch")
    max_regions: Positive = key(5, "texts of an image")
    min_perc_in_image: Share = key(0.5, "share of a box that a crop must hold")
    careful_hflip: Switch = key(False, "no flip of an image whose texts speak of left or right")


class LineFiles(Lists):
    """Of a key: every file or folder of JSON lines that it names must be there."""

    def complaint(self, value: Any) -> str:
        names = [value] if isinstance(value, str) else value
        lacking = [name for name in names if not os.path.exists(name)]
        return f"{lacking[0]}: no such file or folder{self.advice}" if lacking else ""


_IN_WORDS = Allowed("a file or folder of JSON lines, or several as [a.json, folder]")
TrainLines = Annotated[Name | Annotated[list[Name], MinLen(1)], _IN_WORDS, LineFiles(training=True)]
RegionLines = Annotated[Name | list[Name], _IN_WORDS, LineFiles(training=True)]  # [] is none


class XvlmKeys(YamlKeys):
    """What every script reads."""

    # Model
    use_clip_vit: Switch = key(False, "CLIP's ViT reads images")
    use_swin: Switch = key(True, "Swin reads images, unless use_clip_vit; neither: DeiT")
    vision_config: Annotated[VisionConfig, FromJson()] = key(
        VisionConfig(image_res=384, window_size=12), "JSON file of the image encoder"
    )
    image_res: Annotated[int, Ge(1), Le(4096)] = key(384, "pixels of the side that images are resized to")
    patch_size: Size = key(32, "pixels of a patch's side")
    use_roberta: Switch = key(False, "official: not part of this code")
    text_config: Annotated[TextConfig, FromJson()] = key(TextConfig(), "JSON file of the text and fusion layers")
    text_encoder: Name = key(
        "data/bert-base-uncased", "local folder or hub name of the tokenizer and, with init.text=pretrained, of weights"
    )
    # Optimiser
    optimizer: XvlmOptimizer = key(XvlmOptimizer(), "the optimiser")
    schedular: Schedular = key(Schedular(), "the schedule")

    def relations(self) -> Iterator[str]:
        yield from super().relations()
        if self.use_roberta:
            yield "use_roberta=True: the official code cannot pre-train with RoBERTa and this one has BERT alone: False"
        yield from self._of_images()

    def _of_images(self) -> Iterator[str]:
        c, vision = self, self.vision_config
        encoder = "clip" if c.use_clip_vit else "swin" if c.use_swin else "deit"
        wanted = vision.patch_size if encoder == "clip" else _PATCHES[encoder]
        if c.patch_size != wanted:
            yield (
                f"patch_size={c.patch_size}: use_clip_vit={c.use_clip_vit} and use_swin={c.use_swin} make it "
                f"{_ENCODERS[encoder]}, which has patches of {wanted}: give patch_size={wanted}"
            )
        if c.image_res % c.patch_size:
            yield f"image_res={c.image_res} is not a multiple of patch_size={c.patch_size}"
        elif encoder == "swin" and c.image_res != vision.image_res:
            yield (
                f"image_res={c.image_res}, but vision_config.image_res={vision.image_res}: Swin is made for one size, "
                f"so name that size's JSON, such as vision_config=configs/config_swinB_{c.image_res}.json"
            )
        elif encoder == "swin":
            yield from vision.swin_problems()

    @classmethod
    def settled(cls, config: dict[str, Any]) -> dict[str, Any]:
        """The fusion layers read what the image encoder gives, whatever the text model's JSON says."""
        width = config["vision_config"]["vision_width"]
        return {**config, "text_config": {**config["text_config"], "encoder_width": width}}


class ContrastKeys(Schema):
    """Of the scripts with a contrastive objective."""

    embed_dim: Size = key(256, "channels of the contrastive features")
    temp: PositiveAmount = key(0.07, "temperature that the contrastive objective starts with")


class MaskingKeys(Schema):
    """What a text of the streams becomes."""

    max_words: Positive = key(40, "words of a text")
    max_tokens: Annotated[int, Ge(2)] = key(40, "tokens of a text, with [CLS]")
    mask_prob: Share = key(0.25, "share of the tokens that masked language modelling chooses")
    max_masks: Positive = key(8, "most tokens that it chooses")
    mask_whole_word: Switch = key(True, "choose words, not pieces of them")
    skipgram_prb: Share = key(0.2, "share of the choices that are spans")
    skipgram_size: Positive = key(3, "longest span, in tokens")

    def relations(self) -> Iterator[str]:
        yield from super().relations()
        yield from _too_long(self)


class StageKeys(XvlmKeys):
    """Of the pre-training stages, which have an ``accelerator`` and streams of JSON lines."""

    vision_config: Annotated[VisionConfig, FromJson()] = key(VisionConfig(), "JSON file of the image encoder")
    image_res: Annotated[int, Ge(1), Le(4096)] = key(224, "pixels of the side that images are resized to")
    train_dataset_size: Positive = key(5114489, "rows of an epoch, from which its steps are counted")
    accelerator: Accelerator = key(Accelerator(), "precision and gradient clipping")
    load_bertL_by_sep: Switch = key(False, "BERT-large: its layers 13, 15 … 23 start the fusion layers")
    # Ours
    image_root: Text = key("", "folder of relative image paths; empty: the working directory, as officially")
    num_workers: Annotated[int, Ge(0), Le(1024)] | None = key(None, "of both streams; None: what their blocks say")  # type: ignore[assignment]
    precision: Precision | None = key(None, "32, bf16, or 16 with loss scaling; None: accelerator.FP16_OPT_LEVEL")  # type: ignore[assignment]

    def relations(self) -> Iterator[str]:
        yield from super().relations()
        c = self
        if c.train_dataset_size <= c.train_batch * c.world_size:
            yield (
                f"train_dataset_size={c.train_dataset_size}: an epoch needs two steps or more of {c.world_size} "
                f"process(es) x {c.batch_key}={c.train_batch}; it is the number of rows of the training files"
            )
        if c.accelerator.backend == "apex" and c.precision is not None:
            yield (
                f"precision={c.precision}: with accelerator.backend=apex, accelerator.FP16_OPT_LEVEL alone says it: "
                "leave precision out"
            )

    @classmethod
    def settled(cls, config: dict[str, Any]) -> dict[str, Any]:
        config = super().settled(config)
        accelerator = config["accelerator"]
        if config["precision"] is None and accelerator["backend"] == "native":
            config["precision"] = 32 if accelerator["FP16_OPT_LEVEL"] == "O0" else 16
        if config["num_workers"] is not None:
            for name in ("images", "regions"):
                if name in config:
                    config[name] = {**config[name], "num_workers": config["num_workers"]}
        return config


class FinetuningKeys(XvlmKeys):
    """Of the fine-tuning scripts, which have ``--bs``, ``--evaluate`` and lists that are JSON arrays."""

    bs: Annotated[int, Ge(-1), Flag(unset=-1)] = key(
        -1, "training samples of a step of all GPUs; -1: what the file says"
    )
    output_hdfs: Annotated[Text, Flag()] = key("", "official: a folder of HDFS, which is not written")

    def relations(self) -> Iterator[str]:
        yield from super().relations()
        if 0 <= self.bs < self.world_size:
            yield f"--bs {self.bs}: {self.world_size} processes need a sample each"
        if self.output_hdfs:
            yield (
                f"--output_hdfs {self.output_hdfs}: HDFS is not written and results of any number of processes need "
                "none: leave it out, and copy --output_dir by hdfs dfs -put"
            )

    @classmethod
    def settled(cls, config: dict[str, Any]) -> dict[str, Any]:
        """``--bs`` is divided among the GPUs."""
        config = super().settled(config)
        return {**config, cls.batch_key: config["bs"] // config["world_size"] or 1} if config["bs"] > 0 else config


class TokensKeys(Schema):
    """Of the scripts that cut texts to a number of tokens."""

    max_tokens: Annotated[int, Ge(2)] = key(40, "tokens of a text, with [CLS]")

    def relations(self) -> Iterator[str]:
        yield from super().relations()
        yield from _too_long(self)


def optimisation(lr: float, epochs: int, warmup: int | float = 0.1) -> dict[str, Any]:
    """The defaults of ``optimizer`` and ``schedular``."""
    return {
        "optimizer": XvlmOptimizer(lr=lr),
        "schedular": Schedular(lr=lr, epochs=epochs, num_warmup_steps=warmup),
    }


def _too_long(c: Any) -> Iterator[str]:
    if c.max_tokens > (most := c.text_config.max_position_embeddings):
        yield f"max_tokens={c.max_tokens}, but text_config.max_position_embeddings={most}"
