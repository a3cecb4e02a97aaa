"""ViLT's pre-training step for the step benchmark: its models and their parts, and the official step's alignment."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn
from transformers import BertConfig

from benchmarks.arrow_steps import ArrowSteps, Size
from benchmarks.baseline import Batch
from vilt.baseline import BASELINE
from vilt.modules.batches import image_of
from vilt.modules.epic_vilt import ViltEpic, ViltTeacher
from vilt.modules.vilt_module import ViLTransformerSS
from vilt.modules.word_patch_alignment import aligned_patches, aligned_words, alignment_loss
from vlp.sacred_dialect.baseline import SacredBaseline

_TINY_TEXT = BertConfig(
    vocab_size=1000,
    hidden_size=128,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=512,
    max_position_embeddings=30,
)
_PRETRAIN = ("task_mlm_itm", "step200k")
_UPDATES = {"whole_word_masking": True, "init": {"vision": "random"}}


class ViltSteps(ArrowSteps):
    """ViLT-B/32, and BERT as the generator."""

    description: ClassVar[SacredBaseline] = BASELINE
    epic = ViltEpic
    sizes: ClassVar[dict[str, Size]] = {
        "official": Size(_PRETRAIN, _UPDATES, BertConfig(), 3.3, 0.6),
        # The longest side that the transform gives: 12 x 19 patches, of which max_image_len keeps 200.
        "widest": Size(_PRETRAIN, _UPDATES, BertConfig(), 3.3, 0.8, width=608),
        "tiny": Size((*_PRETRAIN, "tiny"), {**_UPDATES, "vocab_size": 1000, "drop_rate": 0.1}, _TINY_TEXT, 0.7, 0.02),
    }

    def new_student(self) -> ViLTransformerSS:
        return ViLTransformerSS(self.config)

    def new_teacher(self) -> ViltTeacher:
        return ViltTeacher(self.without_heads)

    def parts(self) -> dict[str, list[nn.Module]]:
        m = self.student
        return {
            "text embedding": [m.text_embeddings, m.token_type_embeddings],
            "joint transformer": [m.transformer, m.pooler],
            "patch embedding": [m.transformer.patch_embed],  # the later name holds
            "heads": [m.mlm_score, m.itm_score],
        }

    def matching_loss(self, batch: Batch, pair: dict[str, Tensor], labels: Tensor) -> Tensor:
        """With word-patch alignment from the same pass (docs/official/vilt.md §5, step 4)."""
        mask, image_mask = batch["text_masks"], pair["image_masks"].bool()
        alignment = alignment_loss(
            pair["text_feats"], aligned_words(mask), pair["image_feats"], aligned_patches(image_mask), labels
        )
        return super().matching_loss(batch, pair, labels) + alignment

    def full_pass(self, teacher: ViltTeacher, batch: Batch) -> None:
        """Of as many patches as officially; our teacher sees all of them."""
        tokens = teacher.transformer.visual_embed(*image_of(batch, "image"), self.config["max_image_len"])
        teacher.infer(batch, image_embeds=tokens.states, image_masks=tokens.mask.long())
