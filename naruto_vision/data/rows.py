"""From what a source says about each picture to a class table: one place for the rules of every reader."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from naruto_vision.data.paths import find_inside, refusal
from naruto_vision.data.tables import ClassTable, TableReport, sorted_rows
from naruto_vision.files.images import list_pictures

Policy: TypeAlias = Literal["single_only", "first", "all"]
"""What becomes of a picture with several positive classes: left out, only its first class, or a row for each."""


@dataclass(frozen=True)
class SourceRow:
    """One row as its source has it.

    Args:
        name: The picture's path relative to the source's folder.
        positives: Its positive classes in the source's order.
    """

    name: str
    positives: tuple[str, ...]


def choose(positives: Sequence[str], policy: Policy) -> tuple[str, ...]:
    """Apply the policy to one picture's classes.

    Args:
        positives: The positive classes, in order.
        policy: What to do with several.

    Returns:
        The labels that the picture gets; none leaves it out.
    """
    match policy:
        case "single_only":
            return tuple(positives) if len(positives) == 1 else ()
        case "first":
            return tuple(positives[:1])
        case "all":
            return tuple(positives)


def build_table(
    folder: Path,
    rows: Iterable[SourceRow],
    classes: Sequence[str],
    policy: Policy,
    renamed: Mapping[str, str],
    *,
    list_unnamed: bool = True,
) -> ClassTable:
    """Check every row of a source and count what becomes of it.

    A row is refused, missing, a repeat, left out by the policy, or kept: the first of these that holds.

    Args:
        folder: The folder that the rows' names are relative to.
        rows: The rows of the source.
        classes: Every class, in order.
        policy: What becomes of pictures with several positive classes.
        renamed: Names as found, to the classes that they became.
        list_unnamed: Look for pictures in ``folder`` that no row names.
    """
    pairs: list[tuple[str, str]] = []
    refused, missing, repeats = [], [], []
    discarded: Counter[int] = Counter()
    known: set[str] = set()
    seen = kept = 0
    base = folder.resolve()
    for row in rows:
        seen += 1
        reason = refusal(row.name)
        found = None if reason else find_inside(base, row.name)
        path = "" if found is None else found.relative_to(base).as_posix()
        labels = choose(row.positives, policy)
        if reason:
            refused.append(f"{row.name!r} {reason}")
        elif not path:
            missing.append(row.name)
        elif path in known:
            repeats.append(path)
        elif not labels:
            discarded[len(row.positives)] += 1
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
        renamed=dict(renamed),
        unlisted=tuple(name for name in list_pictures(folder) if name not in known) if list_unnamed else (),
    )
    return ClassTable(folder, sorted_rows(pairs), tuple(classes), report)
