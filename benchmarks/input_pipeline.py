"""``python -m benchmarks.input_pipeline``: Arrow tables to batches, against a plain PIL loop over the same files.

The pipeline is METER's or ViLT's data module as pre-training uses it: read, decode and transform the true images and
the false ones that ITM needs (half as many), tokenise and mask the captions, collate. The plain loop opens, converts,
resizes, crops if METER does, normalises, and does no more. What counts is images per second of processor time, in all
processes together: what one core does, whatever else the machine is doing; and the ratio of the two ways in one run.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from rich.table import Table
from torch import Tensor
from torch.utils.data import Subset
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from benchmarks.photos import write_photos
from epic_common.language_models.small import FAMILIES
from meter import config as meter_config
from vilt import config as vilt_config
from vlp.arguments import whole
from vlp.baseline import get_baseline
from vlp.console import stdout_console
from vlp.data.arrow.datamodule import ArrowDataModule
from vlp.data.arrow.registry import SPECS
from vlp.data.errors import DataError
from vlp.data.transforms import CLIP_MEAN, CLIP_STD, HALF, pixelbert_size
from vlp.files import write_json
from vlp.sacred_dialect.baseline import SacredBaseline
from vlp.sacred_dialect.config import base_config
from vlp.safe_output import make_output_safe

BATCH = 32


class Pipeline(NamedTuple):
    """What pre-training sets in a baseline's base config, and what a plain loop does to its images."""

    description: SacredBaseline
    settings: Mapping[str, Any]
    image_size: int
    resize: Callable[[int], Callable[[Image.Image], Image.Image]]
    mean_std: tuple[tuple[float, ...], tuple[float, ...]]


def squares(size: int) -> Callable[[Image.Image], Image.Image]:
    """METER's images: the middle of the image, ``size`` high and wide."""
    return transforms.Compose([transforms.Resize(size, InterpolationMode.BICUBIC), transforms.CenterCrop(size)])


def uncropped(size: int) -> Callable[[Image.Image], Image.Image]:
    """ViLT's: the whole image, its shorter side ``size``."""
    return lambda image: image.resize(pixelbert_size(*image.size, size), Image.Resampling.BICUBIC)


BASELINES = {
    "meter": Pipeline(
        get_baseline("meter"),
        {**meter_config.NAMED_CONFIGS["clip16"], "max_text_len": 50},
        288,
        squares,
        (CLIP_MEAN, CLIP_STD),
    ),
    "vilt": Pipeline(get_baseline("vilt"), vilt_config.NAMED_CONFIGS["task_mlm_itm"], 384, uncropped, (HALF, HALF)),
}


def main(argv: Sequence[str]) -> None:
    """Measure, print the table, write the JSON."""
    arguments = parse(argv)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = arguments.data_root or write_photos(Path(folder), arguments.images, arguments.size)
        datamodule = open_data(Path(folder), root, arguments)
        files = write_files(take(datamodule, arguments.images), Path(folder) / "files")
        result = measure(datamodule, files, arguments)
    print_table(result)
    if arguments.json:
        write_json(arguments.json, result)
        print(f"written: {arguments.json}")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser("python -m benchmarks.input_pipeline", description=__doc__)
    sizes = ", ".join(f"{baseline.image_size} for {name}" for name, baseline in BASELINES.items())
    parser.add_argument("--baseline", choices=sorted(BASELINES), default="meter", help="default meter")
    parser.add_argument("--images", type=whole(1), default=512, help="how many images; default 512")
    parser.add_argument(
        "--size", type=whole(1), default=480, help="shorter side of the images made; default 480 (x 640)"
    )
    parser.add_argument("--image-size", type=whole(1), help="of the model's input; default the baseline's: " + sizes)
    parser.add_argument(
        "--workers", type=whole(0), nargs="+", default=[0, 1, 2], help="loader processes; default 0 1 2"
    )
    parser.add_argument("--rounds", type=whole(1), default=3, help="of which the median counts; default 3")
    parser.add_argument("--data-root", type=Path, metavar="DIR", help="tables of your own instead of images made here")
    parser.add_argument("--datasets", nargs="+", choices=SPECS, default=["vg"], help="which of them; default vg")
    parser.add_argument("--json", metavar="FILE", help="write the result here")
    arguments = parser.parse_args(argv)
    arguments.image_size = arguments.image_size or BASELINES[arguments.baseline].image_size
    return arguments


def open_data(folder: Path, root: Path, arguments: argparse.Namespace) -> ArrowDataModule:
    """The baseline's data module, with a tokenizer made here."""
    baseline = BASELINES[arguments.baseline]
    configured = {**base_config(baseline.description.experiment), **baseline.settings}
    captions = ["a man rides a brown horse along the beach", "two dogs play with a red ball in the snow"]
    tokenizer = FAMILIES[baseline.description.text_family].train_tokenizer(captions, 300, configured["max_text_len"])
    tokenizer.save_pretrained(folder / "tokenizer")
    config: dict[str, Any] = {
        **configured,
        **{"image_size": arguments.image_size, "whole_word_masking": True, "tokenizer": str(folder / "tokenizer")},
        **{"data_root": str(root), "datasets": arguments.datasets, "per_gpu_batchsize": BATCH},
    }
    return baseline.description.datamodule(config)


