"""``naruto-vision draw``: a cast's images and scenes, with their ground truth."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from naruto_vision.cli.console import progress, whole_number
from naruto_vision.errors import InputError
from naruto_vision.io.bundles import config_path

if TYPE_CHECKING:
    from naruto_vision.synthetic.dataset import WorldPlan


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes.

    Args:
        parser: The parser to add to.
    """
    parser.add_argument("--out", type=Path, required=True, help="the folder to draw into; it must be empty or new")
    parser.add_argument("--cast", type=Path, help="YAML file of names and attributes (default: the packaged cast)")
    parser.add_argument("--seed", type=whole_number, default=7, help="decides every pixel (default: 7)")
    parser.add_argument("--train", type=whole_number, default=40, help="training images a class (default: 40)")
    parser.add_argument("--valid", type=whole_number, default=10, help="validation images a class (default: 10)")
    parser.add_argument("--test", type=whole_number, default=25, help="test images a class (default: 25)")
    parser.add_argument("--scenes", type=whole_number, default=200, help="test scenes (default: 200)")
    parser.add_argument("--valid-scenes", type=whole_number, default=40, help="validation scenes (default: 40)")
    parser.add_argument("--size", type=whole_number, default=384, help="side of a scene in pixels (default: 384)")
    parser.add_argument("--picture-size", type=whole_number, default=192, help="side of a class image (default: 192)")
    parser.add_argument(
        "--quirks",
        action="store_true",
        help="write the class tables as untidily as real exports: blanks, an Unlabeled column, a misspelt class, "
        "absent files, rows of two classes, no final newline",
    )
    parser.add_argument("--force", action="store_true", help="replace an older drawn world")


def run(arguments: argparse.Namespace) -> int:
    """Draw the world, and print what was drawn.

    Args:
        arguments: What ``add_arguments`` declared.

    Returns:
        The exit code, 0.

    Raises:
        InputError: As ``draw_world``.
    """
    lines = draw_world(arguments)
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 0


def draw_world(arguments: argparse.Namespace) -> list[str]:
    """Draw the world.

    Args:
        arguments: What ``add_arguments`` declared.

    Returns:
        Lines for people: what was drawn, where it is, and what to do with it.

    Raises:
        InputError: If the cast cannot be read, a size is out of range, or the folder is not free.
    """
    from naruto_vision.synthetic.attributes import read_cast
    from naruto_vision.synthetic.dataset import WorldPlan, check_place, write_world

    cast = read_cast(arguments.cast or config_path("cast.yaml"))
    try:
        plan = WorldPlan(
            seed=arguments.seed,
            train=arguments.train,
            valid=arguments.valid,
            test=arguments.test,
            scenes=arguments.scenes,
            valid_scenes=arguments.valid_scenes,
            size=arguments.size,
            picture_size=arguments.picture_size,
            quirks=arguments.quirks,
        )
    except ValueError as error:
        raise InputError(str(error)) from None
    check_place(arguments.out, force=arguments.force)  # before the bar is shown
    with progress("drawing", plan.steps(len(cast))) as advance:
        write_world(arguments.out, cast, plan, force=arguments.force, advance=advance)
    return _told(arguments.out, plan, len(cast))


def _told(out: Path, plan: "WorldPlan", members: int) -> list[str]:
    images = members * (plan.train + plan.valid + plan.test)
    each = f"of each {plan.train} to train, {plan.valid} to validate and {plan.test} to test"
    scenes = f"{plan.scenes + plan.valid_scenes} scenes ({plan.scenes} test, {plan.valid_scenes} validation)"
    lines = [f"drew {members} characters in {out}: {images} images ({each}) and {scenes}"]
    if plan.train:
        lines.append(f"next: `naruto-vision fit --config clip.yaml --data.root {out}` tunes CLIP on them")
    return lines
