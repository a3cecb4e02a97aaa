"""``python -m demo``: a baseline pre-trained without and with EPIC on data that is made on the spot, and compared.

Everything goes through the baseline's official launcher, whose command lines are echoed: METER's, or that of
``--baseline``. Results: runs/demo/results.json, report.html, and each run's own folder with TensorBoard events. A
second call goes on where the first one stopped.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from demo.comparison import compare, print_table, write_results
from demo.image_encoder import fit_image_encoder
from demo.page import build_report
from demo.report import write_report
from demo.settings import RUNS, Settings, parse
from demo.sizes import CAPTIONS_PER_IMAGE, LEVEL, POSITIONS, REPOSITORY
from demo.stages import Stage, own_output, run_command, run_stages
from epic_common.language_models.fit import RELEASED_RATE, FitSettings, fit_language_model
from scenes.coco_layout import Request, write_coco
from scenes.corpus import write_corpus
from scenes.levels import LEVELS
from vlp.files import read_json, write_json
from vlp.quiet_libraries import quiet_libraries

CORPUS_SEED = 7  # another grammar seed than the captions': the "released" language model has read other text


def main(argv: Sequence[str]) -> None:
    """Run all stages, print the table, write the results and the report."""
    started, settings = time.monotonic(), parse(argv)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    quiet_libraries()
    own_output(settings.output)
    claim_output(settings)
    run_stages(stages(settings))
    comparison = compare(settings)
    commands = [settings.about.shown(command) for command in all_commands(settings)]
    write_results(settings.path("results.json"), comparison, settings, commands)
    write_report(settings.path("report.html"), build_report(settings, comparison, commands))
    print_table(comparison, settings)
    print(f"\n{time.monotonic() - started:.0f} s in this call")
    for name in ("results.json", "report.html"):
        print(f"written: {settings.path(name)}")
    print(f"loss curves: tensorboard --logdir {settings.output}")


def claim_output(settings: Settings) -> None:
    """Refuse a folder that holds a demo of other settings.

    Raises:
        SystemExit: naming the setting that differs and what to do.
    """
    path = settings.path("settings.json")
    wanted = {**dataclasses.asdict(settings), "output": str(settings.output)}
    if path.exists():
        there = read_json(path)
        differing = [
            f"{key} was {there.get(key)}, is {value}" for key, value in wanted.items() if there.get(key) != value
        ]
        if differing:
            raise SystemExit(
                f"{settings.output} holds a demo of other settings ({'; '.join(differing)}): "
                "remove it, or give another --output"
            )
    write_json(path, wanted)


def stages(settings: Settings) -> list[Stage]:
    """The demo in order; the seconds are those of a two-core machine."""
    raw, about = settings.path("data", "raw"), settings.about
    counts = (settings.train_images, settings.val_images, settings.test_images)
    request = Request(*counts, CAPTIONS_PER_IMAGE, about.pixels, settings.seed, LEVEL)
    step = about.step_seconds * settings.steps
    name = settings.description.title
    return [
        Stage("render the scenes", 15, raw / "scenes.json", lambda: render(raw, request, settings)),
        Stage(f"convert them to {about.form}", 2, about.converted(settings), lambda: about.convert(settings)),
        Stage(
            "fit the small language model",
            8 * about.text_layers,
            settings.language_model / "config.json",
            lambda: fit(settings),
        ),
        Stage("fit the small image encoder", 25, settings.image_encoder, lambda: fit_vision(settings)),
        train_stage(settings, "vanilla", f"pre-train {name}, vanilla", step),
        train_stage(settings, "epic", f"pre-train {name} with EPIC, the vanilla model as its teacher", 1.5 * step),
        # EPIC's measures are written last, so they tell that both are there.
        Stage("evaluate both", 60, settings.path("epic", "evaluated.json"), lambda: evaluate_both(settings)),
    ]


def train_stage(settings: Settings, name: str, title: str, seconds: float) -> Stage:
    """Pre-training run ``name``."""
    return Stage(title, seconds, settings.path(name, "trained.json"), lambda: train(settings, name))


def render(raw: Path, request: Request, settings: Settings) -> None:
    """Images and captions in COCO's raw layout, and the captions of the language model."""
    write_corpus(settings.path("data", "captions.txt"), settings.corpus_lines, CORPUS_SEED, LEVELS[LEVEL])
    write_coco(raw, request, workers=2)


def fit(settings: Settings) -> None:
    """The masked LM that stands in for a released one."""
    family = settings.description.text_family
    layers = settings.about.text_layers
    sizes = FitSettings(
        family=family,
        steps=settings.lm_steps,
        mlm_prob=RELEASED_RATE,
        max_length=POSITIONS,
        layers=layers,
        seed=settings.seed,
    )
    fit_language_model(settings.path("data", "captions.txt"), settings.language_model, sizes)


def fit_vision(settings: Settings) -> None:
    """The image encoder that stands in for a released one."""
    encoder = settings.about.untrained_image_encoder(settings, vocab_size(settings))
    raw = settings.path("data", "raw")
    fit_image_encoder(encoder, raw, settings.image_encoder, settings.encoder_steps, settings.seed)


def vocab_size(settings: Settings) -> int:
    """Tokens of the language model, the run's ``vocab_size``."""
    return int(read_json(settings.language_model / "config.json")["vocab_size"])


def train(settings: Settings, name: str) -> None:
    """One pre-training run through the launcher; what an interrupted one left is removed first."""
    shutil.rmtree(settings.path(name), ignore_errors=True)
    started = time.monotonic()
    command = settings.about.pretraining(settings, vocab_size(settings), name)
    launch(settings, command, settings.path(name, "train.log"))
    write_json(settings.path(name, "trained.json"), {"steps": settings.steps, "seconds": time.monotonic() - started})


def evaluate_both(settings: Settings) -> None:
    """The measures of both runs, whose commands run side by side, since so small a model keeps one core busy."""
    with ThreadPoolExecutor(len(RUNS)) as pool:
        found = list(pool.map(lambda name: evaluate(settings, name), RUNS))
    for name, measures in zip(RUNS, found, strict=True):
        if measured := settings.about.measured(settings, name):
            measures["measured"] = measured
        write_json(settings.path(name, "evaluated.json"), measures)


def evaluate(settings: Settings, name: str) -> dict[str, Mapping[str, float]]:
    """The metrics of each evaluation command of the run ``name``, from the results.json that it writes."""
    found = {}
    for kind, command in settings.about.evaluations(settings, vocab_size(settings), name).items():
        launch(settings, command, settings.path(name, f"{kind}.log"), label=f"{name} · ")
        newest = max(settings.path(name).rglob("results.json"), key=lambda path: path.stat().st_mtime_ns)
        found[kind] = read_json(newest)["metrics"]
    return found


def launch(settings: Settings, command: list[str], log: Path, label: str = "") -> None:
    """Echo a launcher command and run it.

    Args:
        label: before its progress, where the other run's command runs at the same time; it has half of the cores.
    """
    print(f"      $ {settings.about.shown(command)}", flush=True)
    half = {"OMP_NUM_THREADS": str(max((os.cpu_count() or 1) // len(RUNS), 1))}
    env = {**(half if label else {}), **os.environ}
    run_command(command, REPOSITORY / settings.baseline, log, env, label)


def all_commands(settings: Settings) -> list[list[str]]:
    """Every launcher command of the demo, in order."""
    about, size = settings.about, vocab_size(settings)
    return [
        command
        for name in RUNS
        for command in (about.pretraining(settings, size, name), *about.evaluations(settings, size, name).values())
    ]
