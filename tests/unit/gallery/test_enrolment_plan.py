"""Caps, near duplicates and variants: what stays depends on names, vectors and the seed, never on the order."""

import numpy as np
import pytest

from naruto_vision.gallery.content import GalleryRow
from naruto_vision.gallery.enrolment import (
    EnrolmentConfig,
    keep_first_of_duplicates,
    sample_candidates,
    select_rows,
)
from naruto_vision.records import Vectors


def units(count: int, dim: int = 16, seed: int = 0) -> Vectors:
    values = np.random.default_rng(seed).normal(size=(count, dim))
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def rows_of(*classes: tuple[str, int]) -> list[GalleryRow]:
    return [GalleryRow(f"{label}/{number:03d}.png", label) for label, count in classes for number in range(count)]


def near(vector: Vectors, cosine: float, seed: int = 9) -> Vectors:
    """Return a unit vector that has this cosine with another."""
    other = np.random.default_rng(seed).normal(size=vector.shape)
    other -= (other @ vector) * vector
    other /= np.linalg.norm(other)
    return (cosine * vector + np.sqrt(1 - cosine**2) * other).astype(np.float32)


def test_three_times_the_cap_is_drawn_of_each_class() -> None:
    images = [(row.label, row.path) for row in rows_of(("a", 50), ("b", 4), ("c", 12))]
    plan = EnrolmentConfig(max_per_class=4, presample=3)
    chosen = sample_candidates(images, plan)
    labels = [images[place][0] for place in chosen]
    assert {label: labels.count(label) for label in "abc"} == {"a": 12, "b": 4, "c": 12}
    assert chosen == sorted(set(chosen))
    assert chosen == sample_candidates(images, plan)
    assert chosen[:12] != list(range(12))  # not simply the first frames of the class
    assert chosen != sample_candidates(images, EnrolmentConfig(max_per_class=4, seed=1))
    assert sample_candidates(images, EnrolmentConfig()) == list(range(66))


def test_a_new_image_moves_at_most_one_other_out_of_the_sample() -> None:
    images = [("a", f"{number}.png") for number in range(40)]
    plan = EnrolmentConfig(max_per_class=3)
    before = {images[place] for place in sample_candidates(images, plan)}
    more = [("a", "new.png"), *images]
    after = {more[place] for place in sample_candidates(more, plan)}
    assert len(before - after) <= 1


def test_the_cap_holds_after_duplicates_are_gone_in_any_order_of_rows() -> None:
    rows = rows_of(("a", 30), ("b", 3))
    vectors = units(33)
    vectors[10] = vectors[0]
    plan = EnrolmentConfig(max_per_class=8, dedup_threshold=0.998)
    indices, counts = select_rows(vectors, rows, plan)
    kept = [rows[place].path for place in indices]
    assert counts == {"images": 33, "near_duplicates": 1, "over_cap": 21, "kept": 11}
    assert kept == sorted(kept)
    order = np.random.default_rng(3).permutation(33)
    again, _ = select_rows(vectors[order], [rows[place] for place in order], plan)
    assert [rows[order[place]].path for place in again] == kept


def test_near_duplicates_of_a_class_go_and_the_first_by_path_stays() -> None:
    rows = rows_of(("a", 4), ("b", 1))
    vectors = units(5)
    vectors[1], vectors[3] = near(vectors[0], 0.9985), near(vectors[0], 0.995)
    vectors[4] = vectors[0]  # of another class: that is a quarrel about labels, not a duplicate
    indices, counts = select_rows(vectors, rows, EnrolmentConfig(dedup_threshold=0.998))
    assert indices == [0, 2, 3, 4]
    assert counts["near_duplicates"] == 1
    assert select_rows(vectors, rows, EnrolmentConfig(dedup_threshold=0.985))[0] == [0, 2, 4]
    assert select_rows(vectors, rows, EnrolmentConfig())[0] == [0, 1, 2, 3, 4]


def slow_greedy(vectors: Vectors, threshold: float) -> list[bool]:
    kept: list[int] = []
    for row in range(len(vectors)):
        if all(float(vectors[row] @ vectors[other]) < threshold for other in kept):
            kept.append(row)
    return [row in kept for row in range(len(vectors))]


@pytest.mark.parametrize("threshold", [0.6, 0.9])
def test_blocks_give_what_one_by_one_gives(threshold: float) -> None:
    vectors = np.repeat(units(40, 4), 15, axis=0)[np.random.default_rng(1).permutation(600)]
    kept = keep_first_of_duplicates(vectors, threshold)
    assert kept.tolist() == slow_greedy(vectors, threshold)
    assert 0 < kept.sum() <= 40


def test_what_resembles_only_a_dropped_image_stays() -> None:
    angles = np.deg2rad([0.0, 20.0, 40.0])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    assert keep_first_of_duplicates(vectors, float(np.cos(np.deg2rad(25)))).tolist() == [True, False, True]


def test_variants_stay_or_go_with_their_image_and_do_not_count_for_the_cap() -> None:
    rows = [GalleryRow(f"{n}.png", "a", aug) for n in range(6) for aug in ("gamma", "none")]
    vectors = np.repeat(units(6), 2, axis=0)
    indices, counts = select_rows(vectors, rows, EnrolmentConfig(max_per_class=4, dedup_threshold=0.998, gamma="add"))
    assert counts == {"images": 6, "near_duplicates": 0, "over_cap": 2, "kept": 4}
    kept = [rows[place] for place in indices]
    assert [row.aug for row in kept] == ["none", "gamma"] * 4
    assert len({row.path for row in kept}) == 4


@pytest.mark.parametrize(
    "wrong",
    [{"max_per_class": -1}, {"presample": 0}, {"dedup_threshold": -0.1}, {"dedup_threshold": 1.1}, {"seed": -1}],
)
def test_numbers_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        EnrolmentConfig(**wrong)  # type: ignore[arg-type]
