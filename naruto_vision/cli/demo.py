"""``naruto-vision demo``: the main job on a synthetic cast, from images to one table."""

import argparse
import contextlib
import json
import time
from pathlib import Path

from naruto_vision.errors import InputError
from naruto_vision.io.atomic import write_json

_VALID_SCENES = 60  # some two hundred regions: with fewer the threshold varies too much

_WRITTEN = ("runs", "lightning_logs", "data")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for everything (default: ./demo)")
    parser.add_argument("--seed", type=int, default=7, help="random seed of the synthetic data (default: 7)")
    parser.add_argument("--scenes", type=int, default=40, help="how many scenes to draw and search (default: 40)")
    parser.add_argument("--train", type=int, default=40, help="images of each character to tune on (default: 40)")
    parser.add_argument("--epochs", type=int, default=None, help="epochs of tuning (default: as configs/clip.yaml)")
    parser.add_argument("--force", action="store_true", help="replace the data, runs and logs of an older demo")


def run(arguments: argparse.Namespace) -> int:
    """Draw, tune, enrol, predict, test with the README's commands; print one table and where to look.

    Raises:
        InputError: If the folder is not empty and is not to be replaced or holds no demo, or a number is out of range.
    """
    _check(arguments)
    from rich.console import Console

    from naruto_vision.metrics.report import table_from_json

    console = Console()
    started = time.perf_counter()
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    with contextlib.chdir(out):
        for number, (title, argv) in enumerate(_steps(arguments), start=1):
            begun = time.perf_counter()
            console.rule(f"[bold]{number}/5 {title}")
            console.print(f"[dim]$ naruto-vision {' '.join(argv)}[/]", soft_wrap=True, highlight=False)
            _run_step(argv)
            console.print(f"[dim]{time.perf_counter() - begun:.0f} s[/]")
    results = json.loads((out / "runs" / "scenes" / "results.json").read_text(encoding="utf-8"))
    write_json(out / "results.json", results)
    console.rule("[bold]How well it went")
    console.print(table_from_json(results, title=f"{arguments.scenes} drawn scenes, every region under its best label"))
    console.print(_where(out, time.perf_counter() - started), soft_wrap=True)
    return 0


def _check(arguments: argparse.Namespace) -> None:
    out: Path = arguments.out
    for name, least in (("scenes", 1), ("train", 2)):
        if getattr(arguments, name) < least:
            msg = f"--{name} {getattr(arguments, name)}: expected at least {least}"
            raise InputError(msg)
    if out.exists() and not out.is_dir():
        msg = f"{out}: expected a folder, found a file; give another --out"
        raise InputError(msg)
    if out.is_dir() and any(out.iterdir()):
        if not arguments.force:
            msg = f"{out}: is not empty; give another --out, or --force to replace it"
            raise InputError(msg)
        _clear(out)


def _clear(out: Path) -> None:
    """Remove what an earlier demo wrote; InputError where its synthetic data are not there, so that it was no demo."""
    import shutil

    from naruto_vision.synthetic.dataset import WORLD

    written = [name for name in _WRITTEN if (out / name).exists()]
    if written and not (out / "data" / WORLD).is_file():
        msg = f"{out}: has {', '.join(written)}, but no data/{WORLD}, so no demo wrote them; give another --out"
        raise InputError(msg)
    (out / "results.json").unlink(missing_ok=True)
    for name in written:  # the mark of a demo goes last, so that an interrupted removal can be taken up again
        shutil.rmtree(out / name)


def _steps(arguments: argparse.Namespace) -> list[tuple[str, list[str]]]:
    draw = ["draw", "--out", "data", "--seed", str(arguments.seed), "--train", str(arguments.train)]
    draw += ["--scenes", str(arguments.scenes), "--valid-scenes", str(_VALID_SCENES)]
    tune = ["fit", "--config", "clip.yaml", "--model.texts.aliases_json", "data/aliases.json"]
    if arguments.epochs is not None:
        tune += ["--trainer.max_epochs", str(arguments.epochs)]
    return [
        ("draw a cast and scenes", draw),
        ("tune CLIP on the cast", tune),
        ("enrol the gallery", ["fit", "--config", "gallery.yaml", "--data.valid", "data/scenes/valid"]),
        ("find and name everybody in the scenes", ["predict", "data/scenes/test/images"]),
        (
            "evaluate against the ground truth",
            ["test", "--config", "scenes.yaml", "--data.test", "data/scenes/test"],
        ),
    ]


def _run_step(argv: list[str]) -> None:
    if argv[0] != "draw":
        from naruto_vision.cli.trainer_args import expand_argv, limit_threads

        limit_threads()
        from naruto_vision.cli.trainer import run_cli  # imports torch, after the threads are limited

        run_cli(expand_argv(argv[0], argv[1:]))
        return
    from naruto_vision.cli import draw

    parser = argparse.ArgumentParser()
    draw.add_arguments(parser)
    draw.draw_dataset(parser.parse_args(argv[1:]))  # the demo itself says what comes next


def _where(out: Path, seconds: float) -> str:
    return (
        f"Done in {seconds / 60:.1f} minutes. Look at\n"
        f"  {out / 'runs' / 'scenes' / 'overlay'}   the scenes with names on them\n"
        f"  {out / 'runs' / 'scenes' / 'json'}      what was found, as JSON\n"
        f"  {out / 'results.json'}          the table, with counts and 95 % intervals\n"
        f"  tensorboard --logdir {out / 'lightning_logs'}   curves, confusion matrix, examples"
    )
