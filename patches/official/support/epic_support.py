"""What the support files of EPIC share; it lies beside them in a patched checkout and imports EPIC when that is on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

LOG_EVERY = 10  # optimiser steps between two logs of EPIC's metrics

# Every field of epic_common.config.EpicConfig, which says what each means.
_DEFAULTS = {
    "enabled": False,
    "masking": "saliency",
    "mask_ratio": 0.35,
    "teacher": "checkpoint",
    "teacher_decay": 0.995,
    "saliency_layer": -2,
    "saliency_temperature": 1.0,
    "surprise_passes": 3,
    "mask_special_tokens": False,
    "replacement": "lm",
    "generator": "",
    "generator_training": "finetune",
    "image_conditioned": False,
    "generator_dropout": True,
    "sampling_temperature": 1.0,
    "draw_special_tokens": False,
    "append_sep": None,
    "sas_refresh_steps": 0,
    "itc_weight": 8.0,
    "itc_reduction": "mean_tokens",
    "itc_head": "linear",
    "itc_head_bias": True,
    "itc_special_tokens": False,
    "generator_weight": 1.0,
    "generator_reduction": "mean_tokens",
    "itc_head_lr_mult": 0.0,
    "generator_lr_mult": 1.0,
}


def default_keys() -> dict[str, Any]:
    """The keys ``epic.*`` of a sacred config, switched off."""
    return dict(_DEFAULTS)


def is_on(config: Mapping[str, Any]) -> bool:
    """Whether a run has EPIC; a config without its keys has not."""
    return bool((config.get("epic") or {}).get("enabled", False))


def outputs_during(run: Callable[[], Any], *modules: nn.Module) -> list[Any]:
    """What each of the modules gives when ``run`` last calls it.

    Raises:
        RuntimeError: ``run`` calls one of them never: the checkout's model is another than the patch knows.
    """
    kept: dict[nn.Module, Any] = {}
    hooks = [module.register_forward_hook(lambda own, _, output: kept.__setitem__(own, output)) for module in modules]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    if len(kept) < len(modules):
        raise RuntimeError("EPIC's hooks on the teacher's attention were not reached: does the model fuse otherwise?")
    return [kept[module] for module in modules]


class FirstOutputs:
    """What calls of a step made of their first argument, so that one more call with the same one costs nothing.

    A plain object: nothing of it is in the model's state dict.
    """

    def __init__(self) -> None:
        self._calls: list[tuple[Any, Any]] = []

    def keep(self, given: Any, output: Any) -> None:
        """Note a call; of a step only the first few, so that a pass without EPIC holds no more than those."""
        self._calls = [*self._calls, (given, output)][:2]

    def take(self, given: Any) -> Any:
        """The output that ``given`` itself had in this step, None if it had none; the step's calls are forgotten."""
        found = next((output for own, output in self._calls if own is given), None)
        self._calls = []
        return found


@contextmanager
def answering(module: nn.Module, output: Any) -> Iterator[None]:
    """Within the block ``module`` gives ``output`` whatever it is called with."""
    module.forward = lambda *_, **__: output
    try:
        yield
    finally:
        del module.forward


def heads_apart(states: Tensor, heads: int) -> Tensor:
    """(B, n, d) -> (B, h, n, d_h)."""
    return states.unflatten(-1, (heads, -1)).transpose(1, 2)


# A frozen model of the checkout's own class ----------------------------------------------------------------


def frozen_copy(questions: type, own: type, config: dict[str, Any]) -> Any:
    """A model of the checkout's class ``own`` that also answers what EPIC asks.

    It has its config in ``run_config`` and, in ``epic_missing``, what the file that it loaded gave it no weights for.
    """

    def load_state_dict(self: Any, state_dict: Any, *args: Any, **options: Any) -> Any:
        result = super(made, self).load_state_dict(state_dict, *args, **options)
        self.epic_missing = list(result.missing_keys)
        return result

    extra = {"load_state_dict": load_state_dict, "run_config": config}
    made: Any = type(f"Teacher{own.__name__}", (questions, own), extra)
    return made(config)


