"""What benchmarks share: interleaved timing, the machine's own speed, and the report."""

import gc
import importlib.metadata
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

GEMM_SIDE = 1024
_PACKAGES = ("numpy", "torch", "faiss-cpu", "open_clip_torch", "timm", "lightning")


@dataclass(frozen=True)
class Timing:
    """Wall time and CPU time of the whole process of each repeat, in seconds.

    CPU time says more where cores are shared.

    Example:
        >>> Timing((3.0, 1.0, 2.0), (1.0, 1.0, 1.0)).median
        2.0
    """

    seconds: tuple[float, ...]
    cpu_seconds: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.seconds or len(self.seconds) != len(self.cpu_seconds):
            msg = f"timing: {len(self.seconds)} wall times and {len(self.cpu_seconds)} CPU times do not go together"
            raise ValueError(msg)

    @property
    def median(self) -> float:
        """Median wall time."""
        return statistics.median(self.seconds)

    @property
    def cpu_median(self) -> float:
        """Median CPU time."""
        return statistics.median(self.cpu_seconds)

    def as_json(self) -> dict[str, Any]:
        """Return the values of a report, in seconds."""
        return {
            "median_s": self.median,
            "min_s": min(self.seconds),
            "max_s": max(self.seconds),
            "cpu_median_s": self.cpu_median,
            "repeats": len(self.seconds),
        }


def interleaved(
    candidates: Mapping[str, Callable[[], object]], repeats: int = 5, warm_up: int = 1
) -> dict[str, Timing]:
    """Time candidates in turns, so that a machine that slows down slows all of them.

    Every other round goes backwards, so that none always runs behind the same neighbour; warm-up rounds are not timed.
    """
    if repeats < 1:
        msg = f"interleaved: expected repeats >= 1, found {repeats}"
        raise ValueError(msg)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in candidates}
    for round_ in range(-warm_up, repeats):
        for name in list(candidates)[:: -1 if round_ % 2 else 1]:
            gc.collect()
            wall, cpu = time.perf_counter(), time.process_time()
            candidates[name]()
            took = (time.perf_counter() - wall, time.process_time() - cpu)
            if round_ >= 0:
                times[name].append(took)
    return {name: Timing(tuple(t[0] for t in took), tuple(t[1] for t in took)) for name, took in times.items()}


def gemm_rate(library: Literal["numpy", "torch"] = "numpy", repeats: int = 5) -> float:
    """Measure what the machine does at this moment: the best of some square float32 matrix products, in GFLOP/s."""
    import numpy as np

    left: Any = np.random.default_rng(0).normal(size=(GEMM_SIDE, GEMM_SIDE)).astype(np.float32)
    if library == "torch":
        import torch

        left = torch.from_numpy(left)
    times = interleaved({"product": lambda: left @ left}, repeats)["product"]
    return 2.0 * GEMM_SIDE**3 / min(times.seconds) / 1e9


def machine_facts() -> dict[str, Any]:
    """Return what a figure depends on beside the code: processor, cores, thread settings and versions."""
    installed = {name: _version(name) for name in _PACKAGES}
    return {
        "machine": platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
        "python": platform.python_version(),
        "versions": {name: version for name, version in installed.items() if version},
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def write_report(path: str | Path, bench: str, settings: Mapping[str, Any], results: Mapping[str, Any]) -> None:
    """Write a benchmark's JSON file; an older one is replaced."""
    from naruto_vision.io.atomic import write_json

    write_json(path, {"bench": bench, "machine": machine_facts(), "settings": dict(settings), "results": dict(results)})
