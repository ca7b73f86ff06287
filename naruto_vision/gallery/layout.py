"""The names in a gallery folder, and reading them so that every byte is the one that was written. No NumPy here."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from naruto_vision.errors import FormatError, InputError, JsonError, MissingPathError

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
"""Where the files of the next generation wait until the manifest names them; see ``publish``."""

ALWAYS = frozenset({EMBEDDINGS, ROWS, STATS, INDEX_META, THRESHOLDS, LEDGER})
OPTIONAL = frozenset({INDEX, REMOVED})
ENROL = "enrol first with `naruto-vision fit --config gallery.yaml`"
AGAIN = "the gallery is damaged: copy it again, or enrol again with `naruto-vision fit --config gallery.yaml`"
_TRIES = 5  # how often a reader starts again when a writer publishes under its feet


def json_bytes(value: object) -> bytes:
    """Return the bytes of a JSON file.

    Args:
        value: Any value that JSON can hold.
    """
    return (json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n").encode("utf-8", "surrogatepass")


def lines_bytes(values: Sequence[Mapping[str, Any]]) -> bytes:
    """Return the bytes of a JSON Lines file; a file name on disk need not be proper Unicode.

    Args:
        values: One object a line.
    """
    lines = [json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n" for value in values]
    return "".join(lines).encode("utf-8", "surrogatepass")


def manifest_checksum(manifest: Mapping[str, Any]) -> str:
    """Return the hash that a manifest carries of itself.

    Args:
        manifest: The manifest, with or without its ``checksum``.
    """
    facts = {key: value for key, value in manifest.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode("ascii")).hexdigest()


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """Read and check a gallery's ``manifest.json``.

    Args:
        folder: The gallery.

    Returns:
        ``format``, ``generation``, ``fingerprint``, ``rows``, ``dim``, ``files`` (name to sha256), ``checksum``.

    Raises:
        MissingPathError: If there is no such folder.
        InputError: If it is no gallery.
        FormatError: If the manifest is damaged, or of another format version.
    """
    root = Path(folder)
    if not root.is_dir():
        raise MissingPathError(root, "gallery", ENROL)
    path = root / MANIFEST
    if not path.is_file():
        msg = f"{root}: no gallery here, it has no {MANIFEST}; {_elsewhere(root)}"
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


def _elsewhere(root: Path) -> str:
    """Name a gallery that lies in a folder; else say how to make one."""
    found = sorted(path.parent for path in root.glob(f"*/{MANIFEST}"))
    return f"there is one in {found[0]}" if found else ENROL


def read_files(folder: str | Path, names: Iterable[str] | None = None) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Read a gallery's files as one generation wrote them, also while a writer publishes the next.

    Args:
        folder: The gallery.
        names: Which of them; None takes all.

    Returns:
        The manifest, and name to bytes.

    Raises:
        MissingPathError: If the gallery or one of its files is missing.
        FormatError: If a file is not the one that was written.
    """
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
    """Read one file; a writer that was stopped, or is at it now, may still have it in the staging folder."""
    found = ""
    for path in (root / name, root / STAGING / name, root / name):  # the last look: it was moved since the first
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


def parse_json(path: Path, data: bytes) -> object:
    """Parse the bytes of a JSON file.

    Args:
        path: The file, for the message.
        data: Its bytes.

    Raises:
        FormatError: If they are no JSON.
    """
    try:
        value: object = json.loads(data.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError) as error:
        raise JsonError(path, error, AGAIN) from None
    return value


def parse_lines(path: Path, data: bytes) -> list[dict[str, Any]]:
    """Parse JSON lines. Only a line feed ends a line: labels may hold the other line ends that Unicode knows.

    Args:
        path: The file, for the message.
        data: Its bytes.

    Raises:
        FormatError: If a line is no JSON object, or the last one has no end.
    """
    lines = data.split(b"\n")
    values = [parse_json(path, line) for line in lines[:-1]]
    records = [value for value in values if isinstance(value, dict)]
    if lines[-1] or len(records) != len(values):
        raise FormatError(path, "one JSON object a line", "others", AGAIN)
    return records
