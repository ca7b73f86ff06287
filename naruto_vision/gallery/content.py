"""The content of a gallery: vectors, entries, ids, thresholds and the ledger of changes.

The ledger has a line for each change, which is never altered and has what undoes the change. It has no clock: equal
inputs give equal bytes.
"""

import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from naruto_vision.errors import FingerprintError, FormatError, InputError
from naruto_vision.gallery.index import Budgets, IndexKind, IndexMeta, VectorIndex
from naruto_vision.gallery.store import (
    AGAIN,
    EMBEDDINGS,
    FORMAT,
    INDEX,
    INDEX_META,
    LEDGER,
    REMOVED,
    ROWS,
    STATS,
    THRESHOLDS,
    Manifest,
    RowRecord,
    json_bytes,
    lines_bytes,
    manifest_checksum,
    parse_json,
    parse_lines,
    publish,
    read_files,
    read_ledger,
    read_manifest,
)
from naruto_vision.gallery.thresholds import Thresholds
from naruto_vision.io.arrays import array_from_npy
from naruto_vision.io.names import label_name
from naruto_vision.records import UNKNOWN, Vectors

UNIT_TOLERANCE = 1e-2
"""Tolerance of a row's length: half-precision encoders normalise to about 4e-3."""

_ROW_CHANGES = frozenset({"add", "remove", "relabel", "rollback"})


@dataclass(frozen=True)
class GalleryRow:
    """Where one vector of a gallery came from.

    Args:
        path: The image, POSIX, as the caller names it.
        label: The class that it shows.
        aug: The augmentation before it was embedded: "none" or "gamma".

    Raises:
        InputError: If the label is empty, or "unknown".

    Examples:
        >>> import naruto_vision as nv
        >>> nv.GalleryRow("ayame/1.png", "ayame").aug
        'none'
    """

    path: str
    label: str
    aug: str = "none"

    def __post_init__(self) -> None:
        object.__setattr__(self, "label", label_name(self.label) or self.label)
        if not self.label:
            msg = f"{self.path}: expected a label, found an empty one; name the image's class"
            raise InputError(msg)
        if self.label == UNKNOWN:
            msg = f"{self.path}: {UNKNOWN!r} is reserved for unknown characters; give the class another name"
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
    """Everything that a gallery folder stores, apart from the index, which is made from it."""

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
            msg = f"gallery: {len(self.vectors)} vectors, {len(self.ids)} ids and {len(self.rows)} rows; expected equal"
            raise InputError(msg)
        if self.ids[0] < 0 or (np.diff(self.ids) <= 0).any():
            msg = "gallery: expected ascending ids, found others"
            raise InputError(msg)
        taken_out = len(archived_ids(self.ledger))
        if self.removed.shape != (taken_out, self.vectors.shape[1]):
            msg = f"gallery: {taken_out} removed rows, but {len(self.removed)} removed vectors"
            raise InputError(msg)

    @property
    def generation(self) -> int:
        """Number of changes, counted from 1 at the build."""
        return len(self.ledger)

    @property
    def next_id(self) -> int:
        """The id of the next row to be added, above every id ever used."""
        return int(self.ledger[-1]["next_id"])

    @property
    def stale_since(self) -> int | None:
        """The generation in which rows changed after scenes chose the thresholds, if any."""
        return stale_since(self.ledger) if self.thresholds.chosen and not self.thresholds.source else None

    @property
    def note(self) -> Mapping[str, Any]:
        """How the gallery was built or last enrolled, empty where the ledger has no note."""
        return note_of(self.ledger)

    def stats(self) -> dict[str, Any]:
        """Return the counts of ``stats.json``; ``enrolment`` has the image counts of the build."""
        enrolment = self.note.get("enrolment")
        return {
            **({} if enrolment is None else {"enrolment": enrolment}),
            "total": len(self.rows),
            "dim": int(self.vectors.shape[1]),
            "counts": dict(sorted(Counter(row.label for row in self.rows).items())),
            "aug": dict(sorted(Counter(row.aug for row in self.rows).items())),
        }

    def digest(self) -> str:
        """Return 64 hexadecimal digits that change with everything that can change a result."""
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

    Examples:
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


