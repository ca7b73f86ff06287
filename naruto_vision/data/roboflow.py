"""Roboflow multi-class exports: ``_classes.csv`` beside the pictures of a split, with all its quirks.

Only the standard ``csv`` module reads it: classes named ``None``, ``NA`` or ``1e5`` stay what they are.
"""

import csv
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from naruto_vision.data.rows import ReadRules, SourceRow, build_table
from naruto_vision.data.tables import ClassTable
from naruto_vision.errors import FormatError, MissingPathError

CLASSES_CSV = "_classes.csv"
_FILE_COLUMN = "filename"
_NOT_A_CLASS = "unlabeled"


def read_csv(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Read a CSV file of any everyday dialect of line ends, with blanks around the values dropped.

    Args:
        path: UTF-8, with or without a byte-order mark.

    Yields:
        Line number in the file, and the row's values; rows without any value are passed over.

    Raises:
        MissingPathError: If there is no such file.
        FormatError: If it is not UTF-8, or not CSV.
    """
    if not path.is_file():
        raise MissingPathError(path, "CSV file")
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            reader = csv.reader(handle, skipinitialspace=True)
            rows = ([value.strip() for value in row] for row in reader)
            for values in filter(any, rows):
                yield reader.line_num, values
    except UnicodeDecodeError:
        raise FormatError(path, "UTF-8 text", "another encoding", "save it as UTF-8") from None
    except csv.Error as error:
        raise FormatError(path, "comma-separated values", str(error)) from None


def is_positive(text: str) -> bool:
    """Tell whether a cell of a one-hot table marks its class.

    Args:
        text: The cell; blank and ``nan`` count as 0.

    Raises:
        ValueError: If it is neither a number nor blank.
    """
    if not text:
        return False
    value = float(text)
    return not math.isnan(value) and value > 0


def _class_columns(path: Path, header: list[str]) -> tuple[int, dict[int, str]]:
    """Return the filename's column, and column to class name as found."""
    lowered = [name.casefold() for name in header]
    if _FILE_COLUMN not in lowered:
        raise FormatError(path, "a column 'filename'", f"columns {', '.join(header)[:80]}")
    place = lowered.index(_FILE_COLUMN)
    if place != len(lowered) - 1 - lowered[::-1].index(_FILE_COLUMN):
        raise FormatError(path, "one column 'filename'", "two")
    names = [name for i, name in enumerate(header) if i != place and name]
    for name in names:
        if names.count(name) > 1:
            raise FormatError(path, "one column a class", f"{name!r} twice")
    columns = {i: name for i, name in enumerate(header) if i != place and name and name.casefold() != _NOT_A_CLASS}
    return place, columns


def _source_row(
    path: Path, line: int, values: list[str], width: int, place: int, columns: Mapping[int, str]
) -> SourceRow:
    if not place < len(values) or any(values[width:]):
        raise FormatError(path, f"{width} values in line {line}", f"{len(values)}")
    positives = []
    for i, name in columns.items():
        cell = values[i] if i < len(values) else ""
        try:
            marked = is_positive(cell)
        except ValueError:
            raise FormatError(path, f"0 or 1 in line {line}, column {name!r}", repr(cell)[:40]) from None
        if marked:
            positives.append(name)
    return SourceRow(values[place], tuple(positives))


def read_roboflow(folder: str | Path, rules: ReadRules | None = None) -> ClassTable:
    """Read one split of a Roboflow multi-class export.

    Args:
        folder: The split's folder, with ``_classes.csv`` and the pictures.
        rules: What becomes of class names and of rows with several classes.

    Returns:
        The table; its root is ``folder``.

    Raises:
        MissingPathError: If there is no ``_classes.csv``.
        FormatError: If it is empty, has no ``filename`` column, or has a cell that is not a number.
    """
    folder = Path(folder)
    path = folder / CLASSES_CSV
    lines = read_csv(path)
    header = next(lines, (0, []))[1]
    if not header:
        raise FormatError(path, "a header with 'filename' and the classes", "an empty file")
    place, columns = _class_columns(path, header)
    rows = [_source_row(path, line, values, len(header), place, columns) for line, values in lines]
    return build_table(folder, rows, tuple(columns.values()), rules or ReadRules())
