"""``naruto-vision bench train``: the Trainer's loop against the same training written plainly in torch."""

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from naruto_vision.errors import InputError

if TYPE_CHECKING:
    from naruto_vision.cli.bench import Timing
    from naruto_vision.cli.train_loops import Trained

PLAIN, FIT, CAPTIONS = "plain torch", "fit", "plain torch, a caption an image"
LOSS_TOLERANCE = 1e-5
_LEAST_STEP = 0.05  # seconds; a shorter step measures the machine's noise, and no network worth tuning is as small


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options.

    Args:
        parser: The parser of ``naruto-vision bench train``.
    """
    parser.add_argument("--config", default="clip.yaml", metavar="FILE", help="what is trained (default: clip.yaml)")
    parser.add_argument("--data", type=Path, metavar="DIR", help="class data (default: the packaged cast, drawn)")
    parser.add_argument("--steps", type=int, default=10, help="optimiser steps a run, at most an epoch (default: 10)")
    parser.add_argument(
        "--fit", action="append", default=[], metavar="WORD", help="an option for fit, as --fit=--data.batch_size=16"
    )
    parser.add_argument(
        "--captions", action="store_true", help="time one caption an image in the text tower too, as open_clip trains"
    )
    parser.add_argument("--repeats", type=int, default=5, help="timed rounds (default: 5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")


def run(arguments: argparse.Namespace) -> int:
    """Train in each way, in turns, and compare times and losses.

    Args:
        arguments: As ``add_arguments`` declares them.

    Returns:
        The exit code: 0, or 1 where the losses differ by more than 1e-5.

    Raises:
        InputError: If a number makes no sense, or the config is not that of a CLIP that is tuned on class data.
    """
    for name in ("steps", "repeats"):
        if getattr(arguments, name) < 1:
            msg = f"--{name} {getattr(arguments, name)}: expected 1 or more"
            raise InputError(msg)
    from naruto_vision.cli.bench import gemm_rate, write_report
    from naruto_vision.cli.trainer_args import find_config, limit_threads

    limit_threads()
    config, target = find_config(arguments.config).resolve(), arguments.json and arguments.json.resolve()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):  # what fit writes goes with it
        root = arguments.data.resolve() if arguments.data else _draw(Path(folder), arguments.steps)
        runs = _take_turns(arguments, str(config), str(root))
    rate = gemm_rate("torch")
    ways = {name: _figures(arguments.steps, name, runs) for name in runs}
    _print_table(arguments, ways)
    sys.stdout.write(f"PyTorch multiplied at {rate:.0f} GFLOP/s in this run\n")
    if target:
        settings = {name: str(value) if isinstance(value, Path) else value for name, value in vars(arguments).items()}
        write_report(target, "train", settings, {"gemm_gflops": rate, "ways": ways})
    return int(any(way["loss_difference"] > LOSS_TOLERANCE for way in ways.values()))


def _draw(folder: Path, steps: int) -> Path:
    """Draw so many images of the packaged cast that an epoch of 32 a batch has enough steps."""
    from naruto_vision.io.bundles import config_path
    from naruto_vision.synthetic.attributes import read_cast
    from naruto_vision.synthetic.dataset import WorldPlan, write_world

    cast = read_cast(config_path("cast.yaml"))
    each = -(-32 * steps // len(cast.members))
    write_world(folder / "world", cast, WorldPlan(train=each, valid=1, test=1, scenes=0, valid_scenes=0))
    return folder / "world"


def _take_turns(arguments: argparse.Namespace, config: str, root: str) -> "dict[str, list[Trained]]":
    from naruto_vision.cli.bench import interleaved
    from naruto_vision.cli.train_loops import fit_words, plain_loop, trainer_loop

    words, steps = fit_words(config, root, arguments.steps, arguments.fit), arguments.steps
    ways: dict[str, Callable[[], Trained]] = {
        PLAIN: partial(plain_loop, words, steps),
        FIT: partial(trainer_loop, words),
    }
    if arguments.captions:
        ways[CAPTIONS] = partial(plain_loop, words, steps, captions=True)
    found: dict[str, list[Trained]] = {name: [] for name in ways}

    def one(name: str) -> None:
        trained = ways[name]()
        if len(trained.losses) < steps:
            msg = f"--steps {steps}: an epoch of these data has {len(trained.losses)} batches"
            raise InputError(msg)
        found[name].append(trained)

    interleaved({name: partial(one, name) for name in ways}, arguments.repeats)  # its own times include the set-up
    return {name: runs[1:] for name, runs in found.items()}  # without the warm-up


def _figures(steps: int, name: str, runs: "Mapping[str, Sequence[Trained]]") -> dict[str, Any]:
    timing, plain = _timing(runs[name]), _timing(runs[PLAIN])
    pairs = list(zip(runs[name][0].losses, runs[PLAIN][0].losses, strict=True))
    return {
        **timing.as_json(),
        "ms_per_step": 1000.0 * timing.median / steps,
        "ratio": timing.median / plain.median,
        "cpu_ratio": timing.cpu_median / plain.cpu_median,
        "losses": list(runs[name][0].losses),
        "loss_difference": max(abs(one - other) for one, other in pairs),
        "losses_equal": sum(one == other for one, other in pairs),
    }


def _timing(runs: "Sequence[Trained]") -> "Timing":
    from naruto_vision.cli.bench import Timing

    return Timing(tuple(run.seconds for run in runs), tuple(run.cpu_seconds for run in runs))


def _print_table(arguments: argparse.Namespace, ways: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    title = f"{arguments.config}: {arguments.steps} steps a run, {arguments.repeats} rounds"
    table = Table("way", "median s", "ms/step", "times plain", "CPU", "losses equal", "largest difference", title=title)
    for name, way in ways.items():
        table.add_row(
            name,
            f"{way['median_s']:.3f}",
            f"{way['ms_per_step']:.1f}",
            f"{way['ratio']:.3f}",
            f"{way['cpu_ratio']:.3f}",
            f"{way['losses_equal']}/{arguments.steps}",
            f"{way['loss_difference']:.1e}",
        )
    Console().print(table)
    if ways[PLAIN]["ms_per_step"] < 1000 * _LEAST_STEP:
        sys.stdout.write("a step takes less than 50 ms: too little to tell what the Trainer adds\n")
