"""Read CSV files and lists as spreadsheets write them: any separator, UTF-8, UTF-16 or Windows-1252."""

import codecs
import contextlib
import csv
import io
import logging
import re
from collections.abc import Iterator
from pathlib import Path

from naruto_vision.errors import FormatError, MissingPathError

_MOST_BYTES = 1 << 30
_SNIFFED = 1 << 16  # bytes that the header is in
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_SEPARATOR_LINE = re.compile(r"sep=(.)\r?\n", re.IGNORECASE)  # some programs write it first
_LOG = logging.getLogger(__name__)


def read_csv(path: Path, *, strict: bool = False) -> Iterator[tuple[int, list[str]]]:
    """Read line number and stripped values of each row that is not blank; ``strict`` refuses stray quotes."""
    if not path.is_file():
        raise MissingPathError(path, "CSV file")
    if (size := path.stat().st_size) > _MOST_BYTES:
        raise FormatError(path, f"a CSV file of at most {_MOST_BYTES >> 20} MiB", f"{size >> 20} MiB")
    text = decode_text(path, path.read_bytes())
    if text.count('"') % 2:
        opened = max(k for k, line in enumerate(text.split("\n"), start=1) if line.count('"') % 2)
        raise FormatError(path, "quotes in pairs", f"one that is not closed in line {opened} or before")
    try:
        yield from _rows(text, strict=strict)
    except csv.Error as error:
        raise FormatError(path, "comma-separated values", str(error)) from None


def csv_header(path: Path) -> list[str]:
    """Return the values of the first row, also of a file that ``read_csv`` refuses; none of an empty file."""
    with path.open("rb") as file:
        start = file.read(_SNIFFED)
    try:
        return next(_rows(start.decode("utf-16" if start.startswith(_UTF16) else "utf-8-sig", "replace")), (0, []))[1]
    except csv.Error:
        return []


def decode_text(path: Path, data: bytes) -> str:
    """Decode UTF-8, UTF-16 with its mark, or Windows-1252, where single letters of a word have an accent."""
    utf16 = data.startswith(_UTF16)
    try:
        return data.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
    with contextlib.suppress(UnicodeDecodeError):
        if not utf16 and not re.search(rb"[\xfe\xff]|[\x80-\xff]{3}", data):
            text = data.decode("cp1252")
            _LOG.warning("%s: line %d is not UTF-8; the file is read as Windows-1252", path, line)
            return text
    raise FormatError(path, "UTF-8 text", f"another encoding in line {line}", "save it as UTF-8")


def _rows(text: str, *, strict: bool = False) -> Iterator[tuple[int, list[str]]]:
    marked = _SEPARATOR_LINE.match(text)
    rest, skipped = (text[marked.end() :], 1) if marked else (text, 0)
    separator = marked[1] if marked else _separator(rest)
    reader = csv.reader(io.StringIO(rest, newline=""), delimiter=separator, skipinitialspace=True, strict=strict)
    try:
        for values in filter(any, ([value.strip() for value in row] for row in reader)):
            yield reader.line_num + skipped, values
    except csv.Error as error:
        raise csv.Error(f"{error} in line {reader.line_num + skipped}") from None


def _separator(text: str) -> str:
    """Return what separates the values of the first line: a comma, semicolon or tab, whichever is there most often."""
    line = re.sub(r'"[^"]*"', "", text.lstrip()[:100_000]).partition("\n")[0]
    return max(",;\t", key=line.count)
