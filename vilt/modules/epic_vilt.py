"""EPIC in ViLT: the teacher's q and K of Eq. 8, and one EPIC step on the student's verbs.

Any command of run.py trains with EPIC once it names the config ``epic`` and the frozen teacher, a ViLT pre-trained
without EPIC:
    python run.py with … epic teacher_path=vilt_200k_mlm_itm.ckpt

Source: docs/official/vilt.md §10.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from epic_vlp.lightning_epic import LightningEpic
from epic_vlp.sacred_dialect import SacredExtension
from vilt.modules.batches import image_of
from vilt.modules.step_plan import joint_plan, kept_patches, valid_patches
from vilt.modules.vilt_model import Images
from vilt.modules.vilt_module import ViLTransformerSS
from vilt.modules.vision_transformer import ImageTokens, VisionTransformer
from vlp.nn.padding import Queries, QuerySubset, TokenPlan, UnpaddedLayout, spread
from vlp.sacred_dialect.joint_pass import Pass

ALL_PATCHES = "epic_all_patches"


def all_patches(batch: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """A plan for the teacher where the student's ``max_image_len`` leaves out patches: with all of them."""
    teacher = {**config, "max_image_len": -1}
    return {} if sees(batch, teacher) else {ALL_PATCHES: joint_of(batch, teacher)}


def joint_of(batch: dict[str, Any], config: dict[str, Any]) -> TokenPlan:
    """The joint sequences with as many patches as the config's ``max_image_len`` keeps, planned before if they were."""
    if sees(batch, config):
        return batch["plan"]["joint"]["image"]
    if ALL_PATCHES in batch:
        return batch[ALL_PATCHES]
    valid, most = valid_patches(batch, "image", config["patch_size"]), batch["plan"]["patches"]
    return joint_plan(batch["plan"]["text"].tokens.mask, valid, most, config["max_image_len"])


def sees(batch: dict[str, Any], config: dict[str, Any]) -> bool:
    """Whether the batch's plan, the student's, has as many patches as the config's ``max_image_len`` keeps."""
    planned, text = batch["plan"]["joint"]["image"].mask, batch["plan"]["text"].tokens.mask
    kept = kept_patches(batch["plan"]["patches"], config["max_image_len"])
    return planned.shape[1] == text.shape[1] + 1 + kept


def with_next(text: TokenPlan) -> Queries:
    """The tokens of sentences (B, n), and of every sentence the place n behind them."""
    size, n = text.mask.shape
    row = torch.cat([text.row, torch.arange(size, device=text.row.device)])
    place = torch.cat([text.place, torch.full_like(row[-size:], n)])
    order = (row * (n + 1) + place).argsort()
    return Queries(row[order], place[order], n + 1)


class ViltTeacher(ViLTransformerSS):
    """A ViLT that answers what EPIC asks of a frozen model.

    It sees all patches of an image, also where the student draws ``max_image_len`` of them: its scores are fixed.
    """

    def __init__(self, config: dict[str, Any], transformer: VisionTransformer | None = None) -> None:
        super().__init__({**config, "max_image_len": -1}, transformer)

    def query_key(self, batch: dict[str, Any], layer: int) -> tuple[Tensor, Tensor]:
        """q (B, h, d_h) of the image class token and K (B, h, n, d_h) of the text in block ``layer`` (Eq. 8).

        Unmasked text with the true image. Of that block only its first norm and these projections are computed, of the
        one before it only what they read: text and class token. Nothing is computed at padding, where K is 0.
        """
        width, batch = batch["text_ids"].shape[1], self.prepared(batch)
        plan, text = joint_of(batch, self.config), batch["plan"]["text"].tokens
        image = self.encode_image(*image_of(batch, "image"), batch["plan"]["patches"])
        x = self.joint_input(self.encode_text(batch["text_ids"]), self.transformer.pos_drop(image.states))
        layout, read = self.joint_layout(plan), with_next(text)  # the class token stands behind the text
        last = range(len(self.transformer.blocks))[layer]
        x = self.transformer.run_blocks(layout.unpad(x), layout, QuerySubset(layout, read), stop=last)

        block: Any = self.transformer.blocks[last]
        size, n = text.mask.shape
        states, text_layout = spread(block.norm1(x), read, (size, n + 1)), UnpaddedLayout(text)
        query = block.attn.query(states[:, n])
        key = text_layout.pad(block.attn.key(text_layout.unpad(states[:, :n])).flatten(1))
        key = F.pad(key, (0, 0, 0, width - n))
        return query, key.unflatten(-1, query.shape[1:]).transpose(1, 2)

    def mlm_logits_at(self, batch: dict[str, Any], input_ids: Tensor, places: Tensor) -> Tensor:
        """input_ids (B, n), places (K,) in (B·n) -> MLM logits (K, vocab) with the true image, for "VLM (SAS)"."""
        batch = self.prepared(batch)
        tokens = self.encode_image(*image_of(batch, "image"), batch["plan"]["patches"])
        images, read = Images(tokens, joint_of(batch, self.config)), Queries.at(places, input_ids.shape[1])
        (states,) = self.fuse_together([Pass(input_ids, images, lambda states: {}, read)])
        return self.mlm_score(states)


class ViltEpic(LightningEpic):
    """EPIC's objective as one pass of ViLT's step."""

    def to_pass(self, model: ViLTransformerSS, batch: dict[str, Any], image: ImageTokens) -> Pass:
        """The corrupted sentence with the true image, whose tokens ViLT's own objectives share."""
        self.refresh(model)
        plan, layout = batch["plan"], model.text_layout(batch["plan"]["text"])
        corruption = self.corruption_of(batch["text_ids"], batch["text_masks"], batch, layout=layout)
        read = Queries.all_of(plan["text"].tokens)

        def finish(states: Tensor) -> dict[str, Tensor]:
            return self.losses(spread(states, read, corruption.input_ids.shape), corruption)

        return Pass(corruption.input_ids, Images(image, plan["joint"]["image"]), finish, read)


EPIC = SacredExtension(
    epic=ViltEpic,
    teacher=ViltTeacher,
    fusion_layers=lambda config: config["num_layers"],
    image_encoder=False,
    text_ends_with_sep=True,
    fixed_views=("pixelbert",),
    teacher_plan=all_patches,
)
