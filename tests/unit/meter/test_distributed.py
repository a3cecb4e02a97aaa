"""Two processes on gloo against one process: gradients, what differs among ranks, and what must not.

Means are per rank, as in the official code, and DDP averages gradients over ranks. So with equal counts (pairs, masked
and valid tokens) on every rank the gradients are those of one process on the joined batch; with unequal counts they
are the mean of the ranks' own gradients. Training goes through ``build_trainer`` and Lightning, in double precision.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Sampler

from epic_common.corruption import Corruption
from epic_common.generator import LanguageModelGenerator, build_generator
from epic_common.masking import mask_tokens
from epic_common.teacher import Teacher
from epic_vlp.extension import EpicHooks
from meter.modules.encoders import Encoders
from meter.modules.epic_meter import MeterEpic, MeterTeacher
from meter.modules.meter_module import METERTransformerSS
from tests.unit.epic.tiny import VOCABULARY, config_of, language_model
from tests.unit.meter.small import WIDTH, Batch, batch_of, stirred, text_tower, vision_tower
from tests.unit.meter.small import config_of as meter_config
from vlp.data.trim import trimmed
from vlp.losses.total import total_loss
from vlp.nn.packed_text import encode_packed
from vlp.sacred_dialect.step_plan import draw_itm_labels
from vlp.sacred_dialect.trainer import build_trainer

Gradients = dict[str, Tensor | None]
RUNS = {"vanilla": False, "epic": True}
# EPIC with the optimiser's states divided, and runs that go on after SAVED steps: (divided?, whose checkpoint)
SHARDED: dict[str, tuple[bool, str]] = {
    "sharded": (True, ""),
    "sharded from sharded": (True, "sharded"),
    "plain from sharded": (False, "sharded"),
    "sharded from plain": (True, "epic"),
}
RANKS, STEPS, SAVED = 2, 4, 2
# Step 0: as many pairs, masked and valid tokens on both ranks. Step 1: other counts.
LENGTHS = [([7, 5, 6, 4], [4, 7, 5, 6]), ([7, 3, 4, 3], [7, 7, 6, 7]), ([5, 7, 4, 6], [7, 4, 4, 5])]
MASKED = [([(0, 1), (1, 2)], [(1, 3), (2, 1)]), ([(0, 2)], [(0, 1), (1, 5), (3, 3)]), ([(0, 1)], [(0, 3)])]
NO_DROPOUT: dict[str, Any] = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def model_of(epic: bool, rank: int, **changes: Any) -> METERTransformerSS:
    """A student, always of the same weights, that trains from its second step on (warm-up starts at rate 0)."""
    torch.manual_seed(5)
    updates = {"max_steps": STEPS, "warmup_steps": 1, "learning_rate": 1e-2, **changes}
    config = meter_config(drop_rate=0.0, **updates)
    model = stirred(METERTransformerSS(config, Encoders(vision_tower(), text_tower(**NO_DROPOUT))))
    if epic:
        settings = config_of("epic")
        teacher: Any = stirred(MeterTeacher(meter_config(), Encoders(vision_tower(), text_tower())))
        lm = language_model()
        for module in lm.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        held = Teacher(teacher.double(), settings.saliency_layer)
        generator = build_generator(settings, VOCABULARY, lm, encode=encode_packed)
        model.epic = MeterEpic(settings, VOCABULARY, WIDTH, generator, rank=rank, teacher=held)
    return model.double().train()


def shard(step: int, rank: int) -> Batch:
    """What rank ``rank`` sees in step ``step``."""
    i = step % len(LENGTHS)
    batch = batch_of(LENGTHS[i][rank], masked=MASKED[i][rank], seed=10 * step + rank)
    return {key: [t.double() for t in value] if "image" in key else value for key, value in batch.items()}


def joined(batches: list[Batch]) -> Batch:
    """The batches of all ranks as one."""
    together: Batch = {"text": [text for batch in batches for text in batch["text"]]}
    for key, value in batches[0].items():
        if isinstance(value, Tensor):
            together[key] = torch.cat([batch[key] for batch in batches])
        elif "image" in key:
            together[key] = [torch.cat([batch[key][0] for batch in batches])]
    return together


def fix_draws(step: int, rank: int) -> None:
    """Before a step: the global stream, from which a rank draws its ITM labels."""
    torch.manual_seed(100 * step + rank)


class FromStep(Sampler[int]):
    """The steps from ``start`` on; as long as the whole epoch, as Lightning wants it of a resumed one."""

    def __init__(self, start: int) -> None:
        self.start = start

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.start, STEPS))

    def __len__(self) -> int:
        return STEPS


class Shards(L.LightningDataModule):
    """Gives a rank its batches, where METER asks for its data module."""

    def __init__(self, rank: int, start: int = 0) -> None:
        super().__init__()
        self.rank, self.start = rank, start
        self.fed: dict[str, dict[str, str]] = {}

    def consumed(self, batch: Any) -> None: ...

    def start_epoch(self, epoch: int) -> None: ...

    def batches_done(self, loader: Any) -> int:
        return 0

    def train_dataloader(self) -> DataLoader[Any]:
        batches: Any = [shard(step, self.rank) for step in range(STEPS)]
        return DataLoader(batches, batch_size=None, sampler=FromStep(self.start), collate_fn=lambda batch: batch)


class Recorder(L.Callback):
    """Keeps what the optimiser gets in every step, what DDP synchronises, and how much state this rank holds."""

    def __init__(self, rank: int, checkpoint: Path) -> None:
        self.rank, self.checkpoint = rank, checkpoint
        self.gradients: list[Gradients] = []
        self.synchronised: list[str] = []
        self.searches = True
        self.state_size = 0

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        assert isinstance(trainer.strategy.model, DistributedDataParallel)
        self.searches = trainer.strategy.model.find_unused_parameters
        self.synchronised = [name for name, _ in trainer.strategy.model.module.named_parameters()]

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        fix_draws(batch_idx, self.rank)

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Any) -> None:
        self.gradients.append(gradients_of(pl_module))

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == SAVED:
            fix_draws(SAVED, self.rank)  # a resumed run starts from the saved random state
            trainer.save_checkpoint(self.checkpoint)

    def on_train_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        optimizer: Any = trainer.optimizers[0]
        states = getattr(optimizer, "optim", optimizer).state.values()
        self.state_size = sum(state["exp_avg"].numel() for state in states)


def gradients_of(model: nn.Module) -> Gradients:
    return {name: None if p.grad is None else p.grad.clone() for name, p in model.named_parameters()}


# Two processes -------------------------------------------------------------------------------------------


def become(rank: int, port: int) -> None:
    """Take the place of rank ``rank`` of two."""
    torch.set_num_threads(1)
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": "0", "LOCAL_RANK": str(rank)}
    os.environ.update(where)


def work(rank: int, folder: Path, port: int) -> None:
    """Train all the runs but the compiled one."""
    become(rank, port)
    for name, epic in RUNS.items():
        run(name, model_of(epic, rank), rank, folder)
    for name, (shard_optimizer, source) in SHARDED.items():
        run(name, model_of(True, rank, shard_optimizer=shard_optimizer), rank, folder, source)


def work_compiled(rank: int, folder: Path, port: int) -> None:
    """Train EPIC with compiled layers."""
    become(rank, port)
    run("compiled", model_of(True, rank, compile="aot_eager"), rank, folder)


def run(name: str, model: METERTransformerSS, rank: int, folder: Path, source: str = "") -> None:
    """Train ``model``, from the checkpoint of run ``source`` on if there is one, and save what the tests look at."""
    config = {**model.config, "num_gpus": RANKS, "per_gpu_batchsize": 4, "batch_size": 8, "log_dir": str(folder)}
    trainer, recorder = build_trainer(config, has_validation=False), Recorder(rank, folder / f"{name}.ckpt")
    trainer.callbacks += [recorder, EpicHooks()] if model.epic else [recorder]  # type: ignore[attr-defined]
    checkpoint = folder / f"{source}.ckpt" if source else None
    trainer.fit(model, datamodule=Shards(rank, SAVED if source else 0), ckpt_path=checkpoint, weights_only=True)
    result = {
        "gradients": recorder.gradients,
        "weights": {key: p.detach() for key, p in model.named_parameters()},
        "synchronised": recorder.synchronised,
        "searches": recorder.searches,
        "state_size": recorder.state_size,
        "teacher": model.epic.teacher.module.state_dict() if model.epic else {},
    }
    torch.save(result, folder / f"{name}{rank}.pt")


Results = list[dict[str, Any]]


def results_of(work: Callable[[int, Path, int], None], folder: Path, *names: str) -> dict[str, Results]:
    """What both ranks saved of the runs ``names``."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    multiprocessing.set_forkserver_preload([__name__])  # the imports once for both
    mp.start_processes(work, (folder, port), nprocs=RANKS, start_method="forkserver")
    return {
        name: [torch.load(folder / f"{name}{rank}.pt", weights_only=True) for rank in range(RANKS)] for name in names
    }


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Results]:
    return results_of(work, tmp_path_factory.mktemp("ranks"), *RUNS, *SHARDED)


