"""Rules of naming, calibration and picking against plain loops, and the small things that a run tells."""

import json
import math
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from naruto_vision.errors import InputError
from naruto_vision.gallery.content import GalleryRow
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.gallery.thresholds import Thresholds
from naruto_vision.geometry import mask_from_rle
from naruto_vision.io.typed_json import read_json_lines
from naruto_vision.recognition.decision import (
    Decision,
    ScoredRegion,
    check_decision,
    decide,
    score_regions,
    thresholds_from,
)
from naruto_vision.recognition.heads import Head, score_classes
from naruto_vision.recognition.lookup import look_up
from naruto_vision.recognition.merging import MergeConfig, common_pixels, merge_parts, touch, union_of
from naruto_vision.recognition.writer import (
    SceneLog,
    as_line,
    forget_changed,
    latency_percentiles,
    merge_logs,
    overlay_document,
    prediction_document,
    record_document,
    software_versions,
)
from naruto_vision.records import Box, Identity, LabelledBox, Mask, Neighbour, Region, ScenePrediction, Vectors
from naruto_vision.viz.overlay import OverlayConfig, choose_for_overlay, labelled_boxes

_QUICK = settings(max_examples=50, deadline=None, derandomize=True)
_ROW = st.tuples(st.sampled_from("abc"), st.integers(0, 20).map(lambda k: 0.5 + k / 50))  # near enough to outvote
_SIDE = 24


def _units(count: int, dim: int = 4, seed: int = 0) -> Vectors:
    vectors = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def _neighbours(rows: Sequence[tuple[str, float]]) -> list[Neighbour]:
    ordered = sorted(rows, key=lambda row: -row[1])
    return [Neighbour(k, label, score) for k, (label, score) in enumerate(ordered)]


def _best(rows: Sequence[Neighbour]) -> dict[str, float]:
    return {label: max(row.score for row in rows if row.label == label) for label in {row.label for row in rows}}


@_QUICK
@given(st.lists(_ROW, min_size=1, max_size=12))
def test_votes_are_those_of_a_plain_sum(rows: list[tuple[str, float]]) -> None:
    neighbours = _neighbours(rows)
    top = neighbours[0].score
    votes: dict[str, float] = {}
    for row in neighbours:
        votes[row.label] = votes.get(row.label, 0.0) + math.exp((row.score - top) / 0.05)
    found = decide(neighbours, Thresholds())
    assert votes[found.label] == max(votes.values())
    assert found.score == _best(neighbours)[found.label]
    assert found.neighbours == tuple(neighbours)


@_QUICK
@given(st.lists(_ROW, min_size=1, max_size=12), st.sampled_from(["vote", "top1", "max"]))
def test_margins_are_over_the_best_other_label(rows: list[tuple[str, float]], decision: Decision) -> None:
    neighbours = _neighbours(rows)
    found, best = decide(neighbours, Thresholds(), decision), _best(neighbours)
    others = [score for label, score in best.items() if label != found.label]
    assert found.margin == (found.score - max(others) if others else None)
    if decision != "vote":
        assert found.score == max(best.values())


@pytest.mark.parametrize(
    ("default", "classes", "known"),
    [(None, {}, True), (0.5, {}, True), (0.51, {}, False), (0.9, {"a": 0.5}, True), (None, {"a": 0.6}, False)],
)
def test_a_class_of_its_own_threshold_is_judged_by_that(
    default: float | None, classes: dict[str, float], known: bool
) -> None:
    found = decide([Neighbour(0, "a", 0.5)], Thresholds(default, classes))
    assert (found.known, found.label, found.name) == (known, "a", "a" if known else "unknown")


def test_equal_class_scores_go_to_the_first_name() -> None:
    rows = [Neighbour(0, "b", 0.9)]
    assert decide(rows, Thresholds(), "mean", {"b": 0.5, "a": 0.5}).label == "a"
    assert decide(rows, Thresholds(), "prototype", {"b": 0.5}).margin is None


