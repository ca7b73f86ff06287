"""``naruto-vision draw``, a synthetic data set, and ``naruto-vision demo``, the whole pipeline on one."""

import argparse
import contextlib
import json
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from naruto_vision.cli.console import count, progress, show, warn, whole_number
from naruto_vision.cli.reproduce import STEPS, finished_steps, note_finished
from naruto_vision.errors import InputError
from naruto_vision.io.atomic import write_json
from naruto_vision.io.bundles import config_path
from naruto_vision.io.locks import folder_lock, lock_beside
from naruto_vision.io.text import quantity

if TYPE_CHECKING:
    from naruto_vision.synthetic.attributes import Cast

_VALID_SCENES = 60  # at most: some two hundred regions, with fewer of which the threshold varies too much

_WRITTEN = ("runs", "lightning_logs", "data")
_SIZES = {
    "seed": (7, "random seed of the data set"),
    "train": (40, "training images per class"),
    "valid": (10, "validation images per class"),
    "test": (25, "test images per class"),
    "scenes": (200, "number of test scenes"),
    "valid-scenes": (40, "number of validation scenes"),
    "size": (384, "width and height of a scene in pixels"),
    "image-size": (192, "width and height of a class image in pixels"),
}


_VIDEO_SIZES = {
    "seconds": (20, "length of a video"),
    "fps": (24, "frames per second of a video"),
    "width": (320, "width of a video in pixels"),
    "height": (180, "height of a video in pixels"),
}


def _draw_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="output folder; must be empty or new")
    text = "YAML file of the characters' names and attributes (default: the packaged cast)"
    parser.add_argument("--cast", type=Path, metavar="FILE", help=text)
    for name, (default, text) in _SIZES.items():
        parser.add_argument(f"--{name}", type=whole_number, default=default, metavar="N", help=text)
    text = (
        "write the class tables with the flaws of real exports: blanks, an Unlabeled column, a misspelt class, missing "
        "files, rows of two classes, no final newline"
    )
    parser.add_argument("--quirks", action="store_true", help=text)
    text = "draw N videos with the tracks of their figures instead of images and scenes"
    parser.add_argument("--videos", type=count, metavar="N", help=text)
    for name, (default, text) in _VIDEO_SIZES.items():
        parser.add_argument(f"--{name}", type=count, default=default, metavar="N", help=text)
    parser.add_argument("--force", action="store_true", help="replace an older synthetic data set")


def draw(arguments: argparse.Namespace) -> int:
    """Render a data set, and print its counts and the next command."""
    from naruto_vision.synthetic.attributes import read_cast
    from naruto_vision.synthetic.dataset import SyntheticConfig, check_folder, write_dataset

    out: Path = arguments.out
    cast = read_cast(arguments.cast or config_path("cast.yaml"))
    _refuse_unused(arguments)
    if arguments.videos:
        return _draw_videos(arguments, cast)
    sizes = {name: getattr(arguments, name) for name in (option.replace("-", "_") for option in _SIZES)}
    try:
        plan = SyntheticConfig(**sizes, quirks=arguments.quirks)
    except ValueError as error:
        raise InputError(str(error)) from None
    with folder_lock(out, "--out", file=lock_beside(out)):
        check_folder(out, force=arguments.force)  # before the progress bar is shown
        with progress("drawing", plan.steps(len(cast))) as advance:
            write_dataset(out, cast, plan, force=arguments.force, advance=advance)
    images = len(cast) * (plan.train + plan.valid + plan.test)
    each = f"per character {plan.train} to train, {plan.valid} to validate and {plan.test} to test"
    scenes = f"{plan.scenes + plan.valid_scenes} scenes ({plan.scenes} test, {plan.valid_scenes} validation)"
    show(f"drew {len(cast)} characters in {out}: {images} images ({each}) and {scenes}")
    if plan.train:
        show(f"next: `naruto-vision fit --config clip.yaml --data.root {out}` fine-tunes CLIP on them")
    return 0


def _refuse_unused(arguments: argparse.Namespace) -> None:
    """Raise InputError for an option that has no effect with, or without, ``--videos``."""
    of_images = {**{name.replace("-", "_"): value for name, (value, _) in _SIZES.items()}, "quirks": False}
    of_videos = {name: value for name, (value, _) in _VIDEO_SIZES.items()}
    del of_images["seed"]
    unused = of_images if arguments.videos else of_videos
    if given := [name for name, value in unused.items() if getattr(arguments, name) != value]:
        what = "only for images and scenes: leave it out, or --videos" if arguments.videos else "needs --videos N"
        raise InputError(f"--{given[0].replace('_', '-')}: {what}")


def _draw_videos(arguments: argparse.Namespace, cast: "Cast") -> int:
    from naruto_vision.synthetic.dataset import check_folder
    from naruto_vision.synthetic.videos import VideoConfig, write_videos

    out, videos = arguments.out, arguments.videos
    try:
        config = VideoConfig(**{name: getattr(arguments, name) for name in _VIDEO_SIZES})
    except ValueError as error:
        raise InputError(str(error)) from None
    with folder_lock(out, "--out", file=lock_beside(out)):
        check_folder(out, force=arguments.force)
        with progress("drawing", videos * config.frames) as advance:
            write_videos(out, cast, videos, config, seed=arguments.seed, force=arguments.force, advance=advance)
    drawn = f"{quantity(videos, 'video')} of {quantity(config.frames, 'frame')}"
    show(f"drew {drawn} in {out}, each with its cuts, tracks and captions as JSON")
    show(f"next: `naruto-vision predict {out}` finds and names who is in them")
    return 0