def take(datamodule: ArrowDataModule, count: int) -> list[bytes]:
    """Cut the training set to ``count`` pairs, spread over all of it; their image files."""
    mixed = datamodule.sets["train"]
    chosen = torch.linspace(0, len(mixed) - 1, min(count, len(mixed))).long().tolist()
    datamodule.sets["train"] = Subset(mixed, chosen)  # type: ignore[assignment]
    files = []
    for index in chosen:
        dataset, local = mixed.place(index)
        files.append(dataset.tables.cell(dataset.row(local), "image"))
    return files


def write_files(contents: Sequence[bytes], folder: Path) -> list[Path]:
    """Image files for the plain loop."""
    folder.mkdir()
    paths = [folder / str(number) for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    return paths


def plain_loop(files: Sequence[Path], baseline: Pipeline, image_size: int) -> Iterator[Tensor]:
    """What any training loop has to do to an image, in the fewest words: (3, H, W) tensors."""
    transform = transforms.Compose(
        [baseline.resize(image_size), transforms.ToTensor(), transforms.Normalize(*baseline.mean_std)]
    )
    for file in files:
        with Image.open(file) as image:
            yield transform(image.convert("RGB"))


def pipeline(datamodule: ArrowDataModule, workers: int) -> int:
    """Load the training set once, starting the worker processes included; how many images there were."""
    datamodule.config["num_workers"] = workers
    loaded = 0
    for batch in datamodule.train_dataloader():
        loaded += sum(len(views[0]) for key, views in batch.items() if key in ("image", "false_image_0"))
    return loaded


def measure(datamodule: ArrowDataModule, files: Sequence[Path], arguments: argparse.Namespace) -> dict[str, Any]:
    """Images per second of every way, the ways taking turns, and their ratios to the plain loop."""
    baseline = BASELINES[arguments.baseline]
    ways: dict[str, Callable[[], int]] = {
        "plain": lambda: sum(1 for _ in plain_loop(files, baseline, arguments.image_size))
    }
    for workers in arguments.workers:
        ways[f"workers_{workers}"] = partial(pipeline, datamodule, workers)
    rounds = [{name: timed(load) for name, load in ways.items()} for _ in range(arguments.rounds)]

    cpu = {name: [found[name].per_cpu_second for found in rounds] for name in ways}
    wall = {name: [found[name].per_second for found in rounds] for name in ways}
    ratio = {name: [own / plain for own, plain in zip(cpu[name], cpu["plain"], strict=True)] for name in ways}
    return {
        "images_per_cpu_second": medians(cpu),
        "ratio_to_plain": medians(ratio),
        "images_per_second": medians(wall),
        "settings": {
            **{name: getattr(arguments, name) for name in ("baseline", "image_size", "rounds")},
            **{"images": len(files), "batch": BATCH},
            "data": str(arguments.data_root) if arguments.data_root else f"made here, shorter side {arguments.size}",
            "bytes_per_image": round(statistics.mean(path.stat().st_size for path in files)),
        },
        "machine": {
            **{"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
            **{name: version(name) for name in ("pillow", "torch", "torchvision", "pyarrow")},
        },
    }


def medians(rounds: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Of every way's rounds."""
    return {name: statistics.median(values) for name, values in rounds.items()}


class Speed(NamedTuple):
    """Images per second of processor time, in all processes together, and of the clock on the wall."""

    per_cpu_second: float
    per_second: float


def timed(load: Callable[[], int]) -> Speed:
    """The speed of one call, which returns how many images it loaded and leaves no process behind."""
    cpu, wall = cpu_seconds(), time.perf_counter()
    images = load()
    return Speed(images / (cpu_seconds() - cpu), images / (time.perf_counter() - wall))


def cpu_seconds() -> float:
    """Processor time of this process and of its children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def print_table(result: Mapping[str, Any]) -> None:
    """A row for each way."""
    settings = result["settings"]
    grid = Table(
        title=f"{settings['baseline']}: {settings['images']} images of {settings['bytes_per_image'] / 1e3:.0f} kB "
        f"({settings['data']}) → {settings['image_size']} px",
        title_justify="left",
    )
    for column in ("", "images per CPU second", "to the plain loop", "images per second"):
        grid.add_column(column, justify="right" if column else "left")
    for name, value in result["images_per_cpu_second"].items():
        title = "plain PIL loop" if name == "plain" else f"pipeline, num_workers={name.removeprefix('workers_')}"
        ratio, wall = result["ratio_to_plain"][name], result["images_per_second"][name]
        grid.add_row(title, f"{value:.1f}", f"{ratio:.2f}", f"{wall:.1f}")
    stdout_console().print(grid)


if __name__ == "__main__":
    make_output_safe()
    try:
        main(sys.argv[1:])
    except (DataError, OSError) as error:
        sys.exit(f"error: {error}")
