"""A vector store in Milvus: a file of milvus-lite (one process at a time), or a server."""

import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np

from naruto_vision.errors import FormatError, InputError
from naruto_vision.gallery.vector_store import BATCH, CONNECT, ID_BYTES, Collection, Entries, Hit, Metadata, VectorStore
from naruto_vision.io.locks import folder_lock, lock_beside
from naruto_vision.io.machine import require_package
from naruto_vision.io.names import refusal
from naruto_vision.io.typed_json import read_json, require_regular
from naruto_vision.records import Vectors

P = ParamSpec("P")
T = TypeVar("T")
_QUERIES = 500
_FIELDS = ["id", "vector", "metadata"]
_NAMING = re.compile(r"manifest\.json(?:\.prev)?|schema\.json")
_TEXTS = {"properties", "description", "default_value"}  # of a schema, which name no files
_AGAIN = "it is damaged or made to harm: index the videos again"
_SHARED = "using this Milvus file, which only one process may do; a Milvus server takes several"


class MilvusCollection(Collection):
    """A collection of Milvus with a flat index: every entry is compared, by cosine."""

    def __init__(self, store: "MilvusStore", key: str, name: str, note: Mapping[str, Any]) -> None:
        super().__init__(name, note)
        self._store, self._key, self._call, self._client = store, key, store.call, store.client
        self._call(self._client.load_collection, key)

    def __len__(self) -> int:
        (row,) = self._call(self._client.query, self._key, filter="", output_fields=["count(*)"])
        return int(row["count(*)"])

    def _add(self, ids: list[str], vectors: Vectors, metadata: list[Metadata]) -> None:
        rows = [
            {"id": name, "vector": vector, "metadata": dict(facts)}
            for name, vector, facts in zip(ids, vectors, metadata, strict=True)
        ]
        self._call(self._client.upsert, self._key, rows)
        self._store.unflushed.add(self._key)

    def _search(self, queries: Vectors, k: int) -> list[list[Hit]]:
        self._store.flush()
        hits: list[list[Hit]] = []
        for first in range(0, len(queries), _QUERIES):
            part = queries[first : first + _QUERIES]
            found = self._call(self._client.search, self._key, part, limit=k, output_fields=["metadata"])
            hits += [[Hit(hit["id"], hit["distance"], dict(hit["entity"]["metadata"])) for hit in one] for one in found]
        return hits

    def _read(self, ids: list[str] | None) -> Entries:
        rows: list[Mapping[str, Any]] = []
        if ids is None:
            pages = self._call(self._client.query_iterator, self._key, batch_size=BATCH, output_fields=_FIELDS)
            total = len(self)
            while len(rows) <= total and (page := self._call(pages.next)):
                rows += page
        for first in range(0, len(ids or ()), BATCH):
            wanted = (ids or [])[first : first + BATCH]
            rows += self._call(self._client.get, self._key, ids=wanted, output_fields=_FIELDS)
        vectors = np.array([row["vector"] for row in rows], np.float32).reshape(len(rows), self.dim)
        return [row["id"] for row in rows], vectors, [dict(row["metadata"]) for row in rows]

    def _remove(self, ids: list[str]) -> None:
        self._call(self._client.delete, self._key, ids=ids)
        self._store.unflushed.add(self._key)


