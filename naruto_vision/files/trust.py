"""The only place that opens files which could carry code: PyTorch pickles and TorchScript archives.

Everything is read with the restricted unpickler first and last: there is no fall-back to the unsafe one.
"""

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from naruto_vision.errors import FormatError, MissingPathError

_WRAPPERS = ("state_dict", "model", "model_state_dict")


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _read_pickle(path: Path) -> Any:  # noqa: ANN401 - whatever the restricted unpickler allows
    try:
        if _is_torchscript(path):  # OpenAI's own CLIP files; their tensors are read, their code is not run
            return torch.jit.load(str(path), map_location="cpu").state_dict()
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        reason = str(error).split("\n", 1)[0][:160]
        raise FormatError(
            path, "a PyTorch weights file", f"an unreadable one ({reason})", "download it again"
        ) from None


def _unwrap(value: Any) -> Any:  # noqa: ANN401 - the content of somebody's file
    for name in _WRAPPERS:
        if isinstance(value, Mapping) and isinstance(value.get(name), Mapping):
            return value[name]
    return value


def load_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Read the tensors of a weights file: safetensors, ``.pt``, ``.pth``, ``.ckpt`` or a TorchScript archive.

    Args:
        path: The file. A mapping under ``state_dict`` or ``model`` is unwrapped; a ``module.`` prefix is dropped.

    Returns:
        Name to tensor, on the CPU.

    Raises:
        MissingPathError: If there is no such file.
        FormatError: If the file is corrupt, or holds anything but tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingPathError(path, "weights file", "see `naruto-vision weights list`")
    if path.suffix == ".safetensors":
        try:
            return dict(load_file(path))
        except SafetensorError as error:
            raise FormatError(path, "a safetensors file", str(error), "make or download it again") from None
    state = _unwrap(_read_pickle(path))
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise FormatError(path, "a mapping of names to tensors", type(state).__name__)
    return {str(name).removeprefix("module."): value for name, value in state.items()}
