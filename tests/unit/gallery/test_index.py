"""Exact, flat, IVF, SQ and HNSW: what is stored, what is found, how much is searched, what is refused."""

import hashlib
import json
import logging
from pathlib import Path

import msgspec
import numpy as np
import pytest

from naruto_vision.cli.bench import random_data, recall, shifted
from naruto_vision.errors import FingerprintError, FormatError, InputError, MissingPackageError
from naruto_vision.gallery import content
from naruto_vision.gallery import index as search_module
from naruto_vision.gallery.content import GalleryRow
from naruto_vision.gallery.edits import add_rows, remove_rows, roll_back
from naruto_vision.gallery.gallery import Gallery, edit_gallery, reindex_gallery
from naruto_vision.gallery.index import (
    FLAT_ROWS,
    TARGET_RECALL,
    IndexChoice,
    IndexKind,
    QueryKind,
    SearchBudget,
    VectorIndex,
    choose_kind,
    exact_search,
)
from naruto_vision.gallery.verify import verify_gallery
from naruto_vision.records import Vectors

faiss = pytest.importorskip("faiss")
PRINT = "c" * 64
KINDS: tuple[IndexKind, ...] = ("hnsw", "ivf", "sq")
DATA = random_data(3000, 32, 200, 3)


def unit(rows: int, dim: int = 8, seed: int = 0) -> Vectors:
    vectors = np.random.default_rng(seed).normal(size=(rows, dim))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def index_bytes(index: VectorIndex) -> bytes:
    return b"".join(index.to_blocks() or ())


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


@pytest.mark.parametrize(
    ("index", "kind"), [("flat", "flat"), ("faiss", "flat"), ("hnsw", "hnsw"), ("ivf", "ivf"), ("sq", "sq")]
)
def test_the_index_and_its_facts_come_back(tmp_path: Path, index: IndexChoice, kind: str) -> None:
    gallery = built(index)
    gallery.save(tmp_path / "g")
    meta = json.loads((tmp_path / "g" / "faiss_meta.json").read_text(encoding="utf-8"))
    assert meta.pop("efforts", {}).keys() == ({"image", "text"} if index in KINDS else set())
    assert meta == {"metric": "ip", "kind": kind, "dim": 8, "size": 120, "index": "faiss"}
    plain = faiss.read_index(str(tmp_path / "g" / "faiss.index"))
    assert (plain.ntotal, plain.d, plain.metric_type) == (120, 8, faiss.METRIC_INNER_PRODUCT)
    again = Gallery.open(tmp_path / "g")
    assert again.index_kind == gallery.index_kind
    assert index_bytes(again.index) == index_bytes(gallery.index)
    assert again.search(unit(9, seed=4), 5) == gallery.search(unit(9, seed=4), 5)


def test_an_l2_index_is_read_as_the_inner_products_it_stands_for(tmp_path: Path) -> None:
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
    assert found == gallery.search(queries, 5) == Gallery.open(tmp_path / "g", index="exact").search(queries, 5)
    assert [[one.row for one in row] for row in found] == plain.search(queries, 5)[1].tolist()


def test_auto_naive_and_faiss_find_the_same_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    queries = unit(30, seed=4)
    answers = {index: built(index).search(queries, 5) for index in ("auto", "exact", "faiss", "flat")}
    naive = np.argsort(-(queries @ unit(120).T), axis=1)[:, :5].tolist()
    for found in answers.values():
        assert [[one.row for one in row] for row in found] == naive
        assert found == answers["auto"]
    assert built("auto").index_kind == "faiss"
    monkeypatch.setattr(search_module, "has_package", lambda _: False)
    assert built("auto").index_kind == "exact"


