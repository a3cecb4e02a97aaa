"""The plan of a retrieval evaluation against numbers worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import evaluation_cost as plan
from benchmarks.cost import BASELINES, main
from benchmarks.evaluation_cost import COUNTED, TEST_SETS, TestSet, count, counted_of, evaluation_cost, pairs_of
from benchmarks.gpus import Gpu
from vlp.baseline import REGISTRY

GPU = Gpu("sheet", 16, 1.0, 8.0)
SMALL = TestSet("small", images=10, texts=50, k_test=4)


@pytest.fixture
def counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    per_pair = {"official": 9.0, "ours": 2.0, "floor": 1.5}
    one = {"gflop_per_pair": per_pair, "gflop_per_image": 100.0, "gflop_per_text": 10.0}
    (tmp_path / "counted.json").write_text(json.dumps({"meter": one, "albef": one}))
    monkeypatch.setattr(plan, "COUNTED", tmp_path / "counted.json")


def test_coco_has_125_million_pairs_and_7_7_million_candidates() -> None:
    coco = TEST_SETS["coco"]
    assert pairs_of("meter", coco) == pairs_of("vilt", coco) == 125_050_000
    assert pairs_of("albef", coco) == pairs_of("xvlm", coco) == 30_010 * 256 == 7_682_560
    assert pairs_of("albef", SMALL) == 240 and pairs_of("albef", SMALL._replace(k_test=9)) == 500  # no more than all


@pytest.mark.usefixtures("counted")
def test_flops_and_hours_by_hand() -> None:
    meter = evaluation_cost("meter", SMALL, GPU, utilisation=0.5)
    # 500 passes of 1.5 GFLOP, 10 images of 100 and 50 texts of 10: 2250 GFLOP; the plain loop has 500 times 9.
    assert meter.pflop == pytest.approx(2250e-6) and meter.plain_pflop == pytest.approx(4500e-6)
    assert meter.gpu_hours == pytest.approx({"fp32": 4.5 / 3600, "tf32": 4.5 / 8 / 3600, "bf16": None})
    albef = evaluation_cost("albef", SMALL, GPU, utilisation=0.5)
    assert albef.pflop == pytest.approx((240 * 2 + 1500) * 1e-6)
    assert albef.plain_pflop == pytest.approx((240 * 9 + 1500) * 1e-6)


def test_every_baseline_is_planned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "plan.json"
    main(["--evaluation", "coco", "--gpu", "A100-80", "--json", str(file)])
    found = json.loads(file.read_text())["coco"]
    assert list(found) == list(REGISTRY) == list(BASELINES)
    assert all(each["pflop"] < each["plain_pflop"] and each["gpu_hours"]["tf32"] > 0 for each in found.values())
    assert "125,050,000" in capsys.readouterr().out


def test_the_counted_file_is_of_the_official_sizes() -> None:
    assert set(json.loads(COUNTED.read_text())) == set(REGISTRY)
    for name in REGISTRY:
        counted = counted_of(name)
        assert (counted["settings"]["baseline"], counted["settings"]["size"]) == (name, "official")
        per_pair = counted["gflop_per_pair"]
        assert per_pair["floor"] <= per_pair["ours"] < per_pair["official"]


@pytest.mark.slow
@pytest.mark.parametrize("name", REGISTRY)
def test_the_counted_flops_are_those_of_the_code(name: str) -> None:
    found, counted = count(name), counted_of(name)
    for key in ("gflop_per_pair", "gflop_per_image", "gflop_per_text"):
        assert found[key] == pytest.approx(counted[key], rel=1e-3), key
