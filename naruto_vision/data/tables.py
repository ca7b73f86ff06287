"""The class table: which picture is who, and what was left out on the way."""

import hashlib
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeAlias

from naruto_vision.errors import InputError
from naruto_vision.records import LabelledPicture

Split: TypeAlias = Literal["train", "valid", "test"]


@dataclass(frozen=True)
class TableReport:
    """What became of every row that a reader saw; each row is counted exactly once.

    Args:
        seen: Rows in the source.
        kept: Rows that gave at least one labelled picture.
        discarded_by_positives: Number of positive classes to rows that the policy left out.
        missing: Names whose file is not there.
        refused: ``name (reason)`` of paths that may not be followed.
        duplicates: Names that stood in an earlier row already.
        renamed: Header or label as found, to the class it became.
        unlisted: Pictures on the disk that no row names; not rows, so not part of ``seen``.

    Raises:
        ValueError: If the counts do not add up to ``seen``.
    """

    seen: int = 0
    kept: int = 0
    discarded_by_positives: Mapping[int, int] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    duplicates: tuple[str, ...] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)
    unlisted: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        parts = self.kept + self.discarded + len(self.missing) + len(self.refused) + len(self.duplicates)
        if parts != self.seen:
            msg = f"table report: {self.seen} rows seen but {parts} accounted for"
            raise ValueError(msg)

    @property
    def discarded(self) -> int:
        """Rows that the policy left out."""
        return sum(self.discarded_by_positives.values())

    @property
    def unlabelled(self) -> int:
        """Rows without any positive class."""
        return self.discarded_by_positives.get(0, 0)

    def summary(self) -> str:
        """Return one line for people."""
        extras = (
            (len(self.missing), "without their file"),
            (self.discarded, "left out by the policy"),
            (len(self.refused), "with a refused path"),
            (len(self.duplicates), "named twice"),
        )
        notes = [f"{count} {what}" for count, what in extras if count]
        return f"{self.kept} of {self.seen} rows kept" + (f" ({', '.join(notes)})" if notes else "")


@dataclass(frozen=True)
class ClassTable:
    """Pictures with their classes.

    Args:
        root: The folder that the paths are relative to.
        rows: The pictures, sorted by label, then path, without repeats.
        classes: Every class in its fixed order, also those without a picture here.
        report: What was seen and left out.

    Raises:
        ValueError: If the rows are unsorted or repeated, or a label is not among the classes.
    """

    root: Path
    rows: tuple[LabelledPicture, ...]
    classes: tuple[str, ...]
    report: TableReport = field(default_factory=TableReport)

    def __post_init__(self) -> None:
        keys = [(row.label, row.path) for row in self.rows]
        if any(first >= second for first, second in itertools.pairwise(keys)):
            msg = f"table of {self.root}: expected rows sorted by label and path without repeats"
            raise ValueError(msg)
        strangers = {row.label for row in self.rows} - set(self.classes)
        if strangers or len(set(self.classes)) != len(self.classes):
            msg = f"table of {self.root}: labels {sorted(strangers)} are not among the classes {self.classes}"
            raise ValueError(msg)

    def __len__(self) -> int:
        return len(self.rows)

    def counts(self) -> dict[str, int]:
        """Return the number of pictures of every class, in class order."""
        found = Counter(row.label for row in self.rows)
        return {name: found[name] for name in self.classes}

    def with_rows(self, rows: Sequence[LabelledPicture]) -> "ClassTable":
        """Return a table of other rows with the same root, classes and report.

        Args:
            rows: Sorted by label, then path.
        """
        return replace(self, rows=tuple(rows))

    def relabelled(self, classes: Sequence[str]) -> "ClassTable":
        """Return the same rows under a longer list of classes.

        Args:
            classes: The new order; it has to hold every label of the rows.
        """
        return replace(self, classes=tuple(classes))


def sorted_rows(pairs: Sequence[tuple[str, str]]) -> tuple[LabelledPicture, ...]:
    """Make rows in the order that every table has.

    Args:
        pairs: Path and label of each picture.
    """
    return tuple(LabelledPicture(path, label) for label, path in sorted({(label, path) for path, label in pairs}))


def merge_classes(tables: Sequence[ClassTable]) -> tuple[str, ...]:
    """Return the classes of several tables: the first table's order, then what the others add.

    Args:
        tables: The training table first.
    """
    return tuple(dict.fromkeys(name for table in tables for name in table.classes))


def hold_out(table: ClassTable, fraction: float) -> tuple[ClassTable, ClassTable]:
    """Split a table in two, the same way on every machine: by the hash of each path, class by class.

    Args:
        table: The whole.
        fraction: Share of each class that goes to the second table, in (0, 1); a class keeps at least one
            picture in the first.

    Returns:
        The larger part and the held-out part, with the same classes and report.
    """
    held: set[tuple[str, str]] = set()
    for name in table.classes:
        paths = [row.path for row in table.rows if row.label == name]
        paths.sort(key=lambda path: hashlib.sha256(path.encode()).hexdigest())
        held |= {(path, name) for path in paths[: min(round(len(paths) * fraction), len(paths) - 1)]}
    kept = [row for row in table.rows if (row.path, row.label) not in held]
    rest = [row for row in table.rows if (row.path, row.label) in held]
    return table.with_rows(kept), table.with_rows(rest)


def row_groups(table: ClassTable, *, balanced: bool) -> list[list[int]]:
    """Return the rows that take turns in training.

    Args:
        table: The training rows.
        balanced: A group a class that has pictures; else one group of all.

    Raises:
        InputError: If the table is empty.
    """
    if not table.rows:
        msg = f"{table.root}: no pictures to train on"
        raise InputError(msg)
    groups: dict[str, list[int]] = {}
    for number, row in enumerate(table.rows):
        groups.setdefault(row.label if balanced else "", []).append(number)
    return list(groups.values())
