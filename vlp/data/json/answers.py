"""The candidate answers of question answering.

Source: docs/official/albef.md §3.
"""

from __future__ import annotations

from pathlib import Path

from vlp.data.errors import DataError
from vlp.data.json.fields import text
from vlp.data.json_stream import iter_json_list


def read_answers(path: str | Path) -> list[str]:
    """The strings of an ``answer_list.json``, in its order.

    Raises:
        DataError: the file is missing, no JSON list or empty, or an entry is no string.
    """
    answers: list[str] = []
    for number, answer in enumerate(iter_json_list(Path(path))):
        if wrong := text(answer):
            raise DataError(f"{path}: row {number}: an answer {wrong}")
        answers.append(answer)
    if not answers:
        raise DataError(f"{path} is an empty list: it needs the answers to choose from")
    return answers
