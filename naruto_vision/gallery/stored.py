"""Galleries in a vector store: the engine holds and searches the vectors, and a client reads what it needs.

A gallery is two collections, or three once rows were removed:

- *files* has the ledger, thresholds and counts in parts, and one commit for each generation, with its manifest;
- *entries* has a vector with path, label and augmentation of each row, under its id;
- *removed* has the vectors of removed rows, for rollbacks.

The ledger says which entries count. Ids are never given twice, so entries above its ``next_id`` are those of a writer
that was stopped, and entries that it calls removed wait to be deleted; labels that it changed replace those of the
entries. So a generation appears with its commit, which is one entry, and a stopped edit leaves the one before.
"""

import base64
import hashlib
import json
import re
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from naruto_vision.errors import FingerprintError, FormatError, InputError
from naruto_vision.gallery.content import (
    GalleryContent,
    GalleryHead,
    GalleryRow,
    archived_ids,
    described_files,
    make_manifest,
    row_lines,
)
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.gallery.index import QueryKind, VectorIndex, exact_scores
from naruto_vision.gallery.store import (
    LEDGER,
    NEGATIVE,
    ROWS,
    STATS,
    THRESHOLDS,
    Manifest,
    parse_json,
    read_ledger,
)
from naruto_vision.gallery.thresholds import Thresholds
from naruto_vision.gallery.vector_store import Collection, Hit, Metadata, VectorStore, is_there, open_store
from naruto_vision.io.typed_json import convert_json
from naruto_vision.records import Neighbour, Vectors

T = TypeVar("T")

_FILES = "files"
_COMMIT = "commit-"
_NOWHERE = np.array([[1.0, 0.0]], dtype=np.float32)  # the vector of an entry that is no row
_PART = 45_000  # bytes of a file in one entry; Milvus takes 65,536 of JSON
_TRIES = 5
_SPARE = 8
_BLOCK = 4096  # rows that are sent at once
_MADE = "build one with `naruto-vision fit --config gallery.yaml`, or `naruto-vision gallery copy`"
_AGAIN = "the gallery is damaged: copy it again with `naruto-vision gallery copy`"


@dataclass(frozen=True)
class StoredHead(GalleryHead):
    """A generation without its rows, and which entries of the collection are its rows."""

    manifest: Manifest
    serial: int
    entries: str
    published: float
    files: Mapping[str, bytes]
    labels: tuple[str, ...]
    negatives: int
    digest: str
    gone: frozenset[int]
    relabelled: Mapping[int, str]

    @property
    def dim(self) -> int:
        """Length of the vectors."""
        return self.manifest["dim"]

    @property
    def size(self) -> int:
        """Number of rows."""
        return self.manifest["rows"]

    def row(self, name: str, facts: Metadata) -> tuple[int, GalleryRow] | None:
        """Return the id and row of an entry, or None if it is no row of this generation."""
        if not (re.fullmatch(r"[0-9]{19}", name) and {"path", "label", "aug"} <= facts.keys()):
            raise FormatError(self.entries, "entries with path, label and aug under their number", name[:60], _AGAIN)
        id_ = int(name)
        if id_ >= self.next_id or id_ in self.gone:
            return None
        return id_, GalleryRow(str(facts["path"]), self.relabelled.get(id_, str(facts["label"])), str(facts["aug"]))


def changed_entries(ledger: Iterable[Mapping[str, Any]]) -> tuple[set[int], dict[int, str]]:
    """Return the ids that a ledger has removed and not restored, and the labels that it changed."""
    gone: set[int] = set()
    labels: dict[int, str] = {}
    for line in ledger:
        for first, last in line.get("added", ()):
            back = {id_ for id_ in {*gone, *labels} if first <= id_ <= last}
            gone -= back
            labels = {id_: label for id_, label in labels.items() if id_ not in back}
        gone |= {int(row[0]) for row in line.get("removed", ())}
        labels |= {int(id_): label for id_, _, label in line.get("relabelled", ())}
    return gone, labels


@cache
def connect(uri: str) -> "GalleryStore":
    """Open the store of a gallery once; the connection, and the lock of a folder, end with the process."""
    return GalleryStore(uri)


