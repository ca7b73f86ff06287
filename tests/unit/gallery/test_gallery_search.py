"""Neighbours against a full sort, through both indexes."""

import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from naruto_vision.errors import InputError, MissingPackageError
from naruto_vision.gallery import index as search_module
from naruto_vision.gallery.content import GalleryRow
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.gallery.index import IndexChoice
from naruto_vision.gallery.thresholds import Thresholds
from naruto_vision.records import Vectors

PRINT = "f" * 64


def unit(rows: int, dim: int, seed: int) -> Vectors:
    vectors = np.random.default_rng(seed).normal(size=(rows, dim))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def built(vectors: Vectors, index: IndexChoice = "auto") -> Gallery:
    rows = [GalleryRow(f"{i}.png", f"label {i % 3}", "" if i % 2 else "mirror") for i in range(len(vectors))]
    return Gallery.build(vectors, rows, fingerprint=PRINT, index=index)


def crowded(rows: int, dim: int, seed: int) -> Vectors:
    """Vectors of which most come several times, so that scores tie."""
    return unit(rows, dim, seed)[np.random.default_rng(seed + 1).integers(0, max(1, rows // 4), rows)]


def places(gallery: Gallery, queries: Vectors, k: int) -> list[list[int]]:
    return [[one.row for one in found] for found in gallery.search(queries, k)]


cases = st.tuples(st.integers(1, 40), st.sampled_from([2, 8, 33]), st.integers(0, 10_000), st.integers(1, 12))


@settings(max_examples=60, deadline=None)
@given(cases, st.integers(0, 9))
def test_equals_a_full_sort(case: tuple[int, int, int, int], asked: int) -> None:
    rows, dim, seed, k = case
    vectors, queries = crowded(rows, dim, seed), np.concatenate([unit(asked, dim, seed + 2), crowded(rows, dim, seed)])
    gallery = built(vectors)
    scores = queries.astype(np.float64) @ gallery.vectors.astype(np.float64).T
    keys = np.round(scores, 6)  # equal vectors have equal scores; others differ by more than a millionth, or tie here
    for found, row, key in zip(gallery.search(queries, k), scores, keys, strict=True):
        assert len(found) == min(k, rows)
        assert [(-one.score, one.row) for one in found] == sorted((-one.score, one.row) for one in found)
        best = sorted(row, reverse=True)[: len(found)]
        assert [one.score for one in found] == pytest.approx(best, abs=1e-6)
        last = key[found[-1].row]
        assert {one.row for one in found} >= set(np.flatnonzero(key > last).tolist())


@settings(max_examples=60, deadline=None)
@given(cases)
def test_both_indexes_give_the_same_neighbours(case: tuple[int, int, int, int]) -> None:
    rows, dim, seed, k = case
    vectors, queries = crowded(rows, dim, seed), unit(7, dim, seed + 5)
    queries = np.concatenate([queries, vectors])
    assert built(vectors, "faiss").search(queries, k) == built(vectors, "exact").search(queries, k)


@settings(max_examples=60, deadline=None)
@given(cases)
def test_fewer_neighbours_are_the_first_of_more(case: tuple[int, int, int, int]) -> None:
    rows, dim, seed, k = case
    gallery, queries = built(crowded(rows, dim, seed)), crowded(rows, dim, seed)
    assert gallery.search(queries, k) == tuple(found[:k] for found in gallery.search(queries, k + 1))


@pytest.mark.parametrize("index", ["faiss", "exact"])
def test_the_batch_changes_nothing(index: IndexChoice) -> None:
    gallery, queries = built(unit(500, 64, 0), index), unit(300, 64, 1)
    together = gallery.search(queries, 5)
    assert together == tuple(gallery.search(queries[i : i + 1], 5)[0] for i in range(len(queries)))


@pytest.mark.parametrize("index", ["faiss", "exact"])
@pytest.mark.parametrize("copies", [30, 300, 1000])
def test_ties_go_to_the_lower_id_however_many(index: IndexChoice, copies: int) -> None:
    vectors = np.concatenate([unit(200, 16, 1), np.repeat(unit(1, 16, 0), copies, axis=0)])
    vectors = vectors[np.random.default_rng(2).permutation(len(vectors))]
    lowest = np.flatnonzero((vectors == unit(1, 16, 0)).all(axis=1))[:5].tolist()
    assert places(built(vectors, index), unit(1, 16, 0), 5) == [lowest]


@pytest.mark.parametrize("index", ["faiss", "exact"])
def test_more_neighbours_than_rows(index: IndexChoice) -> None:
    vectors = unit(3, 4, 0)
    assert sorted(places(built(vectors, index), vectors[:1], 50)[0]) == [0, 1, 2]


def test_a_neighbour_says_who_and_where() -> None:
    vectors = unit(9, 8, 0)
    best = built(vectors).search(vectors[4:5], 1)[0][0]
    assert (best.row, best.label, best.path) == (4, "label 1", "4.png")
    assert best.score == pytest.approx(1.0, abs=1e-6)


def test_no_queries_have_no_answers() -> None:
    assert built(unit(3, 4, 0)).search(np.zeros((0, 4), dtype=np.float32), 2) == ()


def test_scores_stay_in_range() -> None:
    vectors = unit(50, 512, 3) * np.float32(1.004)  # as far off as a half-precision encoder may be
    scores = [found[0].score for found in built(vectors).search(vectors, 1)]
    assert scores == pytest.approx([1.0] * 50, abs=1e-6)
    assert max(scores) <= 1.0


def test_what_a_gallery_knows() -> None:
    gallery = built(unit(7, 8, 0))
    assert gallery.labels == ("label 0", "label 1", "label 2")
    assert (len(gallery), gallery.dim, gallery.generation, gallery.fingerprint) == (7, 8, 1, PRINT)
    assert gallery.ids == tuple(range(7))
    assert gallery.rows[0].aug == "mirror"
    assert gallery.thresholds.threshold("label 0") is None


def test_new_thresholds_make_another_gallery() -> None:
    old = built(unit(7, 8, 0))
    new = old.with_thresholds(Thresholds(default=0.5))
    assert (old.thresholds.default, new.thresholds.default) == (None, 0.5)
    assert (old.generation, new.generation) == (1, 2)
    assert old.digest != new.digest


def test_digest_depends_on_content_and_not_on_the_index() -> None:
    vectors = unit(7, 8, 0)
    assert built(vectors, "faiss").digest == built(vectors, "exact").digest
    assert built(vectors).digest != built(unit(7, 8, 1)).digest


@pytest.mark.parametrize(
    ("queries", "message"),
    [
        (np.ones((1, 5), dtype=np.float32), r"shape \(Q, 4\)"),
        (np.ones(4, dtype=np.float32), r"shape \(Q, 4\)"),
        (np.ones((1, 4), dtype=np.float32), "length 1, found 2 in row 0"),
        (np.full((1, 4), np.nan, dtype=np.float32), "found nan in row 0"),
        (np.eye(4), "expected float32"),
    ],
)
def test_senseless_queries_are_refused(queries: Vectors, message: str) -> None:
    with pytest.raises(InputError, match=message):
        built(unit(3, 4, 0)).search(queries, 1)


def test_no_neighbours_cannot_be_asked_for() -> None:
    with pytest.raises(ValueError, match="k >= 1"):
        built(unit(3, 4, 0)).search(unit(1, 4, 0), 0)


def test_senseless_galleries_are_refused() -> None:
    row = GalleryRow("a.png", "a")
    spoilt = unit(2, 4, 0)
    spoilt[1, 2] = np.inf
    with pytest.raises(InputError, match="at least one entry"):
        Gallery.build(np.zeros((0, 4), dtype=np.float32), [], fingerprint=PRINT)
    with pytest.raises(InputError, match="2 vectors, 1 ids and 1 rows"):
        Gallery.build(unit(2, 4, 0), [row], fingerprint=PRINT)
    with pytest.raises(InputError, match="found inf in row 1"):
        Gallery.build(spoilt, [row, row], fingerprint=PRINT)
    with pytest.raises(InputError, match=r"a\.png: expected a label"):
        GalleryRow("a.png", "")


def test_without_faiss_auto_says_so_and_faiss_is_refused(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(search_module, "has_package", lambda _: False)
    monkeypatch.setattr("naruto_vision.io.machine.has_package", lambda _: False)
    with caplog.at_level(logging.WARNING):
        gallery = built(unit(3, 4, 0))
    assert gallery.index_kind == "exact"
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "FAISS is not installed" in caplog.text
    with pytest.raises(MissingPackageError, match=r"naruto-vision\[cpu\]"):
        built(unit(3, 4, 0), "faiss")


def test_faiss_settings_are_put_back() -> None:
    faiss = pytest.importorskip("faiss")
    before = (faiss.cvar.distance_compute_blas_threshold, faiss.omp_get_max_threads())
    built(unit(30, 8, 0), "faiss").search(unit(20, 8, 1), 3)
    assert (faiss.cvar.distance_compute_blas_threshold, faiss.omp_get_max_threads()) == before
