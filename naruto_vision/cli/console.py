"""Option types and checks that commands share, and their progress bar."""

import argparse
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from naruto_vision.errors import InputError

SHEET_SUFFIXES = (".png", ".jpg", ".webp")
"""How the names of contact sheets end."""


def add_theme_option(parser: argparse.ArgumentParser) -> None:
    """Declare ``--theme``."""
    parser.add_argument(
        "--theme", choices=("dark", "light"), default="dark", help="colours of the contact sheet (default: dark)"
    )


def check_sheet_name(path: Path) -> None:
    """Raise InputError unless a contact sheet has the name of an image."""
    if path.suffix.lower() not in SHEET_SUFFIXES:
        msg = f"{path}: expected a name ending in {' or '.join(SHEET_SUFFIXES)}"
        raise InputError(msg)


def whole_number(text: str) -> int:
    """Read a whole number of 0 or more, for argparse's ``type``."""
    if not (text.isascii() and text.isdigit()):
        msg = f"expected a whole number of 0 or more, found {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def share(text: str) -> float:
    """Read a number in [0, 1], for argparse's ``type``."""
    return _number_within(text, 0.0, 1.0)


def cosine(text: str) -> float:
    """Read a number in [-1, 1], for argparse's ``type``."""
    return _number_within(text, -1.0, 1.0)


def _number_within(text: str, low: float, high: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        msg = f"expected a number from {low:g} to {high:g}, found {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return value


@contextmanager
def progress(what: str, total: int, *, hidden: bool = False) -> Iterator[Callable[[], None]]:
    """Show a progress bar with the time left on stderr, if that is a terminal; yields the call after each step."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=hidden or not console.is_terminal) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)
