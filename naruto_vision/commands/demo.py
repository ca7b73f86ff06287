"""``naruto-vision demo``: the main job on a drawn cast, from pictures to one table."""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from naruto_vision.errors import InputError

_VALID_SCENES = 24  # enough regions (a few hundred) to place a threshold, in about ten seconds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options.

    Args:
        parser: The parser of ``naruto-vision demo``.
    """
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for everything (default: ./demo)")
    parser.add_argument("--seed", type=int, default=7, help="seed of the drawn world (default: 7)")
    parser.add_argument("--scenes", type=int, default=60, help="how many scenes to draw and search (default: 60)")
    parser.add_argument("--train", type=int, default=40, help="pictures of each character to tune on (default: 40)")
    parser.add_argument("--epochs", type=int, default=None, help="epochs of tuning (default: as configs/clip.yaml)")
    parser.add_argument("--force", action="store_true", help="replace a demo that stands in the folder already")


def run(arguments: argparse.Namespace) -> int:
    """Draw, tune, enrol, predict, test; print one table and where to look.

    Args:
        arguments: As ``add_arguments`` declares them.

    Returns:
        The exit code, 0.

    Raises:
        InputError: If the folder is not empty and ``--force`` was not given, or a number is out of range.
    """
    _check(arguments)
    from rich.console import Console

    from naruto_vision.metrics.report import table_from_json

    console = Console()
    started = time.perf_counter()
    for number, (title, step) in enumerate(_steps(arguments), start=1):
        begun = time.perf_counter()
        console.rule(f"[bold]{number}/5 {title}")
        step()
        console.print(f"[dim]{time.perf_counter() - begun:.0f} s[/]")
    results = json.loads((arguments.out / "scenes" / "results.json").read_text(encoding="utf-8"))
    (arguments.out / "results.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    console.rule("[bold]How well it went")
    console.print(table_from_json(results, title=f"{arguments.scenes} drawn scenes"))
    console.print(_where(arguments.out, time.perf_counter() - started), soft_wrap=True)
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
    """Remove what an earlier demo wrote, and nothing else."""
    import shutil

    for name in ("world", "clip", "gallery", "scenes", "logs"):
        shutil.rmtree(out / name, ignore_errors=True)
    (out / "results.json").unlink(missing_ok=True)


def _steps(arguments: argparse.Namespace) -> list[tuple[str, Callable[[], Any]]]:
    from naruto_vision.commands.training import run_trainer

    out: Path = arguments.out
    world, scenes = out / "world", out / "world" / "scenes"
    clip = ["--config", "clip.yaml", f"--data.root={world}", f"--model.bundle_dir={out / 'clip'}"]
    clip += [f"--model.aliases_json={world / 'aliases.json'}", f"--trainer.logger.init_args.save_dir={out / 'logs'}"]
    if arguments.epochs is not None:
        clip.append(f"--trainer.max_epochs={arguments.epochs}")
    model = [f"--model.encoder.init_args.model={out / 'clip'}", f"--model.gallery={out / 'gallery'}"]
    enrol = ["--config", "gallery.yaml", *model, f"--data.root={world}"]
    search = ["--config", "scenes.yaml", *model, f"--trainer.logger.init_args.save_dir={out / 'logs'}"]
    search += [f"--trainer.callbacks.init_args.out={out / 'scenes'}"]
    return [
        ("draw a cast and scenes", lambda: _draw(arguments, world)),
        ("tune CLIP on the cast (fit)", lambda: run_trainer(["fit", *clip])),
        (
            "enrol the gallery (fit)",
            lambda: run_trainer(["fit", *enrol, f"--data.valid={scenes / 'valid'}"]),
        ),
        (
            "find and name everybody in the scenes (predict)",
            lambda: run_trainer(["predict", *search, f"--data.predict={scenes / 'test' / 'images'}"]),
        ),
        (
            "hold the answers against the truth (test)",
            lambda: run_trainer(["test", *search, f"--data.test={scenes / 'test'}"]),
        ),
    ]


def _draw(arguments: argparse.Namespace, world: Path) -> None:
    from naruto_vision.commands import draw

    parser = argparse.ArgumentParser()
    draw.add_arguments(parser)
    options = ["--out", str(world), "--seed", str(arguments.seed), "--scenes", str(arguments.scenes)]
    options += ["--valid-scenes", str(_VALID_SCENES), "--train", str(arguments.train)]
    draw.run(parser.parse_args(options))


def _where(out: Path, seconds: float) -> str:
    return (
        f"Done in {seconds / 60:.1f} minutes. Look at\n"
        f"  {out / 'scenes' / 'overlay'}   the scenes with names on them\n"
        f"  {out / 'scenes' / 'json'}      what was found, as JSON\n"
        f"  {out / 'results.json'}   the table, with counts and 95 % intervals\n"
        f"  tensorboard --logdir {out / 'logs'}   curves, confusion matrix, examples"
    )
