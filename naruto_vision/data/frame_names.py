"""What a file name says about where its picture comes from: a family of frames and a number in it."""

import re
from collections.abc import Collection
from pathlib import PurePosixPath
from typing import NamedTuple

_EXPORT_HASH = re.compile(r"\.rf\.[0-9A-Za-z]+$")
_OLD_SUFFIX = re.compile(r"[_-](jpe?g|png|webp|bmp|gif)$", re.IGNORECASE)
_LAST_NUMBER = re.compile(r"^(.*?)([0-9]+)([^0-9]*)$", re.DOTALL)
_SPLIT_FOLDERS = frozenset({"train", "training", "valid", "val", "validation", "test", "testing"})


class Frame(NamedTuple):
    """A place in a numbered family of pictures.

    Args:
        family: What is the same in all names of the family.
        number: The frame's number.
    """

    family: str
    number: int


def plain_stem(name: str) -> str:
    """Return a file name's stem without what a Roboflow export adds (``_jpg.rf.<hash>``).

    Args:
        name: A file name, or a path whose last part is one.

    Example:
        >>> plain_stem("show-12_jpg.rf.0a1b.jpg")
        'show-12'
    """
    return _OLD_SUFFIX.sub("", _EXPORT_HASH.sub("", PurePosixPath(name).stem))


def is_exported(name: str) -> bool:
    """Tell whether a Roboflow export named a file; equal plain stems are then copies of one uploaded picture.

    Args:
        name: A file name, or a path whose last part is one.
    """
    return bool(_EXPORT_HASH.search(PurePosixPath(name).stem))


def frame_of(path: str, classes: Collection[str] = ()) -> Frame | None:
    """Read family and frame number out of a picture's path.

    The number is the last run of digits of the plain stem. The family is the rest of the stem and the folders, without
    those that name a split or a class: a class folder says who is in a picture, not where it comes from.

    Args:
        path: POSIX, as a class table has it.
        classes: Class names, whose folders do not count.

    Returns:
        None for a name without digits.
    """
    match = _LAST_NUMBER.match(plain_stem(path))
    if match is None:
        return None
    folders = list(PurePosixPath(path).parts[:-1])
    splits = [place for place, part in enumerate(folders) if part.casefold() in _SPLIT_FOLDERS]
    folders = folders[splits[-1] + 1 :] if splits else folders
    kept = [part for part in folders if part not in classes]
    return Frame("/".join([*kept, f"{match[1]}#{match[3]}"]), int(match[2]))
