"""JSON lists of every script, and X-VLM's JSON lines: what their rows may be, said again in the tests' own words."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from albef.dataset import DATA as ALBEF_DATA
from tests.hostile.drawn import Drawn, broken_json
from tests.hostile.test_lines import data as lines_of
from tests.unit.albef import task_runs
from tests.unit.data.jsonl.files import binary
from tests.unit.xvlm import test_data as xvlm_runs
from vlp.data.json.check import check_config
from vlp.data.jsonl.check import RowFields, check_files
from xvlm.dataset import DATA as XVLM_DATA

Fits = Callable[[Any], bool]


def text(value: Any) -> bool:
    return isinstance(value, str) and "\ud800" not in value


def texts(value: Any) -> bool:
    return isinstance(value, list) and value != [] and all(map(text, value))


def name(value: Any) -> bool:
    """Of an image below the folder of images."""
    return text(value) and value != "" and "\0" not in value and ".." not in value and not value.startswith("/")


def number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def either(*fits: Fits) -> Fits:
    return lambda value: any(each(value) for each in fits)


def box(value: Any) -> bool:
    """[x, y, w, h] with an area; whether it leaves the image is seen when that is read."""
    finite = isinstance(value, list) and len(value) == 4 and all(map(finite_number, value))
    return finite and min(value[2:]) > 0


def finite_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def among(*values: str) -> Fits:
    return lambda value: isinstance(value, str) and value in values


LABELS = among("contradiction", "neutral", "entailment")
QUESTION: dict[str, Fits] = {"dataset": among("vqa", "vg"), "image": name, "question": text}
STATEMENT: dict[str, Fits] = {
    "images": lambda value: isinstance(value, list) and len(value) == 2 and all(map(name, value)),
    "sentence": text,
    "label": among("True", "False"),
}
# Script -> the fields of its training rows, and of its evaluation's.
FIELDS: dict[str, tuple[dict[str, Fits], dict[str, Fits]]] = {
    "Pretrain": ({"image": name, "caption": either(text, texts)}, {}),
    "Pretrain_nlvr": ({"image": name, "caption": either(text, texts)}, {}),
    "Retrieval": (
        {"image": name, "caption": text, "image_id": either(number, lambda value: isinstance(value, str))},
        {"image": name, "caption": texts},
    ),
    "VQA": ({**QUESTION, "answer": either(text, texts)}, {**QUESTION, "question_id": number}),
    "VE": ({"image": name, "sentence": text, "label": LABELS},) * 2,
    "NLVR": (STATEMENT, STATEMENT),
    "Grounding": ({"image": name, "text": text}, {"image": name, "text": text, "ref_id": number}),
}
# X-VLM's rows, where they are others than ALBEF's.
ASKED: dict[str, Fits] = {"image": name, "question": text}
XVLM_FIELDS = {
    **{script: FIELDS[script] for script in ("Retrieval", "NLVR", "Grounding")},
    "VQA": ({**ASKED, "answer": either(text, texts)}, {**ASKED, "question_id": number}),
    "Captioning": ({"image": name, "caption": either(text, texts)}, {"image": name}),
    "Grounding_bbox": ({"image": name, "text": text, "bbox": box}, FIELDS["Grounding"][1]),
}


def rows_fit(rows: Any, fields: Mapping[str, Fits]) -> bool:
    return (
        isinstance(rows, list)
        and rows != []
        and all(isinstance(row, dict) and all(f in row and fits(row[f]) for f, fits in fields.items()) for row in rows)
    )


@cache
def albef_config(script: str, folder: Path) -> dict[str, Any]:
    """Of a run on whole data below ``folder``."""
    if not (folder / "train.json").exists():
        task_runs.write_data(folder)
    return task_runs.config_of(script, folder, output_dir=str(folder / "run"))


@cache
def xvlm_config(script: str, folder: Path, vocabulary: str) -> dict[str, Any]:
    """Of a run on whole data in a folder of the script's own."""
    return xvlm_runs.config(script, folder / script, vocabulary, allow_outside_root=False)


