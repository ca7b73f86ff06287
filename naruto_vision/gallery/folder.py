"""The gallery folder on disk: written as a whole, and read only where every byte is the one that was written."""

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from naruto_vision.errors import FingerprintError, FormatError, InputError, MissingPathError
from naruto_vision.files.atomic import atomic_folder
from naruto_vision.gallery.content import GalleryContent, GalleryRow
from naruto_vision.gallery.stores import VectorIndex
from naruto_vision.gallery.thresholds import Thresholds
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
_ALWAYS = frozenset({EMBEDDINGS, ROWS, STATS, INDEX_META, THRESHOLDS, LEDGER})
_ENROL = "enrol first with `naruto-vision fit --config gallery.yaml`"
_AGAIN = "the gallery is damaged: copy it again, or enrol again with `naruto-vision fit --config gallery.yaml`"


def _json_bytes(value: object) -> bytes:
    return (json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n").encode("utf-8", "surrogatepass")


def _lines_bytes(values: Sequence[Mapping[str, Any]]) -> bytes:
    lines = [json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n" for value in values]
    return "".join(lines).encode("utf-8", "surrogatepass")  # a file name on disk need not be proper Unicode


def _npy_bytes(vectors: Vectors) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, vectors.astype("<f4", copy=False), allow_pickle=False)
    return buffer.getvalue()


def _checksum(manifest: Mapping[str, Any]) -> str:
    facts = {key: value for key, value in manifest.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode("ascii")).hexdigest()


def write_gallery(folder: str | Path, content: GalleryContent, index: VectorIndex) -> None:
    """Write a gallery folder; an older one in its place is replaced as a whole, or not at all.

    Args:
        folder: Where the gallery goes.
        content: What it holds.
        index: The index of its vectors.
    """
    rows = zip(content.ids.tolist(), content.rows, strict=True)
    meta = {"metric": "ip", "kind": "flat", "dim": content.vectors.shape[1], "size": len(content.rows)}
    files = {
        EMBEDDINGS: _npy_bytes(content.vectors),
        ROWS: _lines_bytes([{"id": id_, "path": r.path, "label": r.label, "aug": r.aug} for id_, r in rows]),
        STATS: _json_bytes(content.stats()),
        INDEX_META: _json_bytes({**meta, "index": index.kind}),
        THRESHOLDS: _json_bytes(content.thresholds.as_json()),
        LEDGER: _lines_bytes(content.ledger),
    }
    stored = index.to_bytes()
    if stored is not None:
        files[INDEX] = stored
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "generation": content.generation,
        "fingerprint": content.fingerprint,
        "rows": len(content.rows),
        "dim": int(content.vectors.shape[1]),
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())},
    }
    manifest["checksum"] = _checksum(manifest)
    with atomic_folder(folder) as temporary:
        for name, data in files.items():
            (temporary / name).write_bytes(data)
        (temporary / MANIFEST).write_bytes(_json_bytes(manifest))


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """Read and check a gallery's ``manifest.json``.

    Args:
        folder: The gallery.

    Returns:
        ``format``, ``generation``, ``fingerprint``, ``rows``, ``dim``, ``files`` (name to sha256), ``checksum``.

    Raises:
        MissingPathError: If there is no such folder, or it is no gallery.
        FormatError: If the manifest is damaged, or of another format version.
    """
    root = Path(folder)
    if not root.is_dir():
        raise MissingPathError(root, "gallery", _ENROL)
    path = root / MANIFEST
    if not path.is_file():
        raise MissingPathError(path, "gallery manifest", _ENROL)
    manifest = _parse_json(path, path.read_bytes())
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        found = manifest.get("format") if isinstance(manifest, dict) else type(manifest).__name__
        raise FormatError(path, f"gallery format {FORMAT}", f"{found!r}", _AGAIN)
    if manifest.get("checksum") != _checksum(manifest):
        raise FormatError(path, f"checksum {_checksum(manifest)[:12]}", str(manifest.get("checksum"))[:12], _AGAIN)
    match manifest:
        case {"generation": int(), "fingerprint": str(), "rows": int(rows), "dim": int(dim), "files": dict(files)} if (
            rows > 0 and dim > 0 and set(files) - {INDEX} == _ALWAYS
        ):
            return manifest
    raise FormatError(path, "generation, fingerprint, rows, dim and the hashes of all files", "others", _AGAIN)


