"""Captioning: fine-tuned on prompt and caption, and written by beam search.

Self-critical training (SCST) is not part of this code.

Source: docs/official/xvlm.md §7.5.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from vlp.distributed import gathered
from vlp.evaluation.caption_scores import caption_scores
from vlp.evaluation.captions import Captions, References, matched, read_references
from vlp.evaluation.generation import beam_search
from vlp.nn.cached_decoding import CachedDecoder
from xvlm.dataset.tokenizers import prompt_ids
from xvlm.models import model_captioning_pretrain


class XVLM(model_captioning_pretrain.XVLM):
    """The official model class of captioning; the plan of a batch says where its prompt ends."""

    since_start: ClassVar = False

    def __init__(self, config: dict[str, Any]) -> None:
        """``config`` is a resolved config."""
        super().__init__(config)
        self.label_smoothing = config["label_smoothing"]
        self.references: dict[str, References] = {}  # of each split
        self.captions = Captions()

    def check_data(self, datamodule: Any) -> None:
        """Read the references of all splits, and refuse a prompt that leaves no room for a caption."""
        for split in datamodule.eval_splits:
            self.references[split] = read_references(self.config[f"{split}_gt_file"])
        if (taken := len(prompt_ids(datamodule.tokenizer, self.config["prompt"]))) >= self.config["max_length"]:
            raise ValueError(
                f"max_length={self.config['max_length']}: [CLS] and prompt={self.config['prompt']!r} are {taken} "
                f"tokens of it already: raise max_length or shorten the prompt"
            )

    # Evaluation ------------------------------------------------------------------------------------------

    def start_evaluation(self, split: str) -> None:
        self.captions = Captions()

    def evaluation_step(self, batch: dict[str, Any], split: str) -> None:
        tokenizer: Any = self.trainer.datamodule.tokenizer  # type: ignore[attr-defined]
        written = self.generate(batch["image"], tokenizer)
        captions = tokenizer.batch_decode(written, skip_special_tokens=True)
        self.captions.take(batch["image_id"], [caption.strip() for caption in captions])

    def generate(self, images: Tensor, tokenizer: Any) -> list[list[int]]:
        """images (B, 3, S, S) -> the tokens that follow the prompt, without the closing ``[SEP]``."""
        beams = self.config["num_beams"]
        return beam_search(
            CachedDecoder(self.text_decoder, self.vision_encoder(images), beams),
            torch.tensor(prompt_ids(tokenizer, self.config["prompt"]), device=images.device),
            len(images),
            eos=tokenizer.sep_token_id,
            beams=beams,
            min_length=self.config["min_length"],
            max_length=self.config["max_length"],
        )

    def evaluation_results(self, split: str) -> dict[str, float]:
        """Write the captions and score them, on rank 0, whose scores the others take."""
        self.captions.gather()
        captions, scores = self.captions.of_image, dict[str, float]()
        if self.global_rank == 0:
            self.captions.write(self.caption_file(split))
            path = self.config[f"{split}_gt_file"]
            scores = caption_scores(captions, matched(captions, self.references[split], path))
        return gathered(scores)[0]

    def caption_file(self, split: str) -> Path:
        """``result/<split>_epoch<E>.json`` in the run's folder, of ``--evaluate`` ``result/<split>_eval.json``."""
        which = "eval" if self.config["evaluate"] else f"epoch{self.scored_epoch}"
        return Path(self.config["output_dir"]) / "result" / f"{split}_{which}.json"
