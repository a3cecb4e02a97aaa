"""Grad-CAM of the consistency verdict (docs/method.md §6, Fig. 5): where in the image a token's verdict comes from."""

from __future__ import annotations

import torch
from torch import Tensor


def itc_grad_cam(attention: Tensor, itc_logits: Tensor, token: int) -> Tensor:
    """Attention x positive gradient of the token's ITC logit with respect to it, averaged over heads.

    Args:
        attention: (1, h, n, P), the map of a fusion layer in which text tokens attend to image tokens, with a graph
            to ``itc_logits``.
        itc_logits: (1, n), of D_i.
        token: i.

    Returns:
        (P,) float32, not negative: token i's row over the image tokens.
    """
    (gradient,) = torch.autograd.grad(itc_logits[0, token], attention, retain_graph=True)
    return (attention * gradient.clamp(min=0))[0, :, token].mean(dim=0).detach().float()
