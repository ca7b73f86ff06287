"""Enrolling again into a gallery: a generation of its history, which a rollback undoes."""

from pathlib import Path

import numpy as np
import pytest

from naruto_vision.errors import InputError
from naruto_vision.gallery.content import GalleryRow
from naruto_vision.gallery.edits import add_rows, relabel_rows, remove_rows, roll_back
from naruto_vision.gallery.gallery import Gallery, check_enrolment, edit_gallery, enrol_gallery
from naruto_vision.gallery.info import list_gallery
from naruto_vision.gallery.thresholds import Thresholds
from naruto_vision.gallery.verify import verify_gallery, worst
from naruto_vision.records import Vectors

PRINT = "d" * 64


def unit(rows: int, seed: int = 0) -> Vectors:
    vectors = np.random.default_rng(seed).normal(size=(rows, 4))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def built(rows: int = 5, *, root: str = "data", print_: str = PRINT) -> Gallery:
    named = [GalleryRow(f"{i}.png", f"label {i % 2}") for i in range(rows)]
    return Gallery.build(unit(rows), named, fingerprint=print_, thresholds=Thresholds(0.5), note={"root": root})


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    built().save(tmp_path / "g")
    return tmp_path / "g"


def edit(folder: Path) -> Gallery:
    edit_gallery(folder, relabel_rows, [0], "renamed")
    edit_gallery(folder, remove_rows, [1])
    return edit_gallery(folder, add_rows, unit(1, 9), [GalleryRow("own.png", "own")])


def test_the_edits_are_undone_and_a_rollback_restores_them(saved: Path) -> None:
    edited = edit(saved)
    again = enrol_gallery(saved, built())
    assert (again.generation, again.content.ledger[-1]["op"]) == (5, "enrol")
    assert sorted((row.path, row.label) for row in again.rows) == [(f"{i}.png", f"label {i % 2}") for i in range(5)]
    assert again.ids == (2, 3, 4, 6, 7)  # equal rows keep their ids, and none is given twice
    assert worst(verify_gallery(saved)) != "wrong"
    restored = edit_gallery(saved, roll_back, 4)
    assert (restored.rows, restored.ids) == (edited.rows, edited.ids)
    assert restored.vectors == pytest.approx(edited.vectors)
    assert Gallery.open(saved).digest == edited.digest


def test_the_same_images_change_nothing_even_if_their_vectors_are_rounded_otherwise(saved: Path) -> None:
    before = contents(saved)
    other = built()
    other.content.vectors[:] += np.float32(1e-6)
    assert enrol_gallery(saved, other).generation == 1
    assert contents(saved) == before


def test_thresholds_stay_and_are_stale_where_rows_changed(saved: Path) -> None:
    assert enrol_gallery(saved, built(root="moved")).stale_since is None
    assert list_gallery(saved).note == {"root": "moved"}
    assert enrol_gallery(saved, built(6, root="moved")).stale_since == 3
    assert list_gallery(saved).thresholds["default"] == 0.5
    assert edit_gallery(saved, roll_back, 1).note == {"root": "data"}
    assert list_gallery(saved).stale_since is None


def test_a_changed_image_gets_its_new_vector(saved: Path) -> None:
    changed = built()
    changed.content.vectors[2] = unit(1, 7)[0]
    again = enrol_gallery(saved, changed)
    assert again.ids == (0, 1, 3, 4, 5)
    assert again.rows[-1].path == "2.png"
    assert again.search(unit(1, 7), k=1)[0][0].path == "2.png"


def test_a_kind_of_index_that_was_chosen_stays(saved: Path) -> None:
    from naruto_vision.gallery.gallery import reindex_gallery

    reindex_gallery(saved, "hnsw")
    assert enrol_gallery(saved, built(6)).index_kind == "hnsw"
    assert enrol_gallery(saved, built(7), "exact").index_kind == "exact"


def test_another_encoder_replaces_a_gallery_unless_it_was_edited(saved: Path) -> None:
    other = built(print_="e" * 64)
    check_enrolment(saved, other.fingerprint)
    edit(saved)
    check_enrolment(saved, PRINT)
    with pytest.raises(InputError, match=r"has 3 edits .* another encoder; give another --model\.gallery"):
        check_enrolment(saved, other.fingerprint)
    enrol_gallery(saved, built())  # the edits are history, and none of the rows is of an edit
    check_enrolment(saved, other.fingerprint)
    assert enrol_gallery(saved, other).generation == 1
