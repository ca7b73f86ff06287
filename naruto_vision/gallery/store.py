"""Files of a gallery folder: names, manifest, lock and atomic publication of a generation."""

import hashlib
import importlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NotRequired, TypeAlias, TypedDict, TypeVar

import msgspec

from naruto_vision.errors import FormatError, InputError, JsonError, MissingPathError
from naruto_vision.io.atomic import atomic_folder, json_bytes, remove_leftovers, sync_folder, write_bytes
from naruto_vision.io.bundles import has_sha256
from naruto_vision.io.locks import folder_lock
from naruto_vision.io.names import refusal
from naruto_vision.io.typed_json import convert_json, finite_number, require_regular

if TYPE_CHECKING:
    from naruto_vision.io.blocks import Blocks

T = TypeVar("T")

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
DRIFT = "drift.jsonl"
"""Of validation scenes, beside the files of generations; see ``recognition.drift``."""
STAGING = ".next"
NEGATIVE = "not"
"""The ``aug`` of a negative row: its image is not its label. It is no entry: searches and classifiers leave it out."""

ALWAYS = frozenset({EMBEDDINGS, ROWS, STATS, INDEX_META, THRESHOLDS, LEDGER})
OPTIONAL = frozenset({INDEX, REMOVED})
ENROL = "enrol first with `naruto-vision fit --config gallery.yaml`"
AGAIN = "the gallery is damaged: copy it again, or enrol again with `naruto-vision fit --config gallery.yaml`"
_ENCODER_PATHS = ("model", "pretrained", "weights")
_TRIES = 5  # maximum retries of a reader while a writer publishes


class Manifest(TypedDict):
    """The contents of ``manifest.json``: ``files`` maps each file's name to its sha256."""

    format: int
    generation: int
    fingerprint: str
    rows: Annotated[int, msgspec.Meta(ge=1)]
    dim: Annotated[int, msgspec.Meta(ge=1)]
    files: dict[str, str]
    checksum: str


_Id: TypeAlias = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]


_Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, lt=1 << 53)]


class _RuleNote(TypedDict):
    right: _Count


class _HeadsNote(TypedDict):
    rules: NotRequired[dict[str, _RuleNote]]
    of: NotRequired[_Count]
    colour: NotRequired[_Count]
    majority: NotRequired[_Count]


class _EnrolNote(TypedDict):
    by: Literal["image", "region", "both"]


class Note(TypedDict):
    """How a gallery was built: what its readers rely on. A gallery may come from others; it has other keys too."""

    root: NotRequired[str | None]
    heads: NotRequired[_HeadsNote | None]
    enrol: NotRequired[_EnrolNote | None]
    enrolment: NotRequired[dict[str, Any] | None]


class LedgerLine(TypedDict):
    """A line of ``ledger.jsonl``: what a change did, and what undoes it."""

    generation: int
    op: Literal["build", "enrol", "add", "remove", "relabel", "thresholds", "reindex", "rollback"]
    rows: Annotated[int, msgspec.Meta(ge=1)]
    next_id: _Id
    note: NotRequired[Note]
    added: NotRequired[list[tuple[_Id, _Id]]]
    removed: NotRequired[list[tuple[_Id, str, str, str]]]
    relabelled: NotRequired[list[tuple[_Id, str, str]]]
    to: NotRequired[int]
    index: NotRequired[str]
    before: NotRequired[dict[str, Any]]


class RowRecord(TypedDict):
    """A line of ``meta.jsonl``."""

    id: _Id
    path: str
    label: str
    aug: str


def parse_json(path: str | Path, data: bytes, kind: type[T], line: int = 0) -> T:
    """Parse the bytes of a JSON file, or of one of its lines, as a type; raise FormatError if they do not fit."""
    try:
        text = data.decode("utf-8", "surrogatepass")
        value: object = json.loads(text, parse_float=finite_number, parse_constant=finite_number)
    except (ValueError, RecursionError) as error:
        raise JsonError(path, error, AGAIN, line) from None
    return convert_json(f"{path}: line {line}" if line else path, value, kind, hint=AGAIN)


