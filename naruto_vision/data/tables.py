"""The class table: labelled image paths, and the rows discarded while reading them."""

import contextlib
import hashlib
import itertools
import logging
import os
import posixpath
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeAlias

from naruto_vision.errors import InputError
from naruto_vision.io.atomic import utf8
from naruto_vision.io.images import Listing, is_image, scan_folder, split_crop
from naruto_vision.io.names import label_name, refusal
from naruto_vision.io.text import abbreviate
from naruto_vision.records import LabelledImage

Split: TypeAlias = Literal["train", "valid", "test"]
SPLIT_NAMES: dict[Split, tuple[str, ...]] = {
    "train": ("train", "training"),
    "valid": ("valid", "val", "validation"),
    "test": ("test", "testing"),
}
"""Split to what its folder or file is called, in any case."""
SPLIT_WORDS: dict[str, Split] = {word: split for split, words in SPLIT_NAMES.items() for word in words}
_LOG = logging.getLogger(__name__)
_ESCAPED_BYTE = re.compile(r"\\(udc[89a-f][0-9a-f])")
CLASSES_CSV = "_classes.csv"


def path_in_table(text: str) -> str:
    """Return a path of a table with slashes between folders, not backslashes, and escaped bytes turned back."""
    text = _ESCAPED_BYTE.sub(lambda found: chr(int(found[1][1:], 16)), text)
    return text.replace("\\", "/")


class FolderFiles:
    """The files of one folder by their names in a table, in any form of the name; crops by their image.

    The folder may itself be a link. Each of its sub-folders is listed once, on the first lookup in it. ``follow``
    takes links that lead out of the folder, for names that were listed in it; the names of a table may not use them.
    """

    def __init__(self, folder: Path, *, follow: bool = False) -> None:
        self._base = folder.resolve()
        self._follow = follow
        self._plain: dict[str, frozenset[str]] = {}

    def find(self, name: str) -> str:
        """Return the POSIX path in the folder; empty for what is missing, no file, or a link that leads out."""
        image, box = split_crop(name)
        if box is not None and not self._has(name):
            found = self.find(image)
            return found and found + name[len(image) :]
        for form in (name, *(() if name.isascii() else _other_forms(name))):
            if self._has(form):
                return str(posixpath.normpath(form))
        return ""

    def path(self, name: str) -> Path | None:
        """Return the whole path; None where ``find`` finds nothing."""
        found = self.find(name)
        return self._base / found if found else None

    def _has(self, name: str) -> bool:
        folder, _, file = name.rpartition("/")
        if folder not in self._plain:
            self._plain[folder] = _plain_files(self._base, f"{self._base}/{folder}")
        if file in self._plain[folder]:
            return True
        # a link, or a file system for which names that differ in case or form are equal
        path = f"{self._base}/{name}"
        is_file = os.path.isfile(path)  # noqa: PTH113 - pathlib raises for a name that is too long
        return is_file and (self._follow or Path(path).resolve().is_relative_to(self._base))


def _other_forms(name: str) -> Iterator[str]:
    yield unicodedata.normalize("NFC", name)
    yield unicodedata.normalize("NFD", name)
    with contextlib.suppress(UnicodeEncodeError):
        yield name.encode("cp1252").decode("utf-8", "surrogateescape")


def _plain_files(base: Path, folder: str) -> frozenset[str]:
    """List the files, other than links, directly in a folder; none where it cannot be listed or is outside the base."""
    try:
        with os.scandir(folder) as entries:
            found = frozenset(entry.name for entry in entries if entry.is_file(follow_symlinks=False))
    except (OSError, ValueError):  # ValueError: a NUL character
        return frozenset()
    return found if Path(folder).resolve().is_relative_to(base) else frozenset()


def warn_ignored_images(folder: Path, searched: str) -> None:
    """Warn of images beside the only folder that is searched."""
    others = sorted(file.name for file in folder.iterdir() if is_image(file))
    if others:
        what = f"{len(others)} images beside {searched}/ are not searched ({abbreviate(others)})"
        _LOG.warning("%s: %s; move them into %s", folder, what, folder / searched)


