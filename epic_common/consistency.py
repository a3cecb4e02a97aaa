"""The image-token consistency task: Eq. 1 (the head) and Eq. 2 (the loss)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class ConsistencyHead(nn.Module):
    """Eq. 1: D_i = sigmoid(beta · h_i), the probability that token i is consistent with the image.

    Args:
        d: width of the text states.
        bias: whether beta · h_i gets a bias.
        dense: ELECTRA's form, a dense layer and a GELU before beta.
    """

    def __init__(self, d: int, bias: bool = True, dense: bool = False) -> None:
        super().__init__()
        self.dense = nn.Linear(d, d) if dense else None
        self.beta = nn.Linear(d, 1, bias=bias)
        for layer in (self.dense, self.beta):
            if layer is not None:
                nn.init.normal_(layer.weight, std=0.02)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, text_states: Tensor) -> Tensor:
        """(B, n, d) last-layer text states -> (B, n) logits of D_i."""
        if self.dense is not None:
            text_states = F.gelu(self.dense(text_states))
        return self.beta(text_states).squeeze(-1)


def itc_loss(logits: Tensor, replaced: Tensor, valid: Tensor, reduction: str = "mean_tokens") -> Tensor:
    """Eq. 2: L_ITC = -sum_{i not in T} log D_i - sum_{i in T} log(1 - D_i), over every valid token.

    In float32 under autocast. 0 with a gradient graph where no token is valid, never NaN.

    Args:
        logits: (B, n), of D_i.
        replaced: (B, n) bool, T.
        valid: (B, n) bool, the tokens that are judged: masked or not, but no padding.
        reduction: "mean_tokens" over the batch's valid tokens, or "sum_per_sentence": Eq. 2's sum, averaged over B.

    Returns:
        () float32.
    """
    consistent = (~replaced).float()  # the target of D_i
    per_token = F.binary_cross_entropy_with_logits(
        logits.float().masked_fill(~valid, 0.0), consistent, reduction="none"
    ).masked_fill(~valid, 0.0)
    return reduce_tokens(per_token.sum(), valid.sum(), len(logits), reduction)


def reduce_tokens(total: Tensor, tokens: Tensor, sentences: int, reduction: str) -> Tensor:
    """A sum over tokens as the mean over ``tokens`` ("mean_tokens") or over ``sentences`` ("sum_per_sentence")."""
    if reduction == "mean_tokens":
        return total / tokens.clamp(min=1)
    if reduction == "sum_per_sentence":
        return total / max(sentences, 1)
    raise ValueError(f"reduction is {reduction!r}; it must be 'mean_tokens' or 'sum_per_sentence'")
