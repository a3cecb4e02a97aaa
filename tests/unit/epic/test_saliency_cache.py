"""The saliency cache on disk: what was written is read under its key alone; nothing damaged or of other inputs is."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from epic_common.saliency_cache.identity import Pairs, SaliencyCacheError, fingerprint, pair_key, tokenizer_fingerprint
from epic_common.saliency_cache.reader import SaliencyCache
from epic_common.saliency_cache.writer import CacheWriter, scores_of
from epic_common.teacher import Teacher
from tests.parity.fixture import FIXTURES
from tests.tokenizers import tokenizer_from_files
from tests.unit.epic.small_cache import IDENTITY, digest, found, some, write, write_chunk
from tests.unit.epic.tiny import TinyModel, batch_of
from vlp.data.tokenizers import encode

Content = dict[bytes, Tensor]


# The store ----------------------------------------------------------------------------------------------------

PAIR = st.tuples(st.integers(0, 5), st.text(max_size=4))
# Keys as such: any 16 bytes, many of them with equal halves.
HALF = st.sampled_from([b"\x00" * 8, b"\xff" * 8, b"\x7f" + b"\x00" * 7, b"\x80" + b"\x00" * 7, b"middling"])


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.lists(PAIR, max_size=6), min_size=1, max_size=4),
    st.lists(st.tuples(HALF, HALF), max_size=12, unique=True),
    st.integers(0, 99),
)
def test_what_was_written_is_read(
    tmp_path_factory: pytest.TempPathFactory,
    pairs: list[list[tuple[int, str]]],
    odd_keys: list[tuple[bytes, bytes]],
    seed: int,
) -> None:
    """Any captions and lengths, pairs twice in a chunk and in two, keys that share a half; nothing at all."""
    rng = torch.Generator().manual_seed(seed)
    content: Content = {}
    for key in [*(pair_key(digest(i), text) for chunk in pairs for i, text in chunk), *map(b"".join, odd_keys)]:
        content.setdefault(key, torch.randn(int(torch.randint(0, 7, (), generator=rng)), generator=rng))
    chunks = [[(key, content[key]) for key in (pair_key(digest(i), text) for i, text in chunk)] for chunk in pairs]
    for chunk in (chunks[0], chunks[-1]):
        chunk += [(key, content[key]) for key in map(b"".join, odd_keys)]
    cache = write(tmp_path_factory.mktemp("cache"), chunks)
    assert len(cache) == len(content)
    for scores, expected in zip(cache.scores(list(content)), content.values(), strict=True):
        assert scores is not None and torch.equal(scores, expected)
    absent = [pair_key(digest(9), text) for text in ("", "a")] + [b"middling" + b"m" * 8, b"z" * 16]
    assert cache.scores(absent) == [None] * 4
    shutil.rmtree(cache.folder)


def test_a_key_is_of_image_and_caption() -> None:
    texts = ["", "a dog", "a dog ", "A dog", "a dög"]
    assert len({pair_key(digest(i), text) for i in range(3) for text in texts}) == 15
    assert pair_key(digest(1), "a dog") == pair_key(digest(1), "a dog") and len(pair_key(digest(1), "")) == 16


def test_chunks_in_any_order_give_the_same_bytes(tmp_path: Path) -> None:
    chunks = [some(5), some(3, seed=1), some(4, seed=2)]
    forwards = write(tmp_path / "a", chunks)
    writer = CacheWriter(tmp_path / "b", "", IDENTITY, "tables", 3)
    for number in (2, 0, 1):
        write_chunk(writer, number, chunks[number])
    backwards = writer.finish({})
    (ours, theirs) = (cache.folder / cache.manifest["file"] for cache in (forwards, backwards))
    assert ours.name == theirs.name and ours.read_bytes() == theirs.read_bytes()


def test_files_are_as_readable_as_others(tmp_path: Path) -> None:
    cache = write(tmp_path, [some(3)])
    (tmp_path / "plain").touch()
    assert {path.stat().st_mode for path in tmp_path.iterdir()} == {(tmp_path / "plain").stat().st_mode}
    assert cache.manifest["pairs"] == 3


def test_every_file_is_on_the_disk_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not synced may come back as an empty file after a machine that stops."""
    synced, named = set[Path](), list[str]()
    sync, replace = os.fsync, os.replace

    def noted_sync(descriptor: int) -> None:
        synced.add(Path(os.readlink(f"/proc/self/fd/{descriptor}")))
        sync(descriptor)

    def noted_replace(source: Path, target: Path) -> None:
        assert source in synced and source.stat().st_size > 0
        named.append(target.name)
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(os, "replace", noted_replace)
    cache = write(tmp_path, [some(3), some(3, seed=1)])
    assert named == ["000000.safetensors", "000001.safetensors", cache.manifest["file"], "manifest.json"]


# Building it --------------------------------------------------------------------------------------------------


