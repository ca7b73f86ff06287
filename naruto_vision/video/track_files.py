"""The files of the tracks of videos: ``tracks.jsonl``, screen time, timelines and annotated videos.

They are made from ``predictions.jsonl`` and the videos, so a resumed run has the same as an uninterrupted one.
"""

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

import numpy as np
from numpy.typing import NDArray

from naruto_vision.errors import FormatError
from naruto_vision.geometry import mask_from_rle
from naruto_vision.io.atomic import atomic_file, utf8, write_text
from naruto_vision.io.images import MAX_SIDE, write_image
from naruto_vision.io.text import csv_text, printable, score_text
from naruto_vision.io.typed_json import convert_json
from naruto_vision.io.video import VideoReader, VideoWriter, counted, writable_fps
from naruto_vision.io.video_process import IsolatedVideoReader
from naruto_vision.recognition.writer import LOG, as_line, output_stems, vector_from_text
from naruto_vision.records import UNKNOWN, Box, Identity, ImageArray
from naruto_vision.video.shots import Shot, find_shots
from naruto_vision.video.tracks import MaskMemory, SearchedFrame, Sighting, Track, TrackConfig, Tracker
from naruto_vision.viz.overlay import UNLISTED, Colour, DrawnBox, draw_boxes
from naruto_vision.viz.timeline import draw_timeline

if TYPE_CHECKING:
    from rich.table import Table

_LOG = logging.getLogger(__name__)
TRACKS, SCREEN_TIME, VIDEOS = "tracks.jsonl", "screen_time.csv", "videos"
_DIGITS = 6


class _Region(TypedDict):
    bbox: tuple[int, int, int, int]
    mask: NotRequired[dict[str, Any]]
    label: str
    name: str
    score: float
    p_value: float | None
    shown: bool
    vector: NotRequired[str]


class _Line(TypedDict):
    scene: str
    regions: list[_Region]


@dataclass(frozen=True)
class SearchedVideo:
    """A video, the searched frames (name of the scene to index, rising), how many a second, and how many it has."""

    path: Path
    scenes: Mapping[str, int]
    fps: float
    frames: int


@dataclass(frozen=True)
class ScreenTime:
    """How long a name is on screen in a video, in seconds, and the stretches of time."""

    video: str
    name: str
    seconds: float
    share: float  # of the video
    tracks: int
    spans: tuple[tuple[float, float], ...]


def write_tracks(
    out: Path,
    videos: Mapping[str, SearchedVideo],
    colours: Mapping[str, Colour],
    *,
    config: TrackConfig | None = None,
    unlike: float = 0.0,
    memory: MaskMemory | None = None,
    annotate: bool = True,
    advance: Callable[[], None] = lambda: None,
) -> list[ScreenTime]:
    """Link the searched frames of every video, and write all files of the tracks; return who is on screen how long.

    ``out`` is the folder of a run, with its ``predictions.jsonl``; videos have the names that scenes have. ``config``,
    ``unlike`` and ``memory``, for which the searched frames are decoded again, are those of ``Tracker``. ``annotate``
    writes a copy of each video with boxes and names. ``advance`` is called for each frame that is read, see
    ``frames_to_read``.
    """
    stems, times = output_stems(list(videos)), list[ScreenTime]()
    with atomic_file(out / TRACKS) as temporary, temporary.open("wb") as lines:
        for name, video in videos.items():
            reader = IsolatedVideoReader(video.path)
            shots = find_shots(counted(reader, advance))
            shots[-1:] = [replace(shot, end=reader.info.duration) for shot in shots[-1:]]
            if reader.lost:
                _LOG.warning("%s: %s", name, reader.lost)
            frames = _frames(out / LOG, video.scenes, reader.times, masks=memory is not None)
            if memory is not None:
                again = IsolatedVideoReader(video.path)
                again.pick(np.array(sorted(video.scenes.values()), np.int64))
                frames = _with_images(frames, out / LOG, again, advance)
            tracks = link_frames(frames, shots, config, unlike, memory)
            lines.writelines(utf8(as_line(track_document(name, track))) for track in tracks)
            placed = [_Placed.of(track, shots, 1.0 / video.fps, colours) for track in tracks]
            own = screen_times(name, placed, reader.info.duration)
            _write_timeline(out / VIDEOS / f"{stems[name]}_timeline.png", name, own, shots, reader, colours)
            if annotate:
                _write_annotated(out / VIDEOS / f"{stems[name]}.mp4", reader, placed, advance)
            times += own
    write_text(out / SCREEN_TIME, csv_text([_COLUMNS, *map(_row, times)]))
    return times


