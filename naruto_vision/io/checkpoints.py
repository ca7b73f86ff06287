"""The only place that opens PyTorch checkpoints and TorchScript archives, with the restricted unpickler.

Everything is read with the restricted unpickler, without a fallback to the unsafe one. ``trust_pickle`` only adds a
short list of harmless types (NumPy numbers, paths, option lists).
"""

import argparse
import pathlib
import pickle
import re
import zipfile
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from naruto_vision.errors import FormatError, MissingPathError

_WRAPPERS = ("state_dict", "model", "model_state_dict")
_UNREADABLE = (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, OSError)


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _harmless() -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """List harmless types in training checkpoints beside tensors; none runs code when unpickled."""
    makers: tuple[Any, ...] = (np.float64(0).__reduce__()[0], np.zeros(1).__reduce__()[0])
    modules = ("numpy.core.multiarray", "numpy._core.multiarray")  # NumPy 1's, and NumPy 2's
    numbers = [(maker, f"{module}.{maker.__name__}") for maker in makers for module in modules]
    kinds = [type(np.dtype(kind)) for kind in ("?", "i1", "u1", "i2", "i4", "i8", "f2", "f4", "f8")]
    paths = [pathlib.PurePosixPath, pathlib.PosixPath, pathlib.PureWindowsPath, pathlib.WindowsPath]
    return [*numbers, np.ndarray, np.dtype, *kinds, *paths, argparse.Namespace, defaultdict]


def _read_pickle(path: Path, *, trusted: bool = False) -> object:
    try:
        if _is_torchscript(path):  # OpenAI's own CLIP files; only their tensors are kept
            archive = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]  # torch.jit has no types
            return archive.state_dict()
        with torch.serialization.safe_globals(_harmless() if trusted else []):
            return torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        raise FormatError(path, "a PyTorch weights file", _found(error), "download it again") from None


def _found(error: Exception) -> str:
    """Describe briefly why the restricted unpickler refused a file."""
    text = " ".join(str(error).split())
    name = re.search(r"(?:GLOBAL|GLOBAL:|class) (\S+) (?:whose module|was not)", text)
    if name:
        return f"one that would run code ({name[1]}), which is refused"
    detail = text.partition("WeightsUnpickler error: ")[2] or text or type(error).__name__
    return f"an unreadable one ({detail[:100]})"


def _unwrap(value: object) -> object:
    for name in _WRAPPERS:
        if isinstance(value, Mapping) and isinstance(value.get(name), Mapping):
            return value[name]
    return value


def load_state_dict(path: str | Path, *, trust_pickle: bool = False) -> dict[str, Tensor]:
    """Read the tensors of a weights file: safetensors, ``.pt``, ``.pth``, ``.ckpt`` or a TorchScript archive."""
    path = Path(path)
    if not path.is_file():
        raise MissingPathError(path, "weights file", "see `naruto-vision weights list`")
    if path.suffix == ".safetensors":
        try:
            return dict(load_file(path))
        except SafetensorError as error:
            raise FormatError(path, "a safetensors file", str(error), "make or download it again") from None
    state = _unwrap(_read_pickle(path, trusted=trust_pickle))
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise FormatError(path, "a mapping of names to tensors", type(state).__name__)
    return {str(name).removeprefix("module."): value for name, value in state.items()}


def check_checkpoint(path: str | Path) -> None:
    """Refuse a Lightning checkpoint that the restricted unpickler cannot read; its tensors are not read in."""
    path = Path(path)
    if not path.is_file():
        raise MissingPathError(path, "checkpoint")
    try:
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except _UNREADABLE as error:
        raise FormatError(path, "a Lightning checkpoint", _found(error), "save or copy it again") from None
    if not isinstance(found, dict) or "state_dict" not in found:
        raise FormatError(path, "a Lightning checkpoint", f"a file without weights ({type(found).__name__})")
