"""Vector stores of video frames: what each of them offers, and how one is opened by its URI.

A store has one collection for each video. Scores are cosines in every store, and nothing is fetched vector by vector.
"""

import hashlib
import importlib
import json
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias, TypedDict

import numpy as np

from naruto_vision.errors import FormatError, InputError, MissingPathError
from naruto_vision.gallery.content import unit_rows
from naruto_vision.io.atomic import unicode_text, utf8
from naruto_vision.io.names import label_name
from naruto_vision.io.text import abbreviate
from naruto_vision.io.typed_json import parse_json
from naruto_vision.records import Vectors

Metadata: TypeAlias = Mapping[str, str | int | float]
Entries: TypeAlias = tuple[list[str], Vectors, list[Metadata]]

BATCH = 4096
"""Maximum number of entries in one request; Chroma takes 5,461."""

CONNECT = 10.0
"""Seconds that a server may take to answer at first."""

ID_BYTES = 512
_MAX_DIM = 32_768  # numbers of a vector, as in Milvus
FORMAT = 1
AGAIN = "the collection is damaged: delete it with `naruto-vision video delete` and index the video again"
_STORES = {
    "faiss": ("faiss_store", "FaissStore"),
    "chroma": ("chroma_store", "ChromaStore"),
    "milvus": ("milvus_store", "MilvusStore"),
}
KEY = re.compile(r"[a-z][a-z0-9_]*_[0-9a-f]{12}")
"""What ``collection_key`` returns: folders and tables of other names are not of this package."""

_FORMS = "faiss:DIR, chroma:DIR, chroma+http://host:port, milvus:FILE.db or milvus+http://host:port"
_URI = re.compile(r"(?P<kind>[A-Za-z]+)(?P<server>\+https?)?:(?P<rest>.*)", re.DOTALL)


@dataclass(frozen=True)
class Hit:
    """An entry that a search found.

    Args:
        id: The entry's id in its collection.
        score: Cosine in [-1, 1] with the query.
        metadata: What was stored with the entry: video, frame, time, shot.
    """

    id: str
    score: float
    metadata: Metadata


def collection_key(name: str) -> str:
    """Return the name of a collection's folder or table: letters that every store takes, and a hash of the whole name.

    Examples:
        >>> collection_key("Folge 1/../ナルト.mp4")
        'folge_1_mp4_28a653e7ccf5'
    """
    slug = re.sub("[^a-z0-9]+", "_", name.lower()).strip("_")[:40].strip("_")
    slug = slug if slug[:1].isalpha() else f"v_{slug}".rstrip("_")  # Milvus wants a letter first
    return f"{slug}_{hashlib.sha256(name.encode()).hexdigest()[:12]}"


class CollectionInfo(TypedDict):
    """What a store keeps of a collection, as JSON."""

    format: int
    name: str
    note: dict[str, Any]


def info_text(name: str, note: Mapping[str, Any]) -> str:
    """Return what a store keeps of a collection."""
    return json.dumps(CollectionInfo(format=FORMAT, name=name, note=dict(note)), ensure_ascii=False)


def read_info(where: str | Path, key: str, text: str) -> CollectionInfo:
    """Parse and check what a store keeps of the collection with this key; ``where`` is for messages."""
    info = parse_json(where, utf8(text), CollectionInfo, hint=AGAIN)
    dim = info["note"].get("dim")
    if (
        info["format"] != FORMAT
        or collection_key(info["name"]) != key
        or not isinstance(dim, int)
        or not 1 <= dim <= _MAX_DIM
    ):
        raise FormatError(where, f"format {FORMAT}, the name of {key} and dim", f"{info}"[:100], AGAIN)
    return info


