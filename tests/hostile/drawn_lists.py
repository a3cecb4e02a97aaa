"""JSON lists of every script, X-VLM's JSON lines and boxes, of which something was changed."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from albef.dataset import DATA as ALBEF
from tests.hostile.drawn import ANYTHING, Drawn, changed, loaded, perhaps_damaged
from tests.hostile.test_lines import data as lines_of
from tests.unit.albef import task_runs
from tests.unit.data.jsonl.files import binary, write_lines
from tests.unit.xvlm import test_data as xvlm_runs
from vlp.data.images import decode_image
from vlp.data.json.check import check_config
from vlp.data.json.fields import RowKind
from vlp.data.jsonl.check import RowFields, check_files
from vlp.data.raw.refcoco import INSTANCES
from vlp.evaluation.referents import read_referents
from xvlm.dataset import DATA as XVLM

SCRIPTS = sorted([("albef", script) for script in task_runs.SCRIPTS] + [("xvlm", script) for script in xvlm_runs.ROWS])
FILES = ("train_file", "val_file", "test_file")


@cache
def config_of(baseline: str, script: str, folder: Path, vocabulary: str) -> Mapping[str, Any]:
    """Of a run on whole data below ``folder``."""
    if baseline == "xvlm":
        return xvlm_runs.config(script, folder / script, vocabulary, allow_outside_root=False)
    if not (folder / "train.json").exists():
        folder.mkdir()
        task_runs.write_data(folder)
    return task_runs.config_of(script, folder, output_dir=str(folder / "run"))


def json_list(data: st.DataObject, folder: Path, vocabulary: str) -> Drawn:
    """A list of any script, for training or evaluation; its schema is the kind of rows of the data set that reads it.

    What is read are the rows of the file, all of them. ``check`` finds a malformed row where a run of ALBEF's does; of
    X-VLM's it wants ``dataset``, which a run does not.
    """
    baseline, script = data.draw(st.sampled_from(SCRIPTS))
    given = config_of(baseline, script, folder / baseline, vocabulary)
    build: Any = (ALBEF if baseline == "albef" else XVLM)[script]
    key = data.draw(st.sampled_from([key for key in FILES if given.get(key)]))
    whole = given[key] if isinstance(given[key], str) else given[key][0]
    path = Path(whole).with_name("drawn.json")
    made = data.draw(changed(json.loads(Path(whole).read_text())[:8]))
    path.write_bytes(data.draw(perhaps_damaged(json.dumps(made).encode())))
    config = {**given, key: str(path) if isinstance(given[key], str) else [str(path)]}
    kind: RowKind = build.train_set.kind if key == "train_file" else build.eval_set.kind
    rows = loaded(path)

    def read() -> bool:
        module = build(config)
        malformed = sum(report.malformed for report in check_config(config))
        assert baseline == "xvlm" or not malformed, "a run reads what check calls malformed"
        for dataset in module.sets.values():
            if path in dataset.rows.paths:
                assert json.dumps([*dataset.rows]) == json.dumps(rows)
        for loader in module.test_dataloader():
            assert sum(module.samples_in(batch) for batch in loader) >= len(loader.dataset)
        for batch in module.train_dataloader():
            assert module.samples_in(batch)
        return any(guard.failures for dataset in module.sets.values() for guard in dataset.guards.values())

    broken = not isinstance(rows, list) or not rows or any(kind.complaint(row) for row in rows)
    return Drawn(read, broken, (str(path), "training rows for 1 process"))


PIECES = [{"caption": "a dog", "bb": [5, 5, 20, 15]}, {"caption": ["snow", "ice"], "bb": [0, 0, 40, 30]}]
LINES: dict[str, list[dict[str, Any]]] = {
    "images": [{"binary": binary(i), "caption": caption} for i, caption in enumerate(("a man", ["a dog", "a cat"]))],
    "regions": [{"binary": binary(i), "elems": PIECES, "caption": "a man"} for i in range(2)],
}


def json_lines(data: st.DataObject, folder: Path, vocabulary: str) -> Drawn:
    """Rows that ``check`` finds malformed are left out by name in a run, or end it; no others are."""
    stream = data.draw(st.sampled_from(sorted(LINES)))
    rows = data.draw(changed(LINES[stream]))
    lines = b"".join(json.dumps(row).encode() + b"\n" for row in (rows if isinstance(rows, list) else [rows]))
    path = folder / "drawn.jsonl"
    path.write_bytes(data.draw(perhaps_damaged(lines)))

    def read() -> bool:
        left_out = rows_left_out(stream, path, folder, vocabulary)
        report = check_files(str(path), RowFields("binary", None, kind="captions" if stream == "images" else "regions"))
        # A box that leaves the image is cut where the view is not drawn around it.
        assert left_out or not [line for line in report.problems if "leaves the image" not in line], report.problems
        # Nor does it decode images.
        assert not left_out or not report.well or not all(map(_decodes, path.read_bytes().splitlines()))
        return left_out

    return Drawn(read, False, (str(path),))


def _decodes(line: bytes) -> bool:
    try:
        return bool(decode_image(base64.b64decode(json.loads(line)["binary"]), None))
    except ValueError:
        return False


def rows_left_out(stream: str, path: Path, folder: Path, vocabulary: str) -> bool:
    """Whether a run on a file of JSON lines counts rows or boxes that do not serve."""
    module = lines_of(folder, vocabulary, **{stream: [path]})
    loader = module.train_dataloader()
    for batch in loader:
        module.consumed(batch)
    return any(guard.failures for name, guard in loader.dataset.guards.items() if name.startswith(f"{stream}: drawn"))


SIDES = st.integers(-2, 45) | st.floats(-1, 40)
BOXES = st.one_of(
    st.tuples(st.integers(0, 20), st.integers(0, 15), st.integers(1, 20), st.floats(1, 15)).map(list),
    st.lists(SIDES, min_size=3, max_size=5),
    st.lists(SIDES | ANYTHING, min_size=4, max_size=4),
    ANYTHING,
)
FRAME = (40, 30)  # pixels of every image


def boxes(data: st.DataObject, folder: Path, vocabulary: str) -> Drawn:
    """A box of a region, of a phrase, of an object or of a proposal: four numbers, in the image where it is cut out."""
    box, reader = data.draw(BOXES), data.draw(st.sampled_from((_of_region, _of_phrase, _of_object, _of_proposal)))
    return reader(box, folder, vocabulary)


def _of_region(box: Any, folder: Path, vocabulary: str) -> Drawn:
    rows = [{"binary": binary(i), "elems": [{"caption": "a dog", "bb": box}]} for i in range(2)]
    path = write_lines(folder / "drawn.jsonl", rows)
    return Drawn(lambda: rows_left_out("regions", path, folder, vocabulary), not _inside(box), (str(path),))


def _of_phrase(box: Any, folder: Path, vocabulary: str) -> Drawn:
    config = dict(config_of("xvlm", "Grounding_bbox", folder / "xvlm", vocabulary))
    path = Path(config["train_file"][0]).with_name("drawn.json")
    path.write_text(json.dumps([{"image": f"{1 + i % 2}.jpg", "text": "a man", "bbox": box} for i in range(4)]))

    def read() -> bool:
        module = XVLM["Grounding_bbox"]({**config, "train_file": [str(path)]})
        for batch in module.train_dataloader():
            assert all(0 <= side <= 1 for target in batch["target_bbox"].tolist() for side in target)
        return any(guard.failures for guard in module.sets["train"].guards.values())

    return Drawn(read, not _inside(box), (str(path),))


def _of_object(box: Any, folder: Path, vocabulary: str) -> Drawn:
    return _of_references(box, folder, vocabulary, "object")


def _of_proposal(box: Any, folder: Path, vocabulary: str) -> Drawn:
    return _of_references(box, folder, vocabulary, "proposal")


def _of_references(box: Any, folder: Path, vocabulary: str, what: str) -> Drawn:
    config = config_of("albef", "Grounding", folder / "albef", vocabulary)
    whole, detections = Path(config["refcoco_data"]), Path(config["det_file"])
    (place := folder / "drawn" / INSTANCES).parent.mkdir(parents=True, exist_ok=True)
    for path in (whole / INSTANCES).parent.iterdir():
        place.with_name(path.name).write_bytes(path.read_bytes())
    if what == "object":
        content = json.loads((whole / INSTANCES).read_text())
        content["annotations"][1]["bbox"] = box
        path = place
    else:
        content = {**json.loads(detections.read_text()), "1": [box]}
        path = detections = folder / "drawn/dets.json"
    path.write_text(json.dumps(content))

    def read() -> bool:
        found = read_referents(folder / "drawn", detections)[1]
        assert [*(found.box if what == "object" else found.proposals[0])] == box[:4]
        return False

    return Drawn(read, not _numbers(box if what == "object" or not isinstance(box, list) else box[:4]), (str(path),))


def _numbers(box: Any) -> bool:
    return isinstance(box, list) and len(box) == 4 and all(type(v) in (int, float) and abs(v) < 2**31 for v in box)


def _inside(box: Sequence[Any]) -> bool:
    if not _numbers(box):
        return False
    x, y, w, h = map(int, box)
    return min(x, y) >= 0 < min(w, h) and x + w <= FRAME[0] and y + h <= FRAME[1]
