"""The content of a gallery: vectors, entries, ids, thresholds and the ledger of changes.

The ledger has a line for each change, which is never altered and has what undoes the change. It has no clock: equal
inputs give equal bytes.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, cast, overload

import msgspec
import numpy as np
from numpy.typing import NDArray

from naruto_vision.errors import FingerprintError, FormatError, InputError
from naruto_vision.gallery.index import NO_BUDGETS, Budgets, IndexKind, IndexMeta, VectorIndex
from naruto_vision.gallery.store import (
    AGAIN,
    EMBEDDINGS,
    FORMAT,
    INDEX,
    INDEX_META,
    LEDGER,
    NEGATIVE,
    REMOVED,
    ROWS,
    STATS,
    THRESHOLDS,
    Manifest,
    RowRecord,
    large_file,
    manifest_checksum,
    parse_json,
    parse_lines,
    publish,
    read_files,
    read_ledger,
    read_manifest,
)
from naruto_vision.gallery.thresholds import Thresholds
from naruto_vision.io.arrays import array_from_npy, map_npy
from naruto_vision.io.atomic import json_bytes, lines_bytes
from naruto_vision.io.blocks import Blocks, MadeBlocks, npy_blocks, sha256_of
from naruto_vision.io.names import label_name
from naruto_vision.records import UNKNOWN, Vectors

MAPPED_BYTES = 1 << 30
"""Vectors of this size and more stay in their file, and are read where a search needs them."""

UNIT_TOLERANCE = 1e-2
"""Tolerance of a row's length: half-precision encoders normalise to about 4e-3."""

_NORMALISED = 1e-6  # tolerance of the length of rows that were normalised before
_LINE_FEED = 10
_SCANNED = 1 << 24  # bytes of a file of entries that are searched for line feeds at once
_BLOCK = 16_384  # rows that are checked or written at once
_APPROXIMATE = frozenset({"hnsw", "ivf", "sq", "pq"})
_ROW_CHANGES = frozenset({"add", "remove", "relabel", "rollback"})


@dataclass(frozen=True, slots=True)
class GalleryRow:
    """Where one vector of a gallery came from.

    Args:
        path: The image, POSIX, as the caller names it.
        label: The class that it shows.
        aug: The augmentation before it was embedded: "none" or "gamma"; "not" for a negative row, which shows that its
            image is not the label.

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
            raise InputError(f"{self.path}: expected a label, found an empty one; name the image's class")
        if self.label == UNKNOWN:
            msg = f"{self.path}: {UNKNOWN!r} is reserved for unknown characters; give the class another name"
            raise InputError(msg)


class MappedRows(Sequence[GalleryRow]):
    """The entries of a ``meta.jsonl`` that stays in its file; each is parsed when it is asked for.

    Args:
        path: The file, whose every line is parsed once, for the ids and labels.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._data = path, np.memmap(path, np.uint8, "r")
        size = len(self._data)
        if not size or self._data[-1] != _LINE_FEED:
            raise FormatError(path, "a line feed behind every line", "a torn last line", AGAIN)
        parts = [
            np.flatnonzero(self._data[start : start + _SCANNED] == _LINE_FEED) + start
            for start in range(0, size, _SCANNED)
        ]
        self._ends = np.concatenate(parts)
        self.ids = np.empty(len(self._ends), dtype=np.int64)
        self.negative = np.zeros(len(self._ends), dtype=np.bool_)
        self._labels: Counter[str] = Counter()
        decode = msgspec.json.Decoder(_IdAndLabel).decode
        try:
            for number in range(len(self._ends)):
                one = decode(self._line(number))
                self.ids[number] = one.id
                self.negative[number] = one.aug == NEGATIVE
                self._labels[one.label] += one.aug != NEGATIVE
        except (msgspec.DecodeError, OverflowError, UnicodeDecodeError) as error:
            raise FormatError(f"{path}: line {number + 1}", "an entry", str(error), AGAIN) from None

    def _line(self, number: int) -> bytes:
        first = int(self._ends[number - 1]) + 1 if number else 0
        return self._data[first : int(self._ends[number])].tobytes()

    def labels(self) -> Counter[str]:
        """Count the entries of each label, without negative rows."""
        return self._labels

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, number: int) -> GalleryRow: ...

    @overload
    def __getitem__(self, number: slice) -> list[GalleryRow]: ...

    def __getitem__(self, number: int | slice) -> GalleryRow | list[GalleryRow]:
        if isinstance(number, slice):
            return [self[each] for each in range(*number.indices(len(self)))]
        if not -len(self) <= number < len(self):
            raise IndexError(number)
        number %= len(self)
        record = parse_json(self._path, self._line(number), RowRecord, number + 1)
        return GalleryRow(record["path"], record["label"], record["aug"])