def frames_to_read(videos: Mapping[str, SearchedVideo], *, annotate: bool = True, follow: bool = False) -> int:
    """Return how often ``write_tracks`` calls ``advance``; ``follow``: with a mask memory."""
    return sum(video.frames * (2 if annotate else 1) + len(video.scenes) * follow for video in videos.values())


def link_frames(
    frames: Iterable[SearchedFrame],
    shots: Sequence[Shot],
    config: TrackConfig | None = None,
    unlike: float = 0.0,
    memory: MaskMemory | None = None,
) -> list[Track]:
    """Link the regions of a video's frames, in order; tracks are numbered by their start. See ``Tracker``."""
    tracker, found, cuts = Tracker(config, unlike, memory), list[Track](), [shot.start_frame for shot in shots[1:]]
    for index, time, sightings, image in frames:
        if cuts and index >= cuts[0]:
            found += tracker.cut()
            cuts = [cut for cut in cuts if cut > index]
        found += tracker.update(time, sightings, image)
    found = sorted([*found, *tracker.cut()], key=lambda track: track.id)
    return [replace(track, id=number) for number, track in enumerate(found, 1)]


def _frames(
    log: Path, scenes: Mapping[str, int], times: NDArray[np.float64], *, masks: bool = False
) -> Iterator[SearchedFrame]:
    """Read the shown regions of a video's frames, in order; frames that could not be read are left out."""
    places, size = dict[int, int](), 0
    with log.open("rb") as lines:
        offset = 0
        for line in lines:
            scene = _scene_of(log, line) if line.endswith(b"\n") else ""
            if scene in scenes:
                places[scenes[scene]] = offset
            offset += len(line)
        for index, start in sorted(places.items()):
            lines.seek(start)
            record, time = convert_json(log, json.loads(lines.readline()), _Line), float(times[index])
            try:
                shown = [each for each in record["regions"] if each["shown"] and each.get("vector")]
                found = [_sighting(index, time, each, masks=masks) for each in shown]
            except ValueError as error:
                raise FormatError(
                    log, f"regions of {record['scene']!r} as `predict` writes them", f"{error}"[:80]
                ) from None
            sizes = {len(each.identity.vector) for each in found if each.identity.vector is not None}
            if len(sizes | ({size} if size else set())) > 1:
                raise FormatError(log, "vectors of one length", f"others in {record['scene']!r}")
            size = max(sizes, default=size)
            yield SearchedFrame(index, time, found)


def _with_images(
    frames: Iterable[SearchedFrame], log: Path, reader: VideoReader, advance: Callable[[], None]
) -> Iterator[SearchedFrame]:
    """Add the images of frames, from a reader of these frames; without those that it cannot decode."""
    images = iter(reader)
    image = next(images, None)
    for frame in counted(frames, advance):
        while image is not None and image.index < frame.number:
            image = next(images, None)
        if image is None or image.index != frame.number:
            continue
        for each in frame.found:
            if each.mask is None or each.mask.shape != image.image.shape[:2]:
                found = "none" if each.mask is None else str(each.mask.shape)
                raise FormatError(
                    log, f"masks of {image.image.shape[:2]} pixels, as the frames of {reader.info.path}", found
                )
        yield frame._replace(image=image.image)


def _scene_of(log: Path, line: bytes) -> str:
    try:
        return str(json.loads(line)["scene"])
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise FormatError(log, "a scene in each line", f"{error}"[:80]) from None


def _sighting(index: int, time: float, region: _Region, *, masks: bool) -> Sighting:
    """Read a region; ValueError for a box outside of every image, no vector of finite numbers, or a wrong mask."""
    vector, known = vector_from_text(region.get("vector", "")), region["name"] != UNKNOWN
    if not (len(vector) and np.isfinite(vector).all() and all(0 <= side <= MAX_SIDE for side in region["bbox"])):
        raise ValueError(f"box {region['bbox']} with a vector of {len(vector)} numbers")
    mask = mask_from_rle(region.get("mask", {})) if masks else None
    return Sighting(index, time, region["bbox"], Identity(region["label"], region["score"], known, vector=vector), mask)


def track_document(video: str, track: Track) -> dict[str, Any]:
    """Return the line of ``tracks.jsonl``."""
    sightings = track.sightings
    return {
        "video": video,
        "id": track.id,
        "name": track.name,
        "label": track.label,
        "score": round(track.score, _DIGITS),
        "known": track.known,
        "frames": [each.frame for each in sightings],
        "times": [round(each.time, 3) for each in sightings],
        "boxes": [list(each.box) for each in sightings],
        "frame_names": [each.identity.name for each in sightings],
        "frame_scores": [round(each.identity.score, _DIGITS) for each in sightings],
    }


