"""The token generators: Eq. 3-5 and 7, and the variants of Table 5 beside each other."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from epic_common.config import EpicConfig
from epic_common.consistency import reduce_tokens
from epic_common.finite import zero_or_nan
from epic_common.language_models.logits import Encode, encode_padded, masked_logits
from epic_common.masked_batch import MaskedBatch
from epic_common.separator import append_sep
from epic_common.vocabulary import Vocabulary

_NO_TARGET = -100


@dataclass(frozen=True)
class Proposal:
    """What a generator proposes for the K masked positions, in row-major order."""

    places: Tensor  # (K,) int64, those positions in (B·n)
    tokens: Tensor  # (K,) int64, the drawn replacements; the original at a place that is not in M after all
    loss: Tensor  # () float32, L_GEN (Eq. 7); of a generator that is not trained 0, or NaN if its logits are not finite
    correct: Tensor | None  # (K,) bool, whether the likeliest token is the original; None without a model


class TokenGenerator(nn.Module):
    """The interface that the variants share."""

    def propose(self, batch: MaskedBatch, rng: torch.Generator) -> Proposal:
        """Draw one replacement for every masked position.

        Args:
            rng: on the device of the batch.

        Raises:
            ValueError: what the variant needs is missing.
        """
        raise NotImplementedError


class UniformGenerator(TokenGenerator):
    """ "ITC (rand.)": replacements uniform over the vocabulary."""

    allowed: Tensor

    def __init__(self, vocabulary: Vocabulary, config: EpicConfig) -> None:
        super().__init__()
        allowed = (~_forbidden(vocabulary.size, vocabulary, config)).nonzero().squeeze(1)
        self.register_buffer("allowed", allowed, persistent=False)

    def propose(self, batch: MaskedBatch, rng: torch.Generator) -> Proposal:
        (places, real), device = batch.places(), batch.ids.device
        rows = torch.randint(len(self.allowed), places.shape, generator=rng, device=device)
        drawn = self.allowed.to(device)[rows]
        return Proposal(places, drawn_or_own(drawn, batch.ids, places, real), torch.zeros((), device=device), None)


class LanguageModelGenerator(TokenGenerator):
    """f_L, the masked language model: "LM (fine-tune)", "LM (fixed)" and "LM (trained)".

    One forward serves the draws and L_GEN. A frozen one stays in eval mode, takes no gradient and has no L_GEN.
    ``encode`` runs its encoder; a baseline may know a cheaper way than the encoder's own forward.
    """

    forbidden: Tensor

    def __init__(
        self,
        language_model: PreTrainedModel,
        vocabulary: Vocabulary,
        config: EpicConfig,
        encode: Encode = encode_padded,
    ) -> None:
        super().__init__()
        self.language_model, self.vocabulary, self.config, self.encode = language_model, vocabulary, config, encode
        size = language_model.config.vocab_size
        if size < vocabulary.size:
            raise ValueError(
                f"the generator knows {size} tokens and the baseline's tokenizer has {vocabulary.size}: "
                "use a language model of the same tokenizer"
            )
        self.register_buffer("forbidden", _forbidden(size, vocabulary, config), persistent=False)
        if not config.trains_generator:
            language_model.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> LanguageModelGenerator:
        """f_L is switched where its mode changes alone: a switch can be dear (transformers 5.25 looks for kernels)."""
        self.training = mode
        drops = mode and self.config.trains_generator and self.config.generator_dropout
        for part in self.children():
            wanted = drops if part is self.language_model else mode
            if part.training != wanted:
                part.train(wanted)
        return self

    def first_embedding(self, image_cls: Tensor | None) -> Tensor | None:
        """What replaces the input embedding of the first token: nothing, but in "LM (cond.)"."""
        return None

    def propose(self, batch: MaskedBatch, rng: torch.Generator) -> Proposal:
        places, real = batch.places()
        trained = self.config.trains_generator
        with torch.set_grad_enabled(trained and torch.is_grad_enabled()):
            sentence = batch.sentences(self.vocabulary.mask_id)  # Eq. 3
            first = self.first_embedding(batch.image_cls)
            logits = self.logits(sentence, batch.mask, places, first, batch.encode)
            targets = batch.ids.flatten()[places].masked_fill(~real, _NO_TARGET)
            loss = F.cross_entropy(logits, targets, reduction="sum", ignore_index=_NO_TARGET)  # Eq. 7
            loss = reduce_tokens(loss, batch.masked.sum(), len(batch.ids), self.config.generator_reduction)
        tokens = draw_tokens(logits, self.forbidden, self.config.sampling_temperature, rng)
        loss = loss if trained else zero_or_nan(loss.isfinite())
        tokens = drawn_or_own(tokens, batch.ids, places, real)
        return Proposal(places, tokens, loss, logits.argmax(dim=-1) == targets)

    def logits(
        self,
        sentence: Tensor,
        mask: Tensor,
        places: Tensor,
        first_embedding: Tensor | None = None,
        encode: Encode | None = None,
    ) -> Tensor:
        """Eq. 4: float32 logits (K, V) of f_L on the masked sentence, at M's ``places`` (K,) in (B·n).

        ``encode`` gets the sentence as f_L reads it, with its [SEP] if one is appended.
        """
        if self.config.append_sep:
            places = places + places // sentence.shape[1]  # a column more in every row
            sentence, mask = append_sep(sentence, mask, self.vocabulary)
        encode = encode or self.encode
        return masked_logits(self.language_model, sentence, mask, places, first_embedding, encode).float()


class ConditionedGenerator(LanguageModelGenerator):
    """ "LM (cond.)": the first token's input embedding is the student's image [CLS] feature, gradient stopped.

    Args:
        image_width: width of that feature; a linear map, trained by L_GEN, is put in where the LM's width differs.
    """

    def __init__(
        self, language_model: PreTrainedModel, vocabulary: Vocabulary, config: EpicConfig, image_width: int
    ) -> None:
        super().__init__(language_model, vocabulary, config)
        width = language_model.config.hidden_size
        self.image_map = nn.Identity() if width == image_width else nn.Linear(image_width, width)

    def first_embedding(self, image_cls: Tensor | None) -> Tensor:
        if image_cls is None:
            raise ValueError(
                "epic.image_conditioned=True: corrupt() needs image_cls, the student's image [CLS] feature"
            )
        return self.image_map(image_cls.detach())


class VisionLanguageGenerator(TokenGenerator):
    """ "VLM (SAS)": an earlier snapshot of the student with its MLM head, which sees the image; not trained itself."""

    def __init__(self, vocabulary: Vocabulary, config: EpicConfig) -> None:
        super().__init__()
        self.vocabulary, self.config = vocabulary, config

    @torch.no_grad()
    def propose(self, batch: MaskedBatch, rng: torch.Generator) -> Proposal:
        if batch.snapshot_logits is None:
            raise ValueError("epic.replacement='vlm': corrupt() needs snapshot_logits, those of the student's snapshot")
        (places, real), ids = batch.places(), batch.ids
        logits = batch.snapshot_logits(batch.sentences(self.vocabulary.mask_id), places).float()
        forbidden = _forbidden(logits.shape[-1], self.vocabulary, self.config)
        tokens = draw_tokens(logits, forbidden.to(ids.device), self.config.sampling_temperature, rng)
        correct = (logits.argmax(dim=-1) == ids.flatten()[places]) & real
        tokens = drawn_or_own(tokens, ids, places, real)
        return Proposal(places, tokens, zero_or_nan(logits.isfinite().all()), correct)


def build_generator(
    config: EpicConfig,
    vocabulary: Vocabulary,
    language_model: PreTrainedModel | None = None,
    image_width: int | None = None,
    encode: Encode = encode_padded,
) -> TokenGenerator:
    """The generator of the variant that ``config`` describes.

    Args:
        language_model: f_L where ``config.replacement == "lm"``, from ``load_language_model``.
        image_width: width of the student's image [CLS] feature, for ``config.image_conditioned``.
        encode: runs f_L's encoder; a code base may know a cheaper way than the encoder's own forward.

    Raises:
        ValueError: the parts do not fit the configuration.
    """
    if (config.replacement == "lm") != (language_model is not None):
        needed = "needs" if config.replacement == "lm" else "takes no"
        raise ValueError(f"epic.replacement={config.replacement!r} {needed} language_model")
    if config.replacement == "vlm":
        return VisionLanguageGenerator(vocabulary, config)
    if language_model is None:
        return UniformGenerator(vocabulary, config)
    if not config.image_conditioned:
        return LanguageModelGenerator(language_model, vocabulary, config, encode)
    if image_width is None:
        raise ValueError("epic.image_conditioned=True needs image_width, the width of the image [CLS] feature")
    return ConditionedGenerator(language_model, vocabulary, config, image_width)


@torch.no_grad()
def draw_tokens(logits: Tensor, forbidden: Tensor, temperature: float, rng: torch.Generator) -> Tensor:
    """Eq. 5: one token per masked position from the full softmax; no gradient flows through the draw.

    A race of exponentials: with E_v ~ Exp(1), the v of the largest p_v / E_v is distributed as p. ``torch.multinomial``
    runs the same one, but has the host wait for checks of p first.

    Args:
        logits: (K, V); a row whose softmax is NaN is drawn from as if all its tokens were alike.
        forbidden: (V,) bool, the tokens that are never drawn.
        temperature: of the softmax.

    Returns:
        (K,) int64.
    """
    probabilities = (logits.float() / temperature).masked_fill(forbidden, -torch.inf).softmax(dim=-1)
    probabilities = torch.where(probabilities.isnan(), ~forbidden, probabilities)
    return (probabilities / torch.empty_like(probabilities).exponential_(generator=rng)).argmax(dim=-1)


def drawn_or_own(tokens: Tensor, ids: Tensor, places: Tensor, real: Tensor) -> Tensor:
    """Drawn tokens (K,) in the type of ids (B, n), and the original at the places that are not in M."""
    return torch.where(real, tokens.to(ids.dtype), ids.flatten()[places])


def _forbidden(size: int, vocabulary: Vocabulary, config: EpicConfig) -> Tensor:
    """(size,) bool: special tokens, and columns of a padded vocabulary that the baseline has no token for."""
    forbidden = torch.arange(size) >= vocabulary.size
    if not config.draw_special_tokens:
        forbidden[list(vocabulary.special_ids)] = True
    return forbidden
