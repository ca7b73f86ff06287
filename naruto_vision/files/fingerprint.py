"""One number for a model: it changes with the architecture, the preprocessing or any weight."""

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def model_fingerprint(facts: Mapping[str, Any], state: Mapping[str, Tensor]) -> str:
    """Hash what decides a model's answers.

    Args:
        facts: The values beside the weights (architecture, preprocessing, thresholds).
        state: Name to tensor, any shapes and dtypes.

    Returns:
        64 hexadecimal digits.
    """
    digest = hashlib.sha256(repr(sorted(facts.items())).encode())
    for name, tensor in sorted(state.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
