"""What many commands share with the terminal: checked numbers coming in, a bar with the time left going out."""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager


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
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= 1.0:
        msg = f"expected a number from 0 to 1, found {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return value


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[], None]]:
    """Show a bar with the time left on stderr.

    Args:
        what: What is being done.
        total: How many steps there are.

    Yields:
        A function to call after every step.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)
