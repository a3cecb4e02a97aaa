"""The counts of ``epic.masking=frequency``: those of the sentences that a run trains on, whatever the processes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from epic_vlp.token_counts import count_blocks, count_tokens, take_saved_counts
from tests.unit.albef import small_runs as albef_runs
from tests.unit.epic_vlp.test_cache import attached, config_of, write_vg
from tests.unit.xvlm import small_runs as xvlm_runs
from vlp.data.arrow import datamodule as arrow
from vlp.data.json import datamodule as json_lists

CPU = torch.device("cpu")
FREQUENCY: dict[str, Any] = {"enabled": True, "masking": "frequency"}


def counted(blocks: Any) -> Counter[int]:
    return Counter(dict(enumerate(count_blocks(blocks, range(len(blocks)), 200).tolist())))


def in_batches(batches: Any) -> Counter[int]:
    found: Counter[int] = Counter()
    for batch in batches:
        found.update(batch["text_ids"][batch["text_masks"].bool()].tolist())
    return found


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tables")
    write_vg(folder, broken=())
    return folder


def meter_run(folder: Path, **changes: Any) -> dict[str, Any]:
    keys: dict[str, Any] = {"teacher_path": "", "saliency_cache": "", "epic": FREQUENCY, "max_text_len": 8}
    return config_of(folder, **{**keys, **changes})


@pytest.mark.parametrize("per_block", [5, 1024])
def test_of_tables_they_are_those_of_an_epoch(per_block: int, tables: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sentences as they are cut, every caption once; in blocks of any size, also of a run that only tests."""
    monkeypatch.setattr(arrow, "TEXTS_PER_BLOCK", per_block)
    _, datamodule = attached(meter_run(tables))
    found = counted(datamodule.token_blocks())
    assert found == in_batches(datamodule.train_dataloader()) and found.total() > 100
    only_tested = type(datamodule)(meter_run(tables, test_only=True))
    assert counted(only_tested.token_blocks()) == found


@pytest.mark.parametrize("per_block", [3, 1024])
def test_of_lists_they_are_those_of_an_epoch(per_block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_lists, "ROWS_PER_BLOCK", per_block)
    albef_runs.write_data(tmp_path)
    datamodule: Any = albef_runs.built(albef_runs.config_of(tmp_path, output_dir=str(tmp_path / "run"))).run.datamodule
    part = datamodule.parts["train"]
    rows = [part.dataset[i] for i in range(len(part.dataset))]
    assert counted(datamodule.token_blocks()) == in_batches([part.collate(rows)])


def test_of_streams_they_are_every_text_of_those_that_are_taken(tmp_path: Path) -> None:
    xvlm_runs.write_data(tmp_path)
    with (tmp_path / "first.json").open("a") as lines:
        lines.write('{"image_rpath": "0.png"}\nno json\n{"image_rpath": "0.png", "caption": ["w1 w1", "w2", "."]}\n')
    run = xvlm_runs.built(xvlm_runs.config_of(tmp_path, {"masking": "frequency"})).run
    model: Any = run.model
    datamodule: Any = run.datamodule
    tokenizer = datamodule.tokenizer
    pairs = [xvlm_runs.words(i) for i in range(xvlm_runs.PAIRS)] + ["w1 w1", "w2"]

    def expected(texts: list[str]) -> Counter[int]:
        ids = [tokenizer.convert_tokens_to_ids(text.split()) for text in texts]
        return Counter([token for each in ids for token in (tokenizer.cls_token_id, *each)])

    assert counted(model.epic.token_blocks(datamodule)) == expected(pairs)
    regions = list[str]()
    for i in range(xvlm_runs.REGION_ROWS):
        row = xvlm_runs.region_row(i)
        regions += [element["caption"] for element in row["elems"]] + row["elems"][0]["attributes"]
        regions += row.get("caption", [])
    assert counted(datamodule.token_blocks()) == expected(pairs + regions)


def test_processes_count_their_shares(tables: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrow, "TEXTS_PER_BLOCK", 5)
    epic, datamodule = attached(meter_run(tables))
    blocks = datamodule.token_blocks()
    shares = [count_blocks(blocks, range(rank, len(blocks), 3), epic.vocabulary.size) for rank in range(3)]
    count_tokens(epic, datamodule, CPU, 0, 1)
    assert torch.equal(epic.token_counts, torch.stack(shares).sum(dim=0)) and all(share.any() for share in shares)
    kept = epic.token_counts
    count_tokens(epic, None, CPU, 0, 1)  # they are there: nothing is read
    assert epic.token_counts is kept


def test_a_resumed_run_has_the_counts_of_its_checkpoint(tables: Path, tmp_path: Path) -> None:
    epic, datamodule = attached(meter_run(tables))
    count_tokens(epic, datamodule, CPU, 0, 1)
    torch.save({"epic": epic.run_state(), "state_dict": {}}, tmp_path / "last.ckpt")
    other, _ = attached(meter_run(tables))
    take_saved_counts(other, str(tmp_path / "last.ckpt"))
    assert torch.equal(other.token_counts, epic.token_counts)
    whole, _ = attached(meter_run(tables))
    whole.load_run_state(epic.run_state(), rank=0)
    assert torch.equal(whole.token_counts, epic.token_counts)
    olds: tuple[dict[str, Any], ...] = ({"epic": {}}, {})
    for old in olds:
        torch.save(old, tmp_path / "old.ckpt")
        another, _ = attached(meter_run(tables))
        take_saved_counts(another, str(tmp_path / "old.ckpt"))
        assert another.token_counts is None
    masks_otherwise, _ = attached(meter_run(tables, epic={"enabled": True, "masking": "uniform"}))
    take_saved_counts(masks_otherwise, str(tmp_path / "last.ckpt"))
    assert masks_otherwise.token_counts is None