def albef_list(data: st.DataObject, folder: Path, vocabulary: str) -> Drawn:
    script = data.draw(st.sampled_from(sorted(FIELDS)))
    return _list(data, ALBEF_DATA[script], albef_config(script, folder / "albef"), FIELDS[script])


def xvlm_list(data: st.DataObject, folder: Path, vocabulary: str) -> Drawn:
    script = data.draw(st.sampled_from(sorted(XVLM_FIELDS)))
    config = xvlm_config(script, folder / "xvlm", vocabulary)
    return _list(data, XVLM_DATA[script], config, XVLM_FIELDS[script], checked=False)


def _list(
    data: st.DataObject,
    build: Callable[[dict[str, Any]], Any],
    config: dict[str, Any],
    fields: tuple[dict[str, Fits], dict[str, Fits]],
    checked: bool = True,
) -> Drawn:
    """``checked``: what ``check`` finds malformed, a run refuses, too; X-VLM takes some rows of which it does not know."""
    keys = [key for key in ("train_file", "val_file", "test_file") if config.get(key)]
    key = data.draw(st.sampled_from(keys))
    given = config[key] if isinstance(config[key], str) else config[key][0]
    rows = json.loads(Path(given).read_text())[:8]
    made, content = data.draw(broken_json(rows))
    path = Path(given).with_name("drawn.json")
    path.write_bytes(content)
    changed = {**config, key: str(path) if isinstance(config[key], str) else [str(path)]}
    broken = None if made is None else not rows_fit(made, fields[key != "train_file"]) or None

    def read() -> None:
        complaints = sum(report.malformed for report in check_config(changed))
        module = build(changed)
        assert not (checked and complaints), f"check finds {complaints} malformed rows of a list that a run reads"
        for loader in (module.train_dataloader(), *module.test_dataloader()):
            for _ in loader:
                pass

    return Drawn(read, broken, (str(path), "refcoco"))  # without a box a row's ref_id is looked for there


PIECES = [{"caption": "a dog", "bb": [5, 5, 20, 15]}, {"caption": ["snow", "ice"], "bb": [0, 0, 40, 30]}]
ROWS: dict[str, list[dict[str, Any]]] = {
    "images": [{"binary": binary(i), "caption": caption} for i, caption in enumerate(("a man", ["a dog", "a cat"]))],
    "regions": [{"binary": binary(i), "elems": PIECES, "caption": "a man"} for i in range(2)],
}


def json_lines(data: st.DataObject, folder: Path, vocabulary: str) -> Drawn:
    """Rows that ``check`` finds malformed are left out by name in a run, or end it; what is left out is malformed."""
    stream = data.draw(st.sampled_from(sorted(ROWS)))
    made, content = data.draw(broken_json(ROWS[stream], dumps=_lines))
    path = folder / "drawn.jsonl"
    path.write_bytes(content)

    def read() -> None:
        kind = "captions" if stream == "images" else "regions"
        report = check_files(str(path), RowFields("binary", None, kind=kind))
        module = lines_of(folder, vocabulary, **{stream: [path]})
        loader = module.train_dataloader()
        for batch in loader:
            module.consumed(batch)
        guards = [guard for name, guard in loader.dataset.guards.items() if name.startswith(f"{stream}: drawn")]
        wrong = [problem for problem in report.problems if "'elems' " not in problem]  # not all elements are drawn
        if wrong:
            assert sum(guard.failures for guard in guards), f"check: {wrong}, a run leaves out nothing"
        elif made is not None and report.well:
            assert not sum(guard.failures for guard in guards), "rows of which check finds nothing wrong are left out"

    fit = made is None or (isinstance(made, list) and any(isinstance(row, dict) for row in made))
    return Drawn(read, None if fit else True, (str(path),))


def _lines(tree: Any) -> str:
    return "".join(f"{json.dumps(row)}\n" for row in (tree if isinstance(tree, list) else [tree]))
