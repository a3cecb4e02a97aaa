"""What the small models of the baselines' tests share: stirred weights, sentences, what they save and train."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

Batch = dict[str, Any]
Model = TypeVar("Model", bound=nn.Module)


def stirred(model: Model) -> Model:
    """Every parameter moved off its initial value: no zero bias, no even attention hides a mistake. In eval mode."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.15 * torch.randn_like(parameter))
    return model.eval()


class Words(NamedTuple):
    """A vocabulary of ``size`` ids, of which those below 5 are special."""

    bos: int
    pad: int
    eos: int
    mask: int
    size: int

    def batch(
        self,
        lengths: Sequence[int],
        padded_to: int,
        masked: Sequence[tuple[int, int]] | None,
        false_texts: int,
        rng: torch.Generator,
    ) -> Batch:
        """The texts of a batch as the collation gives it: sentences of ``lengths`` tokens, special ones included.

        ``masked`` lists the (row, column) positions that MLM asks for; by default the second token of every sentence.
        """
        count, n = len(lengths), max(padded_to, *lengths)
        batch: Batch = self._texts("text", lengths, n, rng)
        ids_mlm, labels_mlm = batch["text_ids"].clone(), torch.full((count, n), -100)
        for row, column in [(i, 1) for i in range(count)] if masked is None else masked:
            labels_mlm[row, column], ids_mlm[row, column] = batch["text_ids"][row, column], self.mask
        batch |= {"text_ids_mlm": ids_mlm, "text_labels_mlm": labels_mlm, "text": [""] * count}
        for i in range(false_texts):
            batch |= self._texts(f"false_text_{i}", torch.randint(2, n + 1, (count,), generator=rng).tolist(), n, rng)
        return batch

    def _texts(self, name: str, lengths: Sequence[int], n: int, rng: torch.Generator) -> dict[str, Tensor]:
        ids = torch.full((len(lengths), n), self.pad)
        for row, length in enumerate(lengths):
            ids[row, 1 : length - 1] = torch.randint(5, self.size, (length - 2,), generator=rng)
            ids[row, 0], ids[row, length - 1] = self.bos, self.eos
        labels = torch.full_like(ids, -100)
        return {f"{name}_ids": ids, f"{name}_masks": (ids != self.pad).long(), f"{name}_labels": labels}


def save(model: nn.Module, folder: Path, **changes: Tensor) -> Path:
    """A checkpoint of ``model``, some of its tensors other ones."""
    path = folder / "saved.ckpt"
    torch.save({"state_dict": {**model.state_dict(), **changes}, "epoch": 3}, path)
    return path


def same_tensors(a: nn.Module, b: nn.Module) -> bool:
    """Whether the state dicts are equal to the bit."""
    theirs = b.state_dict()
    return all(torch.equal(value, theirs[key]) for key, value in a.state_dict().items())


def optimised(
    optimizer: torch.optim.Optimizer, named: Iterable[tuple[str, nn.Parameter]], learning_rate: float
) -> dict[str, tuple[float, float, bool]]:
    """Of every parameter by name: its rate over ``learning_rate``, its weight decay, whether it is trained."""
    of_parameter = {
        id(p): (group["initial_lr"] / learning_rate, group["weight_decay"])
        for group in optimizer.param_groups
        for p in group["params"]
    }
    return {name: (*of_parameter[id(p)], p.requires_grad) for name, p in named}


def candidates(batch: Batch) -> list[Batch]:
    """The batch with its true captions, then with each list of its false ones."""
    names = ["text", *sorted(key[:-4] for key in batch if key.startswith("false_text") and key.endswith("_ids"))]
    return [
        {**batch, **{f"text_{kind}": batch[f"{name}_{kind}"] for kind in ("ids", "masks", "labels")}} for name in names
    ]


def gradients(model: nn.Module, losses: dict[str, Tensor]) -> dict[str, Tensor]:
    """Of the sum of ``losses``, by parameter; 0 where there is none."""
    model.zero_grad()
    torch.stack(list(losses.values())).sum().backward()
    return {name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in model.named_parameters()}


def masked_pairs(image: int, lengths: Sequence[int], masked: int, seed: int) -> Batch:
    """Images of ``image`` pixels and sentences ``[CLS] X`` of ``lengths`` tokens, 0 behind them.

    MLM has chosen the ``masked`` tokens after the first.
    """
    rng = torch.Generator().manual_seed(seed)
    size, n = len(lengths), max(lengths)
    mask = torch.arange(n) < torch.tensor(lengths)[:, None]
    ids = torch.randint(110, 200, (size, n), generator=rng).masked_fill(~mask, 0)
    ids[:, 0] = 101
    chosen = mask & (torch.arange(n) >= 1) & (torch.arange(n) <= masked)
    return {
        "image": torch.randn(size, 3, image, image, generator=rng),
        "text": [""] * size,
        "text_ids": ids,
        "text_masks": mask.long(),
        "text_ids_mlm": ids.masked_fill(chosen, 103),
        "text_labels_mlm": ids.masked_fill(~chosen, -100),
    }
