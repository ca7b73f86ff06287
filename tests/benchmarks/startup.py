"""T10: how soon the command line answers, each time in a process of its own, against a plain LightningCLI."""

import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.timing import Row, own, run_process
from naruto_vision.cli.bench import Timing

BASELINE = [
    sys.executable,
    "-c",
    "from lightning.pytorch.cli import LightningCLI; import sys; sys.argv = ['plain', '--help']; "
    "LightningCLI(subclass_mode_model=True, subclass_mode_data=True)",
]
COMMANDS = ("--help", "--version", "weights list", "fit --help", "predict --help", "predict /no/such/folder", "fitt")
"""What is answered without torch; the last two are mistakes."""


def answers(quick: bool) -> Iterator[Row]:
    """Time help, the version and mistakes, and the first scene of `predict`."""
    programs = {command: own(*command.split()) for command in COMMANDS[:: 6 if quick else 1]}
    with tempfile.TemporaryDirectory() as name:
        if not quick:
            programs["predict, one scene"] = _first_scene(Path(name))
        times = _in_turns({"": BASELINE, **programs}, repeats=1 if quick else 3)
    for command in programs:
        yield Row(command, times[command], times[""])


def _first_scene(folder: Path) -> list[str]:
    counts = {"train": 2, "valid": 0, "test": 0, "scenes": 1, "valid-scenes": 0}
    run_process(own("draw", "--out", str(folder / "world"), *(f"--{key}={value}" for key, value in counts.items())))
    more = [
        "--model.encoder=ClipEncoder",
        "--model.encoder.init_args.model=tiny-clip",
        f"--model.gallery={folder / 'gallery'}",
    ]
    run_process(own("fit", "--config", "gallery.yaml", f"--data.root={folder / 'world'}", *more))
    scene = ["predict", str(folder / "world/scenes/test/images"), *more, "--trainer.logger=false"]
    return own(*scene, "--out", str(folder / "out-{round}"))


def _in_turns(programs: Mapping[str, Sequence[str]], repeats: int) -> dict[str, Timing]:
    """Time programs in turns after one round that fills the disk cache; `{round}` in an argument is its number."""
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in programs}
    for number in range(repeats + 1):
        for name, argv in programs.items():
            numbered = [word.replace("{round}", str(number)) for word in argv]
            finished = run_process(numbered, must_succeed=name not in COMMANDS[-2:])
            if number:
                took[name].append((finished.seconds, finished.cpu_seconds))
    return {name: Timing(*zip(*times, strict=True)) for name, times in took.items()}