def test_a_build_goes_on_with_the_missing_chunks(tmp_path: Path) -> None:
    chunks = [some(4), some(4, seed=1)]
    writer = CacheWriter(tmp_path, "build it so", IDENTITY, "tables", 2)
    write_chunk(writer, 1, chunks[1])
    assert writer.missing() == [0]
    with pytest.raises(SaliencyCacheError, match=r"lacks 1 of 2 chunks: start the build again"):
        writer.finish({})
    with pytest.raises(SaliencyCacheError, match=r"saliency_cache .* is not complete; build it: build it so"):
        SaliencyCache(tmp_path, "build it so")
    cache = write(tmp_path, chunks)
    assert len(cache) == 4  # the same four pairs in both
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["manifest.json", cache.manifest["file"]]


def test_a_complete_cache_has_nothing_missing(tmp_path: Path) -> None:
    before = write(tmp_path, [some(4)])
    writer = CacheWriter(tmp_path, "", IDENTITY, "tables", 1)
    assert writer.missing() == []
    assert writer.finish({"never": "written"}).manifest == before.manifest


def test_other_tables_replace_the_cache_at_the_end(tmp_path: Path) -> None:
    old = write(tmp_path, [some(4)])
    writer = CacheWriter(tmp_path, "", IDENTITY, "other tables", 1)
    assert writer.missing() == [0]
    write_chunk(writer, 0, some(2, seed=5))
    assert SaliencyCache(tmp_path, "").manifest == old.manifest  # until the new one is complete
    new = writer.finish({})
    assert len(new) == 2 and len(list(tmp_path.iterdir())) == 2
    assert found(old, *some(4)[3])  # a run that has it open reads on


def test_the_cache_of_another_run_is_not_overwritten(tmp_path: Path) -> None:
    write(tmp_path, [some(4)])
    with pytest.raises(SaliencyCacheError, match=r"teacher_sha256 is 'ab' in the cache and 'cd' in this run"):
        CacheWriter(tmp_path, "", {**IDENTITY, "teacher_sha256": "cd"}, "tables", 1)


def test_a_score_that_is_no_number_is_not_written() -> None:
    batch, model = batch_of(5, 4), TinyModel()
    pairs = Pairs([b"", b""], batch["mask"], ["the first", "the second"])
    batch["image"][1] = torch.nan
    with pytest.raises(FloatingPointError, match="saliency of the second is not finite"):
        scores_of(Teacher(model), batch, pairs)


# Refusals -----------------------------------------------------------------------------------------------------


def test_all_differences_are_named(tmp_path: Path) -> None:
    cache = write(tmp_path, [some(2)])
    cache.check(IDENTITY)
    cache.check({"layer": -2})
    with pytest.raises(SaliencyCacheError) as refused:
        cache.check({"teacher_sha256": "ab", "layer": -3, "views": ["clip"], "size": 288})
    assert "layer is -2 in the cache and -3 in this run; size is None in the cache and 288 in this run" in str(
        refused.value
    )
    assert "teacher" not in str(refused.value) and "views" not in str(refused.value)


def scores_file(folder: Path) -> Path:
    (path,) = folder.glob("scores-*")
    return path


def cut(folder: Path, keep: Callable[[int], int]) -> int:
    path = scores_file(folder)
    content = path.read_bytes()
    return path.write_bytes(content[: keep(len(content))])


def edit(folder: Path, **changes: Any) -> None:
    """As if an older version, which wrote no check sum of the manifest, had said so."""
    path = folder / "manifest.json"
    manifest = {**json.loads(path.read_text()), "sha256": None, **changes}
    path.write_text(json.dumps({name: value for name, value in manifest.items() if value is not None}))


def exchange(folder: Path) -> None:
    """The scores of other tables under the name of these, of the same size."""
    other = write(folder / "other", [some(6, seed=3)], source="other tables")
    shutil.copy(other.folder / other.manifest["file"], scores_file(folder))


def rewritten(folder: Path, change: Callable[[dict[str, Tensor]], Any]) -> None:
    path = scores_file(folder)
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    change(tensors)
    save_file(tensors, path, {"plan": json.loads((folder / "manifest.json").read_text())["plan"]})
    edit(folder, bytes=path.stat().st_size)


DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no folder": (shutil.rmtree, r"does not exist; build it: the command"),
    "no manifest": (lambda f: (f / "manifest.json").unlink(), r"is not complete; build it: the command"),
    "an empty manifest": (lambda f: (f / "manifest.json").write_text(""), r"manifest\.json cannot be read"),
    "half a manifest": (lambda f: (f / "manifest.json").write_text('{"format": 1'), r"manifest\.json cannot be read"),
    "a manifest that is a list": (lambda f: (f / "manifest.json").write_text("[]"), r"manifest\.json cannot be read"),
    "a manifest without identity": (lambda f: edit(f, identity=None), r"manifest\.json cannot .*identity"),
    "another format": (lambda f: edit(f, format=2), r"its format is 2, this version reads 1"),
    "no scores": (lambda f: scores_file(f).unlink(), r"scores-\w+\.safetensors cannot .*it is missing"),
    "one byte less": (lambda f: cut(f, lambda n: n - 1), r"it has \d+ bytes, not \d+"),
    "no bytes": (lambda f: cut(f, lambda n: 0), r"it has 0 bytes, not \d+"),
    "a part of the scores": (
        lambda f: edit(f, bytes=cut(f, lambda n: n - 4)),
        r"cannot be read as a saliency cache \(.*not fully covered",
    ),
    "scores of other tables": (exchange, r"it is not the file that the manifest describes"),
    "a lost tensor": (lambda f: rewritten(f, lambda t: t.pop("low")), r"cannot be read as a saliency cache"),
    "a tensor of another type": (
        lambda f: rewritten(f, lambda t: t.update(scores=t["scores"].half())),
        r"it is not the file that the manifest describes",
    ),
    "an index beyond the scores": (lambda f: rewritten(f, lambda t: t["starts"].add_(9)), r"the manifest has 6 pairs"),
    "pairs that are not there": (lambda f: edit(f, pairs=7), r"the manifest has 7 pairs, the index \[6\]"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_is_refused(damage: str, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    assert len(write(folder, [some(6)])) == 6
    harm, message = DAMAGES[damage]
    harm(folder)
    with pytest.raises(SaliencyCacheError, match=message):
        SaliencyCache(folder, "the command")


def outcome(folder: Path, keys: list[bytes]) -> list[Tensor | None] | SaliencyCacheError:
    """The scores that a run would read, or why it reads none."""
    try:
        return SaliencyCache(folder, "the command").scores(keys)
    except SaliencyCacheError as error:
        return error


@pytest.mark.parametrize("name", ["manifest.json", "scores-*"])
def test_no_changed_byte_gives_another_score(name: str, tmp_path: Path) -> None:
    """A random bit of every byte: the pair is refused or not found, which ends a run, or has its old scores."""
    pairs, draw = some(6), random.Random(0)
    cache = write(tmp_path / "cache", [pairs])
    (path,) = cache.folder.glob(name)
    whole, changed, keys = path.read_bytes(), 0, [key for key, _ in pairs]
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        got = outcome(cache.folder, keys)
        changed += isinstance(got, SaliencyCacheError) or None in got
        if not isinstance(got, SaliencyCacheError):
            assert SaliencyCache(cache.folder, "").identity == IDENTITY
            assert all(row is None or torch.equal(row, old) for row, (_, old) in zip(got, pairs, strict=True)), place
    assert changed > 0.8 * len(whole)


def test_a_changed_score_names_the_file(tmp_path: Path) -> None:
    pairs = some(6)
    cache = write(tmp_path, [pairs])
    path = scores_file(tmp_path)
    path.write_bytes(path.read_bytes().replace(pairs[2][1].numpy().tobytes(), torch.zeros(5).numpy().tobytes()))
    with pytest.raises(
        SaliencyCacheError, match=r"scores-\w+\.safetensors cannot .* \(scores in it have changed on the disk"
    ):
        SaliencyCache(cache.folder, "").scores([key for key, _ in pairs])


def test_caches_and_chunks_of_older_versions_have_no_sums_and_serve(tmp_path: Path) -> None:
    pairs = some(6)
    cache = write(tmp_path / "cache", [pairs])
    rewritten(cache.folder, lambda tensors: tensors.pop("sums"))
    old = SaliencyCache(cache.folder, "")
    assert all(found(old, *pair) for pair in pairs)

    writer = CacheWriter(tmp_path / "begun", "", IDENTITY, "tables", 2)
    write_chunk(writer, 0, pairs[:3])
    (part,) = (tmp_path / "begun").glob("chunks-*/*")
    save_file({name: t for name, t in load_file(part).items() if name != "sums"}, part, {"skipped": "0"})
    write_chunk(writer, 1, pairs[3:])
    new, whole = writer.finish({}), write(tmp_path / "whole", [pairs[:3], pairs[3:]])
    assert scores_file(new.folder).read_bytes() == scores_file(whole.folder).read_bytes()


# The tokenizer ------------------------------------------------------------------------------------------------


def test_a_fingerprint_does_not_depend_on_the_order_of_keys() -> None:
    """Which versions of tokenizers write differently."""
    assert fingerprint({"a": 1, "b": [2, {"c": 3, "d": 4}]}) == fingerprint({"b": [2, {"d": 4, "c": 3}], "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})


def test_a_tokenizers_fingerprint_is_what_decides_its_ids(tmp_path: Path) -> None:
    folder = FIXTURES / "meter"
    tokenizer = tokenizer_from_files(folder / "tokenizer_bert_vocab.txt")
    fresh = tokenizer_fingerprint(tokenizer)
    encode(tokenizer, ["a dog"], 9)
    assert tokenizer_fingerprint(tokenizer) == fresh  # it keeps the length that it was last used with
    words = (folder / "tokenizer_bert_vocab.txt").read_text().splitlines()
    (tmp_path / "vocab.txt").write_text("\n".join([*words[:-2], words[-1], words[-2]]))
    roberta = tokenizer_from_files(folder / "tokenizer_roberta_vocab.json", folder / "tokenizer_roberta_merges.txt")
    others = [tokenizer_fingerprint(tokenizer_from_files(tmp_path / "vocab.txt")), tokenizer_fingerprint(roberta)]
    assert len({fresh, *others}) == 3
