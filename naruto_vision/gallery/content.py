"""What a gallery holds, checked: vectors, rows, ids, thresholds, and the ledger with one line for each change.

A ledger line is never altered and has what undoes the change. It has no clock: equal inputs give equal bytes.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from naruto_vision.errors import InputError
from naruto_vision.gallery.thresholds import Thresholds
from naruto_vision.records import UNKNOWN, Vectors

UNIT_TOLERANCE = 1e-2
"""How far a row's length may be from 1: half-precision encoders normalise to about 4e-3."""


@dataclass(frozen=True)
class GalleryRow:
    """Where one vector of a gallery came from.

    Args:
        path: The image, POSIX, as the caller names it.
        label: Who it shows.
        aug: The augmentation before it was embedded: "none" or "gamma".

    Raises:
        InputError: If the label is empty, or "unknown".

    Example:
        >>> import naruto_vision as nv
        >>> nv.GalleryRow("ayame/1.png", "ayame").aug
        'none'
    """

    path: str
    label: str
    aug: str = "none"

    def __post_init__(self) -> None:
        if not self.label:
            msg = f"{self.path}: expected a label, found an empty one; name the image's class"
            raise InputError(msg)
        if self.label == UNKNOWN:
            msg = f"{self.path}: {UNKNOWN!r} is the name of everybody who is not enrolled; give the class another name"
            raise InputError(msg)


def unit_rows(vectors: Vectors, what: str) -> Vectors:
    """Check that rows (N, D) are float32, finite and within 1e-2 of length 1, and normalise them to full precision.

    ``what`` names them in the InputError.
    """
    if vectors.ndim != 2 or vectors.dtype != np.float32:
        msg = f"{what}: expected float32 of shape (N, D), found {vectors.dtype} {vectors.shape}"
        raise InputError(msg)
    lengths = np.sqrt(np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64))
    bad = np.flatnonzero(~(np.abs(lengths - 1.0) <= UNIT_TOLERANCE))  # written so that NaN is bad
    if bad.size:
        msg = f"{what}: expected rows of length 1, found {lengths[bad[0]]:g} in row {bad[0]}; normalise the vectors"
        raise InputError(msg)
    return np.ascontiguousarray(vectors / lengths[:, None], dtype=np.float32)


@dataclass(frozen=True)
class GalleryContent:
    """Everything that a gallery folder stores, apart from the index, which is made from it.

    Args:
        vectors: Shape (N, D), float32, unit rows.
        ids: Shape (N,), int64, strictly rising: an id is never given twice in the life of a gallery.
        rows: N rows.
        fingerprint: The encoder that made the vectors.
        thresholds: The scores below which a region is unknown.
        ledger: What was done to the gallery, oldest first; its length is the generation.
        removed: Shape (R, D), float32, unit rows: every row that was ever taken out, for rollbacks.

    Raises:
        InputError: If there are no rows, the lengths differ, or the ids do not rise.
    """

    vectors: Vectors
    ids: NDArray[np.int64]
    rows: tuple[GalleryRow, ...]
    fingerprint: str
    thresholds: Thresholds
    ledger: tuple[Mapping[str, Any], ...]
    removed: Vectors

    def __post_init__(self) -> None:
        if not self.rows:
            msg = "gallery: expected at least one row, found none; enrol at least one labelled image"
            raise InputError(msg)
        if not len(self.vectors) == len(self.ids) == len(self.rows):
            msg = f"gallery: {len(self.vectors)} vectors, {len(self.ids)} ids and {len(self.rows)} rows do not agree"
            raise InputError(msg)
        if self.ids[0] < 0 or (np.diff(self.ids) <= 0).any():
            msg = "gallery: expected ids that rise from row to row, found others"
            raise InputError(msg)
        taken_out = len(archived_ids(self.ledger))
        if self.removed.shape != (taken_out, self.vectors.shape[1]):
            msg = f"gallery: {taken_out} rows were taken out, the vectors of {len(self.removed)} are there"
            raise InputError(msg)

    @property
    def generation(self) -> int:
        """How many changes the gallery has seen; 1 after it was built."""
        return len(self.ledger)

    @property
    def next_id(self) -> int:
        """The id of the next row to be added: above every id that was ever given."""
        return int(self.ledger[-1]["next_id"])

    @property
    def stale_since(self) -> int | None:
        """The generation since which the rows are not those that the thresholds were chosen with, if any."""
        return stale_since(self.ledger) if self.thresholds.chosen else None

    @property
    def note(self) -> Mapping[str, Any]:
        """How the gallery was built: the ``note`` of its first ledger line, empty where there is none."""
        found: Mapping[str, Any] = self.ledger[0].get("note", {})
        return found

    def stats(self) -> dict[str, Any]:
        """Return the counts of ``stats.json``; ``enrolment`` is what became of the images when it was built."""
        enrolment = self.note.get("enrolment")
        return {
            **({} if enrolment is None else {"enrolment": enrolment}),
            "total": len(self.rows),
            "dim": int(self.vectors.shape[1]),
            "counts": dict(sorted(Counter(row.label for row in self.rows).items())),
            "aug": dict(sorted(Counter(row.aug for row in self.rows).items())),
        }

    def digest(self) -> str:
        """Return 64 hexadecimal digits that change with anything that can change an answer."""
        rows = [[row.path, row.label, row.aug] for row in self.rows]
        facts = [self.fingerprint, self.vectors.shape, rows, self.thresholds.as_json()]
        found = hashlib.sha256(json.dumps(facts, sort_keys=True).encode("ascii"))
        found.update(self.ids.astype("<i8").tobytes())
        found.update(self.vectors.astype("<f4").tobytes())
        return found.hexdigest()


