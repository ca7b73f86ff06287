"""Names: one form for those that are compared, and output files that every file system takes."""

import hashlib
import re
import unicodedata

from naruto_vision.io.atomic import unicode_text, utf8

_LONGEST = 200  # bytes; file systems take 255, and outputs add endings such as "_overlay.json"
_FOLDER = 120  # bytes of a folder's name, so that paths below it stay short
_NOT_UTF8 = re.compile("[\ud800-\udfff]")
_DRIVE_OR_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*:")


def label_name(text: str) -> str:
    """Return the one form in which names are compared: Unicode NFC, no spaces around, bytes that are not UTF-8 escaped.

    Examples:
        >>> label_name(" Zoe\u0308 ") == "Zo\u00eb"
        True
    """
    return unicode_text(unicodedata.normalize("NFC", text).strip())


def output_name(path: str, *, always: bool = False) -> str:
    """Return a POSIX path whose last name is short and UTF-8; one that is changed ends in "~" and a hash of the whole.

    Args:
        path: Of an image or a stem, relative to the output folder.
        always: Change it in any case, for names that differ only in case.

    Examples:
        >>> output_name("a/b"), output_name("é" * 120)[94:]
        ('a/b', 'é~bb658d82')
    """
    folder, slash, name = path.rpartition("/")
    data = _NOT_UTF8.sub("_", name).encode()
    if always or len(data) > _LONGEST or _NOT_UTF8.search(path):
        name = f"{data[: _LONGEST - 9].decode(errors='ignore')}~{hashlib.sha256(utf8(path)).hexdigest()[:8]}"
    return f"{_NOT_UTF8.sub('_', folder)}{slash}{name}"


def folder_name(text: str, *, always: bool = False) -> str:
    """Return a name that every file system takes for any text; one that changes more than spaces ends in a hash.

    Args:
        text: Of any length and with any characters.
        always: Add the hash in any case, for names that would be equal.

    Examples:
        >>> folder_name("a girl with pink hair"), folder_name("../who?")
        ('a_girl_with_pink_hair', 'who~cc93d6f0')
    """
    plain = label_name(text)
    short = re.sub(r"[^\w.-]+", "_", plain).strip("_.").encode()[:_FOLDER].decode(errors="ignore")
    if short and short == plain.replace(" ", "_") and not always:
        return short
    return f"{short}~{hashlib.sha256(utf8(text)).hexdigest()[:8]}"


def longer_stems(scene: str) -> list[str]:
    """Return the stems of a scene's outputs where its path without extension is taken, in order of preference."""
    return [output_name(scene), output_name(scene, always=True)]


def refusal(text: str) -> str:
    """Return why a path that a file or an archive names is refused; empty if it is a path below its folder."""
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
    if ".." in text.split("/"):
        return "climbs out with '..'"
    return ""
