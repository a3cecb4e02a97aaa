"""ViLT's checkpoints: what decides their tensors. Position tables fit every image size as they are.

Source: docs/official/vilt.md §8.
"""

from __future__ import annotations

from functools import partial

from vlp.checkpoint.layout import CheckpointLayout
from vlp.checkpoint.loading import load_into

LAYOUT = CheckpointLayout(
    title="ViLT",
    recognised_by=("text_embeddings.", "transformer.blocks."),
    architecture=(
        *("vit", "patch_size", "vocab_size", "max_text_len", "hidden_size", "num_heads", "num_layers", "mlp_ratio"),
    ),
    named_in_hints=("vit", "vocab_size", "max_text_len", "hidden_size", "num_layers"),
    trunk=(
        *("text_embeddings.", "token_type_embeddings.", "pooler."),
        # All of the transformer but its mask token, which masked patch prediction alone has.
        *(f"transformer.{part}" for part in ("cls_token", "pos_embed", "patch_embed.", "blocks.", "norm.")),
    ),
)
load_checkpoint = partial(load_into, layout=LAYOUT)
