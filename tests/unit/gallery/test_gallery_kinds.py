"""Flat, HNSW and IVF: what is stored, what is found, what is refused."""

import hashlib
import json
import logging
from pathlib import Path

import numpy as np
import pytest

from naruto_vision.errors import FingerprintError, FormatError, InputError, MissingPackageError
from naruto_vision.gallery import index as stores
from naruto_vision.gallery.content import GalleryRow
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.gallery.index import (
    FLAT_ROWS,
    ApproximateIndex,
    ApproximateKind,
    IndexChoice,
    best_places,
    choose_kind,
    drawn_trial,
    held_out,
    make_index,
    recall,
    self_match,
    shifted,
)
from naruto_vision.gallery.maintenance import add_to_gallery, reindex_gallery, remove_from_gallery
from naruto_vision.gallery.verify import verify_gallery
from naruto_vision.records import Vectors

faiss = pytest.importorskip("faiss")
PRINT = "c" * 64
KINDS: tuple[ApproximateKind, ...] = ("hnsw", "ivf")


def unit(rows: int, dim: int = 8, seed: int = 0) -> Vectors:
    vectors = np.random.default_rng(seed).normal(size=(rows, dim))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def built(index: IndexChoice, rows: int = 120) -> Gallery:
    return Gallery.build(
        unit(rows), [GalleryRow(f"{i}.png", f"label {i % 3}") for i in range(rows)], fingerprint=PRINT, index=index
    )


