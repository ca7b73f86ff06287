"""What the benchmarks share: rows of a table, processes of their own, and quiet."""

import contextlib
import io
import json
import logging
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from naruto_vision.cli.bench import Timing, interleaved
from naruto_vision.io.bundles import config_path
from naruto_vision.records import ImageArray
from naruto_vision.synthetic.attributes import read_cast
from naruto_vision.synthetic.scene import draw_scene


@dataclass(frozen=True)
class Row:
    """One line of a table: ours against a baseline (`None` where only ours is measured).

    `same` says in words what both have in common, and `passed` whether that is enough.
    """

    what: str
    ours: Timing
    baseline: Timing | None = None
    same: str = ""
    passed: bool = True
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        """Baseline CPU time by ours, which says more than wall time where cores are shared."""
        return self.baseline.cpu_median / self.ours.cpu_median if self.baseline else None

    @property
    def wall_ratio(self) -> float | None:
        """Baseline wall time by ours."""
        return self.baseline.median / self.ours.median if self.baseline else None

    def as_json(self) -> dict[str, Any]:
        """Return the values of a report."""
        ratios = {"times_as_fast_cpu": self.ratio, "times_as_fast": self.wall_ratio}
        return {**asdict(self), **ratios}


def compare(
    what: str,
    ours: Callable[[], object],
    baseline: Callable[[], object],
    same: Callable[[], tuple[str, bool]],
    repeats: int = 5,
) -> Row:
    """Time both in turns, then ask what they have in common; a single round has no warm-up."""
    times = interleaved({"ours": ours, "baseline": baseline}, repeats, warm_up=int(repeats > 1))
    return Row(what, times["ours"], times["baseline"], *same())


def draw_image(height: int, width: int, seed: int = 0) -> ImageArray:
    """Draw a scene of the packaged cast and cut it to (height, width, 3)."""
    return draw_scene(seed, read_cast(config_path("cast.yaml")), size=max(height, width)).image[:height, :width]


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Let bars and log lines be made, but not be seen between rounds."""
    sink, before = io.StringIO(), logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@dataclass(frozen=True)
class Finished:
    """A process that has ended: wall and CPU seconds of its own, peak resident memory in MiB, exit code."""

    seconds: float
    cpu_seconds: float
    peak_mib: float
    code: int


_RUN = """import json, os, subprocess, sys, time
start = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
seconds = time.perf_counter() - start, usage.ru_utime + usage.ru_stime
print(json.dumps([*seconds, usage.ru_maxrss / 1024, os.waitstatus_to_exitcode(status)]))
"""
"""Runs a program from a small process, as the peak of a new process begins with that of the one that started it."""


def run_process(argv: Sequence[str], *, must_succeed: bool = True) -> Finished:
    """Run a program to its end without showing what it prints.

    Raises:
        RuntimeError: If it fails and must not.
    """
    answer = subprocess.run([sys.executable, "-S", "-c", _RUN, *argv], check=True, capture_output=True, text=True)
    finished = Finished(*json.loads(answer.stdout))
    if finished.code and must_succeed:
        msg = f"{' '.join(argv)}: failed with code {finished.code}"
        raise RuntimeError(msg)
    return finished


def own(*argv: str) -> list[str]:
    """Return the program and arguments of one of our own commands."""
    return [sys.executable, "-m", "naruto_vision", *argv]