def build(model: Any, config: dict[str, Any], settings: Any, questions: type, layers: int, **of_teacher: Any) -> None:
    """Give a LightningModule of METER or ViLT its ``epic``, which has the run's config and the images of a step.

    Args:
        settings: an EpicConfig.
        questions: what EPIC asks of the frozen model, for :func:`frozen_copy`.
        layers: how many fuse.
        of_teacher: keys of the config that are others for the frozen model.

    Raises:
        ValueError: a key that EPIC cannot run with, or a teacher or language model that does not fit.
    """
    from epic_common.checkout import build_checkout_epic

    check_tasks(config["loss_names"], settings.replacement)
    check_layer(settings.saliency_layer, layers)
    sas, path = settings.replacement == "vlm", config["teacher_path"]

    def new_teacher() -> nn.Module:
        heads = {task: int(task == "mlm" and sas) for task in config["loss_names"]}
        own = {**config, "epic": {}, "loss_names": heads, "load_path": path, "test_only": False, **of_teacher}
        teacher: nn.Module = frozen_copy(questions, type(model), own)
        check_loaded(teacher, path, () if sas else ("mlm_score.",))
        return teacher

    width = config["hidden_size"]
    model.epic = build_checkout_epic(settings, config["tokenizer"], width, width, config["seed"], path, new_teacher)
    model.epic.run_config, model.epic.images = config, FirstOutputs()


def check_loaded(teacher: Any, path: str, unread: tuple[str, ...]) -> None:
    """Refuse a teacher that ``path`` gave nothing, or not all that is read; ``unread`` are prefixes of the rest.

    Raises:
        ValueError: naming a weight that the file lacks.
    """
    missing = getattr(teacher, "epic_missing", None)
    if missing is None:
        raise ValueError(f"teacher_path={path} was not read by the checkout's own loading of load_path")
    names = {name for name, _ in teacher.named_parameters() if not name.startswith(unread)}
    lacking = sorted(names.intersection(missing))
    if lacking:
        raise ValueError(
            f"teacher_path={path} lacks {len(lacking)} of the weights that the teacher reads, for example "
            f"{lacking[0]!r}; give a checkpoint of this model's pre-training"
        )


def check_layer(layer: int, layers: int) -> None:
    """Refuse ``epic.saliency_layer`` that counts further than there are layers.

    Raises:
        ValueError: naming both.
    """
    if not -layers <= layer < layers:
        raise ValueError(f"epic.saliency_layer is {layer}; the model has {layers} fusion layers")


# In a LightningModule --------------------------------------------------------------------------------------


def check_tasks(loss_names: Mapping[str, Any], replacement: str) -> None:
    """Refuse a run whose tasks are none of pre-training, or lack the MLM that "VLM (SAS)" draws words from.

    Raises:
        ValueError: naming the key.
    """
    trained = {task for task, value in loss_names.items() if value > 0}
    if not trained & {"mlm", "itm"} or trained - {"mlm", "itm", "mpp"}:
        raise ValueError("epic.enabled: EPIC is a pre-training objective; fine-tune its checkpoint without it")
    if replacement == "vlm" and "mlm" not in trained:
        raise ValueError("epic.replacement='vlm' needs loss_names.mlm=1: the student's MLM head proposes the words")


def refresh(model: Any) -> None:
    """Before a batch: renew the snapshot of "VLM (SAS)" if it is due."""
    snapshot = model.epic.snapshot
    if snapshot is not None and model.training and model.global_step > snapshot.refreshed_at:
        trainer = model.trainer
        steps = int(trainer.num_training_batches) // trainer.accumulate_grad_batches
        model.epic.refresh(model, model.global_step, steps)


def log_metrics(model: Any) -> None:
    """After a batch: give the metrics that are due to the checkout's own logger, as ``epic/<phase>/<metric>``."""
    logger = model.logger if model.training else None
    if logger is None:
        return
    for phase, values in model.epic.metrics_due(model.global_step, LOG_EVERY).items():
        named = {f"epic/{phase}/{name}": value for name, value in values.items()}
        logger.log_metrics(named, step=model.global_step)


def save_state(model: Any, checkpoint: dict[str, Any]) -> None:
    """Hook ``on_save_checkpoint``: EPIC's state beside the weights, in the form of our own checkpoints."""
    if getattr(model, "epic", None) is not None:
        checkpoint["epic"] = model.epic.run_state()


def load_state(model: Any, checkpoint: dict[str, Any]) -> None:
    """Hook ``on_load_checkpoint``: go on from what :func:`save_state` kept, if it did.

    Raises:
        ValueError: the run had another teacher or another number of processes.
    """
    if getattr(model, "epic", None) is not None and checkpoint.get("epic") is not None:
        model.epic.load_run_state(checkpoint["epic"])