def parse_lines(path: str | Path, data: bytes, kind: type[T]) -> list[T]:
    """Parse JSON Lines. Only a line feed ends a line: labels may have other Unicode line ends."""
    lines = data.split(b"\n")
    if lines.pop():
        raise FormatError(path, "a line feed behind every line", "a torn last line", AGAIN)
    return [parse_json(path, line, kind, number) for number, line in enumerate(lines, start=1)]


def read_ledger(path: str | Path, data: bytes, generation: int) -> tuple[Mapping[str, Any], ...]:
    """Parse a ledger with its every key, after checking that its lines say what was done in each generation."""
    lines = parse_lines(path, data, dict[str, Any])
    for number, line in enumerate(parse_lines(path, data, LedgerLine), start=1):
        fits = all(first <= last < line["next_id"] for first, last in line.get("added", ()))
        heads = line.get("note", Note()).get("heads") or _HeadsNote()
        right = [*(rule["right"] for rule in heads.get("rules", {}).values()), heads.get("colour", 0)]
        fits &= max(*right, heads.get("majority", 0)) <= heads.get("of", 0)
        if line["generation"] != number or not 1 <= line.get("to", 1) <= max(1, number - 1) or not fits:
            expected = f"generations 1 to {generation} with what was done, ids below next_id, and right ones of all"
            raise FormatError(f"{path}: line {number}", expected, f"{lines[number - 1]}"[:100], AGAIN)
    if len(lines) != generation:
        raise FormatError(path, f"generations 1 to {generation}", f"{len(lines)} lines", AGAIN)
    return tuple(lines)


def manifest_checksum(manifest: Mapping[str, Any]) -> str:
    """Return a manifest's hash of itself."""
    facts = {key: value for key, value in manifest.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode("ascii")).hexdigest()


def store_uri(folder: str | Path) -> str | None:
    """Return the URI of a gallery in a vector store, also after it was a path; None for a folder."""
    found = re.fullmatch(r"((?:chroma|milvus)(?:\+https?)?):(.*)", str(folder), re.DOTALL)
    if found is None:
        return None
    return f"{found[1]}://{found[2].lstrip('/')}" if "+" in found[1] else str(folder)


def located_note(note: Mapping[str, Any], folder: str | Path | None) -> Mapping[str, Any]:
    """Return a gallery's note with the paths of its encoder and images as they lead from here.

    Relative paths were those of the working directory of the enrolment, which is mostly above the gallery: the folders
    above it are tried, the nearest first. A path that none of them has stays, and so do names and absolute paths.
    """
    if folder is None or store_uri(folder):
        return note
    encoder, root = note.get("encoder"), note.get("root")
    found = dict(note)
    if isinstance(encoder, Mapping):
        found["encoder"] = _located_encoder(encoder, Path(folder))
    if isinstance(root, str):
        found["root"] = _located(root, Path(folder))
    return found


