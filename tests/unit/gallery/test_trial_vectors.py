"""Vectors to try an index on: as an encoder's, as further images, as texts."""

import numpy as np
import pytest
from numpy.typing import NDArray

from naruto_vision.gallery.index import (
    ApproximateIndex,
    any_directions,
    best_places,
    grown,
    like_images,
    measure_efforts,
    normalised,
    recall,
    shifted,
)
from naruto_vision.records import Vectors

DIM = 12


def _images(characters: int = 20, each: int = 6) -> tuple[Vectors, NDArray[np.int64]]:
    """Vectors whose characters differ along the first axes and whose images along the last."""
    rng = np.random.default_rng(0)
    labels = np.arange(characters * each) % characters
    between, within = np.zeros(DIM), np.zeros(DIM)
    between[:4], within[-3:] = 0.6, 0.2
    means = np.eye(DIM)[5] + rng.normal(size=(characters, DIM)) * between
    return normalised((means[labels] + rng.normal(size=(len(labels), DIM)) * within).astype(np.float32)), labels


def _spread(vectors: Vectors) -> NDArray[np.float64]:
    return np.asarray(np.cov(vectors.astype(np.float64).T))


def test_many_rows_are_as_the_few_that_they_are_made_of() -> None:
    vectors, labels = _images()
    rows = grown(vectors, labels, 70_000, 1)
    assert rows.shape == (70_000, DIM)
    assert rows.dtype == np.float32
    assert np.allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-5)
    assert np.linalg.norm(rows.mean(axis=0) - vectors.mean(axis=0)) < 0.15
    own, known = _spread(rows), _spread(vectors)
    assert np.linalg.norm(own - known) < 0.3 * np.linalg.norm(known)
    within = np.diag(own)[-3:] / np.diag(known)[-3:]  # along axes in which images of one character differ
    assert 0.9 < float(within.min()) < float(within.max()) < 1.7
    assert len(np.unique(rows[:2000].round(6), axis=0)) == 2000  # no row comes twice
    assert np.array_equal(rows, grown(vectors, labels, 70_000, 1))
    assert not np.array_equal(rows, grown(vectors, labels, 70_000, 2))


def test_small_galleries_hold_the_known_characters_and_large_ones_others_too() -> None:
    vectors, labels = _images()
    means = normalised(np.stack([vectors[labels == label].mean(axis=0) for label in range(20)]))
    few, many = (best_places(means, grown(vectors, labels, rows, 1), 1)[0][:, 0] for rows in (500, 70_000))
    assert float((few < 0.8).mean()) < 0.02
    assert float((many < 0.8).mean()) > 2 * float((few < 0.8).mean())


def test_rows_are_moved_only_where_rows_differ() -> None:
    vectors = np.zeros((200, DIM), dtype=np.float32)
    vectors[:, :3] = np.random.default_rng(3).normal(size=(200, 3))
    vectors = normalised(vectors)
    places = np.arange(50)
    moved = like_images(vectors, places, 7)
    assert np.allclose(np.linalg.norm(moved, axis=1), 1.0, atol=1e-5)
    assert not moved[:, 3:].any()
    cosines = (moved * vectors[places]).sum(axis=1)
    assert 0.8 < float(np.median(cosines)) < 0.99
    assert np.array_equal(moved, like_images(vectors, places, 7))
    same = np.repeat(vectors[:1], 9, axis=0)
    assert np.allclose(like_images(same, np.arange(9), 7), same)


def test_an_index_is_measured_with_both() -> None:
    vectors, labels = _images()
    rows, places = grown(vectors, labels, 900, 1), np.arange(0, 300, 3)
    asked: list[Vectors] = []

    def search(queries: Vectors, count: int, width: int) -> tuple[Vectors, NDArray[np.int64]]:
        del width
        asked.append(queries)
        return best_places(rows, queries, count)

    efforts = measure_efforts(search, rows, places, [1, 2])
    assert {kind: (effort.width, effort.recall) for kind, effort in efforts.items()} == {
        "image": (1, 1),
        "text": (1, 1),
    }
    images, texts = ((one * rows[places]).sum(axis=1) for one in asked)
    assert float(np.median(images)) > 0.8
    assert abs(float(np.median(texts))) < 0.3
    assert np.linalg.norm(asked[1].mean(axis=0)) < 0.3  # in all directions, not along an offset of their own


def test_texts_are_harder_to_search_with_than_images_that_were_moved() -> None:
    pytest.importorskip("faiss")
    vectors, labels = _images(60, 6)
    rows = grown(vectors, labels, 6000, 1)
    index = ApproximateIndex.build("ivf", rows, np.arange(6000))
    found = []
    for asked in (any_directions(200, DIM, 1), shifted(like_images(rows, np.arange(200), 1), 1)):
        truth = best_places(rows, asked, 10)[1]
        found.append(recall(index.search_within(asked, 10, 4)[1], truth))
        assert recall(index.search(asked, 10, "text")[1], truth) >= 0.95
    assert found[0] < found[1] - 0.02
    assert index.efforts["text"].width >= index.efforts["image"].width
