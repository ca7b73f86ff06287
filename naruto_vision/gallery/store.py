"""The gallery folder on disk: written as a whole, and read only where every byte is the one that was written."""

import fcntl
import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from naruto_vision.errors import FingerprintError, FormatError, InputError, JsonError, MissingPathError
from naruto_vision.gallery.content import GalleryContent, GalleryRow, archived_ids, stale_since
from naruto_vision.gallery.index import Budgets, IndexKind, VectorIndex, budgets_from_json
from naruto_vision.gallery.thresholds import Thresholds
from naruto_vision.io.atomic import atomic_folder, remove_leftovers, sync_folder, write_bytes
from naruto_vision.io.bundles import has_sha256
from naruto_vision.records import Vectors

FORMAT = 1
MANIFEST = "manifest.json"
EMBEDDINGS = "embeddings.npy"
ROWS = "meta.jsonl"
STATS = "stats.json"
INDEX = "faiss.index"
INDEX_META = "faiss_meta.json"
THRESHOLDS = "thresholds.json"
LEDGER = "ledger.jsonl"
REMOVED = "removed.npy"
LOCK = ".lock"
STAGING = ".next"

ALWAYS = frozenset({EMBEDDINGS, ROWS, STATS, INDEX_META, THRESHOLDS, LEDGER})
OPTIONAL = frozenset({INDEX, REMOVED})
ENROL = "enrol first with `naruto-vision fit --config gallery.yaml`"
AGAIN = "the gallery is damaged: copy it again, or enrol again with `naruto-vision fit --config gallery.yaml`"
_TRIES = 5  # how often a reader starts over when a writer publishes meanwhile


