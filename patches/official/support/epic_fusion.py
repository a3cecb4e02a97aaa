"""What EPIC's support of ALBEF and of X-VLM shares: text that asks an image, and launchers that are plain scripts.

Of the launcher's variables nothing is known by name: what is needed is found by its type.
"""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from epic_support import check_layer, heads_apart, outputs_during
from torch import Tensor, nn

LOG_EVERY = 50  # steps between two lines of EPIC's metrics, as the official lines of losses


# The model ---------------------------------------------------------------------------------------------------


def fusion_layers(text_encoder: Any) -> list[Any]:
    """The layers that ask the image."""
    return [layer for layer in text_encoder.bert.encoder.layer if hasattr(layer, "crossattention")]


def query_key(text_encoder: Any, run: Callable[[], Any], layer: int) -> tuple[Tensor, Tensor]:
    """The key of image token 0 (B, h, d_h) and the text's queries (B, h, n, d_h) in fusion layer ``layer``.

    No image token asks the text anything here, so that the roles of Eq. 8's q and K change places.

    Args:
        run: sends the unmasked text through all layers, with what it is true of.
    """
    cross = fusion_layers(text_encoder)[layer].crossattention.self
    query, key = outputs_during(run, cross.query, cross.key)
    heads = text_encoder.config.num_attention_heads
    return heads_apart(key[:, :1], heads).squeeze(2), heads_apart(query, heads)


def mlm_logits(text_encoder: Any, states: Tensor, places: Tensor) -> Tensor:
    """states (B, n, d), places (K,) in (B·n) -> logits (K, vocab)."""
    return text_encoder.cls.predictions(states.flatten(0, 1)[places])


def build(
    model: Any,
    config: Mapping[str, Any],
    settings: Any,
    questions: type,
    encoders: tuple[str, ...],
    momentum_model: bool = False,
) -> None:
    """Give a model of ALBEF or X-VLM its ``epic``.

    Args:
        settings: an EpicConfig.
        questions: what EPIC asks of the frozen model, for :func:`frozen_encoders`.
        encoders: names of the image and of the text encoder.
        momentum_model: whether it keeps a running average of itself.

    Raises:
        ValueError: a key that EPIC cannot run with, or a teacher or language model that does not fit.
    """
    from epic_common.checkout import build_checkout_epic

    layers = fusion_layers(model.text_encoder)
    check_layer(settings.saliency_layer, len(layers))
    name = config.get("text_encoder") or getattr(model.text_encoder.config, "name_or_path", "")
    if not name:
        raise ValueError("EPIC needs the name or folder of the text encoder: add `text_encoder: NAME` to the YAML file")
    path, cross = config.get("teacher_path") or "", layers[0].crossattention.self

    def new_teacher() -> nn.Module:
        teacher = frozen_encoders(model, questions, encoders)
        load_encoders(teacher, path)
        return teacher

    seed = torch.initial_seed()  # the launcher's own, of --seed
    widths = cross.query.out_features, cross.key.in_features
    epic: Any = build_checkout_epic(settings, name, *widths, seed, path, new_teacher, momentum_model=momentum_model)
    epic.run_config, epic.steps, epic.optimizer = config, 0, None
    epic._register_load_state_dict_pre_hook(_keep_own_weights, with_module=True)
    model.epic = epic


def _keep_own_weights(epic: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Before a strict load of a file without EPIC: its parts keep what they have."""
    if not any(name.startswith(prefix) for name in state):
        state.update({prefix + name: value for name, value in epic.state_dict().items()})


def frozen_encoders(model: Any, questions: type, encoders: tuple[str, ...]) -> Any:
    """The two encoders of ``model``, of its own class, which also answers what EPIC asks; nothing else of it.

    A copy, so that nothing is asked of the constructor and nothing is drawn.
    """
    own = [model._modules, model._parameters, model._buffers]
    left_out = {id(part): None for parts in own for name, part in parts.items() if name not in encoders}
    frozen = copy.deepcopy(model, left_out)
    frozen.__class__ = type(f"Teacher{type(model).__name__}", (questions, type(model)), {})
    return frozen


def load_encoders(teacher: nn.Module, path: str) -> None:
    """Fill all parameters from a checkpoint of the pre-training.

    Raises:
        ValueError: the file holds more than plain values, or lacks a weight, or one has another size.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)["model"]
    except (OSError, RuntimeError, KeyError, TypeError, pickle.UnpicklingError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"teacher_path={path} is no checkpoint of the pre-training ({reason})") from error
    wanted = dict(teacher.named_parameters())
    for name, parameter in wanted.items():
        if name not in state or state[name].shape != parameter.shape:
            raise ValueError(
                f"teacher_path={path} lacks {name!r} of size {tuple(parameter.shape)}; give a checkpoint of "
                "this model's pre-training with the same image_res"
            )
    teacher.load_state_dict({name: state[name] for name in wanted}, strict=False)