def _demo_options(parser: argparse.ArgumentParser) -> None:
    text = "folder for data and results; a stopped demo resumes"
    parser.add_argument("--out", type=Path, default=Path("demo"), metavar="DIR", help=text)
    parser.add_argument("--seed", type=whole_number, default=7, metavar="N", help="random seed of the synthetic data")
    parser.add_argument("--scenes", type=count, default=40, metavar="N", help="number of test scenes")
    parser.add_argument("--train", type=count, default=40, metavar="N", help="training images per class")
    parser.add_argument("--epochs", type=count, metavar="N", help="training epochs (default: set by clip.yaml)")
    parser.add_argument("--force", action="store_true", help="replace the data, runs and logs of an older demo")


def demo(arguments: argparse.Namespace) -> int:
    """Draw, fine-tune, build a gallery, predict and evaluate with the README's commands; print one table."""
    _check_demo(arguments)
    with folder_lock(arguments.out, "--out"):
        return _demo(arguments)


def _demo(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from naruto_vision.metrics.report import table_from_json

    out: Path = arguments.out
    steps = _steps(arguments)
    lines = [" ".join(argv) for _, argv in steps]
    done = 0 if arguments.force else finished_steps(out, lines, "--force to replace it")
    if not done:
        _clear(out)
        note_finished(out, lines, 0)
    console = Console()
    started = time.perf_counter()
    console.print(f"[dim]$ cd {out}[/]", soft_wrap=True, highlight=False)
    for number, (title, argv) in enumerate(steps[done:], start=done + 1):
        begun = time.perf_counter()
        console.rule(f"[bold]{number}/{len(steps)} {title}")
        console.print(f"[dim]$ naruto-vision {lines[number - 1]}[/]", soft_wrap=True, highlight=False)
        try:
            with contextlib.chdir(out):
                _run_step(argv)
        except (KeyboardInterrupt, SystemExit):
            warn(f"stopped in step {number} of {len(steps)}; the same `naruto-vision demo` continues with this step")
            raise
        note_finished(out, lines, number)
        console.print(f"[dim]{time.perf_counter() - begun:.0f} s[/]")
    results = json.loads((out / "runs" / "scenes" / "results.json").read_text(encoding="utf-8"))
    write_json(out / "results.json", results)
    console.rule("[bold]Results")
    title = f"{arguments.scenes} synthetic scenes, every region under its best label"
    show(table_from_json(results, title=title), _where(out, time.perf_counter() - started))
    return 0


def _check_demo(arguments: argparse.Namespace) -> None:
    if arguments.train < 2:
        raise InputError(f"--train {arguments.train}: expected at least 2")
    if arguments.out.exists() and not arguments.out.is_dir():
        raise InputError(f"{arguments.out}: expected a folder, found a file; give another --out")


def _clear(out: Path) -> None:
    """Remove an earlier demo's files; InputError without the marker file of its synthetic data."""
    from naruto_vision.synthetic.dataset import WORLD

    written = [name for name in _WRITTEN if (out / name).exists()]
    if written and not (out / "data" / WORLD).is_file():
        msg = f"{out}: has {', '.join(written)}, but no data/{WORLD}, so no demo wrote them; give another --out"
        raise InputError(msg)
    for name in ("results.json", STEPS):
        (out / name).unlink(missing_ok=True)
    for name in written:  # the marker file is removed last, so that an interrupted removal can be repeated
        shutil.rmtree(out / name)


def _steps(arguments: argparse.Namespace) -> list[tuple[str, list[str]]]:
    data = ["draw", "--out", "data", "--seed", str(arguments.seed), "--train", str(arguments.train)]
    data += ["--scenes", str(arguments.scenes), "--valid-scenes", str(min(_VALID_SCENES, 2 * arguments.scenes))]
    tune = ["fit", "--config", "clip.yaml", "--model.texts.aliases_json", "data/aliases.json"]
    if arguments.epochs is not None:
        tune += ["--trainer.max_epochs", str(arguments.epochs)]
    return [
        ("draw characters and scenes", data),
        ("fine-tune CLIP on the characters", tune),
        ("build the gallery", ["fit", "--config", "gallery.yaml", "--data.valid", "data/scenes/valid"]),
        ("find and name the characters in the scenes", ["predict", "data/scenes/test/images"]),
        ("evaluate against the ground truth", ["test", "--config", "scenes.yaml", "--data.test", "data/scenes/test"]),
    ]


def _run_step(argv: list[str]) -> None:
    if argv[0] == "draw":
        parser = argparse.ArgumentParser()
        _draw_options(parser)
        draw(parser.parse_args(argv[1:]))
        return
    from naruto_vision.cli.trainer_args import expand_argv, limit_threads

    limit_threads()
    from naruto_vision.cli.trainer import run_cli  # imports torch, after the threads are limited

    run_cli(expand_argv(argv[0], argv[1:]))


def _where(out: Path, seconds: float) -> str:
    return (
        f"Done in {seconds / 60:.1f} minutes. The results:\n"
        f"  {out / 'runs' / 'scenes' / 'index.html'}   the scenes with boxes and names, in a browser\n"
        f"  {out / 'runs' / 'scenes' / 'json'}      the predictions as JSON\n"
        f"  {out / 'results.json'}          this table, with counts and 95 % intervals\n"
        f"  tensorboard --logdir {out / 'lightning_logs'}   curves, confusion matrix, examples"
    )


COMMANDS = {"demo": (_demo_options, demo), "draw": (_draw_options, draw)}
