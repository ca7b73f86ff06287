"""Where the pictures of a gallery's rows may lie."""

from pathlib import Path

_SPLITS = ("train", "valid", "val", "validation", "test")


def find_picture(root: Path, path: str) -> Path | None:
    """Find a row's picture below a folder.

    Rows of a data set with a folder a split are stored relative to that split's folder; people know the data set's
    own, because that is the one that they enrolled from.

    Args:
        root: The folder that the path is relative to, or the one that the split's folder lies in.
        path: As the gallery has it; an absolute one is looked for where it says.

    Returns:
        The file; None where it is not there.
    """
    places = (root / path, *(root / split / path for split in _SPLITS))
    return next((place for place in places if place.is_file()), None)
