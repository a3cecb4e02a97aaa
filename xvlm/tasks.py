"""The tasks of ``run.py``: the scripts that each runs, one after the other, with their arguments.

Source: docs/official/xvlm.md §1.2.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

Commands = Iterator[list[str]]  # of a script and its arguments

COCO, FLICKR, GENOME = "images/coco", "images/flickr30k-images", "images/visualgenome"
NLVR2, MARVL = "images/nlvr2", "images/marvl"
STAGE_RESULT = "model_state_epoch_latest.th"  # what a domain stage leaves in its folder


@dataclass(frozen=True)
class Task:
    """A task of ``--task``.

    Attributes:
        commands: of its arguments.
        config: the YAML file of its first script where ``--config`` is not given.
        folders: of images, that must be there.
        staged: whether a domain stage comes first, which ``--load_ckpt_from`` and ``--evaluate`` skip.
        checkpoint: whether it starts from one.
    """

    commands: Callable[[argparse.Namespace, Task], Commands]
    config: str
    folders: Sequence[str] = ()
    staged: bool = False
    checkpoint: bool = True


def _pretrain(args: argparse.Namespace, task: Task) -> Commands:
    yield ["Pretrain.py", "--config", args.config or task.config, "--output_dir", args.output_dir, *_seed(args)]


def _tuned(script: str, *flags: str, evaluate: bool = False) -> Callable[[argparse.Namespace, Task], Commands]:
    """One script that fine-tunes or, with ``evaluate`` in any case, scores."""

    def commands(args: argparse.Namespace, task: Task) -> Commands:
        yield _tuning(script, args, args.config or task.config, args.output_dir, args.checkpoint, flags, evaluate)

    return commands


def _block_search(args: argparse.Namespace, task: Task) -> Commands:
    """Each block has a folder of its own: officially the runs write over one another."""
    for block in (8, 9, 10, 7):
        flags = ("--gradcam_mode", "itm", "--block_num", str(block), "--epochs", "1")
        folder = f"{args.output_dir}/block_{block}"
        yield _tuning("Grounding.py", args, args.config or task.config, folder, args.checkpoint, flags)


def _staged(stage: str, script: str, config: str, folder: str, flag: str) -> Callable[..., Commands]:
    """A domain stage in ``--output_dir``, then fine-tuning in ``folder`` from what it leaves."""

    def commands(args: argparse.Namespace, task: Task) -> Commands:
        checkpoint = args.load_ckpt_from or (args.checkpoint if args.evaluate else "")
        if not checkpoint:
            where = ["--config", args.config or task.config, "--output_dir", args.output_dir]
            yield [stage, *where, "--checkpoint", args.checkpoint, *_seed(args)]
            checkpoint = f"{args.output_dir}/{STAGE_RESULT}"
        yield _tuning(script, args, config, args.output_dir + folder, checkpoint, (flag,))

    return commands


def _tuning(
    script: str,
    args: argparse.Namespace,
    config: str,
    folder: str,
    checkpoint: str,
    flags: Sequence[str] = (),
    evaluate: bool = False,
) -> list[str]:
    said = ["--config", config, "--output_dir", folder, "--bs", str(args.bs), "--checkpoint", checkpoint]
    return [script, *said, *flags, *_seed(args), *(["--evaluate"] if evaluate or args.evaluate else [])]


def _seed(args: argparse.Namespace) -> list[str]:
    return ["--seed", str(args.seed)]


_WEAKLY = ("--gradcam_mode", "itm", "--block_num", "9", "--epochs", "-1")
_CAPTIONING = _staged(
    *("Captioning_pretrain.py", "Captioning.py", "./configs/Captioning.yaml", "/coco_capt_ft", "--load_capt_pretrain")
)
_NLVR = _staged("NLVR_pretrain.py", "NLVR.py", "configs/NLVR.yaml", "_nlvr2", "--load_nlvr_pretrain")
_BBOX = _staged(
    *("Grounding_bbox_pretrain.py", "Grounding_bbox.py", "configs/Grounding_bbox.yaml", "_refcoco"),
    "--load_bbox_pretrain",
)
_VLUE = "configs/vlue-base-test"
DOMAIN_CAPTIONING = "coco_capt_domain"  # any task whose name begins so

TASKS = {
    "pretrain_4m_base": Task(_pretrain, "configs/Pretrain_XVLM_base_4m.yaml", checkpoint=False),
    "itr_coco": Task(_tuned("Retrieval.py"), "configs/Retrieval_coco.yaml", [COCO]),
    "itr_flickr": Task(_tuned("Retrieval.py"), "configs/Retrieval_flickr.yaml", [FLICKR]),
    "vqa": Task(_tuned("VQA.py"), "./configs/VQA.yaml", [COCO, GENOME]),
    "vqa_480": Task(_tuned("VQA.py"), "configs/VQA_480.yaml", [COCO, GENOME]),
    "nlvr": Task(_NLVR, "configs/NLVR_pretrain_O1.yaml", [NLVR2], staged=True),
    "refcoco_weakly": Task(_tuned("Grounding.py", *_WEAKLY), "./configs/Grounding.yaml", [COCO]),
    "refcoco_block_num_search": Task(_block_search, "./configs/Grounding.yaml", [COCO]),
    "refcoco_bbox": Task(_BBOX, "./configs/Grounding_bbox_pretrain_O1.yaml", [COCO], staged=True),
    DOMAIN_CAPTIONING: Task(_CAPTIONING, "configs/Captioning_pretrain_O1.yaml", [COCO], staged=True),
    "coco_captioning": Task(_tuned("Captioning.py", "--load_capt_pretrain"), "./configs/Captioning.yaml", [COCO]),
    "eval_vlue_itr": Task(_tuned("Retrieval.py", evaluate=True), f"{_VLUE}/Retrieval.yaml", [MARVL]),
    "eval_vlue_vqa": Task(_tuned("VQA.py", evaluate=True), f"{_VLUE}/VQA_480.yaml", [MARVL]),
    "eval_vlue_nlvr": Task(_tuned("NLVR.py", "--load_nlvr_pretrain", evaluate=True), f"{_VLUE}/NLVR.yaml", [MARVL]),
    "eval_vlue_refcoco": Task(
        _tuned("Grounding_bbox.py", "--load_bbox_pretrain", evaluate=True), f"{_VLUE}/Grounding_bbox.yaml", [MARVL]
    ),
    "eval_vlue_refcoco_weakly": Task(
        _tuned("Grounding.py", *_WEAKLY, evaluate=True), f"{_VLUE}/Grounding_weakly.yaml", [MARVL]
    ),
}
SELF_CRITICAL = "coco_captioning_scst"  # official, and not part of this code


def task_of(name: str) -> Task | None:
    """The task that ``--task`` names; None: there is none."""
    return TASKS.get(DOMAIN_CAPTIONING if name.startswith(DOMAIN_CAPTIONING) else name)
