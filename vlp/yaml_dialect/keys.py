"""The configuration keys of ALBEF and X-VLM: those that every script reads, and the blocks inside a YAML file.

A baseline's ``config.py`` adds each script's own and its official values.

Source: docs/official/albef.md §1, §2.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Le, Lt, MinLen
from pydantic.fields import FieldInfo

from vlp.config.engine_keys import EngineKeys, Precision
from vlp.config.kinds import Allowed, Amount, Count, Name, Positive, PositiveAmount, Share, Switch, Text
from vlp.config.paths import File, MustExist
from vlp.config.schema import Schema, key


class Flag:
    """Of a key: it is a flag of the command line, ``--name VALUE``, beside a key of the YAML file."""


def is_flag(field: FieldInfo) -> bool:
    """Whether a key is given as ``--name VALUE``."""
    return any(isinstance(each, Flag) for each in field.metadata)


class Lists(MustExist):
    """Of a key: every list file that it names must be there.

    Attributes:
        training: only a run that trains reads them.
    """

    def __init__(self, training: bool = False) -> None:
        super().__init__(advice="; docs/data.md says how to make the lists")
        self.training = training

    def complaint(self, value: Any) -> str:
        names = [value] if isinstance(value, str) else value
        lacking = [name for name in names if not os.path.isfile(name)]
        return f"{lacking[0]}: no such file{self.advice}" if lacking else ""


ListFiles = Annotated[Name | Annotated[list[Name], MinLen(1)], Allowed("a list file, or several as [a.json, b.json]")]
TrainFiles = Annotated[ListFiles, Lists(training=True)]
TestFiles = Annotated[ListFiles, Lists()]
OneFile = Annotated[Name, Lists()]
Folder = Annotated[Text, MustExist(folder=True)]
Resumed = Annotated[Name | None, MustExist(but=("auto",), advice="; a last.ckpt, or auto")]
Size = Annotated[int, Ge(1), Le(65536)]
Dropout = Annotated[float, Ge(0), Lt(1)]


class VisionConfig(Schema):
    """The image encoder; officially always ViT-B/16."""

    patch_size: Annotated[int, Ge(1), Le(1024)] = key(16, "pixels of a patch's side")
    width: Size = key(768, "channels")
    depth: Annotated[int, Ge(1), Le(1000)] = key(12, "blocks")
    heads: Positive = key(12, "attention heads of a block")

    def relations(self) -> Iterator[str]:
        if self.width % self.heads:
            yield f"vision_config.width={self.width} is not a multiple of vision_config.heads={self.heads}"


class BertConfig(Schema):
    """The content of the JSON that ``bert_config`` names: text layers, then fusion layers.

    Source: docs/official/albef.md §2.
    """

    architectures: list[str] = key(["BertForMaskedLM"], "for other readers")
    model_type: str = key("bert", "for other readers")
    attention_probs_dropout_prob: Dropout = key(0.1, "dropout of attention")
    hidden_dropout_prob: Dropout = key(0.1, "dropout of states")
    hidden_act: Literal["gelu"] = key("gelu", "with the error function")
    hidden_size: Size = key(768, "width of a layer")
    intermediate_size: Positive = key(3072, "width of a feed-forward layer")
    initializer_range: PositiveAmount = key(0.02, "standard deviation of new weights")
    layer_norm_eps: PositiveAmount = key(1e-12, "epsilon of normalisation")
    max_position_embeddings: Size = key(512, "longest text")
    num_attention_heads: Positive = key(12, "attention heads of a layer")
    num_hidden_layers: Annotated[int, Ge(1), Le(1000)] = key(12, "text layers and fusion layers")
    pad_token_id: Count = key(0, "id of padding")
    type_vocab_size: Positive = key(2, "token types")
    vocab_size: Annotated[int, Ge(1), Le(10**9)] = key(30522, "tokens of the embedding")
    fusion_layer: Positive = key(6, "text layers; those from this one on attend to the image, too")
    encoder_width: Size = key(768, "channels of the image states")

    def relations(self) -> Iterator[str]:
        c = self
        if c.hidden_size % c.num_attention_heads:
            yield (
                f"bert_config.hidden_size={c.hidden_size} is not a multiple of "
                f"bert_config.num_attention_heads={c.num_attention_heads}"
            )
        if c.fusion_layer >= c.num_hidden_layers:
            yield (
                f"bert_config.fusion_layer={c.fusion_layer} leaves no fusion layer of "
                f"bert_config.num_hidden_layers={c.num_hidden_layers}"
            )
        if c.pad_token_id >= c.vocab_size:
            yield f"bert_config.pad_token_id={c.pad_token_id} is not below bert_config.vocab_size={c.vocab_size}"


class Optimizer(Schema):
    """AdamW."""

    opt: Literal["adamW"] = key("adamW", "the optimiser")
    lr: PositiveAmount = key(1e-4, "peak of the schedule")
    weight_decay: Amount = key(0.02, "of all parameters but biases and those of one dimension")


class Schedular(Schema):
    """The official spelling of the schedule's block."""

    sched: Literal["cosine"] = key("cosine", "the schedule")
    lr: PositiveAmount = key(1e-4, "the same as optimizer.lr")
    epochs: Positive = key(30, "passes over the training set")
    min_lr: Amount = key(1e-5, "end of the cosine")
    decay_rate: Amount = key(1, "official, without effect")
    warmup_lr: Amount = key(1e-5, "learning rate of the first 100 iterations")
    warmup_epochs: Count = key(20, "steps of the warm-up, of 100 iterations of the first epoch each")
    cooldown_epochs: Count = key(0, "official, without effect")