def sign(folder: Path) -> None:
    """Make the hashes of a changed gallery right again, as somebody who means harm would."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    manifest["files"] = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in manifest["files"]}
    del manifest["checksum"]
    manifest["checksum"] = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps(manifest), encoding="utf-8")


def attempt(folder: Path) -> tuple[Gallery | None, str]:
    """Open a gallery; return it, or what was said against it."""
    try:
        return Gallery.open(folder), ""
    except InputError as error:
        return None, str(error)


@pytest.mark.parametrize(("index", "kind"), [("flat", "flat"), ("faiss", "flat"), ("hnsw", "hnsw"), ("ivf", "ivf")])
def test_s1_030_the_index_and_its_facts_come_back(tmp_path: Path, index: IndexChoice, kind: str) -> None:
    gallery = built(index)
    gallery.save(tmp_path / "g")
    meta = json.loads((tmp_path / "g" / "faiss_meta.json").read_text(encoding="utf-8"))
    assert meta.pop("efforts", {}).keys() == ({"image", "text"} if index in KINDS else set())
    assert meta == {"metric": "ip", "kind": kind, "dim": 8, "size": 120, "index": "faiss"}
    plain = faiss.read_index(str(tmp_path / "g" / "faiss.index"))
    assert (plain.ntotal, plain.d, plain.metric_type) == (120, 8, faiss.METRIC_INNER_PRODUCT)
    again = Gallery.open(tmp_path / "g")
    assert again.index_kind == gallery.index_kind
    assert again.index.to_bytes() == gallery.index.to_bytes()
    assert again.search(unit(9, seed=4), 5) == gallery.search(unit(9, seed=4), 5)


def test_s1_030_an_l2_index_is_read_as_the_inner_products_it_stands_for(tmp_path: Path) -> None:
    gallery = built("flat")
    gallery.save(tmp_path / "g")
    plain = faiss.IndexFlatL2(8)
    plain.add(gallery.vectors)
    faiss.write_index(plain, str(tmp_path / "g" / "faiss.index"))
    facts = {"metric": "l2", "kind": "flat", "dim": 8, "size": 120}
    (tmp_path / "g" / "faiss_meta.json").write_text(json.dumps(facts), encoding="utf-8")
    sign(tmp_path / "g")
    queries = unit(9, seed=4)
    found = Gallery.open(tmp_path / "g").search(queries, 5)
    assert found == gallery.search(queries, 5)
    assert [[one.row for one in row] for row in found] == plain.search(queries, 5)[1].tolist()


def test_s1_067_auto_naive_and_faiss_find_the_same_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    queries = unit(30, seed=4)
    answers = {index: built(index).search(queries, 5) for index in ("auto", "exact", "faiss", "flat")}
    naive = np.argsort(-(queries @ unit(120).T), axis=1)[:, :5].tolist()
    for found in answers.values():
        assert [[one.row for one in row] for row in found] == naive
        assert found == answers["auto"]
    assert built("auto").index_kind == "faiss"
    monkeypatch.setattr(stores, "has_package", lambda _: False)
    assert built("auto").index_kind == "exact"


def test_s1_033_a_gallery_of_another_encoder_is_neither_searched_nor_added_to(tmp_path: Path) -> None:
    built("flat").save(tmp_path / "g")
    with pytest.raises(FingerprintError, match="cccccccccccc, opened with encoder aaaaaaaaaaaa"):
        Gallery.open(tmp_path / "g", fingerprint="a" * 64)
    with pytest.raises(FingerprintError, match="opened with encoder"):
        add_to_gallery(tmp_path / "g", unit(1), [GalleryRow("n.png", "n")], fingerprint="a" * 64)
    findings = verify_gallery(tmp_path / "g", fingerprint="a" * 64)
    assert [finding.check for finding in findings if finding.verdict == "wrong"] == ["encoder"]


def test_auto_goes_by_size_and_keeps_what_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (choose_kind("auto", FLAT_ROWS), choose_kind("auto", FLAT_ROWS + 1)) == ("faiss", "ivf")
    assert (choose_kind("auto", 10, "hnsw"), choose_kind("auto", 10, "exact")) == ("hnsw", "faiss")
    monkeypatch.setattr("naruto_vision.io.machine.has_package", lambda _: False)
    for index in ("hnsw", "ivf", "flat"):
        with pytest.raises(
            MissingPackageError, match=r"faiss is not installed; run: pip install 'naruto-vision\[cpu\]"
        ):
            choose_kind(index)


@pytest.mark.parametrize("kind", KINDS)
def test_an_edited_index_is_kept_and_its_ids_stay(tmp_path: Path, kind: IndexChoice) -> None:
    built(kind).save(tmp_path / "g")
    remove_from_gallery(tmp_path / "g", range(0, 120, 2))
    gallery = add_to_gallery(tmp_path / "g", unit(2, seed=8), [GalleryRow("n.png", "n")] * 2, fingerprint=PRINT)
    assert Gallery.open(tmp_path / "g").index_kind == gallery.index_kind == kind
    assert gallery.ids == (*range(1, 120, 2), 120, 121)
    assert [found[0].row for found in gallery.search(gallery.vectors, 1)] == list(gallery.ids)


@pytest.mark.parametrize("kind", KINDS)
def test_most_neighbours_are_found_among_many_rows(kind: ApproximateKind) -> None:
    trial = drawn_trial(4000, 32, 200, 3)
    index = ApproximateIndex.build(kind, trial.vectors, np.arange(4000))
    truth = best_places(trial.vectors, trial.queries, 10)[1]
    assert recall(index.search(trial.queries, 10)[1], truth) > 0.97


def test_ivf_looks_everywhere_when_its_cells_hold_too_few() -> None:
    """One query wants more rows than the probed cells have: it gets all it wants all the same."""
    vectors = unit(4000, 16)
    index = ApproximateIndex.build("ivf", vectors, np.arange(4000))
    assert (index.search(vectors[:3], 3000)[1] >= 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_forged_indexes_with_right_hashes_never_crash(tmp_path: Path, kind: IndexChoice) -> None:
    built(kind).save(tmp_path / "g")
    path = tmp_path / "g" / "faiss.index"
    whole, rng, refused = path.read_bytes(), np.random.default_rng(6), 0
    for trial in range(150):
        spoilt, place = bytearray(whole), int(rng.integers(len(whole)))
        spoilt[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(bytes(spoilt) if trial % 3 else whole[:place])
        sign(tmp_path / "g")
        found, refusal = attempt(tmp_path / "g")
        assert "\n" not in refusal
        refused += bool(refusal)
        if found is not None:
            assert len(found.search(unit(6, seed=9), 5)[0]) == 5
    assert refused > 75


@pytest.mark.parametrize("kind", KINDS)
def test_an_index_of_other_rows_is_refused(tmp_path: Path, kind: IndexChoice) -> None:
    built(kind).save(tmp_path / "g")
    for other in (unit(120, seed=5), unit(60)):
        index = make_index(other, choose_kind(kind))
        (tmp_path / "g" / "faiss.index").write_bytes(index.to_bytes() or b"")
        sign(tmp_path / "g")
        with pytest.raises(FormatError, match=r"faiss\.index"):
            Gallery.open(tmp_path / "g")
    assert reindex_gallery(tmp_path / "g", kind).index_kind == kind
    assert len(Gallery.open(tmp_path / "g")) == 120


@pytest.mark.parametrize(("rows", "count"), [(1, 1), (64, 5), (16_384, 13), (16_384 * 2 + 77, 13), (20_000, 300)])
def test_the_quick_choice_is_the_full_sort(rows: int, count: int) -> None:
    vectors, queries = unit(rows, 4, seed=rows), unit(7, 4, seed=1)
    vectors[rows // 3 :: 5] = vectors[0]  # many rows tie
    scores, places = best_places(vectors, queries, count)
    products = queries @ vectors.T
    assert scores == pytest.approx(-np.sort(-products, axis=1)[:, :count], abs=1e-6)
    assert np.take_along_axis(products, places, axis=1) == pytest.approx(scores, abs=1e-6)
    assert all(len(set(row)) == count for row in places.tolist())


def test_s1_111_queries_are_no_rows_of_the_gallery_unless_asked_for() -> None:
    vectors = unit(50)
    trial = held_out(vectors, 10, 42)
    assert (len(trial.vectors), len(trial.queries)) == (40, 10)
    rows = {row.tobytes() for row in trial.vectors}
    assert all(query.tobytes() not in rows for query in trial.queries)
    assert rows | {query.tobytes() for query in trial.queries} == {row.tobytes() for row in vectors}
    own = self_match(vectors, 10, 42)
    assert all(query.tobytes() in {row.tobytes() for row in own.vectors} for query in own.queries)


def test_trials_are_drawn_from_a_seed() -> None:
    one, two = drawn_trial(300, 16, 5, 1), drawn_trial(300, 16, 5, 1)
    assert one.vectors.tobytes() == two.vectors.tobytes()
    assert np.linalg.norm(one.vectors, axis=1) == pytest.approx(np.ones(300), abs=1e-5)
    moved = shifted(one.queries, 1)
    near = (one.queries @ one.vectors.T).max(axis=1)
    assert ((moved @ one.vectors.T).max(axis=1) < near).all()  # texts lie further from images than images do


def test_stale_thresholds_are_told_when_a_gallery_is_opened(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from naruto_vision.gallery.thresholds import Thresholds

    built("flat").with_thresholds(Thresholds(0.5)).save(tmp_path / "g")
    with caplog.at_level(logging.WARNING):
        Gallery.open(tmp_path / "g")
        assert caplog.text == ""
        remove_from_gallery(tmp_path / "g", [0])
        caplog.clear()
        Gallery.open(tmp_path / "g")
    assert "rows changed in generation 3, after its thresholds were chosen" in caplog.text


@pytest.mark.parametrize("count", [1, 2, 3, 16, 17])
def test_few_queries_get_the_neighbours_of_faiss(count: int) -> None:
    """Up to 16 queries are answered by many small products; 16,500 rows leave a block that those cannot take."""
    vectors, queries = unit(16_500, 32), unit(count, 32, seed=2)
    plain = faiss.IndexFlatIP(32)
    plain.add(vectors)
    scores, places = make_index(vectors, "faiss").search(queries, 10)
    expected, truth = plain.search(queries, 10)
    assert places.tolist() == truth.tolist()
    assert scores == pytest.approx(expected, abs=1e-5)
