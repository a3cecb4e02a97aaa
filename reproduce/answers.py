"""Score VQA's answers on scenes, whose truth plays the part of VQAv2's evaluation server: server_scores.json."""

from __future__ import annotations

import argparse
from pathlib import Path

from demo.task_scores_sacred import scores
from reproduce import state
from vlp.data.errors import DataError
from vlp.files import read_json, write_json

SERVER = "server_scores.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The stage that answered, and what is right."""
    parser.add_argument("folder", type=Path, help="of the stage that answered")
    parser.add_argument("--truth", type=Path, required=True, help="scenes_truth.jsonl")


def main(arguments: argparse.Namespace) -> int:
    """Write the file into the stage's folder.

    METER and ViLT have answered the test questions. ALBEF and X-VLM were asked those of val, with their answers, and
    have scored them themselves.
    """
    path = state.results_file(arguments.folder)
    if path is None:
        raise DataError(f"{arguments.folder}: no results.json: run its stage first")
    results = read_json(path)
    if "submission" in results:
        asked, accuracy = "test", scores("VQA", arguments.folder, arguments.truth)[0].value
    else:
        asked, accuracy = "val", 100 * results["metrics"]["test_acc"]
    protocol = f"accuracy by the scenes' own answers to the questions of {asked}, without an evaluation server"
    write_json(arguments.folder / SERVER, {"vqa_test_dev": accuracy, "protocol": protocol})
    print(f"VQA: {accuracy:.1f} %")
    return 0
