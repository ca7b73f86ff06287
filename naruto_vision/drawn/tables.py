"""The one-hot class table of a drawn split, tidy or with the quirks that real exports have."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class TableRow:
    """One row: a file and its classes.

    Args:
        filename: Name of the picture.
        labels: Its classes; more than one only as a quirk.
    """

    filename: str
    labels: tuple[str, ...]


def misspelt(name: str) -> str:
    """Drop a name's second letter, as hurried typists do.

    Args:
        name: A name.
    """
    return name[:1] + name[2:] if len(name) > 2 else name


def add_quirks(rows: Sequence[TableRow], classes: Sequence[str]) -> list[TableRow]:
    """Make some rows have two classes, and add rows of files that are not there.

    Args:
        rows: The tidy rows.
        classes: All classes.

    Returns:
        As many rows and a few more: every 17th has the next class too, and one in 20 names an absent file.
    """
    following = dict(zip(classes, [*classes[1:], *classes[:1]], strict=True))
    quirky = [
        TableRow(row.filename, (*row.labels, following[row.labels[0]]) if k % 17 == 16 else row.labels)
        for k, row in enumerate(rows)
    ]
    absent = [TableRow(f"absent-{k:03d}.jpg", (classes[k % len(classes)],)) for k in range(1 + len(rows) // 20)]
    return quirky + absent


def class_table(rows: Sequence[TableRow], classes: Sequence[str], *, quirks: bool = False) -> str:
    """Write a ``_classes.csv``.

    Args:
        rows: Its rows.
        classes: Its columns, in order.
        quirks: Put blanks after commas, an ``Unlabeled`` column in the middle and the last class misspelt into the
            header, and leave the final newline out.
    """
    columns: list[str] = list(classes)
    header = list(columns)
    if quirks:
        header[-1] = misspelt(header[-1])
        columns.insert(len(columns) // 2, "Unlabeled")
        header.insert(len(header) // 2, "Unlabeled")
    lines = [["filename", *header], *([row.filename, *(str(int(c in row.labels)) for c in columns)] for row in rows)]
    text = "\n".join((", " if quirks else ",").join(line) for line in lines)
    return text if quirks else text + "\n"
