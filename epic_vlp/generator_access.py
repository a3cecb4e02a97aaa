"""Where the language model f_L of a run comes from: a whole folder, or the hub within a time limit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from epic_common.config import EpicConfig
from vlp.checkpoint.folder import check_folder
from vlp.hub import hub_access


@contextmanager
def generator_access(settings: EpicConfig, text_encoder_key: str, text_encoder: str) -> Iterator[None]:
    """For a block that loads f_L: ``epic.generator``, or the baseline's ``text_encoder`` where that is "".

    Raises:
        WeightsError: a file of its folder is damaged.
        HubError: the hub does not give it.
    """
    key, name = ("epic.generator", settings.generator) if settings.generator else (text_encoder_key, text_encoder)
    if Path(name).is_dir():
        check_folder(name)
    with hub_access(
        key, name, f"give {key}=FOLDER of a masked language model (python -m epic_common.fit_lm makes one)"
    ):
        yield
