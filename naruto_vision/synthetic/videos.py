"""Synthetic videos: moving figures in shots, with cuts, occlusion, entering and leaving, and their true tracks.

A figure is drawn once per shot in two poses, and every frame pastes it, moved, scaled and mirrored. ``write_video``
writes the ground truth beside the video::

    {"fps": 24, "width": 320, "height": 180, "cuts": [61, ...], "captions": ["a girl with ...", ...],
     "tracks": {"1": {"label": "Mira", "caption": "a girl with ...", "shot": 0}, ...},
     "frames": [[{"track": 1, "label": "Mira", "bbox": [x1, y1, x2, y2], "visible": 0.83}, ...], ...]}

A cut is the first frame of a shot. A track is one figure in one shot, and its boxes are tight around its visible part.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from naruto_vision.io.atomic import atomic_folder, write_json
from naruto_vision.io.video import VideoWriter
from naruto_vision.records import UNKNOWN, Box, ImageArray
from naruto_vision.synthetic.attributes import Attributes, Cast
from naruto_vision.synthetic.backdrop import draw_backdrop
from naruto_vision.synthetic.captions import aliases
from naruto_vision.synthetic.dataset import check_folder, seed_of, write_world
from naruto_vision.synthetic.figure import extent_of, paint, sketch_figure
from naruto_vision.synthetic.look import Look, in_style, random_look
from naruto_vision.synthetic.palette import any_colour, between, darker
from naruto_vision.synthetic.raster import Bytes, Layer
from naruto_vision.synthetic.scene import finish, lay_over, unknown_character

_OPAQUE = 128  # minimum alpha of a figure's pixel
_VISIBLE = 0.25  # of a figure; with less it has no box
_LEAST = 400 / (384 * 384)  # of the frame, as in scenes
_CROWD = (0.08, 0.4, 0.4, 0.12)  # probabilities of nobody, one, two and three figures
_OFF = 0.3  # how far outside the frame a walk starts or ends, in widths
_ANYWHERE = (-4096, -4096, 4096, 4096)


@dataclass(frozen=True)
class VideoConfig:
    """Size, length and people of a video; ValueError if there is no frame or a side is not even or below 32."""

    seconds: float = 20.0
    fps: int = 24
    width: int = 320
    height: int = 180
    shot_seconds: tuple[float, float] = (1.5, 4.5)
    members: int = 4  # of the cast, drawn from it for each video
    unknowns: int = 3  # characters outside the cast
    unknown_share: float = 0.3  # of the figures

    def __post_init__(self) -> None:
        sides = (self.width, self.height)
        if min(sides) < 32 or max(sides) > 2048 or self.width % 2 or self.height % 2:
            raise ValueError(f"video of {self.width}x{self.height} pixels: expected even sides of 32 to 2048")
        if self.frames < 1 or not 0 < self.shot_seconds[0] <= self.shot_seconds[1]:
            msg = f"{self.seconds} s at {self.fps} fps, shots of {self.shot_seconds} s: expected positive numbers"
            raise ValueError(msg)

    @property
    def frames(self) -> int:
        """Number of frames."""
        return round(self.seconds * self.fps)


class TrackedFigure(NamedTuple):
    """The visible part of one figure in one frame."""

    track: int  # from 1; unique in the video
    label: str  # the cast member's name, or "unknown"
    box: Box  # tight, inclusive pixels
    visible: float  # fraction of the whole figure, in (0, 1]
    owner: int  # the figure's number in ``SyntheticFrame.owners``


class SyntheticFrame(NamedTuple):
    """One frame, (H, W, 3), uint8, RGB, its figures, back to front, and the owner of each pixel, (H, W), uint8."""

    image: ImageArray
    figures: tuple[TrackedFigure, ...]
    owners: Bytes  # 0 is nobody


class Role(NamedTuple):
    """One figure of a shot: its track, name and attributes."""

    track: int
    label: str
    attributes: Attributes
    height: float  # proportions, which a character keeps through the video


@dataclass(frozen=True)
class SyntheticShot:
    """A planned shot: frames from ``start`` to before ``end``, and who plays in it."""

    start: int
    end: int
    seed: int
    backdrop: int  # seed; equal for shots at the same place
    roles: tuple[Role, ...]

    @property
    def caption(self) -> str:
        """Describe the figures in words that the text encoder knows; empty if there are none."""
        return " and ".join(_describe(role.attributes) for role in self.roles)


def _describe(attributes: Attributes) -> str:
    return aliases(attributes)[1 if attributes.bottom != "none" else 0]


class SyntheticVideo:
    """A video that is drawn while it is iterated; equal seeds give equal pixels on any machine.

    Args:
        seed: Decides everything.
        cast: The named characters; the others are unknown.
        config: Size, length and people.

    Examples:
        >>> from naruto_vision.io.bundles import config_path
        >>> from naruto_vision.synthetic.attributes import read_cast
        >>> video = SyntheticVideo(1, read_cast(config_path("cast.yaml")), VideoConfig(seconds=4))
        >>> frames = list(video)
        >>> len(frames), frames[0].image.shape
        (96, (180, 320, 3))
    """

    def __init__(self, seed: int, cast: Cast, config: VideoConfig | None = None) -> None:
        self.seed, self.config, self._cast = seed, config or VideoConfig(), cast
        rng = _generator(seed, "video")
        self._style = random_look(rng)
        self.shots = tuple(self._plan(rng))

    def __len__(self) -> int:
        return self.config.frames

    @property
    def cuts(self) -> list[int]:
        """The first frame of each shot but the first."""
        return [shot.start for shot in self.shots[1:]]

    def _plan(self, rng: np.random.Generator) -> Iterator[SyntheticShot]:
        chosen = [self._cast.names[k] for k in rng.permutation(len(self._cast))[: self.config.members]]
        known = [(name, self._cast.members[name], float(rng.random())) for name in chosen]
        others = [unknown_character(rng, self._cast, 0.3) for _ in range(self.config.unknowns)]
        unknown = [(UNKNOWN, attributes, float(rng.random())) for attributes in others]
        start, track, places = 0, 1, list[int]()
        while start < self.config.frames:
            length = max(2, round(between(rng, *self.config.shot_seconds) * self.config.fps))
            end = start + length
            if self.config.frames - end < self.config.shot_seconds[0] * self.config.fps:
                end = self.config.frames  # no shorter shot is left over
            people = self._people(rng, known, unknown)
            returns = len(places) > 1 and float(rng.random()) < 0.35  # as in a dialogue: shot and reverse shot
            places.append(places[-2] if returns else seed_of(self.seed, "backdrop", start))
            roles = tuple(Role(k, *person) for k, person in enumerate(people, track))
            yield SyntheticShot(start, end, seed_of(self.seed, "shot", start), places[-1], roles)
            start, track = end, track + len(roles)

    def _people(
        self,
        rng: np.random.Generator,
        known: list[tuple[str, Attributes, float]],
        unknown: list[tuple[str, Attributes, float]],
    ) -> list[tuple[str, Attributes, float]]:
        count = int(np.searchsorted(np.cumsum(_CROWD), float(rng.random()), side="right"))
        outside = int((rng.random(min(count, 3)) < self.config.unknown_share).sum())
        outside = min(len(unknown), max(outside, count - len(known)))
        people = [known[k] for k in rng.permutation(len(known))[: count - outside]]
        return people + [unknown[k] for k in rng.permutation(len(unknown))[:outside]]

    def __iter__(self) -> Iterator[SyntheticFrame]:
        for shot in self.shots:
            yield from self.draw_shot(shot)

    def draw_shot(self, shot: SyntheticShot) -> Iterator[SyntheticFrame]:
        """Draw the frames of one shot."""
        stage = _Stage(shot, self.config, self._style)
        return (stage.frame(k) for k in range(shot.end - shot.start))

    def truth(self, frames: list[list[dict[str, Any]]]) -> dict[str, Any]:
        """Return the JSON values of the ground truth; ``frames`` are from ``frame_document``."""
        tracks = {
            str(role.track): {"label": role.label, "caption": _describe(role.attributes), "shot": k}
            for k, shot in enumerate(self.shots)
            for role in shot.roles
        }
        size = {"fps": self.config.fps, "width": self.config.width, "height": self.config.height}
        captions = [shot.caption for shot in self.shots]
        return {"seed": self.seed, **size, "cuts": self.cuts, "captions": captions, "tracks": tracks, "frames": frames}


def frame_document(figures: tuple[TrackedFigure, ...]) -> list[dict[str, Any]]:
    """Return the JSON values of one frame's figures."""
    return [
        {"track": each.track, "label": each.label, "bbox": list(each.box), "visible": round(each.visible, 3)}
        for each in figures
    ]


