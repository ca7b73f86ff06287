"""Tracks: regions linked by place and vector, over gaps and not over cuts, and one name by vote."""

import numpy as np
import pytest

from naruto_vision.gallery.content import GalleryRow
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.records import Box, Identity
from naruto_vision.video.shots import Shot
from naruto_vision.video.track_files import link_frames
from naruto_vision.video.tracks import Sighting, Track, TrackConfig, Tracker, similarity_of_labels, vote

MIRA, ODRAN = np.eye(2, dtype=np.float32)


def _box(x: int) -> Box:
    return x, 20, x + 30, 120


def _seen(
    frame: int, x: int, vector: np.ndarray = MIRA, label: str = "Mira", *, known: bool = True, score: float = 0.9
) -> Sighting:
    return Sighting(frame, frame / 4, _box(x), Identity(label, score, known, vector=vector))


def _tracks(frames: dict[int, list[Sighting]], config: TrackConfig | None = None) -> list[Track]:
    tracker = Tracker(config)
    ended = [track for frame, found in sorted(frames.items()) for track in tracker.update(frame / 4, found)]
    return sorted([*ended, *tracker.cut()], key=lambda track: track.id)


def _places(track: Track) -> list[tuple[int, int]]:
    return [(each.frame, each.box[0]) for each in track.sightings]


def test_a_figure_that_walks_is_one_track() -> None:
    (track,) = _tracks({k: [_seen(k, 25 * k)] for k in range(8)})
    assert _places(track) == [(k, 25 * k) for k in range(8)]
    assert (track.name, track.score) == ("Mira", 0.9)


def test_figures_that_cross_keep_their_tracks_whatever_the_order_of_regions() -> None:
    frames = {k: [_seen(k, 20 * k), _seen(k, 140 - 20 * k, ODRAN, "Odran")] for k in range(8)}
    for found in (frames, {k: both[::-1] if k % 2 else both for k, both in frames.items()}):
        first, second = sorted(_tracks(found), key=lambda track: track.name)
        assert (first.name, _places(first)) == ("Mira", [(k, 20 * k) for k in range(8)])
        assert (second.name, _places(second)) == ("Odran", [(k, 140 - 20 * k) for k in range(8)])


def test_equal_figures_are_told_apart_by_their_places() -> None:
    first, second = _tracks({k: [_seen(k, 5 * k), _seen(k, 60 + 5 * k)] for k in range(6)})
    assert _places(first) == [(k, 5 * k) for k in range(6)]
    assert _places(second) == [(k, 60 + 5 * k) for k in range(6)]


def test_a_hidden_figure_goes_on_after_a_short_gap_only() -> None:
    frames = {k: [_seen(k, 10 * k)] if k < 4 or k > 7 else [] for k in range(12)}
    assert len(_tracks(frames)) == 1
    assert [len(track.sightings) for track in _tracks(frames, TrackConfig(max_gap=0.5))] == [4, 4]


def test_somebody_else_at_the_same_place_is_another_track() -> None:
    frames = {k: [_seen(k, 50)] if k < 4 else [_seen(k, 50, ODRAN, "Odran")] for k in range(8)}
    assert [track.name for track in _tracks(frames)] == ["Mira", "Odran"]
    assert len(_tracks(frames, TrackConfig(alike=-1))) == 1


def test_a_region_seen_once_is_no_track_by_default() -> None:
    frames = {0: [_seen(0, 50)], 1: []}
    assert _tracks(frames) == []
    assert len(_tracks(frames, TrackConfig(min_frames=1))) == 1


def test_no_track_passes_a_cut_even_between_searched_frames() -> None:
    frames = [
        (4 * k, float(k), [Sighting(4 * k, float(k), _box(50), Identity("Mira", 0.9, vector=MIRA))]) for k in range(6)
    ]
    shots = [Shot(0, 10, 0.0, 2.5), Shot(10, 11, 2.5, 2.75), Shot(11, 24, 2.75, 6.0)]  # one shot has no searched frame
    first, second = link_frames(frames, shots)
    assert [each.frame for each in first.sightings] == [0, 4, 8]
    assert [each.frame for each in second.sightings] == [12, 16, 20]
    assert (first.id, second.id) == (1, 2)


def test_a_vote_corrects_single_frames() -> None:
    frames = [Identity("Mira", 0.8)] * 4 + [Identity("Odran", 0.9), Identity("Mira", 0.3, known=False)]
    assert vote(frames) == ("Mira", 0.8, True)


def test_a_vote_of_rejected_regions_is_unknown() -> None:
    label, score, known = vote([Identity("Mira", 0.3, known=False)] * 3 + [Identity("Mira", 0.8)])
    assert (label, score, known) == ("Mira", 0.3, False)


def test_a_vote_without_a_majority_is_unknown() -> None:
    frames = [Identity(label, score) for label, score in (("a", 0.8), ("b", 0.7), ("c", 0.7), ("a", 0.5))]
    assert vote(frames)[::2] == ("a", False)
    assert vote([Identity("a", -0.2, known=False), Identity("b", -0.4, known=False)])[2] is False


def test_a_track_whose_scores_are_those_of_few_right_regions_is_unknown() -> None:
    low, high = Identity("Mira", 0.6, p_value=0.06), Identity("Mira", 0.9, p_value=0.5)
    assert vote([low] * 4, min_p=0.1) == ("Mira", 0.6, False)
    assert vote([low] * 4) == ("Mira", 0.6, True)
    assert vote([low, high, low, high], min_p=0.1)[2] is True
    below = Identity("Mira", 0.5, known=False, p_value=0.2)
    assert vote([below, below, high], min_p=0.1)[2] is True  # p-values say more than how many passed
    assert vote([below] * 4 + [high], min_p=0.1)[2] is False


def test_similarity_of_labels_is_that_of_rows_of_different_labels() -> None:
    vectors = np.array([[1, 0], [1, 0], [0.6, 0.8]], dtype=np.float32)
    rows = [GalleryRow(f"{k}.png", label) for k, label in enumerate(("a", "a", "b"))]
    assert similarity_of_labels(Gallery.build(vectors, rows, fingerprint="x")) == pytest.approx(0.6)
    assert similarity_of_labels(Gallery.build(vectors[:2], rows[:2], fingerprint="x")) == 0


def test_regions_without_vectors_and_impossible_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="expected an identity with its vector"):
        Tracker().update(0.0, [Sighting(0, 0.0, _box(0), Identity("Mira", 0.9))])
    with pytest.raises(ValueError, match="min_frames"):
        TrackConfig(min_frames=0)
