"""Paths that other people's files name: kept inside one folder, whatever they say."""

import re
import unicodedata
from pathlib import Path, PurePosixPath

_DRIVE_OR_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*:")


def refusal(text: str) -> str:
    """Say why a path from a file may not be followed.

    Args:
        text: The path as the file has it.

    Returns:
        The reason in a few words, or an empty string for a plain relative POSIX path.
    """
    if not text or text.strip("./") == "":
        return "names no file"
    if "\0" in text:
        return "holds a NUL character"
    if "\\" in text:
        return "holds a backslash"
    if text.startswith(("/", "~")):
        return "is absolute"
    if _DRIVE_OR_SCHEME.match(text):
        return "starts with a drive or a scheme"
    if ".." in PurePosixPath(text).parts:
        return "climbs out with '..'"
    return ""


def find_inside(base: Path, name: str) -> Path | None:
    """Find a file that a table names, in either Unicode form of its name.

    Args:
        base: The folder that the name is relative to, already resolved (it may itself have been a link).
        name: A path that ``refusal`` lets pass.

    Returns:
        The file, or None where it is missing, not a regular file, or a link that leads out of ``base``.
    """
    for form in (name, unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name)):
        candidate = base / form
        try:
            if candidate.is_file() and candidate.resolve().is_relative_to(base):
                return candidate
        except OSError:  # a name too long for the file system is a name that is not there
            continue
    return None