# One process ---------------------------------------------------------------------------------------------


def one_process(epic: bool, step: int, ranks: Sequence[int] = range(RANKS)) -> Gradients:
    """One pass over the batches of ``ranks`` as one, with the labels, M and replacements that those ranks draw."""
    labels, corruptions = [], []
    for rank in ranks:
        fix_draws(step, rank)
        labels.append(draw_itm_labels(len(shard(step, rank)["text_ids"])))
        if epic:
            replica = model_of(epic, rank)
            corruptions.append([corruption_of(replica, shard(number, rank)) for number in range(step + 1)][-1])
    model = model_of(epic, rank=0)
    part, model.epic = model.epic, None
    batch = trimmed(joined([shard(step, rank) for rank in ranks]))
    loss = total_loss(model(batch, torch.cat(labels)))
    model.epic = part
    if part is not None:
        loss = loss + epic_loss(model, part, batch, corruptions)
    loss.backward()
    return gradients_of(model)


def corruption_of(model: METERTransformerSS, batch: Batch) -> Corruption:
    """The next draw of a rank's stream."""
    assert model.epic is not None
    batch = model.prepared(batch)
    return model.epic.corruption_of(batch["text_ids"], batch["text_masks"], batch)


def epic_loss(model: METERTransformerSS, epic: MeterEpic, batch: Batch, drawn: list[Corruption]) -> Tensor:
    """lambda L_ITC + L_GEN of the joined sentences as they were corrupted on the ranks."""
    names = ("input_ids", "masked", "replaced", "valid", "log_alpha", "generator_correct")
    together = {name: torch.cat([getattr(corruption, name) for corruption in drawn]) for name in names}
    ids, mask, masked = batch["text_ids"], batch["text_masks"], together["masked"]
    assert isinstance(epic.generator, LanguageModelGenerator)
    sentence, places = mask_tokens(ids, masked, VOCABULARY.mask_id), masked.flatten().nonzero().squeeze(1)
    generator_loss = F.cross_entropy(epic.generator.logits(sentence, mask, places), ids[masked])
    states = model.infer({**batch, "text_ids": together["input_ids"]})["text_feats"]
    return total_loss(epic.losses(states, Corruption(**together, generator_loss=generator_loss)))


