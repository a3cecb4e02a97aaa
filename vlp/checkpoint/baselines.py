"""Which model a checkpoint's key names belong to, and what official files hold besides the model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from vlp.checkpoint.weights import WeightsError

# Every prefix must occur. The encoders' own files come last: a baseline's keys hold theirs in another place.
_TELLING = {
    "METER": ("cross_modal_text_transform.",),
    "ViLT": ("text_embeddings.", "transformer.blocks."),
    "ALBEF": ("visual_encoder.", "text_encoder."),
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
    for model, prefixes in _TELLING.items():
        if all(any(name.startswith(prefix) for name in names) for prefix in prefixes):
            return model
    return None


def refuse_other(path: str | Path, names: Iterable[str], wanted: str) -> None:
    """Refuse a file whose key names are those of another model than ``wanted``.

    Raises:
        WeightsError: naming both.
    """
    found = looks_like(names)
    if found not in (None, wanted):
        raise WeightsError(f"{path}: its keys are those of {found}, not of {wanted}")


def known_extras(names: Iterable[str]) -> list[str]:
    """The known extras among ``names``, those of many layers counted: ``["… .position_ids", "24 x attn_mask"]``."""
    extras = [name for name in names if name.endswith(KNOWN_EXTRAS)]
    counts = Counter(name.rsplit(".", 1)[-1] for name in extras)
    single = [name for name in extras if counts[name.rsplit(".", 1)[-1]] == 1]
    return [*single, *(f"{count} x {last}" for last, count in counts.items() if count > 1)]