@_QUICK
@given(st.integers(1, 10), st.integers(1, 3), st.integers(0, 99))
def test_class_scores_are_those_of_a_plain_loop(count: int, queries: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    vectors, asked = _units(count, seed=seed), _units(queries, seed=seed + 1)
    labels = [str(rng.integers(3)) for _ in range(count)]
    names = sorted(set(labels))
    for unit in (False, True):
        found = Head.fit("prototype" if unit else "mean", vectors, labels).by_label(asked)
        for query, scores in zip(asked, found, strict=True):
            assert list(scores) == names
            for label in names:
                mean = np.mean([v for v, name in zip(vectors, labels, strict=True) if name == label], axis=0)
                length = float(np.linalg.norm(mean)) if unit else 1.0
                assert scores[label] == pytest.approx(float(query @ mean) / length, abs=1e-5)


def test_rows_that_cancel_out_have_no_direction_and_no_score() -> None:
    head = Head.fit("prototype", np.array([[1, 0], [-1, 0]], np.float32), ["a", "a"])
    assert head.by_label(np.array([[1, 0]], np.float32)) == [{"a": 0.0}]


def test_centres_of_a_gallery_are_those_of_its_rows() -> None:
    vectors = _units(3)
    gallery = Gallery.build(vectors, [GalleryRow(str(k), "bab"[k]) for k in range(3)], fingerprint="0" * 64)
    (scores,) = score_classes(gallery, "mean", vectors[1:2])
    mean = (gallery.vectors[0] + gallery.vectors[2]) / 2
    assert scores == pytest.approx({"a": 1.0, "b": float(vectors[1] @ mean)}, abs=1e-6)


def _region(box: Box, prompt: str = "") -> Region:
    return Region(box, np.ones((box[3] - box[1] + 1, box[2] - box[0] + 1), np.bool_), 0.75, 0.5, prompt)


def _scene(*found: tuple[Box, str, float, bool]) -> ScenePrediction:
    identities = tuple(Identity(label, score, known) for _, label, score, known in found)
    return ScenePrediction("dir/s.png", 100, 90, tuple(_region(box) for box, *_ in found), identities)


def _judged(box: Box, label: str, *truth: LabelledBox) -> list[ScoredRegion]:
    return score_regions(_scene((box, label, 0.5, True)), truth)


@pytest.mark.parametrize(
    ("box", "label", "right"),
    [
        ((10, 10, 49, 49), "a", [True]),
        ((10, 10, 49, 49), "b", [False]),
        ((10, 10, 49, 29), "a", [True]),  # an IoU of exactly one half
        ((10, 10, 49, 28), "a", []),  # a little less: a part under its own name says nothing
        ((10, 10, 49, 28), "b", [False]),
        ((60, 60, 89, 89), "a", [False]),
        ((10, 2, 19, 21), "a", [False]),  # six tenths inside are no part
        ((10, 6, 19, 25), "a", []),  # eight tenths are
    ],
)
def test_every_region_is_evidence_unless_it_is_a_part_under_its_own_name(
    box: Box, label: str, right: list[bool]
) -> None:
    assert [one.right for one in _judged(box, label, LabelledBox((10, 10, 49, 49), "a"))] == right


def test_the_figure_that_overlaps_most_says_what_is_right() -> None:
    truth = (LabelledBox((0, 0, 19, 29), "a"), LabelledBox((0, 0, 19, 19), "b"))
    assert [one.right for one in _judged((0, 0, 19, 20), "b", *truth)] == [True]
    assert [one.right for one in _judged((0, 0, 19, 27), "b", *truth)] == [False]


def test_a_scene_without_figures_makes_every_region_wrong() -> None:
    assert _judged((0, 0, 9, 9), "a") == [ScoredRegion("a", 0.5, right=False)]
    assert score_regions(_scene(), [LabelledBox((0, 0, 9, 9), "a")]) == []


@_QUICK
@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 1, width=16), st.booleans()), max_size=20), st.randoms())
def test_the_order_of_the_evidence_changes_no_threshold(rows: list[tuple[str, float, bool]], random: Random) -> None:
    scored = [ScoredRegion(label, score, right) for label, score, right in rows]
    shuffled = list(scored)
    random.shuffle(shuffled)
    assert thresholds_from(shuffled, "vote") == thresholds_from(scored, "vote")


def test_chosen_thresholds_remember_their_rule_of_naming_and_hold_for_no_other() -> None:
    chosen = thresholds_from([ScoredRegion("a", 0.9, right=True), ScoredRegion("a", 0.1, right=False)], "mean")
    assert chosen.decision == "mean"
    assert chosen.default == pytest.approx(0.5)
    check_decision(chosen, "mean")
    check_decision(Thresholds(), "vote")
    check_decision(Thresholds(0.5), "vote")
    with pytest.raises(
        InputError, match=r"model\.decision vote: the gallery's thresholds were chosen for mean; .*again"
    ):
        check_decision(chosen, "vote")


_BOX = st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(0, 29), st.integers(0, 29)).map(
    lambda v: (v[0], v[1], v[0] + v[2], v[1] + v[3])
)
_FOUND = st.lists(st.tuples(_BOX, st.sampled_from("ab"), st.floats(-1, 1, width=16), st.booleans()), max_size=8)


