"""Students with EPIC's parts, teachers and batches of every baseline, so that one test serves all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from epic_common.generator import build_generator
from epic_common.teacher import SasSnapshot, Teacher
from epic_common.vocabulary import Vocabulary
from epic_vlp.parts import EpicParts, parts_of, settings_of
from meter.baseline import BASELINE as METER
from meter.modules import meter_utils
from meter.modules.epic_meter import MeterTeacher
from tests.unit.epic.tiny import VOCABULARY, config_of, language_model
from tests.unit.meter import small as meter_small
from tests.unit.vilt import small as vilt_small
from vilt.baseline import BASELINE as VILT
from vilt.modules import vilt_utils
from vilt.modules.epic_vilt import ViltTeacher
from vlp.nn.packed_text import encode_packed
from vlp.sacred_dialect.baseline import SacredBaseline

Batch = dict[str, Any]


@dataclass(frozen=True)
class Kit:
    """What tests need to know of a baseline."""

    baseline: SacredBaseline
    student: Callable[..., Any]  # a small model with stirred weights; takes config keys
    teacher: Callable[[], Any]  # the same with an MLM head, as a teacher
    batch_of: Callable[..., Batch]
    vocabulary: Vocabulary
    bos: int
    unk: int
    width: int
    trained_by_itc: tuple[str, ...]  # prefixes of parameters
    own_losses: tuple[str, ...]
    set_schedule: Callable[[Any], Any]
    official_groups: int  # of the optimiser
    rates: tuple[float, float]  # learning rates of EPIC's head and of its generator

    @property
    def parts(self) -> EpicParts:
        return parts_of(self.baseline)

    def epic_model(self, preset: str = "epic", **changes: Any) -> Any:
        """A student with EPIC's parts, as attach_epic puts them in."""
        student, config = self.student(), settings_of(self.baseline, {"epic": config_of(preset, **changes).to_dict()})
        lm = language_model(self.baseline.text_family) if config.replacement == "lm" else None
        held = Teacher(self.teacher(), config.saliency_layer) if config.needs_teacher else None
        student.epic = self.parts.epic(
            config,
            self.vocabulary,
            self.width,
            build_generator(config, self.vocabulary, lm, self.width, encode_packed),
            teacher=held if config.masking == "saliency" else None,
            snapshot=SasSnapshot(held) if config.replacement == "vlm" and held is not None else None,
        )
        return student.eval()

    def presets(self, *names: str) -> list[str]:
        """Those of ``names`` that the baseline can have."""
        return [name for name in names if self.parts.image_encoder or name != "lm_cond"]


METER_KIT = Kit(
    METER,
    student=meter_small.meter,
    teacher=lambda: meter_small.meter(tasks=("mlm",), cls=MeterTeacher),
    batch_of=meter_small.batch_of,
    vocabulary=VOCABULARY,
    bos=meter_small.BOS,
    unk=3,
    width=meter_small.WIDTH,
    trained_by_itc=("vit_model.visual", "text_transformer.encoder", "cross_modal_text_layers.2"),
    own_losses=("mlm_loss", "itm_loss"),
    set_schedule=meter_utils.set_schedule,
    official_groups=6,
    rates=(5e-5, 1e-5),
)
VILT_KIT = Kit(
    VILT,
    student=vilt_small.vilt,
    teacher=lambda: vilt_small.vilt(tasks=("mlm",), cls=ViltTeacher),
    batch_of=vilt_small.batch_of,
    vocabulary=Vocabulary(
        mask_id=vilt_small.MASK,
        pad_id=vilt_small.PAD,
        special_ids=(0, 1, 2, 3, 4),
        size=vilt_small.VOCAB,
        sep_id=vilt_small.SEP,
    ),
    bos=vilt_small.CLS,
    unk=4,
    width=vilt_small.SIZE.width,
    trained_by_itc=("text_embeddings", "transformer.patch_embed", "transformer.blocks.2", "transformer.norm"),
    own_losses=("mlm_loss", "itm_loss", "itm_wpa_loss"),
    set_schedule=vilt_utils.set_schedule,
    official_groups=4,
    rates=(1e-4, 1e-4),
)
KITS = {"meter": METER_KIT, "vilt": VILT_KIT}


def every(*presets: str) -> Any:
    """Parametrise a test with ``kit`` and ``preset``: each baseline with those that it can have."""
    return pytest.mark.parametrize(
        ("kit", "preset"),
        [pytest.param(kit, p, id=f"{name}-{p}") for name, kit in KITS.items() for p in kit.presets(*presets)],
    )
