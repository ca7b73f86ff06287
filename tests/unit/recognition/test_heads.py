from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from naruto_vision.data.leaks import frame_runs
from naruto_vision.errors import InputError
from naruto_vision.gallery.content import GalleryRow
from naruto_vision.gallery.edits import remove_rows
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.gallery.thresholds import Thresholds
from naruto_vision.recognition.decision import Rule, recorded_rule
from naruto_vision.recognition.heads import (
    Head,
    compare_rules,
    cross_validate,
    describe_comparison,
    group_rows,
)
from naruto_vision.recognition.lookup import look_up, measure_threshold
from naruto_vision.records import Vectors

HEADS: tuple[Rule, ...] = ("centroid", "lda", "logreg")

NAMES = ("ayame", "kenta", "mira")


def _world(seed: int, count: int = 20, dim: int = 12) -> tuple[Vectors, list[str]]:
    """Classes that differ a little in three directions, under much larger differences that say nothing."""
    rng = np.random.default_rng(seed)
    labels = [name for name in NAMES for _ in range(count)]
    rows = rng.normal(size=(len(labels), dim)) * np.r_[0.1, 0.1, 0.1, np.ones(9), np.full(dim - 12, 0.01)]
    rows[np.arange(len(labels)), [NAMES.index(name) for name in labels]] += 0.5
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), labels


def _rows(labels: list[str]) -> list[GalleryRow]:
    return [GalleryRow(f"{label}/{number * 100}.png", label) for number, label in enumerate(labels)]


def _gallery(note: dict[str, Any] | None = None) -> Gallery:
    vectors, labels = _world(0)
    return Gallery.build(vectors, _rows(labels), fingerprint="0" * 64, note=note)


@pytest.mark.parametrize("rule", HEADS)
@pytest.mark.parametrize("dim", [12, 200])  # more rows than dimensions, and fewer
def test_heads_see_what_distances_do_not(rule: Rule, dim: int) -> None:
    vectors, labels = _world(0, dim=dim)
    queries, truth = _world(1, dim=dim)
    gallery = Gallery.build(vectors, _rows(labels), fingerprint="0" * 64)
    right = {}
    for decision in (rule, "vote"):
        found = look_up(gallery, queries, truth, "image", decision=decision)
        right[decision] = sum(one.identity.label == label for one, label in zip(found, truth, strict=True))
    assert right[rule] > right["vote"] + 5
    table = Head.fit(rule, vectors, labels).scores(queries)
    assert table.shape == (60, 3)
    assert np.abs(table).max() <= 1 + 1e-9


@pytest.mark.parametrize("dim", [12, 200])
def test_lda_whitens_by_the_covariance_of_ledoit_and_wolf(dim: int) -> None:
    vectors, labels = _world(0, dim=dim)
    rows = vectors.astype(np.float64)
    index = np.array([NAMES.index(label) for label in labels])
    means = np.stack([rows[index == number].mean(axis=0) for number in range(3)])
    residuals = rows - means[index]
    sample = residuals.T @ residuals / len(rows)
    target = np.trace(sample) / dim * np.eye(dim)
    noise = np.mean([((np.outer(row, row) - sample) ** 2).sum() for row in residuals]) / len(rows)
    shrink = min(1.0, noise / ((sample - target) ** 2).sum())
    assert 0 < shrink < 1
    precision = np.linalg.inv((1 - shrink) * sample + shrink * target)
    own, centred = means - rows.mean(axis=0), rows - rows.mean(axis=0)
    lengths = np.sqrt(np.einsum("nd,de,ne->n", centred, precision, centred))
    expected = centred @ precision @ own.T / np.outer(lengths, np.sqrt(np.diag(own @ precision @ own.T)))
    assert np.allclose(Head.fit("lda", vectors, labels).scores(vectors), expected, atol=1e-6)


def test_logistic_regression_is_at_its_optimum() -> None:
    vectors, labels = _world(0)
    head = Head.fit("logreg", vectors, labels, 1e-2)
    chances = head.scores(vectors)
    assert np.allclose(chances.sum(axis=1), 1)
    centred = vectors - vectors.mean(axis=0)
    scale = np.sqrt((centred**2).sum() / len(centred))
    wrong = (chances - np.eye(3)[[NAMES.index(label) for label in labels]]) / len(labels)
    assert np.allclose(centred.T @ wrong / scale + 1e-2 * head.classes * scale, 0, atol=1e-4)


def test_equal_rows_and_one_class_do_not_break_a_head() -> None:
    vectors = np.tile(np.eye(1, 4, dtype=np.float32), (3, 1))
    for rule in HEADS:
        for labels in (["a", "b", "b"], ["a", "a", "a"]):
            assert np.isfinite(Head.fit(rule, vectors, labels).scores(vectors)).all()


def test_the_best_rule_is_recorded_with_its_counts_and_used_by_search() -> None:
    vectors, labels = _world(0)
    found = compare_rules(vectors, _rows(labels))
    assert found["decision"] in HEADS
    assert found["of"] == 60
    best, vote = found["rules"][found["decision"]], found["rules"]["vote"]
    assert best["right"] > vote["right"]
    assert best["interval"][0] < best["right"] / 60 < best["interval"][1]
    assert describe_comparison(found).startswith(f"decision {found['decision']}: of 60 images named by the others, ")
    gallery, plain = _gallery({"heads": found}), _gallery()
    queries, truth = _world(1)
    auto = look_up(gallery, queries, truth, "image")
    assert auto == look_up(plain, queries, truth, "image", decision=found["decision"]) or found["decision"] == "logreg"
    assert auto != look_up(gallery, queries, truth, "image", decision="vote")
    assert look_up(gallery, queries, truth, "text") == look_up(plain, queries, truth, "text")  # knows images only
    threshold = measure_threshold(gallery)
    assert threshold.right == best["right"]
    assert threshold.score != measure_threshold(gallery, decision="vote").score


