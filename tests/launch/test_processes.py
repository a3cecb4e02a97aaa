"""Several processes, half precision, recomputed activations: the same launcher, other keys."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from tests.launch.launcher import LOSSES, OTHERS_SLOW, SHARED_CODE, VILT_ALONE, Launcher, Result, address
from tests.unit.data.raw import image_bytes, write_table
from vlp.data.arrow.writer import CAPTION


@pytest.fixture(scope="module")
def items(launcher: Launcher) -> list[str]:
    """Three steps of EPIC on 8 pairs for each of two processes."""
    return [*launcher.pretraining, *launcher.items("batch_size=16", *launcher.teacher)]


@pytest.fixture(scope="module")
def one_node(launcher: Launcher, items: list[str]) -> Result:
    """``run.py`` with num_gpus=2, which starts its second process itself."""
    return launcher.run(*items, "num_gpus=2")


@OTHERS_SLOW
def test_two_processes_train_epic_on_the_cpu(launcher: Launcher, one_node: Result) -> None:
    assert one_node.output.count("2 process(es) run on the CPU with gloo") == 1
    for tag in (*LOSSES[launcher.name], "epic/train/epic_itc", "epic/train/epic_gen"):
        values = one_node.values(tag)
        assert len(values) == 3 and all(math.isfinite(value) for value in values), tag
    assert one_node.output.count(f"run directory: {one_node.directory}") == 1 and one_node.checkpoint.exists()


@SHARED_CODE
def test_every_rank_draws_masked_positions_and_replacements_of_its_own(launcher: Launcher, tmp_path: Path) -> None:
    """All pairs are equal, so that both ranks draw as many numbers: states that began alike would end alike."""
    row = {"image": image_bytes(), "caption": ["a man on a red horse"], "image_id": "x.jpg", "split": "train"}
    write_table(tmp_path / "vg.arrow", [row] * 16, CAPTION)
    own = (f"data_root={tmp_path}", "datasets=['vg']", "epic_itc_rand", "max_steps=1", "num_gpus=2", "batch_size=16")
    states = torch.load(launcher.pretrain(*own).checkpoint, weights_only=True)["epic"]["rng"]
    assert len(states) == 2 and not torch.equal(*states)


@VILT_ALONE
def test_ranks_draw_from_streams_of_their_own(launcher: Launcher) -> None:
    """Without dropout a step of ViLT draws nothing: a rank's stream stands at its start, the seed plus the rank."""
    last = ("batch_size=16", "drop_rate=0.0", "max_steps=1", "val_check_interval=1.0")
    first, _ = launcher.on_two_nodes(*launcher.pretraining, *launcher.items(*last))
    ranks = torch.load(first.checkpoint, weights_only=True)["ranks"]
    states = [rank["random_state"]["torch"] for rank in ranks]
    for rank, state in enumerate(states):
        generator = torch.Generator().manual_seed(rank)  # seed + rank, and the seed is 0
        assert torch.equal(generator.get_state(), state)
    assert not torch.equal(*states)


@SHARED_CODE
def test_one_process_on_each_of_two_nodes(launcher: Launcher, items: list[str], one_node: Result) -> None:
    first, _ = launcher.on_two_nodes(*items)
    same_training(first, one_node)


@SHARED_CODE
def test_openmpi_starts_the_processes(launcher: Launcher, items: list[str], one_node: Result) -> None:
    """azure_distributed_run.py under the variables of `mpirun -np 2`, without OpenMPI itself."""
    meet = address()
    ranks = [{**meet, **openmpi(rank)} for rank in range(2)]
    first, _ = launcher.together(ranks, *items, "num_gpus=2", script="azure_distributed_run.py")
    same_training(first, one_node)


@SHARED_CODE
def test_divided_optimiser_states(launcher: Launcher, items: list[str], one_node: Result) -> None:
    first, second = launcher.on_two_nodes(*items, "shard_optimizer=True")
    assert all("[optim] states divided among 2 processes" in run.output for run in (first, second))
    same_training(first, one_node)
    ours, theirs = (torch.load(r.checkpoint, weights_only=True)["optimizer_states"][0] for r in (first, one_node))
    assert ours["param_groups"] == theirs["param_groups"] and ours["state"].keys() == theirs["state"].keys()
    for key, state in theirs["state"].items():
        assert all(torch.equal(ours["state"][key][name], state[name]) for name in ("exp_avg", "exp_avg_sq"))


