"""What EPIC reports at every log interval, as sums that add up over batches and ranks."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.distributed as dist
from torch import Tensor

from epic_common.corruption import Corruption
from epic_common.saliency import saliency_entropy

# Fine histogram of the logits: 4096 bins over [-16, 16], the outer ones open-ended.
_BINS, _REACH = 4096, 16.0
# metric: (sums above, sums below the fraction bar)
_RATIOS = {
    "epic_itc": ("itc", "itc_batches"),
    "epic_gen": ("gen", "gen_batches"),
    "epic_itc_accuracy": ("tp tn", "tp tn fp fn"),
    "epic_itc_precision": ("tp", "tp fp"),
    "epic_itc_recall": ("tp", "tp fn"),
    "epic_itc_f1": ("tp tp", "tp tp fp fn"),
    "epic_replaced_share": ("replaced", "masked"),
    "epic_masked_share": ("masked", "maskable"),
    "epic_generator_accuracy": ("generator_correct", "generator_tokens"),
    "epic_saliency_entropy": ("entropy", "sentences"),
    "epic_masked_salient_share": ("salient_masked", "truth_masked"),
    "epic_salient_share": ("salient_maskable", "truth_maskable"),
}
_SUMS = sorted({name for pair in _RATIOS.values() for side in pair for name in side.split()})


class EpicMetrics:
    """Running EPIC metrics: ``update`` per batch, ``compute`` per log interval, ``reset`` after it.

    "Positive" is a replaced token throughout: D_i < 1/2 predicts it. A value without data is left out of ``compute``:

    * ``epic_itc``, ``epic_gen``: L_ITC and L_GEN, unweighted, mean over batches;
    * ``epic_itc_accuracy``, ``_precision``, ``_recall``, ``_f1``, ``_auroc``: over the valid tokens;
    * ``epic_replaced_share`` |T|/|M|, ``epic_masked_share`` |M|/len, ``epic_generator_accuracy`` (likeliest token);
    * ``epic_saliency_entropy``: of alpha, nats, mean over sentences with something to mask;
    * ``epic_masked_salient_share``, ``epic_salient_share``: share of salient words among the masked and among all
      maskable tokens, where ground truth is given.

    The AUROC is streamed through a histogram of the logits: pairs of one bin count one half, so that it is off by at
    most half the share of (replaced, consistent) pairs that fall into one bin. :func:`auroc` is the exact one.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._sums: Tensor | None = None  # float64, those of _SUMS and then the histogram, where the logits are

    def state_dict(self) -> dict[str, Tensor]:
        """This rank's sums, for an exact resume."""
        sums = _nothing(None) if self._sums is None else self._sums.cpu()
        return {"sums": sums[: len(_SUMS)].clone(), "histogram": sums[len(_SUMS) :].view(2, _BINS).clone()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what :meth:`state_dict` gave."""
        self._sums = torch.cat([state["sums"], state["histogram"].flatten()])

    @torch.no_grad()
    def update(
        self,
        logits: Tensor,
        corruption: Corruption,
        itc: Tensor,
        gen: Tensor | None = None,
        salient: Tensor | None = None,
    ) -> None:
        """Add one batch.

        Args:
            logits: (B, n) of D_i.
            itc, gen: () raw L_ITC and L_GEN; no ``gen`` where the generator is not trained.
            salient: (B, n) bool ground truth of salient words, where it exists.
        """
        masked, maskable, valid = corruption.masked, corruption.log_alpha > -torch.inf, corruption.valid
        verdict, truth = logits < 0, corruption.replaced
        tokens = {
            "tp": verdict & truth & valid,
            "fp": verdict & ~truth & valid,
            "fn": ~verdict & truth & valid,
            "tn": ~verdict & ~truth & valid,
            "masked": masked,
            "maskable": maskable,
            "replaced": truth,
        }
        if salient is not None:
            tokens |= {"salient_masked": salient & masked, "truth_masked": masked}
            tokens |= {"salient_maskable": salient & maskable, "truth_maskable": maskable}
        counts = torch.stack(list(tokens.values())).flatten(1).sum(dim=1).double()
        sums = dict(zip(tokens, counts.unbind(), strict=True))
        one = torch.ones_like(counts[0])
        sums["entropy"] = saliency_entropy(corruption.log_alpha).sum()
        sums["sentences"] = maskable.any(dim=1).sum()
        sums |= {"itc": itc, "itc_batches": one}
        if gen is not None:
            sums |= {"gen": gen, "gen_batches": one}
        if corruption.generator_correct is not None:
            sums |= {"generator_correct": corruption.generator_correct.sum(), "generator_tokens": sums["masked"]}
        row = torch.stack([sums.get(name, 0 * one).double() for name in _SUMS])
        added = torch.cat([row, _histogram(logits, truth, valid)])
        self._sums = added if self._sums is None else self._sums.to(added.device) + added

    def compute(self, device: torch.device | None = None) -> dict[str, float]:
        """The values, over all ranks when torch.distributed is initialised (then every rank must call it).

        Args:
            device: where ranks exchange their sums, a GPU under NCCL; None = where the sums are.
        """
        sums = _nothing(device) if self._sums is None else self._sums.to(device or self._sums.device, copy=True)
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(sums)
        sums = sums.cpu()
        consistent, replaced = sums[len(_SUMS) :].view(2, _BINS)
        total = dict(zip(_SUMS, sums[: len(_SUMS)].tolist(), strict=True))
        ratios = {
            metric: (sum(total[name] for name in above.split()), sum(total[name] for name in below.split()))
            for metric, (above, below) in _RATIOS.items()
        }
        ratios["epic_itc_auroc"] = _histogram_auroc(consistent, replaced)
        return {metric: above / below for metric, (above, below) in ratios.items() if below > 0}


def _nothing(device: torch.device | None) -> Tensor:
    return torch.zeros(len(_SUMS) + 2 * _BINS, dtype=torch.float64, device=device)


def _histogram(logits: Tensor, replaced: Tensor, valid: Tensor) -> Tensor:
    """(2 bins,): of the valid tokens how many consistent and then how many replaced ones have their logit in each."""
    bins = ((logits.float() + _REACH) * (_BINS / (2 * _REACH))).long().clamp(0, _BINS - 1) + _BINS * replaced.long()
    counts = torch.zeros(2 * _BINS, dtype=torch.float64, device=logits.device)
    return counts.index_add_(0, bins.flatten(), valid.flatten().double())


def _histogram_auroc(consistent: Tensor, replaced: Tensor) -> tuple[float, float]:
    """(pairs won, pairs): a replaced token wins over a consistent one of a higher logit bin, a tie is half a win."""
    higher = consistent.sum() - consistent.cumsum(0)
    return float((replaced * (higher + consistent / 2)).sum()), float(consistent.sum() * replaced.sum())


def auroc(scores: Tensor, positive: Tensor) -> float:
    """Exact area under the ROC curve by ranks, ties counting one half (the Mann-Whitney statistic).

    Args:
        scores: (N,), higher = more positive; for "replaced" that is minus the logit of D_i.
        positive: (N,) bool.

    Returns:
        The area; NaN when a class is missing.
    """
    _, position, counts = scores.double().unique(return_inverse=True, return_counts=True)
    last = counts.cumsum(0)
    rank = (last - (counts - 1) / 2.0)[position]
    positives, negatives = int(positive.sum()), int((~positive).sum())
    if not positives or not negatives:
        return float("nan")
    won = float(rank[positive].sum()) - positives * (positives + 1) / 2
    return won / (positives * negatives)
