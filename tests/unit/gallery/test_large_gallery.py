"""Galleries whose files stay on the disk do what small ones do."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from naruto_vision.cli.bench import random_data, recall
from naruto_vision.errors import FormatError
from naruto_vision.gallery import content, reference_index
from naruto_vision.gallery.content import GalleryRow
from naruto_vision.gallery.edits import add_rows, change_thresholds, relabel_rows, remove_rows, roll_back
from naruto_vision.gallery.gallery import Gallery, edit_gallery, reindex_gallery
from naruto_vision.gallery.index import IVF_ROWS, IndexChoice, VectorIndex, choose_kind, exact_search
from naruto_vision.gallery.reference_index import read_reference_index
from naruto_vision.gallery.thresholds import Thresholds
from naruto_vision.gallery.verify import verify_gallery, worst

pytest.importorskip("faiss")
DATA = random_data(1500, 8, 40, 3)
ROWS = [GalleryRow(f"{i}.png", f"name {i % 3}") for i in range(1500)]


@cache
def built(kind: IndexChoice) -> Gallery:
    return Gallery.build(DATA.vectors, ROWS, fingerprint="a" * 64, index=kind)


@pytest.fixture(params=["flat", "exact", "ivf", "sq", "pq", "hnsw"])
def saved(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Gallery]:
    """A gallery in a folder that is mapped when it is opened, and the same in memory."""
    gallery = built(request.param)
    gallery.save(tmp_path / "g")
    monkeypatch.setattr(content, "MAPPED_BYTES", 1)
    return tmp_path / "g", gallery


def test_a_mapped_gallery_finds_what_it_finds_in_memory(saved: tuple[Path, Gallery]) -> None:
    folder, gallery = saved
    mapped = Gallery.open(folder)
    assert isinstance(mapped.vectors, np.memmap)
    assert mapped.search(DATA.queries, 10) == gallery.search(DATA.queries, 10)
    assert (mapped.labels, mapped.ids, list(mapped.rows)) == (gallery.labels, gallery.ids, list(gallery.rows))
    assert (mapped.rows[-1], list(mapped.rows[2:4])) == (ROWS[-1], ROWS[2:4])
    assert worst(verify_gallery(folder)) == "ok"


def test_a_mapped_gallery_takes_every_edit(saved: tuple[Path, Gallery]) -> None:
    folder, gallery = saved
    vectors = DATA.queries[:3]
    rows = [GalleryRow(f"new {i}.png", "new") for i in range(3)]
    for change, *arguments in (
        (add_rows, vectors, rows),
        (remove_rows, [4, 7, 1501]),
        (relabel_rows, [5], "other"),
        (roll_back, 2),
    ):
        gallery = gallery.edited(change, *arguments)
        edit_gallery(folder, change, *arguments)
        found = Gallery.open(folder)
        assert found.search(DATA.queries, 10) == gallery.search(DATA.queries, 10)
        assert list(found.rows) == list(gallery.rows)
    before = Gallery.open(folder)
    after = edit_gallery(folder, change_thresholds, Thresholds(0.5))
    assert before.digest != Gallery.open(folder).digest
    assert after.thresholds.default == 0.5
    assert Gallery.open(folder).search(DATA.queries, 5) == before.search(DATA.queries, 5)


@pytest.mark.parametrize("saved", ["flat", "ivf"], indirect=True)
def test_damage_of_a_mapped_gallery_is_found_when_it_is_verified(saved: tuple[Path, Gallery]) -> None:
    folder, _ = saved
    data = bytearray((folder / "embeddings.npy").read_bytes())
    data[-4] ^= 1
    (folder / "embeddings.npy").write_bytes(data)
    assert worst(verify_gallery(folder)) == "wrong"
    (folder / "embeddings.npy").write_bytes(data[:-8])
    with pytest.raises(FormatError, match=r"embeddings\.npy"):
        Gallery.open(folder)


@pytest.mark.parametrize("saved", ["flat"], indirect=True)
@pytest.mark.parametrize("text", ['{"id": 0}\n', "no json\n", '{"id": 0, "label": "a", "path": "b", "aug": ""}'])
def test_entries_that_are_none_are_refused(saved: tuple[Path, Gallery], text: str) -> None:
    folder, _ = saved
    (folder / "meta.jsonl").write_text(text, encoding="utf-8")
    with pytest.raises(FormatError, match=r"meta\.jsonl"):
        Gallery.open(folder)


@pytest.mark.parametrize("kind", ["sq", "pq"])
def test_codes_only_propose_what_whole_vectors_decide(kind: IndexChoice) -> None:
    index = VectorIndex.build(choose_kind(kind), DATA.vectors)
    truth = exact_search(DATA.vectors, DATA.queries, 10)[1]
    found = index.search(DATA.queries, 10)
    assert recall(np.stack([rows for _, rows in found]), truth) > 0.95
    for query, (scores, rows) in zip(DATA.queries, found, strict=True):
        assert np.allclose(scores, DATA.vectors[rows] @ query, atol=1e-6)
    assert [rows[:5].tolist() for _, rows in found] == [rows.tolist() for _, rows in index.search(DATA.queries, 5)]


def test_no_wider_search_is_tried_for_what_the_codes_lose() -> None:
    rng = np.random.default_rng(0)
    near = np.repeat(rng.standard_normal((4, 64)), 1000, axis=0) + 0.02 * rng.standard_normal((4000, 64))
    index = VectorIndex.build("pq", (near / np.linalg.norm(near, axis=1, keepdims=True)).astype(np.float32))
    budget = index.budgets["image"]
    assert budget.recall < 0.9
    assert budget.width < index.widths()[-1] / 2


def test_auto_goes_by_the_number_of_rows() -> None:
    assert [choose_kind("auto", rows) for rows in (100_000, IVF_ROWS, IVF_ROWS + 1)] == ["faiss", "ivf", "pq"]


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_a_large_index_folder_is_normalised_in_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: type[np.floating]
) -> None:
    monkeypatch.setattr(reference_index, "MAPPED_BYTES", 1)
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    np.save(tmp_path / "in" / "embeddings.npy", DATA.vectors.astype(dtype))
    lines = [f'{{"path": "{row.path}", "label": "{row.label}"}}\n' for row in ROWS]
    (tmp_path / "in" / "meta.jsonl").write_text("".join(lines), encoding="utf-8")
    found = read_reference_index(tmp_path / "in", tmp_path / "out")
    assert isinstance(found.vectors, np.memmap)
    assert np.allclose(found.vectors, DATA.vectors, atol=1e-3)
    assert np.allclose(np.linalg.norm(found.vectors, axis=1), 1.0, atol=1e-6)
    seen: list[tuple[int, int]] = []
    gallery = Gallery.build(
        found.vectors, found.rows, fingerprint="a" * 64, index="ivf", advance=lambda *done: seen.append(done)
    )
    assert gallery.vectors is found.vectors
    assert seen[-1] == (1500 - 256, 1500)


@pytest.mark.parametrize("saved", ["ivf"], indirect=True)
def test_reindexing_a_mapped_gallery_keeps_its_vectors(saved: tuple[Path, Gallery]) -> None:
    folder, _ = saved
    assert reindex_gallery(folder, "flat").index_kind == "faiss"
    assert Gallery.open(folder).search(DATA.queries, 3) == Gallery.build(
        DATA.vectors, ROWS, fingerprint="a" * 64
    ).search(DATA.queries, 3)
