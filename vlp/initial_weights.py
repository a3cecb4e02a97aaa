"""Where encoders start from: ``init`` of a config, and pre-trained weights of the hub or of one's own files."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import timm
from torch import Tensor, nn
from transformers import PreTrainedModel

from vlp.checkpoint.folder import check_folder
from vlp.checkpoint.layout import State
from vlp.checkpoint.recognition import KNOWN_EXTRAS
from vlp.checkpoint.weights import WeightsError, check_tensors, read_state_dict, sha256_of_file, sha256_of_tensors
from vlp.hub import HubError, hub_access, is_path

log = logging.getLogger(__name__)


class Found(NamedTuple):
    """Tensors by name, where they come from, and their SHA-256."""

    state: dict[str, Tensor]
    source: str
    digest: str

    @classmethod
    def in_file(cls, path: str | Path) -> Found:
        """Those of a file.

        Raises:
            WeightsError: see :func:`read_state_dict`.
        """
        return cls(read_state_dict(path), str(path), sha256_of_file(path))

    @classmethod
    def of_hub(cls, state: dict[str, Tensor], name: str) -> Found:
        """Those of a library, by its name for them."""
        return cls(state, name, f"of its tensors {sha256_of_tensors(state)}")


def vision_file(source: str, instead: str) -> Found:
    """The file of ``init.vision``.

    Args:
        instead: what a user can give.

    Raises:
        WeightsError: no such file, or none of weights.
    """
    if not Path(source).is_file():
        raise WeightsError(f"init.vision={source}: no such file; {instead}")
    return Found.in_file(source)


def fill_encoder(
    encoder: nn.Module,
    tower: str,
    found: Found,
    key: str,
    may_lack: Callable[[str], bool] = lambda name: False,
    resized: Callable[[State, State], dict[str, Tensor]] = lambda state, expected: dict(state),
) -> None:
    """Load into an encoder what it has of the tensors found.

    Args:
        tower: "vision" or "text", for the log.
        key: of the config, that gives the encoder's sizes.
        may_lack: whether a tensor of the encoder may stay as built.
        resized: (state, the encoder's) -> the state with the tables of another image size brought to the encoder's.

    Raises:
        WeightsError: tensors of another size, or too few.
    """
    expected = {name: t for name, t in encoder.state_dict().items() if not name.endswith(KNOWN_EXTRAS)}
    try:
        state = resized({name: t.float() for name, t in found.state.items() if name in expected}, expected)
    except ValueError as error:
        raise WeightsError(f"{found.source}: {error}") from error
    check_tensors(found.source, state, expected, f"Check {key}")
    missing = [name for name in expected if name not in state and not may_lack(name)]
    if missing:
        raise WeightsError(f"{found.source} lacks {missing[:3]} ({len(missing)} tensors) of {key}'s {tower} encoder")
    encoder.load_state_dict(state, strict=False)
    log.info("[init] %s: %s, %d tensors, sha256 %s", tower, found.source, len(state), found.digest)


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
