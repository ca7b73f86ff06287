"""What many commands share with the terminal: checked numbers coming in, a bar with the time left going out."""

import argparse
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from naruto_vision.errors import InputError

SHEET_SUFFIXES = (".png", ".jpg", ".webp")
"""How the names of contact sheets end."""


def add_theme_option(parser: argparse.ArgumentParser) -> None:
    """Declare the colours of a contact sheet.

    Args:
        parser: The parser of a command that draws one.
    """
    parser.add_argument(
        "--theme", choices=("dark", "light"), default="dark", help="the sheet's colours (default: dark)"
    )


def check_sheet_name(path: Path) -> None:
    """Refuse a contact sheet whose name is no image's.

    Args:
        path: Where it is to go.

    Raises:
        InputError: If its name ends in anything else.
    """
    if path.suffix.lower() not in SHEET_SUFFIXES:
        msg = f"{path}: expected a name ending in {' or '.join(SHEET_SUFFIXES)}"
        raise InputError(msg)


def whole_number(text: str) -> int:
    """Read a whole number of 0 or more.

    Args:
        text: What the user wrote.

    Raises:
        argparse.ArgumentTypeError: If it is anything else.
    """
    if not (text.isascii() and text.isdigit()):
        msg = f"expected a whole number of 0 or more, found {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def share(text: str) -> float:
    """Read a share.

    Args:
        text: What the user wrote.

    Returns:
        A number in [0, 1].

    Raises:
        argparse.ArgumentTypeError: If it is anything else.
    """
    return _number_within(text, 0.0, 1.0)


def cosine(text: str) -> float:
    """Read a cosine.

    Args:
        text: What the user wrote.

    Returns:
        A number in [-1, 1].

    Raises:
        argparse.ArgumentTypeError: If it is anything else.
    """
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
def progress(what: str, total: int) -> Iterator[Callable[[], None]]:
    """Show a bar with the time left on stderr; nothing where that is no terminal.

    Args:
        what: What is being done.
        total: How many steps there are.

    Yields:
        A function to call after every step.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)
