"""How far approximate indexes look: measured when built, kept with the gallery, further for texts."""

import json
from pathlib import Path

import numpy as np
import pytest

from naruto_vision.errors import FormatError
from naruto_vision.gallery.content import GalleryRow
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.gallery.index import (
    TARGETS,
    ApproximateIndex,
    ApproximateKind,
    Effort,
    best_places,
    drawn_trial,
    efforts_from_json,
    like_images,
    make_index,
    measure_efforts,
    nearest_centres,
    normalised,
    recall,
    shifted,
    train_centres,
)
from naruto_vision.gallery.maintenance import add_to_gallery
from naruto_vision.gallery.store import manifest_checksum
from naruto_vision.records import Vectors

pytest.importorskip("faiss")
PRINT = "c" * 64
KINDS: tuple[ApproximateKind, ...] = ("hnsw", "ivf")
TRIAL = drawn_trial(3000, 32, 200, 3)


def ivf() -> ApproximateIndex:
    return ApproximateIndex.build("ivf", TRIAL.vectors, np.arange(3000))


def gallery_of(vectors: Vectors) -> Gallery:
    rows = [GalleryRow(f"{i}.png", f"label {i % 3}") for i in range(len(vectors))]
    return Gallery.build(vectors, rows, fingerprint=PRINT, index="ivf")


