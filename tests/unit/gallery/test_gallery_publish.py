"""A process that is killed anywhere leaves the generation before or the one after; one writes at a time."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from naruto_vision.errors import InputError
from naruto_vision.gallery import store as publish
from naruto_vision.gallery.content import GalleryRow
from naruto_vision.gallery.edits import add_rows, relabel_rows, remove_rows, roll_back
from naruto_vision.gallery.gallery import Gallery, edit_gallery
from naruto_vision.gallery.store import writer_lock
from naruto_vision.gallery.thresholds import Thresholds
from naruto_vision.gallery.verify import verify_gallery, worst
from naruto_vision.records import Vectors

PRINT = "d" * 64
KILLED = """
import os, sys
from naruto_vision.gallery import store as publish
from naruto_vision.gallery.edits import remove_rows
from naruto_vision.gallery.gallery import edit_gallery
left = int(sys.argv[2])
def killing(event, arguments):
    global left
    steps = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir"}
    if event in steps and str(arguments[0]).startswith(sys.argv[1]):
        left -= 1
        if left < 0:
            os.kill(os.getpid(), 9)
sys.addaudithook(killing)
edit_gallery(sys.argv[1], remove_rows, [0, 2])
"""


def unit(rows: int, seed: int = 0) -> Vectors:
    vectors = np.random.default_rng(seed).normal(size=(rows, 4))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    rows = [GalleryRow(f"{i}.png", f"label {i % 2}") for i in range(5)]
    Gallery.build(unit(5), rows, fingerprint=PRINT, thresholds=Thresholds(0.5)).save(tmp_path / "g")
    return tmp_path / "g"


class Stopped(BaseException):
    """Stands in for a kill: nothing of the package catches it."""


def stop_after(calls: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the process stop at a given step on the disk; what cleans up behind an error then does nothing either."""
    left = [calls]

    def counted(real: Callable[..., object]) -> Callable[..., object]:
        def step(*arguments: object, **options: object) -> object:
            left[0] -= 1
            if left[0] < 0:
                raise Stopped
            return real(*arguments, **options)

        return step

    for name in ("replace", "mkdir", "unlink"):
        monkeypatch.setattr(Path, name, counted(getattr(Path, name)))
    for name in ("_write_synced", "write_bytes", "sync_folder", "remove_leftovers"):
        monkeypatch.setattr(publish, name, counted(getattr(publish, name)))
    monkeypatch.setattr(shutil, "rmtree", counted(shutil.rmtree))


def test_stopping_at_any_step_leaves_one_generation_or_the_other(saved: Path, tmp_path: Path) -> None:
    before = Gallery.open(saved)
    after = edit_gallery(shutil.copytree(saved, tmp_path / "whole"), remove_rows, [0, 2])
    seen, steps = set(), 0
    while True:
        folder = shutil.copytree(saved, tmp_path / f"copy {steps}")
        with pytest.MonkeyPatch.context() as patch:
            stop_after(steps, patch)
            try:
                edit_gallery(folder, remove_rows, [0, 2])
            except Stopped:
                finished = False
            else:
                finished = True
        found = Gallery.open(folder)
        expected = {1: before, 2: after}[found.generation]
        assert (found.digest, found.rows, found.ids) == (expected.digest, expected.rows, expected.ids)
        assert worst(verify_gallery(folder)) != "wrong"
        seen.add((found.generation, finished))
        more = [GalleryRow("n.png", "n")]
        nxt = edit_gallery(folder, add_rows, unit(1, 9), more, fingerprint=PRINT)  # goes on from either
        assert Gallery.open(folder).digest == nxt.digest
        assert not (folder / ".next").exists()
        if finished:
            break
        steps += 1
    assert seen == {(1, False), (2, False), (2, True)}
    assert steps > 12


@pytest.mark.slow
def test_a_kill_at_any_step_of_a_real_process(saved: Path, tmp_path: Path) -> None:
    generations = []
    for steps in range(0, 60, 2):
        folder = shutil.copytree(saved, tmp_path / f"copy {steps}")
        done = subprocess.run([sys.executable, "-c", KILLED, str(folder), str(steps)], check=False)
        found = Gallery.open(folder)
        generations.append(found.generation)
        assert found.ids == {1: (0, 1, 2, 3, 4), 2: (1, 3, 4)}[found.generation]
        if done.returncode == 0:
            break
    assert generations == sorted(generations)
    assert set(generations) == {1, 2}
    assert done.returncode == 0


