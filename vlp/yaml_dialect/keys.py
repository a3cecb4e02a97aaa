"""The configuration keys that ALBEF and X-VLM share: those that every script reads, and blocks inside a YAML file.

A baseline's ``keys.py`` and ``config.py`` add its own, each script's and the official values.

Source: docs/official/albef.md §1, §2.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Le, Lt, MinLen
from pydantic.fields import FieldInfo

from vlp.config.engine_keys import EngineKeys, Precision
from vlp.config.kinds import Allowed, Amount, Count, Name, Positive, PositiveAmount, Switch, Text
from vlp.config.paths import File, MustExist
from vlp.config.schema import Schema, key
from vlp.files import why_not_regular


class Flag:
    """Of a key: it is a flag of the command line, ``--name VALUE``, beside a key of the YAML file.

    Attributes:
        unset: a value of the flag that leaves the key as it is; None: every value counts.
    """

    def __init__(self, unset: int | None = None) -> None:
        self.unset = unset


class FromJson:
    """Of a block: the YAML file may name a JSON file instead, whose keys change those of the default."""


def flag_of(field: FieldInfo) -> Flag | None:
    """What makes a key a flag, ``--name VALUE``; None where it is none."""
    return next((each for each in field.metadata if isinstance(each, Flag)), None)


def json_keys(schema: type[Schema]) -> list[str]:
    """The keys whose value may be the name of a JSON file."""
    fields = schema.model_fields.items()
    return [name for name, field in fields if any(isinstance(each, FromJson) for each in field.metadata)]


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
        wrong = [f"{name}: {why}{self.advice}" for name in names if (why := why_not_regular(name))]
        return wrong[0] if wrong else ""


ListFiles = Annotated[Name | Annotated[list[Name], MinLen(1)], Allowed("a list file, or several as [a.json, b.json]")]
TrainFiles = Annotated[ListFiles, Lists(training=True)]
TestFiles = Annotated[ListFiles, Lists()]
OneFile = Annotated[Name, Lists()]
Folder = Annotated[Text, MustExist(folder=True)]
Resumed = Annotated[Name | None, MustExist(but=("auto",), advice="; a last.ckpt, or auto")]
Size = Annotated[int, Ge(1), Le(65536)]
Dropout = Annotated[float, Ge(0), Lt(1)]


class BertConfig(Schema):
    """The content of the JSON of the text model: text layers, then fusion layers.

    Source: docs/official/albef.md §2, docs/official/xvlm.md §2.
    """

    named: ClassVar[str] = "bert_config"  # the key that holds it

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
        c, name = self, self.named
        if c.hidden_size % c.num_attention_heads:
            yield (
                f"{name}.hidden_size={c.hidden_size} is not a multiple of "
                f"{name}.num_attention_heads={c.num_attention_heads}"
            )
        if c.fusion_layer >= c.num_hidden_layers:
            yield (
                f"{name}.fusion_layer={c.fusion_layer} leaves no fusion layer of "
                f"{name}.num_hidden_layers={c.num_hidden_layers}"
            )
        if c.pad_token_id >= c.vocab_size:
            yield f"{name}.pad_token_id={c.pad_token_id} is not below {name}.vocab_size={c.vocab_size}"


class Optimizer(Schema):
    """AdamW."""

    opt: Literal["adamW"] = key("adamW", "the optimiser")
    lr: PositiveAmount = key(1e-4, "peak of the schedule")
    weight_decay: Amount = key(0.02, "of all parameters but biases and those of one dimension")


class Init(Schema):
    """What each encoder starts from: pretrained, random, or a hub name or local file."""

    vision: Name = key("pretrained", "image encoder")
    text: Name = key("pretrained", "text encoder")


class YamlKeys(EngineKeys):
    """What every script reads; a baseline adds ``vision_config``, its text model and ``schedular``."""

    batch_key: ClassVar[str] = "batch_size"  # training samples of a GPU; a dot leads into a block
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
    image_res: Annotated[int, Ge(1), Le(4096)] = key(256, "pixels of the side that images are resized to")
    # Optimiser
    optimizer: Optimizer = key(Optimizer(), "the optimiser")
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
        if self.train_batch < self.least_batch:
            yield (
                f"{self.batch_key}={self.train_batch}: its objectives need at least {self.least_batch} samples of a GPU"
            )

    @property
    def train_batch(self) -> int:
        """Training samples of a GPU's step."""
        size: int = reduce(getattr, self.batch_key.split("."), self)  # type: ignore[assignment]
        return size

    @classmethod
    def settled(cls, config: dict[str, Any]) -> dict[str, Any]:
        """``config``, whose values are of their kinds, with the keys that others decide."""
        return config


class EvaluateKeys(Schema):
    """Of the scripts that score a checkpoint."""

    evaluate: Annotated[Switch, Flag()] = key(False, "score the checkpoint and train nothing")

    def relations(self) -> Iterator[str]:
        yield from super().relations()
        if self.evaluate and not self.checkpoint:  # type: ignore[attr-defined]
            yield "--evaluate needs --checkpoint, the model to score: a random one gives no result"


class ImageRootKeys(Schema):
    """Of the scripts whose lists hold relative paths."""

    image_root: Folder = key("", "folder of the images; empty: that of each list")


class TrainTestBatchKeys(Schema):
    """Of the scripts with two batch sizes."""

    batch_key: ClassVar[str] = "batch_size_train"

    batch_size_train: Positive = key(32, "training samples of a GPU")
    batch_size_test: Positive = key(64, "evaluated samples of a GPU")
