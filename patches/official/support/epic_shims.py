"""What official METER, ViLT, ALBEF and X-VLM miss in newer libraries, put where they look for it; opt-in.

`python -m patches official apply BASELINE CHECKOUT --shims` copies this file and calls :func:`install` at the top of
the launcher. Each shim does nothing where the library still has what it stands in for. They change no number.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from pathlib import Path
from typing import Any


def install() -> None:
    """Every shim whose library is installed and needs it."""
    if importlib.util.find_spec("pytorch_lightning"):
        lightning_metrics()
        lightning_classes_in_checkpoints()
    if importlib.util.find_spec("transformers"):
        transformers_helpers()
        transformers_optimizer()
    if importlib.util.find_spec("ruamel"):
        yaml_functions()
    if (Path(__file__).parent / "models" / "tokenization_bert.py").is_file():
        albef_tokenizer()


def lightning_metrics() -> None:
    """``pytorch_lightning.metrics``, gone in 1.5: the same classes are in torchmetrics."""
    pytorch_lightning: Any = importlib.import_module("pytorch_lightning")
    if importlib.util.find_spec("pytorch_lightning.metrics") is None:
        torchmetrics = importlib.import_module("torchmetrics")
        sys.modules["pytorch_lightning.metrics"] = torchmetrics
        pytorch_lightning.metrics = torchmetrics


def lightning_classes_in_checkpoints() -> None:
    """Lightning before 1.5 saved the classes of callbacks as keys; torch.load refuses them from 2.6 on.

    They join the few that it accepts; anything else in a file that is not a tensor or a plain value stays refused.
    """
    import torch
    from pytorch_lightning import callbacks

    if hasattr(torch.serialization, "add_safe_globals"):
        torch.serialization.add_safe_globals([callbacks.ModelCheckpoint, callbacks.LearningRateMonitor])


def transformers_helpers() -> None:
    """Functions that moved from ``transformers.modeling_utils``, or are gone: no official script prunes heads."""
    from transformers import modeling_utils, pytorch_utils

    for name in ("apply_chunking_to_forward", "find_pruneable_heads_and_indices", "prune_linear_layer"):
        if not hasattr(modeling_utils, name):
            setattr(modeling_utils, name, getattr(pytorch_utils, name, _gone(name)))


def _gone(name: str) -> Any:
    def raise_error(*_: Any, **__: Any) -> None:
        raise NotImplementedError(f"{name} is no longer in transformers; install transformers 4.30.2 to prune heads")

    return raise_error


def transformers_optimizer() -> None:
    """``AdamW`` of transformers 4.30 and later calls Lightning's closure, which goes backward, without gradients."""
    import torch
    from transformers import optimization

    adamw = getattr(optimization, "AdamW", None)
    if adamw is None or hasattr(adamw, "step_without_closure"):
        return
    adamw.step_without_closure = adamw.step

    def step(self: Any, closure: Any = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.step_without_closure()
        return loss

    adamw.step = step


def yaml_functions() -> None:
    """The module name ``ruamel_yaml``, which pip does not install, and load and dump, gone in ruamel.yaml 0.18."""
    yaml: Any = importlib.import_module("ruamel.yaml")
    if importlib.util.find_spec("ruamel_yaml") is None:
        sys.modules["ruamel_yaml"] = yaml
    if tuple(int(part) for part in yaml.__version__.split(".")[:2]) >= (0, 18):
        yaml.load = _load_yaml
        yaml.dump = _dump_yaml


def _load_yaml(stream: Any, Loader: Any = None) -> Any:
    from ruamel.yaml import YAML

    return YAML(typ="safe", pure=True).load(stream)


def _dump_yaml(data: Any, stream: Any, **_: Any) -> None:
    from ruamel.yaml import YAML

    YAML(typ="safe", pure=True).dump(data, stream)


def albef_tokenizer() -> None:
    """The tokeniser of ALBEF and X-VLM, which newer transformers cannot construct: ``[CLS] X`` without ``[SEP]``."""
    import transformers

    if tuple(int(part) for part in transformers.__version__.split(".")[:2]) <= (4, 30):
        return
    try:
        base = importlib.import_module("transformers.models.bert.tokenization_bert_legacy").BertTokenizerLegacy
    except ImportError:
        base = transformers.BertTokenizer

    class BertTokenizer(base):  # type: ignore[misc, valid-type]
        """BERT's WordPiece; one text is ``[CLS] A``, two are ``[CLS] A [SEP] B [SEP]``."""

        def build_inputs_with_special_tokens(self, a: list[int], b: list[int] | None = None) -> list[int]:
            first = [self.cls_token_id, *a]
            return first if b is None else [*first, self.sep_token_id, *b, self.sep_token_id]

        def create_token_type_ids_from_sequences(self, a: list[int], b: list[int] | None = None) -> list[int]:
            return [0] * (len(a) + 1) if b is None else [0] * (len(a) + 2) + [1] * (len(b) + 1)

    module = types.ModuleType("models.tokenization_bert")
    module.BertTokenizer = BertTokenizer  # type: ignore[attr-defined]
    sys.modules["models.tokenization_bert"] = module
