"""The ledger: one line a change, never altered, with all that is needed to take the change back. No NumPy here."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

_ROW_OPS = frozenset({"add", "remove", "relabel"})


def ledger_line(op: str, content: Mapping[str, Any], generation: int) -> dict[str, Any]:
    """Describe one change. There is no clock in it: equal inputs give equal galleries, byte for byte.

    Args:
        op: What was done: "build", "thresholds", "add", "remove", "relabel", "rollback", "reindex".
        content: ``rows`` and ``next_id`` have to be among it; an edit adds ``added`` (ranges of ids, both ends
            inclusive), ``removed`` (id, path, label and aug of each), ``relabelled`` (id, label before and after),
            ``before`` (the thresholds that stood before) ``to`` (the generation that a rollback restores)
            and ``index`` (what a reindex made).
        generation: The gallery's generation after the change.

    Returns:
        One line of ``ledger.jsonl``.
    """
    return {"generation": generation, "op": op, **content}


def as_ranges(ids: Iterable[int]) -> list[list[int]]:
    """Write rising ids as ranges.

    Args:
        ids: Rising.

    Returns:
        ``[first, last]`` of each run, both inclusive.

    Example:
        >>> as_ranges([4, 5, 6, 9])
        [[4, 6], [9, 9]]
    """
    ranges: list[list[int]] = []
    for id_ in ids:
        if ranges and ranges[-1][1] == id_ - 1:
            ranges[-1][1] = id_
        else:
            ranges.append([id_, id_])
    return ranges


def from_ranges(ranges: Iterable[Sequence[int]]) -> Iterator[int]:
    """Read ranges back.

    Args:
        ranges: ``[first, last]`` of each run, both inclusive.

    Yields:
        The ids.
    """
    for first, last in ranges:
        yield from range(first, last + 1)


def archived_ids(ledger: Iterable[Mapping[str, Any]]) -> list[int]:
    """Tell which rows ``removed.npy`` holds, in its order: each row that was ever taken out, once.

    Args:
        ledger: The lines, oldest first.
    """
    return list(dict.fromkeys(int(row[0]) for line in ledger for row in line.get("removed", ())))


def stale_since(ledger: Sequence[Mapping[str, Any]]) -> int | None:
    """Tell since when the rows are not those that the thresholds were chosen with.

    A rollback brings back the rows and the thresholds of a generation, and so also whether they belonged together.

    Args:
        ledger: The lines, oldest first.

    Returns:
        The generation of the last change of rows, or None where rows and thresholds belong together.
    """
    states: list[tuple[int, int]] = []  # of each generation: when its rows were made, and those of its thresholds
    for line in ledger:
        rows, judged = states[-1] if states else (1, 1)
        generation = len(states) + 1
        if line["op"] in _ROW_OPS:
            rows = generation
        elif line["op"] == "thresholds":
            judged = rows
        elif line["op"] == "rollback":
            rows, judged = states[int(line["to"]) - 1]
        states.append((rows, judged))
    rows, judged = states[-1]
    return None if rows == judged else rows


def line_counts(line: Mapping[str, Any]) -> dict[str, int]:
    """Count what one line changed.

    Args:
        line: A line of the ledger.

    Returns:
        How many rows were ``added``, ``removed`` and ``relabelled``.
    """
    added = int(line["rows"]) if line["op"] == "build" else sum(b - a + 1 for a, b in line.get("added", ()))
    return {"added": added, "removed": len(line.get("removed", ())), "relabelled": len(line.get("relabelled", ()))}