@dataclass(frozen=True)
class _Placed:
    """A track in its shot: half of the time between searched frames is added at both ends."""

    track: Track
    start: float
    end: float
    colour: Colour

    @classmethod
    def of(cls, track: Track, shots: Sequence[Shot], step: float, colours: Mapping[str, Colour]) -> "_Placed":
        first, last = track.sightings[0], track.sightings[-1]
        shot = next(each for each in reversed(shots) if each.start_frame <= first.frame)
        colour = colours.get(track.label, UNLISTED) if track.known else UNLISTED
        return cls(track, max(first.time - step / 2, shot.start), min(last.time + step / 2, shot.end), colour)

    def box_at(self, time: float) -> Box:
        """Interpolate the box between the searched frames."""
        times = [each.time for each in self.track.sightings]
        sides = zip(*(each.box for each in self.track.sightings), strict=True)
        x1, y1, x2, y2 = (round(float(np.interp(time, times, side))) for side in sides)
        return x1, y1, x2, y2


def screen_times(video: str, placed: Sequence[_Placed], duration: float) -> list[ScreenTime]:
    """Add up how long each name is on screen, most seconds first, unknowns last."""
    rows = []
    for name in {each.track.name for each in placed}:
        own = sorted((each.start, each.end) for each in placed if each.track.name == name)
        spans = [own[0]]
        for start, end in own[1:]:
            joined = start <= spans[-1][1]
            spans[-1:] = [(spans[-1][0], max(end, spans[-1][1]))] if joined else [spans[-1], (start, end)]
        seconds = sum(end - start for start, end in spans)
        rows.append(ScreenTime(video, name, seconds, seconds / duration, len(own), tuple(spans)))
    return sorted(rows, key=lambda row: (row.name == UNKNOWN, -row.seconds, row.name))


_COLUMNS = ("video", "name", "seconds", "share", "tracks", "first", "last")


def _row(each: ScreenTime) -> tuple[object, ...]:
    first, last = each.spans[0][0], each.spans[-1][1]
    numbers = (round(each.seconds, 3), round(each.share, 4), each.tracks, round(first, 3), round(last, 3))
    return each.video, each.name, *numbers


def screen_time_table(times: Sequence[ScreenTime], title: str, most: int = 30) -> "Table":
    """Lay out who is on screen how long, of each video in the order of its rows."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for column in ("video", "name"):
        table.add_column(column)
    for column in ("seconds", "share", "tracks"):
        table.add_column(column, justify="right")
    for each in times[:most]:
        names = (escape(printable(text, one_line=True)) for text in (each.video, each.name))
        table.add_row(*names, f"{each.seconds:.1f}", f"{each.share:.0%}", str(each.tracks))
    if len(times) > most:
        table.caption = f"{len(times) - most} more rows in {SCREEN_TIME}"
    return table


def _write_timeline(
    path: Path,
    name: str,
    own: Sequence[ScreenTime],
    shots: Sequence[Shot],
    reader: VideoReader,
    colours: Mapping[str, Colour],
) -> None:
    rows, totals = {each.name: each.spans for each in own}, {each.name: each.seconds for each in own}
    title, cuts = f"Who is on screen in {name}", [shot.start for shot in shots[1:]]
    write_image(path, draw_timeline(title, rows, totals, reader.info.duration, cuts, colours))


def _write_annotated(path: Path, reader: VideoReader, placed: Sequence[_Placed], advance: Callable[[], None]) -> None:
    """Write a copy of a video with the boxes and names of its tracks, interpolated between searched frames."""
    with VideoWriter(path, writable_fps(reader.info.fps)) as writer:
        for frame in counted(reader, advance):
            writer.write(_annotated(frame.image, frame.time, placed), frame.time)


def _annotated(image: ImageArray, time: float, placed: Sequence[_Placed]) -> ImageArray:
    there = [each for each in placed if each.start <= time < each.end]
    there.sort(key=lambda each: (not each.track.known, each.track.id))
    texts = [
        f"{each.track.id} {each.track.name}" + (f" {score_text(each.track.score)}" if each.track.known else "")
        for each in there
    ]
    return draw_boxes(
        image, [DrawnBox(each.box_at(time), each.colour, text) for each, text in zip(there, texts, strict=True)]
    )
