"""Trials, selections, choices of an index, edits and thresholds: each against the plainest way to get the same."""

import logging
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from naruto_vision.cli.bench import normalised
from naruto_vision.errors import InputError, MissingPackageError
from naruto_vision.gallery import index as search_module
from naruto_vision.gallery.content import GalleryContent, GalleryRow, build_content
from naruto_vision.gallery.edits import add_rows, change_thresholds, note_index, relabel_rows, remove_rows, roll_back
from naruto_vision.gallery.enrolment import (
    Enrolment,
    EnrolmentConfig,
    sample_candidates,
    select_rows,
)
from naruto_vision.gallery.index import FLAT_ROWS, IndexChoice, IndexKind, VectorIndex, choose_kind, exact_scores
from naruto_vision.gallery.store import recover, writer_lock
from naruto_vision.gallery.thresholds import NONE_RULE, Thresholds, best_threshold, calibrate_thresholds
from naruto_vision.records import Vectors

_QUICK = settings(max_examples=40, deadline=None, derandomize=True)
PRINT = "ab" * 32


def _units(count: int, dim: int = 6, seed: int = 0) -> Vectors:
    return normalised(np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32))


def _rows(count: int) -> list[GalleryRow]:
    return [GalleryRow(f"{k}.png", "abc"[k % 3]) for k in range(count)]


def _content(count: int = 6) -> GalleryContent:
    return build_content(_units(count), _rows(count), PRINT, Thresholds())


def _is_unit(vectors: Vectors) -> bool:
    return vectors.dtype == np.float32 and bool(np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5))


@_QUICK
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 30)), max_size=40, unique=True), st.integers(0, 4))
def test_samples_hold_at_most_the_candidates_of_each_class(images: list[tuple[str, int]], cap: int) -> None:
    named = [(label, f"{number}.png") for label, number in images]
    plan = EnrolmentConfig(max_per_class=cap, presample=2, seed=1)
    places = sample_candidates(named, plan)
    assert places == sorted(set(places))
    for label in "abc":
        listed = [place for place, (name, _) in enumerate(named) if name == label]
        chosen = [place for place in places if named[place][0] == label]
        assert len(chosen) == (len(listed) if cap == 0 else min(len(listed), 2 * cap))
    backwards = sample_candidates(named[::-1], plan)
    assert {named[place] for place in places} == {named[::-1][place] for place in backwards}


@_QUICK
@given(st.integers(1, 20), st.integers(0, 3), st.sampled_from([0.0, 0.5, 0.9]), st.integers(0, 99))
def test_a_selection_adds_up_and_keeps_to_its_cap(count: int, cap: int, bar: float, seed: int) -> None:
    vectors, rows = _units(count, 3, seed), _rows(count)
    plan = EnrolmentConfig(max_per_class=cap, dedup_threshold=bar)
    indices, counts = select_rows(vectors, rows, plan)
    kept = [rows[place] for place in indices]
    assert [row.path for row in kept] == sorted(row.path for row in kept)
    assert counts["kept"] == len(kept)
    assert counts["images"] == count
    if cap:
        assert max(sum(row.label == name for row in kept) for name in "abc") <= cap
    if bar == 0.0:
        assert counts["near_duplicates"] == 0
    order = np.random.default_rng(seed).permutation(count)
    again, _ = select_rows(vectors[order], [rows[k] for k in order], plan)
    assert [rows[order[place]] for place in again] == kept


@pytest.mark.parametrize(
    ("choice", "rows", "stored", "kind"),
    [
        ("exact", 10, "hnsw", "exact"),
        ("flat", 10, None, "faiss"),
        ("faiss", 10**9, "ivf", "faiss"),
        ("hnsw", 1, None, "hnsw"),
        ("ivf", 1, "faiss", "ivf"),
        ("auto", FLAT_ROWS, None, "faiss"),
        ("auto", FLAT_ROWS + 1, None, "ivf"),
        ("auto", FLAT_ROWS + 1, "faiss", "faiss"),
        ("auto", 5, "hnsw", "hnsw"),
        ("auto", 5, "exact", "faiss"),
    ],
)
def test_which_index_searches(
    monkeypatch: pytest.MonkeyPatch, choice: IndexChoice, rows: int, stored: IndexKind | None, kind: IndexKind
) -> None:
    monkeypatch.setattr(search_module, "has_package", lambda _: True)
    monkeypatch.setattr(search_module, "require_package", lambda *_: None)
    assert choose_kind(choice, rows, stored) == kind


