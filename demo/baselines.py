"""The demo's baselines: how fast a small model of each learns, and how Fig. 5 reads its attention."""

from __future__ import annotations

from demo.albef_demo import AlbefDemo
from demo.baseline import DemoBaseline
from demo.judgement import albef_judgement, meter_judgement, vilt_judgement, xvlm_judgement
from demo.sacred_demo import SacredDemo
from demo.xvlm_demo import XvlmDemo
from vlp.baseline import get_baseline

# One large thing in a picture; contrast takes captions of different pictures for different, which needs two things.
MATCHED, CONTRASTED = "single", "pair"

BASELINES: dict[str, DemoBaseline] = {
    "meter": SacredDemo(
        get_baseline("meter"),
        "demo",
        700,
        0.22,
        MATCHED,
        48,
        meter_judgement,
        # One rate: with the official multipliers fusion is too fast where towers are fast enough.
        learning=("learning_rate=1.5e-3", "lr_mult_head=1", "lr_mult_cross_modal=1", "mlm_prob=0.5"),
        smaller=("hidden_size=64", "num_heads=2"),
    ),
    "vilt": SacredDemo(
        get_baseline("vilt"),
        "demo_vilt",
        560,
        0.23,
        MATCHED,
        80,  # nine patches, of 48 pixels, are too few for the joint layers that are all it sees with
        vilt_judgement,
        # Nothing in it is trained before, and its official warm-up has 2500 steps.
        learning=("learning_rate=2e-3", "warmup_steps=0.1", "mlm_prob=0.5"),
    ),
    "albef": AlbefDemo(
        get_baseline("albef"),
        "demo_albef",
        480,
        0.3,
        CONTRASTED,
        48,
        albef_judgement,
        # Its vision starts at random, so its momentum model has no targets to give.
        learning=("optimizer.lr=2e-3", "schedular.lr=2e-3", "schedular.warmup_epochs=0", "momentum=0.98", "alpha=0.0"),
    ),
    "xvlm": XvlmDemo(
        get_baseline("xvlm"),
        "demo_xvlm",
        480,
        0.31,
        CONTRASTED,
        64,
        xvlm_judgement,
        # Its vision starts at random: it learns no slower than what is new.
        learning=("optimizer.lr=2e-3", "schedular.lr=2e-3", "optimizer.lr_mult=1"),
    ),
}
