"""``results.json``: the metrics of a run or of an evaluation, and what they were measured with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vlp.checkpoint.forms import weights_file
from vlp.checkpoint.weights import saved_config, sha256_of_file
from vlp.evaluation.score_table import print_scores
from vlp.files import write_json
from vlp.yaml_dialect.baseline import Script
from vlp.yaml_dialect.epoch_log import tag
from vlp.yaml_dialect.paper_metrics import paper_metrics

# Of the configuration, what the numbers depend on; a script has some of them.
EXCERPT = (
    *(
        "image_res",
        "vision_config",
        "bert_config",
        "text_config",
        "text_encoder",
        "text_decoder",
        "val_file",
        "test_file",
    ),
    *("answer_list", "refcoco_data", "det_file", "batch_size", "batch_size_train", "batch_size_test", "k_test", "eos"),
    *("gradcam_mode", "block_num", "optimizer", "schedular", "max_steps", "alpha", "distill", "world_size", "seed"),
    *("precision", "matmul_precision", "epic"),
)


def write_results(
    folder: Path,
    baseline: str,
    script: Script,
    config: Mapping[str, Any],
    datamodule: Any,
    results: Mapping[str, Mapping[str, float]],
    checkpoint: str | Path,
    epoch: int | None = None,
) -> None:
    """Write it, print the scores and say where it is.

    Args:
        results: metrics of each split.
        checkpoint: the file of the weights that were scored; empty where there is none.
        epoch: of a training run, the epoch of that checkpoint.
    """
    metrics = {tag(split, name): value for split, each in results.items() for name, value in each.items()}
    there = bool(checkpoint) and weights_file(checkpoint).is_file()
    path = folder / "results.json"
    write_json(
        path,
        {
            **{"baseline": baseline, "task": script.task, "script": script.name, "metrics": metrics},
            "checkpoint": str(checkpoint),
            "checkpoint_sha256": sha256_of_file(checkpoint) if there else None,
            **({} if epoch is None else {"epoch": epoch}),
            "protocol": script.protocol,
            "paper": paper_metrics(script.task, config, results, saved_config(checkpoint) if there else {}),
            "splits": list(results),
            "items": {split: len(datamodule.sets[split]) for split in results},
            "config": {name: config[name] for name in EXCERPT if name in config},
        },
    )
    print_scores(results)
    print(f"results: {path}", flush=True)
