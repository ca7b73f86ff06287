"""Link the named regions of frames to tracks, and give each track one identity or "unknown".

Two regions of neighbouring frames belong together if their boxes overlap, once they are moved as the track moved and
grown by half (Yang et al., "C-BIoU", WACV 2023), and if their vectors are alike. Each frame is assigned as a whole
(Kuhn, 1955). No track passes a cut. With a mask memory, such as that of SAM 2, regions are first linked by the masks
that it follows; what it has lost is linked by boxes and vectors.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, median
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from naruto_vision.gallery.gallery import Gallery
from naruto_vision.geometry import inclusive_iou_matrix, mask_overlap_matrix
from naruto_vision.records import UNKNOWN, Box, Identity, ImageArray, Mask

_LEAST_VOTE = 1e-6  # of a region whose score is not above 0
_SAME, _COVERED = 0.5, 0.5  # IoU of a region with a followed mask; its share inside one that makes it no new object
_FOLLOWED = 30.0  # seconds for which a mask is followed without a region
_ROWS = 512  # of a gallery, whose mean similarity between labels is measured


@dataclass(frozen=True)
class TrackConfig:
    """How regions are linked.

    Args:
        max_gap: Seconds for which a figure may be hidden or missed within its track.
        grow: How much of its width and height is added to every side of a box before boxes are compared.
        alike: Minimum similarity of vectors: 0 is that of two characters of the gallery on average, 1 is equality.
        overlap_share: Weight of the boxes' overlap; the rest is that of the vectors.
        min_frames: Tracks of fewer regions are dropped.
        min_p: Minimum mean p-value of a known track; see ``vote``. A lower one names more tracks, also wrongly.

    Raises:
        ValueError: If a number is out of its range.
    """

    max_gap: float = 1.5
    grow: float = 0.5
    alike: float = 0.2
    overlap_share: float = 0.4
    min_frames: int = 2
    min_p: float = 0.15

    def __post_init__(self) -> None:
        if min(self.max_gap, self.grow) < 0 or not 0 <= self.overlap_share <= 1 or self.min_frames < 1:
            msg = f"tracks: expected max_gap, grow >= 0, overlap_share in [0, 1] and min_frames >= 1, found {self}"
            raise ValueError(msg)


@dataclass(frozen=True)
class Sighting:
    """One region of one frame: ``time`` in seconds, ``box`` in inclusive pixels, an identity with its vector.

    ``mask``, of the whole image (H, W), bool, is what a mask memory follows.
    """

    frame: int
    time: float
    box: Box
    identity: Identity
    mask: Mask | None = field(default=None, compare=False, repr=False)


class SearchedFrame(NamedTuple):
    """A frame with its regions: ``number`` in the video, ``time`` in seconds; ``image`` is for a mask memory."""

    number: int
    time: float
    found: Sequence[Sighting]
    image: ImageArray | None = None


class MaskMemory(Protocol):
    """What follows masks from frame to frame, such as ``Sam2Memory``."""

    def follow(self, image: ImageArray) -> Mapping[int, Mask]:
        """Go to the next frame (H, W, 3); return the masks (H, W), bool, of the objects that are visible there."""
        ...

    def add(self, number: int, mask: Mask) -> None:
        """Follow an object from this frame on, in place of an earlier one of this number."""
        ...

    def keep(self, numbers: Collection[int]) -> None:
        """Forget all other objects."""
        ...


@dataclass(frozen=True)
class Track:
    """The regions of one figure in one shot, in the order of the frames, and its identity."""

    id: int  # from 1, in the order of the first frames
    sightings: tuple[Sighting, ...]  # at least one, one per frame
    label: str  # the label that won the vote
    score: float  # median cosine of the regions with this label
    known: bool  # whether it is that label rather than unknown

    @property
    def name(self) -> str:
        """The label, or ``unknown``."""
        return self.label if self.known else UNKNOWN


def vote(identities: Sequence[Identity], min_p: float = 0.0) -> tuple[str, float, bool]:
    """Decide the label of a track by its regions, each of which votes with its score.

    Returns the label with the highest sum of scores; the median score of its regions; whether it is known: it has at
    least half of all votes, half of its regions passed the threshold (a quarter suffices where their p-values say
    more), and the mean of their p-values, if there are any, is at least ``min_p``. Twice the mean of dependent p-values
    is one itself (Vovk and Wang, 2020), so at most ``2 * min_p`` of right tracks fall below.
    """
    votes = defaultdict[str, float](float)
    for each in identities:
        votes[each.label] += max(each.score, _LEAST_VOTE)
    label = max(sorted(votes), key=lambda name: votes[name])
    own = [each for each in identities if each.label == label]
    p_values = [each.p_value for each in own if each.p_value is not None]
    passed = sum(each.known for each in own) >= (0.25 if p_values else 0.5) * len(own)
    known = passed and 2 * votes[label] >= sum(votes.values()) and (not p_values or fmean(p_values) >= min_p)
    return label, median(each.score for each in own), known


def similarity_of_labels(gallery: Gallery) -> float:
    """Return the mean cosine of two gallery rows of different labels; 0 with fewer than two labels."""
    step = -(-len(gallery.rows) // _ROWS)
    vectors, labels = gallery.vectors[::step], np.array([row.label for row in gallery.rows[::step]])
    differ = labels[:, None] != labels[None]
    return float((vectors @ vectors.T)[differ].mean()) if differ.any() else 0.0


@dataclass(eq=False)
class _Open:
    """A track that may go on."""

    number: int
    sightings: list[Sighting]
    vector: NDArray[np.float32]  # (D,), unit: a running mean, which follows turns and poses
    seen: float  # seconds when its region was found, or its mask was followed
    speed: NDArray[np.float64] = field(default_factory=lambda: np.zeros(4))  # pixels per second, of each side

    def predicted(self, time: float) -> Box:
        last = self.sightings[-1]
        moved = np.asarray(last.box) + self.speed * (time - last.time)
        x1, y1, x2, y2 = (round(float(side)) for side in moved)
        return x1, y1, max(x1, x2), max(y1, y2)

    def extend(self, sighting: Sighting) -> None:
        last = self.sightings[-1]
        passed = max(sighting.time - last.time, 1e-6)
        self.speed = 0.5 * self.speed + 0.5 * (np.asarray(sighting.box, np.float64) - last.box) / passed
        self.sightings.append(_light(sighting))
        self.seen = sighting.time
        mean = 0.8 * self.vector + 0.2 * _vector(sighting)
        self.vector = mean / np.linalg.norm(mean)


def _light(sighting: Sighting) -> Sighting:
    """Leave out the vector and the mask, which only link, and the neighbours: long tracks take little memory."""
    return replace(sighting, mask=None, identity=replace(sighting.identity, vector=None, neighbours=()))


def _vector(sighting: Sighting) -> NDArray[np.float32]:
    if sighting.identity.vector is None:
        msg = f"region {sighting.box} of frame {sighting.frame}: expected an identity with its vector, found none"
        raise ValueError(msg)
    return sighting.identity.vector


def _mask(sighting: Sighting) -> Mask:
    if sighting.mask is None:
        msg = f"region {sighting.box} of frame {sighting.frame}: expected its mask for the mask memory, found none"
        raise ValueError(msg)
    return sighting.mask


def _grown(box: Box, share: float) -> Box:
    x1, y1, x2, y2 = box
    dx, dy = round((x2 - x1 + 1) * share), round((y2 - y1 + 1) * share)
    return x1 - dx, y1 - dy, x2 + dx, y2 + dy


class Tracker:
    """Links regions frame by frame, in memory that does not grow with the video.

    ``unlike`` is the mean cosine of different characters, from ``similarity_of_labels``. ``memory`` follows the masks
    of the regions; None links by boxes and vectors alone.

    Examples:
        >>> import numpy as np
        >>> mira = Identity("Mira", 0.9, vector=np.array([1, 0], dtype=np.float32))
        >>> tracker = Tracker()
        >>> for frame in range(3):
        ...     region = Sighting(frame, frame / 3, (10 * frame, 0, 10 * frame + 20, 40), mira)
        ...     ended = tracker.update(frame / 3, [region])
        >>> [(track.name, len(track.sightings)) for track in tracker.cut()]
        [('Mira', 3)]
    """

    def __init__(
        self, config: TrackConfig | None = None, unlike: float = 0.0, memory: MaskMemory | None = None
    ) -> None:
        self.config = config or TrackConfig()
        self._unlike, self._memory, self._open, self._count = unlike, memory, list[_Open](), 0

    def update(self, time: float, found: Sequence[Sighting], image: ImageArray | None = None) -> list[Track]:
        """Link the regions of the next frame, at ``time``; return the tracks that ended before.

        With a mask memory, ``image`` is the frame, and regions have masks.
        """
        if self._memory is not None and image is None:
            raise ValueError(f"frame at {time:g} s: expected its image for the mask memory, found none")
        followed = {} if self._memory is None or image is None else self._memory.follow(image)
        for each in self._open:
            if each.number in followed and time - each.sightings[-1].time <= _FOLLOWED:
                each.seen = time
        ended = [each for each in self._open if time - each.seen > self.config.max_gap + 1e-6]
        self._open = [each for each in self._open if each not in ended]  # by identity
        if self._memory is None:
            self._link(time, found, followed, {})
            return self._finished(ended)
        shares = mask_overlap_matrix([_mask(each) for each in found], list(followed.values()), of_first=True)
        linked = self._link(time, found, followed, dict(zip(followed, shares.T, strict=True)))
        self._memory.keep({each.number for each in self._open})
        for sighting, number, covered in zip(found, linked, shares.max(axis=1, initial=0.0), strict=True):
            if number not in followed and covered < _COVERED:
                self._memory.add(number, _mask(sighting))
        return self._finished(ended)

    def cut(self) -> list[Track]:
        """End all tracks, at a cut or at the end of the video; return them."""
        ended, self._open = self._open, []
        if self._memory is not None:
            self._memory.keep(())
        return self._finished(ended)

    def _link(
        self,
        time: float,
        found: Sequence[Sighting],
        followed: Mapping[int, Mask],
        shares: Mapping[int, NDArray[np.float64]],
    ) -> list[int]:
        """Extend tracks by the regions of a frame, and open new ones; return the number of each region's track.

        ``shares``: how much of each region is inside each followed mask.
        """
        visible = [each for each in self._open if each.number in followed]
        pairs = _by_masks([followed[each.number] for each in visible], found)
        linked = {column: visible[row] for row, column in pairs}
        others = [each for each in self._open if each not in linked.values()]
        free = [column for column in range(len(found)) if column not in linked]
        inside = [shares.get(each.number, np.ones(len(found)))[free] >= _COVERED for each in others]
        for row, column in self._assign(time, others, [found[column] for column in free], np.array(inside)):
            linked[free[column]] = others[row]
        for column, sighting in enumerate(found):
            if column in linked:
                linked[column].extend(sighting)
                continue
            self._count += 1
            linked[column] = _Open(self._count, [_light(sighting)], _vector(sighting), time)
            self._open.append(linked[column])
        return [linked[column].number for column in range(len(found))]

    def _assign(
        self, time: float, open_: Sequence[_Open], found: Sequence[Sighting], allowed: NDArray[np.bool_]
    ) -> list[tuple[int, int]]:
        """Pair tracks and regions by boxes and vectors, where it is allowed: shape (tracks, regions)."""
        if not open_ or not found:
            return []
        grow, share = self.config.grow, self.config.overlap_share
        tracks = [_grown(each.predicted(time), grow) for each in open_]
        overlap = inclusive_iou_matrix(tracks, [_grown(each.box, grow) for each in found])
        cosine = np.stack([each.vector for each in open_]) @ np.stack([_vector(each) for each in found]).T
        alike = (cosine.astype(np.float64) - self._unlike) / max(1.0 - self._unlike, 1e-6)
        fits = allowed & (overlap > 0) & (alike >= self.config.alike)
        return _best_pairs(share * overlap + (1 - share) * alike, fits)

    def _finished(self, ended: Iterable[_Open]) -> list[Track]:
        tracks = []
        for each in ended:
            if len(each.sightings) >= self.config.min_frames:
                label, score, known = vote([sighting.identity for sighting in each.sightings], self.config.min_p)
                tracks.append(Track(each.number, tuple(each.sightings), label, score, known))
        return tracks


def _by_masks(followed: Sequence[Mask], found: Sequence[Sighting]) -> list[tuple[int, int]]:
    """Pair followed masks and regions that are the same."""
    if not followed or not found:
        return []
    iou = mask_overlap_matrix(followed, [_mask(each) for each in found])
    return _best_pairs(iou, iou >= _SAME)


def _best_pairs(gain: NDArray[np.float64], fits: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Assign rows to columns with the largest sum, among pairs that fit."""
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(np.where(fits, gain, -1.0), maximize=True)
    return [(i, j) for i, j in zip(rows.tolist(), columns.tolist(), strict=True) if fits[i, j]]
