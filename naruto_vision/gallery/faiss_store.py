"""A vector store in a folder, searched by the gallery's own index.

Every collection is a folder of parts that are only ever added: a part is one batch that was added or removed, in one
file that appears when it is complete. So a killed writer loses nothing that was acknowledged, and half a part is never
read. Parts are safetensors, whose reader runs no code and compares the header with the size of the file.
"""

import json
import re
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from naruto_vision.errors import FormatError, InputError, first_line
from naruto_vision.gallery.content import unit_rows
from naruto_vision.gallery.index import VectorIndex
from naruto_vision.gallery.vector_store import AGAIN, KEY, Collection, Entries, Hit, Metadata, VectorStore
from naruto_vision.io.atomic import atomic_folder, write_bytes, write_text
from naruto_vision.io.locks import TEMPORARY, folder_lock, lock_beside
from naruto_vision.io.typed_json import convert_json, require_regular
from naruto_vision.records import Vectors

INFO = "collection.json"
_PART = re.compile(r"part-(\d{6,})\.safetensors")


class _Part(TypedDict):
    removed: list[str]
    added: list[tuple[str, dict[str, str | int | float]]]


class FaissCollection(Collection):
    """A folder of parts. Another process's parts are seen when the collection is opened, and before it is changed."""

    def __init__(self, store: "FaissStore", folder: Path, name: str, note: Mapping[str, Any]) -> None:
        super().__init__(name, note)
        self._store, self._folder, self._parts = store, folder, 0
        self._entries: dict[str, tuple[Vectors, Metadata]] = {}
        self._stacked: VectorIndex | None = None
        self.refresh()

    def refresh(self) -> None:
        """Read the parts that were published since."""
        found = sorted((int(part[1]), path) for path in self._folder.iterdir() if (part := _PART.fullmatch(path.name)))
        if [number for number, _ in found] != list(range(1, len(found) + 1)):
            numbers = ", ".join(str(number) for number, _ in found[-3:])
            raise FormatError(self._folder, f"parts 1 to {len(found)}", f"{len(found)} parts up to {numbers}", AGAIN)
        for number, path in found[self._parts :]:
            self._replay(*_read_part(path, self.dim))
            self._parts = number

    def _part(self, number: int) -> Path:
        return self._folder / f"part-{number:06}.safetensors"

    def _replay(self, part: _Part, vectors: Vectors) -> None:
        for name in [*part["removed"], *(name for name, _ in part["added"])]:
            self._entries.pop(name, None)
        self._entries |= {name: (row, facts) for (name, facts), row in zip(part["added"], vectors, strict=True)}
        self._stacked = None

    def _publish(self, part: _Part, vectors: Vectors) -> None:
        from safetensors.numpy import save

        if self._store.lock(self._folder) or self._part(self._parts + 1).exists():  # of another opening of it
            self.refresh()
        text = json.dumps(part, ensure_ascii=False, allow_nan=False)
        write_bytes(self._part(self._parts + 1), save({"vectors": vectors}, {"part": text}))
        self._replay(part, vectors)
        self._parts += 1

    def __len__(self) -> int:
        return len(self._entries)

    def _add(self, ids: list[str], vectors: Vectors, metadata: list[Metadata]) -> None:
        added = [(name, dict(facts)) for name, facts in zip(ids, metadata, strict=True)]
        self._publish({"removed": [], "added": added}, vectors)

    def _remove(self, ids: list[str]) -> None:
        if there := [name for name in ids if name in self._entries]:
            self._publish({"removed": there, "added": []}, np.zeros((0, self.dim), np.float32))

    def _index(self) -> VectorIndex:
        """Return a flat index of the entries in their order; the rows of single parts are freed."""
        if self._stacked is None:
            vectors = np.stack([row for row, _ in self._entries.values()])
            rows = zip(self._entries.items(), vectors, strict=True)
            self._entries = {name: (row, facts) for (name, (_, facts)), row in rows}
            self._stacked = VectorIndex.build("exact", vectors)
        return self._stacked

    def _search(self, queries: Vectors, k: int) -> list[list[Hit]]:
        entries = [(name, facts) for name, (_, facts) in self._entries.items()]
        found = self._index().search(queries, k)
        return [
            [
                Hit(entries[row][0], score, entries[row][1])
                for score, row in zip(scores.tolist(), rows.tolist(), strict=True)
            ]
            for scores, rows in found
        ]

    def _read(self, ids: list[str] | None) -> Entries:
        names = [name for name in (self._entries if ids is None else ids) if name in self._entries]
        rows = [self._entries[name] for name in names]
        vectors = np.stack([row for row, _ in rows]) if rows else np.zeros((0, self.dim), np.float32)
        return names, vectors, [facts for _, facts in rows]


