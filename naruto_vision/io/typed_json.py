"""Read JSON files as typed values, with errors that name the file and the JSON path."""

import json
import math
import re
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from naruto_vision.errors import FormatError, JsonError

T = TypeVar("T")
_MISFIT = re.compile(r"(?P<expected>.*?)(?:, got .*?)?(?: - at `\$(?P<place>.*)`)?", re.DOTALL)
_WORDS = {"array": "a list", "object": "an object", "str": "text", "float": "a number", "int": "a whole number"}
_STEP = re.compile(r"\[(\d+)\]|\.(\w+)")


def refuse_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a JSON object with a repeated key, which a plain reader accepts (`object_pairs_hook`)."""
    value = dict(pairs)
    if len(value) != len(pairs):
        name, count = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"{name!r} {count} times in one object")
    return value


def require_regular(path: Path) -> None:
    """Refuse a folder, a pipe or a device, whose content may never end; what is missing passes."""
    try:
        mode = path.stat().st_mode  # once: a file may be moved meanwhile
    except OSError:
        return
    if not stat.S_ISREG(mode):
        raise FormatError(path, "a file", "a folder" if stat.S_ISDIR(mode) else "a pipe or a device")


def read_json(path: Path, kind: type[T], *, hint: str = "") -> T:
    """Read a JSON file, with or without a byte order mark, as a type that ``msgspec`` understands."""
    require_regular(path)
    return parse_json(path, path.read_bytes(), kind, hint=hint)


def parse_json(path: str | Path, data: bytes, kind: type[T], *, hint: str = "") -> T:
    """Parse the bytes of a JSON file as ``read_json`` does; ``path`` is for messages."""
    try:
        value = json.loads(data.decode("utf-8-sig"), object_pairs_hook=refuse_repeats)
    except (ValueError, RecursionError) as error:  # both kinds of decode error are ValueErrors
        raise JsonError(path, error, hint) from None
    return convert_json(path, value, kind, hint=hint)


def finite_number(text: str) -> float:
    """Read a number or a constant of JSON; ValueError for NaN and infinity (``parse_float``, ``parse_constant``)."""
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text[:20]}, expected a finite number")
    return value


def read_json_lines(path: Path, kind: type[T], *, hint: str = "") -> Iterator[T]:
    """Yield the values of an append-only JSON Lines file, without a torn last line; none if there is no file.

    What writes such files here writes no NaN or infinity, so that neither is read.
    """
    if not path.exists():
        return
    require_regular(path)
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.endswith(b"\n"):
                try:
                    value = json.loads(line, parse_float=finite_number, parse_constant=finite_number)
                except (ValueError, RecursionError) as error:
                    raise JsonError(path, error, hint, number) from None
                yield convert_json(f"{path}: line {number}", value, kind, hint=hint)


def convert_json(path: str | Path, value: object, kind: type[T], *, where: str = "", hint: str = "") -> T:
    """Convert JSON values of a file; ``where`` is their path in it."""
    try:
        return msgspec.convert(value, kind)
    except (RecursionError, UnicodeError) as error:  # a lone surrogate where no text is expected
        raise JsonError(path, error, hint) from None
    except msgspec.ValidationError as error:
        found = _MISFIT.fullmatch(str(error))
        expected, place = (found["expected"], found["place"] or "") if found else (str(error), "")
        expected = expected.removeprefix("Expected ").replace("Object missing required field", "an object with")
        expected = expected.replace("Object contains unknown field", "no key")
        expected = re.sub("Invalid enum value .*", "another value", expected)
        expected = re.sub(r"`(\w+)( \| null)?`", lambda kind: _WORDS.get(kind[1], f"{kind[1]!r}"), expected)
        if where or place:
            expected = f"in {where}{place if where else place.removeprefix('.')} {expected}"
        raise FormatError(path, expected, repr(_value_at(value, place))[:60], hint) from None


def _value_at(value: object, place: str) -> object:
    """Follow a path such as ``[0].bbox[2]`` as far as its keys exist."""
    found: Any = value
    for index, name in _STEP.findall(place.partition("[...]")[0]):
        found = found[int(index) if index else name]
    return found
