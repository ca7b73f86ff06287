"""IDF1, switches, names by track and by frame, against counts made by hand and by trying all assignments."""

from itertools import permutations

import numpy as np
import pytest

from naruto_vision.metrics.tracks import FoundBox, TrackCounts, TrueBox, track_counts, track_report

_A, _B = (0, 0, 9, 9), (50, 0, 59, 9)


def _true(track: int, frames: range, box: tuple[int, int, int, int] = _A, label: str = "Mira") -> list[TrueBox]:
    return [TrueBox(frame, track, label, box) for frame in frames]


def _found(
    track: int, frames: range, box: tuple[int, int, int, int] = _A, name: str = "Mira", frame_name: str = "Mira"
) -> list[FoundBox]:
    return [FoundBox(frame, track, name, frame_name, box) for frame in frames]


def test_a_perfect_track_has_an_idf1_of_one() -> None:
    counts = track_counts(_true(1, range(10)), _found(7, range(10)))
    assert counts.idf1 == 1
    assert (counts.truth, counts.found, counts.matched, counts.switches, counts.by_track) == (10, 10, 10, 0, 10)


def test_a_track_in_two_pieces_switches_once_and_only_the_longer_piece_counts() -> None:
    counts = track_counts(_true(1, range(10)), _found(1, range(6)) + _found(2, range(6, 10)))
    assert counts.switches == 1
    assert counts.idf1 == pytest.approx(2 * 6 / 20)


def test_two_figures_that_are_exchanged_switch_both() -> None:
    truth = _true(1, range(10)) + _true(2, range(10), _B)
    found = _found(1, range(5)) + _found(1, range(5, 10), _B) + _found(2, range(5), _B) + _found(2, range(5, 10))
    counts = track_counts(truth, found)
    assert counts.switches == 2
    assert counts.idf1 == pytest.approx(0.5)


def test_missed_and_invented_boxes_lower_idf1() -> None:
    counts = track_counts(_true(1, range(10)), _found(1, range(5)) + _found(2, range(10), _B))
    assert counts.idf1 == pytest.approx(2 * 5 / (10 + 15))
    assert counts.matched == 5


def test_names_are_counted_by_track_and_by_frame_in_pairs() -> None:
    found = _found(1, range(4), frame_name="Odran") + _found(1, range(4, 9))
    found += _found(2, range(9, 10), name="unknown")
    counts = track_counts(_true(1, range(10)), found)
    assert (counts.by_track, counts.by_frame, counts.only_track, counts.only_frame) == (9, 6, 4, 1)


def test_a_track_with_boxes_in_two_shots_crosses_a_cut() -> None:
    assert track_counts([], _found(1, range(10)), cuts=[5]).across_cuts == 1
    assert track_counts([], _found(1, range(5)) + _found(2, range(5, 10)), cuts=[5]).across_cuts == 0


def test_the_best_assignment_is_that_of_all_permutations() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        boxes = [(20 * k, 0, 20 * k + 9, 9) for k in range(4)]
        truth = [TrueBox(frame, k, "a", boxes[k]) for frame in range(6) for k in range(4)]
        found = [
            FoundBox(frame, int(track), "a", "a", boxes[k])
            for frame in range(6)
            for k, track in enumerate(rng.permutation(4))
        ]
        best = max(
            sum(pair[1].track == order[pair[0].track] for pair in zip(truth, found, strict=True))
            for order in permutations(range(4))
        )
        assert track_counts(truth, found).identified == best


def test_a_report_adds_videos_up_and_tests_names_by_video() -> None:
    one = TrackCounts(truth=10, found=10, identified=8, matched=10, by_track=9, by_frame=7, only_track=3, only_frame=1)
    report = track_report([one, one, TrackCounts(truth=10, found=10, identified=10)])
    document = report.as_json()
    assert document["idf1"]["value"] == pytest.approx(52 / 60)
    low, high = document["idf1"]["interval"]
    assert 0.8 <= low < 52 / 60 < high <= 1
    assert document["paired_boxes"] == {"only_track": 6, "only_frame": 2, "p": pytest.approx(74 / 256)}
    assert (document["paired_videos"]["better"], document["paired_videos"]["worse"]) == (2, 0)
    assert track_report([]).as_json()["idf1"] == {"value": None, "interval": None}
