"""What ``doctor`` looks at: facts only, without judging them."""

import importlib
import importlib.metadata
import json
import os
import platform
import re
import shutil
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from naruto_vision.errors import MissingPathError
from naruto_vision.files.hashing import file_sha256
from naruto_vision.files.machine import allowed_cpus, cpu_features
from naruto_vision.files.share import bundle_path

BUNDLES = ("tiny-clip", "tiny-sam")

_ALSO = ("pytorch-lightning", "faiss-cpu", "faiss-gpu")
_MODULES = ("torch", "numpy", "cv2", "faiss")
_OPENMP = re.compile(r"/lib(gomp|omp|iomp5)[^/]*\.so")


@dataclass(frozen=True)
class Facts:
    """What was found on this machine.

    Args:
        versions: Package → installed version, "" where a required one is missing.
        required: Package → the versions that are supported, as a specifier.
        faults: Module → why it cannot be imported.
        cpus: CPUs that this process may use.
        threads: ``OMP_NUM_THREADS``, 0 where it is not set.
        features: Vector unit → whether the CPU has it.
        gpu: The name of the GPU that torch uses, or "".
        gpu_driver: Whether an NVIDIA driver is loaded.
        openmp: OpenMP runtimes in this process, as paths.
        duplicates_allowed: Whether ``KMP_DUPLICATE_LIB_OK`` is set.
        weights: Packaged bundle → "ok", or what is wrong with it.
        free_gb: Folder → free space in units of 1e9 bytes.
        writable: Folder → whether files can be made in it.
    """

    versions: dict[str, str] = field(default_factory=dict)
    required: dict[str, str] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    cpus: int = 1
    threads: int = 0
    features: dict[str, bool] = field(default_factory=dict)
    gpu: str = ""
    gpu_driver: bool = False
    openmp: tuple[str, ...] = ()
    duplicates_allowed: bool = False
    weights: dict[str, str] = field(default_factory=dict)
    free_gb: dict[str, float] = field(default_factory=dict)
    writable: dict[str, bool] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the facts as JSON values."""
        return asdict(self)


def gather_facts() -> Facts:
    """Look at this machine and this installation."""
    required = _requirements()
    faults = {name: fault for name in _MODULES if (fault := _import_fault(name))}
    folders = {"here": Path.cwd(), "temporary": Path(tempfile.gettempdir())}
    return Facts(
        versions={name: _version(name) for name in ("naruto-vision", *required, *_ALSO)}
        | {"python": platform.python_version()},
        required=required,
        faults=faults,
        cpus=allowed_cpus(),
        threads=_number(os.environ.get("OMP_NUM_THREADS", "")),
        features=cpu_features(),
        gpu="" if "torch" in faults else _gpu_name(),
        gpu_driver=Path("/proc/driver/nvidia/version").exists(),
        openmp=openmp_runtimes(Path("/proc/self/maps")),
        duplicates_allowed="KMP_DUPLICATE_LIB_OK" in os.environ,
        weights={name: bundle_state(name) for name in BUNDLES},
        free_gb={f"{name} ({path})": shutil.disk_usage(path).free / 1e9 for name, path in folders.items()},
        writable={f"{name} ({path})": os.access(path, os.W_OK) for name, path in folders.items()},
    )


def _number(text: str) -> int:
    first = text.partition(",")[0]
    return int(first) if first.isdigit() else 0


def _requirements() -> dict[str, str]:
    """Return this package's own requirements, without those of its extras."""
    listed = [Requirement(line) for line in importlib.metadata.requires("naruto-vision") or []]
    return {item.name: str(item.specifier) for item in listed if item.marker is None}


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _import_fault(name: str) -> str:
    """Import a module and say why it cannot be; "" if it can, or if it is not installed at all."""
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        return "" if error.name == name else str(error)
    except (ImportError, OSError, RuntimeError) as error:  # a missing shared library, a wrong CPU
        return " ".join(str(error).split())
    return ""


def _gpu_name() -> str:
    torch = importlib.import_module("torch")
    return str(torch.cuda.get_device_name(0)) if torch.cuda.is_available() else ""


def openmp_runtimes(maps: Path) -> tuple[str, ...]:
    """List the OpenMP runtimes that a process has loaded.

    Args:
        maps: The kernel's list of the process's mappings.

    Returns:
        Paths of shared libraries, sorted, each once; empty where the kernel does not tell.
    """
    if not maps.is_file():
        return ()
    lines = maps.read_text(encoding="utf-8", errors="replace").splitlines()
    return tuple(sorted({line.split(maxsplit=5)[5] for line in lines if _OPENMP.search(line)}))


def bundle_state(name: str) -> str:
    """Check a packaged bundle against the hash that it carries.

    Args:
        name: The bundle's name.

    Returns:
        "ok", or what is wrong.
    """
    try:
        folder = bundle_path(name)
        info = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        found = file_sha256(folder / "model.safetensors")
    except MissingPathError:
        return "missing"
    except (OSError, ValueError) as error:
        return f"unreadable ({error})"
    return "ok" if info.get("sha256") == found else "its weights are not those that its model.json was written for"
