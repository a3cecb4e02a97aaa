"""What a baseline gives to the step benchmark, so that the next baseline is one file more."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

from torch import Tensor, nn

Batch = dict[str, Any]

# Of all baselines; the first is what the others are measured against.
VARIANTS = {
    "vanilla_official": "vanilla as the official code computes it: everything anew for every objective, padded",
    "vanilla": "vanilla as we do",
    "epic_naive": "official vanilla, and EPIC's passes of teacher, generator and student in full beside it",
    "epic": "EPIC as we do",
    "epic_cached": "EPIC as we do, saliency from the cache instead of the teacher",
    "epic_momentum": "EPIC as we do, saliency from the momentum model instead of the teacher",
    "region_official": "a step of the region stream as the official code computes it",
    "region": "a step of the region stream as we do; EPIC leaves it alone by default",
}


class Variant(NamedTuple):
    """One way to compute the training step."""

    step: Callable[[Batch], Tensor]  # batch -> loss
    parts: Mapping[str, Sequence[nn.Module]]  # modules whose FLOPs are shown together; all that are trained are in one

    def clear_gradients(self) -> None:
        """Free the gradients of a step."""
        for roots in self.parts.values():
            for root in roots:
                root.zero_grad(set_to_none=True)


class Steps(Protocol):
    """A baseline's models with random weights, in train mode, and the steps that are made of them."""

    sizes: ClassVar[Mapping[str, Any]]  # by name; there is "official", the paper's main setting, and "tiny"
    switches: ClassVar[Sequence[str]]  # config keys of savings that can be turned off
    variants: ClassVar[Sequence[str]]  # those of ``VARIANTS`` that the baseline has, in their order
    special_tokens: ClassVar[int]  # of a sentence
    max_text_len: int

    def __init__(self, size: str, device: str = "cpu", without: Sequence[str] = ()) -> None:
        """``without`` names the switches that are turned off."""

    @property
    def text_family(self) -> str:
        """Whose caption lengths the batches have: "roberta" or "bert"."""

    def variant(self, name: str) -> Variant:
        """One of ``variants``; what it needs is built when it is first asked for."""

    def batch(self, lengths: Sequence[int]) -> Batch:
        """A batch as the baseline's loader gives it, with sentences of ``lengths`` tokens, special ones included."""

    def needed_gib(self, pairs: int) -> float:
        """Memory that the largest variant takes, a rough upper bound."""
