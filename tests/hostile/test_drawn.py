"""Broken inputs drawn from what is valid: each is refused in one clear line, or is still valid; none hangs."""

from __future__ import annotations

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
    "lists of ALBEF": drawn_lists.albef_list,
    "lists of X-VLM": drawn_lists.xvlm_list,
    "JSON lines": drawn_lists.json_lines,
    "tables": drawn_files.table,
    "checkpoints": drawn_files.checkpoint,
    "YAML files": drawn_files.yaml_file,
    "variables": drawn_files.variables,
}
DRAWN = settings(deadline=None, database=None, suppress_health_check=list(HealthCheck), print_blob=False)


@pytest.fixture(scope="module")
def vocabulary() -> Iterator[str]:
    with folder_of_vocabulary(VOCABULARY) as folder:
        yield str(folder)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    (folder / "albef").mkdir()
    return folder


@settings(DRAWN, max_examples=4, derandomize=True)
@given(data=st.data())
@pytest.mark.parametrize("kind", KINDS)
def test_a_few(kind: str, data: st.DataObject, place: Path, vocabulary: str) -> None:
    told(KINDS[kind](data, place, vocabulary))


@pytest.mark.slow
@settings(DRAWN, max_examples=300)
@given(data=st.data())
@pytest.mark.parametrize("kind", KINDS)
def test_many(kind: str, data: st.DataObject, place: Path, vocabulary: str) -> None:
    told(KINDS[kind](data, place, vocabulary))
