"""The keys of the engine that every command line has, whatever its dialect."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Literal

from vlp.config.kinds import Allowed, Name, Switch, Text
from vlp.config.nearest import did_you_mean
from vlp.config.schema import Schema, defaults, key
from vlp.training.changed_config import DATA, keys_and_blocks

Names = Annotated[Text | list[Name], Allowed("keys or blocks of keys: a,b, or a list")]
Compile = Switch | Annotated[Name, Allowed("a backend of torch.compile")]
Precision = Literal[32, 16, "32", "16", "bf16"]


def listed(value: str | Iterable[str]) -> list[str]:
    """The names in a list, or in what a shell leaves of one: ``a,b`` or ``[a,b]``."""
    names = value.strip("[]").split(",") if isinstance(value, str) else value
    return [name for name in (name.strip(" '\"") for name in names) if name]


class EngineKeys(Schema):
    """How a step is computed, and what a resumed run may change."""

    matmul_precision: Literal["highest", "high", "medium"] = key(
        "high", "float32 products on a GPU: highest is float32, high TF32, medium at most that; a CPU's stay float32"
    )
    deterministic: Switch | None = key(
        None, "repeat a run bit by bit, as far as torch has kernels for it; None: on a CPU, not on a GPU"
    )
    pack_text: Switch = key(True, "compute a batch without its padding; False: with it, the same numbers")
    gradient_checkpointing: Switch = key(False, "recompute layers in the backward pass: less memory, more time")
    compile: Compile = key(False, "torch.compile of every transformer layer")
    shard_optimizer: Switch = key(False, "divide the optimiser's states among the processes")
    logger: Literal["wandb"] | None = key(
        None, "wandb: metrics go to Weights & Biases, too, beside TensorBoard and metrics.jsonl"
    )
    resume_anyway: Names = key("", "what a resumed run takes from its configuration, other than its checkpoint has it")

    def relations(self) -> Iterator[str]:
        yield from super().relations()
        known = {DATA, *keys_and_blocks(defaults(type(self)))}
        for name in listed(self.resume_anyway):
            if name not in known:
                yield f"resume_anyway={name}: there is no such key{did_you_mean(name, known)}"
