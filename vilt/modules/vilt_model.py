"""ViLT's parts and verbs: embedded text and patches in one transformer, the heads of every task.

Read ``infer`` for the plain computation of one pass. Source: docs/official/vilt.md §4, §5, §7.
"""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from transformers import BertConfig
from transformers.models.bert.modeling_bert import BertEmbeddings

from vilt.modules.batches import image_of
from vilt.modules.initial_weights import build_transformer
from vilt.modules.masked_patches import MPPHead, mask_patches
from vilt.modules.vision_transformer import ImageTokens, VisionTransformer
from vlp.nn.attention import init_std, init_weights
from vlp.nn.heads import ITMHead, MLMHead, Pooler, classifier
from vlp.nn.official_names import use_official_names
from vlp.nn.padding import PaddedLayout, QuerySubset, UnpaddedLayout
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


class Fused(NamedTuple):
    """The joint sequence after the final norm; zeros where nothing was asked for, and at padding."""

    text: Tensor  # (B, n, d)
    image: Tensor  # (B, 1 + P, d), class token first


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

    # The three verbs -------------------------------------------------------------------------------------

    def encode_image(self, images: Tensor, sizes: Tensor | None = None) -> ImageTokens:
        """images (B, 3, H, W) -> their tokens, before dropout; ``sizes`` (B, 2) height and width inside the padding."""
        return self.transformer.visual_embed(images, sizes, self.config["max_image_len"])

    def encode_text(self, ids: Tensor) -> Tensor:
        """ids (B, n) -> embedded text (B, n, d)."""
        return self.text_embeddings(ids)

    def fuse(
        self,
        text: Tensor,
        text_mask: Tensor,
        image: ImageTokens,
        *,
        token_type: int = 1,
        read: Tensor | None = None,
    ) -> Fused:
        """The transformer over embedded text (B, n, d), text_mask (B, n), 1 = valid, and images; padding is left out.

        ``read`` (B, m) bool marks which of the first m positions of the joint sequence (text, class token, patches) are
        read: the last block computes those alone. By default all are.
        """
        x, mask = self.joint_input(text, text_mask, self.transformer.pos_drop(image.states), image.mask, token_type)
        layout = UnpaddedLayout(mask)
        if read is None:
            states = layout.pad(self.transformer.norm(self.transformer.run_blocks(layout.unpad(x), layout)))
        else:
            queries = QuerySubset(layout, nn.functional.pad(read, (0, mask.shape[1] - read.shape[1])))
            x = self.transformer.run_blocks(layout.unpad(x), layout, queries)
            states = queries.pad_into(self.transformer.norm(x), layout)
        return Fused(*states.split([text.shape[1], image.mask.shape[1]], dim=1))

    def joint_input(
        self, text: Tensor, text_mask: Tensor, image: Tensor, image_mask: Tensor, token_type: int = 1
    ) -> tuple[Tensor, Tensor]:
        """The joint sequence (B, n + 1 + P, d), text first, each with its modality, and its mask, True = valid."""
        types = self.token_type_embeddings.weight
        x = torch.cat([text + types[0], image + types[token_type]], dim=1)
        return x, torch.cat([text_mask.bool(), image_mask.bool()], dim=1)

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
        x, mask = self.joint_input(self.encode_text(ids), text_masks, image_embeds, image_masks, image_token_type_idx)
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