def test_of_equally_accurate_rules_the_one_that_shows_most_names_beside_unknown_classes_is_chosen() -> None:
    rng = np.random.default_rng(9)
    means = rng.normal(size=(6, 24))
    vectors = (np.repeat(means, 10, axis=0) + 0.9 * rng.normal(size=(60, 24))).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    found = compare_rules(vectors, _rows([f"class{number // 10}" for number in range(60)]))
    shown = {rule: row["shown"] for rule, row in found["rules"].items() if "shown" in row}
    assert shown[found["decision"]] == max(shown.values()) > min(shown.values())
    accurate = max(found["rules"], key=lambda rule: found["rules"][rule]["right"])
    assert found["decision"] != accurate  # by accuracy alone another one would have been chosen
    assert f"shown are {found['decision']} {max(shown.values())}" in describe_comparison(found)


def test_a_tie_and_a_small_gallery_take_votes() -> None:
    vectors, labels = _world(0, count=6)
    assert compare_rules(vectors, _rows(labels)) == {"decision": "vote", "of": 18, "rules": {}}
    assert describe_comparison(compare_rules(vectors, _rows(labels))).endswith("which takes 20 images; found 18")
    assert "not compared on one class" in describe_comparison(compare_rules(vectors, _rows(["a"] * len(labels))))
    corners = np.repeat(np.eye(3, 9, dtype=np.float32), 12, axis=0) + 0.05 * np.random.default_rng(0).normal(
        size=(36, 9)
    )
    corners = (corners / np.linalg.norm(corners, axis=1, keepdims=True)).astype(np.float32)
    names = [name for name in NAMES for _ in range(12)]
    found = compare_rules(corners, _rows(names))
    assert (found["decision"], found["rules"]["vote"]["right"]) == ("vote", 36)
    assert compare_rules(corners, _rows(["ayame"] * 36))["decision"] == "vote"


def test_near_duplicates_variants_and_frames_of_a_shot_are_tested_together() -> None:
    vectors = np.eye(6, dtype=np.float32)
    vectors[1] = vectors[0]
    rows = [GalleryRow(f"{name}.png", "a") for name in "abcde"] + [GalleryRow("e.png", "a", "gamma")]
    groups = group_rows(vectors, rows).tolist()
    assert groups[0] == groups[1]
    assert groups[4] == groups[5]
    assert len(set(groups)) == 4
    shots = group_rows(vectors, rows, [None, "x", "x", None, None, None]).tolist()
    assert shots[0] == shots[1] == shots[2]
    assert len(set(shots)) == 3


def test_a_class_of_one_group_is_taken_apart_into_its_images() -> None:
    vectors = np.tile(np.eye(1, 4, dtype=np.float32), (4, 1))
    rows = [GalleryRow("1.png", "a"), GalleryRow("1.png", "a", "gamma"), GalleryRow("2.png", "a"), GalleryRow("", "a")]
    groups = group_rows(vectors, rows).tolist()
    assert groups[0] == groups[1]
    assert len(set(groups)) == 3


def test_a_copy_in_the_fit_would_make_votes_look_perfect() -> None:
    vectors, labels = _world(0)
    twice = [GalleryRow(f"{i}.png", label, aug) for aug in ("none", "gamma") for i, label in enumerate(labels)]
    (vote,) = cross_validate([("vote", None)], np.concatenate([vectors, vectors]), twice)
    (alone,) = cross_validate([("vote", None)], vectors, _rows(labels))
    assert vote.rate.total == 2 * alone.rate.total
    assert vote.rate.count < 0.9 * vote.rate.total


def test_frames_of_one_ten_are_a_run_and_counters_are_not() -> None:
    frames = frame_runs([GalleryRow(f"show_{number}.png", "a") for number in (10, 12, 19, 20)])
    assert frames[0] == frames[1] == frames[2] != frames[3]
    counters = [GalleryRow(f"{label}/{number}.png", label) for label in "ab" for number in range(4)]
    assert frame_runs(counters) == [None] * 8


def test_a_head_follows_the_edits_of_its_gallery() -> None:
    gallery = _gallery({"heads": {"decision": "lda"}})
    queries, truth = _world(1)
    fewer = gallery.edited(remove_rows, range(20))
    assert {one.identity.label for one in look_up(fewer, queries, truth, "image")} == {"kenta", "mira"}
    assert {one.identity.label for one in look_up(gallery, queries, truth, "image")} == set(NAMES)


def test_the_rule_is_that_of_the_thresholds_then_that_of_enrolment_then_votes() -> None:
    gallery = _gallery({"heads": {"decision": "lda"}})
    assert recorded_rule(gallery) == "lda"
    assert recorded_rule(gallery, "top1") == "top1"
    assert recorded_rule(gallery.with_thresholds(Thresholds(0.5, decision="max"))) == "max"
    assert recorded_rule(gallery.with_thresholds(Thresholds(0.5))) == "vote"  # of an old gallery
    assert recorded_rule(_gallery()) == "vote"
    with pytest.raises(InputError, match="found 'oracle'"):
        recorded_rule(replace_note(gallery, {"heads": {"decision": "oracle"}}))


def replace_note(gallery: Gallery, note: dict[str, Any]) -> Gallery:
    line = {**gallery.content.ledger[0], "note": note}
    return Gallery(replace(gallery.content, ledger=(line,)), gallery.index)
