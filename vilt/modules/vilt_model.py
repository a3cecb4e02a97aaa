"""ViLT's parts and verbs: embedded text and patches in one transformer, the heads of every task.

Read ``infer`` for the plain computation of one pass. Source: docs/official/vilt.md §4, §5, §7.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from transformers import BertConfig
from transformers.models.bert.modeling_bert import BertEmbeddings

from vilt.modules.batches import image_of
from vilt.modules.initial_weights import build_transformer
from vilt.modules.masked_patches import MPPHead, mask_patches
from vilt.modules.step_plan import step_plan
from vilt.modules.vision_transformer import ImageTokens, VisionTransformer
from vlp.nn.attention import init_std, init_weights
from vlp.nn.heads import ITMHead, MLMHead, Pooler, classifier
from vlp.nn.official_names import use_official_names
from vlp.nn.padding import PaddedLayout, Queries, QuerySubset, TokenPlan, UnpaddedLayout
from vlp.sacred_dialect.joint_pass import Pass, outputs_of
from vlp.sacred_dialect.task_metrics import set_metrics
from vlp.sacred_dialect.task_module import TaskModule
from vlp.training.compile import compile_layers
from vlp.training.ddp import names_below

# The official order of the text embedding's keys, which differs between versions of transformers.
TEXT_ORDER = ("position_ids", "word_embeddings", "position_embeddings", "token_type_embeddings", "LayerNorm")


# What a task alone reads, by prefixes of parameter names.
PARTS_OF = {
    "mlm": ("mlm_score.",),
    "itm": ("itm_score.",),
    "mpp": ("mpp_score.", "transformer.mask_token"),
    "vqa": ("vqa_classifier.",),
    "nlvr2": ("nlvr2_classifier.",),
    "irtr": ("rank_output.",),
}


class Images(NamedTuple):
    """The images of a pass, and where their tokens stand beside its text."""

    tokens: ImageTokens
    plan: TokenPlan  # of the joint sequences (B, n + 1 + P), text first


class ViltModel(TaskModule):
    """The model without its training step; attribute names are the official checkpoint keys."""

    further_losses: ClassVar[dict[str, tuple[str, ...]]] = {"itm": ("wpa_loss",)}
    deciding_split = "test"

    def __init__(self, config: dict[str, Any], transformer: VisionTransformer | None = None) -> None:
        """Build from a resolved config; ``transformer`` overrides the one that the config names."""
        super().__init__(config)
        # A value below 1 builds the head and runs no objective: retrieval ranks with ITM's.
        self.current_tasks = [name for name in self.heads if config["loss_names"][name] >= 1]

        d = config["hidden_size"]
        self.text_embeddings = text_embeddings(config)
        # The modality: text, image, and NLVR2's second image.
        self.token_type_embeddings = nn.Embedding(3 if "nlvr2" in self.heads else 2, d)
        self.transformer = transformer or build_transformer(config)
        self.pooler = Pooler(d)
        if "mlm" in self.heads:
            self.mlm_score = MLMHead(d, config["vocab_size"])
        if "itm" in self.heads:
            self.itm_score = ITMHead(d)
        if "mpp" in self.heads:
            self.mpp_score = MPPHead(d)
        if "vqa" in self.heads:
            self.vqa_classifier = classifier(d, 2 * d, config["vqav2_label_size"])
        if "nlvr2" in self.heads:
            self.nlvr2_classifier = classifier(2 * d, 2 * d, 2)
        if "irtr" in self.heads:
            self.rank_output = nn.Linear(d, 1)
        for name, module in self.named_children():
            if name != "transformer":
                module.apply(partial(init_weights, std=init_std(d)))
        with torch.no_grad():
            self.token_type_embeddings.weight[2:] = self.token_type_embeddings.weight[1]
            if {"irtr", "itm"} <= set(self.heads):  # a pair is ranked by how well it matches
                self.rank_output.weight.copy_(self.itm_score.fc.weight[1:])
                self.rank_output.bias.copy_(self.itm_score.fc.bias[1:])
        set_metrics(self)
        if config["gradient_checkpointing"]:
            self.transformer.set_grad_checkpointing()
        compile_layers(self, config["compile"])
        # EPIC >
        self.epic: Any = None  # a ViltEpic, set by attach_epic
        # < EPIC

    def unused_parameters(self) -> list[str]:
        """Names of those that no step gives a gradient: heads without an objective, and what no task reads."""
        idle = [task for task in self.heads if task not in self.current_tasks]
        unused = [part for task in idle for part in PARTS_OF[task]]
        if set(self.current_tasks) <= {"mlm", "mpp"}:
            unused.append("pooler.")
        return names_below(self, unused)

    def plan(self, batch: dict[str, Any]) -> dict[str, Any]:
        return step_plan(batch, self.config["patch_size"], self.config["max_image_len"])

    # The three verbs -------------------------------------------------------------------------------------

    def encode_image(self, images: Tensor, sizes: Tensor | None = None, most: int | None = None) -> ImageTokens:
        """images (B, 3, H, W) -> their tokens, before dropout.

        Args:
            sizes: (B, 2) height and width inside the padding.
            most: patches of the largest image, see :meth:`VisionTransformer.visual_embed`.
        """
        return self.transformer.visual_embed(images, sizes, self.config["max_image_len"], most)

    def encode_text(self, ids: Tensor) -> Tensor:
        """ids (B, n) -> embedded text (B, n, d)."""
        return self.text_embeddings(ids)

    def joint_layout(self, plan: TokenPlan) -> PaddedLayout:
        """How joint sequences are stored: without padding, unless ``pack_text=False``."""
        return UnpaddedLayout(plan) if self.config["pack_text"] else PaddedLayout(plan.mask)

    def fuse(self, text: Tensor, image: ImageTokens, plan: TokenPlan, token_type: int = 1) -> Tensor:
        """The transformer over embedded text (B, n, d) and images, whose joint sequences ``plan`` describes.

        Returns the pair's first token alone, (B, d).
        """
        layout = self.joint_layout(plan)
        x = self.joint_input(text, self.transformer.pos_drop(image.states), token_type)
        x = self.transformer.run_blocks(layout.unpad(x), layout, stop=-1)
        return self._last_block(x, layout, Queries.first(plan.mask))

    def outputs_of(self, passes: Sequence[Pass]) -> dict[str, Any]:
        """The outputs of several objectives."""
        return outputs_of(passes, self.fuse_together(passes)) if passes else {}

    def fuse_together(self, passes: Sequence[Pass]) -> list[Tensor]:
        """The passes of several objectives over B pairs each as one; the last block computes what a pass reads.

        Returns for each the states that it reads, (K, d), or all of them, as stored.
        """
        plans = [each.image.plan for each in passes]
        text = self.encode_text(torch.cat([each.ids for each in passes]))
        image = self.transformer.pos_drop(torch.cat([each.image.tokens.states for each in passes]))
        layout = self.joint_layout(TokenPlan.together(plans))
        x = self.transformer.run_blocks(layout.unpad(self.joint_input(text, image)), layout, stop=-1)
        layouts = [self.joint_layout(plan) for plan in plans]
        parts = x.split([len(plan.row) for plan in plans] if x.dim() == 2 else len(plans[0].mask))
        return [self._last_block(x, own, each.read) for each, own, x in zip(passes, layouts, parts, strict=True)]

    def _last_block(self, x: Tensor, layout: PaddedLayout, read: Queries | None) -> Tensor:
        queries = None if read is None else QuerySubset(layout, read)
        return self.transformer.norm(self.transformer.run_blocks(x, layout, queries, start=-1))

    def joint_input(self, text: Tensor, image: Tensor, token_type: int = 1) -> Tensor:
        """The joint sequence (B, n + 1 + P, d), text first, each with its modality."""
        types = self.token_type_embeddings.weight
        return torch.cat([text + types[0], image + types[token_type]], dim=1)

    def infer(
        self,
        batch: dict[str, Any],
        mask_text: bool = False,
        mask_image: bool = False,
        image_token_type_idx: int = 1,
        image_embeds: Tensor | None = None,
        image_masks: Tensor | None = None,
    ) -> dict[str, Any]:
        """One full pass, nothing skipped, with the official arguments and result (docs/official/vilt.md §4.2).

        ``image_embeds`` (B, 1 + P, d) and ``image_masks`` (B, 1 + P) of an earlier pass replace the batch's image.
        Returns text_feats (B, n, d), image_feats (B, 1 + P, d), cls_feats and raw_cls_feats (B, d), image_labels
        (B, 1 + P, 3) or None, image_masks, text_labels, text_ids, text_masks, patch_index.
        """
        suffix = "_mlm" if mask_text else ""
        ids, labels, text_masks = batch[f"text_ids{suffix}"], batch[f"text_labels{suffix}"], batch["text_masks"]
        patch_index, image_labels = None, None
        if image_embeds is None and image_masks is None:
            key = f"image_{image_token_type_idx - 1}"
            images, sizes = image_of(batch, key if key in batch else "image")
            tokens = self.encode_image(images, sizes)
            if mask_image:
                tokens, image_labels = self.mask_patches(tokens, images)
            image_embeds, image_masks = self.transformer.pos_drop(tokens.states), tokens.mask.long()
            patch_index = (tokens.patch_index, tokens.grid)
        assert image_embeds is not None and image_masks is not None
        x = self.joint_input(self.encode_text(ids), image_embeds, image_token_type_idx)
        mask = torch.cat([text_masks.bool(), image_masks.bool()], dim=1)
        x = self.transformer.norm(self.transformer.run_blocks(x, PaddedLayout(mask)))
        text_feats, image_feats = x.split([ids.shape[1], image_embeds.shape[1]], dim=1)
        return {
            "text_feats": text_feats,
            "image_feats": image_feats,
            "cls_feats": self.pooler(x[:, 0]),
            "raw_cls_feats": x[:, 0],
            "image_labels": image_labels,
            "image_masks": image_masks,
            "text_labels": labels,
            "text_ids": ids,
            "text_masks": text_masks,
            "patch_index": patch_index,
        }

    def mask_patches(self, image: ImageTokens, images: Tensor) -> tuple[ImageTokens, Tensor]:
        """Masked patch prediction's tokens and labels, see :func:`vilt.modules.masked_patches.mask_patches`."""
        assert self.transformer.mask_token is not None, "masked patch prediction needs loss_names.mpp"
        return mask_patches(image, images, self.transformer.mask_token)


def text_embeddings(config: dict[str, Any]) -> BertEmbeddings:
    """Word, position and type embeddings as BERT's, under the official keys with the official ``position_ids``."""
    embeddings = BertEmbeddings(
        BertConfig(
            vocab_size=config["vocab_size"],
            hidden_size=config["hidden_size"],
            max_position_embeddings=config["max_text_len"],
            hidden_dropout_prob=config["drop_rate"],
        )
    )
    use_official_names(
        embeddings, str, derived=lambda: {"position_ids": embeddings.position_ids.clone()}, order=TEXT_ORDER
    )
    return embeddings