class _IdAndLabel(msgspec.Struct):
    id: int
    label: str
    aug: str = ""


def unit_rows(vectors: Vectors, what: str) -> Vectors:
    """Check that rows (N, D) are float32, finite and within 1e-2 of length 1, and normalise them to full precision.

    ``what`` names them in the InputError.
    """
    if vectors.ndim != 2 or vectors.dtype != np.float32:
        raise InputError(f"{what}: expected float32 of shape (N, D), found {vectors.dtype} {vectors.shape}")
    starts = range(0, max(1, len(vectors)), _BLOCK)
    lengths = np.concatenate([_lengths(vectors[start : start + _BLOCK]) for start in starts])
    bad = np.flatnonzero(~(np.abs(lengths - 1.0) <= UNIT_TOLERANCE))  # written so that NaN is bad
    if bad.size:
        msg = f"{what}: expected rows of length 1, found {lengths[bad[0]]:g} in row {bad[0]}; normalise the vectors"
        raise InputError(msg)
    if isinstance(vectors, np.memmap) and np.abs(lengths - 1.0).max(initial=0.0) <= _NORMALISED:
        return vectors
    return np.ascontiguousarray(vectors / lengths[:, None], dtype=np.float32)


def _lengths(vectors: Vectors) -> NDArray[np.float64]:
    return np.asarray(np.sqrt(np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64)))


def map_unit_rows(vectors: NDArray[Any], what: str, file: Path) -> Vectors:
    """Write rows (N, D) of a mapped file to another ``.npy`` file as float32 unit rows, and map that."""
    out = np.lib.format.open_memmap(file, "w+", np.dtype("<f4"), vectors.shape)
    for start in range(0, len(vectors), _BLOCK):
        out[start : start + _BLOCK] = unit_rows(np.asarray(vectors[start : start + _BLOCK], dtype=np.float32), what)
    out.flush()
    return np.asanyarray(map_npy(file))


@dataclass(frozen=True)
class GalleryHead:
    """A generation without its rows."""

    fingerprint: str
    thresholds: Thresholds
    ledger: tuple[Mapping[str, Any], ...]

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
        return stale_since(self.ledger, self.thresholds)

    @property
    def note(self) -> Mapping[str, Any]:
        """How the gallery was built or last enrolled, empty where the ledger has no note."""
        return note_of(self.ledger)


@dataclass(frozen=True)
class GalleryContent(GalleryHead):
    """Everything that a gallery folder stores, apart from the index, which is made from it."""

    vectors: Vectors
    ids: NDArray[np.int64]
    rows: Sequence[GalleryRow]
    removed: Vectors
    checksum: str = ""
    """Of the manifest that it was read with, if its rows were left in their files."""

    def __post_init__(self) -> None:
        if not self.rows or self.negative.all():
            raise InputError("gallery: expected at least one entry, found none; enrol at least one labelled image")
        if not len(self.vectors) == len(self.ids) == len(self.rows):
            msg = f"gallery: {len(self.vectors)} vectors, {len(self.ids)} ids and {len(self.rows)} rows; expected equal"
            raise InputError(msg)
        if self.ids[0] < 0 or (np.diff(self.ids) <= 0).any():
            raise InputError("gallery: expected ascending ids, found others")
        taken_out = len(archived_ids(self.ledger))
        if self.removed.shape != (taken_out, self.vectors.shape[1]):
            raise InputError(f"gallery: {taken_out} removed rows, but {len(self.removed)} removed vectors")

    @property
    def dim(self) -> int:
        """Length of the vectors."""
        return int(self.vectors.shape[1])

    @property
    def size(self) -> int:
        """Number of rows."""
        return len(self.rows)

    @cached_property
    def negative(self) -> NDArray[np.bool_]:
        """Which rows are negative ones: (N,)."""
        if isinstance(self.rows, MappedRows):
            return self.rows.negative
        return np.array([row.aug == NEGATIVE for row in self.rows], dtype=np.bool_)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The labels of entries, each once, sorted."""
        return tuple(sorted(label for label, count in self._counts().items() if count))

    def _counts(self) -> Counter[str]:
        if isinstance(self.rows, MappedRows):
            return self.rows.labels()
        return Counter(row.label for row in self.rows if row.aug != NEGATIVE)

    def stats(self) -> dict[str, Any]:
        """Return the counts of ``stats.json``; ``enrolment`` has the image counts of the build."""
        enrolment = self.note.get("enrolment")
        return {
            **({} if enrolment is None else {"enrolment": enrolment}),
            "total": len(self.rows),
            "dim": int(self.vectors.shape[1]),
            "counts": dict(sorted(self._counts().items())),
            "aug": dict(sorted(Counter(row.aug for row in self.rows).items())),
        }

    def digest(self) -> str:
        """Return 64 hexadecimal digits that change with everything that can change a result."""
        if self.checksum:
            return self.checksum
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


def stale_since(ledger: Sequence[Mapping[str, Any]], thresholds: Thresholds) -> int | None:
    """Return the generation in which rows changed after scenes chose the thresholds, if any."""
    return rows_changed(ledger) if thresholds.chosen and not thresholds.source else None


def rows_changed(ledger: Sequence[Mapping[str, Any]]) -> int | None:
    """Return the generation in which rows changed after the last thresholds, whoever chose them, if any.

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
    """A folder's index file and metadata.

    ``data``, the bytes of ``faiss.index`` or the path of one that is left in its file, is None for "exact".
    """

    kind: IndexKind
    data: bytes | Path | None
    budgets: Budgets = field(default_factory=dict)