def test_a_gallery_of_another_encoder_is_neither_searched_nor_added_to(tmp_path: Path) -> None:
    built("flat").save(tmp_path / "g")
    with pytest.raises(FingerprintError, match="cccccccccccc, opened with encoder aaaaaaaaaaaa"):
        Gallery.open(tmp_path / "g", fingerprint="a" * 64)
    with pytest.raises(FingerprintError, match="opened with encoder"):
        edit_gallery(tmp_path / "g", add_rows, unit(1), [GalleryRow("n.png", "n")], fingerprint="a" * 64)
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
    edit_gallery(tmp_path / "g", remove_rows, range(0, 120, 2))
    gallery = edit_gallery(tmp_path / "g", add_rows, unit(2, seed=8), [GalleryRow("n.png", "n")] * 2, fingerprint=PRINT)
    assert Gallery.open(tmp_path / "g").index_kind == gallery.index_kind == kind
    assert gallery.ids == (*range(1, 120, 2), 120, 121)
    assert [found[0].row for found in gallery.search(gallery.vectors, 1)] == list(gallery.ids)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_a_rollback_restores_are_found_again(tmp_path: Path, kind: IndexChoice) -> None:
    built(kind).save(tmp_path / "g")
    edit_gallery(tmp_path / "g", remove_rows, range(50, 70))
    edit_gallery(tmp_path / "g", roll_back, 1)
    gallery = Gallery.open(tmp_path / "g")
    assert (gallery.index_kind, gallery.ids) == (kind, tuple(range(120)))
    assert sum(found[0].row == row for row, found in enumerate(gallery.search(gallery.vectors, 1))) >= 115
    edit_gallery(tmp_path / "g", remove_rows, [3])


def found_by(
    index: VectorIndex, queries: Vectors, kind: QueryKind = "image", width: int | None = None
) -> list[list[int]]:
    return [[*rows.tolist(), *[-1] * (10 - len(rows))] for _, rows in index.search(queries, 10, kind, width)]


@pytest.mark.parametrize("kind", KINDS)
def test_the_measured_recall_holds_for_new_queries(kind: IndexKind) -> None:
    index = VectorIndex.build(kind, DATA.vectors)
    assert all(budget.recall >= TARGET_RECALL[query] and budget.rows == 3000 for query, budget in index.budgets.items())
    cases: list[tuple[Vectors, QueryKind, float]] = [
        (DATA.queries, "image", 0.97),
        (shifted(DATA.queries, 77), "text", 0.85),
    ]
    for queries, name, least in cases:
        truth = exact_search(DATA.vectors, queries, 10)[1]
        assert recall(np.array(found_by(index, queries, name)), truth) > least


@pytest.mark.parametrize("kind", KINDS)
def test_the_least_budget_that_finds_enough_is_taken(kind: IndexKind) -> None:
    index = VectorIndex.build(kind, DATA.vectors)
    budget = index.budgets["image"].width
    assert budget in index.widths()
    truth = exact_search(DATA.vectors, DATA.queries, 10)[1]
    shares = [recall(np.array(found_by(index, DATA.queries, width=width)), truth) for width in (1, budget, 3000)]
    assert shares[0] < 0.97 < shares[1] <= shares[2]
    if kind == "ivf":
        assert found_by(index, DATA.queries, width=index.widths()[-1]) == truth.tolist()


def test_texts_have_a_budget_of_their_own() -> None:
    index = VectorIndex.build("ivf", DATA.vectors)
    index.budgets = {"image": SearchBudget(1, 0.5, 9, 3000), "text": SearchBudget(10**12, 1.0, 9, 3000)}
    truth = exact_search(DATA.vectors, DATA.queries, 10)[1]
    assert found_by(index, DATA.queries, "text") == truth.tolist()
    assert recall(np.array(found_by(index, DATA.queries, "image")), truth) < 0.9


def test_ivf_searches_everywhere_when_its_cells_hold_too_few() -> None:
    vectors = unit(4000, 16)
    index = VectorIndex.build("ivf", vectors)
    assert all(len(rows) == 3000 for _, rows in index.search(vectors[:3], 3000))