# The step ----------------------------------------------------------------------------------------------------


def begin_step(model: Any, baseline: str, steps_per_epoch: int) -> None:
    """Before a training step: the snapshot of "VLM (SAS)" renewed if it is due.

    Raises:
        RuntimeError: the launcher's line did not run.
    """
    epic = model.epic
    if not epic.training:
        return
    if epic.optimizer is None:
        raise RuntimeError(
            f"the line `epic_{baseline}.add_groups(locals())` of Pretrain.py did not run before the first step, or "
            "its function has no variable that is the model: EPIC would train without its learning rates"
        )
    epic.refresh(model, epic.steps, steps_per_epoch)


def end_step(epic: Any) -> None:
    """After a training step's losses: count it, and print the metrics that are due, as the launcher prints its own."""
    if not epic.training:
        return
    epic.steps += 1
    for values in epic.metrics_due(epic.steps, LOG_EVERY).values():
        print("  ".join([f"EPIC step {epic.steps}", *(f"{name}: {value:.4f}" for name, value in values.items())]))


def carrying(loss: Tensor, losses: Mapping[str, Tensor]) -> Tensor:
    """The value of ``loss``, to the bit, with the gradient of ``losses`` besides.

    So the launcher, which sums what the model returns, trains with EPIC's losses and logs its own as ever.
    """
    own = torch.stack(list(losses.values())).sum()
    return loss + (own - own.detach()).to(loss.dtype)


# The launcher ------------------------------------------------------------------------------------------------


def model_among(values: Iterable[Any]) -> Any:
    """The model with EPIC among a function's variables, plain or wrapped by DDP; None if there is none.

    Raises:
        RuntimeError: there are several.
    """
    modules = [value for value in values if isinstance(value, nn.Module)]
    inner = [getattr(module, "module", None) for module in modules]
    found = {id(each): each for each in [*modules, *inner] if getattr(each, "epic", None) is not None}
    if len(found) > 1:
        raise RuntimeError(f"{len(found)} models with EPIC are among the launcher's variables; it must train one")
    return next(iter(found.values()), None)


def add_groups(scope: Mapping[str, Any], head_factor: float) -> Any:
    """Behind the line that makes the optimiser: EPIC's parameters leave the official groups for groups of their own.

    Args:
        scope: the launcher's variables.
        head_factor: by which the learning rate of the baseline's other heads is multiplied.

    Returns:
        The model; None without EPIC.

    Raises:
        RuntimeError: no or several optimisers are among the variables, or the one has not EPIC's parameters.
    """
    model = model_among(scope.values())
    if model is None:
        return None
    optimizers = {id(value): value for value in scope.values() if isinstance(value, torch.optim.Optimizer)}
    if len(optimizers) != 1:
        raise RuntimeError(
            f"EPIC's line behind the optimiser in Pretrain.py sees {len(optimizers)} optimisers among the variables; "
            "put it behind the line that makes the one"
        )
    (optimizer,), epic = optimizers.values(), model.epic
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    lacking = [name for name, p in epic.named_parameters(prefix="epic") if p.requires_grad and id(p) not in held]
    if lacking:
        raise RuntimeError(f"the optimiser has not {len(lacking)} of EPIC's parameters, for example {lacking[0]}")
    rate = float(epic.run_config["optimizer"]["lr"])
    optimizer.param_groups[:] = epic.own_groups(optimizer.param_groups, rate, head_factor)
    epic.optimizer = optimizer
    return model


class RunState(nn.Module):
    """EPIC's state at the last epoch's end, as bytes in the model's state dict: saved and loaded with the model.

    The launcher gathers it from all processes (:meth:`keep`) before one of them saves. A resumed run goes on from it;
    a run that starts from the weights of the file, with an optimiser that has no state, does not.
    """

    def __init__(self) -> None:
        super().__init__()
        self.data, self.is_loaded = torch.empty(0, dtype=torch.uint8), False

    def get_extra_state(self) -> Tensor:
        return self.data

    def set_extra_state(self, state: Tensor) -> None:
        self.data, self.is_loaded = state.cpu(), state.numel() > 0

    def keep(self, epic: Any) -> None:
        """Every rank must ask."""
        buffer = io.BytesIO()
        torch.save({"epic": epic.run_state(), "steps": epic.steps}, buffer)
        self.data = torch.frombuffer(bytearray(buffer.getvalue()), dtype=torch.uint8)

    def go_on(self, epic: Any) -> None:
        """At the first step.

        Raises:
            ValueError: the run that is resumed had another teacher or another number of processes.
        """
        if self.is_loaded and epic.optimizer.state:
            state = torch.load(io.BytesIO(self.data.numpy().tobytes()), map_location="cpu", weights_only=True)
            epic.load_run_state(state["epic"])
            epic.steps = state["steps"]
        self.is_loaded = False
