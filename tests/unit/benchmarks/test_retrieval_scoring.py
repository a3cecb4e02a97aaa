"""The benchmark of retrieval's scoring: both ways give the same scores, at the cost that their shapes say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.counting import count_products
from benchmarks.retrieval_scoring import BASELINES, RERANKED, main, parse
from benchmarks.scoring_pairs import PairsWork
from benchmarks.scoring_reranked import PADDED, RerankedWork, Size, floor_flops, sizes
from tests.unit.benchmarks.products import attention, linear


@pytest.fixture(scope="module")
def size() -> Size:
    return sizes("albef")["tiny"]


def counted(call: object) -> int:
    return sum(count_products(call, {}).values())  # type: ignore[arg-type]


def fusion_layer(size: Size, tokens: int, queries: int) -> int:
    """All of one layer for a pair, but the image's keys and values."""
    d, mlp = size.bert["hidden_size"], size.bert["intermediate_size"]
    own = 2 * linear(tokens, d, d) + 2 * linear(queries, d, d) + attention(queries, tokens, d)
    cross = 2 * linear(queries, d, d) + attention(queries, size.tokens, d)
    return own + cross + 2 * linear(queries, d, mlp)


@pytest.mark.parametrize("baseline", RERANKED)
def test_the_official_loop_costs_what_its_shapes_say(baseline: str) -> None:
    size, padded = sizes(baseline)["tiny"], PADDED[baseline]
    work = RerankedWork(baseline, "tiny", images=2, texts=6, official_pairs=8)
    d = size.bert["hidden_size"]
    layer = fusion_layer(size, padded, padded) + 2 * linear(size.tokens, size.bert["encoder_width"], d)
    assert work.pairs == {"official": 8, "ours": 12}
    assert counted(work.official) == 8 * (2 * layer + linear(1, d, 2))


def test_the_floor_is_a_pair_without_padding_and_image(size: Size) -> None:
    expected = [fusion_layer(size, n, n) + fusion_layer(size, n, 1) for n in (7, 12)]
    assert floor_flops(size, [7, 12]) == sum(expected) / 2


def test_ours_lies_between() -> None:
    work = RerankedWork("albef", "tiny", images=2, texts=64, official_pairs=8)
    ours, official = (
        counted(call) / work.pairs[name] for name, call in (("ours", work.ours), ("official", work.official))
    )
    assert work.floor() < ours < 0.5 * official


@pytest.mark.parametrize("baseline", ["meter", "vilt"])
def test_our_evaluation_is_fusion_passes_and_each_encoder_once(baseline: str) -> None:
    """With twice the captions, an image's encoder costs no more; the plain loop pays it for every pair."""
    small, large = (PairsWork(baseline, "tiny", images=2, texts=n, official_pairs=8) for n in (4, 8))
    (image, text), (image_of_large, _) = small.encoder_flops(), large.encoder_flops()
    assert image == image_of_large > 0
    assert counted(small.ours) == pytest.approx(8 * small.floor() + 2 * image + 4 * text)
    per_pair = counted(large.official) / large.pairs["official"]
    assert small.floor() + image + text <= per_pair


@pytest.mark.parametrize(("baseline", "gmacs"), [("albef", 55.5), ("xvlm", 47.0)])
def test_an_image_costs_what_is_published_of_its_encoder(baseline: str, gmacs: float) -> None:
    """ViT-B/16 and Swin-B at 384 px, in multiply-adds as timm and the Swin paper give them."""
    image, _ = RerankedWork(baseline, "tiny", images=1, texts=2, official_pairs=2).encoder_flops()
    assert image / 2e9 == pytest.approx(gmacs, rel=0.02)


@pytest.mark.parametrize("baseline", BASELINES)
def test_the_file_and_the_table(baseline: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "result.json"
    counts = ("--images", "2", "--texts", "8", "--official-pairs", "8")
    main(["--baseline", baseline, "--size", "tiny", *counts, "--repetitions", "1", "--json", str(out)])
    result = json.loads(out.read_text())
    assert result["largest_difference"] < 1e-4
    assert result["ratio"] == pytest.approx(result["pairs_per_second"]["ours"] / result["pairs_per_second"]["official"])
    assert list(result["gflop_per_pair"]) == ["official", "ours", "floor"]
    assert result["settings"]["pairs"] == {"official": 8, "ours": 16}
    assert "plain loop" in capsys.readouterr().out


def test_flops_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "result.json"
    main(["--baseline", "xvlm", "--size", "tiny", "--texts", "8", "--flops-only", "--json", str(out)])
    result = json.loads(out.read_text())
    assert "ratio" not in result and result["gflop_per_pair"]["floor"] < result["gflop_per_pair"]["ours"]
    assert "–" in capsys.readouterr().out


def test_fewer_texts_than_images_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--baseline", "albef", "--images", "9", "--texts", "8"])
    assert "--texts 8: give at least as many as --images, 9" in capsys.readouterr().err