def test_budgets_come_back_and_are_kept_by_edits(tmp_path: Path) -> None:
    gallery = built("ivf", 3000)
    gallery.save(tmp_path / "g")
    stored = Gallery.open(tmp_path / "g").index.budgets
    assert {kind: one.width for kind, one in stored.items()} == {
        kind: one.width for kind, one in gallery.index.budgets.items()
    }
    more = edit_gallery(tmp_path / "g", add_rows, unit(2, seed=8), [GalleryRow("n.png", "n")] * 2, fingerprint=PRINT)
    assert more.index.budgets == stored  # still what was measured at 3,000 rows


def forge(folder: Path, name: str, data: bytes) -> None:
    """Replace a file of a gallery and correct its hashes."""
    (folder / name).write_bytes(data)
    sign(folder)


def test_an_index_without_budgets_searches_as_faiss_would(tmp_path: Path) -> None:
    """Galleries of older versions have none."""
    built("ivf", 3000).save(tmp_path / "g")
    meta = json.loads((tmp_path / "g" / "faiss_meta.json").read_text(encoding="utf-8"))
    width = meta.pop("efforts")["image"]["width"]
    forge(tmp_path / "g", "faiss_meta.json", json.dumps(meta).encode())
    index = Gallery.open(tmp_path / "g").index
    assert index.budgets == {}
    assert found_by(index, unit(40, seed=3)) == found_by(index, unit(40, seed=3), width=width)


@pytest.mark.parametrize(
    "value",
    [7, {}, {"image": {}, "text": {}}, {"image": {"width": 0, "recall": 1, "queries": 1, "rows": 1}, "text": {}}],
)
def test_forged_budgets_are_refused(tmp_path: Path, value: object) -> None:
    built("ivf").save(tmp_path / "g")
    meta = json.loads((tmp_path / "g" / "faiss_meta.json").read_text(encoding="utf-8"))
    forge(tmp_path / "g", "faiss_meta.json", json.dumps({**meta, "efforts": value}).encode())
    with pytest.raises(FormatError, match=r"faiss_meta\.json"):
        Gallery.open(tmp_path / "g")


@pytest.mark.parametrize("width", ["many", 2.5, True, 1e300])
def test_budgets_are_whole_numbers(width: object) -> None:
    fine = {"width": 1, "recall": 1.0, "queries": 1, "rows": 1}
    with pytest.raises(ValueError, match=r"xpected .* at `\$\.width`"):
        msgspec.convert({**fine, "width": width}, SearchBudget)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [1, 2, 3])
def test_the_smallest_galleries_have_any_index(kind: IndexKind, rows: int) -> None:
    vectors = unit(rows)
    index = VectorIndex.build(kind, vectors)
    assert [found[1][0] for found in index.search(vectors, 5)] == list(range(rows))
    assert VectorIndex.build(kind, np.ones((80, 1), dtype=np.float32)).search(vectors[:0, :1], 5) == []


@pytest.mark.parametrize("kind", KINDS)
def test_equal_input_gives_equal_bytes(kind: IndexKind) -> None:
    assert index_bytes(VectorIndex.build(kind, DATA.vectors)) == index_bytes(VectorIndex.build(kind, DATA.vectors))


@pytest.mark.parametrize("rows", [640, 643])
@pytest.mark.parametrize("queries", [1, 2, 16, 17, 40, 41, 300])
def test_neighbours_do_not_depend_on_how_products_are_split(rows: int, queries: int) -> None:
    vectors, asked = unit(rows, 24), unit(queries, 24, seed=1)
    products = asked.astype(np.float64) @ vectors.astype(np.float64).T
    scores, found = exact_search(vectors, asked, 5)
    expected = np.argsort(-products, axis=1)[:, :5]
    assert found.tolist() == expected.tolist()
    assert np.allclose(scores, np.take_along_axis(products, expected, axis=1), atol=1e-6)


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


