"""From what a source says about each picture to a class table: one place for the rules of every reader."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal, TypeAlias

from naruto_vision.data.paths import find_inside, refusal
from naruto_vision.data.tables import ClassTable, TableReport, sorted_rows
from naruto_vision.errors import InputError
from naruto_vision.files.images import list_pictures

Policy: TypeAlias = Literal["single_only", "first", "all"]
"""What becomes of a picture with several positive classes: left out, only its first class, or a row for each."""

UNLABELLED = "Unlabeled"
"""The placeholder class of pictures without a class, where they are asked for; the name of Roboflow's column."""


@dataclass(frozen=True)
class ReadRules:
    """How class names and rows of several classes are dealt with, whatever the layout.

    Args:
        aliases: Class name as found, to the name that it should have.
        policy: What becomes of pictures with several positive classes.
        labels: The classes that count, in order, after mending; None for all that there are.
        include_unlabeled: Keep pictures without any class, under the placeholder ``Unlabeled``, the last class.
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
        """Return the name that a class should have.

        Args:
            name: The name as found.
        """
        return self.aliases.get(name, name)

    def classes_of(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return the classes that come of the names as found, in order and without repeats.

        Args:
            names: The names as found.
        """
        found = tuple(dict.fromkeys(self.mend(name) for name in names))
        return self.in_order(found if self.labels is None else [name for name in self.labels if name in found])

    def in_order(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return class names with the placeholder behind them, where it is asked for.

        Args:
            names: Mended names, with or without the placeholder.
        """
        if not self.include_unlabeled:
            return tuple(names)
        return (*(name for name in names if name != UNLABELLED), UNLABELLED)

    def positives_of(self, names: Sequence[str], classes: Collection[str]) -> list[str]:
        """Return the classes of one picture that count.

        Args:
            names: Its positive classes as found; a picture without any may stand under the placeholder.
            classes: The classes that count.
        """
        if not names and self.include_unlabeled:
            return [UNLABELLED]
        return [name for name in dict.fromkeys(map(self.mend, names)) if name in classes]

    def labels_of(self, positives: Sequence[str]) -> tuple[str, ...]:
        """Return the labels that a picture gets: none leaves it out.

        Args:
            positives: Its classes that count, in order.
        """
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
        name: The picture's path relative to the source's folder.
        positives: Its positive classes in the source's order, names as found.
    """

    name: str
    positives: tuple[str, ...]


def _path_of(base: Path, name: str, rules: ReadRules) -> str:
    """Return a row's path inside its folder, or an empty text for a file that is needed and absent."""
    found = find_inside(base, name)
    if found is not None:
        return found.relative_to(base).as_posix()
    return "" if rules.need_files else PurePosixPath(name).as_posix()


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

    Args:
        folder: The folder that the rows' names are relative to.
        rows: The rows of the source.
        names: Every class name as found, in order.
        rules: What becomes of names and of rows with several classes.
        list_unnamed: Look for pictures in ``folder`` that no row names.
    """
    pairs: list[tuple[str, str]] = []
    refused, missing, repeats = [], [], []
    discarded: Counter[int] = Counter()
    known: set[str] = set()
    seen = kept = 0
    base = folder.resolve()
    classes = rules.classes_of(names)
    for row in rows:
        seen += 1
        reason = refusal(row.name)
        path = "" if reason else _path_of(base, row.name, rules)
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
        unlisted=tuple(name for name in list_pictures(folder) if name not in known) if list_unnamed else (),
    )
    return ClassTable(folder, sorted_rows(pairs), classes, report)
