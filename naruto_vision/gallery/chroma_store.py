"""A vector store in ChromaDB: a folder (one process at a time) or a server, as ``chroma run`` starts one."""

import json
import re
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ParamSpec, TypeAlias, TypeVar

import numpy as np

from naruto_vision.errors import InputError, first_line
from naruto_vision.gallery.vector_store import BATCH, CONNECT, Collection, Entries, Hit, Metadata, VectorStore
from naruto_vision.io.locks import folder_lock
from naruto_vision.io.machine import require_package
from naruto_vision.io.sqlite_files import check_plain, check_sqlite
from naruto_vision.records import Vectors

P = ParamSpec("P")
T = TypeVar("T")
ChromaObject: TypeAlias = Any
"""An untyped collection of ChromaDB."""

_HNSW = {
    "space": "ip",  # cosines of unit rows; for "cosine" Chroma normalises them again, and changes their last bits
    "ef_construction": 200,
    "ef_search": 400,  # more than Chroma's 100: near-exact hits
}
_QUERIES = 500
_PAGE = 100
_MOST = 100_000  # collections
_SHARED = (
    "using this Chroma folder, which only one process may do (others find nothing new); to share it, run "
    "`chroma run --path {0}` and use chroma+http://localhost:8000 as the store"
)


class ChromaCollection(Collection):
    """A collection of ChromaDB with cosine distances."""

    def __init__(self, store: "ChromaStore", collection: ChromaObject, name: str, note: Mapping[str, Any]) -> None:
        super().__init__(name, note)
        self._call, self._collection = store.call, collection

    def __len__(self) -> int:
        return int(self._call(self._collection.count))

    def _add(self, ids: list[str], vectors: Vectors, metadata: list[Metadata]) -> None:
        """Replace entries as a whole: Chroma itself would merge the metadata, and takes none that is empty."""
        there = self._call(self._collection.get, ids=ids, include=["metadatas"])
        old = {name: dict.fromkeys(facts or ()) for name, facts in zip(there["ids"], there["metadatas"], strict=True)}
        facts = [old.get(name, {}) | dict(entry) or None for name, entry in zip(ids, metadata, strict=True)]
        self._call(self._collection.upsert, ids=ids, embeddings=vectors, metadatas=facts)

    def _insert(self, ids: list[str], vectors: Vectors, metadata: list[Metadata]) -> None:
        """Chroma ignores ids that it has."""
        self._call(self._collection.add, ids=ids, embeddings=vectors, metadatas=metadata)

    def _search(self, queries: Vectors, k: int) -> list[list[Hit]]:
        hits: list[list[Hit]] = []
        for first in range(0, len(queries), _QUERIES):
            part = queries[first : first + _QUERIES]
            found = self._call(
                self._collection.query, query_embeddings=part, n_results=k, include=["metadatas", "distances"]
            )
            for row in zip(found["ids"], found["distances"], found["metadatas"], strict=True):
                entries = zip(*row, strict=True)
                hits.append([Hit(name, max(-1.0, min(1.0, 1.0 - far)), facts or {}) for name, far, facts in entries])
        return hits

    def _read(self, ids: list[str] | None) -> Entries:
        names: list[str] = []
        vectors, metadata = [np.zeros((0, self.dim), np.float32)], []
        total = len(self) if ids is None else len(ids)
        for first in range(0, total, BATCH):
            which = {"limit": BATCH, "offset": first} if ids is None else {"ids": ids[first : first + BATCH]}
            found = self._call(self._collection.get, include=["embeddings", "metadatas"], **which)
            if found["ids"]:
                names += found["ids"]
                vectors.append(np.asarray(found["embeddings"], np.float32))
                metadata += [facts or {} for facts in found["metadatas"]]
        return names, np.concatenate(vectors), metadata

    def _remove(self, ids: list[str]) -> None:
        self._call(self._collection.delete, ids=ids)


class ChromaStore(VectorStore):
    """Collections of one ChromaDB; those of other programs are neither listed nor deleted.

    Args:
        uri: How messages name the store.
        address: A folder, or http(s)://host:port.
    """

    def __init__(self, uri: str, address: str) -> None:
        super().__init__(uri)
        chroma = require_package("chromadb", "chroma")
        settings = chroma.config.Settings(anonymized_telemetry=False)
        httpx = require_package("httpx", "chroma")
        self._errors = (chroma.errors.ChromaError, ValueError, OSError, httpx.HTTPError)
        self._locks = ExitStack()
        server = re.fullmatch(r"(https?)://([^/:]+|\[[^]]+\])(?::(\d+))?/?", address)
        if address.startswith(("http://", "https://")):
            if server is None:
                raise InputError(f"{uri}: expected chroma+http://host:port")
            host, port = server[2], int(server[3] or 8000)
            try:  # Chroma's own client waits without end
                httpx.get(f"{server[1]}://{host}:{port}/api/v2/heartbeat", timeout=CONNECT).raise_for_status()
            except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
                msg = f"{uri}: no Chroma server answers ({error}); start one with `chroma run --path DIR`"
                raise InputError(msg) from None
            self._client = self.call(
                chroma.HttpClient, host=host, port=port, ssl=server[1] == "https", settings=settings
            )
        else:
            check_sqlite(Path(address, "chroma.sqlite3"))
            for file in Path(address).rglob("*"):
                if file.is_symlink() or not file.is_dir():
                    check_plain(file)
            self._locks.enter_context(folder_lock(Path(address), doing=_SHARED.format(address)))
            self._client = self.call(chroma.PersistentClient, address, settings=settings)

    def call(self, function: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
        """Call a function of ChromaDB; its errors become InputErrors of one line."""
        try:
            return function(*args, **options)
        except self._errors as error:
            raise InputError(f"{self.uri}: {first_line(error)}") from None

    def close(self) -> None:
        """Close the client and release the folder."""
        self._client.close()
        self._locks.close()

    def _keys(self) -> list[str]:
        found: list[ChromaObject] = []
        while page := self.call(self._client.list_collections, limit=_PAGE, offset=len(found)):
            found += page
            if len(found) > _MOST:
                raise InputError(f"{self.uri}: lists more than {_MOST} collections")
        return sorted(one.name for one in found if self.marker in (one.metadata or {}))

    def _get(self, key: str) -> ChromaObject:
        found = self.call(self._client.get_collection, key, embedding_function=None)
        described = [found.configuration_json, found.get_model().get_serialized_schema()]
        if '"type": "known"' in json.dumps(described):  # Chroma makes it when entries are added, downloads and all
            raise InputError(f"{self.uri}: the collection {key} names an embedding function, which is not run here")
        return found

    def _info(self, key: str) -> str:
        return str(self._get(key).metadata[self.marker])

    def _create(self, key: str, info: str, dim: int) -> None:  # noqa: ARG002 - Chroma takes that of the first vector
        options: dict[str, Any] = {"configuration": {"hnsw": _HNSW}, "embedding_function": None}
        self.call(self._client.create_collection, key, metadata={self.marker: info}, **options)

    def _at(self, key: str, name: str, note: Mapping[str, Any]) -> ChromaCollection:
        return ChromaCollection(self, self._get(key), name, note)

    def _drop(self, key: str) -> None:
        self.call(self._client.delete_collection, key)
