"""Cuts between shots, and their key frames, in one pass over the frames.

A frame is compared with the one before by hue, saturation, value and edges of a small copy, as PySceneDetect's content
measure does. A cut stands out against the frames around it, so that fast motion is none; a change that is undone two
frames later is a flash. Slow fades and dissolves are not found.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

import cv2
import numpy as np
from numpy.typing import NDArray

from naruto_vision.io.video import VideoFrame
from naruto_vision.records import ImageArray

_WIDTH, _HEIGHT = 96, 54  # of the small copy
_WEIGHTS = np.array([2, 2, 2, 1]) / 7  # of hue, saturation, value and edges
_KEPT = 12  # frames of an unfinished shot in memory, of which key frames are chosen


@dataclass(frozen=True)
class Shot:
    """Frames between two cuts."""

    start_frame: int  # index of its first frame
    end_frame: int  # index after its last frame
    start: float  # seconds of its first frame
    end: float  # of the first frame of the next shot; of the last shot, of its last frame


@dataclass(frozen=True)
class ShotConfig:
    """When a change between two frames is a cut."""

    ratio: float = 3.0  # how many times the mean change of the frames around it
    change: float = 17.0  # least weighted mean difference of hue, saturation, value and edges, of 255
    window: int = 2  # frames on either side that it is compared with
    seconds: float = 0.4  # of the shortest shot; a cut sooner after another one is passed over
    key_frames: int = 3  # of a shot of 6 s and more; shorter ones have fewer, one in 2 s


DEFAULT = ShotConfig()


def find_shots(frames: Iterable[VideoFrame], config: ShotConfig = DEFAULT) -> list[Shot]:
    """Find the shots of a video by all of its frames, in order; none if there are no frames."""
    return [shot for shot, _ in shots_with_key_frames(frames, config)]


def shots_with_key_frames(
    frames: Iterable[VideoFrame], config: ShotConfig = DEFAULT
) -> Iterator[tuple[Shot, list[VideoFrame]]]:
    """Yield each shot with one to three key frames, spread over it; a dozen frames are in memory."""
    shot: list[VideoFrame] = []
    first, last, stride = None, None, 1
    for frame, cut in _cuts(frames, config):
        if first is None or last is None or cut:
            if first is not None and last is not None:
                yield _finished(first, last, frame, shot, config)
            first, shot, stride = frame, [], 1
        last = frame
        if (frame.index - first.index) % stride == 0:
            shot.append(frame)
        if len(shot) > _KEPT:
            shot, stride = shot[::2], 2 * stride
    if first is not None and last is not None:
        yield _finished(first, last, None, shot, config)


def _finished(
    first: VideoFrame, last: VideoFrame, following: VideoFrame | None, kept: list[VideoFrame], config: ShotConfig
) -> tuple[Shot, list[VideoFrame]]:
    """Return a shot and the kept frames that are nearest to the middles of its equal parts."""
    end = (following or last).time
    shot = Shot(first.index, last.index + 1, first.time, end)
    count = max(1, min(config.key_frames, int((end - first.time) / 2)))
    middles = [first.time + (end - first.time) * (2 * part + 1) / (2 * count) for part in range(count)]
    nearest = [min(range(len(kept)), key=lambda index: abs(kept[index].time - time)) for time in middles]
    return shot, [kept[index] for index in sorted(set(nearest))]


def _cuts(frames: Iterable[VideoFrame], config: ShotConfig) -> Iterator[tuple[VideoFrame, bool]]:
    """Yield each frame, delayed by the window, and whether a shot starts with it."""
    window = config.window
    held: deque[tuple[VideoFrame, NDArray[np.int16], float]] = deque(maxlen=2 * window + 2)
    last_cut = None
    for frame in chain(frames, [None] * window):
        if frame is not None:
            small = _small(frame.image)
            held.append((frame, small, _change(held[-1][1], small) if held else 0.0))
        elif held:
            held.append((held[-1][0], held[-1][1], 0.0))
        if len(held) <= window:
            continue
        now = len(held) - 1 - window
        current = held[now][0]
        last_cut = current.time if last_cut is None else last_cut
        cut = current.time - last_cut >= config.seconds and _is_cut(list(held), now, config)
        last_cut = current.time if cut else last_cut
        yield current, cut


def _is_cut(held: list[tuple[VideoFrame, NDArray[np.int16], float]], now: int, config: ShotConfig) -> bool:
    change = held[now][2]
    around = [held[index][2] for index in range(max(now - config.window, 0), len(held)) if index != now]
    if now == 0 or change < config.change or change < config.ratio * sum(around) / len(around):
        return False
    pairs = ((now - 1, len(held) - 1), (max(now - 2, 0), now))  # alike where a flash begins, or ends
    return all(_change(held[before][1], held[after][1]) > change / 2 for before, after in pairs)


def _small(image: ImageArray) -> NDArray[np.int16]:
    """Return hue, saturation, value and edges of a small copy: shape (4, 54, 96), int16, 0 to 255 (hue: to 179)."""
    step = max(min(image.shape[1] // (3 * _WIDTH), image.shape[0] // (3 * _HEIGHT)), 1)
    copy = cv2.resize(np.ascontiguousarray(image[::step, ::step]), (_WIDTH, _HEIGHT), interpolation=cv2.INTER_AREA)
    hsv = cv2.cvtColor(copy, cv2.COLOR_RGB2HSV)
    middle = float(np.median(hsv[..., 2]))
    edges = cv2.Canny(np.ascontiguousarray(hsv[..., 2]), max(0.0, middle * 2 / 3), min(255.0, middle * 4 / 3))
    edges = cv2.dilate(edges, np.ones((3, 3), np.uint8))
    return np.concatenate([hsv.transpose(2, 0, 1), edges[None]]).astype(np.int16)


def _change(before: NDArray[np.int16], after: NDArray[np.int16]) -> float:
    """Return the mean difference of two small copies; hue is a circle of 180."""
    difference = np.abs(after - before)
    difference[0] = np.minimum(difference[0], 180 - difference[0])
    return float(difference.mean((1, 2)) @ _WEIGHTS)
