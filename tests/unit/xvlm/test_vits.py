"""CLIP's and DeiT's transformers in place of Swin: their files, their regions, a step of pre-training.

Source: docs/official/xvlm.md §2.3, §4.2, §8.3.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModel

from benchmarks.host_waits import HostWaits
from tests.unit.small_parts import stirred
from tests.unit.xvlm.small import PATCH, config_of, pretraining, pretraining_batch, region_batch
from vlp.checkpoint.weights import WeightsError
from vlp.nn.positions import interpolate_pos_embed
from vlp.nn.region_vit import RegionVit
from vlp.nn.step_plan import step_plan
from xvlm.models.checkpoints import load_checkpoint
from xvlm.models.xvlm import vision_encoder

SIZES: dict[str, Any] = {
    **{"vision_width": 24, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 40},
    **{"hidden_act": "quick_gelu", "attention_dropout": 0.0, "local_attn_depth": 2, "ckpt": ""},
}
CLIP: dict[str, Any] = {"use_clip_vit": True, "vision_config": SIZES}
DEIT: dict[str, Any] = {"use_clip_vit": False, "use_swin": False, "vision_config": SIZES}
KINDS = {"clip": CLIP, "deit": DEIT}


def encoder(kind: str, image_res: int = 96) -> RegionVit:
    torch.manual_seed(0)
    made = stirred(vision_encoder(config_of(**KINDS[kind], image_res=image_res)))
    assert isinstance(made, RegionVit)
    return made


def build(**changes: Any) -> Any:
    from xvlm.models.model_pretrain import XVLM

    return XVLM(config_of(**changes)).eval()


@torch.no_grad()
@pytest.mark.parametrize("form", ["vision alone", "with its text side"])
def test_clips_file_is_read_and_gives_clips_states(form: str, tmp_path: Path) -> None:
    own = {name: SIZES[name] for name in ("num_hidden_layers", "num_attention_heads", "intermediate_size")}
    theirs = stirred(CLIPVisionModel(CLIPVisionConfig(hidden_size=24, image_size=96, patch_size=PATCH, **own)))
    named = theirs.state_dict().items()
    state = {f"vision_model.{name.removeprefix('vision_model.')}": tensor for name, tensor in named}
    if form == "with its text side":
        state = {**state, "text_model.final_layer_norm.weight": torch.ones(3), "logit_scale": torch.ones(())}
    torch.save(state, tmp_path / "clip.bin")
    sizes = {**CLIP, "vision_config": {**SIZES, "ckpt": str(tmp_path / "clip.bin")}}
    model = build(init={"vision": "pretrained", "text": "random"}, **sizes)
    images = torch.randn(2, 3, 96, 96)
    outputs = theirs(images)
    torch.testing.assert_close(model.vision_encoder(images)[:, 0], outputs.pooler_output, rtol=1e-4, atol=1e-5)
    normed = torch.nn.functional.layer_norm(
        outputs.last_hidden_state,
        (24,),
        state["vision_model.post_layernorm.weight"],
        state["vision_model.post_layernorm.bias"],
        eps=1e-5,
    )
    torch.testing.assert_close(model.vision_encoder(images), normed, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_deits_file_is_read_and_gives_timms_states(tmp_path: Path) -> None:
    sizes: dict[str, Any] = {"embed_dim": 24, "depth": 3, "num_heads": 2, "patch_size": PATCH}
    theirs: Any = stirred(timm.create_model("deit_base_patch16_224", img_size=96, num_classes=7, **sizes))
    torch.save({"model": theirs.state_dict()}, tmp_path / "deit.pth")
    model = build(init={"vision": str(tmp_path / "deit.pth"), "text": "random"}, **DEIT)
    images = torch.randn(2, 3, 96, 96)
    torch.testing.assert_close(model.vision_encoder(images), theirs.forward_features(images))


def test_another_image_size(tmp_path: Path) -> None:
    """The positions of a checkpoint are interpolated, as those of a file to start from."""
    small = pretraining(**DEIT)
    torch.save({"model": small.state_dict()}, tmp_path / "small.th")
    large = build(**DEIT, image_res=128)
    load_checkpoint(large, tmp_path / "small.th", "pretrain")
    expected = interpolate_pos_embed(small.vision_encoder.pos_embed, 1 + 4 * 4)
    assert expected.shape == (1, 17, 24) and torch.equal(large.vision_encoder.pos_embed, expected)
    started = {name.removeprefix("vision_encoder."): t for name, t in small.state_dict().items()}
    torch.save(started, tmp_path / "vit.pth")
    again = build(**DEIT, image_res=128, init={"vision": str(tmp_path / "vit.pth"), "text": "random"})
    assert torch.equal(again.vision_encoder.pos_embed, expected)


def alone(made: Any, image: Tensor, mask: Tensor) -> Tensor:
    """The states of a region's tokens: from the first of the local layers on there are no others."""
    x = made.norm_pre(made._pos_embed(made.patch_embed(image[None])))
    for block in made.blocks[:1]:
        x = block(x)
    x = x[:, mask]
    for block in made.blocks[1:]:
        x = block(x)
    return made.norm(x)[0]


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_a_region_sees_itself_alone_in_the_last_layers(kind: str) -> None:
    made, batch = encoder(kind), region_batch()
    mask = batch["image_atts"].bool()
    regions, whole = made.regions(batch["image"], batch["idx_to_group_img"], mask)
    torch.testing.assert_close(whole, made(batch["image"]), rtol=1e-4, atol=1e-5)
    for i, image in enumerate(batch["idx_to_group_img"].tolist()):
        expected = alone(made, batch["image"][image], mask[i])
        torch.testing.assert_close(regions[i, mask[i]], expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(regions[1], whole[batch["idx_to_group_img"][1]], atol=1e-3)


@pytest.mark.parametrize("regions", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_step_of_pre_training(kind: str, regions: bool) -> None:
    """No wait, and the gradients of a model that computes its layers again."""
    losses, gradients = [], []
    for again in (False, True):
        model = pretraining(**KINDS[kind], gradient_checkpointing=again)
        batch = region_batch() if regions else pretraining_batch()
        batch |= step_plan(batch)
        torch.manual_seed(1)
        with HostWaits() as waits:
            outputs = model(batch)
            loss = sum(value for name, value in outputs.items() if name.endswith("_loss"))
            loss.backward()
        assert waits.operations > 100 and waits.found == Counter()
        losses.append(loss.item())
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert gradients[0].keys() == gradients[1].keys() and "vision_encoder.cls_token" in gradients[0]
    for name, grad in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], grad, rtol=1e-4, atol=1e-6)


def test_files_of_another_encoder(tmp_path: Path) -> None:
    from tests.unit.xvlm.test_initial_weights import saved, swin

    path = saved(tmp_path / "swin.pth", swin())
    for sizes in (CLIP, DEIT):
        with pytest.raises(WeightsError, match=r"swin\.pth (lacks \['cls_token'|does not fit the model)"):
            build(init={"vision": path, "text": "random"}, **sizes)
