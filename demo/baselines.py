"""The demo's baselines: how fast a small model of each learns, and how Fig. 5 reads its attention."""

from __future__ import annotations

from demo.albef_demo import AlbefDemo
from demo.baseline import DemoBaseline
from demo.judgement import albef_judgement, meter_judgement, vilt_judgement, xvlm_judgement
from demo.sacred_demo import SacredDemo
from demo.xvlm_demo import XvlmDemo
from vlp.baseline import get_baseline

BASELINES: dict[str, DemoBaseline] = {
    "meter": SacredDemo(get_baseline("meter"), "demo", 580, 0.26, meter_judgement, learning=("learning_rate=3e-4",)),
    "vilt": SacredDemo(
        get_baseline("vilt"),
        "demo_vilt",
        1000,
        0.13,
        vilt_judgement,
        # Nothing in it is trained before, and its official warm-up has 2500 steps.
        learning=("learning_rate=1e-3", "warmup_steps=0.1"),
    ),
    "albef": AlbefDemo(
        get_baseline("albef"),
        "demo_albef",
        500,
        0.22,
        albef_judgement,
        # Nothing in it is trained before; the first 100 steps run at the rate that a warm-up starts with.
        learning=("optimizer.lr=1e-3", "schedular.lr=1e-3", "schedular.warmup_lr=3e-4", "momentum=0.98"),
    ),
    "xvlm": XvlmDemo(
        get_baseline("xvlm"),
        "demo_xvlm",
        600,
        0.25,
        xvlm_judgement,
        # Nothing in it is trained before.
        learning=("optimizer.lr=1e-3", "schedular.lr=1e-3", "optimizer.lr_mult=1"),
    ),
}