def build_content(
    vectors: Vectors,
    rows: Sequence[GalleryRow],
    fingerprint: str,
    thresholds: Thresholds,
    note: Mapping[str, Any] | None = None,
) -> GalleryContent:
    """Make the content of a new gallery, with ids from 0, in generation 1; ``note`` is kept in the ledger."""
    count = len(rows)
    line = {"rows": count, "next_id": count, **({"note": dict(note)} if note else {})}
    return GalleryContent(
        vectors=unit_rows(vectors, "gallery vectors"),
        ids=np.arange(count, dtype=np.int64),
        rows=tuple(rows),
        fingerprint=fingerprint,
        thresholds=thresholds,
        ledger=({"generation": 1, "op": "build", **line},),
        removed=np.zeros((0, vectors.shape[1]), dtype=np.float32),
    )


def as_ranges(ids: Iterable[int]) -> list[list[int]]:
    """Write rising ids as ``[first, last]`` of each run, both inclusive.

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
    """Yield the ids of ``as_ranges``."""
    for first, last in ranges:
        yield from range(first, last + 1)


def archived_ids(ledger: Iterable[Mapping[str, Any]]) -> list[int]:
    """Return the ids of ``removed.npy``, in its order: each row that was ever removed, once."""
    return list(dict.fromkeys(int(row[0]) for line in ledger for row in line.get("removed", ())))


def stale_since(ledger: Sequence[Mapping[str, Any]]) -> int | None:
    """Return the generation since which the rows are not those that the thresholds were chosen with, if any.

    A rollback restores the rows and the thresholds of a generation, and so also whether they belonged together.
    """
    states: list[tuple[int, int]] = []  # of each generation: when its rows were made, and those of its thresholds
    for line in ledger:
        rows, judged = states[-1] if states else (1, 1)
        generation = len(states) + 1
        if line["op"] in {"add", "remove", "relabel"}:
            rows = generation
        elif line["op"] == "thresholds":
            judged = rows
        elif line["op"] == "rollback":
            rows, judged = states[int(line["to"]) - 1]
        states.append((rows, judged))
    rows, judged = states[-1]
    return None if rows == judged else rows


def line_counts(line: Mapping[str, Any]) -> dict[str, int]:
    """Count how many rows a ledger line ``added``, ``removed`` and ``relabelled``."""
    added = int(line["rows"]) if line["op"] == "build" else sum(b - a + 1 for a, b in line.get("added", ()))
    return {"added": added, "removed": len(line.get("removed", ())), "relabelled": len(line.get("relabelled", ()))}
