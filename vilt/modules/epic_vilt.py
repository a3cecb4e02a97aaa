"""EPIC in ViLT: the teacher's saliency (Eq. 8, SPEC §10)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vilt.modules.objectives import image_of
from vilt.modules.vilt_module import ViLTransformerSS
from vlp.nn.rows import PackedRows, PickedRows


def saliency_query_key(model: ViLTransformerSS, batch: dict[str, Any], layer: int) -> tuple[Tensor, Tensor]:
    """q (B, h, d_h) of the image class token and K (B, h, n, d_h) of the text in block ``layer``; K is 0 at padding.

    Unmasked text with the true image. Of that block only its first norm and these projections are computed.
    """
    text, mask = model.encode_text(batch["text_ids"]), batch["text_masks"].bool()
    image = model.encode_image(*image_of(batch, "image"))
    x, joint_mask = model.joint_input(text, mask, model.transformer.pos_drop(image.states), image.mask)
    rows = PackedRows(joint_mask)
    last = range(len(model.transformer.blocks))[layer]
    x = model.transformer.run_blocks(rows.gather(x), rows, stop=last)

    block: Any = model.transformer.blocks[last]
    place = torch.arange(joint_mask.shape[1], device=x.device)
    size = mask.shape[1]
    asking, asked = (PickedRows(rows, wanted.expand_as(joint_mask)) for wanted in (place == size, place < size))
    query = block.attn.query(block.norm1(asking.pick(x)))
    key = asked.put_back(block.attn.key(block.norm1(asked.pick(x))).flatten(1), rows)[:, :size]
    return query, key.unflatten(-1, query.shape[1:]).transpose(1, 2)
