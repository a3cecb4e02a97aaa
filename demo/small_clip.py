"""A small CLIP, fitted to the demo's training pictures: METER's vision tower starts from it as METER starts from CLIP.

The file has CLIP's key names and one block more than METER keeps (SPEC §4.2), so ``init.vision=<file>`` loads it
exactly as it loads the released ViT-B-16.pt.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import AutoModel, get_linear_schedule_with_warmup

from epic_common.progress import steps_with_time_left
from meter.modules.clip_model import CLIP_SIZES, ClipVisualTower
from vlp.data.collate import Collator
from vlp.data.datasets import build_dataset
from vlp.data.masking import MlmMasker
from vlp.data.tokenizers import load_tokenizer
from vlp.data.transforms import build_transform
from vlp.files import atomic_open

VIT, IMAGE_SIZE, MAX_TEXT_LEN = "ViT-Tiny/16", 64, 30


class SmallClip(nn.Module):
    """Two towers and CLIP's symmetric contrastive loss."""

    def __init__(self, language_model: Path) -> None:
        super().__init__()
        size = CLIP_SIZES[VIT]
        # ClipVisualTower drops the last of the blocks it is told of; here all of them are kept.
        self.vision = ClipVisualTower(size._replace(layers=size.layers + 1), IMAGE_SIZE)
        transformers.logging.set_verbosity_error()  # it reports the unread MLM head as if it were a fault
        self.text = AutoModel.from_pretrained(language_model, add_pooling_layer=False)
        self.image_projection = nn.Linear(size.width, size.width, bias=False)
        self.text_projection = nn.Linear(self.text.config.hidden_size, size.width, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(1 / 0.07).log())

    def forward(self, batch: dict[str, Any]) -> Tensor:
        """Contrastive loss () of a batch of pairs."""
        image = F.normalize(self.image_projection(self.vision(batch["image"][0])[:, 0]), dim=-1)
        mask = batch["text_masks"][..., None]
        states = self.text(input_ids=batch["text_ids"], attention_mask=batch["text_masks"]).last_hidden_state
        text = F.normalize(self.text_projection((states * mask).sum(dim=1) / mask.sum(dim=1)), dim=-1)
        similarity = self.log_scale.exp() * image @ text.T
        target = torch.arange(len(similarity))
        return (F.cross_entropy(similarity, target) + F.cross_entropy(similarity.T, target)) / 2


def fit_small_clip(data_root: Path, language_model: Path, output: Path, steps: int, batch: int, seed: int) -> None:
    """Fit :class:`SmallClip` to the COCO training table of ``data_root`` and write its visual side to ``output``."""
    torch.manual_seed(seed)
    model = SmallClip(language_model)
    tokenizer = load_tokenizer(language_model)
    dataset = build_dataset("coco", "train", data_root, [build_transform("clip", IMAGE_SIZE)], seed=seed)
    loader = DataLoader(
        dataset,
        batch_size=batch,
        shuffle=True,
        drop_last=True,
        collate_fn=Collator(tokenizer, MlmMasker(tokenizer), MAX_TEXT_LEN),
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.98), weight_decay=0.05)
    schedule = get_linear_schedule_with_warmup(optimizer, steps // 10, steps)
    with steps_with_time_left("fitting the small CLIP", steps) as progress:
        while progress.done < steps:
            for pairs in loader:
                loss = model(pairs)
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                schedule.step()
                progress.advance(loss.detach())
                if progress.done == steps:
                    break
    with atomic_open(output) as handle:
        torch.save(model.vision.state_dict(), handle)