# Equal? --------------------------------------------------------------------------------------------------


def difference(a: Gradients, b: Gradients) -> float:
    """Largest difference of any element, as a share of the largest gradient; who has none must agree."""
    assert a.keys() == b.keys()
    assert [name for name in a if a[name] is None] == [name for name in b if b[name] is None]
    pairs = [(x, y) for x, y in zip(a.values(), b.values(), strict=True) if x is not None and y is not None]
    return max(float((x - y).abs().max()) for x, y in pairs) / max(float(y.abs().max()) for _, y in pairs)


def mean_of(gradients: list[Gradients]) -> Gradients:
    first, second = gradients
    return {name: None if x is None or (y := second[name]) is None else (x + y) / 2 for name, x in first.items()}


ROUNDING = 1e-6  # losses are float32


@pytest.mark.parametrize("name", RUNS)
def test_equal_counts_give_the_gradients_of_the_joined_batch(name: str, results: dict[str, Results]) -> None:
    for rank in range(RANKS):
        got = results[name][rank]["gradients"][0]
        assert difference(got, one_process(RUNS[name], step=0)) < ROUNDING


@pytest.mark.parametrize("name", RUNS)
def test_unequal_counts_give_the_mean_of_the_ranks_gradients(name: str, results: dict[str, Results]) -> None:
    got = results[name][0]["gradients"][1]
    own = [one_process(RUNS[name], step=1, ranks=[rank]) for rank in range(RANKS)]
    assert difference(got, mean_of(own)) < ROUNDING
    assert difference(got, one_process(RUNS[name], step=1)) > 1000 * ROUNDING


