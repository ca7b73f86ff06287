"""A split in which no run of frames and no copy of a picture stands on two sides."""

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from naruto_vision.data.audit import Alike, audit, find_alike
from naruto_vision.data.audit_items import AuditItem, AuditItems, Seen
from naruto_vision.data.leak_groups import connected, frame_pairs
from naruto_vision.data.manifest import statistics
from naruto_vision.data.split_plan import SplitPlan, assign_groups
from naruto_vision.data.tables import ClassTable, Split, TableReport, sorted_rows
from naruto_vision.errors import InputError


@dataclass(frozen=True)
class LeakFreeSplit:
    """A split and how it came about.

    Args:
        tables: Split name to its table; all have one root.
        plan: What was asked for.
        groups: The sizes of the groups that had to stay together, the largest first.
        leaking: Held-out pictures that leak in an audit of the result.
        source: What became of the rows of the data set, split by split as they were.
    """

    tables: Mapping[Split, ClassTable]
    plan: SplitPlan
    groups: tuple[int, ...]
    leaking: int
    source: Mapping[str, Any]

    def note(self) -> str:
        """Return one line for people."""
        together = sum(size for size in self.groups if size > 1)
        return (
            f"{sum(self.groups)} pictures in {len(self.groups)} groups that stay together "
            f"({together} pictures are not alone in theirs, the largest group has {self.groups[0]}); "
            f"window {self.plan.window}, seed {self.plan.seed}"
        )

    def as_json(self) -> dict[str, Any]:
        """Return what ``split.json`` holds."""
        return {
            **asdict(self.plan),
            "pictures": {split: len({row.path for row in table.rows}) for split, table in self.tables.items()},
            "kept_per_label": {split: table.counts() for split, table in self.tables.items()},
            "groups": len(self.groups),
            "group_sizes": list(self.groups),
            "leaking": self.leaking,
            "source": dict(self.source),
        }


def _groups(
    items: Sequence[AuditItem], alike: Sequence[Alike], classes: Sequence[str], plan: SplitPlan
) -> list[list[int]]:
    """Return lists of pictures that stay together."""
    first: dict[Path, int] = {}
    same = [(first.setdefault(item.file, place), place) for place, item in enumerate(items) if item.file is not None]
    frames = frame_pairs([item.row.path for item in items], classes, plan.window, plan.numbers)
    return connected(len(items), [*same, *frames, *((pair.first, pair.second) for pair in alike)])


def _check_given(given: Mapping[Split, Sequence[int]], groups: Sequence[Sequence[int]], root: Path) -> None:
    empty = [split for split, pictures in given.items() if not pictures]
    if empty:
        msg = (
            f"{root}: nothing is left for {empty[0]!r}: {sum(map(len, groups))} pictures fall into {len(groups)} "
            "groups that stay together; if numbers in file names are no frames say --numbers ignore, "
            "else give a smaller --window or add pictures"
        )
        raise InputError(msg)


def _common_root(tables: Mapping[Split, ClassTable]) -> Path:
    return Path(os.path.commonpath([os.path.normpath(table.root.absolute()) for table in tables.values()]))


def _pooled_rows(tables: Mapping[Split, ClassTable], root: Path) -> dict[tuple[str, str], list[tuple[str, str]]]:
    """Return a picture's split and path as they were, to its rows with paths relative to the common root."""
    rows: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for split, table in tables.items():
        prefix = Path(os.path.relpath(table.root.absolute(), root))
        for row in table.rows:
            rows[split, row.path].append(((prefix / row.path).as_posix(), row.label))
    return rows


def _leaking(
    given: Mapping[Split, Sequence[int]],
    items: Sequence[AuditItem],
    seen: Seen,
    classes: tuple[str, ...],
    plan: SplitPlan,
) -> int:
    """Audit the result: the pictures in their new places."""
    side = {place: split for split, pictures in given.items() for place in pictures}
    moved = AuditItems(tuple(replace(item, part=side[place]) for place, item in enumerate(items)), classes)
    return audit(moved, seen, window=plan.window, numbers=plan.numbers).leaking


def split_items(tables: Mapping[Split, ClassTable], items: AuditItems, seen: Seen, plan: SplitPlan) -> LeakFreeSplit:
    """Share out every picture that could be read.

    Args:
        tables: The data set as it is, whether split already or not.
        items: Its pictures.
        seen: What they look like; those without looks are left out.
        plan: How much goes where.

    Returns:
        The split; the same for the same arguments.

    Raises:
        InputError: If a split that should get pictures gets none.
    """
    places = sorted(seen.looks)
    chosen = [items.items[place] for place in places]
    looks = Seen({new: seen.looks[old] for new, old in enumerate(places)})
    groups = _groups(chosen, find_alike(looks), items.classes, plan)
    given = assign_groups(groups, [item.row.label for item in chosen], plan)
    root = _common_root(tables)
    _check_given(given, groups, root)
    pooled = _pooled_rows(tables, root)
    found: dict[Split, ClassTable] = {}
    for split, pictures in given.items():
        rows = [pooled[chosen[place].part, chosen[place].row.path] for place in pictures]
        report = TableReport(seen=len(rows), kept=len(rows))
        found[split] = ClassTable(
            root, sorted_rows([row for one in rows for row in one]), tables["train"].classes, report
        )
    leaking = _leaking(given, chosen, looks, items.classes, plan)
    sizes = sorted(map(len, groups), reverse=True)
    source: dict[str, Any] = {split: statistics(table, f"{split} as it was") for split, table in tables.items()}
    return LeakFreeSplit(found, plan, tuple(sizes), leaking, source)