def note_of(ledger: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the note of the last enrolment; a rollback restores that of its generation."""
    notes: list[Mapping[str, Any]] = []
    for line in ledger:
        earlier = notes[int(line["to"]) - 1 if line["op"] == "rollback" else -1] if notes else {}
        notes.append(line.get("note", earlier))
    return notes[-1]


def edits_since_enrolment(ledger: Sequence[Mapping[str, Any]]) -> int:
    """Count the changes of rows since the gallery was last enrolled."""
    count = 0
    for line in ledger:
        count = 0 if line["op"] in {"build", "enrol"} else count + (line["op"] in _ROW_CHANGES)
    return count


def stale_since(ledger: Sequence[Mapping[str, Any]]) -> int | None:
    """Return the generation in which rows changed after the thresholds were chosen, if any.

    A rollback restores the rows and the thresholds of a generation, and so also whether they were stale.
    """
    states: list[tuple[int, int]] = []  # of each generation: when its rows were made, and those of its thresholds
    for line in ledger:
        rows, judged = states[-1] if states else (1, 1)
        generation = len(states) + 1
        if line["op"] in _ROW_CHANGES - {"rollback"} or (line["op"] == "enrol" and any(line_counts(line).values())):
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


@dataclass(frozen=True)
class StoredIndex:
    """A folder's index file and metadata; ``data``, the bytes of ``faiss.index``, is None for "exact"."""

    kind: IndexKind
    data: bytes | None
    budgets: Budgets = field(default_factory=dict)


def _npy_bytes(vectors: Vectors) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, vectors.astype("<f4", copy=False), allow_pickle=False)
    return buffer.getvalue()


def write_gallery(folder: str | Path, content: GalleryContent, index: VectorIndex) -> None:
    """Write a gallery folder or replace an older one as a whole; the caller holds ``writer_lock``."""
    rows = zip(content.ids.tolist(), content.rows, strict=True)
    meta: dict[str, Any] = {
        "metric": "ip",
        "kind": "flat" if index.kind in ("exact", "faiss") else index.kind,
        "dim": content.vectors.shape[1],
        "size": len(content.rows),
    }
    if index.budgets:
        meta["efforts"] = {kind: budget.as_json() for kind, budget in index.budgets.items()}
    files = {
        EMBEDDINGS: _npy_bytes(content.vectors),
        ROWS: lines_bytes([{"id": id_, "path": r.path, "label": r.label, "aug": r.aug} for id_, r in rows]),
        STATS: json_bytes(content.stats()),
        INDEX_META: json_bytes({**meta, "index": "exact" if index.kind == "exact" else "faiss"}),
        THRESHOLDS: json_bytes(content.thresholds.as_json()),
        LEDGER: lines_bytes(content.ledger),
    }
    stored = index.to_bytes()
    if stored is not None:
        files[INDEX] = stored
    if len(content.removed):
        files[REMOVED] = _npy_bytes(content.removed)
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "generation": content.generation,
        "fingerprint": content.fingerprint,
        "rows": len(content.rows),
        "dim": int(content.vectors.shape[1]),
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())},
    }
    manifest["checksum"] = manifest_checksum(manifest)
    publish(folder, files, manifest)


