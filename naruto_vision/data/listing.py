"""Names for messages: a few of many, and the pictures that lie where nobody looks."""

import logging
from collections.abc import Sequence
from pathlib import Path

from naruto_vision.files.images import is_picture

_LOG = logging.getLogger(__name__)


def some_of(names: Sequence[str], most: int = 3) -> str:
    """Return the first names of a list, and how many more there are.

    Args:
        names: The names.
        most: How many are written out.
    """
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def tell_of_others(folder: Path, searched: str) -> None:
    """Warn of pictures that lie beside the only folder that is searched.

    Args:
        folder: An existing folder; its own files are looked at, not those of deeper folders.
        searched: Name of the folder in it that is searched.
    """
    others = sorted(file.name for file in folder.iterdir() if is_picture(file))
    if others:
        what = f"{len(others)} pictures beside {searched}/ are not searched ({some_of(others)})"
        _LOG.warning("%s: %s; move them into %s", folder, what, folder / searched)
