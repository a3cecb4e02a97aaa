"""The official code bases: the commit that a patch is for, its files' blobs, and what goes in behind which line.

Facts of docs/official/<baseline>.md section 10; the lines are ours. `python -m patches official write` makes the patch
files from here. Lines and support files change together: what a line calls is in support/epic_<baseline>.py.
"""

from __future__ import annotations

from typing import NamedTuple

from patches.official.lines import Insertion
from patches.official.patch_file import FilePatch, OfficialPatch


class Repository(NamedTuple):
    """Where an official code base is, and the commit that the patch is for."""

    name: str
    url: str
    commit: str


REPOSITORIES = {
    "meter": Repository("METER", "https://github.com/zdou0830/METER", "f4f09345b26ee21add0a756d06598e3c04726345"),
    "vilt": Repository("ViLT", "https://github.com/dandelin/ViLT", "762fd3975c180db6fc88f577cf39549983fa373a"),
    "albef": Repository("ALBEF", "https://github.com/salesforce/ALBEF", "b9727e43c3040491774d1b22cc27718aa7772fac"),
    "xvlm": Repository("X-VLM", "https://github.com/zengyan-97/X-VLM", "cb4fff15bcc30bba710a7717318e6b963e6935a4"),
}


def _at(after: int, indent: int, *lines: str) -> Insertion:
    """Our lines behind the official line ``after``, indented as what is around them."""
    return Insertion(after, tuple(" " * indent + line if line else "" for line in lines))


def _epic(baseline: str, *files: FilePatch) -> OfficialPatch:
    name, repository, commit = REPOSITORIES[baseline]
    return OfficialPatch(f"EPIC for {name}", repository, commit, files)


def _shims(baseline: str, launcher: str, blob: str) -> OfficialPatch:
    """What newer libraries lack is put in place before the launcher's first line."""
    name, repository, commit = REPOSITORIES[baseline]
    lines = _at(0, 0, "import epic_shims", "epic_shims.install()")
    return OfficialPatch(
        f"What {name} misses in newer libraries", repository, commit, (FilePatch(launcher, blob, (lines,)),)
    )


SHIMS = {
    "meter": _shims("meter", "run.py", "2f26008ff89c54c4b9c43c7c1584b06393d3838a"),
    "vilt": _shims("vilt", "run.py", "0719e6dad577167d165a48b827ff5bc27850d4d5"),
    "albef": _shims("albef", "Pretrain.py", "8dd794d4bbc1c87e85181e307451bce1a723d300"),
    "xvlm": _shims("xvlm", "Pretrain.py", "f32e09cc7504b97e6568f171ab6cc6ecf75bc71c"),
}
# All fields of epic_common.config.EpicConfig, which says what each means, as YAML.
_YAML_KEYS = """\
# EPIC: epic_common/config.py says what each key means
teacher_path: ''
epic:
  enabled: False
  masking: saliency
  mask_ratio: 0.35
  teacher: checkpoint
  teacher_decay: 0.995
  saliency_layer: -2
  saliency_temperature: 1.0
  surprise_passes: 3
  mask_special_tokens: False
  replacement: lm
  generator: ''
  generator_training: finetune
  image_conditioned: False
  generator_dropout: True
  sampling_temperature: 1.0
  draw_special_tokens: False
  append_sep: null
  sas_refresh_steps: 0
  itc_weight: 8.0
  itc_reduction: mean_tokens
  itc_head: linear
  itc_head_bias: True
  itc_special_tokens: False
  generator_weight: 1.0
  generator_reduction: mean_tokens
  itc_head_lr_mult: 0.0
  generator_lr_mult: 1.0""".splitlines()