class Init(Schema):
    """What each encoder starts from: pretrained, random, or a hub name or local file."""

    vision: Name = key("pretrained", "image encoder")
    text: Name = key("pretrained", "text encoder")


class YamlKeys(EngineKeys):
    """What every script reads."""

    batch_keys: ClassVar[tuple[str, ...]] = ("batch_size",)  # of the training batch of a GPU, then of others
    least_batch: ClassVar[int] = 1

    # Flags
    checkpoint: Annotated[File, Flag()] = key("", "weights that the run starts from or evaluates")
    output_dir: Annotated[Name, Flag()] = key("output", "folder of the run")
    text_encoder: Annotated[Name, Flag()] = key(
        "bert-base-uncased", "hub name or local folder of the tokenizer and, with init.text=pretrained, of the weights"
    )
    device: Annotated[Literal["cuda", "cpu"], Flag()] = key("cuda", "cuda falls back to the CPU where there is none")
    seed: Annotated[int, Ge(0), Lt(2**32), Flag()] = key(42, "of weights, order, masks and draws")
    world_size: Annotated[int, Ge(1), Flag()] = key(1, "processes; torchrun and SLURM tell it themselves")
    dist_url: Annotated[Name, Flag()] = key("env://", "where processes meet: env://, or tcp://HOST:PORT")
    distributed: Annotated[Switch, Flag()] = key(True, "False: refuse to be one of several processes")
    # Model
    bert_config: BertConfig = key(BertConfig(), "JSON file of the text and fusion layers")
    vision_config: VisionConfig = key(VisionConfig(), "the image encoder")
    image_res: Annotated[int, Ge(1), Le(4096)] = key(256, "pixels of the side that images are resized to")
    # Optimiser
    optimizer: Optimizer = key(Optimizer(), "the optimiser")
    schedular: Schedular = key(Schedular(), "the schedule")
    # Ours
    init: Init | Literal["pretrained", "random"] = key(Init(), "what the encoders start from")
    allow_outside_root: Switch = key(False, "images may lie outside the folder that their list names")
    precision: Precision = key(32, "32, bf16, or 16 with loss scaling")
    num_workers: Annotated[int, Ge(0), Le(1024)] = key(4, "loader processes of each process; 0: none")
    log_every_n_steps: Positive = key(50, "optimiser steps between two lines of metrics")
    save_every_n_steps: Count = key(0, "optimiser steps between two last.ckpt; 0: at epoch ends only")
    max_steps: Positive | None = key(None, "optimiser steps after which the run ends, wherever its epoch is")
    resume_from: Resumed = key(None, 'a last.ckpt, or "auto": that of output_dir, if there is one')

    def relations(self) -> Iterator[str]:
        yield from super().relations()
        c, vision, text = self, self.vision_config, self.bert_config
        if c.image_res % vision.patch_size:
            yield f"image_res={c.image_res} is not a multiple of vision_config.patch_size={vision.patch_size}"
        if text.encoder_width != vision.width:
            yield f"bert_config.encoder_width={text.encoder_width}, but vision_config.width={vision.width}"
        times = c.schedular
        if times.lr != c.optimizer.lr:
            yield f"schedular.lr={times.lr}, but optimizer.lr={c.optimizer.lr}: give both the same value"
        if times.min_lr > times.lr:
            yield f"schedular.min_lr={times.min_lr} is above schedular.lr={times.lr}"
        batch = getattr(c, c.batch_keys[0])
        if batch < c.least_batch:
            yield f"{c.batch_keys[0]}={batch}: its objectives need at least {c.least_batch} samples of a GPU"


class EvaluateKeys(Schema):
    """Of the scripts that score a checkpoint."""

    evaluate: Annotated[Switch, Flag()] = key(False, "score the checkpoint and train nothing")

    def relations(self) -> Iterator[str]:
        yield from super().relations()
        if self.evaluate and not self.checkpoint:  # type: ignore[attr-defined]
            yield "--evaluate needs --checkpoint, the model to score: a random one gives no result"


class MomentumKeys(Schema):
    """Of the scripts whose momentum model gives soft targets."""

    alpha: Share = key(0.4, "weight of the soft targets")
    distill: Switch = key(True, "train on soft targets, too")
    warm_up: Switch = key(True, "let alpha grow from 0 over the first epoch")


class QueueKeys(Schema):
    """Of the scripts with a contrastive objective over queues."""

    vision_width: Size = key(768, "channels of the image states")
    embed_dim: Size = key(256, "channels of the contrastive features")
    temp: PositiveAmount = key(0.07, "temperature that the contrastive objective starts with")
    queue_size: Annotated[int, Ge(1), Le(10**9)] = key(65536, "features of earlier batches")
    momentum: Annotated[float, Ge(0), Le(1)] = key(0.995, "of the momentum model")

    def relations(self) -> Iterator[str]:
        yield from super().relations()
        c: Any = self
        if c.vision_width != c.vision_config.width:
            yield f"vision_width={c.vision_width}, but vision_config.width={c.vision_config.width}"
        batch, processes = getattr(c, c.batch_keys[0]), c.world_size
        if c.queue_size % (processes * batch):
            yield (
                f"queue_size={c.queue_size} is not a multiple of {processes} process(es) x {c.batch_keys[0]}={batch}: "
                "the queues take whole batches"
            )
