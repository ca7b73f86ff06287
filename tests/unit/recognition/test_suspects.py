"""Suspects: rows under a wrong label are found by the others, and a class keeps some rows."""

import numpy as np
import pytest

from naruto_vision.gallery.content import GalleryRow
from naruto_vision.recognition.suspects import find_suspects
from naruto_vision.records import Vectors


def clusters(each: int, spread: float, seed: int = 0) -> Vectors:
    """Draw four clusters of unit rows (4 * each, 24)."""
    rng = np.random.default_rng(seed)
    values = np.repeat(np.linalg.qr(rng.normal(size=(24, 24)))[0][:4], each, axis=0)
    values = values + rng.normal(size=values.shape) * spread
    return np.asarray(values / np.linalg.norm(values, axis=1, keepdims=True), dtype=np.float32)


def rows_of(labels: list[str]) -> list[GalleryRow]:
    return [GalleryRow(f"{number}.png", label) for number, label in enumerate(labels)]


def test_changed_labels_are_found_with_the_true_one() -> None:
    labels = [name for name in "abcd" for _ in range(20)]
    assert find_suspects(clusters(20, 0.1), rows_of(labels)) == []
    wrong = {3: "b", 4: "c", 25: "d", 47: "a", 61: "a", 79: "b"}
    changed = [wrong.get(number, label) for number, label in enumerate(labels)]
    found = find_suspects(clusters(20, 0.1), rows_of(changed))
    rivals = {one.number: one.rival for one in found}
    assert {number: rivals.get(number) for number in wrong} == {number: labels[number] for number in wrong}
    assert len(found) <= len(wrong) + 1
    assert all(one.label == changed[one.number] and one.own < one.chance for one in found)
    leads = [one.own - one.chance for one in found]
    assert leads == sorted(leads)


@pytest.mark.parametrize("spread", [0.005, 0.1])  # near duplicates, and others
def test_a_label_with_near_duplicates_keeps_them(spread: float) -> None:
    labels = ["a"] * 3 + ["b"] * 3 + ["c"] * 3 + ["d"] * 3
    labels[1] = "b"
    assert [one.number for one in find_suspects(clusters(3, spread), rows_of(labels))] == [1]


def test_a_label_keeps_three_rows() -> None:
    labels = ["a"] * 8 + ["b"] * 3 + ["c"] * 11 + ["d"] * 10
    vectors = clusters(11, 0.15)[[*range(11), *range(11, 22), *range(22, 32)]]
    assert "b" not in {one.label for one in find_suspects(vectors, rows_of(labels))}  # all three of b look like a
    labels[7] = "b"
    assert [one.label for one in find_suspects(vectors, rows_of(labels))].count("b") == 1


def test_one_label_has_no_suspects() -> None:
    assert find_suspects(clusters(2, 0.1), rows_of(["a"] * 8)) == []
