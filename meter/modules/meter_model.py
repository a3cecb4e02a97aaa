"""METER's parts and verbs: two encoders, two co-attending fusion streams, and the heads of every task.

Read ``infer`` for the plain computation of one pass. Source: docs/official/meter.md §4, §5, §7.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from meter.modules.encoders import Encoders, build_encoders
from vlp.nn.attention import CoAttentionLayer, init_std, init_weights
from vlp.nn.heads import ITMHead, MLMHead, Pooler, classifier
from vlp.nn.official_names import use_official_names
from vlp.nn.packed_text import TextPlan, encode_text_states
from vlp.nn.padding import PaddedLayout, QuerySubset
from vlp.sacred_dialect.joint_pass import Pass, outputs_of
from vlp.sacred_dialect.task_metrics import set_metrics
from vlp.sacred_dialect.task_module import TaskModule
from vlp.training.compile import compile_layers
from vlp.training.ddp import names_below

# The official order of BERT's and RoBERTa's keys, which differs between versions of transformers.
TEXT_ORDER = (
    *("embeddings", "encoder", "pooler", "attention", "intermediate", "self", "output", "dense"),
    *("word_embeddings", "position_embeddings", "token_type_embeddings", "LayerNorm"),
)


class Fused(NamedTuple):
    """Streams after the last fusion layer; of a stream of which not all is read there is less, or None."""

    text: Tensor  # (B, n, d), or as stored
    image: Tensor | None  # (B, P, d)


class MeterModel(TaskModule):
    """The model without its training step; attribute names are the official checkpoint keys."""

    deciding_split = "dev"

    def __init__(self, config: dict[str, Any], encoders: Encoders | None = None) -> None:
        """Build from a resolved config; ``encoders`` overrides the towers that the config names."""
        super().__init__(config)
        vision, text = encoders or build_encoders(config)

        d = config["hidden_size"]
        self.cross_modal_text_transform = nn.Linear(config["input_text_embed_size"], d)
        self.cross_modal_image_transform = nn.Linear(config["input_image_embed_size"], d)
        # Text, image, and NLVR2's second image.
        self.token_type_embeddings = nn.Embedding(3 if "nlvr2" in self.current_tasks else 2, d)
        self.vit_model = vision
        self.text_transformer = text
        use_official_names(text, str, order=TEXT_ORDER)
        self.cross_modal_image_layers = nn.ModuleList(self._fusion_layer() for _ in range(config["num_top_layer"]))
        self.cross_modal_text_layers = nn.ModuleList(self._fusion_layer() for _ in range(config["num_top_layer"]))
        self.cross_modal_image_pooler = Pooler(d)
        self.cross_modal_text_pooler = Pooler(d)
        if "mlm" in self.current_tasks:
            self.mlm_score = MLMHead(d, config["vocab_size"])
        if "itm" in self.current_tasks:
            self.itm_score = ITMHead(2 * d)
        if "vqa" in self.current_tasks:
            self.vqa_classifier = classifier(2 * d, 2 * d, config["vqav2_label_size"])
        if "nlvr2" in self.current_tasks:
            self.nlvr2_classifier = classifier(4 * d, 2 * d, 2)
        if "snli" in self.current_tasks:
            self.snli_classifier = classifier(2 * d, 2 * d, 3)
        if "irtr" in self.current_tasks:
            self.rank_output = nn.Linear(2 * d, 1)
        for name, module in self.named_children():
            if name not in ("vit_model", "text_transformer"):
                module.apply(partial(init_weights, std=init_std(d)))
        with torch.no_grad():
            self.token_type_embeddings.weight[2:] = self.token_type_embeddings.weight[1]
        set_metrics(self)
        if config["gradient_checkpointing"]:
            self.vit_model.set_grad_checkpointing()
            self.text_transformer.gradient_checkpointing_enable()
        compile_layers(self, config["compile"])
        # EPIC >
        self.epic: Any = None  # a MeterEpic, set by attach_epic
        # < EPIC

    def _fusion_layer(self) -> CoAttentionLayer:
        c = self.config
        mlp_width = int(c["hidden_size"] * c["mlp_ratio"])
        return CoAttentionLayer(c["hidden_size"], c["num_heads"], mlp_width, c["drop_rate"])

    def official_named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Parameters under the key names of official checkpoints, which the optimiser's rules read."""
        for name, parameter in self.named_parameters():
            tower = name.removeprefix("vit_model.")
            yield ("vit_model." + self.vit_model.official_key(tower) if tower != name else name), parameter

    def unused_parameters(self) -> list[str]:
        """Names of those that no step gives a gradient: leftovers of official files, and what no task reads."""
        unused = ["vit_model.positional_embedding", "vit_model.ln_final.", "text_transformer.pooler."]
        if self.current_tasks == ["mlm"]:  # which reads the text stream alone
            last = len(self.cross_modal_image_layers) - 1
            unused += [f"cross_modal_image_layers.{last}.", "cross_modal_image_pooler.", "cross_modal_text_pooler."]
        return names_below(self, unused)

    # The three verbs -------------------------------------------------------------------------------------

    def encode_image(self, images: Tensor, token_type: int = 1) -> Tensor:
        """images (B, 3, S, S) -> image states that enter the fusion (B, P, d)."""
        features = self.cross_modal_image_transform(self.vit_model(images))
        return features + self.token_type_embeddings.weight[token_type]

    def encode_text(self, ids: Tensor, layout: PaddedLayout) -> Tensor:
        """ids (B, n) -> text states that enter the fusion, stored as the layout says.

        Of a :class:`TextLayout` the valid tokens alone are computed: the same numbers there.
        """
        features = encode_text_states(self.text_transformer, ids, layout)
        return self.cross_modal_text_transform(features) + self.token_type_embeddings.weight[0]

    @property
    def image_layout(self) -> PaddedLayout:
        """How images are stored, in a pass that may leave out what is not needed."""
        return PaddedLayout(reorder=self.config["reorder_attention"])

    def fuse(
        self,
        text: Tensor,
        text_layout: PaddedLayout,
        image: Tensor,
        image_layout: PaddedLayout,
        pooled_only: bool = False,
    ) -> Fused:
        """Co-attention layers over text, stored as its layout says, and image (B, P, d).

        ``pooled_only`` computes of the last layer just what the poolers read.
        """
        x, y = self._first_layers(text, text_layout, image, image_layout)
        if pooled_only:
            return self._pooled_layers(x, text_layout, y, image_layout)
        text_layer, image_layer = self.cross_modal_text_layers[-1], self.cross_modal_image_layers[-1]
        x1 = self._layer(text_layer, x, y, text_layout, image_layout)
        return Fused(text_layout.pad(x1), self._layer(image_layer, y, x, image_layout, text_layout))

    def outputs_of(self, passes: Sequence[Pass], plan: TextPlan) -> dict[str, Any]:
        """The outputs of several objectives over sentences that ``plan`` describes."""
        return outputs_of(passes, self.fuse_together(passes, plan)) if passes else {}

    def fuse_together(self, passes: Sequence[Pass], plan: TextPlan) -> list[Fused]:
        """The passes of several objectives over B sentences each as one; the last layers compute what a pass reads."""
        together, alone = self.text_layout(TextPlan.together([plan] * len(passes))), self.text_layout(plan)
        text = self.encode_text(torch.cat([each.ids for each in passes]), together)
        image = torch.cat([each.image for each in passes])
        parts = (states.chunk(len(passes)) for states in self._first_layers(text, together, image, self.image_layout))
        return [self._last_layers(x, alone, y, each) for each, x, y in zip(passes, *parts, strict=True)]

    def _last_layers(self, x: Tensor, layout: PaddedLayout, y: Tensor, of: Pass) -> Fused:
        """Of the text the states that a pass reads, (K, d); of the image what its pooler needs, if it is read."""
        text_layer = self.cross_modal_text_layers[-1]
        if of.pooled:
            return self._pooled_layers(x, layout, y, self.image_layout)
        read = None if of.read is None else QuerySubset(layout, of.read)
        return Fused(self._layer(text_layer, x, y, layout, self.image_layout, False, read), None)

    def _pooled_layers(self, x: Tensor, layout: PaddedLayout, y: Tensor, image_layout: PaddedLayout) -> Fused:
        """What the poolers read: token 0 of both streams; Swin, which has no class token, pools all tokens' mean."""
        text_layer, image_layer = self.cross_modal_text_layers[-1], self.cross_modal_image_layers[-1]
        first = self.image_pool == "first"
        return Fused(
            self._layer(text_layer, x, y, layout, image_layout, True),
            self._layer(image_layer, y, x, image_layout, layout, first),
        )

    def _first_layers(
        self, x: Tensor, text_layout: PaddedLayout, y: Tensor, image_layout: PaddedLayout
    ) -> tuple[Tensor, Tensor]:
        """Both streams through all layers but the last."""
        layers = zip(self.cross_modal_text_layers[:-1], self.cross_modal_image_layers[:-1], strict=True)
        for text_layer, image_layer in layers:
            x, y = (
                self._layer(text_layer, x, y, text_layout, image_layout),
                self._layer(image_layer, y, x, image_layout, text_layout),
            )
        return x, y

    def _layer(self, layer: nn.Module, *inputs: Any) -> Tensor:
        if self.config["gradient_checkpointing"] and self.training:
            return checkpoint(layer, *inputs, use_reentrant=False)
        return layer(*inputs)

    @property
    def image_pool(self) -> str:
        """ "first" = class token (CLIP), "mean" = over tokens (Swin)."""
        return self.vit_model.image_pool

    def pool(self, fused: Fused) -> Tensor:
        """-> cls_feats (B, 2d): text pooler beside image pooler."""
        assert fused.image is not None
        image = fused.image[:, 0] if self.image_pool == "first" else fused.image.mean(dim=1)
        return torch.cat([self.cross_modal_text_pooler(fused.text[:, 0]), self.cross_modal_image_pooler(image)], dim=-1)

    def infer(
        self,
        batch: dict[str, Any],
        mask_text: bool = False,
        mask_image: bool = False,
        image_token_type_idx: int = 1,
        img: Tensor | None = None,
    ) -> dict[str, Any]:
        """One full pass, nothing skipped, with the official arguments and result (docs/official/meter.md §4.5).

        ``mask_image`` is ignored, as in the official code. Returns text_feats (B, n, d), image_feats (B, P, d),
        cls_feats (B, 2d), text_labels, text_ids, text_masks.
        """
        suffix = "_mlm" if mask_text else ""
        ids, labels, mask = batch[f"text_ids{suffix}"], batch[f"text_labels{suffix}"], batch["text_masks"]
        if img is None:
            key = f"image_{image_token_type_idx - 1}"
            img = batch[key if key in batch else "image"][0]
        layout = PaddedLayout(mask.bool())
        text, image = self.encode_text(ids, layout), self.encode_image(img, image_token_type_idx)
        fused = self.fuse(text, layout, image, PaddedLayout())
        return {
            "text_feats": fused.text,
            "image_feats": fused.image,
            "cls_feats": self.pool(fused),
            "text_labels": labels,
            "text_ids": ids,
            "text_masks": mask,
        }
