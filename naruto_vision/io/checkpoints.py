"""The only place that opens PyTorch checkpoints and TorchScript archives, with the restricted unpickler.

Everything is read with the restricted unpickler, without a fallback to the unsafe one. ``trust_pickle`` only adds a
short list of harmless types (NumPy numbers, paths, option lists). The code of a TorchScript archive is searched for the
names of its parameters and buffers, and never run. What a file states is compared with its size before anything is
allocated.
"""

import argparse
import io
import pathlib
import pickle
import pickletools
import re
import struct
import zipfile
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from pathlib import Path, PurePath
from typing import Any, BinaryIO

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from naruto_vision.errors import FormatError, MissingPathError

_WRAPPERS = ("state_dict", "model", "model_state_dict")
_NO_CHECKPOINT = (LookupError, TypeError, AttributeError, AssertionError, ArithmeticError)  # of another pickle
_NO_FILE = (pickle.UnpicklingError, zipfile.BadZipFile, struct.error, RuntimeError, EOFError, ValueError, OSError)
_UNREADABLE = (*_NO_FILE, MemoryError, *_NO_CHECKPOINT)
MISFITS = (RuntimeError, LookupError, TypeError, ValueError, AttributeError)
"""What the state of another model raises where it is converted or loaded."""
MAX_TENSORS = 20_000
"""The largest published models have about 2,000, and a training checkpoint three times as many."""
_HEADER_BYTES = 200 * MAX_TENSORS  # of a safetensors file
_CALLS = frozenset({"REDUCE", "NEWOBJ", "BUILD"})  # of a pickle; a tensor takes up to three
_LEGACY_PICKLES = 5  # one after the other in a file of torch.save before PyTorch 1.6
_SOURCE_BYTES = 50_000_000  # of a TorchScript archive, where it is compressed
_SCRIPT_CLASS = re.compile(
    r"^class (\w+)\(Module\):\n  (__parameters__ = \[.*\]\n  __buffers__ = \[.*\])\n", re.MULTILINE
)
_SCRIPT_LISTS = ("build_boollist", "build_doublelist", "build_intlist", "build_tensorlist")


class _ScriptObject:
    """An object of a TorchScript archive with its attributes; ``saved`` names its parameters and buffers."""

    saved: Collection[str] = ()

    def __setstate__(self, attributes: object) -> None:
        if not isinstance(attributes, dict):
            msg = "a TorchScript module that only its own code can restore; save its state_dict() with torch.save"
            raise pickle.UnpicklingError(msg)
        self.attributes = attributes


def _tensors_of(module: _ScriptObject) -> dict[str, Tensor]:
    """Return the state dict of a TorchScript module: parameters and buffers, by their dotted names."""
    found: dict[str, Tensor] = {}
    waiting, opened = [("", module)], 0
    while waiting:
        prefix, one = waiting.pop()
        opened += 1
        for name, value in one.attributes.items():
            if isinstance(value, Tensor) and name in one.saved:
                found[f"{prefix}{name}"] = value.detach()
            elif isinstance(value, _ScriptObject):
                waiting.append((f"{prefix}{name}.", value))
        if opened + len(found) + len(waiting) > MAX_TENSORS:
            raise ValueError(f"more than {MAX_TENSORS} tensors and modules")
    return found


def _check_pickles(stream: BinaryIO, count: int = 1) -> set[str]:
    """Refuse pickles that make too many objects, or allocate by a stated number; return the globals that they name."""
    calls, names = 0, set()
    for _ in range(count):
        for operation, argument, _ in pickletools.genops(stream):
            calls += operation.name in _CALLS
            if operation.name == "GLOBAL":
                names.add(str(argument).replace(" ", "."))
            if calls > 3 * MAX_TENSORS or {"builtins.bytearray", "__builtin__.bytearray"} & names:
                raise ValueError(f"a bytearray, or more than {MAX_TENSORS} tensors")
    return names


def _load_pickle(path: Path, *, mmap: bool = False) -> object:
    """Load a file of ``torch.save`` or ``torch.jit.save``, after checking what it states against its size."""
    if not zipfile.is_zipfile(path):
        with path.open("rb") as stream:
            _check_pickles(stream, _LEGACY_PICKLES)
        return torch.load(path, map_location="cpu", weights_only=True)
    with path.open("rb") as stream:
        stream.seek(-min(path.stat().st_size, 1 << 16), io.SEEK_END)
        end = stream.read().rpartition(b"PK\x05\x06")[2]
    if (count := int.from_bytes(end[6:8], "little")) > MAX_TENSORS:  # before the list of them is read
        raise ValueError(f"{count} or more tensors instead of at most {MAX_TENSORS}")
    with zipfile.ZipFile(path) as archive:
        members = [member for member in archive.infolist() if "/code/" not in member.filename]
        stored = all(member.compress_type == zipfile.ZIP_STORED for member in members)
        if not stored or sum(member.file_size for member in members) > path.stat().st_size:
            raise ValueError("compressed or overlapping tensors, which torch.save does not write")
        data = next((one.filename for one in members if PurePath(one.filename).name == "data.pkl"), "")
        names = _check_pickles(io.BytesIO(archive.read(data)))
        root = data.removesuffix("data.pkl")
        if f"{root}constants.pkl" not in archive.namelist():
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
        saved = _saved_names(archive, f"{root}code/")
        plain = io.BytesIO()  # without its code and constants it is an ordinary checkpoint
        with zipfile.ZipFile(plain, "w") as copy:
            for member in members:
                if member.filename != f"{root}constants.pkl":
                    copy.writestr(member, archive.read(member))
    plain.seek(0)
    stand_ins: list[Any] = [
        (type("ScriptObject", (_ScriptObject,), {"saved": saved.get(name, ())}), name)
        for name in names
        if name.startswith("__torch__.")
    ]
    stand_ins += [(list, f"torch.jit._pickle.{name}") for name in _SCRIPT_LISTS]
    with torch.serialization.safe_globals([*stand_ins, (_untagged, "torch.jit._pickle.restore_type_tag")]):
        module = torch.load(plain, map_location="cpu", weights_only=True)
    return _tensors_of(module) if isinstance(module, _ScriptObject) else module


