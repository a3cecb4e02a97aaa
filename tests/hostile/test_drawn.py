"""Broken inputs drawn from valid ones: each is refused by name, or is what is read, whole; none takes 20 s."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.hostile import drawn_files, drawn_lists
from tests.hostile.drawn import Drawn, told
from tests.tokenizers import folder_of_vocabulary
from tests.unit.data.lists import VOCABULARY

KINDS: dict[str, Callable[[st.DataObject, Path, str], Drawn]] = {
    "YAML files": drawn_files.yaml_file,
    "JSON lists": drawn_lists.json_list,
    "JSON lines": drawn_lists.json_lines,
    "tables": drawn_files.table,
    "boxes": drawn_lists.boxes,
    "checkpoints": drawn_files.checkpoint,
    "variables": drawn_files.variables,
}
TIMES = 300  # for each kind


@pytest.fixture(scope="module")
def vocabulary() -> Iterator[str]:
    with folder_of_vocabulary(VOCABULARY) as folder:
        yield str(folder)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_drawn(kind: str, tmp_path: Path, vocabulary: str) -> None:
    ends = Counter[str]()

    @settings(max_examples=TIMES, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
    @given(data=st.data())
    def each(data: st.DataObject) -> None:
        ends[told(KINDS[kind](data, tmp_path, vocabulary))] += 1

    each()
    assert ends.total() >= TIMES and min(ends["accepted"], ends["refused"]) >= TIMES // 10, ends
