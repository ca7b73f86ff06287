"""What is written to a gallery folder, and that it comes back the same."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from naruto_vision.gallery import index as search_module
from naruto_vision.gallery import store as publish
from naruto_vision.gallery.content import GalleryRow
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.gallery.index import IndexChoice
from naruto_vision.gallery.thresholds import Thresholds
from naruto_vision.records import Vectors

PRINT = "0123456789abcdef" * 4
NAMES = sorted(
    ["embeddings.npy", "meta.jsonl", "stats.json", "faiss.index", "faiss_meta.json", "thresholds.json", "ledger.jsonl"]
)


def unit(rows: int, dim: int, seed: int = 0) -> Vectors:
    vectors = np.random.default_rng(seed).normal(size=(rows, dim))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def made(index: IndexChoice = "auto") -> Gallery:
    rows = [GalleryRow(f"綾/{i}.png", f"label {i % 2}") for i in range(5)]
    thresholds = Thresholds(0.25, {"label 1": 0.5}, "by hand")
    return Gallery.build(unit(5, 4), rows, fingerprint=PRINT, index=index, thresholds=thresholds)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    made().save(tmp_path / "gallery")
    return tmp_path / "gallery"


def same(one: Gallery, other: Gallery) -> bool:
    queries = unit(6, 4, 9)
    return one.digest == other.digest and one.search(queries, 5) == other.search(queries, 5)


@pytest.mark.parametrize("written", ["faiss", "exact"])
@pytest.mark.parametrize("opened", ["auto", "faiss", "exact"])
def test_round_trip(tmp_path: Path, written: IndexChoice, opened: IndexChoice) -> None:
    gallery = made(written)
    gallery.save(tmp_path / "g")
    again = Gallery.open(tmp_path / "g", fingerprint=PRINT, index=opened)
    assert same(gallery, again)
    assert again.rows == gallery.rows
    assert again.thresholds == gallery.thresholds
    assert again.index_kind == ("exact" if opened == "exact" else "faiss")


def test_the_folder_is_the_documented_one(saved: Path) -> None:
    assert sorted(file.name for file in saved.iterdir()) == sorted([*NAMES, "manifest.json"])
    vectors = np.load(saved / "embeddings.npy", allow_pickle=False)
    assert (vectors.dtype, vectors.shape) == (np.float32, (5, 4))
    lines = [json.loads(line) for line in (saved / "meta.jsonl").read_text(encoding="utf-8").splitlines()]
    assert lines[3] == {"id": 3, "path": "綾/3.png", "label": "label 1", "aug": "none"}
    meta = json.loads((saved / "faiss_meta.json").read_text(encoding="utf-8"))
    assert meta == {"metric": "ip", "kind": "flat", "dim": 4, "size": 5, "index": "faiss"}
    stats = json.loads((saved / "stats.json").read_text(encoding="utf-8"))
    assert stats == {"total": 5, "dim": 4, "counts": {"label 0": 3, "label 1": 2}, "aug": {"none": 5}}
    ledger = json.loads((saved / "ledger.jsonl").read_text(encoding="utf-8"))
    assert ledger == {"generation": 1, "op": "build", "rows": 5, "next_id": 5}
    manifest = json.loads((saved / "manifest.json").read_text(encoding="utf-8"))
    assert (manifest["fingerprint"], manifest["generation"], sorted(manifest["files"])) == (PRINT, 1, NAMES)
    for name, digest in manifest["files"].items():
        assert hashlib.sha256((saved / name).read_bytes()).hexdigest() == digest


def test_equal_galleries_are_equal_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        made().save(tmp_path / name)
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()


def test_saving_again_replaces_the_whole_folder(saved: Path) -> None:
    gallery = Gallery.open(saved).with_thresholds(Thresholds())
    gallery.save(saved)
    assert Gallery.open(saved).generation == 2
    assert len((saved / "ledger.jsonl").read_text(encoding="utf-8").splitlines()) == 2
    assert [file.name for file in saved.parent.iterdir()] == ["gallery"]


def test_odd_names_survive(tmp_path: Path) -> None:
    rows = [GalleryRow("bad \udcff byte.png", 'a "b", c'), GalleryRow("two\u2028lines\n.png", "\u2029")]
    Gallery.build(unit(2, 4), rows, fingerprint=PRINT).save(tmp_path / "g")
    assert Gallery.open(tmp_path / "g").rows == tuple(rows)


def test_a_gallery_of_faiss_opens_without_it(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = Gallery.open(saved)
    monkeypatch.setattr(search_module, "has_package", lambda _: False)
    found = Gallery.open(saved)
    assert found.index_kind == "exact"
    assert same(found, expected)


def test_a_failed_save_leaves_the_old_gallery(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {file.name: file.read_bytes() for file in saved.iterdir()}

    def fail(path: Path, data: bytes) -> None:
        raise OSError(28, str(path), len(data))

    gallery = made().with_thresholds(Thresholds())
    monkeypatch.setattr(publish, "write_bytes", fail)  # everything is prepared, the manifest cannot be written
    with pytest.raises(OSError, match="28"):
        gallery.save(saved)
    assert {file.name: file.read_bytes() for file in saved.iterdir()} == before
