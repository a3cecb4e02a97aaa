"""TFLOP/s and their share of a GPU's peak, by hand; autocast around the forward alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.baseline import Variant
from benchmarks.gpus import GPUS
from benchmarks.precision import DEVICES, PRECISIONS, computed_in, throughput


def test_throughput_by_hand() -> None:
    """780 GFLOP in a hundredth of a second are 78 TFLOP/s, a quarter of an A100's 312 in bf16."""
    found = throughput({"a": 780.0, "b": 780.0}, {"a": 0.01, "b": None}, "NVIDIA A100-SXM4-80GB", "bf16")
    assert found["tflop_per_second"] == {"a": pytest.approx(78), "b": None}
    assert found["share_of_peak"] == {"a": pytest.approx(0.25), "b": None}


def test_the_peak_is_that_of_the_precision() -> None:
    shares = {
        precision: throughput({"a": 195.0}, {"a": 0.1}, "NVIDIA A100-SXM4-40GB", precision)["share_of_peak"]["a"]
        for precision in PRECISIONS
    }
    expected = {"32": 0.1, "tf32": 1.95 / 156, "bf16": 1.95 / 312, "16": 1.95 / 312}
    assert shares == pytest.approx(expected)


@pytest.mark.parametrize(
    ("device", "precision"), [("NVIDIA H100 PCIe", "32"), ("x86_64", "32"), ("Tesla V100-SXM2-32GB", "tf32")]
)
def test_an_unknown_peak_has_no_share(device: str, precision: str) -> None:
    found = throughput({"a": 100.0}, {"a": 0.1}, device, precision)
    assert found == {"tflop_per_second": {"a": pytest.approx(1)}, "share_of_peak": {"a": None}}


def test_every_gpu_is_known_by_its_device_name() -> None:
    assert sorted(DEVICES.values()) == sorted(GPUS)


@pytest.fixture
def _precision_stays() -> Any:
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    yield
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32 = before[1]


@pytest.mark.usefixtures("_precision_stays")
@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_forward_is_computed_in_the_precision(precision: str) -> None:
    seen: list[tuple[bool, torch.dtype]] = []

    def step(batch: dict[str, Any]) -> Tensor:
        seen.append((torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")))
        return torch.zeros(())

    computed_in(Variant(step, {}), precision).step({})
    on = {"bf16": torch.bfloat16, "16": torch.float16}
    ((autocast, dtype),) = seen
    assert autocast == (precision in on and torch.cuda.is_available())
    assert not autocast or dtype == on[precision]
    assert torch.get_float32_matmul_precision() == ("highest" if precision == "32" else "high")
    assert not torch.is_autocast_enabled("cuda")
