"""Eq. 4: vocabulary logits of the masked language model f_L, at the masked positions only."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

# Attribute that holds the masked-LM head, by family: BERT's and RoBERTa's (XLM-R and CamemBERT share the latter).
_HEADS = ("cls", "lm_head")


def vocabulary_head(language_model: nn.Module) -> nn.Module:
    """The module that maps hidden states (..., d) to vocabulary logits (..., V).

    Raises:
        TypeError: the model is neither of the BERT nor of the RoBERTa family, or has no masked-LM head.
    """
    for name in _HEADS:
        head = getattr(language_model, name, None)
        if isinstance(head, nn.Module):
            return head
    raise TypeError(
        f"{type(language_model).__name__} has none of the masked-LM heads {_HEADS}: EPIC's generator needs a masked "
        "language model of the BERT or RoBERTa family, as AutoModelForMaskedLM loads it"
    )


# (encoder, ids (B, n), mask (B, n)) -> its last hidden states (B, n, d); what stands at padding does not matter.
Encode = Callable[[PreTrainedModel, Tensor, Tensor], Tensor]


def encode_padded(encoder: PreTrainedModel, ids: Tensor, mask: Tensor) -> Tensor:
    """The encoder's own forward."""
    return encoder(input_ids=ids, attention_mask=mask).last_hidden_state


def masked_logits(
    language_model: PreTrainedModel,
    ids: Tensor,
    mask: Tensor,
    places: Tensor,
    first_embedding: Tensor | None = None,
    encode: Encode = encode_padded,
) -> Tensor:
    """Vocabulary logits of a masked language model at the positions in M, and nowhere else.

    Equal to the model's full forward at those positions.

    Args:
        language_model: a Hugging Face masked LM of the BERT or RoBERTa family.
        ids: (B, n) token ids, already masked (Eq. 3).
        mask: (B, n), 1 = a real token.
        places: (K,) int64, M as places in (B·n).
        first_embedding: (B, d), what replaces the word embedding of token 0 ("LM (cond.)"), or None.
        encode: a baseline's cheaper way to the same states; without ``first_embedding`` only.

    Returns:
        (K, V), in the order of ``places``.
    """
    if first_embedding is None:
        states = encode(cast(PreTrainedModel, language_model.base_model), ids, mask)
    else:
        embeddings = language_model.get_input_embeddings()(ids)
        embeddings = torch.cat([first_embedding.to(embeddings.dtype)[:, None], embeddings[:, 1:]], dim=1)
        states = _encode_embedded(cast(PreTrainedModel, language_model.base_model), embeddings, mask)
    return vocabulary_head(language_model)(states.flatten(0, 1).index_select(0, places))


def _encode_embedded(encoder: PreTrainedModel, words: Tensor, mask: Tensor) -> Tensor:
    """The encoder's last hidden states for word embeddings (B, n, d), mask (B, n), 1 = a real token.

    Without the encoder's own forward, which reads on the host whether the mask hides anything.
    """
    states = encoder.get_submodule("embeddings")(inputs_embeds=words)
    hidden = (mask == 0)[:, None, None].expand(-1, 1, mask.shape[1], -1)
    added = torch.zeros_like(hidden, dtype=states.dtype).masked_fill(hidden, torch.finfo(states.dtype).min)
    return encoder.get_submodule("encoder")(states, attention_mask=added).last_hidden_state
