"""Tracks against their ground truth: IDF1, identity switches, links across cuts, and names by track and by frame."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from naruto_vision.geometry import Box, inclusive_iou_matrix
from naruto_vision.metrics.scene import match_matrix
from naruto_vision.metrics.stats import Interval, Pairing, Rate, bootstrap_ratios


class TrueBox(NamedTuple):
    """One figure in one frame of the ground truth; figures of one ``track`` are the same one."""

    frame: int
    track: int
    label: str  # "unknown" for a character that the gallery does not have
    box: Box


class FoundBox(NamedTuple):
    """One region of a found track, with the name of its track and the name that its frame alone gave it."""

    frame: int
    track: int
    name: str
    frame_name: str
    box: Box


@dataclass(frozen=True)
class TrackCounts:
    """Counts of one video, or of several.

    Args:
        truth: Boxes of the ground truth in the frames that were searched.
        found: Boxes of the found tracks.
        identified: Boxes that match under the best assignment of found to true tracks (IDTP).
        switches: How often a true track is found under another number than before.
        matched: Found boxes that match a true box.
        by_frame: Of these, those that their frame alone named right.
        by_track: Those whose track is named right.
        only_frame: Those that only the frame named right.
        only_track: Those that only the track named right.
        across_cuts: Found tracks with boxes on both sides of a cut.
        tracks: Found tracks.
    """

    truth: int = 0
    found: int = 0
    identified: int = 0
    switches: int = 0
    matched: int = 0
    by_frame: int = 0
    by_track: int = 0
    only_frame: int = 0
    only_track: int = 0
    across_cuts: int = 0
    tracks: int = 0

    def __add__(self, other: "TrackCounts") -> "TrackCounts":
        """Return the counts of both."""
        return TrackCounts(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))

    @property
    def idf1(self) -> float | None:
        """F1 of identities (Ristani et al., 2016): ``2 IDTP / (truth + found)``; None without boxes."""
        boxes = self.truth + self.found
        return 2 * self.identified / boxes if boxes else None


def track_counts(
    truth: Iterable[TrueBox], found: Iterable[FoundBox], cuts: Sequence[int] = (), iou_match: float = 0.5
) -> TrackCounts:
    """Compare the tracks of one video with the ground truth of the same frames.

    Args:
        truth: All figures of the frames that were searched.
        found: All regions of the found tracks.
        cuts: The first frame of each shot but the first.
        iou_match: Minimum IoU of boxes that match.
    """
    true, ours = _by_frame(truth), _by_frame(found)
    pairs, last, switches = list[tuple[TrueBox, FoundBox]](), dict[int, int](), 0
    for frame in sorted(true):
        for one, other in _match(true[frame], ours.get(frame, []), last, iou_match):
            switches += last.get(one.track, other.track) != other.track
            last[one.track] = other.track
            pairs.append((one, other))
    frame_right = [other.frame_name == one.label for one, other in pairs]
    track_right = [other.name == one.label for one, other in pairs]
    shots = defaultdict[int, set[int]](set)
    for other in (each for boxes in ours.values() for each in boxes):
        shots[other.track].add(int(np.searchsorted(cuts, other.frame, "right")))
    return TrackCounts(
        truth=sum(map(len, true.values())),
        found=sum(map(len, ours.values())),
        identified=_identified(true, ours, iou_match),
        switches=switches,
        matched=len(pairs),
        by_frame=sum(frame_right),
        by_track=sum(track_right),
        only_frame=sum(f and not t for f, t in zip(frame_right, track_right, strict=True)),
        only_track=sum(t and not f for f, t in zip(frame_right, track_right, strict=True)),
        across_cuts=sum(len(each) > 1 for each in shots.values()),
        tracks=len(shots),
    )


_Found = TypeVar("_Found", TrueBox, FoundBox)


def _by_frame(boxes: Iterable[_Found]) -> dict[int, list[_Found]]:
    frames = defaultdict[int, list[_Found]](list)
    for each in boxes:
        frames[each.frame].append(each)
    return frames


def _overlap(true: Sequence[TrueBox], ours: Sequence[FoundBox]) -> NDArray[np.float64]:
    return inclusive_iou_matrix([each.box for each in true], [each.box for each in ours])


def _match(
    true: Sequence[TrueBox], ours: Sequence[FoundBox], last: Mapping[int, int], iou_match: float
) -> list[tuple[TrueBox, FoundBox]]:
    """Match the boxes of one frame one to one; those that matched before are kept if they still do (CLEAR MOT)."""
    if not true or not ours:
        return []
    stays = np.array([[last.get(one.track) == other.track for other in ours] for one in true])
    return [(true[i], ours[j]) for i, j in match_matrix(_overlap(true, ours), iou_match, stays)]


def _identified(true: Mapping[int, list[TrueBox]], ours: Mapping[int, list[FoundBox]], iou_match: float) -> int:
    """Return the most boxes that match if every true track is assigned to one found track at most, and the reverse."""
    shared = Counter[tuple[int, int]]()
    for frame, boxes in true.items():
        others = ours.get(frame, [])
        hits = np.argwhere(_overlap(boxes, others) >= iou_match) if others else np.empty((0, 2), np.int64)
        shared.update((boxes[i].track, others[j].track) for i, j in hits.tolist())
    if not shared:
        return 0
    from scipy.optimize import linear_sum_assignment

    rows, columns = (sorted({pair[side] for pair in shared}) for side in (0, 1))
    table = np.array([[shared[row, column] for column in columns] for row in rows])
    return int(table[linear_sum_assignment(table, maximize=True)].sum())


class TrackReport(NamedTuple):
    """Counts of all videos, and the interval of IDF1 where whole videos are drawn with replacement."""

    counts: TrackCounts
    idf1: Interval | None
    videos_better: int  # videos in which more boxes are named right by track than by frame
    videos_worse: int

    def as_json(self) -> dict[str, Any]:
        """Return the counts, rates with intervals, and the exact paired tests of names by track against by frame."""
        counts = self.counts
        interval = None if self.idf1 is None else [self.idf1.low, self.idf1.high]
        by_box, by_video = (
            Pairing(*pair) for pair in ((counts.only_track, counts.only_frame), (self.videos_better, self.videos_worse))
        )
        return {
            "counts": {each.name: getattr(counts, each.name) for each in fields(counts)},
            "idf1": {"value": counts.idf1, "interval": interval},
            "track_accuracy": Rate(counts.by_track, counts.matched).as_json(),
            "frame_accuracy": Rate(counts.by_frame, counts.matched).as_json(),
            "paired_boxes": {"only_track": by_box.only_first, "only_frame": by_box.only_second, "p": by_box.p_value},
            "paired_videos": {"better": self.videos_better, "worse": self.videos_worse, "p": by_video.p_value},
        }


def track_report(videos: Sequence[TrackCounts], replicates: int = 2000) -> TrackReport:
    """Add the counts of videos up; the boxes of one video are not independent, so the interval is over videos."""
    table = np.array([[[2.0 * each.identified], [float(each.truth + each.found)]] for each in videos])
    interval = bootstrap_ratios(table, replicates, 0)[0] if videos else None
    better, worse = (sum(sign * (each.by_track - each.by_frame) > 0 for each in videos) for sign in (1, -1))
    return TrackReport(sum(videos, TrackCounts()), interval, better, worse)
