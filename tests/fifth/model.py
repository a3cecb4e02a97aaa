"""The fifth baseline's model: linearly embedded patches and words in one stock BERT, with three objectives."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from transformers import BertConfig, BertModel

from vlp.data.masking import IGNORED
from vlp.nn.attention import init_std, init_weights
from vlp.nn.heads import ITMHead, MLMHead, Pooler
from vlp.sacred_dialect.objectives import caption_candidates, classified, irtr_outputs, mlm_outputs
from vlp.sacred_dialect.optimization import Optimization, scheduled
from vlp.sacred_dialect.task_metrics import set_metrics
from vlp.sacred_dialect.task_module import TaskModule
from vlp.training.compile import compile_layers
from vlp.training.param_groups import parameter_groups


class FifthModel(TaskModule):
    """Attribute names are checkpoint keys; ``itm_score`` and ``rank_output`` are those that the shared parts know."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        d, patch, drop = config["hidden_size"], config["patch_size"], config["drop_rate"]
        self.patch_embeddings = nn.Conv2d(3, d, kernel_size=patch, stride=patch)
        places = (config["image_size"] // patch) ** 2 + config["max_text_len"]
        layers = {"num_hidden_layers": config["num_layers"], "num_attention_heads": config["num_heads"]}
        sizes = {"hidden_size": d, "intermediate_size": 4 * d, "max_position_embeddings": places, **layers}
        drops = {"hidden_dropout_prob": drop, "attention_probs_dropout_prob": drop}
        bert = BertConfig(vocab_size=config["vocab_size"], **sizes, **drops)
        self.transformer = BertModel(bert, add_pooling_layer=False)
        self.pooler = Pooler(d)
        if "mlm" in self.heads:
            self.mlm_score = MLMHead(d, config["vocab_size"])
        if "itm" in self.heads:
            self.itm_score = ITMHead(d)
        if "irtr" in self.heads:
            self.rank_output = nn.Linear(d, 1)
        self.apply(partial(init_weights, std=init_std(d)))
        set_metrics(self)
        if config["gradient_checkpointing"]:
            self.transformer.gradient_checkpointing_enable()
        compile_layers(self, config["compile"])
        # EPIC >
        self.epic: Any = None  # a FifthEpic, set by attach_epic
        # < EPIC

    def encode_image(self, images: Tensor) -> Tensor:
        """images (B, 3, S, S) -> embedded patches (B, P, d)."""
        return self.patch_embeddings(images).flatten(2).transpose(1, 2)

    def joint(self, ids: Tensor, mask: Tensor, image: Tensor, **options: Any) -> Any:
        """BERT's output for image (B, P, d) and, behind it, text ids (B, n), mask (B, n), 1 = valid."""
        states = torch.cat([image, self.transformer.get_input_embeddings()(ids)], dim=1)
        seen = pad(mask, (image.shape[1], 0), value=1)
        return self.transformer(inputs_embeds=states, attention_mask=seen, **options)

    def fuse(self, ids: Tensor, mask: Tensor, image: Tensor) -> Tensor:
        """-> the text's last states (B, n, d)."""
        return self.joint(ids, mask, image).last_hidden_state[:, image.shape[1] :]

    def pooled(self, ids: Tensor, mask: Tensor, image: Tensor) -> Tensor:
        """-> the pair's feature (B, d), which the matching heads read."""
        return self.pooler(self.fuse(ids, mask, image)[:, 0])

    def step_outputs(self, batch: dict[str, Any], untrimmed: dict[str, Any], itm_labels: Tensor | None) -> Any:
        outputs: dict[str, Any] = {}
        mask, image = batch["text_masks"], self.encode_image(batch["image"][0])
        if "mlm" in self.current_tasks:
            labels = batch["text_labels_mlm"]
            states, masked = self.fuse(batch["text_ids_mlm"], mask, image), labels != IGNORED
            outputs |= mlm_outputs(self.mlm_score, states[masked], labels[masked])
        if itm_labels is not None:
            false = self.encode_image(batch["false_image_0"][0])
            mixed = image.index_copy(0, batch["itm_negatives"], false)
            outputs |= classified("itm", self.itm_score(self.pooled(batch["text_ids"], mask, mixed)), itm_labels)
        if "irtr" in self.current_tasks:
            count = self.config["draw_false_text"]
            ids, mask = caption_candidates(untrimmed, count)
            scores = self.rank_output(self.pooled(ids, mask, image.repeat_interleave(1 + count, dim=0)))
            outputs |= irtr_outputs(scores, count)
        # EPIC >
        if self.epic is not None:
            outputs |= self.epic.step(self, batch, image)
        # < EPIC
        return outputs

    def caption_states(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        return ids, mask  # nothing of a caption can be computed without the image

    def score_captions(self, image: Tensor, captions: list[tuple[Tensor, Tensor]]) -> Tensor:
        patches = self.encode_image(image[None])
        pairs = [self.pooled(ids, mask, patches.expand(len(ids), -1, -1)) for ids, mask in captions]
        return self.rank_output(torch.cat(pairs)).squeeze(1)

    def configure_optimizers(self) -> Optimization:
        rate = self.config["learning_rate"]
        groups = parameter_groups(self.named_parameters(), rate, self.config["weight_decay"], [])
        # EPIC >
        if self.epic is not None:
            groups = self.epic.own_groups(groups, rate, head_factor=1.0)
        # < EPIC
        return scheduled(groups, self)
