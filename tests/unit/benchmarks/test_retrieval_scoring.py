"""The benchmark of re-ranking: both ways give the same scores, at the cost that their shapes say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.retrieval_scoring import PADDED, Size, Work, counted, floor_flops, main, parse, sizes
from tests.unit.benchmarks.products import attention, linear


@pytest.fixture(scope="module")
def size() -> Size:
    return sizes()["tiny"]


def fusion_layer(size: Size, tokens: int, queries: int) -> int:
    """All of one layer for a pair, but the image's keys and values."""
    d, mlp = size.bert["hidden_size"], size.bert["intermediate_size"]
    own = 2 * linear(tokens, d, d) + 2 * linear(queries, d, d) + attention(queries, tokens, d)
    cross = 2 * linear(queries, d, d) + attention(queries, size.tokens, d)
    return own + cross + 2 * linear(queries, d, mlp)


def test_the_official_loop_costs_what_its_shapes_say(size: Size) -> None:
    work = Work(size, images=2, texts=6, official_pairs=8, device="cpu")
    d = size.bert["hidden_size"]
    layer = fusion_layer(size, PADDED, PADDED) + 2 * linear(size.tokens, size.bert["encoder_width"], d)
    assert work.pairs == {"official": 8, "ours": 12}
    assert counted(work.official) == 8 * (2 * layer + linear(1, d, 2))


def test_the_floor_is_a_pair_without_padding_and_image(size: Size) -> None:
    expected = [fusion_layer(size, n, n) + fusion_layer(size, n, 1) for n in (7, 12)]
    assert floor_flops(size, [7, 12]) == sum(expected) / 2


def test_ours_lies_between(size: Size) -> None:
    work = Work(size, images=2, texts=64, official_pairs=8, device="cpu")
    ours, official = (
        counted(call) / work.pairs[name] for name, call in (("ours", work.ours), ("official", work.official))
    )
    assert floor_flops(size, work.lengths) < ours < 0.5 * official


def test_the_file_and_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "result.json"
    main(["--baseline", "albef", "--size", "tiny", "--texts", "8", "--repetitions", "1", "--json", str(out)])
    result = json.loads(out.read_text())
    assert result["largest_difference"] < 1e-4
    assert result["ratio"] == pytest.approx(result["pairs_per_second"]["ours"] / result["pairs_per_second"]["official"])
    assert list(result["gflop_per_pair"]) == ["official", "ours", "floor"]
    assert result["settings"]["pairs"] == {"official": 32, "ours": 32}
    assert "plain official loop" in capsys.readouterr().out


def test_fewer_texts_than_images_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--baseline", "albef", "--images", "9", "--texts", "8"])
    assert "--texts 8: give at least as many as --images, 9" in capsys.readouterr().err