class Collection(ABC):
    """The entries of one video, each with an id, a unit vector (D,) and metadata.

    Args:
        name: The name that people gave.
        note: JSON values of how the vectors were made; ``dim`` is D.
    """

    def __init__(self, name: str, note: Mapping[str, Any]) -> None:
        self.name, self.note = name, note

    @property
    def dim(self) -> int:
        """Length of the vectors."""
        return int(self.note["dim"])

    def add(self, ids: Sequence[str], vectors: Vectors, metadata: Sequence[Metadata]) -> None:
        """Store entries; they are on the disk, or at the server, when this returns. The same id replaces its entry.

        Args:
            ids: Up to 512 bytes each, such as names of frame files; none twice.
            vectors: Shape (N, D), float32, unit rows.
            metadata: Text and finite numbers of each entry.

        Raises:
            InputError: If the lengths differ, an id is empty, too long or repeated, or a value is of another type.
        """
        names, rows = [unicode_text(name) for name in ids], self._unit(vectors)
        if not len(names) == len(rows) == len(metadata):
            self._refuse(f"{len(names)} ids, {len(rows)} vectors and {len(metadata)} of metadata; expected equal")
        if bad := [name for name in names if not 0 < len(name.encode()) <= ID_BYTES]:
            self._refuse(f"expected ids of 1 to {ID_BYTES} bytes, found {bad[0][:60]!r}")
        if len(set(names)) < len(names):
            self._refuse(f"{next(name for name in names if names.count(name) > 1)!r} twice among the ids of one call")
        facts: list[Metadata] = [
            {unicode_text(key): self._value(value) for key, value in entry.items()} for entry in metadata
        ]
        for first in range(0, len(names), BATCH):
            part = slice(first, first + BATCH)
            self._add(names[part], rows[part], facts[part])

    def claim(self, name: str, vector: Vectors, metadata: Metadata) -> bool:
        """Store an entry (1, D) unless its id is taken; whether it is there now, and of no other writer.

        Chroma decides which of two writers was first. Elsewhere the entry is read before and after it is written, and
        of two writers within that time the second one wins.
        """
        if self.read([name])[0]:
            return False
        self._insert([name], self._unit(vector), [metadata])
        _, _, (found,) = self.read([name])
        return dict(found) == dict(metadata)

    def search(self, queries: Vectors, k: int) -> list[list[Hit]]:
        """Find the nearest entries of each query.

        Args:
            queries: Shape (Q, D), float32, unit rows.
            k: Maximum number of hits of a query.

        Returns:
            Q lists, by falling cosine and, where cosines are equal, by id.
        """
        rows = self._unit(queries)
        if not len(rows) or not len(self):
            return [[] for _ in rows]
        return [sorted(hits, key=lambda hit: (-hit.score, hit.id)) for hits in self._search(rows, k)]

    def read(self, ids: Sequence[str] | None = None) -> Entries:
        """Return entries: ids, vectors (N, D) float32 and metadata.

        Args:
            ids: The entries, in this order, without those that are not there; None is all, sorted by id.
        """
        wanted = None if ids is None else list(dict.fromkeys(map(unicode_text, ids)))
        try:
            found = {name: (vector, facts) for name, vector, facts in zip(*self._read(wanted), strict=True)}
            fit = all(vector.shape == (self.dim,) and np.isfinite(vector).all() for vector, _ in found.values())
        except (ValueError, TypeError, LookupError):
            fit = False
        if not fit:
            raise FormatError(self.name, f"entries with finite vectors of {self.dim}", "others", AGAIN)
        names = sorted(found) if wanted is None else [name for name in wanted if name in found]
        vectors = np.stack([found[name][0] for name in names]) if names else np.zeros((0, self.dim), np.float32)
        return names, vectors, [found[name][1] for name in names]

    def remove(self, ids: Sequence[str]) -> None:
        """Remove entries, those that are there; the others keep their ids."""
        names = list(dict.fromkeys(map(unicode_text, ids)))
        for first in range(0, len(names), BATCH):
            self._remove(names[first : first + BATCH])

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def _add(self, ids: list[str], vectors: Vectors, metadata: list[Metadata]) -> None: ...

    def _insert(self, ids: list[str], vectors: Vectors, metadata: list[Metadata]) -> None:
        """Store new entries."""
        self._add(ids, vectors, metadata)

    @abstractmethod
    def _search(self, queries: Vectors, k: int) -> list[list[Hit]]: ...

    @abstractmethod
    def _read(self, ids: list[str] | None) -> Entries: ...

    @abstractmethod
    def _remove(self, ids: list[str]) -> None: ...

    def _unit(self, vectors: Vectors) -> Vectors:
        rows = unit_rows(vectors, f"collection {self.name!r}")
        if rows.shape[1] != self.dim:
            self._refuse(f"expected vectors of {self.dim} numbers, found {rows.shape[1]}; use the encoder that made it")
        return rows

    def _value(self, value: str | int | float) -> str | int | float:
        if isinstance(value, str):
            return unicode_text(value)
        if not isinstance(value, int | float) or not math.isfinite(value):
            self._refuse(f"expected text and finite numbers in the metadata, found {value!r}")
        return value

    def _refuse(self, found: str) -> None:
        raise InputError(f"collection {self.name!r}: {found}")