def _iou(one: Box, other: Box) -> float:
    wide = min(one[2], other[2]) - max(one[0], other[0]) + 1
    tall = min(one[3], other[3]) - max(one[1], other[1]) + 1
    shared = max(wide, 0) * max(tall, 0)
    area = sum((box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (one, other))
    return shared / (area - shared)


@_QUICK
@given(_FOUND, st.floats(0.05, 1.0), st.floats(-1, 1), st.booleans())
def test_what_is_shown_is_what_a_plain_loop_keeps(
    found: list[tuple[Box, str, float, bool]], nms: float, bar: float, unknown: bool
) -> None:
    scene = _scene(*found)
    shown = choose_for_overlay(scene, OverlayConfig(nms_iou=nms, min_score=bar, show_unknown=unknown))
    kept: list[int] = []
    for index in sorted(range(len(found)), key=lambda i: (not found[i][3], -found[i][2])):
        box, _, score, known = found[index]
        if score >= bar and (known or unknown) and all(_iou(box, found[other][0]) < nms for other in kept):
            kept.append(index)
    assert shown == tuple(kept)


@_QUICK
@given(_FOUND, st.integers(0, 5), st.booleans())
def test_picks_are_few_distinct_and_among_what_is_shown(
    found: list[tuple[Box, str, float, bool]], most: int, different: bool
) -> None:
    scene = _scene(*found)
    everything = choose_for_overlay(scene, OverlayConfig())
    settings_ = OverlayConfig(top_k=most, prefer_different_label=different)
    picks = choose_for_overlay(scene, settings_)
    assert set(picks) <= set(everything)
    assert len(set(picks)) == len(picks) == min(most, len(everything))  # nms at 0.3 leaves none that pick_iou drops
    known = [found[index][3] for index in picks]
    assert known == sorted(known, reverse=True)
    if not different:
        assert picks == everything[: len(picks)]


@pytest.mark.parametrize("wrong", [{"steps": ()}, {"steps": (0.5, 0.6)}, {"within": -0.1}, {"top_k": -1}])
def test_impossible_limits_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="overlay: expected falling steps, top_k and within >= 0"):
        OverlayConfig(**wrong)  # type: ignore[arg-type]  # one field of each type
    OverlayConfig(steps=(0.5, 0.5), within=0.0, top_k=0)


def test_boxes_for_measuring_carry_what_people_see_or_the_best_label() -> None:
    scene = _scene(((0, 0, 9, 9), "a", 0.9, True), ((20, 0, 29, 9), "b", 0.2, False))
    assert [one.label for one in labelled_boxes(scene, named=True)] == ["a", "unknown"]
    assert labelled_boxes(scene, named=False)[1] == LabelledBox((20, 0, 29, 9), "b", 0.2)


def _mask_region(seed: int, box: Box) -> Region:
    height, width = box[3] - box[1] + 1, box[2] - box[0] + 1
    return Region(box, np.random.default_rng(seed).random((height, width)) < 0.4)


_SMALL = st.tuples(st.integers(0, 12), st.integers(0, 12), st.integers(0, 11), st.integers(0, 11)).map(
    lambda v: (v[0], v[1], v[0] + v[2], v[1] + v[3])
)


def _distance(one: Mask, other: Mask) -> float:
    """Largest of row and column distance between the nearest pixels of two masks."""
    a, b = np.argwhere(one), np.argwhere(other)
    if not len(a) or not len(b):
        return math.inf
    return float(np.abs(a[:, None] - b[None]).max(axis=2).min())


@_QUICK
@given(_SMALL, _SMALL, st.integers(0, 99), st.integers(0, 3))
def test_unions_common_pixels_and_touch_are_those_of_whole_masks(one: Box, other: Box, seed: int, gap: int) -> None:
    first, second = _mask_region(seed, one), _mask_region(seed + 1, other)
    a, b = first.full_mask(_SIDE, _SIDE), second.full_mask(_SIDE, _SIDE)
    assert np.array_equal(union_of(first, second).full_mask(_SIDE, _SIDE), a | b)
    assert common_pixels(first, second) == common_pixels(second, first) == int((a & b).sum())
    assert touch(first, second, gap) == touch(second, first, gap) == (_distance(a, b) <= gap)


def test_a_union_is_as_sure_as_the_less_sure_part_and_names_both() -> None:
    sure = Region((0, 0, 1, 1), np.ones((2, 2), np.bool_), 0.9, 0.6, "left")
    less = Region((4, 0, 4, 0), np.ones((1, 1), np.bool_), 0.7, 0.8, "right")
    union = union_of(sure, less)
    assert (union.box, union.predicted_iou, union.stability, union.prompt.name) == (
        (0, 0, 4, 1),
        0.7,
        0.6,
        "left + right",
    )
    assert union_of(_region((0, 0, 1, 1)), _region((2, 0, 3, 1), "x")).prompt.name == "x"


