"""Loading the auxiliary masked language model f_L."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import torch
from transformers import AutoConfig, AutoModelForMaskedLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from epic_common.config import EpicConfig
from epic_common.finite import check_weights
from epic_common.language_models.logits import vocabulary_head


def check_generator(config: EpicConfig) -> None:
    """Refuse an ``epic.generator`` that cannot serve as f_L, from its config file alone.

    Raises:
        ValueError: there is none, it has no masked-LM head of a known family, or ``generator_training="trained"`` is
            given without one.
    """
    if config.generator_training == "trained" and not config.generator:
        raise ValueError(
            "epic.generator_training='trained' needs a language model fitted to the captions beforehand: make one with "
            "`python -m epic_common.fit_lm` and name its folder in epic.generator"
        )
    if config.generator:
        try:
            with _no_weights():
                vocabulary_head(AutoModelForMaskedLM.from_config(AutoConfig.from_pretrained(config.generator)))
        except (OSError, ValueError, TypeError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(
                f"epic.generator={config.generator!r}: no masked language model in a folder or on the Hugging Face hub "
                f"under this name ({reason})"
            ) from error


def _no_weights() -> AbstractContextManager[Any]:
    """Within it modules are built without values; with a torch before 2.0, which cannot do so, as ever."""
    meta: Any = torch.device("meta")
    return meta if hasattr(meta, "__enter__") else nullcontext()


def load_language_model(
    config: EpicConfig, text_encoder: str, tokenizer: PreTrainedTokenizerBase
) -> PreTrainedModel | None:
    """Load f_L with its masked-LM head for a run of ``config``; None for the variants that have no language model.

    Args:
        text_encoder: name or path of the baseline's own text encoder, used where ``config.generator`` is "".
        tokenizer: the baseline's tokenizer, whose ids the generator must share.

    Raises:
        ValueError: as :func:`check_generator`; or the tokenizations differ, or a weight is NaN or infinite.
    """
    if config.replacement != "lm":
        return None
    check_generator(config)
    if config.generator:
        _check_same_tokens(config.generator, tokenizer)
    language_model: Any = AutoModelForMaskedLM.from_pretrained(config.generator or text_encoder)
    vocabulary_head(language_model)
    check_weights(language_model, config.generator or text_encoder)
    return cast(PreTrainedModel, language_model)


def _check_same_tokens(name: str, tokenizer: PreTrainedTokenizerBase) -> None:
    theirs, ours = AutoTokenizer.from_pretrained(name).get_vocab(), tokenizer.get_vocab()
    if theirs != ours:
        differing = [token for token, number in ours.items() if theirs.get(token) != number]
        raise ValueError(
            f"epic.generator={name!r} does not share the baseline's token ids: {len(differing)} of {len(ours)} tokens "
            f"differ (for example {differing[:3]}, and it has {len(theirs)}); use a language model of the same tokens"
        )