class VectorStore(ABC):
    """Collections by name; a context manager.

    Args:
        uri: How messages name the store.
    """

    def __init__(self, uri: str) -> None:
        self.uri, self.marker = uri, "naruto_vision"

    def collections(self) -> list[str]:
        """Return the names of the collections, sorted."""
        return sorted(self._described(key)["name"] for key in self._keys())

    def open(self, name: str) -> Collection:
        """Open a collection.

        Raises:
            InputError: If there is none of that name.
        """
        found = self._find(collection_key(_named(name)))
        if found is None:
            names = self.collections()
            there = abbreviate(names, 5) or "none"
            raise InputError(f"{self.uri}: no collection {name!r}; there are: {there}")
        return found

    def create(self, name: str, note: Mapping[str, Any]) -> Collection:
        """Make a collection, or open the one of that name to add to it.

        Args:
            name: Any text.
            note: JSON values of how the vectors are made; ``dim``, their length, has to be among them.

        Raises:
            InputError: If there is one with another note, or another process is writing into it.
        """
        stored = json.loads(json.dumps(note, allow_nan=False))
        if not isinstance(stored.get("dim"), int) or stored["dim"] < 1:
            msg = f"collection {name!r}: expected a note with dim, the length of its vectors; found {note!r}"
            raise InputError(msg)
        key = collection_key(_named(name))
        found = self._make(key, _named(name), stored)
        if found.note != stored:
            other = next(what for what in sorted({*found.note, *stored}) if found.note.get(what) != stored.get(what))
            was, now = (str(facts.get(other))[:60] for facts in (found.note, stored))
            msg = f"{self.uri}: collection {name!r} has {other} {was}, not {now}; delete it, or choose another name"
            raise InputError(msg)
        return found

    def delete(self, name: str) -> None:
        """Delete a collection, also a damaged one.

        Raises:
            InputError: If there is none of that name, or another process is writing into it.
        """
        key = collection_key(_named(name))
        if key not in self._keys():
            self.open(name)
        self._drop(key)

    def reset(self) -> int:
        """Delete every collection, also damaged ones, and count them; what else is in the folder or server stays."""
        keys = self._keys()
        for key in keys:
            self._drop(key)
        return len(keys)

    @abstractmethod
    def close(self) -> None:
        """Release what the store holds, such as locks."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def _keys(self) -> list[str]:
        """Return the keys of the collections that this package made."""

    def _described(self, key: str) -> CollectionInfo:
        return read_info(f"{self.uri}: {key}", key, self._info(key))

    def _find(self, key: str) -> Collection | None:
        if key not in self._keys():
            return None
        info = self._described(key)
        return self._at(key, info["name"], info["note"])

    def _make(self, key: str, name: str, note: Mapping[str, Any]) -> Collection:
        """Make a collection, or open it, whatever its note, to write into it."""
        found = self._find(key)
        if found is None:
            self._create(key, info_text(name, note), int(note["dim"]))
            found = self._at(key, name, note)
        return found

    @abstractmethod
    def _info(self, key: str) -> str:
        """Return what ``_create`` stored of a collection that is there."""

    @abstractmethod
    def _create(self, key: str, info: str, dim: int) -> None: ...

    @abstractmethod
    def _at(self, key: str, name: str, note: Mapping[str, Any]) -> Collection:
        """Open a collection that is there."""

    @abstractmethod
    def _drop(self, key: str) -> None: ...


def _named(name: str) -> str:
    plain = label_name(name)
    if not plain:
        raise InputError("expected the name of a collection, found an empty one")
    return plain


def _parsed(uri: str) -> tuple[str, str, bool]:
    """Return the kind of a store, its path or address, and whether it is a server's."""
    found = _URI.fullmatch(uri)
    kind, server, rest = (found["kind"], found["server"], found["rest"]) if found else ("faiss", None, uri)
    if kind not in _STORES or (server and kind == "faiss") or not rest.strip("/"):
        raise InputError(f"{uri}: expected {_FORMS}; a folder with a colon in its name is faiss:{uri}")
    if server and not re.fullmatch(r"//[^@?#]+", rest):  # messages and results would show a password
        raise InputError(f"{kind}{server}:...: expected {kind}{server}://host:port, without a user, password or query")
    return kind, f"{server[1:]}:{rest}" if server else rest.removeprefix("//"), bool(server)


def is_there(uri: str) -> bool:
    """Return whether an embedded store has been made; True for a server."""
    kind, address, server = _parsed(uri)
    return server or Path(address, "chroma.sqlite3" if kind == "chroma" else "").exists()


def open_store(uri: str, *, existing: bool = False, marker: str = "") -> VectorStore:
    """Open a vector store; an embedded one that is not there yet is made by its first collection.

    Args:
        uri: ``faiss:DIR``, ``chroma:DIR``, ``chroma+http://host:port``, ``milvus:FILE.db`` or
            ``milvus+http://host:port``; a bare folder is a FAISS store.
        existing: Whether it has to be there, for commands that only read.
        marker: Under which name Chroma and Milvus keep what a collection is; collections of others are not listed.

    Returns:
        The store.

    Raises:
        InputError: If the URI has another form, or the store cannot be opened.
        MissingPathError: If an embedded store that should be there is missing.
        MissingPackageError: If the package of the store is not installed.

    Examples:
        >>> open_store("faiss:not_there").collections()
        []
    """
    kind, address, _ = _parsed(uri)
    if existing and not is_there(uri):
        raise MissingPathError(address, "vector store", "index a video with `naruto-vision video index`")
    module, name = _STORES[kind]
    store = getattr(importlib.import_module(f"naruto_vision.gallery.{module}"), name)
    opened: VectorStore = store(uri, address)
    opened.marker = marker or opened.marker
    return opened
