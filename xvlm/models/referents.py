"""Where the evaluations of X-VLM's grounding find what expressions mean (docs/official/xvlm.md §7.4)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from vlp.evaluation.grounding import Referent
from vlp.evaluation.referents import read_listed_referents, read_referents
from vlp.yaml_dialect.referent_model import ReferentModel
from xvlm.dataset import files


class XvlmReferentModel(ReferentModel):
    """RefCOCO+'s files, or with ``vlue_test`` the test list itself; predicted boxes need no detector's."""

    def referents(self) -> Mapping[int, Referent]:
        detections = self.config.get("det_file")
        if self.config["vlue_test"]:
            return read_listed_referents(files(self.config["test_file"]), to_choose=detections is not None)
        return read_referents(Path(self.config["refcoco_data"]), None if detections is None else Path(detections))