@dataclass(frozen=True)
class TableReport:
    """Counts of a source's rows; each is counted exactly once, or ValueError."""

    seen: int = 0
    kept: int = 0  # gave at least one labelled image
    discarded_by_positives: Mapping[int, int] = field(default_factory=dict)  # number of positive classes to rows
    missing: tuple[str, ...] = ()  # names without a file
    refused: tuple[str, ...] = ()  # ``name reason`` of refused paths
    duplicates: tuple[str, ...] = ()  # names that an earlier row had already
    renamed: Mapping[str, str] = field(default_factory=dict)  # header or label as found, to its class
    unlisted: tuple[str, ...] = ()  # images on the disk that no row names; not rows, so not part of ``seen``
    listing: Listing = field(default_factory=Listing)  # everything in the folder that is no image

    def __post_init__(self) -> None:
        parts = self.kept + self.discarded + len(self.missing) + len(self.refused) + len(self.duplicates)
        if parts != self.seen:
            raise ValueError(f"table report: {self.seen} rows seen but {parts} accounted for")

    @property
    def discarded(self) -> int:
        """Rows that the policy left out."""
        return sum(self.discarded_by_positives.values())

    def summary(self) -> str:
        """Return a one-line summary."""
        extras = (
            (len(self.missing), "without their file"),
            (self.discarded, "left out by the policy"),
            (len(self.refused), "refused"),
            (len(self.duplicates), "named twice"),
        )
        notes = [f"{count} {what}" for count, what in extras if count]
        return f"{self.kept} of {self.seen} rows kept" + (f" ({', '.join(notes)})" if notes else "")

    def remarks(self) -> Iterator[str]:
        """Yield the first row of each reason, and what the folder has beside the rows."""
        for names, what in (
            (self.missing, "without their file"),
            (self.duplicates, "named twice"),
            (self.unlisted, "images without a row"),
        ):
            if names:
                yield f"{what}: {abbreviate(names, 1)}"
        if self.refused:
            yield f"refused: {abbreviate(self.refused, 1)}"
        yield from self.listing.sentences()


@dataclass(frozen=True)
class ClassTable:
    """Images with their classes; ValueError if rows are unsorted or repeated, or a label is not among the classes."""

    root: Path  # the folder that paths are relative to
    rows: tuple[LabelledImage, ...]  # sorted by label, then path
    classes: tuple[str, ...]  # in their fixed order, also those without an image here
    report: TableReport = field(default_factory=TableReport)

    def __post_init__(self) -> None:
        keys = [(row.label, row.path) for row in self.rows]
        if any(first >= second for first, second in itertools.pairwise(keys)):
            raise ValueError(f"table of {self.root}: expected rows sorted by label and path without repeats")
        unlisted = {row.label for row in self.rows} - set(self.classes)
        if unlisted or len(set(self.classes)) != len(self.classes):
            msg = f"table of {self.root}: labels {sorted(unlisted)} are not among the classes {self.classes}"
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


def sorted_rows(pairs: Sequence[tuple[str, str]]) -> tuple[LabelledImage, ...]:
    """Make rows in the order that every table has."""
    return tuple(LabelledImage(path, label) for label, path in sorted({(label, path) for path, label in pairs}))


def hold_out(table: ClassTable, fraction: float) -> tuple[ClassTable, ClassTable]:
    """Split a table in two, the same way on every machine: by the hash of each path, class by class."""
    held: set[LabelledImage] = set()
    for numbers in row_groups(table, balanced=True) if table.rows else ():
        rows = [table.rows[number] for number in numbers]
        rows.sort(key=lambda row: hashlib.sha256(utf8(split_crop(row.path)[0])).hexdigest())
        held.update(rows[: min(round(len(rows) * fraction), len(rows) - 1)])
    kept = [row for row in table.rows if row not in held]
    rest = [row for row in table.rows if row in held]
    return table.with_rows(kept), table.with_rows(rest)