def test_without_anything_to_merge_nobody_is_named_again_and_the_largest_comes_first() -> None:
    def never(_: Sequence[Region]) -> list[Identity]:
        raise AssertionError

    parts = [_region((0, 0, 1, 1)), _region((50, 50, 69, 69))]
    names = [Identity("a", 0.5), Identity("b", 0.5)]
    regions, identities = merge_parts(parts, names, never, MergeConfig())
    assert ([one.area for one in regions], [one.label for one in identities]) == ([400, 4], ["b", "a"])
    assert merge_parts([], [], never, MergeConfig(drop_nested=0.0)) == ((), ())


@pytest.mark.parametrize(
    "wrong", [{"gap": -1}, {"rounds": -1}, {"max_candidates": -1}, {"nested": 0.0}, {"nested": 1.1}]
)
def test_impossible_merges_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected gap, rounds, max_candidates >= 0 and nested in"):
        MergeConfig(**wrong)  # type: ignore[arg-type]  # one field of each type


@pytest.mark.parametrize(("gain", "parts"), [(0.125, 1), (0.126, 2)])
def test_a_union_that_gains_just_enough_is_taken(gain: float, parts: int) -> None:
    def identify(regions: Sequence[Region]) -> list[Identity]:
        return [Identity("a", 0.625) for _ in regions]

    pair = [_region((0, 0, 9, 9)), _region((10, 0, 19, 9))]
    names = [Identity("a", 0.5), Identity("a", 0.25)]
    assert len(merge_parts(pair, names, identify, MergeConfig(gain=gain, nested=1.0))[0]) == parts


def test_only_the_unions_of_the_largest_parts_are_tried() -> None:
    asked: list[int] = []

    def identify(regions: Sequence[Region]) -> list[Identity]:
        asked.append(len(regions))
        return [Identity("a", 0.0) for _ in regions]

    parts = [_region((10 * k, 0, 10 * k + 9, 9)) for k in range(6)]
    names = [Identity("a", 0.5)] * 6
    merge_parts(parts, names, identify, MergeConfig(max_candidates=2))
    assert asked == [2]
    merge_parts(parts, names, identify, MergeConfig(max_candidates=0))
    assert asked == [2]
    merge_parts(parts, names, identify, MergeConfig())
    assert asked == [2, 5]  # neighbours only


def _full_scene() -> ScenePrediction:
    rows = tuple(Neighbour(k, "a", 0.123456789, f"{k}.png") for k in range(7))
    mask = np.zeros((3, 4), np.bool_)
    mask[1, 1:3] = True
    region = Region((5, 6, 8, 8), mask, 0.98765432, 0.87654321, "point 6,7")
    return ScenePrediction(
        "ü/s.png", 30, 20, (region, _region((0, 0, 1, 1))),
        (Identity("a", 0.123456789, neighbours=rows, margin=-0.0000004), Identity("b", 0.5, known=False)),
    )  # fmt: skip


def test_evaluation_has_every_region_and_the_overlay_what_is_shown() -> None:
    scene = _full_scene()
    assert prediction_document(scene) == {
        "scene": "ü/s.png",
        "preds": [
            {"bbox": [5, 6, 8, 8], "label": "a", "score": 0.123457},
            {"bbox": [0, 0, 1, 1], "label": "b", "score": 0.5},
        ],
    }
    assert [one["label"] for one in overlay_document(scene, (1, 0))["preds"]] == ["unknown", "a"]
    assert overlay_document(scene, ()) == {"scene": "ü/s.png", "preds": []}


def test_the_record_holds_masks_that_decode_and_five_neighbours() -> None:
    scene = _full_scene()
    record = record_document(scene, (1,), "ab")
    assert list(record) == ["scene", "sha256", "width", "height", "names", "regions"]
    assert "sha256" not in record_document(scene, ())
    first, second = record["regions"]
    assert np.array_equal(mask_from_rle(first["mask"]), scene.regions[0].full_mask(20, 30))
    assert (first["area"], first["shown"], second["shown"]) == (2, False, True)
    assert first["margin"] == 0.0
    assert [row["id"] for row in first["neighbours"]] == [0, 1, 2, 3, 4]
    assert (first["predicted_iou"], first["stability"], first["score"]) == (0.987654, 0.876543, 0.123457)
    assert (second["label"], second["name"], second["margin"]) == ("b", "unknown", None)
    line = as_line(record)
    assert line.count("\n") == 1
    assert json.loads(line) == json.loads(json.dumps(record))
    assert "ü" in line
    assert as_line({"a": [1, 2]}) == '{"a":[1,2]}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        as_line({"x": float("nan")})