def stored_index(stored: StoredIndex, content: GalleryContent) -> VectorIndex:
    """Open the index of a content; ValueError if it is not one of its vectors."""
    if isinstance(stored.data, Path):
        return VectorIndex.map(stored.kind, stored.data, content.vectors, content.ids, stored.budgets)
    return VectorIndex.read(stored.kind, stored.data or b"", content.vectors, content.ids, stored.budgets)


def row_lines(content: GalleryContent) -> Iterator[bytes]:
    """Yield ``meta.jsonl`` in parts."""
    for start in range(0, len(content.rows), _BLOCK):
        part = slice(start, start + _BLOCK)
        rows = zip(content.ids[part].tolist(), content.rows[part], strict=True)
        yield lines_bytes({"id": id_, "path": row.path, "label": row.label, "aug": row.aug} for id_, row in rows)


def gallery_files(content: GalleryContent, index: VectorIndex) -> dict[str, Blocks]:
    """Return the content of each file of a gallery folder, apart from its manifest."""
    files: dict[str, Blocks] = {
        EMBEDDINGS: npy_blocks(content.vectors.astype("<f4", copy=False)),
        ROWS: MadeBlocks(partial(row_lines, content)),
        **described_files(content, index.kind, index.budgets),
    }
    stored = index.to_blocks()
    if stored is not None:
        files[INDEX] = stored
    if len(content.removed):
        files[REMOVED] = npy_blocks(content.removed.astype("<f4", copy=False))
    return files


def described_files(content: GalleryContent, index: str, budgets: Budgets = NO_BUDGETS) -> dict[str, Blocks]:
    """Return the JSON files of a gallery: counts, kind of index or vector store, thresholds and ledger."""
    kind, made_by = (index, "faiss") if index in _APPROXIMATE else ("flat", index)
    meta = {"metric": "ip", "kind": kind, "dim": int(content.vectors.shape[1]), "size": len(content.rows)}
    efforts = {"efforts": {name: budget.as_json() for name, budget in budgets.items()}} if budgets else {}
    return {
        STATS: [json_bytes(content.stats())],
        INDEX_META: [json_bytes({**meta, **efforts, "index": made_by})],
        THRESHOLDS: [json_bytes(content.thresholds.as_json())],
        LEDGER: [lines_bytes(content.ledger)],
    }


def make_manifest(content: GalleryContent, files: Mapping[str, Blocks]) -> Manifest:
    """Describe a generation: its encoder and size, and the hash of each file."""
    manifest: dict[str, Any] = {
        "format": FORMAT + int(content.negative.any()),  # older versions would take negative rows for entries
        "generation": content.generation,
        "fingerprint": content.fingerprint,
        "rows": len(content.rows),
        "dim": int(content.vectors.shape[1]),
        "files": {name: sha256_of(data) for name, data in sorted(files.items())},
    }
    return cast("Manifest", {**manifest, "checksum": manifest_checksum(manifest)})


def write_gallery(folder: str | Path, content: GalleryContent, index: VectorIndex) -> None:
    """Write a gallery folder or replace an older one as a whole; the caller holds ``writer_lock``."""
    files = gallery_files(content, index)
    publish(folder, files, make_manifest(content, files))