def json_bytes(value: object) -> bytes:
    """Return the bytes of a JSON file."""
    return (json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n").encode("utf-8", "surrogatepass")


def lines_bytes(values: Sequence[Mapping[str, Any]]) -> bytes:
    """Return the bytes of a JSON Lines file; a file name on disk need not be valid Unicode."""
    lines = [json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n" for value in values]
    return "".join(lines).encode("utf-8", "surrogatepass")


def parse_json(path: Path, data: bytes) -> object:
    """Parse the bytes of a JSON file; raise FormatError if they are none."""
    try:
        value: object = json.loads(data.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError) as error:
        raise JsonError(path, error, AGAIN) from None
    return value


def parse_lines(path: Path, data: bytes) -> list[dict[str, Any]]:
    """Parse JSON Lines. Only a line feed ends a line: labels may hold the other line ends of Unicode."""
    lines = data.split(b"\n")
    values = [parse_json(path, line) for line in lines[:-1]]
    records = [value for value in values if isinstance(value, dict)]
    if lines[-1] or len(records) != len(values):
        raise FormatError(path, "one JSON object a line", "others", AGAIN)
    return records


def manifest_checksum(manifest: Mapping[str, Any]) -> str:
    """Return the hash that a manifest carries of itself."""
    facts = {key: value for key, value in manifest.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode("ascii")).hexdigest()


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """Read and check ``manifest.json``: generation, fingerprint, rows, dim, and files (name to sha256)."""
    root = Path(folder)
    if not root.is_dir():
        raise MissingPathError(root, "gallery", ENROL)
    path = root / MANIFEST
    if not path.is_file():
        others = sorted(other.parent for other in root.glob(f"*/{MANIFEST}"))
        hint = f"there is one in {others[0]}" if others else ENROL
        msg = f"{root}: no gallery here, it has no {MANIFEST}; {hint}"
        raise InputError(msg)
    manifest = parse_json(path, path.read_bytes())
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        found = manifest.get("format") if isinstance(manifest, dict) else type(manifest).__name__
        raise FormatError(path, f"gallery format {FORMAT}", f"{found!r}", AGAIN)
    own = manifest_checksum(manifest)
    if manifest.get("checksum") != own:
        raise FormatError(path, f"checksum {own[:12]}", str(manifest.get("checksum"))[:12], AGAIN)
    match manifest:
        case {"generation": int(), "fingerprint": str(), "rows": int(rows), "dim": int(dim), "files": dict(files)} if (
            rows > 0 and dim > 0 and set(files) - OPTIONAL == ALWAYS
        ):
            return manifest
    raise FormatError(path, "generation, fingerprint, rows, dim and the hashes of all files", "others", AGAIN)


def read_files(folder: str | Path, names: Iterable[str] | None = None) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Read the manifest and files (all, or those of ``names``) of one generation, also while the next is published."""
    root, manifest = Path(folder), read_manifest(folder)
    wanted = None if names is None else set(names)
    for _ in range(_TRIES):
        files = {name: sha for name, sha in manifest["files"].items() if wanted is None or name in wanted}
        try:
            return manifest, {name: _read_checked(root, name, digest) for name, digest in files.items()}
        except InputError:
            newer = read_manifest(root)
            if newer["checksum"] == manifest["checksum"]:
                raise
            manifest = newer
    msg = f"{root}: the gallery changed {_TRIES} times while it was read; try again when its writer has finished"
    raise InputError(msg)


def _read_checked(root: Path, name: str, digest: object) -> bytes:
    """Read one file, which a writer may still have in the staging folder."""
    found = ""
    for path in (root / name, root / STAGING / name, root / name):  # again: it may have been moved since
        try:
            data = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            continue
        own = hashlib.sha256(data).hexdigest()
        if own == digest:
            return data
        found = f"{own[:12]} ({len(data)} bytes)"
    if not found:
        raise MissingPathError(root / name, "file of the gallery", AGAIN)
    raise FormatError(root / name, f"sha256 {str(digest)[:12]}", found, AGAIN)


@contextmanager
def writer_lock(folder: str | Path) -> Iterator[None]:
    """Lock a gallery folder, if it is there, against other writers; the lock ends with the process."""
    root = Path(folder)
    if not root.is_dir():
        yield
        return
    with (root / LOCK).open("a+b") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.seek(0)
            owner = handle.read(20).decode("ascii", "replace").strip() or "unknown"
            msg = f"{root}: process {owner} is changing this gallery; wait until it has finished, then try again"
            raise InputError(msg) from None
        handle.truncate(0)
        handle.write(f"{os.getpid()}\n".encode("ascii"))
        handle.flush()
        yield


def publish(folder: str | Path, files: Mapping[str, bytes], manifest: Mapping[str, Any]) -> None:
    """Write all files of one generation; the caller holds the lock, and other files in the folder stay."""
    root = Path(folder)
    if not root.exists():
        with atomic_folder(root) as temporary:
            for name, data in {**files, MANIFEST: json_bytes(manifest)}.items():
                (temporary / name).write_bytes(data)
        return
    recover(root)
    try:
        staging = root / STAGING
        staging.mkdir()
        for name, data in files.items():
            if not has_sha256(root / name, manifest["files"][name]):
                _write_synced(staging / name, data)
        sync_folder(staging)
        write_bytes(root / MANIFEST, json_bytes(manifest))
    finally:
        recover(root)


def recover(folder: str | Path) -> None:
    """Finish what a stopped writer had published and drop what it had not; the caller holds the lock."""
    root = Path(folder)
    remove_leftovers(root)
    try:
        files: Mapping[str, str] = read_manifest(root)["files"]
    except InputError:  # no gallery yet, or a damaged one that is being replaced: nothing was published
        files = {}
    waiting = [name for name, digest in files.items() if has_sha256(root / STAGING / name, digest)]
    for name in waiting:
        (root / STAGING / name).replace(root / name)
    if waiting:
        sync_folder(root)
    for name in OPTIONAL - set(files) if files else ():
        (root / name).unlink(missing_ok=True)
    shutil.rmtree(root / STAGING, ignore_errors=True)


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as handle:
        handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())


@dataclass(frozen=True)
class StoredIndex:
    """What a folder says about its index; ``data``, the bytes of ``faiss.index``, is None for "exact"."""

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
    records, ledger = parse_lines(root / ROWS, data[ROWS]), parse_lines(root / LEDGER, data[LEDGER])
    vectors = _parse_npy(root / EMBEDDINGS, data[EMBEDDINGS], (manifest["rows"], manifest["dim"]))
    try:
        content = GalleryContent(
            vectors=vectors,
            rows=tuple(_row(record) for record in records),
            ids=np.array([record["id"] for record in records], dtype=np.int64),
            fingerprint=manifest["fingerprint"],
            thresholds=Thresholds.from_json(parse_json(root / THRESHOLDS, data[THRESHOLDS])),
            ledger=tuple(ledger),
            removed=_removed(root, data.get(REMOVED), ledger, vectors.shape[1]),
        )
    except FormatError:
        raise
    except (InputError, ValueError, LookupError, TypeError, OverflowError) as error:
        raise FormatError(root, "a gallery whose files agree", str(error), AGAIN) from None
    _check_agreement(root, content, manifest)
    return content, _stored(root, content, parse_json(root / INDEX_META, data[INDEX_META]), data.get(INDEX))


def _check_encoder(root: Path, manifest: Mapping[str, Any], fingerprint: str | None) -> None:
    if fingerprint is not None and fingerprint != manifest["fingerprint"]:
        raise FingerprintError(root, manifest["fingerprint"], fingerprint)


def _removed(root: Path, data: bytes | None, ledger: list[dict[str, Any]], dim: int) -> Vectors:
    """Read the removed rows (R, D); a gallery that never lost one has no file."""
    shape = (len(archived_ids(ledger)), dim)
    return np.zeros((0, dim), dtype=np.float32) if data is None else _parse_npy(root / REMOVED, data, shape)


def _stored(root: Path, content: GalleryContent, meta: object, data: bytes | None) -> StoredIndex:
    """Compare ``faiss_meta.json`` with the vectors and say what ``faiss.index`` is.

    On unit rows the nearest by L2 are the nearest by inner product, so a flat index of that metric needs no file.
    """
    rows, dim = content.vectors.shape
    expected = f"metric ip (or l2), kind flat, hnsw, ivf or sq, dim {dim}, size {rows}"
    match meta:
        case {"metric": "ip" | "l2" as metric, "kind": str(kind), "dim": d, "size": n, **rest} if (n, d) == (rows, dim):
            if kind == "flat":
                return StoredIndex("exact", None) if data is None or metric == "l2" else StoredIndex("faiss", data)
            if kind in ("hnsw", "ivf", "sq") and metric == "ip" and data:
                try:
                    return StoredIndex(cast("IndexKind", kind), data, budgets_from_json(rest.get("efforts")))
                except ValueError as error:
                    raise FormatError(root / INDEX_META, "efforts", str(error), AGAIN) from None
    raise FormatError(root / INDEX_META, expected, repr(meta), AGAIN)


def _row(record: Mapping[str, Any]) -> GalleryRow:
    match record:
        case {"id": int(), "path": str(path), "label": str(label), "aug": str(aug)}:
            return GalleryRow(path, label, aug)
    msg = f"{ROWS}: expected id, path, label and aug, found {sorted(record)}"
    raise ValueError(msg)


def _check_agreement(root: Path, content: GalleryContent, manifest: Mapping[str, Any]) -> None:
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
