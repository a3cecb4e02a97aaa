"""Save and load a module under another project's key names (a timm tower under CLIP's, say)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn


def use_official_names(
    module: nn.Module,
    official_key: Callable[[str], str],
    official_shapes: Mapping[str, Callable[[Tensor], Tensor]] | None = None,
    derived: Callable[[], Mapping[str, Tensor]] | None = None,
    order: Sequence[str] = (),
) -> None:
    """Make ``module.state_dict()`` and ``load_state_dict`` speak the official names, whatever the prefix.

    ``official_key`` maps an own key to the official one. ``official_shapes`` maps own keys to a view in the
    official shape; loading reshapes back. ``derived`` gives official entries that the module rebuilds by
    itself: they are written on save and dropped on load. ``order`` lists the parts of the dotted keys in the
    official order where it differs from the module's own.
    """
    shapes = official_shapes or {}
    ranks = {part: i for i, part in enumerate(order, start=1)}

    def rank(name: str) -> list[int]:
        return [int(part) if part.isdigit() else ranks.get(part, 0) for part in name.split(".")]

    def on_save(_: nn.Module, state: dict[str, Tensor], prefix: str, __: Any) -> None:
        own = {key.removeprefix(prefix): state.pop(key) for key in list(state) if key.startswith(prefix)}
        official = {official_key(name): shapes[name](t) if name in shapes else t for name, t in own.items()}
        official.update(derived() if derived else {})
        for name in sorted(official, key=rank):
            state[prefix + name] = official[name]

    def on_load(own_module: nn.Module, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
        for name in derived() if derived else ():
            state.pop(prefix + name, None)
        targets = dict(own_module.named_parameters())
        # All official entries leave before own ones are written: a name can be one's own and another's official one.
        values = {name: state.pop(prefix + official_key(name), None) for name in targets}
        for name, value in values.items():
            if value is not None:
                same_size = value.numel() == targets[name].numel()
                state[prefix + name] = value.reshape(targets[name].shape) if same_size else value

    module.register_state_dict_post_hook(on_save)
    module.register_load_state_dict_pre_hook(on_load)


def swin_key(timm_key: str) -> str:
    """timm's key -> the official one: timm holds a stage's downsampling at the start of the NEXT stage."""
    return re.sub(r"^layers\.(\d+)\.downsample\.", lambda m: f"layers.{int(m[1]) - 1}.downsample.", timm_key)
