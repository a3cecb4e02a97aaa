"""What is read is a file: a pipe without a writer, a socket or a device would be waited for without an end."""

from __future__ import annotations

import ast
import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple

import pytest
import torch

from epic_common.language_models.hub import load_pair
from epic_common.language_models.small import FAMILIES
from epic_common.saliency_cache.identity import SaliencyCacheError
from epic_common.saliency_cache.reader import SaliencyCache
from epic_common.saliency_cache.writer import CacheWriter
from epic_common.teacher import file_sha256
from patches.tree import present
from reproduce import state
from reproduce.figures import given_pairs
from vlp.checkpoint.weights import read_state_dict
from vlp.data.arrow.tables import open_table
from vlp.data.json.images import ImageRoot
from vlp.data.json_stream import iter_json_list
from vlp.data.jsonl.lines import JsonLines
from vlp.data.tokenizers import load_tokenizer
from vlp.evaluation.captions import read_references
from vlp.files import read_json, regular, regular_if_there, sha256_of_bytes, why_not_regular
from vlp.training.run_log import JsonLinesLogger, drop_lines_from
from vlp.yaml_dialect import epoch_log
from vlp.yaml_dialect.yaml_file import read_yaml

ROOT = Path(__file__).parents[2]
SECONDS = 20.0


def pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def listening(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # the name of a socket may have 108 bytes
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(here)


KINDS = {"a pipe": pipe, "a device": device, "a socket": listening}


each_kind = pytest.mark.parametrize("what", KINDS)


def test_files_and_links_to_them_are_regular(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("[1]")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert regular(str(tmp_path / "link")).read_text() == "[1]" and read_json(tmp_path / "link") == [1]
    assert why_not_regular(tmp_path / "link") == ""


@each_kind
def test_nothing_else_is(what: str, tmp_path: Path) -> None:
    path = tmp_path / "other"
    KINDS[what](path)
    for called in (regular, regular_if_there, read_json):
        with pytest.raises(OSError, match=f"^{path}: is {what}, not a file; put a file in its place$"):
            called(path)


def test_a_name_that_is_not_there_may_be_one_to_append_to(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("nothing", "file/in it", "a\0b", "\ud800"):
        with pytest.raises(FileNotFoundError, match="no such file"):
            regular(tmp_path / name)
        assert regular_if_there(tmp_path / name) == tmp_path / name
        assert why_not_regular(tmp_path / name) == "no such file"
    assert "name too long" in why_not_regular(tmp_path / ("a" * 300))


# Nobody waits ---------------------------------------------------------------------------------------------------


READERS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "YAML configuration": ("a.yaml", read_yaml),
    "JSON list": ("a.json", lambda path: list(iter_json_list(path))),
    "JSON lines": ("a.jsonl", lambda path: JsonLines([path])),
    "reference captions": ("a.json", read_references),
    "Arrow table": ("a.arrow", lambda path: open_table(path, "caption")),
    "checkpoint": ("a.ckpt", read_state_dict),
    "safetensors": ("a.safetensors", read_state_dict),
    "exported folder": ("model.safetensors", lambda path: read_state_dict(path)),
    "digest of weights": ("a.ckpt", sha256_of_bytes),
    "teacher": ("a.ckpt", file_sha256),
    "vocabulary": ("vocab.txt", lambda path: load_tokenizer(path.parent)),
    "merges": (
        "merges.txt",
        lambda path: path.with_name("vocab.json").write_text("{}") and load_tokenizer(path.parent),
    ),
    "tokenizer.json": ("tokenizer.json", lambda path: load_tokenizer(path.parent)),
    "check sums": ("SHA256SUMS", lambda path: load_tokenizer(path.parent)),
    "stage": (state.FILE, lambda path: state.read(path.parent)),
    "pairs of a figure": ("pairs.json", given_pairs.read_json),
    "image": ("a.jpg", lambda path: ImageRoot(path.parent, "image_root", outside=True).read(path.name, "row 0")),
    "metrics": ("metrics.jsonl", lambda path: drop_lines_from(path, 1)),
    "log of epochs": ("log.txt", lambda path: epoch_log.append(path, {"epoch": 0})),
    "manifest of a cache": ("manifest.json", lambda path: SaliencyCache(path.parent, "build")),
}


def answer(read: Callable[[Path], Any], path: Path) -> BaseException | None:
    """What a reader raises, within ``SECONDS``; the thread of one that waits is left behind."""
    raised: list[BaseException | None] = []

    def call() -> None:
        try:
            read(path)
            raised.append(None)
        except Exception as error:
            raised.append(error)

    thread = Thread(target=call, daemon=True)
    thread.start()
    thread.join(SECONDS)
    assert raised, f"waits for {path}"
    return raised[0]


@each_kind
@pytest.mark.parametrize("kind", READERS)
def test_what_is_no_file_is_refused_by_its_path(kind: str, what: str, tmp_path: Path) -> None:
    name, read = READERS[kind]
    KINDS[what](tmp_path / name)
    error = answer(read, tmp_path / name)
    assert isinstance(error, OSError | ValueError | RuntimeError), error
    named = tmp_path if name == "manifest.json" else tmp_path / name
    assert str(named) in str(error)


def test_a_saliency_cache_of_pipes_is_not_read_and_is_built_anew(tmp_path: Path) -> None:
    def built() -> SaliencyCache:
        writer = CacheWriter(tmp_path, "build", {"teacher_sha256": "0"}, "pairs", 1)
        assert writer.missing() == [0]
        writer.write(0, [bytes(16)], [torch.ones(3)])
        return writer.finish({})

    cache = built()
    for name in (cache.manifest["file"], "manifest.json"):
        (tmp_path / name).unlink()
        pipe(tmp_path / name)
        error = answer(lambda _: SaliencyCache(tmp_path, "build"), tmp_path)
        assert isinstance(error, SaliencyCacheError) and str(tmp_path) in str(error)
    writer = CacheWriter(tmp_path, "build", {"teacher_sha256": "0"}, "pairs", 1)
    writer.write(0, [bytes(16)], [torch.ones(3)])
    (chunk,) = tmp_path.glob("chunks-*/*")
    chunk.unlink()
    pipe(chunk)
    assert answer(lambda _: built(), tmp_path) is None
    (scores,) = SaliencyCache(tmp_path, "build").scores([bytes(16)])
    assert scores is not None and scores.tolist() == [1, 1, 1]


def test_transformers_takes_files_alone(tmp_path: Path) -> None:
    """So what is loaded by ``from_pretrained`` needs no guard of ours."""
    family = FAMILIES["bert"]
    tokenizer = family.train_tokenizer(["a dog runs", "two cats sit"], 100, 16)
    whole = tmp_path / "whole"
    family.new_model(tokenizer, 16, layers=1, width=8, heads=1).save_pretrained(whole)
    tokenizer.save_pretrained(whole)
    names = [path.name for path in whole.iterdir()]
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(names)
    for name in (*names, "vocab.txt", "special_tokens_map.json", "added_tokens.json", "pytorch_model.bin"):
        folder = tmp_path / name
        shutil.copytree(whole, folder)
        (folder / name).unlink(missing_ok=True)
        pipe(folder / name)
        error = answer(lambda folder: load_pair(str(folder)), folder)
        assert error is None or (isinstance(error, ValueError) and str(folder) in str(error))
        assert (error is None) == (name not in ("config.json", "model.safetensors")), error


def test_a_log_that_became_a_pipe_does_not_hold_the_run(tmp_path: Path) -> None:
    log = JsonLinesLogger(tmp_path)
    log.log_metrics({"loss": 1.0}, step=0)
    path = log.experiment.rename(tmp_path / "aside")
    pipe(log.experiment)
    assert answer(lambda _: log.log_metrics({"loss": 2.0}, step=1), log.experiment) is None
    log.experiment.unlink()
    path.rename(log.experiment)
    log.log_metrics({"loss": 3.0}, step=2)
    assert [line["step"] for line in map(json.loads, log.experiment.read_text().splitlines())] == [0, 1, 2]


# Every reader asks ----------------------------------------------------------------------------------------------

# Functions that open the path that is their first argument, by what stands before them; "": whatever does.
OPENS = {
    "": {"safe_open", "load_file", "FileIO", "ZipFile", "is_zipfile", "memory_map", "ParquetFile", "read_schema"}
    | {"get_unsafe_globals_in_checkpoint"},
    **{"torch": {"load"}, "np": {"load"}, "Image": {"open"}, "os": {"open"}},
}
# What says that a path is a file, or refuses it.
ASKS = {"regular", "regular_if_there", "why_not_regular", "whole_file", "existing_file"}
ASKS |= {"require_file", "file_problem", "image_problem"}
EXCEPTIONS = {
    "epic_common/language_models/alone.py": "a lock: opened to write, too, it does not wait",
    "epic_common/saliency_cache/reader.py": "the cache's constructor and read_manifest look for both files first",
    "epic_common/saliency_cache/writer.py": "missing() counts files alone; what it syncs it has just written",
    "vlp/data/images.py": "bytes, or what ImageRoot.find or file_problem has let pass",
    "vlp/data/json/images.py": "find() lets files alone pass, so that an image of a batch is looked at once",
    "vlp/files.py": "a folder, to sync it",
    "vlp/owner.py": "a lock: O_NONBLOCK and O_RDWR do not wait",
    "vlp/training/wandb_log.py": "no file",
    "reproduce/miniature/places.py": "a lock: O_RDWR does not wait",
    "scenes/caption_layouts.py": "a scene, of a folder that the command has made",
    "scenes/refcoco_layout.py": "a scene",
    "scenes/region_layouts.py": "a scene",
    "scenes/task_layouts.py": "a scene",
    "patches/official/neighbours.py": "its own file beside the patches",
    "patches/official/source.py": "the patches themselves",
    "patches/official/support/epic_fusion.py": "build_checkout_epic has looked at teacher_path",
}
PACKAGES = (*present(), "epic_common", "epic_vlp", "vlp", "reproduce", "demo", "scenes", "patches")


class Opened(NamedTuple):
    """A place where a path is opened without a question."""

    line: int
    path: str


def name_of(call: ast.Call) -> str:
    """The last name of what is called."""
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def opened_path(call: ast.Call) -> ast.expr | None:
    """What a call opens to read from it or to append to it, if it does."""
    name = name_of(call)
    before = call.func.value if isinstance(call.func, ast.Attribute) else None
    if name in ("read_text", "read_bytes"):
        return before
    if name in OPENS[""]:
        return call.args[0]
    if name not in ("open", "load"):
        return None
    module = ast.unparse(before) if before else ""
    if name in OPENS.get(module, ()):
        return call.args[0]
    if name == "load" or module in ("tarfile", "archive"):
        return None
    places = (*call.args, *(each.value for each in call.keywords if each.arg == "mode"))[0 if before else 1 :]
    mode = next((str(each.value) for each in places if isinstance(each, ast.Constant)), "r")
    return None if "w" in mode else before or call.args[0]


def plain(path: ast.expr) -> str:
    """The source of a path, without ``str()`` or ``Path()`` around it."""
    while isinstance(path, ast.Call) and ast.unparse(path.func) in ("str", "Path") and len(path.args) == 1:
        path = path.args[0]
    return ast.unparse(path)


def calls_in(node: ast.AST) -> set[ast.Call]:
    return {each for each in ast.walk(node) if isinstance(each, ast.Call)}


def unasked(source: str) -> Iterator[Opened]:
    """The paths that a module opens in a function that does not ask what they are."""
    tree = ast.parse(source)
    functions = [calls_in(node) for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    for calls in (*functions, calls_in(tree).difference(*functions)):
        asked = {"os.devnull", "'/proc/cpuinfo'"}
        for call in calls:
            if (name := name_of(call)) in ASKS:
                asked |= {ast.unparse(call), plain(call.args[0])}
            elif name == "is_file":
                asked.add(plain(call.func.value))  # type: ignore[attr-defined]
            elif name == "BytesIO":
                asked.add(ast.unparse(call))
        for call in calls:
            if (path := opened_path(call)) is not None and plain(path) not in asked:
                yield Opened(call.lineno, plain(path))


def test_every_path_that_is_opened_is_asked_what_it_is() -> None:
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    found = {path.relative_to(ROOT).as_posix(): list(unasked(path.read_text(encoding="utf-8"))) for path in files}
    assert len(found) > 400 and sum("regular(" in path.read_text(encoding="utf-8") for path in files) > 30
    wrong = {name: places for name, places in found.items() if places and name not in EXCEPTIONS}
    assert not wrong, "read vlp.files.regular(path), or vlp.files.read_json, instead"
    assert {name for name, places in found.items() if places} == set(EXCEPTIONS), "an exception that is none"


@pytest.mark.parametrize(
    "line",
    [
        *("open(path)", "open(path, 'rb')", "open(path, mode='r')", "open(path, 'a')", "path.read_text()"),
        *("path.open()", "path.open('rb')", "(folder / 'a').read_bytes()", "Image.open(path)", "safe_open(path, 'pt')"),
        *("torch.load(path)", "pa.memory_map(str(path))", "json.load(open(other))", "regular(other) and open(path)"),
    ],
)
def test_a_broken_rule_is_seen(line: str) -> None:
    for source in (line, f"def read(path, folder, other):\n    return {line}\n"):
        assert len(list(unasked(source))) == 1


@pytest.mark.parametrize(
    "line",
    [
        *(
            "open(regular(path))",
            "open(path, 'wb')",
            "path.is_file() and path.read_text()",
            "regular(path).read_text()",
        ),
        *("Image.open(io.BytesIO(data))", "load_file(whole_file(path))"),
        *("(regular(path), torch.load(str(path)))",),
    ],
)
def test_a_kept_rule_is_not(line: str) -> None:
    assert not list(unasked(f"def read(path, data):\n    return {line}\n"))
