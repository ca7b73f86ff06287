"""``naruto-vision bench startup``: how soon the command line answers, against a plain LightningCLI."""

import argparse
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from naruto_vision.errors import InputError

if TYPE_CHECKING:
    from naruto_vision.cli.bench import Timing

BASELINE = "plain LightningCLI --help"
_PLAIN = (
    "from lightning.pytorch.cli import LightningCLI; import sys; sys.argv = ['plain', '--help']; "
    "LightningCLI(subclass_mode_model=True, subclass_mode_data=True)"
)
COMMANDS = ("--help", "--version", "weights list", "fit --help", "predict --help", "predict /no/such/folder", "fitt")
"""What is answered without torch; the last two are mistakes."""

FIRST_SCENE, LIGHTNING = "predict, one scene", "import lightning.pytorch.cli"
_WORLD = ("--train=2", "--valid=0", "--test=0", "--scenes=1", "--valid-scenes=0")
ROUND = "{round}"
"""Stands in a program's words for the number of the round, where each needs a folder of its own."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options.

    Args:
        parser: The parser of ``naruto-vision bench startup``.
    """
    parser.add_argument("--repeats", type=int, default=5, help="timed rounds (default: 5)")
    parser.add_argument(
        "--also",
        action="append",
        default=[],
        metavar="WORDS",
        help="time this command too, words in one argument: --also 'predict one_scene --out runs/timed'",
    )
    parser.add_argument("--quick", action="store_true", help="leave predict out, for which a scene is drawn")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")


def run(arguments: argparse.Namespace) -> int:
    """Start every command in a process of its own, in turns.

    Args:
        arguments: As ``add_arguments`` declares them.

    Returns:
        The exit code, 0.

    Raises:
        InputError: If there is to be no round, or a command of ``--also`` fails.
    """
    if arguments.repeats < 1:
        msg = f"--repeats {arguments.repeats}: expected 1 or more"
        raise InputError(msg)
    from naruto_vision.cli.bench import gemm_rate, write_report

    own = [sys.executable, "-m", "naruto_vision"]
    candidates = {BASELINE: [sys.executable, "-c", _PLAIN]}
    candidates |= {words: [*own, *shlex.split(words)] for words in (*COMMANDS, *arguments.also)}
    with tempfile.TemporaryDirectory() as folder:
        first = {} if arguments.quick else first_scene(Path(folder), own)
        must = (BASELINE, *first, *arguments.also)
        times = time_processes(candidates | first, arguments.repeats, must_succeed=must)
    ways = {
        name: {**timing.as_json(), "times_as_fast": times[BASELINE].cpu_median / timing.cpu_median}
        for name, timing in times.items()
    }
    results: dict[str, Any] = {"gemm_gflops": gemm_rate(), "commands": ways}
    _print_table(ways, arguments.repeats)
    sys.stdout.write(f"NumPy multiplied at {results['gemm_gflops']:.0f} GFLOP/s in this run\n")
    if arguments.json:
        write_report(arguments.json, "startup", {"repeats": arguments.repeats, "also": arguments.also}, results)
    return 0


def first_scene(folder: Path, own: Sequence[str]) -> dict[str, list[str]]:
    """Draw a scene and a gallery, and put together the programs that name it.

    Args:
        folder: Where everything goes.
        own: How this program is started.

    Returns:
        Name to the program and its words: ``predict``, and Lightning's import alone.

    Raises:
        InputError: If drawing or enrolling fails.
    """
    encoder, gallery = "--model.encoder.init_args.model=tiny-clip", f"--model.gallery={folder / 'gallery'}"
    _timed("draw", [*own, "draw", "--out", str(folder / "world"), *_WORLD], must_succeed=True)
    enrol = ["fit", "--config", "gallery.yaml", f"--data.root={folder / 'world'}", encoder, gallery]
    _timed("fit", [*own, *enrol, "--trainer.logger=false"], must_succeed=True)
    scene = ["predict", str(folder / "world" / "scenes" / "test" / "images"), encoder, gallery]
    scene.append(f"--trainer.logger.init_args.save_dir={folder / 'logs'}")
    return {
        FIRST_SCENE: [*own, *scene, "--out", str(folder / f"out-{ROUND}")],
        LIGHTNING: [sys.executable, "-c", LIGHTNING],
    }


def time_processes(
    candidates: Mapping[str, Sequence[str]], repeats: int, must_succeed: Sequence[str] = ()
) -> "dict[str, Timing]":
    """Time programs in turns, after one untimed round that fills the disk cache.

    Args:
        candidates: Name to the program and its words, in which ``ROUND`` stands for the number of the round.
        repeats: Timed rounds.
        must_succeed: Names whose exit code has to be 0.

    Returns:
        Name to wall time and the process's own CPU time, in seconds.

    Raises:
        InputError: If a program that must succeed does not.
    """
    from naruto_vision.cli.bench import Timing

    took: dict[str, list[tuple[float, float]]] = {name: [] for name in candidates}
    for round_ in range(repeats + 1):
        for name, words in candidates.items():
            numbered = [word.replace(ROUND, str(round_)) for word in words]
            times = _timed(name, numbered, must_succeed=name in must_succeed)
            if round_:
                took[name].append(times)
    return {name: Timing(tuple(t[0] for t in times), tuple(t[1] for t in times)) for name, times in took.items()}


def _timed(name: str, words: Sequence[str], *, must_succeed: bool) -> tuple[float, float]:
    """Run a program to its end and return the seconds that it took, by the clock and of CPU time."""
    before, start = _children(), time.perf_counter()
    done = subprocess.run(words, capture_output=True, check=False)  # noqa: S603 - our own program
    times = (time.perf_counter() - start, _children() - before)
    if done.returncode and must_succeed:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        msg = f"{name}: failed with code {done.returncode}: {lines[-1]}"
        raise InputError(msg)
    return times


def _children() -> float:
    """CPU seconds of the child processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _print_table(ways: Mapping[str, Any], repeats: int) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("command", "median s", "CPU s", "times as soon (CPU)", title=f"{repeats} rounds, a process each")
    for name, one in ways.items():
        table.add_row(name, f"{one['median_s']:.3f}", f"{one['cpu_median_s']:.3f}", f"{one['times_as_fast']:.1f}")
    Console().print(table)