def _generator(*what: object) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed_of(*what)))


class _Span(NamedTuple):
    """A number that goes from ``first`` to ``last`` between two times of the shot, in [0, 1]."""

    first: float
    last: float
    begin: float = 0.0
    end: float = 1.0

    def at(self, time: float) -> float:
        share = min(max((time - self.begin) / (self.end - self.begin), 0.0), 1.0)
        return self.first + (self.last - self.first) * share


def _walk(rng: np.random.Generator, x: float) -> _Span:
    """Position of a figure's middle, in widths of the frame: stays, crosses, enters or leaves."""
    off = -_OFF if float(rng.random()) < 0.5 else 1 + _OFF
    match int(rng.integers(6)):
        case 0 | 1:
            return _Span(x, x + between(rng, -0.08, 0.08))
        case 2:
            return _Span(off, 1.0 - off, between(rng, 0.0, 0.15), between(rng, 0.85, 1.0))
        case 3:
            return _Span(off, x, 0.0, between(rng, 0.4, 0.9))
        case 4:
            return _Span(x, off, between(rng, 0.1, 0.5), 1.0)
        case _:
            return _Span(x, min(max(x + between(rng, -0.5, 0.5), 0.1), 0.9))


class _Actor:
    """One figure of a shot: two drawn poses and a path."""

    def __init__(self, rng: np.random.Generator, role: Role, x: float, size: tuple[int, int], style: Look) -> None:
        self.role, (width, height) = role, size
        first = replace(in_style(random_look(rng), style), height=role.height, flip=False)
        other = random_look(rng)
        second = replace(first, arms=other.arms, expression=other.expression, tilt=other.tilt, sway=other.sway)
        share = between(rng, 0.6, 1.05)  # of the frame's height
        self._scales = _Span(1.0, 1.0) if float(rng.random()) < 0.6 else _Span(between(rng, 0.65, 0.9), 1.0)
        if float(rng.random()) < 0.5:
            self._scales = self._scales._replace(first=self._scales.last, last=self._scales.first)
        self._poses = [layer for look in (first, second) if (layer := _draw(role.attributes, look, share * height))]
        self.feet = between(rng, 0.92, 1.12) * height  # of the largest size
        self._path, self._width, self._bob = _walk(rng, x), width, between(rng, 0.0, 0.03) * height
        self._beat = between(rng, 0.3, 0.9)  # seconds in one pose
        self._turn = between(rng, 0.2, 0.8) if float(rng.random()) < 0.3 else 2.0
        self._flip = bool(rng.integers(2))
        self._kept: tuple[object, Layer] | None = None

    def layer(self, time: float, seconds: float, pan: float) -> Layer:
        """The whole figure at a time of the shot, with its corner in the frame, which may lie outside."""
        beats = seconds / self._beat
        pose = self._poses[int(beats) % len(self._poses)]
        scale = self._scales.at(time)
        height, width = (max(2, round(side * scale)) for side in pose.alpha.shape)
        flip = self._flip ^ (time > self._turn)
        colour, alpha = self._scaled((int(beats) % len(self._poses), width, height, flip), pose)
        left = pose.x if not flip else -pose.x - pose.alpha.shape[1]
        x = round(self._path.at(time) * self._width - pan + left * scale)
        hop = self._bob * abs(2.0 * (beats % 1.0) - 1.0)
        return Layer(x, round(self.feet - hop) - height, colour, alpha, alpha)

    def _scaled(self, key: tuple[int, int, int, bool], pose: Layer) -> tuple[Bytes, Bytes]:
        if self._kept is None or self._kept[0] != key:
            _, width, height, flip = key
            planes = [pose.colour, pose.alpha]
            if pose.alpha.shape != (height, width):
                planes = [cv2.resize(each, (width, height), interpolation=cv2.INTER_LINEAR_EXACT) for each in planes]
            planes = [cv2.flip(each, 1) if flip else each for each in planes]
            self._kept = key, Layer(0, 0, planes[0], planes[1], planes[1])
        return self._kept[1].colour, self._kept[1].alpha