def read_gallery(folder: str | Path, fingerprint: str | None = None) -> tuple[GalleryContent, StoredIndex]:
    """Read a gallery folder's content and index; ``fingerprint`` None takes any encoder.

    Vectors of a gibibyte and more, their entries and their index stay in their files.
    """
    root = Path(folder)
    manifest = read_manifest(root)
    _check_encoder(root, manifest, fingerprint)  # checked before large files are read
    if manifest["rows"] * manifest["dim"] * 4 < MAPPED_BYTES:
        manifest, data = read_files(root)
        _check_encoder(root, manifest, fingerprint)
        records = parse_lines(root / ROWS, data[ROWS], RowRecord)
        read = partial(_read_entries, root, records, data[EMBEDDINGS])
        stored: bytes | Path | None = data.get(INDEX)
    else:
        manifest, data = read_files(root, {LEDGER, THRESHOLDS, INDEX_META, REMOVED})
        _check_encoder(root, manifest, fingerprint)
        read = partial(_map_entries, root)
        stored = large_file(root, manifest, INDEX) if INDEX in manifest["files"] else None
    ledger = read_ledger(root / LEDGER, data[LEDGER], manifest["generation"])
    try:
        entries = read(manifest)
        content = GalleryContent(
            **entries,
            fingerprint=manifest["fingerprint"],
            thresholds=parse_json(root / THRESHOLDS, data[THRESHOLDS], Thresholds),
            ledger=ledger,
            removed=_removed(root, data.get(REMOVED), ledger, manifest["dim"]),
        )
    except FormatError:
        raise
    except (InputError, ValueError, LookupError, TypeError, OverflowError) as error:
        raise FormatError(root, "a gallery whose files agree", str(error), AGAIN) from None
    _check_agreement(root, content)
    meta = parse_json(root / INDEX_META, data[INDEX_META], IndexMeta)
    return content, _stored(root, content, meta, stored)


def _read_entries(root: Path, records: Sequence[RowRecord], embeddings: bytes, manifest: Manifest) -> dict[str, Any]:
    values = array_from_npy(root / EMBEDDINGS, embeddings, AGAIN)
    return {
        "vectors": _float_rows(root / EMBEDDINGS, values, (manifest["rows"], manifest["dim"])),
        "ids": np.array([record["id"] for record in records], dtype=np.int64),
        "rows": tuple(GalleryRow(record["path"], record["label"], record["aug"]) for record in records),
    }


def _map_entries(root: Path, manifest: Manifest) -> dict[str, Any]:
    file, rows = large_file(root, manifest, EMBEDDINGS), MappedRows(large_file(root, manifest, ROWS))
    vectors = _float_rows(file, map_npy(file, AGAIN), (manifest["rows"], manifest["dim"]))
    if read_manifest(root)["checksum"] != manifest["checksum"]:
        raise InputError(f"{root}: the gallery changed while it was opened; try again")
    return {"vectors": vectors, "ids": rows.ids, "rows": rows, "checksum": manifest["checksum"]}


def _check_encoder(root: Path, manifest: Manifest, fingerprint: str | None) -> None:
    if fingerprint is not None and fingerprint != manifest["fingerprint"]:
        raise FingerprintError(root, manifest["fingerprint"], fingerprint)


def _removed(root: Path, data: bytes | None, ledger: Sequence[Mapping[str, Any]], dim: int) -> Vectors:
    """Read the removed rows (R, D); without removals there is no file."""
    if data is None:
        return np.zeros((0, dim), dtype=np.float32)
    path = root / REMOVED
    return _float_rows(path, array_from_npy(path, data, AGAIN), (len(archived_ids(ledger)), dim))


def _stored(root: Path, content: GalleryContent, meta: IndexMeta, data: bytes | Path | None) -> StoredIndex:
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
    mapped = isinstance(content.vectors, np.memmap)  # all of which would be read for this
    vectors = content.vectors[:: max(1, len(content.rows) // 1000)] if mapped else content.vectors
    lengths = np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64)
    bad = np.flatnonzero(~(np.abs(lengths - 1.0) <= 1e-3))
    if bad.size:
        raise FormatError(root / EMBEDDINGS, "unit rows", f"length {lengths[bad[0]] ** 0.5:g} in row {bad[0]}", AGAIN)


def _float_rows(path: Path, values: NDArray[Any], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Check that the array of a ``.npy`` file is float32 of a given shape."""
    if values.shape != shape or values.dtype != np.dtype("<f4") or not values.flags.c_contiguous:
        found = f"{values.dtype} {values.shape}"
        raise FormatError(path, f"float32 of shape {shape}", found, AGAIN)
    return values.astype(np.float32, copy=False)