def row_groups(table: ClassTable, *, balanced: bool) -> list[list[int]]:
    """Return the groups of training rows."""
    if not table.rows:
        raise InputError(f"{table.root}: no images to train on")
    groups: dict[str, list[int]] = {}
    for number, row in enumerate(table.rows):
        groups.setdefault(row.label if balanced else "", []).append(number)
    return list(groups.values())


Policy: TypeAlias = Literal["single_only", "first", "all"]
"""Treatment of an image with several positive classes: left out, only its first class, or a row for each."""

UNLABELLED = "Unlabeled"
"""The placeholder class of images without a class, where they are included; the name of Roboflow's column."""


@dataclass(frozen=True)
class ReadRules:
    """How class names and rows of several classes are read, whatever the layout; InputError for repeated ``labels``."""

    aliases: Mapping[str, str] = field(default_factory=dict)  # class name as found, to the name that it should have
    policy: Policy = "single_only"
    labels: tuple[str, ...] | None = None  # selected classes, in order, renamed; None for all
    include_unlabeled: bool = False  # keep images without any class, under ``Unlabeled``, the last class
    need_files: bool = True  # leave out rows whose file is absent; else they are kept by their names alone

    def __post_init__(self) -> None:
        object.__setattr__(self, "aliases", {label_name(old): label_name(new) for old, new in self.aliases.items()})
        if self.labels is not None:
            object.__setattr__(self, "labels", tuple(map(label_name, self.labels)))
        twice = [name for name, count in Counter(self.labels or ()).items() if count > 1]
        if twice:
            raise InputError(f"labels: expected every class once, found {', '.join(twice)} several times")

    def classes_of(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return the renamed classes, in order and without repeats."""
        found = tuple(dict.fromkeys(map(self.renamed, names)))
        return self.in_order(found if self.labels is None else [name for name in self.labels if name in found])

    def in_order(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return class names, followed by the placeholder if unlabelled images are included."""
        if not self.include_unlabeled:
            return tuple(names)
        return (*(name for name in names if name != UNLABELLED), UNLABELLED)

    def positives_of(self, names: Sequence[str], classes: Collection[str]) -> list[str]:
        """Return the selected classes of one image."""
        if not names and self.include_unlabeled:
            return [UNLABELLED]
        return [name for name in dict.fromkeys(map(self.renamed, names)) if name in classes]

    def renamed(self, name: str) -> str:
        """Return the class of a name as found."""
        return self.aliases.get(label_name(name), label_name(name))

    def labels_of(self, positives: Sequence[str]) -> tuple[str, ...]:
        """Return the labels of an image; none leaves it out."""
        match self.policy:
            case "single_only":
                return tuple(positives) if len(positives) == 1 else ()
            case "first":
                return tuple(positives[:1])
            case "all":
                return tuple(positives)


@dataclass(frozen=True)
class SourceRow:
    """One row as its source has it: a path relative to its folder, and the positive classes, in order and as found."""

    name: str
    positives: tuple[str, ...]


def build_table(
    folder: Path,
    rows: Iterable[SourceRow],
    names: Sequence[str],
    rules: ReadRules,
    *,
    list_unnamed: bool = True,
    listing: Listing | None = None,
) -> ClassTable:
    """Check every row of a source and count the results.

    A row is refused, missing, a repeat, left out by the policy, or kept: the first that applies. ``listing`` is where
    the rows come from if no table names them.
    """
    pairs: list[tuple[str, str]] = []
    refused, missing, repeats = [], [], []
    discarded: Counter[int] = Counter()
    known: set[str] = set()
    seen = kept = 0
    files = FolderFiles(folder, follow=listing is not None)
    listing = listing or (scan_folder(folder, used=(CLASSES_CSV,)) if list_unnamed else Listing())
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
        renamed={label_name(name): rules.renamed(name) for name in names if rules.renamed(name) != label_name(name)},
        unlisted=tuple(name for name in listing.images if name not in known),
        listing=replace(listing, images=()),
    )
    return ClassTable(folder, sorted_rows(pairs), classes, report)
