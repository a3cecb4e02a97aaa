"""The demo's baselines: how fast a small model of each learns, and how Fig. 5 reads its attention."""

from __future__ import annotations

from demo.albef_demo import AlbefDemo
from demo.baseline import DemoBaseline
from demo.judgement import albef_judgement, meter_judgement, vilt_judgement, xvlm_judgement
from demo.sacred_demo import SacredDemo
from demo.vilt_demo import ViltDemo
from demo.xvlm_demo import XvlmDemo
from vlp.baseline import get_baseline

BASELINES: dict[str, DemoBaseline] = {
    "meter": SacredDemo(
        get_baseline("meter"),
        "demo",
        steps=440,
        step_seconds=0.2,
        encoder_steps=700,
        pixels=48,
        vision="vit_model",
        judge=meter_judgement,
        # Both towers are fitted before, and what is new has to learn in few steps.
        learning=("learning_rate=1e-4", "lr_mult_head=30", "lr_mult_cross_modal=30", "mlm_prob=0.5"),
        smaller=("hidden_size=64", "num_heads=2"),
    ),
    "vilt": ViltDemo(
        get_baseline("vilt"),
        "demo_vilt",
        steps=430,
        step_seconds=0.22,
        encoder_steps=400,
        pixels=80,  # of which it sees 64: sides are cut to multiples of 32
        vision="transformer",
        judge=vilt_judgement,
        # It never saw text before, and its official warm-up has 2500 steps.
        learning=("learning_rate=2e-3", "warmup_steps=0.1", "mlm_prob=0.5"),
    ),
    "albef": AlbefDemo(
        get_baseline("albef"),
        "demo_albef",
        steps=310,
        step_seconds=0.27,
        encoder_steps=700,
        pixels=48,
        vision="visual_encoder",
        judge=albef_judgement,
        # Its contrast starts at random, so its momentum model has no targets to give.
        learning=("optimizer.lr=1e-3", "schedular.lr=1e-3", "schedular.warmup_epochs=0", "momentum=0.95", "alpha=0.0"),
    ),
    "xvlm": XvlmDemo(
        get_baseline("xvlm"),
        "demo_xvlm",
        steps=300,
        step_seconds=0.24,
        encoder_steps=700,
        pixels=64,
        vision="vision_encoder",
        judge=xvlm_judgement,
        learning=("optimizer.lr=1e-3", "schedular.lr=1e-3"),
    ),
}
