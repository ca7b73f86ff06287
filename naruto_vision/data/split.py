"""Leak-free splits: near duplicates and frames of one run stay in one split."""

import itertools
import os
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from naruto_vision.data.leaks import (
    AuditItem,
    AuditItems,
    Numbers,
    ScannedImages,
    audit,
    find_alike,
    frame_of,
    is_exported,
    looks_counted,
)
from naruto_vision.data.readers import statistics
from naruto_vision.data.tables import ClassTable, Split, TableReport, sorted_rows
from naruto_vision.errors import InputError
from naruto_vision.io.images import split_crop


@dataclass(frozen=True)
class SplitPlan:
    """Fractions of the splits, and which images must stay together."""

    valid: float = 0.15
    test: float = 0.15
    seed: int = 42
    window: int = 3
    numbers: Numbers = "auto"

    def __post_init__(self) -> None:
        if not (0 <= self.valid < 1 and 0 <= self.test < 1 and self.valid + self.test < 1):
            msg = f"valid {self.valid} and test {self.test}: expected shares of 0 or more that leave some to train on"
            raise InputError(msg)

    def shares(self) -> dict[Split, float]:
        """Return the share of each split that gets any, the training split first."""
        shares: dict[Split, float] = {"train": 1 - self.valid - self.test, "valid": self.valid, "test": self.test}
        return {split: share for split, share in shares.items() if share > 0}


def _order(groups: Sequence[Sequence[int]], seed: int) -> list[int]:
    """Return the groups, the largest first, equal ones in random order: small ones fill the remaining gaps."""
    chance = np.random.default_rng(seed).permutation(len(groups)).tolist()
    return sorted(range(len(groups)), key=lambda index: (-len(groups[index]), chance[index]))


def _misfit(counts: Mapping[str, int], added: Mapping[str, int], wanted: Mapping[str, float]) -> float:
    """Return how much further a split gets from the wanted share of each class when a group is added to it."""
    return sum(
        ((counts.get(name, 0) + more - wanted[name]) ** 2 - (counts.get(name, 0) - wanted[name]) ** 2) / wanted[name]
        for name, more in added.items()
    )


def assign_groups(groups: Sequence[Sequence[int]], labels: Sequence[str], plan: SplitPlan) -> dict[Split, list[int]]:
    """Give every group to one split, so that each class is divided as planned, as well as whole groups allow.

    The first group of every class goes to training, so that every evaluated class is trained.
    """
    totals = Counter(labels)
    shares = plan.shares()
    wanted = {split: {name: share * totals[name] for name in totals} for split, share in shares.items()}
    counts: dict[Split, Counter[str]] = {split: Counter() for split in shares}
    given: dict[Split, list[int]] = {split: [] for split in shares}
    for index in _order(groups, plan.seed):
        added = Counter(labels[image] for image in groups[index])
        fresh = any(counts["train"][name] == 0 for name in added)
        best: Split = "train" if fresh else min(shares, key=lambda split: _misfit(counts[split], added, wanted[split]))
        counts[best].update(added)
        given[best].extend(groups[index])
    return {split: sorted(images) for split, images in given.items()}