def read_gallery(folder: str | Path, fingerprint: str | None = None) -> tuple[GalleryContent, bytes | None]:
    """Read a gallery folder.

    Args:
        folder: The gallery.
        fingerprint: The encoder that will be searched with, or None to take any.

    Returns:
        The content, and the bytes of ``faiss.index`` where the gallery has one.

    Raises:
        MissingPathError: If the folder or one of its files is missing.
        FingerprintError: If another encoder made the gallery.
        FormatError: If a file is not the one that was written.
    """
    root = Path(folder)
    manifest = read_manifest(root)
    if fingerprint is not None and fingerprint != manifest["fingerprint"]:
        raise FingerprintError(root, manifest["fingerprint"], fingerprint)
    data = {name: _read_checked(root / name, digest) for name, digest in manifest["files"].items()}
    records = _parse_lines(root / ROWS, data[ROWS])
    vectors = _parse_npy(root / EMBEDDINGS, data[EMBEDDINGS], (manifest["rows"], manifest["dim"]))
    try:
        content = GalleryContent(
            vectors=vectors,
            rows=tuple(_row(record) for record in records),
            ids=np.array([record["id"] for record in records], dtype=np.int64),
            fingerprint=manifest["fingerprint"],
            thresholds=Thresholds.from_json(_parse_json(root / THRESHOLDS, data[THRESHOLDS])),
            ledger=tuple(_parse_lines(root / LEDGER, data[LEDGER])),
        )
    except (InputError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise FormatError(root, "a gallery whose files agree", str(error), _AGAIN) from None
    _check_agreement(root, content, manifest, _parse_json(root / INDEX_META, data[INDEX_META]))
    return content, data.get(INDEX)


def _row(record: Mapping[str, Any]) -> GalleryRow:
    match record:
        case {"id": int(), "path": str(path), "label": str(label), "aug": str(aug)}:
            return GalleryRow(path, label, aug)
    msg = f"{ROWS}: expected id, path, label and aug, found {sorted(record)}"
    raise ValueError(msg)


def _check_agreement(root: Path, content: GalleryContent, manifest: Mapping[str, Any], meta: object) -> None:
    """Hold what the files say about one another against what they hold."""
    rows, dim = content.vectors.shape
    match meta:
        case {"metric": "ip", "kind": "flat", "dim": int(own_dim), "size": int(size)} if (own_dim, size) == (dim, rows):
            pass
        case _:
            raise FormatError(root / INDEX_META, f"metric ip, kind flat, dim {dim}, size {rows}", repr(meta), _AGAIN)
    generations = [line.get("generation") for line in content.ledger]
    if not generations or generations != list(range(1, manifest["generation"] + 1)):
        raise FormatError(root / LEDGER, f"generations 1 to {manifest['generation']}", f"{generations}", _AGAIN)
    next_id = content.ledger[-1].get("next_id")
    if not isinstance(next_id, int) or next_id <= int(content.ids[-1]):
        raise FormatError(root / LEDGER, f"next_id above {content.ids[-1]}", repr(next_id), _AGAIN)
    lengths = np.einsum("nd,nd->n", content.vectors, content.vectors, dtype=np.float64)
    bad = np.flatnonzero(~(np.abs(lengths - 1.0) <= 1e-3))
    if bad.size:
        raise FormatError(root / EMBEDDINGS, "unit rows", f"length {lengths[bad[0]] ** 0.5:g} in row {bad[0]}", _AGAIN)


def _read_checked(path: Path, digest: object) -> bytes:
    if not path.is_file():
        raise MissingPathError(path, "file of the gallery", _AGAIN)
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != digest:
        raise FormatError(path, f"sha256 {str(digest)[:12]}", f"{found[:12]} ({len(data)} bytes)", _AGAIN)
    return data


def _parse_json(path: Path, data: bytes) -> object:
    try:
        value: object = json.loads(data.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError) as error:
        raise FormatError(path, "JSON", str(error), _AGAIN) from None
    return value


def _parse_lines(path: Path, data: bytes) -> list[dict[str, Any]]:
    """Parse JSON lines. Only a line feed ends a line: labels may hold the other line ends that Unicode knows."""
    lines = data.split(b"\n")
    values = [_parse_json(path, line) for line in lines[:-1]]
    records = [value for value in values if isinstance(value, dict)]
    if lines[-1] or len(records) != len(values):
        raise FormatError(path, "one JSON object a line", "others", _AGAIN)
    return records


def _parse_npy(path: Path, data: bytes, shape: tuple[int, int]) -> NDArray[np.float32]:
    """View the bytes of a ``.npy`` file as float32 of a given shape, which they have to fill exactly."""
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        header = np.lib.format.read_array_header_1_0(stream) if version == (1, 0) else None
    except (ValueError, SyntaxError, TypeError, EOFError, RecursionError) as error:
        raise FormatError(path, "an .npy header", str(error), _AGAIN) from None
    start = stream.tell()
    if header != (shape, False, np.dtype("<f4")) or len(data) - start != 4 * shape[0] * shape[1]:
        found = f"{header} with {len(data) - start} bytes"
        raise FormatError(path, f"float32 of shape {shape}", found, _AGAIN)
    return np.frombuffer(data, dtype="<f4", offset=start).reshape(shape).astype(np.float32, copy=False)
