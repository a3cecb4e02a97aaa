"""From config keys to Lightning's Trainer, and the processes that OpenMPI starts.

Source: docs/official/meter.md §1.3, §1.4, §1.5.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.fabric.plugins.environments import LightningEnvironment, SLURMEnvironment
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from transformers import BertForMaskedLM

from tests.unit.epic.tiny import language_model
from tests.unit.test_owner import another
from vlp.owner import HeldError
from vlp.sacred_dialect.settings import accumulation, event_log, processes_per_node, run_name, trainer_settings
from vlp.sacred_dialect.trainer import build_trainer
from vlp.training import trainer as engine
from vlp.training.ddp import KnownUnusedDDP
from vlp.training.mpi import OpenMPIEnvironment
from vlp.training.processes import check_processes
from vlp.training.run_log import LastCheckpoint, run_directory
from vlp.training.trainer import prepare_process

CONFIG: dict[str, Any] = {
    "exp_name": "mlm_itm",
    "seed": 3,
    "load_path": "",
    "batch_size": 4096,
    "per_gpu_batchsize": 32,
    "num_gpus": 1,
    "num_nodes": 1,
    "precision": 32,
    "matmul_precision": "high",
    "deterministic": None,
    "max_steps": 100,
    "max_epoch": 7,
    "log_every_n_steps": 10,
    "save_every_n_steps": 1000,
    "fast_dev_run": False,
    "val_check_interval": 0.25,
    "test_only": False,
    "loss_names": {"itm": 1, "mlm": 1},
}

# Arithmetic ----------------------------------------------------------------------------------------------


@given(st.integers(1, 8192), st.integers(1, 128), st.integers(1, 16), st.integers(1, 8))
def test_accumulation_makes_up_for_the_batch_that_fits(batch: int, per_gpu: int, gpus: int, nodes: int) -> None:
    config = {"batch_size": batch, "per_gpu_batchsize": per_gpu, "num_gpus": gpus, "num_nodes": nodes}
    batches, at_once = accumulation(config), per_gpu * gpus * nodes
    assert batches >= 1
    assert batches * at_once <= batch or batches == 1
    assert (batches + 1) * at_once > batch


def test_accumulation_of_the_official_runs() -> None:
    assert accumulation({**CONFIG, "num_gpus": 8, "num_nodes": 4}) == 4
    assert accumulation({**CONFIG, "num_gpus": [0, 2, 3]}) == 42


def test_devices_are_counted_whether_listed_or_not() -> None:
    assert [processes_per_node({"num_gpus": gpus}) for gpus in (8, [4], (0, 3))] == [8, 1, 2]


@pytest.mark.parametrize(
    ("load_path", "name"),
    [
        ("", "mlm_itm_seed3_from_"),
        ("/ckpt/meter_clip16_288_roberta_pretrain.ckpt", "mlm_itm_seed3_from_meter_clip16_288_roberta_pretrain"),
        ("last.ckpt", "mlm_itm_seed3_from_last"),
    ],
)
def test_run_names(load_path: str, name: str) -> None:
    assert run_name({**CONFIG, "load_path": load_path}) == name


# Processes -----------------------------------------------------------------------------------------------

NODE = {"MASTER_ADDR": "node-a", "MASTER_PORT": "1234", "NODE_RANK": "1"}


@pytest.mark.parametrize("missing", NODE)
def test_a_missing_variable_of_a_node_is_named(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in NODE.items():
        monkeypatch.setenv(name, "" if name == missing else value)
    with pytest.raises(ValueError, match=rf"num_nodes=2, but {missing} not set: export MASTER_ADDR, MASTER_PORT"):
        check_processes(LightningEnvironment(), 8, 2)


@pytest.mark.parametrize(("node", "nodes"), [("2", 2), ("-1", 2), ("b", 2), ("1", 1)])
def test_a_node_that_cannot_be_is_refused(node: str, nodes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**NODE, "NODE_RANK": node}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(
        ValueError, match=rf"NODE_RANK={node}, but num_nodes={nodes}: it must be one of 0 to {nodes - 1}"
    ):
        check_processes(LightningEnvironment(), 8, nodes)


@pytest.mark.parametrize("node", ["0", "1"])
def test_a_complete_node_is_taken(node: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**NODE, "NODE_RANK": node}.items():
        monkeypatch.setenv(name, value)
    check_processes(LightningEnvironment(), 8, 2)


@pytest.mark.usefixtures("mpi")
def test_a_launcher_that_started_another_number_of_processes_is_refused() -> None:
    check_processes(OpenMPIEnvironment(), 8, 3)
    for per_node, nodes in ((8, 2), (24, 2), (1, 1)):
        with pytest.raises(ValueError, match=rf"started 24 processes, but num_gpus={per_node} x num_nodes={nodes} is"):
            check_processes(OpenMPIEnvironment(), per_node, nodes)


# The Trainer ---------------------------------------------------------------------------------------------


@pytest.fixture
def cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.mark.usefixtures("cpu")
def test_variables_that_are_exported_but_empty_count_as_unset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK"):
        monkeypatch.setenv(name, "")
    prepare_process()
    trainer = build_trainer({**CONFIG, "log_dir": str(tmp_path), "num_gpus": 2, "num_nodes": 1}, has_validation=True)
    assert trainer.node_rank == 0 and trainer.world_size == 2


def test_no_kernels_are_fetched_from_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USE_HUB_KERNELS", "")
    monkeypatch.delenv("USE_HUB_KERNELS")
    language_model("bert").save_pretrained(tmp_path)
    prepare_process()
    assert not BertForMaskedLM.from_pretrained(tmp_path).train().use_kernels


def test_a_process_may_open_as_many_files_as_its_workers_need() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
        prepare_process()
        unlimited = before[1] == resource.RLIM_INFINITY
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == (20480 if unlimited else min(20480, before[1]))
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(30000, before[1]), before[1]))
        prepare_process()
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == min(30000, before[1])  # never fewer
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


class TestTrainer:
    def test_settings(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        trainer = build_trainer({**CONFIG, "log_dir": str(tmp_path), "batch_size": 96}, has_validation=True)
        assert (trainer.max_steps, trainer.max_epochs) == (100, 1000)  # max_epoch does not end a run of max_steps
        assert trainer.accumulate_grad_batches == 3 and trainer.val_check_interval == 0.25
        assert trainer.precision == "32-true" and trainer.gradient_clip_val is None
        assert run_directory(trainer) == tmp_path / "mlm_itm_seed3_from_" / "version_0"
        assert "no CUDA device: 1 process(es) run on the CPU with gloo" in capsys.readouterr().out

    def test_epochs_count_where_no_steps_are_given(self, tmp_path: Path) -> None:
        trainer = build_trainer({**CONFIG, "log_dir": str(tmp_path), "max_steps": None}, has_validation=True)
        assert (trainer.max_steps, trainer.max_epochs) == (-1, 7)

    @pytest.mark.parametrize(("precision", "name"), [(32, "32-true"), ("32", "32-true"), ("bf16", "bf16-mixed")])
    def test_precisions(self, precision: int | str, name: str, tmp_path: Path) -> None:
        config = {**CONFIG, "log_dir": str(tmp_path), "precision": precision}
        assert build_trainer(config, has_validation=True).precision == name

    @pytest.mark.parametrize(("chosen", "on"), [(None, True), (True, True), (False, False)])
    def test_a_cpu_is_deterministic_unless_told_otherwise(self, chosen: bool | None, on: bool, tmp_path: Path) -> None:
        build_trainer({**CONFIG, "log_dir": str(tmp_path), "deterministic": chosen}, has_validation=True)
        assert torch.are_deterministic_algorithms_enabled() is on
        assert torch.backends.cudnn.benchmark is False

    @pytest.mark.parametrize("precision", ["highest", "high", "medium"])
    def test_the_precision_of_products_is_no_matter_of_a_cpu(self, precision: str, tmp_path: Path) -> None:
        build_trainer({**CONFIG, "log_dir": str(tmp_path), "matmul_precision": precision}, has_validation=True)
        assert torch.get_float32_matmul_precision() == "highest"
        assert torch.backends.mkldnn.matmul.fp32_precision in ("none", "ieee")  # type: ignore[attr-defined]

    @pytest.mark.parametrize("precision", [16, "16"])
    def test_a_cpu_has_no_half_precision(self, precision: int | str, tmp_path: Path) -> None:
        with pytest.warns(UserWarning, match=r"fp16 is not supported on CPU\. Using `precision='bf16-mixed'`"):
            build_trainer({**CONFIG, "log_dir": str(tmp_path), "precision": precision}, has_validation=True)

    @pytest.mark.parametrize(("has_validation", "monitor"), [(True, "val/the_metric"), (False, None)])
    def test_callbacks(self, has_validation: bool, monitor: str | None, tmp_path: Path) -> None:
        trainer = build_trainer({**CONFIG, "log_dir": str(tmp_path)}, has_validation)
        callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
        (keeper,) = (callback for callback in callbacks if isinstance(callback, ModelCheckpoint))
        assert (keeper.monitor, keeper.save_top_k) == (monitor, 1)
        assert keeper.mode == ("max" if has_validation else "min")
        assert isinstance(callbacks[-1], LastCheckpoint)  # saves after the other has taken note
        assert any(isinstance(c, LearningRateMonitor) and c.logging_interval == "step" for c in callbacks)
        # An epoch without a validation set must not be cut for it.
        assert trainer.val_check_interval == (0.25 if has_validation else 1.0)

    def test_two_evaluations_do_not_write_the_same_answers(self, tmp_path: Path) -> None:
        """They stand in ``log_dir`` itself, whatever the run's folder; files of other checkpoints are other files."""
        scored = {**CONFIG, "log_dir": str(tmp_path), "test_only": True, "loss_names": {"vqa": 1}}
        with another(tmp_path, "own(Claim(pathlib.Path(sys.argv[1]), 'vqa_submit_last'))") as first:
            who = rf"process {first.pid} on .* is writing vqa_submit_last\.json into .*, or give another log_dir$"
            with pytest.raises(HeldError, match=who):
                build_trainer({**scored, "load_path": "a/last.ckpt", "exp_name": "second"}, has_validation=False)
            assert not [*tmp_path.glob("second*")]
            build_trainer({**scored, "load_path": "a/best.ckpt"}, has_validation=False)
            build_trainer({**scored, "load_path": "a/last.ckpt", "test_only": False}, has_validation=False)

    def test_several_processes_talk_by_gloo(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, value in NODE.items():
            monkeypatch.setenv(name, value)
        config = {**CONFIG, "log_dir": str(tmp_path), "num_gpus": 2, "num_nodes": 2}
        trainer = build_trainer(config, has_validation=True)
        assert isinstance(trainer.strategy, KnownUnusedDDP)
        assert trainer.strategy.process_group_backend == "gloo"
        assert (trainer.world_size, trainer.num_nodes, trainer.accumulate_grad_batches) == (4, 2, 32)
        assert "2 process(es) run on the CPU with gloo" in capsys.readouterr().out


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """What Lightning's Trainer is asked for where CUDA is said to be there."""
    asked: dict[str, Any] = {}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)

    def trainer(**given: Any) -> SimpleNamespace:
        asked.update(given)
        return SimpleNamespace(log_dir=None)

    monkeypatch.setattr(engine.L, "Trainer", trainer)
    tf32 = torch.backends.cudnn.allow_tf32
    yield asked
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = tf32


