"""Chroma and Milvus: one process a folder, servers that are not there, what is damaged, what others keep there."""

import json
import os
import pickle
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from naruto_vision.errors import FormatError, InputError
from naruto_vision.gallery.vector_store import Collection, collection_key, info_text, open_store

NOTE = {"dim": 4}
HOLDER = """
import sys
from naruto_vision.gallery.vector_store import open_store
with open_store(sys.argv[1]) as store:
    print("open", flush=True)
    sys.stdin.read()
"""
KINDS = {
    "chroma": ("chromadb", "store", r"run `chroma run --path .*store` and use chroma\+http://localhost:8000"),
    "milvus": ("milvus_lite", "store.db", "a Milvus server takes several"),
}


def _uri(kind: str, folder: Path) -> str:
    package, name, _ = KINDS[kind]
    pytest.importorskip(package, reason=f"{package} is not installed")
    return f"{kind}:{folder / name}"


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_second_process_is_refused_with_the_way_out(tmp_path: Path, kind: str) -> None:
    uri = _uri(kind, tmp_path)
    command = [sys.executable, "-c", HOLDER, uri]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        with pytest.raises(InputError, match=rf"process {process.pid} is using .*{KINDS[kind][2]}"):
            open_store(uri)
        process.communicate()
    with open_store(uri) as store:
        assert store.collections() == []


@pytest.mark.parametrize("uri", ["chroma+http://127.0.0.1:9", "chroma+http://a b/c", "milvus:store"])
def test_a_server_that_is_not_there_and_a_wrong_address_are_one_line(uri: str) -> None:
    pytest.importorskip(KINDS[uri[:6]][0])
    with pytest.raises(InputError) as error:
        open_store(uri)
    assert str(error.value).startswith(f"{uri}: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_that_never_answers_is_not_waited_for(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(KINDS[kind][0])
    monkeypatch.setattr(f"naruto_vision.gallery.{kind}_store.CONNECT", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:  # it takes calls, and says nothing
        uri = f"{kind}+http://127.0.0.1:{server.getsockname()[1]}"
        start = time.monotonic()
        with pytest.raises(InputError, match=rf"^{re.escape(uri)}: [^\n]+$"):
            open_store(uri)
        assert time.monotonic() - start < 15


class _Harm:
    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch harmed",)


def _fill(uri: str) -> None:
    with open_store(uri) as store:
        rows = (
            np.random.default_rng(0).standard_normal((1200, 4)).astype(np.float32)
        )  # Chroma writes files from 1,000 on
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        store.create("x", NOTE).add([f"{n}" for n in range(1200)], rows, [{"n": n} for n in range(1200)])


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_and_pickled_files_are_one_line_or_passed_over_and_run_no_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    uri = _uri(kind, tmp_path)
    _fill(uri)
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix in {".pickle", ".json", ".idx"}]
    assert files
    for path in files:
        path.write_bytes(pickle.dumps(_Harm()))
    with suppress(InputError), open_store(uri) as store:  # any other exception fails the test
        store.open("x").search(np.eye(4, dtype=np.float32), 3)
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize("how", ["link", "partition", "field"])
def test_a_milvus_folder_of_others_changes_no_other_files(tmp_path: Path, how: str) -> None:
    uri, precious = _uri("milvus", tmp_path), tmp_path / "precious" / "note.txt"
    precious.parent.mkdir()
    precious.write_text("kept")
    collection = tmp_path / "store.db" / "collections" / "x"
    (collection / "partitions" / "_default").mkdir(parents=True)
    manifest: dict[str, Any] = {"partitions": {"_default": {"data_files": []}}}
    schema: dict[str, Any] = {"fields": [{"name": "id"}], "properties": {"made_of": "/a/../b.mp4"}}
    if how == "link":
        (collection / "partitions" / "_default" / "data").symlink_to(precious.parent)
    elif how == "partition":
        manifest["partitions"]["../../../../precious"] = {"data_files": []}
    else:
        schema["fields"][0]["name"] = "/../../precious/x"
    (collection / "manifest.json").write_text(json.dumps(manifest))
    (collection / "schema.json").write_text(json.dumps(schema))
    found = "a link" if how == "link" else "which (climbs|is absolute)"
    with pytest.raises(FormatError, match=rf"{'data' if how == 'link' else 'json'}: expected .*{found}"):
        open_store(uri)
    assert precious.read_text() == "kept"


def test_a_folder_that_is_no_chroma_store_is_named(tmp_path: Path) -> None:
    uri = _uri("chroma", tmp_path)
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "chroma.sqlite3").write_text("no database at all, but long enough to be read as one" * 40)
    with pytest.raises(InputError, match=r"store: .*file is not a database"):
        open_store(uri)


def test_a_pipe_or_a_link_among_the_files_of_an_index_is_refused(tmp_path: Path) -> None:
    uri, file = _uri("chroma", tmp_path), tmp_path / "store" / "index" / "header.bin"
    file.parent.mkdir(parents=True)
    os.mkfifo(file)
    with pytest.raises(FormatError, match=r"header\.bin: expected a file, found a pipe"):
        open_store(uri)
    file.unlink()
    file.symlink_to("elsewhere")
    with pytest.raises(FormatError, match=r"header\.bin: expected a file, found a link"):
        open_store(uri)


def test_collections_of_other_programs_are_neither_listed_nor_deleted(tmp_path: Path) -> None:
    chroma = pytest.importorskip("chromadb")
    uri = _uri("chroma", tmp_path)
    settings = chroma.config.Settings(anonymized_telemetry=False)
    with open_store(uri) as store:
        other = chroma.PersistentClient(str(tmp_path / "store"), settings=settings)
        other.create_collection("of_another_program", embedding_function=None)
        store.create("x", NOTE)
        assert store.collections() == ["x"]
        store.reset()
        assert [found.name for found in other.list_collections()] == ["of_another_program"]
        other.close()


def test_a_collection_that_names_an_embedding_function_is_refused(tmp_path: Path) -> None:
    chromadb = pytest.importorskip("chromadb")
    functions = pytest.importorskip("chromadb.utils.embedding_functions")
    client = chromadb.PersistentClient(str(tmp_path / "store"))
    client.create_collection(
        collection_key("a"),
        metadata={"naruto_vision": info_text("a", {"dim": 3})},
        embedding_function=functions.DefaultEmbeddingFunction(),
    )
    client.close()
    with open_store(f"chroma:{tmp_path / 'store'}") as store, pytest.raises(InputError, match="embedding function"):
        store.open("a")


class Lying(Collection):
    """A collection whose engine gives other entries than were stored."""

    entries: Any = ()

    def __len__(self) -> int:
        return 1

    def _read(self, *_: Any) -> Any:
        return self.entries

    def _add(self, *_: Any) -> None: ...

    def _search(self, *_: Any) -> Any: ...

    def _remove(self, *_: Any) -> None: ...


@pytest.mark.parametrize(
    "entries",
    [
        (["a"], np.full((1, 3), np.nan, np.float32), [{}]),
        (["a"], np.ones((1, 4), np.float32), [{}]),
        (["a", "b"], np.ones((1, 3), np.float32), [{}]),
        None,
    ],
)
def test_entries_that_do_not_fit_their_collection_are_refused(entries: Any) -> None:
    collection = Lying("x", {"dim": 3})
    collection.entries = entries
    with pytest.raises(FormatError, match="x: expected entries with finite vectors of 3"):
        collection.read()
