"""Pictures that belong together: one run of frames, or copies of one picture. A split keeps them on one side."""

import itertools
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence

from naruto_vision.data.frame_leaks import Numbers, looks_counted
from naruto_vision.data.frame_names import frame_of, is_exported


def connected(count: int, pairs: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Return the connected components of a graph.

    Args:
        count: N nodes, 0 to N - 1.
        pairs: Nodes that belong together.

    Returns:
        Every node in exactly one list; lists in order of their smallest node, each sorted.
    """
    parent = list(range(count))

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]  # halves the path, so that long runs stay fast
            node = parent[node]
        return node

    for first, second in pairs:
        one, two = sorted((root(first), root(second)))
        parent[two] = one
    groups: dict[int, list[int]] = defaultdict(list)
    for node in range(count):
        groups[root(node)].append(node)
    return list(groups.values())


def frame_pairs(
    paths: Sequence[str], classes: Collection[str], window: int, numbers: Numbers = "auto"
) -> list[tuple[int, int]]:
    """Pair up pictures whose frame numbers are neighbours: each with the next of its family.

    Args:
        paths: N paths.
        classes: Class names, whose folders do not make a family.
        window: Numbers that differ by at most this much are neighbours.
        numbers: What numbers in file names are.

    Returns:
        Places of neighbours; all pairs within the window are connected through them.
    """
    if numbers == "ignore":
        return []
    families: dict[str, list[tuple[int, int]]] = defaultdict(list)
    exported: set[str] = set()
    for place, path in enumerate(paths):
        frame = frame_of(path, classes)
        if frame is not None:
            families[frame.family].append((frame.number, place))
            exported |= {frame.family} if is_exported(path) else set()
    pairs = []
    for family, frames in families.items():
        frames.sort()
        if numbers == "auto" and looks_counted([number for number, _ in frames]) and family not in exported:
            continue
        for (number, place), (later, other) in itertools.pairwise(frames):
            if later - number <= window:
                pairs.append((place, other))
    return pairs
