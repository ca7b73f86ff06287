"""Tables that a file describes: which commands make the figures, from which data, and where each figure stands.

::

    title: Names in synthetic scenes
    steps:                       # commands, run in the output folder; "{NAME}" is the folder of --data NAME
      - draw --out data --scenes 40
      - evaluate --gt data/scenes/test/gt.json --preds-dir runs/scenes --json-out scenes.json
    expect:                      # sha256 of what the figures come from; "?" is not known yet
      config clip.yaml: "?"
      weights tiny-clip: 3f9a...
      data/scenes/test/gt.json: 07bc...
    columns: [all regions]
    rows:
      object accuracy: scenes.json#/object_accuracy      # a JSON file and a JSON pointer (RFC 6901)
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from naruto_vision.errors import FormatError, InputError, MissingPathError
from naruto_vision.io.text import csv_text
from naruto_vision.io.typed_json import convert_json, read_json
from naruto_vision.io.yaml_files import read_yaml
from naruto_vision.metrics.report import format_rate, format_value
from naruto_vision.metrics.stats import Rate

_COLUMN = "{column}"


class TableFile(msgspec.Struct, forbid_unknown_fields=True):
    """The description of a table.

    Args:
        title: Its title.
        columns: The names of its columns of figures.
        rows: Row → the place of the figure of each column, empty for none; or one place with ``{column}`` in it.
        steps: Commands, without the program's name.
        expect: What the figures come from → its sha256, or "?".
        note: A remark below the table.
    """

    title: str
    columns: list[str]
    rows: dict[str, str | list[str]]
    steps: list[str] = []
    expect: dict[str, str] = {}
    note: str = ""

    def places(self, row: str) -> list[str]:
        """Return the place of each column's figure in a row."""
        place = self.rows[row]
        return [place.replace(_COLUMN, column) for column in self.columns] if isinstance(place, str) else place


def read_table_file(path: Path) -> TableFile:
    """Read and check the description of a table.

    Raises:
        InputError: If it is no such file; the message names the key.
    """
    table = convert_json(path, read_yaml(path), TableFile)
    for row in table.rows:
        places = table.places(row)
        if len(places) != len(table.columns):
            raise FormatError(
                path, f"{len(table.columns)} places in row {row!r}, one for each column", f"{len(places)}"
            )
        if broken := [place for place in places if place and "#/" not in place]:
            raise FormatError(path, f"FILE.json#/KEY/... or nothing in row {row!r}", repr(broken[0]))
    return table


def read_figures(table: TableFile, find: Callable[[str], Path]) -> dict[str, list[Any]]:
    """Read each row's figures from JSON files.

    Args:
        table: The description.
        find: Turns the name of a file in it into its path.

    Returns:
        Row → the JSON value of each column.

    Raises:
        InputError: If a file or a key is missing; the message names it.
    """
    files: dict[str, Any] = {}
    rows: dict[str, list[Any]] = {}
    for row in table.rows:
        rows[row] = []
        for place in table.places(row):
            name, _, pointer = place.partition("#")
            if name and name not in files:
                if not find(name).is_file():
                    raise MissingPathError(find(name), "file", f"row {row!r} needs it")
                files[name] = read_json(find(name), dict[str, Any])
            rows[row].append(_checked(_follow(files[name], pointer, place), place) if name else None)
    return rows


def _checked(figure: Any, place: str) -> Any:  # noqa: ANN401 - JSON values
    """Refuse numbers that JSON has not, and rates that are none."""
    try:
        json.dumps(figure, allow_nan=False)
        _text(figure)
    except (ValueError, TypeError, OverflowError) as error:
        raise FormatError(place, "a figure", f"{error}"[:100]) from None
    return figure


def _follow(document: Any, pointer: str, place: str) -> Any:  # noqa: ANN401 - JSON values
    """Return the value at a JSON pointer."""
    for part in pointer.removeprefix("/").split("/"):
        key: str | int = part.replace("~1", "/").replace("~0", "~")
        if isinstance(document, list) and re.fullmatch(r"[0-9]{1,9}", part):
            key = int(key)
        try:
            document = document[key]
        except (LookupError, TypeError):
            known = ", ".join(map(repr, document)) if isinstance(document, dict) else f"{type(document).__name__}"
            raise InputError(f"{place[:200]}: no {part[:100]!r} there; found {known[:200]}") from None
    return document


def table_document(
    table: TableFile, figures: Mapping[str, Sequence[Any]], made_of: Mapping[str, str]
) -> dict[str, Any]:
    """Return a table as JSON values; ``made_of`` are the hashes of what its figures come from."""
    return {
        "title": table.title,
        "columns": table.columns,
        "rows": {name: list(cells) for name, cells in figures.items()},
        "note": table.note,
        "steps": table.steps,
        "made_of": dict(made_of),
    }


def table_markdown(document: Mapping[str, Any]) -> str:
    """Return a table as Markdown, each rate with its counts and its 95 % interval."""
    columns = document["columns"]
    lines = [f"| {document['title']} | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    lines += [f"| {name} | {' | '.join(map(_text, cells))} |" for name, cells in document["rows"].items()]
    note = f"\n{document['note'].strip()}\n" if document["note"] else ""
    return "\n".join(lines) + "\n" + note


def table_csv(document: Mapping[str, Any]) -> str:
    """Return a table as CSV: a line for each figure, with counts and interval where it has them."""
    keys = ("value", "count", "total", "low", "high")
    lines: list[list[object]] = [["row", "column", *keys]]
    for name, cells in document["rows"].items():
        for column, cell in zip(document["columns"], cells, strict=True):
            values = [cell.get(key) for key in keys] if isinstance(cell, Mapping) else [cell]
            lines.append([name, column, *("" if value is None else value for value in values)])
    return csv_text(lines)


def _text(cell: Any) -> str:  # noqa: ANN401 - JSON values
    """Return a figure as the text of a cell."""
    if isinstance(cell, Mapping) and {"count", "total"} <= cell.keys():
        return format_rate(Rate(int(cell["count"]), int(cell["total"]))).replace("  ", " = ", 1)
    if isinstance(cell, float):
        return format_value(cell)
    return "-" if cell is None else cell if isinstance(cell, str) else json.dumps(cell)