def _saved_names(archive: zipfile.ZipFile, root: str) -> dict[str, frozenset[str]]:
    """Return the names of parameters and buffers by the qualified name of their class, as the sources declare them."""
    found = {}
    sources = [one for one in archive.infolist() if one.filename.startswith(root) and one.filename.endswith(".py")]
    if sum(source.file_size for source in sources) > _SOURCE_BYTES:
        raise ValueError(f"more than {_SOURCE_BYTES} bytes of code")
    for source in sources:
        module = source.filename.removeprefix(root).removesuffix(".py").replace("/", ".")
        for name, names in _SCRIPT_CLASS.findall(archive.read(source).decode("utf-8", "replace")):
            found[f"{module}.{name}"] = frozenset(re.findall(r'"(.*?)"', names))
    return found


def _untagged(value: object, _kind: str) -> object:
    return value


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
        with torch.serialization.safe_globals(_harmless() if trusted else []):
            return _load_pickle(path)
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
        with path.open("rb") as file:
            header = int.from_bytes(file.read(8), "little")
        try:
            if _HEADER_BYTES < header < path.stat().st_size:  # the library checks all other sizes
                raise FormatError(path, f"at most {MAX_TENSORS} tensors", f"a header of {header} bytes")
            return dict(load_file(path))
        except SafetensorError as error:
            raise FormatError(path, "a safetensors file", str(error), "make or download it again") from None
    state = _unwrap(_read_pickle(path, trusted=trust_pickle))
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise FormatError(path, "a mapping of names to tensors", type(state).__name__)
    check_dense(path, state)
    return {str(name).removeprefix("module."): value for name, value in state.items()}


def check_dense(path: Path, state: Mapping[str, Tensor]) -> None:
    """Refuse tensors that cannot be copied into a parameter: sparse, quantised, nested, and those of ``meta``."""
    for name, value in state.items():
        odd = {"without values": value.is_meta, "quantised": value.is_quantized, "nested": value.is_nested}
        odd[str(value.layout)] = value.layout != torch.strided
        if kinds := [kind for kind, found in odd.items() if found]:
            raise FormatError(
                path, "dense tensors", f"{name}: {', '.join(kinds)}", "save dense tensors of one float type"
            )


def check_checkpoint(path: str | Path) -> None:
    """Refuse a Lightning checkpoint that the restricted unpickler cannot read; its tensors are not read in."""
    path = Path(path)
    if not path.is_file():
        raise MissingPathError(path, "checkpoint")
    try:
        found = _load_pickle(path, mmap=True)
    except _UNREADABLE as error:
        raise FormatError(path, "a Lightning checkpoint", _found(error), "save or copy it again") from None
    if not isinstance(found, dict) or "state_dict" not in found:
        raise FormatError(path, "a Lightning checkpoint", f"a file without weights ({type(found).__name__})")


def check_callback_states(path: str | Path, states: object) -> None:
    """Refuse the callbacks' states of a checkpoint if they name files outside of their own checkpoint folder.

    ``ModelCheckpoint`` deletes files that its state names.
    """
    for state in states.values() if isinstance(states, Mapping) else ():
        if not isinstance(state, Mapping):
            continue
        folder, best = state.get("dirpath"), state.get("best_k_models")
        files = [value for key, value in state.items() if str(key).endswith("_model_path") and value]
        for file in (*files, *(best if isinstance(best, Mapping) else ())):
            if not _is_inside(file, folder):
                expected = f"a checkpoint whose callbacks name files in their folder {folder}"
                raise FormatError(path, expected, f"{file!r}"[:200], "resume from a checkpoint of a run of yours")


def _is_inside(file: object, folder: object) -> bool:
    if not isinstance(file, str) or not isinstance(folder, str) or "://" in file or "::" in file:
        return False  # another file system's path is deleted without a question
    inside = PurePath(file).relative_to(folder).parts if PurePath(file).is_relative_to(folder) else ()
    return bool(inside) and ".." not in inside