def same_training(run: Result, other: Result) -> None:
    """Bit-equal metrics and weights, whoever started the processes."""
    assert run.metrics == other.metrics
    ours, theirs = (torch.load(r.checkpoint, weights_only=True)["state_dict"] for r in (run, other))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


def openmpi(rank: int, size: int = 2) -> dict[str, str]:
    """What `mpirun -np <size>` on one node exports for process ``rank``."""
    own = {"SIZE": size, "RANK": rank, "LOCAL_RANK": rank, "LOCAL_SIZE": size, "NODE_RANK": rank}
    return {f"OMPI_COMM_WORLD_{name}": str(value) for name, value in own.items()}


@SHARED_CODE
@pytest.mark.parametrize(
    ("script", "keys", "environment", "message"),
    [
        ("azure_distributed_run.py", [], {}, "error: MASTER_ADDR, MASTER_PORT, OMPI_COMM_WORLD_SIZE"),
        (
            *("azure_distributed_run.py", ["num_gpus=2", "num_nodes=2"], {**address(), **openmpi(0)}),
            "error: the launcher started 2 processes, but num_gpus=2 x num_nodes=2 is 4",
        ),
        (
            *("run.py", ["num_nodes=2"], {"MASTER_ADDR": "127.0.0.1"}),
            "error: num_nodes=2, but MASTER_PORT, NODE_RANK not set: export MASTER_ADDR, MASTER_PORT, NODE_RANK",
        ),
        (
            *("run.py", ["num_nodes=2"], {**address(), "NODE_RANK": "2"}),
            "error: NODE_RANK=2, but num_nodes=2: it must be one of 0 to 1",
        ),
    ],
    ids=["outside OpenMPI", "another world size", "a variable missing", "no such node"],
)
def test_a_start_that_contradicts_the_config_is_refused(
    script: str, keys: list[str], environment: dict[str, str], message: str, launcher: Launcher
) -> None:
    (run,) = launcher.together([environment], *launcher.pretraining, *launcher.items(*keys), script=script, check=False)
    assert run.status == 1 and message in run.output and "Traceback" not in run.output


def test_bf16(launcher: Launcher, vanilla: Result) -> None:
    run = launcher.pretrain("precision=bf16", *launcher.teacher, "max_steps=2")
    assert run.values("mlm/train/loss")[0] == pytest.approx(vanilla.values("mlm/train/loss")[0], rel=0.02)
    assert run.values("mlm/train/loss")[0] != vanilla.values("mlm/train/loss")[0]
    assert all(math.isfinite(value) for value in run.values("epic/train/epic_itc"))


def test_gradient_checkpointing_gives_the_same_losses(launcher: Launcher, vanilla: Result) -> None:
    run = launcher.pretrain("val_check_interval=3", "gradient_checkpointing=True")
    assert run.config()["gradient_checkpointing"] is True
    for tag in (*LOSSES[launcher.name], "mlm/val/loss"):
        assert run.values(tag) == vanilla.values(tag), tag


@pytest.mark.slow
def test_compiled_layers_train_as_eager_ones(launcher: Launcher, epic: Result) -> None:
    run = launcher.pretrain("val_check_interval=3", *launcher.teacher, "epic.mask_ratio=0.5", "compile=aot_eager")
    for tag in (*LOSSES[launcher.name], "epic/train/epic_itc", "epic/train/epic_gen", "mlm/val/loss"):
        assert run.values(tag) == pytest.approx(epic.values(tag), rel=1e-4), tag
    ours, theirs = (torch.load(r.checkpoint, weights_only=True)["state_dict"] for r in (run, epic))
    assert list(ours) == list(theirs)


@SHARED_CODE
def test_accumulated_batches_make_one_step(launcher: Launcher) -> None:
    run = launcher.pretrain("per_gpu_batchsize=4", "batch_size=8", "max_steps=2")
    assert run.values("lr-AdamW/pg1") == pytest.approx([0, 1e-3])
    assert len(run.values("mlm/train/loss")) == 2


@SHARED_CODE
def test_a_trial_run_leaves_nothing_behind(launcher: Launcher) -> None:
    run = launcher.pretrain("fast_dev_run=True")
    assert "step 1/1" in run.output and not run.log_dir.exists()
