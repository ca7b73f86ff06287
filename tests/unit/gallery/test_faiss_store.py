"""The vector store in a folder: several processes, and folders that were damaged or made to harm."""

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from naruto_vision.cli.main import main
from naruto_vision.errors import InputError
from naruto_vision.gallery.vector_store import open_store

NOTE = {"dim": 4}


def _fill(folder: Path) -> Path:
    """Make a store with one collection of two parts; return the collection's folder."""
    with open_store(str(folder)) as store:
        collection = store.create("Folge 1", NOTE)
        for row in range(2):
            collection.add([f"{row}.png"], np.eye(4, dtype=np.float32)[row : row + 1], [{"frame": row}])
    (inside,) = folder.iterdir()
    return inside


def test_a_second_writer_is_refused_and_readers_are_not(tmp_path: Path) -> None:
    _fill(tmp_path / "store")
    code = "import sys; from naruto_vision.gallery.vector_store import open_store as o; s = o(sys.argv[1])"
    code += "; s.create('Folge 1', {'dim': 4}); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "store")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        with open_store(f"faiss:{tmp_path / 'store'}") as store:
            assert len(store.open("Folge 1")) == 2
            refused = rf"process {process.pid} is writing into this collection; wait until it has finished"
            for change in (lambda: store.create("Folge 1", NOTE), lambda: store.delete("Folge 1"), store.reset):
                with pytest.raises(InputError, match=refused):
                    change()
            store.create("Folge 2", NOTE)
        process.communicate()
    with open_store(str(tmp_path / "store")) as store:
        store.reset()
        assert store.collections() == []


def test_what_another_store_added_is_seen_at_the_next_opening_and_before_a_change(tmp_path: Path) -> None:
    with open_store(str(tmp_path)) as writer, open_store(str(tmp_path)) as reader:
        collection = writer.create("x", NOTE)
        collection.add(["a"], np.eye(4, dtype=np.float32)[:1], [{}])
        early = reader.open("x")
        collection.add(["b"], np.eye(4, dtype=np.float32)[1:2], [{}])
        assert (len(early), len(reader.open("x"))) == (1, 2)
        writer.close()
        early.add(["c"], np.eye(4, dtype=np.float32)[2:3], [{}])
        assert early.read()[0] == ["a", "b", "c"]


class _Harm:
    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch harmed",)


def _part(path: Path, entries: object, vectors: np.ndarray | None = None) -> None:
    vectors = np.eye(4, dtype=np.float32)[:1] if vectors is None else vectors
    save_file({"vectors": vectors}, path, {"part": json.dumps({"removed": [], "added": entries})})


DAMAGE: dict[str, Callable[[Path], object]] = {
    "pickle": lambda part: part.write_bytes(pickle.dumps(_Harm())),
    "pickled array": lambda part: np.save(part.open("wb"), np.array([_Harm()]), allow_pickle=True),
    "truncated": lambda part: part.write_bytes(part.read_bytes()[:-5]),
    "longer": lambda part: part.write_bytes(part.read_bytes() + b"\0"),
    "empty": lambda part: part.write_bytes(b""),
    "huge header": lambda part: part.write_bytes(b"\xff" * 7 + b"\x00" + part.read_bytes()[8:]),
    "other bytes": lambda part: part.write_bytes(part.read_bytes()[:-16] + b"\x7f" * 16),
    "folder": lambda part: (part.unlink(), part.mkdir()),
    "pipe": lambda part: (part.unlink(), os.mkfifo(part)),
    "gone": lambda part: part.unlink(),
    "no entries": lambda part: save_file({"vectors": np.eye(4, dtype=np.float32)}, part),
    "no vectors": lambda part: save_file({"other": np.eye(4, dtype=np.float32)}, part, {"part": "{}"}),
    "more entries": lambda part: _part(part, [["a", {}], ["b", {}]]),
    "nested metadata": lambda part: _part(part, [["a", {"x": {"y": 1}}]]),
    "other text": lambda part: _part(part, "__import__('os')"),
    "other dimension": lambda part: _part(part, [["a", {}]], np.eye(8, dtype=np.float32)[:1]),
    "float64": lambda part: _part(part, [["a", {}]], np.eye(4)[:1]),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_part_is_named_in_one_line_and_runs_no_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = _fill(tmp_path / "store")
    DAMAGE[what](folder / "part-000001.safetensors")
    with open_store("store") as store:
        with pytest.raises(InputError) as error:
            store.open("Folge 1")
        assert str(error.value).startswith(f"store/{folder.name}")
        assert "\n" not in str(error.value)
        assert store.collections() == ["Folge 1"]
        store.delete("Folge 1")
    assert list((tmp_path / "store").iterdir()) == []
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize(
    "text", ["", "[]", '{"format": 1}', '{"format": 2, "name": "Folge 1", "note": {"dim": 4}}', "\x80\x04."]
)
def test_a_damaged_collection_file_is_named_and_can_be_reset(tmp_path: Path, text: str) -> None:
    info = _fill(tmp_path / "store") / "collection.json"
    info.write_text(text)
    with open_store(str(tmp_path / "store")) as store:
        for call in (store.collections, lambda: store.open("Folge 1")):
            with pytest.raises(InputError, match="store: folge_1_"):
                call()
    assert main(["video", "delete", "--all", "--store", str(tmp_path / "store")]) == 0
    with open_store(str(tmp_path / "store")) as store:
        assert store.collections() == []


@pytest.mark.parametrize("note", [{}, {"dim": "4"}, {"dim": -4}, {"dim": 8}])
def test_an_edited_note_is_refused(tmp_path: Path, note: dict[str, object]) -> None:
    info = _fill(tmp_path / "store") / "collection.json"
    info.write_text(json.dumps({"format": 1, "name": "Folge 1", "note": note}))
    with open_store(str(tmp_path / "store")) as store, pytest.raises(InputError, match="damaged: delete it"):
        store.open("Folge 1")


def test_a_name_that_is_not_that_of_its_folder_is_refused(tmp_path: Path) -> None:
    info = _fill(tmp_path / "store") / "collection.json"
    info.write_text(info.read_text().replace("Folge 1", "../../elsewhere"))
    with open_store(str(tmp_path / "store")) as store, pytest.raises(InputError, match="the name of folge_1_"):
        store.open("Folge 1")


def test_a_temporary_file_of_a_killed_writer_is_no_part(tmp_path: Path) -> None:
    folder = _fill(tmp_path / "store")
    (folder / ".tmp-nv-abcdefgh.safetensors").write_bytes(b"half")
    with open_store(str(tmp_path / "store")) as store:
        assert len(store.open("Folge 1")) == 2


def test_a_file_and_a_folder_of_chroma_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="expected a folder, found a file"):
        open_store(str(tmp_path / "file"))
    (tmp_path / "chroma.sqlite3").write_text("")
    with pytest.raises(InputError, match="this is a Chroma folder; open it as chroma:"):
        open_store(str(tmp_path))