def _draw(attributes: Attributes, look: Look, height: float) -> Layer | None:
    sketch = sketch_figure(attributes, look)
    return paint(sketch, look, height / extent_of(sketch).height, (0.0, 0.0), _ANYWHERE)


class _Stage:
    """One shot, ready to be drawn frame by frame."""

    def __init__(self, shot: SyntheticShot, config: VideoConfig, style: Look) -> None:
        self._shot, self._config = shot, config
        rng = _generator(shot.seed)
        self._pan = _Span(*((between(rng, 0.0, 0.2), between(rng, 0.0, 0.2)) if rng.integers(2) else (0.1, 0.1)))
        side = max(round(config.width * 1.2), config.height)
        whole = draw_backdrop(_generator(shot.backdrop), side, side)
        top = (7 * (side - config.height)) // 10  # the ground of a square backdrop lies low
        self._backdrop = whole[top : top + config.height]
        slots = rng.permutation(len(shot.roles)).tolist()
        self._actors = [self._actor(rng, role, slot, style) for role, slot in zip(shot.roles, slots, strict=True)]
        self._actors.sort(key=lambda actor: actor.feet)
        self._pillar = between(rng, 0.2, 0.8) if float(rng.random()) < 0.25 else None
        self._pillar_width = round(between(rng, 0.06, 0.14) * config.width)
        self._pillar_colour = any_colour(rng)
        self._finish = int(rng.integers(2**31))

    def _actor(self, rng: np.random.Generator, role: Role, slot: int, style: Look) -> _Actor:
        x = (slot + between(rng, 0.25, 0.75)) / len(self._shot.roles)
        return _Actor(rng, role, x, (self._config.width, self._config.height), style)

    def frame(self, number: int) -> SyntheticFrame:
        """Draw a frame of the shot, from 0."""
        time = number / max(1, self._shot.end - self._shot.start - 1)
        pan = round(self._pan.at(time) * self._config.width)
        image = self._backdrop[:, pan : pan + self._config.width].copy()
        owners = np.zeros(image.shape[:2], dtype=np.uint8)
        placed = [
            actor.layer(time, number / self._config.fps, pan - 0.1 * self._config.width) for actor in self._actors
        ]
        for k, layer in enumerate(placed, 1):
            _paste(image, owners, layer, k)
        self._draw_pillar(image, owners, pan)
        found = [self._figure(owners, layer, k) for k, layer in enumerate(placed, 1)]
        rng = np.random.Generator(np.random.PCG64(self._finish))  # the same print and scan in all frames of a shot
        figures = tuple(each for each in found if each is not None)
        return SyntheticFrame(finish(image, rng, strength=0.5), figures, owners)

    def _draw_pillar(self, image: ImageArray, owners: Bytes, pan: int) -> None:
        """Draw what stands in front of everybody, in some shots."""
        if self._pillar is None:
            return
        left = max(0, round((self._pillar + 0.1) * self._config.width) - pan)
        right = left + self._pillar_width
        image[:, left:right] = darker(self._pillar_colour)
        image[:, left + 2 : right - 2] = self._pillar_colour
        owners[:, left:right] = 0

    def _figure(self, owners: Bytes, layer: Layer, k: int) -> TrackedFigure | None:
        x, y = max(layer.x, 0), max(layer.y, 0)
        height, width = layer.alpha.shape
        window = owners[y : max(layer.y + height, 0), x : max(layer.x + width, 0)]
        if not window.size:
            return None
        own = cv2.compare(window, k, cv2.CMP_EQ)
        pixels, whole = cv2.countNonZero(own), cv2.countNonZero(cv2.compare(layer.alpha, _OPAQUE, cv2.CMP_GE))
        if pixels < max(_VISIBLE * whole, _LEAST * owners.size):
            return None
        left, top, across, down = cv2.boundingRect(own)
        role = self._actors[k - 1].role
        box = (x + left, y + top, x + left + across - 1, y + top + down - 1)
        return TrackedFigure(role.track, role.label, box, min(1.0, pixels / whole), k)


