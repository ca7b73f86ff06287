"""The class table: which image is who, and what was left out on the way."""

import hashlib
import itertools
import logging
import os
import posixpath
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeAlias

from naruto_vision.errors import InputError
from naruto_vision.io.images import is_image, list_images
from naruto_vision.records import LabelledImage

_DRIVE_OR_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*:")


def refusal(text: str) -> str:
    """Say why a path from a file may not be followed."""
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


class FolderFiles:
    """The files of one folder by the names that a table gives them, in either Unicode form of the name.

    Args:
        folder: The folder that the names are relative to; it may itself be a link.
    """

    def __init__(self, folder: Path) -> None:
        self._base = folder.resolve()
        self._inside: dict[str, bool] = {}  # each sub-folder is resolved once, which is most of the time otherwise

    def find(self, name: str) -> str:
        """Return the POSIX path in the folder; empty for what is missing, no file, or a link that leads out."""
        other = () if name.isascii() else (unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name))
        for form in (name, *other):
            path = f"{self._base}/{form}"
            if os.path.isfile(path) and self._is_inside(path):  # noqa: PTH113 - pathlib takes ten times as long
                return str(posixpath.normpath(form))
        return ""

    def _is_inside(self, path: str) -> bool:
        if os.path.islink(path):  # noqa: PTH114 - pathlib takes ten times as long
            return Path(path).resolve().is_relative_to(self._base)
        folder = os.path.dirname(path)  # noqa: PTH120 - pathlib takes ten times as long
        if folder not in self._inside:
            self._inside[folder] = Path(folder).resolve().is_relative_to(self._base)
        return self._inside[folder]


def find_inside(base: Path, name: str) -> Path | None:
    """Find one file that a table names."""
    found = FolderFiles(base).find(name)
    return base / found if found else None


_LOG = logging.getLogger(__name__)


def some_of(names: Sequence[str], most: int = 3) -> str:
    """Return the first names of a list, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def tell_of_others(folder: Path, searched: str) -> None:
    """Warn of images that lie beside the only folder that is searched."""
    others = sorted(file.name for file in folder.iterdir() if is_image(file))
    if others:
        what = f"{len(others)} images beside {searched}/ are not searched ({some_of(others)})"
        _LOG.warning("%s: %s; move them into %s", folder, what, folder / searched)


Split: TypeAlias = Literal["train", "valid", "test"]


@dataclass(frozen=True)
class TableReport:
    """What became of every row that a reader saw; each row is counted exactly once.

    Args:
        seen: Rows in the source.
        kept: Rows that gave at least one labelled image.
        discarded_by_positives: Number of positive classes to rows that the policy left out.
        missing: Names whose file is not there.
        refused: ``name (reason)`` of paths that may not be followed.
        duplicates: Names that stood in an earlier row already.
        renamed: Header or label as found, to the class it became.
        unlisted: Images on the disk that no row names; not rows, so not part of ``seen``.

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
    """Images with their classes.

    Args:
        root: The folder that the paths are relative to.
        rows: The images, sorted by label, then path, without repeats.
        classes: Every class in its fixed order, also those without an image here.
        report: What was seen and left out.

    Raises:
        ValueError: If the rows are unsorted or repeated, or a label is not among the classes.
    """

    root: Path
    rows: tuple[LabelledImage, ...]
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
        """Return the number of images of every class, in class order."""
        found = Counter(row.label for row in self.rows)
        return {name: found[name] for name in self.classes}

    def with_rows(self, rows: Sequence[LabelledImage]) -> "ClassTable":
        """Return a table of other rows with the same root, classes and report."""
        return replace(self, rows=tuple(rows))

    def relabelled(self, classes: Sequence[str]) -> "ClassTable":
        """Return the same rows under a longer list of classes."""
        return replace(self, classes=tuple(classes))


def sorted_rows(pairs: Sequence[tuple[str, str]]) -> tuple[LabelledImage, ...]:
    """Make rows in the order that every table has."""
    return tuple(LabelledImage(path, label) for label, path in sorted({(label, path) for path, label in pairs}))


def merge_classes(tables: Sequence[ClassTable]) -> tuple[str, ...]:
    """Return the classes of several tables: the first table's order, then what the others add."""
    return tuple(dict.fromkeys(name for table in tables for name in table.classes))


def hold_out(table: ClassTable, fraction: float) -> tuple[ClassTable, ClassTable]:
    """Split a table in two, the same way on every machine: by the hash of each path, class by class."""
    held: set[LabelledImage] = set()
    for numbers in row_groups(table, balanced=True) if table.rows else ():
        rows = [table.rows[number] for number in numbers]
        rows.sort(key=lambda row: hashlib.sha256(row.path.encode()).hexdigest())
        held.update(rows[: min(round(len(rows) * fraction), len(rows) - 1)])
    kept = [row for row in table.rows if row not in held]
    rest = [row for row in table.rows if row in held]
    return table.with_rows(kept), table.with_rows(rest)


