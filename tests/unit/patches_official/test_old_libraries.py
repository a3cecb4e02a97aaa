"""ALBEF's and X-VLM's support files on a model of plain torch: what it needs is epic_common, torch and transformers.

So it runs in the environments that official checkouts have (test_transformers_versions.py).
"""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import epic_albef
import epic_xvlm
import pytest
import torch
from torch import Tensor, nn

from epic_common.config import PRESETS, EpicConfig, RegionEpicConfig
from tests.unit.patches_official.text_encoders import BERT, text_encoder

WIDTH, IMAGE, SIZE, HEADS = 16, 24, 40, 2
PAD, CLS = 0, 1


class Cross(nn.Module):
    """Text asks the image, with the official names."""

    def __init__(self) -> None:
        super().__init__()
        self.self = nn.Module()
        self.self.query, self.self.key = nn.Linear(WIDTH, WIDTH), nn.Linear(IMAGE, WIDTH)
        self.self.value = nn.Linear(IMAGE, WIDTH)

    def forward(self, text: Tensor, image: Tensor) -> Tensor:
        own: Any = self.self
        weights = (own.query(text) @ own.key(image).transpose(1, 2)).softmax(dim=-1)
        return text + weights @ own.value(image)


class Bert(nn.Module):
    """Two layers of text and two that also ask the image."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.encoder = nn.Embedding(SIZE, WIDTH), nn.Module()
        layers: Any = nn.ModuleList(nn.Module() for _ in range(4))
        self.encoder.layer = layers
        for i, layer in enumerate(layers):
            layer.dense = nn.Linear(WIDTH, WIDTH)
            if i >= 2:
                layer.crossattention = Cross()

    def forward(self, ids: Tensor, **given: Any) -> Any:
        states = self.words(ids)
        layers: Any = self.encoder.layer
        for layer in layers:
            states = layer.dense(states).tanh()
            if hasattr(layer, "crossattention"):
                states = layer.crossattention(states, given["encoder_hidden_states"])
        return SimpleNamespace(last_hidden_state=states)


class TextEncoder(nn.Module):
    """A masked LM."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.bert, self.cls = Bert(), nn.Module()
        self.cls.predictions = nn.Linear(WIDTH, SIZE)
        self.config = SimpleNamespace(num_attention_heads=HEADS, name_or_path=name)


class Plain(nn.Module):
    """A model with ALBEF's and X-VLM's official names and verbs."""

    text_encoder: Any
    visual_encoder: Any
    vision_encoder: Any
    epic: Any

    def __init__(self, name: str, vision: str) -> None:
        super().__init__()
        setattr(self, vision, nn.Linear(6, IMAGE))
        self.text_encoder, self.itm_head, self.temp = (
            TextEncoder(name),
            nn.Linear(WIDTH, 2),
            nn.Parameter(torch.ones(())),
        )
        self.register_buffer("queue", torch.zeros(3))

    def get_cross_embeds(self, image: Tensor, seen: Tensor, text_ids: Tensor, text_atts: Tensor) -> Tensor:
        states: Tensor = self.text_encoder.bert(text_ids, encoder_hidden_states=image).last_hidden_state
        return states


class PlainAlbef(Plain):
    def __init__(self, name: str, config: dict[str, Any]) -> None:
        super().__init__(name, "visual_encoder")
        self.visual_encoder_m, self.text_encoder_m = (
            copy.deepcopy(m) for m in (self.visual_encoder, self.text_encoder)
        )
        self.model_pairs = [[self.visual_encoder, self.visual_encoder_m]]
        for momentum in (self.visual_encoder_m, self.text_encoder_m):
            momentum.requires_grad_(False)
        epic_albef.attach(self, config)

    def forward(self, image: Tensor, text: Any) -> tuple[Tensor, ...]:
        image_embeds, image_embeds_m = self.visual_encoder(image), self.visual_encoder_m(image).detach()
        states = self.get_cross_embeds(image_embeds, text.attention_mask, text.input_ids, text.attention_mask)
        loss_mlm = self.text_encoder.cls.predictions(states).square().mean() + self.itm_head(states).square().mean()
        loss_mlm = epic_albef.add_losses(loss_mlm, self, image, text, image_embeds, image_embeds_m)
        return loss_mlm, self.temp**2


class PlainXvlm(Plain):
    def __init__(self, name: str, config: dict[str, Any]) -> None:
        super().__init__(name, "vision_encoder")
        epic_xvlm.attach(self, {**config, "text_encoder": name})

    def forward(self, image: Tensor, text: Any) -> tuple[Tensor, ...]:
        text_ids, text_atts = text.input_ids, text.attention_mask
        image_embeds = self.vision_encoder(image)
        image_atts = torch.ones(image_embeds.shape[:2], dtype=torch.long)
        states = self.get_cross_embeds(image_embeds, image_atts, text_ids, text_atts)
        loss = self.text_encoder.cls.predictions(states).square().mean() + self.itm_head(states).square().mean()
        epic_xvlm.keep_losses(self, locals())
        return loss, self.temp**2


def batch() -> tuple[Tensor, Any]:
    ids = torch.randint(5, SIZE, (3, 8), generator=torch.Generator().manual_seed(0))
    ids[:, 0], ids[1, 5:] = CLS, PAD
    image = torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(1))
    return image, SimpleNamespace(input_ids=ids, attention_mask=(ids != PAD).long())


def launch(model: nn.Module, support: Any, steps: int, state: dict[str, Any] | None = None) -> torch.optim.Optimizer:
    """The launcher's part: an optimiser, EPIC's line, a checkpoint if one is given, steps."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    support.add_groups({"model": model, "optimizer": optimizer})
    if state is not None:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
    for _ in range(steps):
        optimizer.zero_grad()
        torch.stack(model(*batch())).sum().backward()
        optimizer.step()
    return optimizer


@pytest.mark.parametrize("preset", ["epic", pytest.param("vlm_sas", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["albef", "xvlm"])
def test_a_plain_model_trains_saves_and_goes_on(name: str, preset: str, tmp_path: Path) -> None:
    model_class: Any = PlainAlbef if name == "albef" else PlainXvlm
    support: Any = epic_albef if name == "albef" else epic_xvlm
    settings = (EpicConfig if name == "albef" else RegionEpicConfig)().to_dict()
    text = text_encoder(tmp_path / "text", "bert", BERT)
    sizes = {"train_dataset_size": 6, "images": {"batch_size": 3}, "optimizer": {"lr": 1e-3, "lr_mult": 2}}
    off = {"epic": settings, "teacher_path": "", **sizes}
    torch.save({"model": model_class(text, off).state_dict()}, tmp_path / "teacher.pth")
    keys = {**settings, **PRESETS[preset], "generator_dropout": False}
    on = {**off, "epic": keys, "teacher_path": str(tmp_path / "teacher.pth")}

    model = model_class(text, on)
    before = model.epic.head.beta.weight.detach().clone()
    optimizer = launch(model, support, 2)
    assert not torch.equal(model.epic.head.beta.weight, before)
    if name == "xvlm":
        return
    epic_albef.end_epoch()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "saved.pth")
    expected = launch_on(model, optimizer)
    again = model_class(text, on)
    launch(again, support, 1, torch.load(tmp_path / "saved.pth", map_location="cpu"))
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in expected.items())


def launch_on(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """One more step; the weights after it."""
    optimizer.zero_grad()
    torch.stack(model(*batch())).sum().backward()
    optimizer.step()
    return {key: value for key, value in model.state_dict().items() if "_extra_state" not in key}