class GalleryStore:
    """The gallery in a vector store, which has one at most.

    Args:
        uri: ``chroma:DIR``, ``chroma+http://host:port``, ``milvus:FILE.db`` or ``milvus+http://host:port``.
    """

    def __init__(self, uri: str) -> None:
        self.uri, self.kind = uri, uri.partition(":")[0].partition("+")[0]

    @cached_property
    def _store(self) -> VectorStore:
        """The connection; a folder or file that is not there is made by it."""
        return open_store(self.uri, marker="naruto_vision_gallery")

    def close(self) -> None:
        """Close the connection."""
        if "_store" in vars(self):
            self._store.close()

    def head(self) -> StoredHead:
        """Read the newest generation, without its rows.

        Raises:
            InputError: If there is no gallery.
            FormatError: If it is damaged.
        """
        if not is_there(self.uri) or _FILES not in self._store.collections():
            raise InputError(f"{self.uri}: no gallery here; {_MADE}")
        for _ in range(_TRIES):  # a writer deletes the files of the generation before
            names, _, metadata = self._store.open(_FILES).read()
            found = dict(zip(names, metadata, strict=True))
            commit = max((name for name in names if name.startswith(_COMMIT)), default="")
            if not commit:
                raise InputError(f"{self.uri}: no gallery here, the first one was not finished; {_MADE}")
            try:
                head = self._head(commit, found)
            except FormatError:
                raise
            except (LookupError, ValueError, TypeError, OverflowError, RecursionError) as error:
                raise FormatError(self.uri, "the files of a gallery", f"{type(error).__name__}", _AGAIN) from None
            if head is not None:
                return head
        raise FormatError(self.uri, "the files of the last generation", "other ones", _AGAIN)

    def _head(self, commit: str, found: Mapping[str, Metadata]) -> StoredHead | None:
        facts = found[commit]
        manifest = convert_json(self.uri, json.loads(str(facts["manifest"])), Manifest, hint=_AGAIN)
        files = {}
        for name, digest in manifest["files"].items():
            parts = sorted(part for part in found if part.startswith(digest))
            files[name] = b"".join(base64.b64decode(str(found[part]["data"])) for part in parts)
            if hashlib.sha256(files[name]).hexdigest() != digest:
                return None
        ledger = read_ledger(self._path(LEDGER), files[LEDGER], manifest["generation"])
        gone, labels = changed_entries(ledger)
        stats = parse_json(self._path(STATS), files[STATS], dict[str, Any])
        return StoredHead(
            fingerprint=manifest["fingerprint"],
            thresholds=parse_json(self._path(THRESHOLDS), files[THRESHOLDS], Thresholds),
            ledger=ledger,
            manifest=manifest,
            serial=int(commit.removeprefix(_COMMIT)),
            entries=str(facts["entries"]),
            published=float(facts["time"]),
            files=files,
            labels=tuple(sorted(stats["counts"])),
            negatives=int(stats.get("aug", {}).get(NEGATIVE, 0)),
            digest=str(facts["digest"]),
            gone=frozenset(gone),
            relabelled=labels,
        )

    def _path(self, name: str) -> str:
        return f"{self.uri}: {name}"

    def read_files(self, names: Iterable[str] | None) -> tuple[Manifest, dict[str, bytes]]:
        """Return the manifest and the small files; ``meta.jsonl`` is made from the entries if it is named."""
        head = self.head()
        wanted = set(names or ())
        files = {name: data for name, data in head.files.items() if not wanted or name in wanted}
        if ROWS in wanted:
            files[ROWS] = b"".join(row_lines(self.content(head)))
        return head.manifest, files

    def open(self, fingerprint: str | None) -> "StoredGallery":
        """Open the newest generation; FingerprintError if another encoder made it."""
        head = self.head()
        if fingerprint is not None and fingerprint != head.fingerprint:
            raise FingerprintError(self.uri, head.fingerprint, fingerprint)
        return StoredGallery(self, head)

    def collection(self, head: StoredHead) -> Collection:
        """Open the collection with the entries of a generation."""
        return self._store.open(head.entries)

    def content(self, head: StoredHead) -> GalleryContent:
        """Read all rows and vectors of a generation."""
        names, vectors, metadata = self.collection(head).read()
        rows = [head.row(name, facts) for name, facts in zip(names, metadata, strict=True)]
        kept = [number for number, row in enumerate(rows) if row is not None]
        if len(kept) != head.size:
            raise FormatError(self.uri, f"{head.size} entries", f"{len(kept)}", _AGAIN)
        live = [row for row in rows if row is not None]
        return GalleryContent(
            vectors=vectors[kept],
            ids=np.array([id_ for id_, _ in live], dtype=np.int64),
            rows=tuple(row for _, row in live),
            fingerprint=head.fingerprint,
            thresholds=head.thresholds,
            ledger=head.ledger,
            removed=self._removed(head),
        )

    def _removed(self, head: StoredHead) -> Vectors:
        wanted = [_name(id_) for id_ in archived_ids(head.ledger)]
        if not wanted:
            return np.zeros((0, head.dim), dtype=np.float32)
        names, vectors, _ = self._store.open(_removed_of(head.entries)).read(wanted)
        if len(names) != len(wanted):
            raise FormatError(self.uri, f"{len(wanted)} removed entries", f"{len(names)}", _AGAIN)
        return vectors

    def publish(self, content: GalleryContent, before: StoredHead | None) -> None:
        """Publish a generation that follows ``before``, the newest one when the edit began; None replaces any.

        Raises:
            InputError: If another writer has published meanwhile.
        """
        files = self._store.create(_FILES, {"dim": 2})
        newest = max((name for name in files.read()[0] if name.startswith(_COMMIT)), default=f"{_COMMIT}0")
        serial = int(newest.removeprefix(_COMMIT))
        if before is not None and serial != before.serial:
            self._refuse(before.serial)
        follows = before is not None and content.ledger[: before.generation] == before.ledger
        kept = before if follows else None
        entries = kept.entries if kept else f"entries {serial + 1} {uuid.uuid4().hex[:6]}"
        self._stage(content, entries, kept)
        described = described_files(content, self.kind)
        manifest = make_manifest(content, described)
        for name, blocks in described.items():
            _add_file(files, manifest["files"][name], b"".join(blocks))
        facts = {
            "manifest": json.dumps(manifest),
            "entries": entries,
            "digest": content.digest(),
            "time": str(time.time()),  # as text, because Chroma changes the last bit of some numbers
            "writer": uuid.uuid4().hex,
        }
        if not files.claim(f"{_COMMIT}{serial + 1:012}", _NOWHERE, facts):
            self._refuse(serial)
        self._tidy(files, set(manifest["files"].values()), content, entries, kept)

    def _refuse(self, serial: int) -> None:
        raise InputError(f"{self.uri}: another writer changed the gallery after commit {serial}; run the command again")

    def _stage(self, content: GalleryContent, entries: str, before: StoredHead | None) -> None:
        """Add the entries that the new generation has and the one before had not, and the removed vectors."""
        dim = {"dim": int(content.vectors.shape[1])}
        collection = self._store.create(entries, dim)
        lines = content.ledger[before.generation :] if before else ()
        fresh = np.arange(len(content.ids))
        if before is not None:
            ranges = [each for line in lines for each in line.get("added", ())]
            fresh = np.flatnonzero([any(a <= id_ <= b for a, b in ranges) for id_ in content.ids.tolist()])
        for start in range(0, len(fresh), _BLOCK):
            part = fresh[start : start + _BLOCK]
            rows = [content.rows[number] for number in part.tolist()]
            facts: list[Metadata] = [{"path": row.path, "label": row.label, "aug": row.aug} for row in rows]
            collection.add([_name(id_) for id_ in content.ids[part].tolist()], content.vectors[part], facts)
        archived = archived_ids(content.ledger)
        known = len(archived_ids(before.ledger)) if before else 0
        if len(archived) > known:
            names, empty = [_name(id_) for id_ in archived[known:]], [dict[str, str]() for _ in archived[known:]]
            self._store.create(_removed_of(entries), dim).add(names, content.removed[known:], empty)

    def _tidy(
        self, files: Collection, kept: set[str], content: GalleryContent, entries: str, before: StoredHead | None
    ) -> None:
        """Delete what only earlier generations had; all that a stopped writer leaves is space."""
        old = [name for name in files.read()[0] if not name.startswith(_COMMIT) and name.partition("-")[0] not in kept]
        files.remove(old)
        if before is None:
            for name in set(self._store.collections()) - {_FILES, entries, _removed_of(entries)}:
                self._store.delete(name)
        elif gone := changed_entries(content.ledger)[0]:
            self._store.open(entries).remove([_name(id_) for id_ in sorted(gone)])


