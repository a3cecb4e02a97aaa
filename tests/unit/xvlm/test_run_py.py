"""run.py: the scripts of every task and the processes of every ``--dist`` (docs/official/xvlm.md §1)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.unit.test_owner import another
from vlp.owner import Claim, is_held
from xvlm import run
from xvlm.tasks import TASKS, task_of

XVLM = Path(run.__file__).parent
K, OUT = "pre.th", "out/run"  # what --checkpoint and --output_dir say


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[list[str], dict[str, str]]]:
    """The commands that main starts, with the variables that differ; in a folder that has all that any task reads."""
    for folder in ("coco", "flickr30k-images", "visualgenome", "nlvr2", "marvl"):
        (tmp_path / "images" / folder).mkdir(parents=True)
    for name in (K, "stage.th", "Pretrain.py", "my.yaml"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    calls: list[tuple[list[str], dict[str, str]]] = []

    def call(command: list[str], environment: dict[str, str]) -> int:
        calls.append((command, {name: value for name, value in environment.items() if os.environ.get(name) != value}))
        return 0

    monkeypatch.setattr(run, "call", call)
    return calls


def scripts(started: list[Any], task: str, *argv: str, checkpoint: bool = True) -> list[str]:
    """What is started on one GPU, behind the launcher."""
    given = ["--task", task, "--dist", "gpu0", "--output_dir", OUT, *(["--checkpoint", K] if checkpoint else []), *argv]
    assert run.main(given) == 0
    launch = [*run.LAUNCHER, "--standalone", "--nproc_per_node=1", "--nnodes=1"]
    assert all(command[: len(launch)] == launch for command, _ in started)
    lines = [" ".join(command[len(launch) :]) for command, _ in started]
    started.clear()
    return lines


S, EVALUATE = "--seed 42", "--evaluate"
WEAK = "--gradcam_mode itm --block_num"
STAGE_2 = f"--checkpoint {OUT}/model_state_epoch_latest.th"
VLUE = "configs/vlue-base-test"


def retrieval(config: str) -> list[str]:
    return [f"Retrieval.py --config {config} --output_dir {OUT} --bs -1 --checkpoint {K} {S}"]


def vqa(config: str) -> list[str]:
    return [f"VQA.py --config {config} --output_dir {OUT} --bs -1 --checkpoint {K} {S}"]


OFFICIAL: dict[str, list[str]] = {
    "pretrain_4m_base": [f"Pretrain.py --config configs/Pretrain_XVLM_base_4m.yaml --output_dir {OUT} {S}"],
    "itr_coco": retrieval("configs/Retrieval_coco.yaml"),
    "itr_flickr": retrieval("configs/Retrieval_flickr.yaml"),
    "vqa": vqa("./configs/VQA.yaml"),
    "vqa_480": vqa("configs/VQA_480.yaml"),
    "nlvr": [
        f"NLVR_pretrain.py --config configs/NLVR_pretrain_O1.yaml --output_dir {OUT} --checkpoint {K} {S}",
        f"NLVR.py --config configs/NLVR.yaml --output_dir {OUT}_nlvr2 --bs -1 {STAGE_2} --load_nlvr_pretrain {S}",
    ],
    "refcoco_weakly": [
        f"Grounding.py --config ./configs/Grounding.yaml --output_dir {OUT} --bs -1 --checkpoint {K} {WEAK} 9 "
        f"--epochs -1 {S}"
    ],
    "refcoco_block_num_search": [
        f"Grounding.py --config ./configs/Grounding.yaml --output_dir {OUT}/block_{block} --bs -1 --checkpoint {K} "
        f"{WEAK} {block} --epochs 1 {S}"
        for block in (8, 9, 10, 7)
    ],
    "refcoco_bbox": [
        "Grounding_bbox_pretrain.py --config ./configs/Grounding_bbox_pretrain_O1.yaml "
        f"--output_dir {OUT} --checkpoint {K} {S}",
        f"Grounding_bbox.py --config configs/Grounding_bbox.yaml --output_dir {OUT}_refcoco --bs -1 {STAGE_2} "
        f"--load_bbox_pretrain {S}",
    ],
    "coco_capt_domain": [
        f"Captioning_pretrain.py --config configs/Captioning_pretrain_O1.yaml --output_dir {OUT} --checkpoint {K} {S}",
        f"Captioning.py --config ./configs/Captioning.yaml --output_dir {OUT}/coco_capt_ft --bs -1 {STAGE_2} "
        f"--load_capt_pretrain {S}",
    ],
    "coco_captioning": [
        f"Captioning.py --config ./configs/Captioning.yaml --output_dir {OUT} --bs -1 --checkpoint {K} "
        f"--load_capt_pretrain {S}"
    ],
    "eval_vlue_itr": [
        f"Retrieval.py --config {VLUE}/Retrieval.yaml --output_dir {OUT} --bs -1 --checkpoint {K} {S} {EVALUATE}"
    ],
    "eval_vlue_vqa": [
        f"VQA.py --config {VLUE}/VQA_480.yaml --output_dir {OUT} --bs -1 --checkpoint {K} {S} {EVALUATE}"
    ],
    "eval_vlue_nlvr": [
        f"NLVR.py --config {VLUE}/NLVR.yaml --output_dir {OUT} --bs -1 --checkpoint {K} --load_nlvr_pretrain {S} "
        f"{EVALUATE}"
    ],
    "eval_vlue_refcoco": [
        f"Grounding_bbox.py --config {VLUE}/Grounding_bbox.yaml --output_dir {OUT} --bs -1 --checkpoint {K} "
        f"--load_bbox_pretrain {S} {EVALUATE}"
    ],
    "eval_vlue_refcoco_weakly": [
        f"Grounding.py --config {VLUE}/Grounding_weakly.yaml --output_dir {OUT} --bs -1 --checkpoint {K} {WEAK} 9 "
        f"--epochs -1 {S} {EVALUATE}"
    ],
}


def test_all_tasks_are_here() -> None:
    assert TASKS.keys() == OFFICIAL.keys()
    assert task_of("coco_capt_domain_x") is TASKS["coco_capt_domain"]


@pytest.mark.parametrize("task", OFFICIAL)
def test_the_scripts_of_a_task(task: str, started: list[Any], tmp_path: Path) -> None:
    assert scripts(started, task, checkpoint=task != "pretrain_4m_base") == OFFICIAL[task]
    assert (tmp_path / OUT).is_dir()
    for line in OFFICIAL[task]:  # every script and file is there
        words = line.split()
        assert (XVLM / words[0]).is_file() and (XVLM / words[2]).is_file()


def test_flags_reach_the_scripts(started: list[Any]) -> None:
    (line,) = scripts(started, "itr_coco", "--bs", "64", "--seed", "7", "--config", "my.yaml", "k_test=8", "a=b c")
    assert line == f"Retrieval.py --config my.yaml --output_dir {OUT} --bs 64 --checkpoint {K} --seed 7 k_test=8 a=b c"
    first, second = scripts(started, "coco_capt_domain", "--config", "my.yaml", "resume_from=auto")
    assert "--config my.yaml" in first and "--config ./configs/Captioning.yaml" in second
    assert first.endswith("resume_from=auto") and second.endswith("resume_from=auto")
    given = ("images.caption_key=caption", "num_beams=2", "optimizer.lr=1e-5", "imges.x=1")
    first, second = scripts(started, "coco_capt_domain", *given)
    assert first.endswith(f"{S} images.caption_key=caption optimizer.lr=1e-5 imges.x=1")
    assert second.endswith(f"{S} num_beams=2 optimizer.lr=1e-5 imges.x=1")


def test_what_leaves_the_domain_stage_out(started: list[Any]) -> None:
    (line,) = scripts(started, "nlvr", "--load_ckpt_from", "stage.th", checkpoint=False)
    assert line == OFFICIAL["nlvr"][1].replace(f"{OUT}/model_state_epoch_latest.th", "stage.th")
    (line,) = scripts(started, "nlvr", "--evaluate")
    assert line == OFFICIAL["nlvr"][1].replace(f"{OUT}/model_state_epoch_latest.th", K) + " --evaluate"


def test_a_stage_that_fails_is_the_last_one(monkeypatch: pytest.MonkeyPatch, started: list[Any]) -> None:
    begun: list[str] = []

    def call(command: list[str], _: Any) -> int:
        begun.append(command[6])
        return 3

    monkeypatch.setattr(run, "call", call)
    assert run.main(["--task", "nlvr", "--dist", "gpu0", "--output_dir", OUT, "--checkpoint", K]) == 3
    assert begun == ["NLVR_pretrain.py"]


# Processes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dist", "options", "variables"),
    [
        ("1", ["--standalone", "--nproc_per_node=8", "--nnodes=1"], {}),
        (
            "f4",
            ["--standalone", "--nproc_per_node=4", "--nnodes=1"],
            {"CUDA_VISIBLE_DEVICES": "0,1,2,3", "WORLD_SIZE": "4"},
        ),
        (
            "l4",
            ["--master_port=12345", "--nproc_per_node=4", "--nnodes=1"],
            {"CUDA_VISIBLE_DEVICES": "4,5,6,7", "WORLD_SIZE": "4"},
        ),
        *(
            (
                f"gpu{n}",
                ["--standalone", "--nproc_per_node=1", "--nnodes=1"],
                {"CUDA_VISIBLE_DEVICES": str(n), "WORLD_SIZE": "1"},
            )
            for n in range(9)
        ),
        (
            "all",
            [
                *("--nproc_per_node=8", "--nnodes=1", "--node_rank=0"),
                *("--master_addr=127.0.0.1", "--master_port=12345"),
            ],
            {},
        ),
    ],
)
def test_the_processes(
    dist: str, options: list[str], variables: dict[str, str], started: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert run.main(["--task", "pretrain_4m_base", "--dist", dist, "--output_dir", OUT]) == 0
    ((command, differing),) = started
    assert command == [
        sys.executable,
        "-m",
        "torch.distributed.run",
        *options,
        *OFFICIAL["pretrain_4m_base"][0].split(),
    ]
    assert differing == variables


def test_several_machines(started: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"NNODES": 3, "NODE_RANK": 2, "MASTER_ADDR": "10.0.0.1", "NPROC_PER_NODE": 4}.items():
        monkeypatch.setattr(run, name, value)
    assert run.launcher("all")[0][3:] == [
        *("--nproc_per_node=4", "--nnodes=3", "--node_rank=2", "--master_addr=10.0.0.1", "--master_port=12345")
    ]
    monkeypatch.setattr(run, "MASTER_ADDR", "SET_IT")
    with pytest.raises(SystemExit, match="set MASTER_ADDR in the environment"):
        run.launcher("all")
    monkeypatch.setattr(run, "NODE_RANK", 3)
    with pytest.raises(SystemExit, match="NODE_RANK=3"):
        run.launcher("all")


def test_a_task_owns_its_folder_between_its_scripts_too(started: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    claim, found = Claim(Path(OUT), "task"), list[bool]()

    def call(*_: Any) -> int:
        found.append(is_held(claim))
        return 0

    monkeypatch.setattr(run, "call", call)
    task = ["--task", "nlvr", "--dist", "all", "--checkpoint", K, "--output_dir"]
    assert run.main([*task, OUT]) == 0 and found == [True, True]
    with another(Path("there"), "own(Claim(pathlib.Path(sys.argv[1]), 'task'))") as first:
        who = rf"error: process {first.pid} on .* is running a task in there: wait for it, or give another --output_dir"
        with pytest.raises(SystemExit, match=who):
            run.main([*task, "there"])
        assert len(found) == 2
        monkeypatch.setattr(run, "NNODES", 2)
        monkeypatch.setattr(run, "NODE_RANK", 1)  # another machine of the same task
        monkeypatch.setattr(run, "MASTER_ADDR", "10.0.0.1")
        assert run.main([*task, "there"]) == 0


def test_the_environment_gives_the_variables_of_the_machine() -> None:
    code = (
        "from xvlm import run; print(run.NNODES, run.NPROC_PER_NODE, run.MASTER_ADDR, run.MASTER_PORT, run.NODE_RANK)"
    )
    names = ("NNODES", "NPROC_PER_NODE", "MASTER_ADDR", "MASTER_PORT", "NODE_RANK")
    bare = {name: value for name, value in os.environ.items() if name not in names}
    for values, said in (({}, "1 8 SET_IT 12345 0\n"), (dict(zip(names, "24a61", strict=True)), "2 4 a 6 1\n")):
        assert subprocess.check_output([sys.executable, "-c", code], env={**bare, **values}, text=True) == said
    done = subprocess.run([sys.executable, "-c", code], env={**bare, "NNODES": "x"}, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "error: NNODES=x: expected a whole number\n")


# Refusals -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--task", "itr_coc"], r"--task itr_coc: there is none; did you mean 'itr_coco'\?"),
        (["--task", "coco_captioning_scst"], "self-critical training is not part of this code"),
        (["--task", "itr_coco"], "--task itr_coco needs --checkpoint$"),
        (["--task", "nlvr"], "--task nlvr needs --checkpoint, or --load_ckpt_from"),
        (["--task", "itr_coco", "--checkpoint", "no.th"], "--checkpoint no.th: no such file"),
        (["--task", "itr_coco", "--checkpoint", "hdfs://a/b.th"], "--checkpoint=hdfs://a/b.th: HDFS is not read"),
        (["--task", "itr_coco", "--load_ckpt_from", K], "--task itr_coco has no domain stage"),
        (["--task", "itr_coco", "--checkpoint", K, "--config", "no.yaml"], "--config no.yaml: no such file"),
        (["--task", "vqa", "--checkpoint", K, "--output_hdfs", "x/y"], "--output_hdfs x/y: HDFS is not written"),
        (["--task", "pretrain_4m_base", "--dist", "gpu9"], "--dist gpu9: expected all, 1, f4, l4 or gpu0"),
        (
            ["--task", "pretrain_4m_base", "--output_dir", "hdfs://o"],
            "--output_dir=hdfs://o: HDFS is not read or written",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_is_wrong_is_said_in_a_line(argv: list[str], said: str, started: list[Any], tmp_path: Path) -> None:
    shared = {"--dist": "1", "--output_dir": OUT}
    with pytest.raises(SystemExit, match=f"^error: .*{said}") as caught:
        run.main([*(each for name, value in shared.items() if name not in argv for each in (name, value)), *argv])
    assert "\n" not in str(caught.value) and not started and not (tmp_path / "out").exists()


def test_images_that_are_not_there(started: list[Any], tmp_path: Path) -> None:
    (tmp_path / "images" / "coco").rmdir()
    argv = ["--task", "itr_coco", "--dist", "1", "--output_dir", OUT, "--checkpoint", K]
    with pytest.raises(SystemExit, match=r"^error: images/coco: no such folder: --task itr_coco reads its images"):
        run.main(argv)
    assert run.main([*argv, "image_root=images"]) == 0  # which says where they are


def test_another_working_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=r"cd .*xvlm"):
        run.main(["--task", "pretrain_4m_base", "--dist", "1", "--output_dir", OUT])


# Statuses and signals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "status"), [("", 0), ("exit(5)", 5), ("import os; os.kill(os.getpid(), 9)", 137)])
def test_the_status_of_a_script(code: str, status: int) -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    assert run.call([sys.executable, "-c", code], os.environ) == status
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_signal_reaches_the_script_and_ends_the_task(tmp_path: Path) -> None:
    """The script ends in order, with status 0, and nothing comes after it."""
    child = (
        "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(0)); print('up', flush=True); time.sleep(60)"
    )
    code = f"import os, sys; from xvlm import run; sys.exit(run.call([sys.executable, '-c', {child!r}], os.environ))"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "up\n"
    begun = time.monotonic()
    process.terminate()
    assert process.wait(30) == 128 + signal.SIGTERM and time.monotonic() - begun < 30
    process.stdout.close()