def row_groups(table: ClassTable, *, balanced: bool) -> list[list[int]]:
    """Return the rows that take turns in training."""
    if not table.rows:
        msg = f"{table.root}: no images to train on"
        raise InputError(msg)
    groups: dict[str, list[int]] = {}
    for number, row in enumerate(table.rows):
        groups.setdefault(row.label if balanced else "", []).append(number)
    return list(groups.values())


Policy: TypeAlias = Literal["single_only", "first", "all"]
"""What becomes of an image with several positive classes: left out, only its first class, or a row for each."""

UNLABELLED = "Unlabeled"
"""The placeholder class of images without a class, where they are asked for; the name of Roboflow's column."""


@dataclass(frozen=True)
class ReadRules:
    """How class names and rows of several classes are dealt with, whatever the layout.

    Args:
        aliases: Class name as found, to the name that it should have.
        policy: What becomes of images with several positive classes.
        labels: The classes that count, in order, after mending; None for all that there are.
        include_unlabeled: Keep images without any class, under the placeholder ``Unlabeled``, the last class.
        need_files: Leave out rows whose file is absent; else they count like the others, by their names alone.

    Raises:
        InputError: If a class stands twice in ``labels``.
    """

    aliases: Mapping[str, str] = field(default_factory=dict)
    policy: Policy = "single_only"
    labels: tuple[str, ...] | None = None
    include_unlabeled: bool = False
    need_files: bool = True

    def __post_init__(self) -> None:
        twice = [name for name, count in Counter(self.labels or ()).items() if count > 1]
        if twice:
            msg = f"labels: expected every class once, found {', '.join(twice)} several times"
            raise InputError(msg)

    def mend(self, name: str) -> str:
        """Return the name that a class should have."""
        return self.aliases.get(name, name)

    def classes_of(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return the classes that come of the names as found, in order and without repeats."""
        found = tuple(dict.fromkeys(self.mend(name) for name in names))
        return self.in_order(found if self.labels is None else [name for name in self.labels if name in found])

    def in_order(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return class names with the placeholder behind them, where it is asked for."""
        if not self.include_unlabeled:
            return tuple(names)
        return (*(name for name in names if name != UNLABELLED), UNLABELLED)

    def positives_of(self, names: Sequence[str], classes: Collection[str]) -> list[str]:
        """Return the classes of one image that count."""
        if not names and self.include_unlabeled:
            return [UNLABELLED]
        return [name for name in dict.fromkeys(map(self.mend, names)) if name in classes]

    def labels_of(self, positives: Sequence[str]) -> tuple[str, ...]:
        """Return the labels that an image gets: none leaves it out."""
        match self.policy:
            case "single_only":
                return tuple(positives) if len(positives) == 1 else ()
            case "first":
                return tuple(positives[:1])
            case "all":
                return tuple(positives)


@dataclass(frozen=True)
class SourceRow:
    """One row as its source has it.

    Args:
        name: The image's path relative to the source's folder.
        positives: Its positive classes in the source's order, names as found.
    """

    name: str
    positives: tuple[str, ...]


def build_table(
    folder: Path,
    rows: Iterable[SourceRow],
    names: Sequence[str],
    rules: ReadRules,
    *,
    list_unnamed: bool = True,
) -> ClassTable:
    """Check every row of a source and count what becomes of it.

    A row is refused, missing, a repeat, left out by the policy, or kept: the first of these that holds.
    """
    pairs: list[tuple[str, str]] = []
    refused, missing, repeats = [], [], []
    discarded: Counter[int] = Counter()
    known: set[str] = set()
    seen = kept = 0
    files = FolderFiles(folder)
    classes = rules.classes_of(names)
    for row in rows:
        seen += 1
        reason = refusal(row.name)
        path = "" if reason else files.find(row.name)
        if not (reason or path or rules.need_files):
            path = posixpath.normpath(row.name)
        positives = rules.positives_of(row.positives, classes)
        labels = rules.labels_of(positives)
        if reason:
            refused.append(f"{row.name!r} {reason}")
        elif not path:
            missing.append(row.name)
        elif path in known:
            repeats.append(path)
        elif not labels:
            discarded[len(positives)] += 1
        else:
            kept += 1
            pairs.extend((path, label) for label in labels)
        known.add(path)
    report = TableReport(
        seen=seen,
        kept=kept,
        discarded_by_positives=dict(sorted(discarded.items())),
        missing=tuple(missing),
        refused=tuple(refused),
        duplicates=tuple(repeats),
        renamed={name: rules.mend(name) for name in names if rules.mend(name) != name},
        unlisted=tuple(name for name in list_images(folder) if name not in known) if list_unnamed else (),
    )
    return ClassTable(folder, sorted_rows(pairs), classes, report)
