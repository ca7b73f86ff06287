"""Packages and CPUs of this machine."""

import importlib
import importlib.metadata
import importlib.util
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import ModuleType

from naruto_vision.errors import MissingPackageError

CPU_FEATURES: Mapping[str, tuple[str, ...]] = {
    "AVX2": ("avx2",),
    "AVX512": ("avx512f",),
    "VNNI": ("avx512_vnni", "avx_vnni"),
    "AVX512-BF16": ("avx512_bf16",),
    "AMX": ("amx_bf16",),
}
"""Feature → the kernel's names for it, any of which suffices."""

_CPU_INFO = Path("/proc/cpuinfo")


def allowed_cpus() -> int:
    """Count the CPUs that this process may use; all of the machine where the system does not report it."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux has it, macOS has not
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def cpu_features(cpu_info: Path = _CPU_INFO) -> dict[str, bool]:
    """Return which vector units the CPU has."""
    flags: set[str] = set()
    if cpu_info.is_file():
        for line in cpu_info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("flags"):
                flags = set(line.partition(":")[2].split())
                break
    return {name: any(flag in flags for flag in spellings) for name, spellings in CPU_FEATURES.items()}


def has_fast_bf16(cpu_info: Path = _CPU_INFO) -> bool:
    """Return whether the CPU has bfloat16 instructions; without them it is far slower than float32."""
    features = cpu_features(cpu_info)
    return features["AMX"] or features["AVX512-BF16"]


def installed_versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of the installed ones of these packages, named as pip names them."""
    found = {}
    for name in packages:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def has_package(name: str) -> bool:
    """Return whether a top-level package can be imported, without importing it."""
    return importlib.util.find_spec(name) is not None


def require_package(name: str, extra: str = "") -> ModuleType:
    """Import an optional package, or name the extra of this project that installs it; the package without one."""
    if not has_package(name.partition(".")[0]):
        raise MissingPackageError(name, extra)
    return importlib.import_module(name)