def _name(id_: int) -> str:
    return f"{id_:019}"


def _removed_of(entries: str) -> str:
    return f"removed of {entries}"


def _add_file(files: Collection, digest: str, data: bytes) -> None:
    parts = [data[start : start + _PART] for start in range(0, max(1, len(data)), _PART)]
    names = [f"{digest}-{number:08}" for number in range(len(parts))]
    files.add(names, np.repeat(_NOWHERE, len(parts), 0), [{"data": base64.b64encode(part).decode()} for part in parts])


class StoredGallery(Gallery):
    """A gallery whose engine searches; rows and vectors are read at once when something needs all of them."""

    def __init__(self, store: GalleryStore, head: StoredHead) -> None:
        self.folder, self._store, self._stored = store.uri, store, head

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - of the base class, made when they are first used
        if name == "content":
            self.content = self._store.content(self._stored)
            return self.content
        if name == "index":
            self.index = VectorIndex.build("exact", self.content.vectors, self.content.ids)
            return self.index
        raise AttributeError(name)

    @property
    def head(self) -> StoredHead:
        """The generation without its rows."""
        return self._stored

    def __len__(self) -> int:
        return self._stored.size - self._stored.negatives

    @property
    def has_negatives(self) -> bool:
        """Whether there are negative rows."""
        return self._stored.negatives > 0

    @property
    def dim(self) -> int:
        """Length of the vectors."""
        return self._stored.dim

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels, each once, sorted."""
        return self._stored.labels

    @property
    def index_kind(self) -> str:
        """The engine: "chroma" or "milvus"."""
        return self._store.kind

    @property
    def digest(self) -> str:
        """The digest that the content had when it was published."""
        return self._stored.digest

    def _nearest(self, queries: Vectors, k: int, kind: QueryKind) -> list[tuple[Neighbour, ...]]:  # noqa: ARG002 - the engine has one search budget
        """Search the entries that are rows of this generation."""

        def entry(hit: Hit) -> tuple[int, GalleryRow] | None:
            found = self._stored.row(hit.id, hit.metadata)
            return None if found is None or found[1].aug == NEGATIVE else found

        found = search_collection(self._store.collection(self._stored), queries, min(k, len(self)), entry)
        return [tuple(Neighbour(id_, row.label, score, row.path) for score, (id_, row) in hits) for hits in found]

    def vector_of(self, row: int) -> Vectors:
        """Return the vector of the row with an id, which alone is read."""
        return _vectors_of(self._store.collection(self._stored), [_name(row)])[_name(row)]


def search_collection(
    collection: Collection, queries: Vectors, k: int, row: Callable[[Hit], T | None]
) -> list[list[tuple[float, T]]]:
    """Let an engine propose entries, and score them again from their vectors.

    Args:
        collection: The entries.
        queries: Shape (Q, D), float32, unit rows.
        k: Maximum number of neighbours, at most the entries that count.
        row: The row of an entry; None if it does not count.

    Returns:
        For each query its cosines and rows, falling, and of equal cosines the lower id first.
    """
    total, slack = len(collection), 2.0 * collection.dim * float(np.finfo(np.float32).eps)
    found: list[list[tuple[float, T]]] = [[] for _ in queries]
    pending, count = list(range(len(queries))), min(k + _SPARE, total)
    while pending:
        proposed = [
            [(hit, one) for hit in hits if (one := row(hit)) is not None]
            for hits in collection.search(queries[pending], count)
        ]
        clear = [_is_clear(hits, k, slack) or count >= total for hits in proposed]
        done = [(query, hits) for query, hits, enough in zip(pending, proposed, clear, strict=True) if enough]
        vectors = _vectors_of(collection, [hit.id for _, hits in done for hit, _ in hits])
        for query, hits in done:
            found[query] = _ranked(queries[query], hits, vectors)[:k]
        pending = [query for query, enough in zip(pending, clear, strict=True) if not enough]
        count = min(4 * count, total)
    return found


def _is_clear(hits: Sequence[tuple[Hit, Any]], wanted: int, slack: float) -> bool:
    """Whether the last hit scores below the last that is wanted by more than the error of the engine's scores."""
    return len(hits) > wanted and hits[-1][0].score < hits[wanted - 1][0].score - slack


def _vectors_of(collection: Collection, names: Iterable[str]) -> dict[str, NDArray[np.float32]]:
    found, vectors, _ = collection.read(list(dict.fromkeys(names)))
    return dict(zip(found, vectors, strict=True))


def _ranked(query: Vectors, hits: Sequence[tuple[Hit, T]], vectors: Mapping[str, Vectors]) -> list[tuple[float, T]]:
    there = [(hit.id, row) for hit, row in hits if hit.id in vectors]  # another process may have deleted one meanwhile
    if not there:
        return []
    scores = exact_scores(np.stack([vectors[name] for name, _ in there]), query.astype(np.float64)).tolist()
    order = sorted(range(len(there)), key=lambda number: (-scores[number], there[number][0]))
    return [(scores[number], there[number][1]) for number in order]
