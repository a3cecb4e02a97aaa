"""The blocks of ALBEF's YAML files and the keys that several of its scripts share.

Source: docs/official/albef.md §1, §2.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le

from vlp.config.kinds import Amount, Count, Positive, PositiveAmount, Share, Switch
from vlp.config.schema import Schema, key
from vlp.yaml_dialect.keys import BertConfig, FromJson, Size, YamlKeys


class VisionConfig(Schema):
    """The image encoder; officially always ViT-B/16."""

    patch_size: Annotated[int, Ge(1), Le(1024)] = key(16, "pixels of a patch's side")
    width: Size = key(768, "channels")
    depth: Annotated[int, Ge(1), Le(1000)] = key(12, "blocks")
    heads: Positive = key(12, "attention heads of a block")

    def relations(self) -> Iterator[str]:
        if self.width % self.heads:
            yield f"vision_config.width={self.width} is not a multiple of vision_config.heads={self.heads}"


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


class AlbefKeys(YamlKeys):
    """What every script reads."""

    bert_config: Annotated[BertConfig, FromJson()] = key(BertConfig(), "JSON file of the text and fusion layers")
    vision_config: VisionConfig = key(VisionConfig(), "the image encoder")
    schedular: Schedular = key(Schedular(), "the schedule")

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
        batch, processes = c.train_batch, c.world_size
        if c.queue_size % (processes * batch):
            yield (
                f"queue_size={c.queue_size} is not a multiple of {processes} process(es) x {c.batch_key}={batch}: "
                "the queues take whole batches"
            )