def _paste(image: ImageArray, owners: Bytes, layer: Layer, k: int) -> None:
    """Lay a figure over the frame, cut to it, and mark its pixels with its number."""
    high, wide = owners.shape
    height, width = layer.alpha.shape
    x1, y1, x2, y2 = max(layer.x, 0), max(layer.y, 0), min(layer.x + width, wide), min(layer.y + height, high)
    if x1 >= x2 or y1 >= y2:
        return
    rows, columns = slice(y1 - layer.y, y2 - layer.y), slice(x1 - layer.x, x2 - layer.x)
    alpha = np.ascontiguousarray(layer.alpha[rows, columns])
    lay_over(image, Layer(x1, y1, np.ascontiguousarray(layer.colour[rows, columns]), alpha, alpha))
    owners[y1:y2, x1:x2][alpha >= _OPAQUE] = k


def write_video(path: str | Path, video: SyntheticVideo, advance: Callable[[], None] = lambda: None) -> None:
    """Write a video as H.264, and its ground truth as JSON beside it; ``advance`` is called for each frame."""
    frames = []
    with VideoWriter(path, video.config.fps) as writer:
        for frame in video:
            writer.write(frame.image)
            frames.append(frame_document(frame.figures))
            advance()
    write_json(Path(path).with_suffix(".json"), video.truth(frames), indent=None)


def write_videos(
    out: str | Path,
    cast: Cast,
    count: int,
    config: VideoConfig | None = None,
    *,
    seed: int = 7,
    force: bool = False,
    advance: Callable[[], None] = lambda: None,
) -> None:
    """Draw videos into a folder, atomically: ``video_000.mp4`` with ``video_000.json`` and so on."""
    config = config or VideoConfig()
    check_folder(Path(out), force=force)
    with atomic_folder(out) as folder:
        for number in range(count):
            video = SyntheticVideo(seed_of(seed, "videos", number), cast, config)
            write_video(folder / f"video_{number:03d}.mp4", video, advance)
        write_world(folder, cast, {"seed": seed, "videos": count, **asdict(config)})
