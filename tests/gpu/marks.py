"""What every test that needs a GPU carries."""

from __future__ import annotations

import pytest
import torch

ON_GPU = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available(), reason="torch sees no CUDA device here (torch.cuda.is_available)"
    ),
]
