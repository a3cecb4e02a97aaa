"""Which model a checkpoint's key names belong to, and what official files hold besides the model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from vlp.baseline import REGISTRY, get_baseline
from vlp.checkpoint.layout import CheckpointLayout
from vlp.checkpoint.weights import WeightsError

# Models that are no baselines here, by prefixes that all occur. Encoders come last: a baseline's keys hold theirs too.
_OTHER_MODELS = {
    "X-VLM": ("vision_encoder.",),
    "CLIP": ("visual.transformer.resblocks.",),
    "Swin": ("patch_embed.", "layers.0.blocks."),
    "RoBERTa": ("roberta.encoder.layer.",),
    "BERT": ("bert.encoder.layer.",),
}
# In official files, without a counterpart in a model of today: CLIP's text embedding, and buffers that are rebuilt.
KNOWN_EXTRAS = ("token_embedding.weight", "embeddings.position_ids", "relative_position_index", "attn_mask")
EPIC_PREFIX = "epic."


def looks_like(names: Iterable[str]) -> str | None:
    """The model that tensors of these names belong to: a baseline or one of its encoders; None if none is known."""
    names = list(names)
    layouts = [get_baseline(name).layout for name in REGISTRY]
    models = {layout.title: layout.recognised_by for layout in layouts} | _OTHER_MODELS
    return next((model for model, prefixes in models.items() if _all_occur(prefixes, names)), None)


def _all_occur(prefixes: Iterable[str], names: list[str]) -> bool:
    return all(any(name.startswith(prefix) for name in names) for prefix in prefixes)


def refuse_other(path: str | Path, names: Iterable[str], wanted: CheckpointLayout) -> None:
    """Refuse a file whose key names are those of another model than ``wanted``.

    Raises:
        WeightsError: naming both.
    """
    names = list(names)
    if not _all_occur(wanted.recognised_by, names) and (found := looks_like(names)):
        raise WeightsError(f"{path}: its keys are those of {found}, not of {wanted.title}")


def known_extras(names: Iterable[str]) -> list[str]:
    """The known extras among ``names``, those of many layers counted: ``["… .position_ids", "24 x attn_mask"]``."""
    extras = [name for name in names if name.endswith(KNOWN_EXTRAS)]
    counts = Counter(name.rsplit(".", 1)[-1] for name in extras)
    single = [name for name in extras if counts[name.rsplit(".", 1)[-1]] == 1]
    return [*single, *(f"{count} x {last}" for last, count in counts.items() if count > 1)]