def test_without_faiss_auto_is_exact_and_says_so_and_others_are_refused(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(name: str, extra: str) -> None:
        raise MissingPackageError(name, extra)

    monkeypatch.setattr(search_module, "has_package", lambda _: False)
    monkeypatch.setattr(search_module, "require_package", refuse)
    with caplog.at_level(logging.WARNING):
        assert choose_kind("auto", 10**9, "ivf") == "exact"
    assert "FAISS is not installed: exact NumPy search" in caplog.text
    for choice in ("flat", "faiss", "hnsw", "ivf"):
        with pytest.raises(MissingPackageError, match=r"naruto-vision\[cpu\]"):
            choose_kind(choice)
    assert choose_kind("exact") == "exact"


@_QUICK
@given(st.integers(1, 25), st.integers(1, 30), st.integers(1, 4), st.integers(0, 99))
def test_nearest_rows_are_those_of_a_full_sort(rows: int, count: int, queries: int, seed: int) -> None:
    vectors = _units(rows, 4, seed)
    vectors[rows // 2] = vectors[0]  # a tie
    asked = _units(queries, 4, seed + 1)
    found = VectorIndex.build("exact", vectors).search(asked, count)
    for query, (scores, places) in zip(asked, found, strict=True):
        exact = exact_scores(vectors, query.astype(np.float64))
        order = sorted(range(rows), key=lambda place: (-exact[place], place))[:count]
        assert places.tolist() == order
        assert scores.tolist() == [exact[place] for place in order]


def test_scores_do_not_depend_on_the_batch() -> None:
    vectors, query = _units(300, 64), _units(1, 64, 9)[0].astype(np.float64)
    whole = exact_scores(vectors, query)
    assert [float(exact_scores(vectors[k : k + 1], query)[0]) for k in range(0, 300, 37)] == whole[::37].tolist()
    assert exact_scores(vectors[:1] * 3, vectors[0].astype(np.float64)).tolist() == [1.0]  # never beyond a cosine


def test_edits_give_the_next_generation_and_leave_this_one() -> None:
    content = _content()
    before = content.digest()
    added = add_rows(content, _units(2, seed=5), [GalleryRow("x", "new"), GalleryRow("y", "a")])
    assert added.ids.tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    assert (added.next_id, added.generation, added.ledger[-1]["added"]) == (8, 2, [[6, 7]])
    fewer = remove_rows(added, [7, 0])
    assert fewer.ids.tolist() == [1, 2, 3, 4, 5, 6]
    again = add_rows(fewer, _units(1, seed=6), [GalleryRow("z", "a")])
    assert again.ids.tolist() == [1, 2, 3, 4, 5, 6, 8]  # an id is never given twice
    assert content.digest() == before


def test_a_row_that_is_named_twice_is_removed_once() -> None:
    fewer = remove_rows(_content(), [2, 2, 0])
    assert fewer.ids.tolist() == [1, 3, 4, 5]
    assert [row[0] for row in fewer.ledger[-1]["removed"]] == [0, 2]


def test_relabelling_counts_only_rows_that_change() -> None:
    changed = relabel_rows(_content(), [0, 1, 3], "a")
    assert [row.label for row in changed.rows] == ["a", "a", "c", "a", "b", "c"]
    assert changed.ledger[-1]["relabelled"] == [[1, "b", "a"]]
    with pytest.raises(InputError, match="all of these entries are 'a' already"):
        relabel_rows(changed, [0, 1], "a")


@pytest.mark.parametrize(
    ("vectors", "rows"),
    [(_units(1), []), (np.zeros((0, 6), np.float32), []), (_units(1), _rows(2)), (_units(2, 5), _rows(2))],
)
def test_rows_that_do_not_go_with_their_vectors_are_not_added(vectors: Vectors, rows: list[GalleryRow]) -> None:
    with pytest.raises(InputError, match=rf"add: expected {len(rows)} vectors of length 6, at least one"):
        add_rows(_content(), vectors, rows)


def test_a_rollback_over_everything_brings_back_rows_names_and_thresholds() -> None:
    content = change_thresholds(_content(), Thresholds(0.5))
    changed = add_rows(relabel_rows(remove_rows(content, [1, 4]), [0], "z"), _units(1, seed=8), [GalleryRow("n", "n")])
    changed = note_index(change_thresholds(changed, Thresholds(0.9)), "ivf")
    back = roll_back(changed, 2)
    assert back.digest() == content.digest()
    assert (back.generation, back.ledger[-1]["op"], back.ledger[-1]["to"]) == (8, "rollback", 2)
    assert roll_back(back, 7).digest() == changed.digest()
    for generation in (0, 8, 99):
        with pytest.raises(InputError, match=f"a generation from 1 to 7.*{generation}"):
            roll_back(back, generation)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_thresholds_are_finite_numbers(value: float) -> None:
    for wrong in ({"default": value}, {"classes": {"a": value}}):
        with pytest.raises(ValueError, match="thresholds: expected finite numbers, found"):
            Thresholds(**wrong)


def test_thresholds_of_nothing_judge_nobody() -> None:
    free = Thresholds()
    assert (free.chosen, free.rule, free.threshold("a")) == (False, NONE_RULE, None)
    assert "decision" not in free.as_json()
    assert msgspec.convert(free.as_json(), Thresholds) == free
    own = Thresholds(None, {"b": 0.5, "a": 1}, decision="mean")
    assert (own.chosen, own.threshold("b"), own.threshold("z")) == (True, 0.5, None)
    assert list(own.as_json()["classes"]) == ["a", "b"]
    assert msgspec.convert(own.as_json(), Thresholds) == own


@pytest.mark.parametrize(
    ("scores", "right", "labels"), [([0.5], [True, False], ["a"]), ([0.5, 0.6], [True, False], ["a"])]
)
def test_judgements_of_other_numbers_are_refused(scores: list[float], right: list[bool], labels: list[str]) -> None:
    with pytest.raises(ValueError, match=rf"{len(scores)} scores, {len(right)} judgements, {len(labels)} labels"):
        calibrate_thresholds(scores, right, labels)


@pytest.mark.parametrize(
    ("scores", "right"), [([0.5, 0.6], [True, True]), ([0.5, 0.6], [False, False]), ([0.5, np.nan], [True, False])]
)
def test_no_cut_between_scores_of_one_kind(scores: Sequence[float], right: Sequence[bool]) -> None:
    with pytest.raises(ValueError, match="expected finite scores, some right and some wrong"):
        best_threshold(np.array(scores), np.array(right))


def test_an_enrolment_of_uneven_parts_is_refused_and_tells_what_it_left_out(caplog: pytest.LogCaptureFixture) -> None:
    one = Enrolment()
    for wrong in ((["a"], ["p", "q"], None), (["a", "b"], ["p"], None), (["a", "b"], ["p", "q"], ["none"])):
        with pytest.raises(ValueError, match="enrolment: 2 vectors"):
            one.add(torch.eye(2), *wrong)
    one.add(torch.eye(2), ["a", "a"], ["p", "q"])
    with caplog.at_level(logging.INFO):
        gallery = one.build(PRINT, "exact", EnrolmentConfig(max_per_class=1), {"enrolment": {"listed": 2}})
    assert "1 of 2 images enrolled (0 near duplicates and 1 over the cap of a class left out)" in caplog.text
    assert gallery.note["enrolment"] == {"listed": 2, "images": 2, "near_duplicates": 0, "over_cap": 1, "kept": 1}


def test_a_lock_keeps_a_second_writer_out_and_is_let_go(tmp_path: Path) -> None:
    with writer_lock(tmp_path / "not there yet"):
        pass
    with (
        writer_lock(tmp_path),
        pytest.raises(InputError, match=r"process \d+ is changing this gallery"),
        writer_lock(tmp_path),
    ):
        pass
    with writer_lock(tmp_path):
        pass


def test_recovering_a_folder_that_is_no_gallery_removes_leftovers_only(tmp_path: Path) -> None:
    (tmp_path / ".tmp-half").write_bytes(b"x")
    (tmp_path / "mine.txt").write_text("mine")
    recover(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]