_XVLM_KEYS = [*_YAML_KEYS, "  on_regions: False"]
CODE_BASES = {
    "meter": _epic(
        "meter",
        FilePatch(
            "meter/config.py",
            "3dc092ee657d1e030391f6284c7e7a6d58100c85",
            (
                _at(1, 0, "import epic_meter"),
                _at(89, 4, "epic = epic_meter.default_keys()", 'teacher_path = ""'),
            ),
        ),
        FilePatch(
            "meter/modules/meter_module.py",
            "ed075c0add20b8d929a81424c304f15ab5b40a57",
            (
                _at(12, 0, "import epic_meter"),
                _at(125, 8, "epic_meter.attach(self, config)"),
                _at(270, 8, "epic_meter.add_losses(self, batch, ret)"),
                _at(
                    308,
                    4,
                    "",
                    "on_save_checkpoint = epic_meter.save_state",
                    "on_load_checkpoint = epic_meter.load_state",
                ),
            ),
        ),
        FilePatch(
            "meter/modules/meter_utils.py",
            "4c2fb20636a3367ec19304d206909f3eb092a742",
            (
                _at(9, 0, "import epic_meter"),
                _at(260, 4, "epic_meter.add_groups(pl_module, optimizer_grouped_parameters)"),
            ),
        ),
    ),
    "vilt": _epic(
        "vilt",
        FilePatch(
            "vilt/config.py",
            "f86f5d7ce6789f14365bf0803306ef1eabc85eff",
            (
                _at(1, 0, "import epic_vilt"),
                _at(81, 4, "epic = epic_vilt.default_keys()", 'teacher_path = ""'),
            ),
        ),
        FilePatch(
            "vilt/modules/vilt_module.py",
            "0a678f9a6aca7c3462186e3dd4e874692c3b4b5e",
            (
                _at(7, 0, "import epic_vilt"),
                _at(64, 8, "epic_vilt.attach(self, config)"),
                _at(215, 8, "epic_vilt.add_losses(self, batch, ret)"),
                _at(
                    253, 4, "", "on_save_checkpoint = epic_vilt.save_state", "on_load_checkpoint = epic_vilt.load_state"
                ),
            ),
        ),
        FilePatch(
            "vilt/modules/vilt_utils.py",
            "8ff48048eba06e843faeb0ac9a033c7e6ac289e6",
            (
                _at(10, 0, "import epic_vilt"),
                _at(232, 4, "epic_vilt.add_groups(pl_module, optimizer_grouped_parameters)"),
            ),
        ),
    ),
    "albef": _epic(
        "albef",
        FilePatch(
            "models/model_pretrain.py",
            "e170c94511b68f9c715dab858b034c1ed652a516",
            (
                _at(17, 0, "import epic_albef"),
                _at(85, 8, "epic_albef.attach(self, config)"),
                _at(
                    213,
                    8,
                    "loss_mlm = epic_albef.add_losses(loss_mlm, self, image, text, image_embeds, image_embeds_m)",
                ),
            ),
        ),
        FilePatch(
            "Pretrain.py",
            "8dd794d4bbc1c87e85181e307451bce1a723d300",
            (
                _at(32, 0, "import epic_albef"),
                _at(125, 4, "epic_albef.add_groups(locals())"),
                _at(158, 8, "epic_albef.end_epoch()"),
            ),
        ),
        FilePatch("configs/Pretrain.yaml", "0e22d2d9e1a9ab9e54b4df2bab2b28b9fad385ae", (_at(22, 0, *_YAML_KEYS),)),
    ),
    "xvlm": _epic(
        "xvlm",
        FilePatch(
            "models/model_pretrain.py",
            "78180ed7fcdc3cd5596ac0a9a7592cc053c39ae7",
            (
                _at(0, 0, "import epic_xvlm"),
                _at(8, 8, "epic_xvlm.attach(self, config)"),
                _at(28, 8, "epic_xvlm.keep_losses(self, locals())"),
            ),
        ),
        FilePatch(
            "Pretrain.py",
            "f32e09cc7504b97e6568f171ab6cc6ecf75bc71c",
            (_at(240, 4, "import epic_xvlm", "epic_xvlm.add_groups(locals())"),),
        ),
        FilePatch(
            "configs/Pretrain_XVLM_base_4m.yaml",
            "45be204c1b3ff5ef32039e9cc96bdb32d728745b",
            (_at(0, 0, *_XVLM_KEYS),),
        ),
        FilePatch(
            "configs/Pretrain_XVLM_base_16m.yaml",
            "ddc40bcdd9098ccc5ff06a4294c382b8b576f0e3",
            (_at(0, 0, *_XVLM_KEYS),),
        ),
    ),
}
