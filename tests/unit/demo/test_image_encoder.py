"""The small image encoder of the demo: what it is fitted to, and that the baselines start from it."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from demo import image_encoder
from demo.baselines import BASELINES
from demo.demo_run import fit_vision, stages, vocab_size
from demo.image_encoder import Pictures, contents, cropped, train, training_pictures
from demo.settings import Settings, parse
from demo.stages import run_stages
from scenes.coco_layout import TRUTH_FILE

SIZES = {
    **{"train-images": 24, "val-images": 4, "test-images": 4, "corpus-lines": 100, "lm-steps": 1, "encoder-steps": 2},
    "batch": 8,
}


@pytest.fixture(scope="module", params=BASELINES)
def settings(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A demo of small sizes with everything that its pre-training starts from."""
    flags = [word for name, value in SIZES.items() for word in (f"--{name}", str(value))]
    output = tmp_path_factory.mktemp(request.param)
    settings = parse(["--baseline", request.param, "--output", str(output), *flags])
    run_stages(stages(settings)[:4])
    return settings


def vision_of(settings: Settings, config: dict[str, Any]) -> dict[str, torch.Tensor]:
    model: Any = settings.description.model(config)
    tensors: dict[str, torch.Tensor] = getattr(model, settings.about.vision).state_dict()
    return tensors


def test_the_pretraining_command_starts_from_the_fitted_encoder(settings: Settings) -> None:
    config = settings.about.vanilla_config(settings, vocab_size(settings))
    assert f"init.vision={settings.image_encoder}" in settings.about.pretraining(settings, 9, "epic")
    fitted, started = load_file(settings.image_encoder), vision_of(settings, config)
    assert fitted.keys() == started.keys()
    assert all(torch.equal(tensor, started[name]) for name, tensor in fitted.items())
    at_random = vision_of(settings, {**config, "init": "random"})
    assert any(not torch.equal(tensor, at_random[name]) for name, tensor in fitted.items())


def test_the_same_fit_gives_the_same_file_and_leaves_the_random_state(settings: Settings) -> None:
    before, state = settings.image_encoder.read_bytes(), torch.get_rng_state()
    settings.image_encoder.unlink()
    fit_vision(settings)
    assert settings.image_encoder.read_bytes() == before
    assert torch.equal(torch.get_rng_state(), state)


def test_the_fit_tells_pictures_apart_by_what_is_in_them(settings: Settings) -> None:
    """Noise that hides a faint colour: tokens of the two kinds of pictures move apart, those of one kind do not."""
    generator = torch.Generator().manual_seed(3)
    side = settings.about.pixels
    present = (torch.arange(48) % 2).float()[:, None]
    colour = torch.tensor([0.5, 0, -0.5]).view(3, 1, 1)
    noise = torch.randn(48, 3, side, side, generator=generator)
    pictures = Pictures(noise + colour * (2 * present[:, :, None, None] - 1), present)
    encoder = settings.about.untrained_image_encoder(settings, vocab_size(settings))

    def apart() -> float:
        encoder.weights.eval()
        with torch.no_grad():
            tokens = encoder.tokens(pictures.images).mean(dim=1)
        kinds = [tokens[present[:, 0] == kind] for kind in (0, 1)]
        within = torch.cat([kind - kind.mean(dim=0) for kind in kinds]).norm(dim=1).mean()
        return float((kinds[0].mean(dim=0) - kinds[1].mean(dim=0)).norm() / within)

    before = apart()
    train(encoder._replace(crops=False), pictures, 30)
    assert apart() > 2 * before


def test_contents_are_those_of_every_thing_of_the_scene(settings: Settings) -> None:
    raw = settings.path("data", "raw")
    rows = [json.loads(line) for line in (raw / TRUTH_FILE).read_text().splitlines()]
    pictures = training_pictures(raw, settings.about.untrained_image_encoder(settings, vocab_size(settings)).transform)
    trained = [row["scene"] for row in rows if row["split"] not in ("val", "test")]
    assert len(pictures.images) == len(trained) == SIZES["train-images"]
    for scene, present in zip(trained, pictures.present, strict=True):
        (thing,) = scene["things"]
        told = {f"ground {scene['ground']}", f"time {scene['time']}"}
        told |= {f"{name} {thing[name]}" for name in ("kind", "colour", "size", "pattern", "count", "place")}
        assert contents(scene) == told and present.sum() == len(told) == 8


def test_crops_are_parts_of_the_image_and_half_are_mirrored() -> None:
    torch.manual_seed(0)
    ramp = torch.linspace(0, 1, 32).expand(400, 3, 32, 32)
    crops = cropped(ramp)
    slopes = crops[:, 0, 16, 20] - crops[:, 0, 16, 12]
    whole = ramp[0, 0, 0, 20] - ramp[0, 0, 0, 12]
    assert crops.shape == ramp.shape and crops.min() >= 0 and crops.max() <= 1
    assert 0.4 < (slopes < 0).float().mean() < 0.6
    area = (slopes.abs() / whole) ** 2
    assert image_encoder.SMALLEST_CROP - 0.01 < area.min() < 0.35 and 0.95 < area.max() < 1.01
    assert torch.allclose(crops[:, :, :1], crops)  # nothing is turned or sheared


def test_an_encoder_without_crops_sees_the_pictures_themselves(settings: Settings) -> None:
    encoder, seen = settings.about.untrained_image_encoder(settings, vocab_size(settings)), list[torch.Tensor]()

    def tokens(images: torch.Tensor) -> torch.Tensor:
        seen.append(images)
        return encoder.tokens(images)

    pictures = training_pictures(settings.path("data", "raw"), encoder.transform)
    train(encoder._replace(tokens=tokens), pictures, 1)
    known = {image.numpy().tobytes() for image in pictures.images}
    own = [image.numpy().tobytes() in known for image in seen[-1]]
    assert not any(own) if settings.baseline in ("albef", "xvlm") else all(own)