def gpu_trainer(tmp_path: Path, **changes: Any) -> None:
    config = {**CONFIG, "log_dir": str(tmp_path), **changes}
    engine.build_trainer(trainer_settings(config), event_log(config), has_validation=True)


@pytest.mark.parametrize(("chosen", "on"), [(None, False), (True, True), (False, False)])
def test_a_gpu_is_deterministic_where_asked_and_searches_its_fastest_kernels_where_not(
    chosen: bool | None, on: bool, gpu: dict[str, Any], tmp_path: Path
) -> None:
    gpu_trainer(tmp_path, deterministic=chosen)
    assert gpu["accelerator"] == "gpu" and gpu["deterministic"] is on and gpu["benchmark"] is not on


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize(("precision", "tf32"), [("highest", False), ("high", True), ("medium", True)])
def test_a_gpu_multiplies_as_the_key_says_and_says_so(
    precision: str, tf32: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        gpu_trainer(tmp_path, matmul_precision=precision)
    assert torch.get_float32_matmul_precision() == precision
    assert torch.backends.cuda.matmul.allow_tf32 is tf32 and torch.backends.cudnn.allow_tf32 is tf32
    (line,) = (r.message for r in caplog.records if r.message.startswith("[precision]"))
    assert ("TF32" in line) is tf32 and line.endswith(f"(matmul_precision={precision})")


@pytest.mark.usefixtures("cpu")
@pytest.mark.parametrize("gpus", [1, 4])
def test_torchrun_with_another_number_of_processes(gpus: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the config asks for one process: two would train the same, each for itself."""
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=f"the launcher started 2 processes, but num_gpus={gpus} x num_nodes=1 is"):
        build_trainer({**CONFIG, "log_dir": str(tmp_path), "num_gpus": gpus}, has_validation=True)


@pytest.mark.usefixtures("cpu")
@pytest.mark.parametrize("processes", [1, 2])
def test_slurm_does_not_requeue_by_lightnings_handlers(
    processes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranks = dict.fromkeys(("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID"), "0")
    job = {"SLURM_NTASKS": str(processes), "SLURM_NTASKS_PER_NODE": str(processes), "SLURM_JOB_NAME": "epic"}
    for name, value in {**ranks, **job, "SLURM_JOB_ID": "7", "SLURM_NODELIST": "node-a"}.items():
        monkeypatch.setenv(name, value)
    trainer = build_trainer({**CONFIG, "log_dir": str(tmp_path), "num_gpus": processes}, has_validation=True)
    environment = trainer._accelerator_connector.cluster_environment
    assert isinstance(environment, SLURMEnvironment) and environment.auto_requeue is False


def test_threads_are_divided_unless_the_environment_sets_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    config = {**CONFIG, "log_dir": str(tmp_path), "num_gpus": 2}
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    build_trainer(config, has_validation=True)
    assert asked == []
    monkeypatch.delenv("OMP_NUM_THREADS")
    build_trainer(config, has_validation=True)
    assert asked[0] == 3


# OpenMPI -------------------------------------------------------------------------------------------------

MPI = {"SIZE": "24", "RANK": "11", "LOCAL_RANK": "3", "LOCAL_SIZE": "8", "NODE_RANK": "3"}


@pytest.fixture
def mpi(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    variables = {f"OMPI_COMM_WORLD_{name}": value for name, value in MPI.items()}
    for name, value in {**variables, "MASTER_ADDR": "node-a", "MASTER_PORT": "1234"}.items():
        monkeypatch.setenv(name, value)
    for exported in ("WORLD_SIZE", "NODE_RANK"):
        monkeypatch.setenv(exported, "")  # so that it is restored
    return monkeypatch


@pytest.mark.usefixtures("mpi")
def test_ranks_come_from_openmpi() -> None:
    environment = OpenMPIEnvironment()
    assert (environment.world_size(), environment.global_rank(), environment.local_rank()) == (24, 11, 3)
    assert (environment.main_address, environment.main_port) == ("node-a", 1234)
    assert environment.creates_processes_externally and not OpenMPIEnvironment.detect()
    environment.set_world_size(1)
    environment.set_global_rank(0)
    assert (environment.world_size(), environment.global_rank()) == (24, 11)


@pytest.mark.usefixtures("mpi")
def test_the_index_of_the_node_is_derived() -> None:
    # OpenMPI's own NODE_RANK is 3 here: the rank within the node.
    assert OpenMPIEnvironment().node_rank() == 1
    assert (os.environ["NODE_RANK"], os.environ["WORLD_SIZE"]) == ("1", "24")


def test_missing_variables_are_named(mpi: pytest.MonkeyPatch) -> None:
    mpi.delenv("OMPI_COMM_WORLD_LOCAL_SIZE")
    mpi.delenv("MASTER_PORT")
    with pytest.raises(RuntimeError, match="MASTER_PORT, OMPI_COMM_WORLD_LOCAL_SIZE not set: start this script with"):
        OpenMPIEnvironment()