def read_gallery(folder: str | Path, fingerprint: str | None = None) -> tuple[GalleryContent, StoredIndex]:
    """Read a gallery folder's content and index; ``fingerprint`` None takes any encoder."""
    root = Path(folder)
    _check_encoder(root, read_manifest(root), fingerprint)  # checked before large files are read
    manifest, data = read_files(root)
    _check_encoder(root, manifest, fingerprint)
    records = parse_lines(root / ROWS, data[ROWS], RowRecord)
    ledger = read_ledger(root / LEDGER, data[LEDGER], manifest["generation"])
    vectors = _parse_npy(root / EMBEDDINGS, data[EMBEDDINGS], (manifest["rows"], manifest["dim"]))
    try:
        content = GalleryContent(
            vectors=vectors,
            rows=tuple(GalleryRow(record["path"], record["label"], record["aug"]) for record in records),
            ids=np.array([record["id"] for record in records], dtype=np.int64),
            fingerprint=manifest["fingerprint"],
            thresholds=parse_json(root / THRESHOLDS, data[THRESHOLDS], Thresholds),
            ledger=ledger,
            removed=_removed(root, data.get(REMOVED), ledger, vectors.shape[1]),
        )
    except FormatError:
        raise
    except (InputError, ValueError, LookupError, TypeError, OverflowError) as error:
        raise FormatError(root, "a gallery whose files agree", str(error), AGAIN) from None
    _check_agreement(root, content)
    meta = parse_json(root / INDEX_META, data[INDEX_META], IndexMeta)
    return content, _stored(root, content, meta, data.get(INDEX))


def _check_encoder(root: Path, manifest: Manifest, fingerprint: str | None) -> None:
    if fingerprint is not None and fingerprint != manifest["fingerprint"]:
        raise FingerprintError(root, manifest["fingerprint"], fingerprint)


def _removed(root: Path, data: bytes | None, ledger: Sequence[Mapping[str, Any]], dim: int) -> Vectors:
    """Read the removed rows (R, D); without removals there is no file."""
    shape = (len(archived_ids(ledger)), dim)
    return np.zeros((0, dim), dtype=np.float32) if data is None else _parse_npy(root / REMOVED, data, shape)


def _stored(root: Path, content: GalleryContent, meta: IndexMeta, data: bytes | None) -> StoredIndex:
    """Compare ``faiss_meta.json`` with the vectors and return the description of ``faiss.index``.

    On unit rows the nearest by L2 are the nearest by inner product, so a flat index of that metric needs no file.
    """
    if (meta.size, meta.dim) == content.vectors.shape:
        if meta.kind == "flat":
            return StoredIndex("exact", None) if data is None or meta.metric == "l2" else StoredIndex("faiss", data)
        if meta.metric == "ip" and data:
            return StoredIndex(meta.kind, data, meta.budgets)
    rows, dim = content.vectors.shape
    expected = f"metric ip (or l2 and flat), dim {dim}, size {rows}, and {INDEX} unless flat"
    raise FormatError(root / INDEX_META, expected, repr(meta), AGAIN)


def _check_agreement(root: Path, content: GalleryContent) -> None:
    """Check that the ledger, the ids and the lengths of the vectors agree."""
    next_id = content.next_id
    if next_id <= int(content.ids[-1]):
        raise FormatError(root / LEDGER, f"next_id above {content.ids[-1]}", repr(next_id), AGAIN)
    lengths = np.einsum("nd,nd->n", content.vectors, content.vectors, dtype=np.float64)
    bad = np.flatnonzero(~(np.abs(lengths - 1.0) <= 1e-3))
    if bad.size:
        raise FormatError(root / EMBEDDINGS, "unit rows", f"length {lengths[bad[0]] ** 0.5:g} in row {bad[0]}", AGAIN)


def _parse_npy(path: Path, data: bytes, shape: tuple[int, int]) -> NDArray[np.float32]:
    """View the bytes of a ``.npy`` file as float32 of a given shape, which they must fill exactly."""
    values = array_from_npy(path, data, AGAIN)
    if values.shape != shape or values.dtype != np.dtype("<f4") or not values.flags.c_contiguous:
        found = f"{values.dtype} {values.shape}"
        raise FormatError(path, f"float32 of shape {shape}", found, AGAIN)
    return values.astype(np.float32, copy=False)