class MilvusStore(VectorStore):
    """Collections of one Milvus; those of other programs are neither listed nor deleted.

    Args:
        uri: How messages name the store.
        address: A file name that ends in .db, or http(s)://host:port.
    """

    def __init__(self, uri: str, address: str) -> None:
        super().__init__(uri)
        os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # gRPC prints a line whenever a data worker is started
        self._milvus = require_package("pymilvus", "milvus")
        self._file = None if address.startswith(("http://", "https://")) else Path(address)
        self._locks, self.unflushed = ExitStack(), set[str]()
        if self._file is not None:
            self._lock_file(self._file)
        wait = {"timeout": CONNECT} if self._file is None else {}
        self.client = self.call(self._milvus.MilvusClient, address, token=os.environ.get("MILVUS_TOKEN", ""), **wait)

    def _lock_file(self, file: Path) -> None:
        require_package("milvus_lite")  # in no extra: it depends on faiss-cpu, which excludes the extra gpu
        if file.suffix != ".db":
            raise InputError(f"{self.uri}: expected a name that ends in .db")
        if file.is_dir() and any(file.iterdir()) and not (file / "collections").is_dir():
            raise InputError(f"{self.uri}: has files that are not of Milvus; give another name")
        file.parent.mkdir(parents=True, exist_ok=True)
        for name in ("pymilvus", "milvus_lite", "grpc"):  # they print the traces of errors that are reported here
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self._locks.enter_context(folder_lock(file, doing=_SHARED, file=lock_beside(file)))
        _check_files(file)

    def call(self, function: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
        """Call a function of Milvus; its errors become InputErrors of one line."""
        try:
            return function(*args, **options)
        except (self._milvus.MilvusException, OSError, ValueError) as error:
            text = str(getattr(error, "message", error))
            raise InputError(f"{self.uri}: {text.strip().partition(chr(10))[0] or type(error).__name__}") from None

    def flush(self) -> None:
        """Index what was added to a file, which makes its searches several times as fast; a server does it itself."""
        while self.unflushed:
            key = self.unflushed.pop()
            if self._file is not None:
                self.call(self.client.flush, key)

    def close(self) -> None:
        """Close the client and release the file."""
        self.flush()
        self.client.close()
        if self._file is not None:
            require_package("milvus_lite.server_manager").server_manager_instance.release_server(self._file)
        self._locks.close()

    def _info(self, key: str) -> str:
        properties: dict[str, str] = self.call(self.client.describe_collection, key)["properties"]
        return properties.get(self.marker, "")

    def _keys(self) -> list[str]:
        return sorted(key for key in self.call(self.client.list_collections) if self._info(key))

    def _create(self, key: str, info: str, dim: int) -> None:
        kinds = self._milvus.DataType
        schema = self._milvus.MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("id", kinds.VARCHAR, is_primary=True, max_length=ID_BYTES)
        schema.add_field("vector", kinds.FLOAT_VECTOR, dim=dim)
        schema.add_field("metadata", kinds.JSON)
        index = self.client.prepare_index_params()
        index.add_index("vector", index_type="FLAT", metric_type="COSINE")
        self.call(
            self.client.create_collection,
            key,
            schema=schema,
            index_params=index,
            consistency_level="Strong",
            properties={self.marker: info},
        )

    def _at(self, key: str, name: str, note: Mapping[str, Any]) -> MilvusCollection:
        return MilvusCollection(self, key, name, note)

    def _drop(self, key: str) -> None:
        self.unflushed.discard(key)
        self.call(self.client.drop_collection, key)


def _check_files(folder: Path) -> None:
    """Raise FormatError for links, and for names that lead out: Milvus deletes files that its manifests do not name.

    It does so behind links too, and reads and writes files where manifests and schemas say.
    """
    for parent, folders, files in os.walk(folder):
        if link := next((Path(parent, name) for name in [*folders, *files] if Path(parent, name).is_symlink()), None):
            raise FormatError(link, "a file or a folder", "a link", _AGAIN)
        for path in (Path(parent, name) for name in files):
            require_regular(path)
            if _NAMING.fullmatch(path.name):
                for name in _names(read_json(path, dict[str, Any], hint=_AGAIN)):
                    if reason := name and refusal(name):
                        raise FormatError(path, "names of its own files", f"{name[:100]!r}, which {reason}", _AGAIN)


def _names(value: Any) -> Iterator[str]:  # noqa: ANN401 - JSON values
    """Yield the texts of a JSON value that may become names of files."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for each in value:
            yield from _names(each)
    elif isinstance(value, dict):
        for key, each in value.items():
            if key not in _TEXTS:
                yield from (key, *_names(each))
