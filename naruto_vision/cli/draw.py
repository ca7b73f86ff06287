"""``naruto-vision draw``: synthetic images and scenes of a cast, with their ground truth."""

import argparse
import sys
from pathlib import Path

from naruto_vision.cli.console import progress, whole_number
from naruto_vision.errors import InputError
from naruto_vision.io.bundles import config_path

_NUMBERS = {
    "seed": (7, "random seed of every pixel"),
    "train": (40, "training images a class"),
    "valid": (10, "validation images a class"),
    "test": (25, "test images a class"),
    "scenes": (200, "test scenes"),
    "valid-scenes": (40, "validation scenes"),
    "size": (384, "side of a scene in pixels"),
    "picture-size": (192, "side of a class image in pixels"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("--out", type=Path, required=True, help="the folder to draw into; it must be empty or new")
    parser.add_argument("--cast", type=Path, help="YAML file of names and attributes (default: the packaged cast)")
    for name, (default, text) in _NUMBERS.items():
        parser.add_argument(f"--{name}", type=whole_number, default=default, help=f"{text} (default: {default})")
    parser.add_argument(
        "--quirks",
        action="store_true",
        help="write the class tables as untidily as real exports: blanks, an Unlabeled column, a misspelt class, "
        "absent files, rows of two classes, no final newline",
    )
    parser.add_argument("--force", action="store_true", help="replace an older synthetic data set")


def run(arguments: argparse.Namespace) -> int:
    """Draw, and print what was drawn; the exit code is 0."""
    sys.stdout.write("".join(f"{line}\n" for line in draw_dataset(arguments)))
    return 0


def draw_dataset(arguments: argparse.Namespace) -> list[str]:
    """Draw, and return lines for people: what was drawn, where it is, and what to do with it.

    Raises:
        InputError: If the cast cannot be read, a size is out of range, or the folder is not free.
    """
    from naruto_vision.synthetic.attributes import read_cast
    from naruto_vision.synthetic.dataset import SyntheticConfig, check_folder, write_dataset

    cast = read_cast(arguments.cast or config_path("cast.yaml"))
    numbers = {name: getattr(arguments, name) for name in (option.replace("-", "_") for option in _NUMBERS)}
    try:
        plan = SyntheticConfig(**numbers, quirks=arguments.quirks)
    except ValueError as error:
        raise InputError(str(error)) from None
    check_folder(arguments.out, force=arguments.force)  # before the progress bar is shown
    with progress("drawing", plan.steps(len(cast))) as advance:
        write_dataset(arguments.out, cast, plan, force=arguments.force, advance=advance)
    images = len(cast) * (plan.train + plan.valid + plan.test)
    each = f"of each {plan.train} to train, {plan.valid} to validate and {plan.test} to test"
    scenes = f"{plan.scenes + plan.valid_scenes} scenes ({plan.scenes} test, {plan.valid_scenes} validation)"
    lines = [f"drew {len(cast)} characters in {arguments.out}: {images} images ({each}) and {scenes}"]
    if plan.train:
        lines.append(f"next: `naruto-vision fit --config clip.yaml --data.root {arguments.out}` tunes CLIP on them")
    return lines
