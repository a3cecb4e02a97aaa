"""Where encoders start from: ``init`` of a config, and pre-trained weights of the hub or of one's own files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
from torch import Tensor
from transformers import PreTrainedModel

from vlp.checkpoint.folder import check_folder
from vlp.checkpoint.weights import WeightsError
from vlp.hub import HubError, hub_access, is_path


def resolve_init(init: str | Mapping[str, str]) -> dict[str, str]:
    """``init=random`` stands for both towers; otherwise ``init.vision=…`` and ``init.text=…``.

    Raises:
        ValueError: a word alone that is neither "random" nor "pretrained".
    """
    if isinstance(init, str):
        if init not in ("random", "pretrained"):
            raise ValueError(
                f"init={init!r}: say init.vision={init} or init.text={init}; alone go random and pretrained"
            )
        return {"vision": init, "text": init}
    return dict(init)


def pretrained_text(auto_class: Any, source: str, instead: str) -> tuple[PreTrainedModel, list[str]]:
    """A language model by its name on the hub or from a folder, and the tensors that it should have and lacks.

    Args:
        auto_class: of transformers, such as ``AutoModel``.
        instead: what a user without a network can give.

    Raises:
        HubError: a hub name whose weights cannot be had.
        WeightsError: weights that cannot be read, or that do not fit their own config.json.
    """
    if Path(source).is_dir():
        check_folder(source)
    elif is_path(source):
        raise WeightsError(f"text encoder {source}: is no folder; {instead}")
    try:
        with hub_access("text encoder", source, instead):
            text, loaded = auto_class.from_pretrained(source, output_loading_info=True)
    except HubError:
        raise
    except RuntimeError as error:
        raise WeightsError(f"text encoder {source}: its weights do not fit its own config.json") from error
    except (OSError, ValueError) as error:
        raise WeightsError(
            f"text encoder {source}: its weights cannot be read ({str(error).splitlines()[0]}); {instead}"
        ) from error
    return text, sorted(loaded["missing_keys"])


def timm_weights(name: str, instead: str) -> dict[str, Tensor]:
    """timm's pre-trained weights ``name``, without a classifier.

    Raises:
        HubError: they cannot be had.
        WeightsError: timm knows no such name.
    """
    try:
        with hub_access("vision weights", name, instead):
            return timm.create_model(name, pretrained=True, num_classes=0).state_dict()
    except RuntimeError as error:  # timm's for a name that it does not know
        raise WeightsError(f"vision weights {name}: {str(error).splitlines()[0]}; {instead}") from error
