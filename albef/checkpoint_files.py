"""The official checkpoints that ALBEF's scripts leave, one an epoch (docs/official/albef.md §8)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vlp.yaml_dialect.kept_files import EpochEnd, Files, official_weights

BEST = "checkpoint_best.pth"


def every_epoch(end: EpochEnd) -> Files:
    """``checkpoint_07.pth`` of each."""
    return {f"checkpoint_{end.epoch:02d}.pth": official_checkpoint(end)}


def better_epochs(end: EpochEnd) -> Files:
    """``checkpoint_07.pth`` of each that was the best so far."""
    return every_epoch(end) if end.better else {}


def best_epoch(end: EpochEnd) -> Files:
    """One file, of the best."""
    return {BEST: official_checkpoint(end)} if end.better else {}


def official_checkpoint(end: EpochEnd) -> dict[str, Any]:
    """The official dict of the epoch that ends; every rank must call it."""
    optimizer = end.trainer.optimizers[0]
    weights = official_weights(end.module)
    rates = [group["initial_lr"] for group in optimizer.param_groups]
    return {
        **weights,
        "optimizer": end.trainer.strategy.optimizer_state(optimizer),
        "lr_scheduler": scheduler_state(end.config["schedular"], rates),
        "config": dict(end.config),
        "epoch": end.epoch,
    }


def scheduler_state(times: Mapping[str, Any], rates: list[float]) -> dict[str, Any]:
    """What timm's cosine scheduler keeps of itself: no position, for it is driven by hand.

    Args:
        times: the block ``schedular``.
        rates: the peak of each group.
    """
    warmup, start = times["warmup_epochs"], times["warmup_lr"]
    return {
        **{"param_group_field": "lr", "_initial_param_group_field": "initial_lr", "base_values": rates},
        **{"metric": None, "noise_range_t": None, "noise_pct": 0.67, "noise_type": "normal", "noise_std": 1.0},
        **{"noise_seed": 42, "t_initial": times["epochs"], "t_mul": 1.0, "lr_min": times["min_lr"]},
        **{"decay_rate": times["decay_rate"], "cycle_limit": 1, "warmup_t": warmup, "warmup_lr_init": start},
        **{"warmup_prefix": True, "t_in_epochs": True},
        "warmup_steps": [(rate - start) / warmup if warmup else 1 for rate in rates],
    }