@pytest.mark.parametrize("mapped", [False, True])
def test_an_index_whose_lists_are_in_another_file_is_refused(
    tmp_path: Path, mapped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    built("ivf").save(tmp_path / "g")
    monkeypatch.setattr(content, "MAPPED_BYTES", 1 if mapped else 1 << 30)
    assert len(Gallery.open(tmp_path / "g")) == 120
    path, other = tmp_path / "g" / "faiss.index", tmp_path / "other"
    whole = path.read_bytes()
    index = faiss.deserialize_index(np.frombuffer(whole, np.uint8))
    lists = faiss.OnDiskInvertedLists(index.nlist, index.code_size, str(other))
    for cell in range(index.nlist):
        if count := index.invlists.list_size(cell):
            lists.add_entries(cell, count, index.invlists.get_ids(cell), index.invlists.get_codes(cell))
    index.replace_invlists(lists, False)
    start = whole.index(b"ilar") + 4
    for data in (faiss.serialize_index(index).tobytes(), whole[:start] + b"\xff" * 7 + whole[start + 7 :]):
        path.write_bytes(data)
        sign(tmp_path / "g")
        with pytest.raises(FormatError, match=r"faiss\.index"):
            Gallery.open(tmp_path / "g").search(unit(1), 1)
        other.write_bytes(b"")  # a map of it ends the process


@pytest.mark.parametrize("kind", KINDS)
def test_an_index_of_other_rows_is_refused(tmp_path: Path, kind: IndexChoice) -> None:
    built(kind).save(tmp_path / "g")
    for other in (unit(120, seed=5), unit(60)):
        index = VectorIndex.build(choose_kind(kind), other)
        (tmp_path / "g" / "faiss.index").write_bytes(index_bytes(index))
        sign(tmp_path / "g")
        with pytest.raises(FormatError, match=r"faiss\.index"):
            Gallery.open(tmp_path / "g")
    assert reindex_gallery(tmp_path / "g", kind).index_kind == kind
    assert len(Gallery.open(tmp_path / "g")) == 120


@pytest.mark.parametrize(("rows", "count"), [(1, 1), (64, 5), (16_384, 13), (16_384 * 2 + 77, 13), (20_000, 300)])
def test_the_quick_choice_is_the_full_sort(rows: int, count: int) -> None:
    vectors, queries = unit(rows, 4, seed=rows), unit(7, 4, seed=1)
    vectors[rows // 3 :: 5] = vectors[0]  # many rows tie
    scores, places = exact_search(vectors, queries, count)
    products = queries @ vectors.T
    assert scores == pytest.approx(-np.sort(-products, axis=1)[:, :count], abs=1e-6)
    assert np.take_along_axis(products, places, axis=1) == pytest.approx(scores, abs=1e-6)
    assert all(len(set(row)) == count for row in places.tolist())


def test_stale_thresholds_are_told_when_a_gallery_is_opened(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from naruto_vision.gallery.thresholds import Thresholds

    built("flat").with_thresholds(Thresholds(0.5)).save(tmp_path / "g")
    with caplog.at_level(logging.WARNING):
        Gallery.open(tmp_path / "g")
        assert caplog.text == ""
        edit_gallery(tmp_path / "g", remove_rows, [0])
        caplog.clear()
        Gallery.open(tmp_path / "g")
    assert "entries changed in generation 3, after its thresholds were chosen" in caplog.text


@pytest.mark.parametrize("count", [1, 2, 3, 16, 17])
def test_few_queries_get_the_neighbours_of_faiss(count: int) -> None:
    """16,500 rows leave a last block that products of 16 rows do not divide."""
    vectors, queries = unit(16_500, 32), unit(count, 32, seed=2)
    plain = faiss.IndexFlatIP(32)
    plain.add(vectors)
    scores, rows = exact_search(vectors, queries, 10)
    expected, truth = plain.search(queries, 10)
    assert rows.tolist() == truth.tolist()
    assert scores == pytest.approx(expected, abs=1e-5)
