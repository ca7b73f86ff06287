"""A gallery's content and index as the files of its folder, and back."""

import hashlib
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from naruto_vision.errors import FingerprintError, FormatError, InputError
from naruto_vision.gallery.content import GalleryContent, GalleryRow, archived_ids, stale_since
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
    json_bytes,
    lines_bytes,
    manifest_checksum,
    parse_json,
    parse_lines,
    publish,
    read_files,
    read_manifest,
)
from naruto_vision.gallery.thresholds import Thresholds
from naruto_vision.records import Vectors


@dataclass(frozen=True)
class StoredIndex:
    """What a folder says about its index; ``data``, the bytes of ``faiss.index``, is None for "exact"."""

    kind: IndexKind
    data: bytes | None
    budgets: Budgets = field(default_factory=dict)


class _Row(TypedDict):
    id: int
    path: str
    label: str
    aug: str


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
    """Read what a gallery folder holds and the index stored with it; ``fingerprint`` None takes any encoder.

    Raises:
        MissingPathError: If the folder or one of its files is missing.
        FingerprintError: If another encoder made the gallery.
        FormatError: If a file is not the one that was written.
    """
    root = Path(folder)
    _check_encoder(root, read_manifest(root), fingerprint)  # before anything large is read
    manifest, data = read_files(root)
    _check_encoder(root, manifest, fingerprint)
    records = parse_lines(root / ROWS, data[ROWS], _Row)
    ledger = parse_lines(root / LEDGER, data[LEDGER], dict[str, Any])
    vectors = _parse_npy(root / EMBEDDINGS, data[EMBEDDINGS], (manifest["rows"], manifest["dim"]))
    try:
        content = GalleryContent(
            vectors=vectors,
            rows=tuple(GalleryRow(record["path"], record["label"], record["aug"]) for record in records),
            ids=np.array([record["id"] for record in records], dtype=np.int64),
            fingerprint=manifest["fingerprint"],
            thresholds=parse_json(root / THRESHOLDS, data[THRESHOLDS], Thresholds),
            ledger=tuple(ledger),
            removed=_removed(root, data.get(REMOVED), ledger, vectors.shape[1]),
        )
    except FormatError:
        raise
    except (InputError, ValueError, LookupError, TypeError, OverflowError) as error:
        raise FormatError(root, "a gallery whose files agree", str(error), AGAIN) from None
    _check_agreement(root, content, manifest)
    meta = parse_json(root / INDEX_META, data[INDEX_META], IndexMeta)
    return content, _stored(root, content, meta, data.get(INDEX))


def _check_encoder(root: Path, manifest: Manifest, fingerprint: str | None) -> None:
    if fingerprint is not None and fingerprint != manifest["fingerprint"]:
        raise FingerprintError(root, manifest["fingerprint"], fingerprint)


def _removed(root: Path, data: bytes | None, ledger: list[dict[str, Any]], dim: int) -> Vectors:
    """Read the removed rows (R, D); a gallery that never lost one has no file."""
    shape = (len(archived_ids(ledger)), dim)
    return np.zeros((0, dim), dtype=np.float32) if data is None else _parse_npy(root / REMOVED, data, shape)


def _stored(root: Path, content: GalleryContent, meta: IndexMeta, data: bytes | None) -> StoredIndex:
    """Compare ``faiss_meta.json`` with the vectors and say what ``faiss.index`` is.

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


def _check_agreement(root: Path, content: GalleryContent, manifest: Manifest) -> None:
    """Check that the ledger, the ids and the lengths of the vectors agree."""
    generations = [line.get("generation") for line in content.ledger]
    if not generations or generations != list(range(1, manifest["generation"] + 1)):
        raise FormatError(root / LEDGER, f"generations 1 to {manifest['generation']}", f"{generations}", AGAIN)
    next_id = content.ledger[-1].get("next_id")
    if not isinstance(next_id, int) or next_id <= int(content.ids[-1]):
        raise FormatError(root / LEDGER, f"next_id above {content.ids[-1]}", repr(next_id), AGAIN)
    try:
        stale_since(content.ledger)
    except (LookupError, ValueError, TypeError) as error:
        raise FormatError(root / LEDGER, "lines that say what was done", repr(error), AGAIN) from None
    lengths = np.einsum("nd,nd->n", content.vectors, content.vectors, dtype=np.float64)
    bad = np.flatnonzero(~(np.abs(lengths - 1.0) <= 1e-3))
    if bad.size:
        raise FormatError(root / EMBEDDINGS, "unit rows", f"length {lengths[bad[0]] ** 0.5:g} in row {bad[0]}", AGAIN)


def _parse_npy(path: Path, data: bytes, shape: tuple[int, int]) -> NDArray[np.float32]:
    """View the bytes of a ``.npy`` file as float32 of a given shape, which they have to fill exactly."""
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        header = np.lib.format.read_array_header_1_0(stream) if version == (1, 0) else None
    except (ValueError, SyntaxError, TypeError, EOFError, RecursionError) as error:
        raise FormatError(path, "an .npy header", str(error), AGAIN) from None
    start = stream.tell()
    if header != (shape, False, np.dtype("<f4")) or len(data) - start != 4 * shape[0] * shape[1]:
        found = f"{header} with {len(data) - start} bytes"
        raise FormatError(path, f"float32 of shape {shape}", found, AGAIN)
    return np.frombuffer(data, dtype="<f4", offset=start).reshape(shape).astype(np.float32, copy=False)