def test_a_refused_edit_finishes_what_a_stopped_one_published(saved: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publish, "recover", lambda _folder: None)
        edit_gallery(saved, remove_rows, [0, 2])
    assert (saved / ".next").exists()
    with pytest.raises(InputError, match="0"):
        edit_gallery(saved, remove_rows, [0])
    assert not (saved / ".next").exists()
    assert Gallery.open(saved).generation == 2


def test_a_second_writer_is_told_who_is_writing(saved: Path) -> None:
    with writer_lock(saved), pytest.raises(InputError, match=f"process {os.getpid()} is changing this gallery"):
        edit_gallery(saved, remove_rows, [0])
    assert edit_gallery(saved, remove_rows, [0]).generation == 2


def test_readers_always_see_a_whole_generation(saved: Path) -> None:
    """While one thread edits, another opens: every gallery it sees is one that was published."""
    stop, wrong, seen = threading.Event(), [], set()

    def read() -> None:
        while not stop.is_set():
            try:
                gallery = Gallery.open(saved, index="exact")
            except InputError as error:
                wrong.append(str(error))
                return
            seen.add((gallery.generation, len(gallery)))

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(20):
        edit_gallery(saved, remove_rows, [0, 2])
        edit_gallery(saved, roll_back, Gallery.open(saved).generation - 1)
    stop.set()
    reader.join()
    assert wrong == []
    assert all(rows == (3 if generation % 2 == 0 else 5) for generation, rows in seen)


def test_unchanged_files_are_not_written_again(saved: Path) -> None:
    before = (saved / "embeddings.npy").stat().st_ino, (saved / "faiss.index").stat().st_ino
    edit_gallery(saved, relabel_rows, [0], "new")
    assert ((saved / "embeddings.npy").stat().st_ino, (saved / "faiss.index").stat().st_ino) == before
    edit_gallery(saved, remove_rows, [0])
    assert (saved / "embeddings.npy").stat().st_ino != before[0]


def test_what_else_lies_in_the_folder_stays(saved: Path) -> None:
    (saved / "README.txt").write_text("mine", encoding="utf-8")
    edit_gallery(saved, remove_rows, [0])
    assert (saved / "README.txt").read_text(encoding="utf-8") == "mine"
    assert json.loads((saved / "manifest.json").read_text(encoding="utf-8"))["generation"] == 2


def test_a_new_gallery_in_the_place_of_an_edited_one_forgets_its_past(saved: Path) -> None:
    edit_gallery(saved, remove_rows, [0])
    assert (saved / "removed.npy").is_file()
    Gallery.build(unit(2), [GalleryRow("x.png", "x")] * 2, fingerprint=PRINT).save(saved)
    assert not (saved / "removed.npy").exists()
    assert Gallery.open(saved).generation == 1


def test_a_damaged_gallery_can_be_replaced(saved: Path) -> None:
    (saved / "manifest.json").write_bytes(b"{")
    (saved / "embeddings.npy").write_bytes(b"")
    Gallery.build(unit(2), [GalleryRow("x.png", "x")] * 2, fingerprint=PRINT).save(saved)
    assert len(Gallery.open(saved)) == 2


def test_a_damaged_file_is_written_again_even_where_nothing_changed(saved: Path) -> None:
    gallery = Gallery.open(saved)
    (saved / "embeddings.npy").write_bytes(b"")
    gallery.save(saved)
    assert Gallery.open(saved).digest == gallery.digest


def test_edits_survive_the_disk(saved: Path) -> None:
    removed = edit_gallery(saved, remove_rows, [1, 2])
    added = edit_gallery(saved, add_rows, unit(1, 5), [GalleryRow("n.png", "n")], fingerprint=PRINT)
    assert added.ids == (0, 3, 4, 5)
    back = edit_gallery(saved, roll_back, 2)
    assert (back.ids, back.digest) == (removed.ids, removed.digest)
    assert Gallery.open(saved).content.ledger == back.content.ledger
    assert edit_gallery(saved, roll_back, 3).digest == added.digest
    assert edit_gallery(saved, roll_back, 1).ids == (0, 1, 2, 3, 4)