def _located_encoder(encoder: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Do the same for the paths of an encoder and of its members."""
    own = {key: encoder[key] for key in _ENCODER_PATHS if "/" in str(encoder.get(key))}  # others are names of models
    paths: dict[str, Any] = {key: _located(path, folder) for key, path in own.items() if isinstance(path, str)}
    if isinstance(members := encoder.get("members"), list):
        paths["members"] = [_located_encoder(one, folder) if isinstance(one, Mapping) else one for one in members]
    return {**encoder, **paths}


def _located(recorded: str, folder: Path) -> str:
    if refusal(recorded):
        return recorded
    here = Path.cwd()
    above = (each / recorded for each in folder.resolve().parents)
    found = next((path for path in above if os.path.exists(path)), None)  # noqa: PTH110 - False where it cannot be read
    return recorded if found is None else str(found.relative_to(here) if found.is_relative_to(here) else found)


def connected(uri: str) -> Any:  # noqa: ANN401 - a GalleryStore, whose module builds on this one
    """Open the gallery of a vector store."""
    return importlib.import_module("naruto_vision.gallery.stored").connect(uri)


def read_manifest(folder: str | Path) -> Manifest:
    """Read and check ``manifest.json``, or that of a gallery in a vector store."""
    if uri := store_uri(folder):
        manifest: Manifest = connected(uri).head().manifest
        return manifest
    root = Path(folder)
    if not root.is_dir():
        raise MissingPathError(root, "gallery", ENROL)
    path = root / MANIFEST
    if not path.is_file():
        others = sorted(other.parent for other in root.glob(f"*/{MANIFEST}"))
        hint = f"there is one in {others[0]}" if others else ENROL
        raise InputError(f"{root}: no gallery here, it has no {MANIFEST}; {hint}")
    facts = parse_json(path, path.read_bytes(), dict[str, Any])
    if facts.get("format") not in (FORMAT, FORMAT + 1):  # the second has negative rows
        raise FormatError(path, f"gallery format {FORMAT} or {FORMAT + 1}", repr(facts.get("format")), AGAIN)
    own = manifest_checksum(facts)
    if facts.get("checksum") != own:
        raise FormatError(path, f"checksum {own[:12]}", str(facts.get("checksum"))[:12], AGAIN)
    manifest = convert_json(path, facts, Manifest, hint=AGAIN)
    if set(manifest["files"]) - OPTIONAL != ALWAYS:
        raise FormatError(path, "the hashes of all files", ", ".join(sorted(manifest["files"])), AGAIN)
    return manifest


def read_files(folder: str | Path, names: Iterable[str] | None = None) -> tuple[Manifest, dict[str, bytes]]:
    """Read the manifest and files (all, or those of ``names``) of one generation, also while the next is published."""
    if uri := store_uri(folder):
        found: tuple[Manifest, dict[str, bytes]] = connected(uri).read_files(names)
        return found
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


def large_file(root: Path, manifest: Manifest, name: str) -> Path:
    """Find a file of a generation that is too large to hash before it is opened; ``gallery verify`` does that.

    While an edit is published, or after one was stopped, it may still be in the staging folder.
    """
    own, waiting = root / name, root / STAGING / name
    path = waiting if waiting.is_file() and has_sha256(waiting, manifest["files"][name]) else own
    if not path.is_file():
        raise MissingPathError(own, "file of the gallery", AGAIN)
    require_regular(path)
    return path


def _read_checked(root: Path, name: str, digest: str) -> bytes:
    """Read one file, which may still be in the staging folder."""
    found = ""
    for path in (root / name, root / STAGING / name, root / name):  # again: it may have been moved meanwhile
        try:
            require_regular(path)
            data = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            continue
        own = hashlib.sha256(data).hexdigest()
        if own == digest:
            return data
        found = f"{own[:12]} ({len(data)} bytes)"
    if not found:
        raise MissingPathError(root / name, "file of the gallery", AGAIN)
    raise FormatError(root / name, f"sha256 {digest[:12]}", found, AGAIN)


@contextmanager
def writer_lock(folder: str | Path) -> Iterator[None]:
    """Lock a gallery folder, if it exists, against other writers, and finish what a stopped one left."""
    if not Path(folder).is_dir():
        yield
        return
    with folder_lock(folder, doing="changing this gallery"):
        recover(folder)
        yield


def publish(folder: str | Path, files: "Mapping[str, Blocks]", manifest: Mapping[str, Any]) -> None:
    """Write all files of one generation; the caller holds the lock, and other files in the folder stay."""
    root = Path(folder)
    if not root.exists():
        with atomic_folder(root) as temporary:
            for name, data in {**files, MANIFEST: [json_bytes(manifest)]}.items():
                _write_synced(temporary / name, data)
        return
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
    """Finish a stopped writer's published generation, discard an unpublished one; the caller holds the lock."""
    root = Path(folder)
    remove_leftovers(root)
    try:
        files = read_manifest(root)["files"]
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


def _write_synced(path: Path, data: "Blocks") -> None:
    with path.open("wb") as handle:
        handle.writelines(data)
        handle.flush()
        os.fsync(handle.fileno())