def connected(count: int, pairs: Collection[tuple[int, int]]) -> list[list[int]]:
    """Return the connected components of a graph of N nodes, each sorted, in order of their smallest node."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ends = np.asarray(list(pairs), dtype=np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(ends), dtype=bool), (ends[:, 0], ends[:, 1])), shape=(count, count))
    _, component = connected_components(graph, directed=False)
    groups: dict[int, list[int]] = defaultdict(list)
    for node, number in enumerate(component.tolist()):
        groups[number].append(node)
    return list(groups.values())


def frame_pairs(
    paths: Sequence[str],
    classes: Collection[str],
    window: int,
    numbers: Numbers = "auto",
    unlike: Collection[str] = (),
) -> list[tuple[int, int]]:
    """Pair up images whose frame numbers are neighbours: each with the next of its family.

    ``auto`` leaves out counters, and of ``unlike`` families all but equal numbers of an export: copies of one image.
    """
    if numbers == "ignore":
        return []
    families: dict[str, list[tuple[int, int]]] = defaultdict(list)
    exported: set[str] = set()
    for index, path in enumerate(paths):
        frame = frame_of(path, classes)
        if frame is not None:
            families[frame.family].append((frame.number, index))
            exported |= {frame.family} if is_exported(path) else set()
    pairs = []
    for family, frames in families.items():
        frames.sort()
        images = {(number, split_crop(paths[index])[0]) for number, index in frames}  # crops of one image count once
        counted = looks_counted([number for number, _ in images]) or family in unlike
        if numbers == "auto" and counted and family not in exported:
            continue
        most = 0 if numbers == "auto" and family in unlike else window
        for (number, index), (later, other) in itertools.pairwise(frames):
            if later - number <= most:
                pairs.append((index, other))
    return pairs


@dataclass(frozen=True)
class LeakFreeSplit:
    """A split, the sizes of the groups that had to stay together (the largest first), and its plan."""

    tables: Mapping[Split, ClassTable]
    plan: SplitPlan
    groups: tuple[int, ...]
    leaking: int
    source: Mapping[str, Any]

    def note(self) -> str:
        """Return a one-line summary."""
        together = sum(size for size in self.groups if size > 1)
        return (
            f"{sum(self.groups)} images in {len(self.groups)} groups that stay together "
            f"({together} images are not alone in theirs, the largest group has {self.groups[0]}); "
            f"window {self.plan.window}, seed {self.plan.seed}"
        )

    def without(self) -> dict[Split, list[str]]:
        """Return, for each held-out split, the classes that have training images and none in it."""
        counts = {split: table.counts() for split, table in self.tables.items()}
        return {
            split: [name for name, found in counts["train"].items() if found and not own[name]]
            for split, own in counts.items()
            if split != "train"
        }

    def as_json(self) -> dict[str, Any]:
        """Return the content of ``split.json``."""
        return {
            **asdict(self.plan),
            "images": {split: len({row.path for row in table.rows}) for split, table in self.tables.items()},
            "kept_per_label": {split: table.counts() for split, table in self.tables.items()},
            "groups": len(self.groups),
            "group_sizes": list(self.groups),
            "leaking": self.leaking,
            "source": dict(self.source),
        }


def _groups(
    items: Sequence[AuditItem], scanned: ScannedImages, classes: Sequence[str], plan: SplitPlan
) -> list[list[int]]:
    """Return groups of images that stay together."""
    first: dict[str, int] = {}
    files = [None if item.file is None else split_crop(item.file)[0] for item in items]  # of a crop, its whole image
    same = [(first.setdefault(file, index), index) for index, file in enumerate(files) if file is not None]
    paths = [item.row.path for item in items]
    unlike = scanned.unlike(paths, classes, plan.window)
    frames = frame_pairs(paths, classes, plan.window, plan.numbers, unlike)
    alike = ((pair.first, pair.second) for pair in find_alike(scanned))
    return connected(len(items), [*same, *frames, *alike])


def _check_given(given: Mapping[Split, Sequence[int]], groups: Sequence[Sequence[int]], root: Path) -> None:
    empty = [split for split, images in given.items() if not images]
    if empty:
        raise InputError(
            f"{root}: no images left for {empty[0]!r}: {sum(map(len, groups))} images fall into {len(groups)} "
            "groups that stay together; if numbers in file names are not frames use --numbers ignore, "
            "otherwise use a smaller --window or add images"
        )


def _pooled_rows(tables: Mapping[Split, ClassTable], root: Path) -> dict[tuple[str, str], list[tuple[str, str]]]:
    """Return an image's split and path as they were, to its rows with paths relative to the common root."""
    rows: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for split, table in tables.items():
        prefix = Path(os.path.relpath(table.root.absolute(), root))
        for row in table.rows:
            rows[split, row.path].append(((prefix / row.path).as_posix(), row.label))
    return rows


def _leaking(
    given: Mapping[Split, Sequence[int]],
    items: Sequence[AuditItem],
    scanned: ScannedImages,
    classes: tuple[str, ...],
    plan: SplitPlan,
) -> int:
    """Audit the result: the images in their new splits."""
    side = {index: split for split, images in given.items() for index in images}
    moved = AuditItems(tuple(replace(item, part=side[index]) for index, item in enumerate(items)), classes)
    return audit(moved, scanned, window=plan.window, numbers=plan.numbers).leaking


def split_items(
    tables: Mapping[Split, ClassTable], items: AuditItems, scanned: ScannedImages, plan: SplitPlan
) -> LeakFreeSplit:
    """Assign every readable image to a split."""
    indices = sorted(scanned.signatures)
    chosen = [items.items[index] for index in indices]
    signatures = ScannedImages({new: scanned.signatures[old] for new, old in enumerate(indices)})
    groups = _groups(chosen, signatures, items.classes, plan)
    given = assign_groups(groups, [item.row.label for item in chosen], plan)
    root = Path(os.path.commonpath([os.path.normpath(table.root.absolute()) for table in tables.values()]))
    _check_given(given, groups, root)
    pooled = _pooled_rows(tables, root)
    found: dict[Split, ClassTable] = {}
    for split, images in given.items():
        rows = [pooled[chosen[index].part, chosen[index].row.path] for index in images]
        report = TableReport(seen=len(rows), kept=len(rows))
        found[split] = ClassTable(
            root, sorted_rows([row for one in rows for row in one]), tables["train"].classes, report
        )
    leaking = _leaking(given, chosen, signatures, items.classes, plan)
    sizes = sorted(map(len, groups), reverse=True)
    source: dict[str, Any] = {split: statistics(table, f"{split} as it was") for split, table in tables.items()}
    return LeakFreeSplit(found, plan, tuple(sizes), leaking, source)