def test_percentiles_are_of_each_step_over_the_scenes_that_had_it() -> None:
    records = [{"scene": "a", "segment": k, "merge": 5.0} if k else {"scene": "b", "segment": 0} for k in range(101)]
    found = latency_percentiles(records)
    assert list(found) == ["segment", "merge"]
    assert found["segment"] == {"p50": 50.0, "p95": 95.0, "p99": 99.0, "scenes": 101}
    assert found["merge"] == {"p50": 5.0, "p95": 5.0, "p99": 5.0, "scenes": 100}
    assert latency_percentiles([]) == {}
    assert latency_percentiles([{"search": 1.23456}])["search"]["p95"] == 1.235


def test_versions_are_of_what_is_installed() -> None:
    found = software_versions()
    assert list(found)[:2] == ["python", "naruto-vision"]
    assert {"torch", "numpy", "pillow"} <= set(found)
    assert all(found.values())


@_QUICK
@given(st.lists(st.lists(st.sampled_from("abcdef"), max_size=4), min_size=1, max_size=3))
def test_logs_of_any_processes_come_together_once_each_in_order(parts: list[list[str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        logs = [Path(folder) / f"log.rank{k}.jsonl" for k in range(len(parts))]
        for log, scenes in zip(logs, parts, strict=True):
            log.write_text("".join(as_line({"scene": scene, "from": log.name}) for scene in scenes))
        target = Path(folder) / "log.jsonl"
        merge_logs(target, logs, {scene: place for place, scene in enumerate("fedc")})
        merged = [record["scene"] for record in read_json_lines(target, dict)]
        assert not any(log.exists() for log in logs)
    present = {scene for scenes in parts for scene in scenes}
    assert merged == [scene for scene in "fedcab" if scene in present]


def test_what_was_in_the_target_already_wins(tmp_path: Path) -> None:
    target, part = tmp_path / "log.jsonl", tmp_path / "log.rank1.jsonl"
    target.write_text(as_line({"scene": "a", "from": "target"}))
    part.write_text(as_line({"scene": "a", "from": "part"}))
    merge_logs(target, [part, tmp_path / "gone.jsonl"], {})
    assert [record["from"] for record in read_json_lines(target, dict)] == ["target"]


def test_a_log_can_be_opened_again_and_goes_on(tmp_path: Path) -> None:
    path, seen = tmp_path / "deep" / "er" / "log.jsonl", []
    for scene in "ab":
        log = SceneLog(path)
        log.append(as_line({"scene": scene}))
        seen.append([record["scene"] for record in read_json_lines(path, dict)])  # at once, not when it is closed
        log.close()
    assert seen == [["a"], ["a", "b"]]


def test_a_scene_without_a_digest_is_searched_again(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    (tmp_path / "log.jsonl").write_text(as_line({"scene": "a.png"}) + as_line({"scene": "gone.png"}))
    assert forget_changed(tmp_path, tmp_path, "log.jsonl") == ["a.png"]
    assert [record["scene"] for record in read_json_lines(tmp_path / "log.jsonl", dict)] == ["gone.png"]


@_QUICK
@given(st.integers(1, 12), st.integers(1, 6), st.integers(1, 6), st.integers(0, 50))
def test_a_look_up_shows_the_nearest_rows_in_order(count: int, k: int, votes: int, seed: int) -> None:
    vectors, queries = _units(count, seed=seed), _units(2, seed=seed + 1)
    rows = [GalleryRow(f"{i}.png", "abc"[i % 3]) for i in range(count)]
    gallery = Gallery.build(vectors, rows, fingerprint="0" * 64, index="exact")
    answers = look_up(gallery, queries, ["q", "r"], "image", k=k, votes=votes)
    for answer, query, name in zip(answers, queries, "qr", strict=True):
        scores = vectors @ query
        assert answer.query == name
        assert [hit.rank for hit in answer.hits] == list(range(1, min(k, count) + 1))
        assert [hit.neighbour.score for hit in answer.hits] == pytest.approx(np.sort(scores)[::-1][:k], abs=1e-5)
        assert answer.identity.label in {rows[i].label for i in np.argsort(-scores)[:votes]}
        assert [one >= other for one, other in pairwise(hit.neighbour.score for hit in answer.hits)] == [True] * (
            len(answer.hits) - 1
        )
