"""Option types that commands share, and the progress bar."""

import argparse
import math
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from naruto_vision.io.text import printable

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn, TaskID
    from rich.table import Table

    from naruto_vision.io.quarantine import Quarantine


def whole_number(text: str) -> int:
    """Read a whole number of 0 or more, for argparse's ``type``."""
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"expected a whole number of 0 or more, found {text!r}")
    return int(text)


def count(text: str) -> int:
    """Read a whole number of 1 or more, for argparse's ``type``."""
    if not (text.isascii() and text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError(f"expected a whole number of 1 or more, found {text!r}")
    return int(text)


def fraction(text: str) -> float:
    """Read a number in [0, 1], for argparse's ``type``."""
    return _number_from(text, 0.0)


def cosine(text: str) -> float:
    """Read a number in [-1, 1], for argparse's ``type``."""
    return _number_from(text, -1.0)


def one_of(*choices: str) -> Callable[[str], str]:
    """Return what reads one of these words, for argparse's ``type``."""

    def read(text: str) -> str:
        if text not in choices:
            raise argparse.ArgumentTypeError(f"expected one of {', '.join(choices)}, found {text!r}")
        return text

    return read


def above_zero(what: str, most: float) -> Callable[[str], float]:
    """Return what reads a number of something above 0 and up to ``most``, for argparse's ``type``."""

    def read(text: str) -> float:
        if not 0 < (value := _number(text)) <= most:
            raise argparse.ArgumentTypeError(f"expected {what}, above 0 and up to {most:g}, found {text!r}")
        return value

    return read


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _number_from(text: str, low: float) -> float:
    if not low <= (value := _number(text)) <= 1.0:
        raise argparse.ArgumentTypeError(f"expected a number from {low:g} to 1, found {text!r}")
    return value


def _path_ending_in(*suffixes: str) -> Callable[[str], Path]:
    def read(text: str) -> Path:
        path = Path(text)
        if path.suffix.lower() not in suffixes:
            raise argparse.ArgumentTypeError(f"expected a name ending in {' or '.join(suffixes)}, found {text!r}")
        return path

    return read


sheet_path = _path_ending_in(".png", ".jpg", ".webp")
"""Read the path of a contact sheet, for argparse's ``type``."""
page_path = _path_ending_in(".html")
"""Read the path of a page, for argparse's ``type``."""


def add_theme_option(parser: argparse.ArgumentParser) -> None:
    """Declare ``--theme``."""
    parser.add_argument("--theme", choices=("dark", "light"), default="dark", help="colours of the contact sheet")


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """Declare ``--json`` of commands that print."""
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def show(*items: "str | Table") -> None:
    """Print lines and tables on stdout, control characters escaped; names that are not Unicode as their bytes."""
    for item in items:
        if isinstance(item, str):
            sys.stdout.write(f"{printable(item)}\n")
        else:
            from rich.console import Console

            Console().print(item)


def warn(line: str) -> None:
    """Print a line on stderr, control characters escaped."""
    sys.stderr.write(f"{printable(line)}\n")


def warn_left_out(quarantine: "Quarantine") -> None:
    """Name the files that could not be used, each with its reason."""
    for bad in quarantine.rows:
        warn(f"left out: {bad.reason}")


def show_json(document: object) -> None:
    """Print a JSON document on stdout."""
    from naruto_vision.io.atomic import json_bytes

    show(json_bytes(document).decode().rstrip("\n"))


def make_table(columns: Iterable[str], rows: Iterable[Iterable[object]], title: str = "") -> "Table":
    """Lay out rows of text and numbers."""
    from rich.markup import escape
    from rich.table import Column, Table
    from rich.text import Text

    title_text = Text(printable(title)) if title else None
    headers = (escape(printable(column, one_line=True)) for column in columns)
    table = Table(  # nothing is cut off in a narrow terminal
        *(Column(header, overflow="fold") for header in headers), title=title_text, title_justify="left"
    )
    for row in rows:
        cells = (printable(str(cell), one_line=not number) for number, cell in enumerate(row))  # the first is a name
        table.add_row(*map(Text, cells))  # neither markup nor emoji codes
    return table


@contextmanager
def progress(what: str, total: int, *, hidden: bool = False) -> Iterator[Callable[[], None]]:
    """Show a progress bar with the time left on stderr, if that is a terminal; yields the call after each step."""
    from rich.progress import MofNCompleteColumn

    with _bar(what, total, MofNCompleteColumn(), hidden=hidden) as (bar, task):
        yield lambda: bar.advance(task)


@contextmanager
def download_progress(name: str) -> Iterator[Callable[[int, int], None]]:
    """Show the progress of a download; yields the call that takes the bytes so far and in all (0 if unknown)."""
    from rich.progress import DownloadColumn, TransferSpeedColumn

    with _bar(name, None, DownloadColumn(), TransferSpeedColumn()) as (bar, task):
        yield lambda done, total: bar.update(task, completed=done, total=total or None)


@contextmanager
def count_progress() -> Iterator[Callable[[str, int, int], None]]:
    """Show how far work is; yields the call that takes its name, what is done of it (frames, rows), and all."""
    from rich.progress import MofNCompleteColumn

    with _bar("", None, MofNCompleteColumn()) as (bar, task):
        yield lambda name, done, total: bar.update(
            task, description=printable(name, one_line=True), completed=done, total=total
        )


@contextmanager
def _bar(
    what: str, total: int | None, *columns: "ProgressColumn", hidden: bool = False
) -> Iterator[tuple["Progress", "TaskID"]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    shown = (TextColumn("{task.description}", markup=False), BarColumn(), *columns, TimeRemainingColumn())
    with Progress(*shown, console=console, transient=True, disable=hidden or not console.is_terminal) as bar:
        yield bar, bar.add_task(printable(what, one_line=True), total=total)