@pytest.mark.parametrize("name", RUNS)
def test_ranks_keep_equal_weights(name: str, results: dict[str, Results]) -> None:
    first, second = (result["weights"] for result in results[name])
    assert first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)
    assert not any(result["searches"] for result in results[name])  # for parameters without a gradient
    start, trained = model_of(RUNS[name], rank=0), results[name][0]["gradients"][-1]
    assert not any(torch.equal(first[key], p) for key, p in start.named_parameters() if trained[key] is not None)


def test_generator_and_head_are_synchronised_and_the_teacher_is_not(results: dict[str, Results]) -> None:
    model = model_of(True, rank=0)
    assert model.epic is not None and isinstance(model.epic.teacher, Teacher)
    names, teacher = [name for name, _ in model.named_parameters()], model.epic.teacher.module.state_dict()
    assert any(name.startswith("epic.generator.") for name in names) and "epic.head.beta.weight" in names
    for result in results["epic"]:
        assert result["synchronised"] == names
        assert result["gradients"][0]["epic.head.beta.weight"].abs().sum() > 0
        assert result["gradients"][0]["epic.generator.language_model.lm_head.dense.weight"].abs().sum() > 0
        assert all(torch.equal(result["teacher"][key], value) for key, value in teacher.items())


def test_ranks_draw_their_own_masks_and_replacements() -> None:
    first, second = (corruption_of(model_of(True, rank), shard(0, 0)) for rank in range(RANKS))
    assert torch.equal(first.log_alpha, second.log_alpha)
    assert not torch.equal(first.masked, second.masked) and not torch.equal(first.input_ids, second.input_ids)


@pytest.mark.slow
def test_compiled_layers_under_ddp(results: dict[str, Results], tmp_path: Path) -> None:
    first, second = results_of(work_compiled, tmp_path, "compiled")["compiled"]
    assert all(torch.equal(first["weights"][key], value) for key, value in second["weights"].items())
    for step in range(2):  # as many as run on the initial weights
        assert difference(first["gradients"][step], results["epic"][0]["gradients"][step]) < ROUNDING


# Divided optimiser states --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHARDED)
def test_divided_states_give_equal_weights_also_across_a_resume(name: str, results: dict[str, Results]) -> None:
    expected = results["epic"][0]["weights"]
    for result in results[name]:
        assert len(result["gradients"]) == (STEPS - SAVED if SHARDED[name][1] else STEPS)
        assert all(torch.equal(result["weights"][key], value) for key, value in expected.items())


def test_every_rank_holds_its_share_of_the_states(results: dict[str, Results]) -> None:
    (whole, again), shares = ([r["state_size"] for r in results[name]] for name in ("epic", "sharded"))
    assert whole == again == sum(shares)
    assert max(shares) < 0.6 * whole
    assert [r["state_size"] for r in results["sharded from plain"]] == shares
    assert [r["state_size"] for r in results["plain from sharded"]] == [whole, whole]
