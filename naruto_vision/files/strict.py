"""Strict loading: a weights file fits its architecture key for key, or is refused by name."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from naruto_vision.errors import StateDictError


def load_strictly(model: nn.Module, state: Mapping[str, Tensor], path: str | Path, architecture: str) -> None:
    """Copy a state dict into a model, all of it or nothing; half-precision values are widened.

    Args:
        model: The model that receives the weights.
        state: Name to tensor, any shapes.
        path: Where the weights came from, for the message.
        architecture: The name of the architecture, for the message.

    Raises:
        StateDictError: If a key is missing or left over, or a shape differs.
    """
    own = model.state_dict()
    reshaped = [
        f"{name} ({tuple(state[name].shape)}, {tuple(value.shape)})"
        for name, value in own.items()
        if name in state and state[name].shape != value.shape
    ]
    missing = sorted(own.keys() - state.keys())
    unexpected = sorted(state.keys() - own.keys())
    if missing or unexpected or reshaped:
        raise StateDictError(path, architecture, missing, unexpected, reshaped)
    model.load_state_dict(dict(state))
