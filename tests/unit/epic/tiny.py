"""Small real models and sentences that the EPIC tests share."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertForMaskedLM, PreTrainedModel, RobertaConfig, RobertaForMaskedLM

from epic_common.config import PRESETS, EpicConfig
from epic_common.corruption import Corruption
from epic_common.generator import Proposal, TokenGenerator, build_generator
from epic_common.masked_batch import MaskedBatch
from epic_common.objective import Epic
from epic_common.teacher import SaliencyTeacher, SasSnapshot, Teacher
from epic_common.vocabulary import Vocabulary

SIZE, WIDTH, IMAGE_WIDTH = 40, 16, 24
# <s>, <pad>, </s>, <unk> and <mask>, in RoBERTa's order
BOS, PAD, EOS, UNK, MASK = 0, 1, 2, 3, 4
VOCABULARY = Vocabulary(mask_id=MASK, pad_id=PAD, special_ids=(BOS, PAD, EOS, UNK, MASK), size=SIZE, sep_id=EOS)


def language_model(family: str = "roberta", width: int = WIDTH, size: int = SIZE) -> PreTrainedModel:
    """A masked LM of two layers with larger weights than usual, so that its softmax is far from flat."""
    sizes: dict[str, Any] = {
        "vocab_size": size,
        "hidden_size": width,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 2 * width,
        "max_position_embeddings": 40,
        "pad_token_id": PAD,
        "initializer_range": 0.3,
    }
    if family == "bert":
        return BertForMaskedLM(BertConfig(**sizes))
    return RobertaForMaskedLM(RobertaConfig(**sizes, type_vocab_size=1))


def sentences(*lengths: int, seed: int = 0, padded_to: int | None = None) -> tuple[Tensor, Tensor]:
    """ids and mask (B, n): ``<s> words </s>`` with the given numbers of words."""
    rng = torch.Generator().manual_seed(seed)
    n = padded_to or max(lengths) + 2
    ids = torch.full((len(lengths), n), PAD)
    for row, length in enumerate(lengths):
        ids[row, 0], ids[row, length + 1] = BOS, EOS
        ids[row, 1 : length + 1] = torch.randint(5, SIZE, (length,), generator=rng)
    return ids, (ids != PAD).long()


class TinyModel(nn.Module):
    """A vision-language model: text states that attend to image tokens, and an image [CLS] query over the text."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(SIZE, WIDTH)
        self.image = nn.Linear(IMAGE_WIDTH, WIDTH)
        self.query, self.key = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.fusion = nn.TransformerDecoderLayer(WIDTH, 2, 2 * WIDTH, dropout=0.1, batch_first=True)
        self.mlm = nn.Linear(WIDTH, SIZE)

    def fuse(self, ids: Tensor, mask: Tensor, image: Tensor) -> Tensor:
        return self.fusion(self.words(ids), self.image(image), tgt_key_padding_mask=mask == 0)

    def query_key(self, batch: dict[str, Tensor], layer: int) -> tuple[Tensor, Tensor]:
        """Two heads; ``layer`` scales the query, so that a test sees which one was asked for."""
        q = self.query(self.image(batch["image"][:, 0])).view(-1, 2, WIDTH // 2)
        k = self.key(self.words(batch["ids"])).view(*batch["ids"].shape, 2, WIDTH // 2).transpose(1, 2)
        return q * abs(layer), k

    def mlm_logits_at(self, batch: dict[str, Tensor], input_ids: Tensor, places: Tensor) -> Tensor:
        return self.mlm(self.fuse(input_ids, batch["mask"], batch["image"]).flatten(0, 1)[places])


def batch_of(*lengths: int, seed: int = 0) -> dict[str, Tensor]:
    ids, mask = sentences(*lengths, seed=seed)
    image = torch.randn(len(lengths), 3, IMAGE_WIDTH, generator=torch.Generator().manual_seed(seed + 1))
    return {"ids": ids, "mask": mask, "image": image}


def propose(
    generator: TokenGenerator,
    ids: Tensor,
    mask: Tensor,
    masked: Tensor,
    rng: torch.Generator,
    image_cls: Tensor | None = None,
    **known: Any,
) -> Proposal:
    """What a generator proposes for the positions M = ``masked``."""
    return generator.propose(MaskedBatch(ids, mask, masked, image_cls, **known), rng)


def config_of(preset: str, **changes: Any) -> EpicConfig:
    return EpicConfig.from_dict({**PRESETS[preset], **changes})


class TinyEpic(Epic):
    """An Epic that holds the teacher and the snapshot of its run, as a baseline's does."""

    teacher: SaliencyTeacher | None = None
    snapshot: SasSnapshot | None = None

    def corruption_of(self, batch: dict[str, Tensor]) -> Corruption:
        scores = self.teacher.saliency(batch) if self.teacher is not None else None
        logits = partial(self.snapshot.mlm_logits_at, batch) if self.snapshot is not None else None
        return self.corrupt(batch["ids"], batch["mask"], scores, batch["image"][:, 0], logits)


def epic_of(preset: str, seed: int = 0, rank: int = 0, **changes: Any) -> TinyEpic:
    """An Epic of a preset with tiny parts, always of the same weights."""
    config = config_of(preset, **changes)
    with torch.random.fork_rng():
        torch.manual_seed(7)
        lm = language_model() if config.replacement == "lm" else None
        teacher = Teacher(TinyModel(), config.saliency_layer) if config.needs_teacher else None
        generator = build_generator(config, VOCABULARY, lm, IMAGE_WIDTH)
        epic = TinyEpic(config, VOCABULARY, WIDTH, generator, seed, rank)
    epic.teacher = teacher if config.masking == "saliency" else None
    epic.snapshot = SasSnapshot(teacher) if config.replacement == "vlm" and teacher is not None else None
    return epic


def step(epic: TinyEpic, student: TinyModel, batch: dict[str, Tensor]) -> tuple[dict[str, Tensor], Corruption]:
    """One EPIC step of a student: what a baseline does. Returns the losses and the corruption."""
    corruption = epic.corruption_of(batch)
    states = student.fuse(corruption.input_ids, batch["mask"], batch["image"])
    return epic.losses(states, corruption), corruption
