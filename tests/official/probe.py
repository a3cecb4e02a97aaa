"""Run by a patched checkout's own Python, in its root: Eq. 8's scores of its model with the weights of a fixture.

    python probe.py BASELINE GOLDEN_PY REQUEST.npz RESULT.npz LAUNCHER ARGUMENTS...

The launcher builds its model as ever; where it comes to EPIC's line in the constructor, the model is filled by the
fixtures' rule, asked, and the process ends.
"""

import fnmatch
import importlib
import importlib.util
import os
import runpy
import sys
from typing import Any

import numpy as np
import torch


def fill(model: Any, golden: Any, request: Any) -> None:
    """Every float tensor by its name; of tied names all take the value of the one beside them."""
    tied = dict(zip(request["tied"].tolist(), request["tied_to"].tolist(), strict=True))
    skipped = request["skip"].tolist()
    state = model.state_dict()
    for name, value in state.items():
        if value.is_floating_point() and value.dim() and not any(fnmatch.fnmatch(name, each) for each in skipped):
            state[name] = torch.from_numpy(golden.tensor(tied.get(name, name), tuple(value.shape)))
    model.load_state_dict(state)


def scores(baseline: str, model: Any, config: Any, request: Any) -> torch.Tensor:
    """(B, n), before any mask."""
    support = importlib.import_module(f"epic_{baseline}")
    batch: dict[str, Any] = {name: torch.from_numpy(request[name]) for name in ("text_ids", "text_masks")}
    image = torch.from_numpy(request["image"])
    if baseline in ("meter", "vilt"):
        batch.update(image=[image], text_labels=torch.full_like(batch["text_ids"], -100))
        model.__class__ = type("Asked", (support.Questions, type(model)), {})
        model.run_config = config
    else:
        fusion = importlib.import_module("epic_fusion")
        model = fusion.frozen_encoders(model, support.Questions, support.ENCODERS)
        batch["image"], batch["images"] = image, None
        with torch.no_grad():
            states = getattr(model, support.ENCODERS[0])(image)
        batch["image_atts"] = torch.ones(states.shape[:2], dtype=torch.long)
    with torch.no_grad():
        query, key = model.eval().query_key(batch, -2)
    products: torch.Tensor = query[:, :, None] * key
    return products.sum(dim=-1).mean(dim=1)


def main() -> None:
    baseline, golden_path, request_path, result, launcher = sys.argv[1:6]
    spec: Any = importlib.util.spec_from_file_location("golden", golden_path)
    golden = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(golden)
    request = np.load(request_path)
    sys.path[0] = os.getcwd()
    support: Any = importlib.import_module(f"epic_{baseline}")

    def attach(model: Any, config: Any) -> None:
        fill(model, golden, request)
        np.savez(result, scores=scores(baseline, model, config, request).numpy())
        os._exit(0)

    support.attach = attach
    sys.argv = [launcher, *sys.argv[6:]]
    runpy.run_path(launcher, run_name="__main__")


if __name__ == "__main__":
    main()