def sign(folder: Path, name: str, data: bytes) -> None:
    """Put another file in a gallery's place and make its hashes right, as somebody who means harm would."""
    import hashlib

    (folder / name).write_bytes(data)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    manifest["files"][name] = hashlib.sha256(data).hexdigest()
    manifest["checksum"] = manifest_checksum(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_measured_holds_for_new_queries(kind: ApproximateKind) -> None:
    index = ApproximateIndex.build(kind, TRIAL.vectors, np.arange(3000))
    assert {name: effort.recall >= TARGETS[name] for name, effort in index.efforts.items()} == {
        "image": True,
        "text": True,
    }
    truth = best_places(TRIAL.vectors, TRIAL.queries, 10)[1]
    assert recall(index.search(TRIAL.queries, 10)[1], truth) > 0.97
    texts = shifted(TRIAL.queries, 77)
    truth = best_places(TRIAL.vectors, texts, 10)[1]
    assert recall(index.search(texts, 10, "text")[1], truth) > 0.85


def test_the_least_width_that_finds_enough_is_taken() -> None:
    index = ivf()
    effort = index.efforts["image"]
    narrower = [width for width in index.widths() if width < effort.width][-1]
    truth = best_places(TRIAL.vectors, TRIAL.queries, 10)[1]
    assert recall(index.search_within(TRIAL.queries, 10, narrower)[1], truth) < 0.995
    assert index.widths()[-1] == index._index.nlist
    assert index.search_within(TRIAL.queries, 10, index.widths()[-1])[1].tolist() == truth.tolist()


def test_texts_are_looked_for_as_far_as_was_measured_for_texts() -> None:
    """Image and text queries are answered with widths of their own."""
    index = ivf()
    index.efforts = {"image": Effort(1, 0.5, 9, 3000), "text": Effort(index.widths()[-1], 1.0, 9, 3000)}
    truth = best_places(TRIAL.vectors, TRIAL.queries, 10)[1]
    assert recall(index.search(TRIAL.queries, 10, "text")[1], truth) == 1.0
    assert recall(index.search(TRIAL.queries, 10, "image")[1], truth) < 0.9
    wide = Gallery(gallery_of(TRIAL.vectors).content, index)
    found = [[row.row for row in rows] for rows in wide.search(TRIAL.queries[:20], 10, "text")]
    assert found == truth[:20].tolist()


def test_a_measurement_does_not_count_the_row_itself() -> None:
    """An index that finds nothing but the row that was asked for has a recall of nothing."""
    places = np.arange(5)

    def only_itself(queries: Vectors, count: int, width: int) -> tuple[Vectors, np.ndarray]:
        del width
        scores, found = best_places(TRIAL.vectors, queries, count)
        return scores, np.where(found == places[:, None], found, -1)

    efforts = measure_efforts(only_itself, TRIAL.vectors, places, [1, 2])
    assert [(effort.width, effort.recall) for effort in efforts.values()] == [(2, 0.0), (2, 0.0)]


def test_efforts_come_back_and_are_carried_along(tmp_path: Path) -> None:
    gallery = gallery_of(TRIAL.vectors)
    gallery.save(tmp_path / "g")
    assert gallery.index.efforts["image"].rows == 3000
    stored = Gallery.open(tmp_path / "g").index.efforts
    assert {kind: effort.width for kind, effort in stored.items()} == {
        kind: effort.width for kind, effort in gallery.index.efforts.items()
    }
    grown = add_to_gallery(
        tmp_path / "g", like_images(TRIAL.vectors, np.arange(2), 1), [GalleryRow("n.png", "n")] * 2, fingerprint=PRINT
    )
    assert grown.index.efforts == stored  # still what was measured at 3,000 rows


def test_an_index_without_efforts_searches_as_far_as_it_says(tmp_path: Path) -> None:
    """Galleries of older versions have none."""
    gallery_of(TRIAL.vectors).save(tmp_path / "g")
    meta = json.loads((tmp_path / "g" / "faiss_meta.json").read_text(encoding="utf-8"))
    width = meta.pop("efforts")["image"]["width"]
    sign(tmp_path / "g", "faiss_meta.json", json.dumps(meta).encode())
    index = Gallery.open(tmp_path / "g").index
    assert index.efforts == {}
    assert isinstance(index, ApproximateIndex)
    same = index.search_within(TRIAL.queries, 5, width)[1]
    assert index.search(TRIAL.queries, 5)[1].tolist() == same.tolist()


@pytest.mark.parametrize(
    "value",
    [7, {}, {"image": {}, "text": {}}, {"image": {"width": 0, "recall": 1, "queries": 1, "rows": 1}, "text": {}}],
)
def test_forged_efforts_are_refused(tmp_path: Path, value: object) -> None:
    with pytest.raises(ValueError, match=r"expected|missing"):
        efforts_from_json(value)
    gallery_of(TRIAL.vectors[:60]).save(tmp_path / "g")
    meta = json.loads((tmp_path / "g" / "faiss_meta.json").read_text(encoding="utf-8"))
    sign(tmp_path / "g", "faiss_meta.json", json.dumps({**meta, "efforts": value}).encode())
    with pytest.raises(FormatError, match=r"faiss_meta\.json"):
        Gallery.open(tmp_path / "g")


@pytest.mark.parametrize("width", ["many", 2.5, True, 1e300])
def test_efforts_are_whole_numbers(width: object) -> None:
    fine = {"width": 1, "recall": 1.0, "queries": 1, "rows": 1}
    with pytest.raises(ValueError, match="effort"):
        efforts_from_json({"image": {**fine, "width": width}, "text": fine})


def test_a_width_beyond_the_cells_is_cut(tmp_path: Path) -> None:
    gallery_of(TRIAL.vectors).save(tmp_path / "g")
    meta = json.loads((tmp_path / "g" / "faiss_meta.json").read_text(encoding="utf-8"))
    meta["efforts"]["image"]["width"] = 10**12
    sign(tmp_path / "g", "faiss_meta.json", json.dumps(meta).encode())
    truth = best_places(TRIAL.vectors, TRIAL.queries, 10)[1]
    assert Gallery.open(tmp_path / "g").index.search(TRIAL.queries, 10)[1].tolist() == truth.tolist()


def test_centres_gather_what_lies_together_and_none_is_empty() -> None:
    seen: list[int] = []
    axes = np.eye(4, 16, dtype=np.float32)
    noise = np.random.default_rng(5).normal(0, 0.09, (200, 16)).astype(np.float32)
    vectors = normalised(np.repeat(axes, 50, axis=0) + noise)
    centres = train_centres(vectors, 4, 6, 0, seen.append)
    scores, cells = nearest_centres(vectors, centres, seen.append)
    assert sum(seen) == 7 * len(vectors)
    assert [len(set(cells[start : start + 50].tolist())) for start in range(0, 200, 50)] == [1] * 4
    assert len(set(cells.tolist())) == 4
    assert scores.min() > 0.7
    assert np.linalg.norm(centres, axis=1) == pytest.approx(np.ones(4), abs=1e-5)


def test_equal_and_opposed_rows_have_centres_too() -> None:
    line = np.array([[1.0, 0.0], [-1.0, 0.0]] * 40, dtype=np.float32)
    for vectors in (line, np.ones((80, 1), dtype=np.float32)):
        assert np.isfinite(train_centres(vectors, 3, 4, 0, lambda _: None)).all()
        assert make_index(vectors, "ivf").search(vectors[:2], 5)[0][:, 0].tolist() == [1.0, 1.0]


def test_equal_input_gives_equal_bytes() -> None:
    assert ivf().to_bytes() == ivf().to_bytes()
