"""What the builders of saliency caches share: their processes, and their last words."""

from __future__ import annotations

import datetime
from typing import Any

import lightning as L
from lightning.fabric.strategies import DDPStrategy

from epic_common.saliency_cache.reader import SaliencyCache


def new_fabric(cuda: bool, devices: Any, per_node: int, nodes: int, precision: Any) -> L.Fabric:
    """Processes that exchange nothing but when they are done.

    Args:
        devices: of a node, as Lightning takes them.
        per_node: processes of a node.
        precision: as Lightning names it.
    """
    timeout = datetime.timedelta(days=7)  # a process may have hours more to do than another
    return L.Fabric(
        accelerator="gpu" if cuda else "cpu",
        devices=devices,
        num_nodes=nodes,
        strategy="auto" if per_node * nodes == 1 else DDPStrategy(process_group_backend="gloo", timeout=timeout),
        precision=precision,
    )


def report(cache: SaliencyCache) -> None:
    """Print how many pairs the cache has and its size."""
    facts, size = cache.manifest, cache.manifest["bytes"]
    print(
        f"saliency cache {cache.folder}: {facts['pairs']} distinct pairs, {facts['tokens']} tokens, "
        f"{size / 1e6:.1f} MB; {facts['skipped_pairs']} pairs left out, their images cannot be read"
    )
