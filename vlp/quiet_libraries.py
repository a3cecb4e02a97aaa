"""Keep back what libraries say that a user can do nothing about; their other news and warnings stay."""

from __future__ import annotations

import logging
import re
import warnings

import transformers

_NEWS = re.compile("GPU available|TPU available|💡 Tip|`Trainer\\(val_check_interval=1.0\\)`")
_WARNINGS = (
    ".*dataloader is not resumable",  # it is: its sampler's position is in the checkpoint
    "It is recommended to use `self.log\\(",  # steps are logged as officially; what epochs report is gathered
    "`isinstance\\(treespec, LeafSpec\\)` is deprecated",
)


def quiet_libraries() -> None:
    """Set up transformers, Lightning and warnings in this process."""
    # Poolers are new and MLM heads are not read, by design: transformers reports both as if they were faults.
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):  # the root logger prints each line once
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_is_worth_a_line)
    for message in _WARNINGS:
        warnings.filterwarnings("ignore", message=message)


def _is_worth_a_line(record: logging.LogRecord) -> bool:
    return not _NEWS.match(record.getMessage())