class FaissStore(VectorStore):
    """Collections in the sub-folders of one folder. Writers of one collection exclude each other, but no readers.

    Args:
        uri: How messages name the store.
        address: The folder.
    """

    def __init__(self, uri: str, address: str) -> None:
        super().__init__(uri)
        self._root, self._locked, self._locks = Path(address), set[Path](), ExitStack()
        if (self._root / "chroma.sqlite3").exists():
            raise InputError(f"{self._root}: this is a Chroma folder; open it as chroma:{self._root}")
        if self._root.exists() and not self._root.is_dir():
            raise FormatError(self._root, "a folder", "a file", "give the folder of a vector store")

    def lock(self, folder: Path) -> bool:
        """Lock a collection against other writers until the store is closed; whether it was not locked before."""
        if folder in self._locked:
            return False
        self._locks.enter_context(folder_lock(folder, doing="writing into this collection", file=lock_beside(folder)))
        self._locked.add(folder)
        return True

    def close(self) -> None:
        """Release the locks."""
        self._locks.close()
        self._locked.clear()

    def _keys(self) -> list[str]:
        folders = self._root.iterdir() if self._root.is_dir() else ()
        return sorted(path.name for path in folders if KEY.fullmatch(path.name) and (path / INFO).is_file())

    def _info(self, key: str) -> str:
        path = self._root / key / INFO
        require_regular(path)
        return path.read_text("utf-8", errors="replace")

    def _find(self, key: str) -> Collection | None:
        try:
            return super()._find(key)
        except FileNotFoundError:  # another process has deleted it meanwhile
            return None

    def _make(self, key: str, name: str, note: Mapping[str, Any]) -> Collection:
        self.lock(self._root / key)
        return super()._make(key, name, note)

    def _create(self, key: str, info: str, dim: int) -> None:  # noqa: ARG002 - each part has its length
        with atomic_folder(self._root / key) as temporary:
            write_text(temporary / INFO, info)

    def _at(self, key: str, name: str, note: Mapping[str, Any]) -> FaissCollection:
        return FaissCollection(self, self._root / key, name, note)

    def _drop(self, key: str) -> None:
        """Hide a collection with one rename before its files go, so that a kill leaves no half."""
        folder = self._root / key
        self.lock(folder)
        if folder.is_symlink():
            folder.unlink()
            return
        hidden = folder.with_name(f"{TEMPORARY}{key}")
        shutil.rmtree(hidden, ignore_errors=True)
        folder.rename(hidden)
        shutil.rmtree(hidden)


def _read_part(path: Path, dim: int) -> tuple[_Part, Vectors]:
    """Read one part and check it: its entries, and that its vectors are unit rows of this length."""
    from safetensors import SafetensorError, safe_open

    require_regular(path)
    try:
        with safe_open(path, framework="np") as file:
            text, vectors = (file.metadata() or {})["part"], file.get_tensor("vectors")
        part = convert_json(path, json.loads(text), _Part, hint=AGAIN)
        unit = unit_rows(vectors, str(path))
    except (SafetensorError, KeyError, ValueError, RecursionError) as error:
        raise FormatError(path, "a part of a vector store", first_line(error), AGAIN) from None
    if unit.shape != (len(part["added"]), dim):
        raise FormatError(path, f"{len(part['added'])} vectors of {dim}", f"{unit.shape}", AGAIN)
    return part, unit
