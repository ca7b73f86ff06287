"""Tracks: regions linked by place and vector, over gaps and not over cuts, and one name by vote."""

import itertools
from collections.abc import Collection
from dataclasses import replace

import numpy as np
import pytest

from naruto_vision.gallery.content import GalleryRow
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.geometry import xyxy_from_mask
from naruto_vision.records import Box, Identity, ImageArray, Mask
from naruto_vision.video.shots import Shot
from naruto_vision.video.track_files import link_frames
from naruto_vision.video.tracks import SearchedFrame, Sighting, Track, TrackConfig, Tracker, similarity_of_labels, vote

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
        SearchedFrame(4 * k, float(k), [Sighting(4 * k, float(k), _box(50), Identity("Mira", 0.9, vector=MIRA))])
        for k in range(6)
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


class _Colours:
    """A mask memory that knows its objects by their colour."""

    def __init__(self) -> None:
        self.colours: dict[int, int] = {}
        self._image = np.zeros((0, 0, 3), np.uint8)

    def follow(self, image: ImageArray) -> dict[int, Mask]:
        self._image = image
        masks = {number: image[..., 0] == colour for number, colour in self.colours.items()}
        return {number: mask for number, mask in masks.items() if mask.any()}

    def add(self, number: int, mask: Mask) -> None:
        self.colours[number] = int(np.median(self._image[mask][:, 0]))

    def keep(self, numbers: Collection[int]) -> None:
        self.colours = {number: colour for number, colour in self.colours.items() if number in numbers}


def _frame(index: int, figures: dict[int, tuple[int, int]], missed: Collection[int] = ()) -> SearchedFrame:
    """Draw figures, colour to the sides of a box; all have one vector. The segmenter does not find those missed."""
    image, found = np.zeros((60, 200, 3), np.uint8), list[Sighting]()
    for colour, (left, right) in figures.items():
        image[10:50, left : right + 1] = colour
    for colour in figures.keys() - set(missed):
        mask = image[..., 0] == colour
        if (box := xyxy_from_mask(mask)) is not None:
            found.append(Sighting(index, index / 4, box, Identity("Mira", 0.9, vector=MIRA), mask))
    return SearchedFrame(index, index / 4, found, image)


def _linked(frames: list[SearchedFrame], memory: _Colours | None, cut: int | None = None) -> list[list[list[int]]]:
    """Link frames; returns the index and the left side of each region of each track."""
    ends = [0, *([] if cut is None else [cut]), len(frames)]
    shots = [Shot(a, b, a / 4, b / 4) for a, b in itertools.pairwise(ends)]
    tracks = link_frames(frames, shots, TrackConfig(min_frames=1), memory=memory)
    return [[[each.frame, each.box[0]] for each in track.sightings] for track in tracks]


def test_identity_follows_masks_where_boxes_and_vectors_fail() -> None:
    jumps = [_frame(k, {90: (150 * (k % 2), 150 * (k % 2) + 20)}) for k in range(6)]
    assert len(_linked(jumps, None)) > 1
    assert _linked(jumps, _Colours()) == [[[k, 150 * (k % 2)] for k in range(6)]]


def test_equal_figures_that_meet_and_turn_back_keep_their_tracks() -> None:
    behind, front = [0, 20, 40, 50, 40, 20, 0], [100, 80, 60, 50, 60, 80, 100]
    frames = [
        _frame(k, {90: (a, a + 15), 120: (b, b + 15)}) for k, (a, b) in enumerate(zip(behind, front, strict=True))
    ]
    assert [len(frame.found) for frame in frames] == [2, 2, 2, 1, 2, 2, 2]  # one is hidden
    true = [[[k, a] for k, a in enumerate(behind) if k != 3], [[k, b] for k, b in enumerate(front)]]
    assert sorted(_linked(frames, _Colours())) == true
    assert sorted(_linked(frames, None)) != true


def test_a_followed_figure_that_is_not_found_for_long_keeps_its_track_and_gets_no_regions() -> None:
    frames = [_frame(k, {90: (20, 40)}, missed={90} if 2 <= k < 12 else ()) for k in range(14)]
    seen = [[k, 20] for k in (0, 1, 12, 13)]
    assert _linked(frames, None) == [seen[:2], seen[2:]]
    assert _linked(frames, _Colours()) == [seen]
    longer = [_frame(k, {90: (20, 40)}, missed={90} if k > 1 else ()) for k in range(140)]  # 35 s
    memory = _Colours()
    tracker, seconds = Tracker(memory=memory), list[float]()
    for frame in longer:
        if tracker.update(frame.time, frame.found, frame.image):
            seconds.append(frame.time)
    assert seconds == [32.0]  # the first one after 30 s without a region, and max_gap
    assert memory.colours == {}


def test_a_figure_that_is_hidden_for_longer_than_the_gap_is_another_track_and_is_forgotten() -> None:
    frames = [_frame(k, {90: (20, 40)} if k < 2 or k > 8 else {}) for k in range(11)]
    assert _linked(frames, _Colours()) == [[[0, 20], [1, 20]], [[9, 20], [10, 20]]]


def test_nothing_is_followed_over_a_cut() -> None:
    frames = [_frame(k, {90: (20, 40)}) for k in range(6)]
    assert _linked(frames, _Colours(), cut=3) == [[[k, 20] for k in range(3)], [[k, 20] for k in range(3, 6)]]
    memory = _Colours()
    tracker = Tracker(memory=memory)
    tracker.update(frames[0].time, frames[0].found, frames[0].image)
    tracker.cut()
    assert memory.colours == {}
    tracker.update(frames[1].time, frames[1].found, frames[1].image)
    assert memory.colours == {2: 90}


def test_figures_that_come_later_are_followed_and_pieces_of_followed_ones_are_not() -> None:
    frames = [_frame(k, {90: (20, 40), **({120: (100, 120)} if k > 1 else {})}) for k in range(4)]
    index, time, found, image = frames[2]
    assert image is not None
    piece = np.zeros_like(image[..., 0], np.bool_)
    piece[10:20, 20:30] = True
    extra = Sighting(index, time, (20, 10, 29, 19), Identity("Mira", 0.9, vector=MIRA), piece)
    memory = _Colours()
    tracker = Tracker(memory=memory)
    for frame in (*frames[:2], SearchedFrame(index, time, [*found, extra], image), frames[3]):
        tracker.update(frame.time, frame.found, frame.image)
    assert sorted(memory.colours.values()) == [90, 120]


def test_a_mask_that_was_lost_is_linked_by_boxes_and_vectors_and_followed_again() -> None:
    memory = _Colours()
    tracker = Tracker(memory=memory)
    for k in range(6):
        frame = _frame(k, {90 if k < 3 else 120: (20 + 5 * k, 60 + 5 * k)})  # another colour: not what is followed
        tracker.update(frame.time, frame.found, frame.image)
    assert memory.colours == {1: 120}
    (track,) = tracker.cut()
    assert [each.frame for each in track.sightings] == list(range(6))


def test_a_memory_without_images_or_masks_is_refused() -> None:
    frame = _frame(0, {90: (20, 40)})
    with pytest.raises(ValueError, match="expected its image for the mask memory"):
        Tracker(memory=_Colours()).update(0.0, frame.found)
    with pytest.raises(ValueError, match=r"region .* of frame 0: expected its mask"):
        Tracker(memory=_Colours()).update(0.0, [replace(frame.found[0], mask=None)], frame.image)
