"""Compare the tracks of a run of ``predict`` with the ground truth of its videos."""

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TypedDict

from naruto_vision.errors import FormatError, InputError, MissingPathError
from naruto_vision.io.typed_json import read_json, read_json_lines
from naruto_vision.io.video import is_video_name
from naruto_vision.metrics.tracks import FoundBox, TrackCounts, TrueBox, track_counts
from naruto_vision.recognition.writer import LOG
from naruto_vision.records import Box
from naruto_vision.video.track_files import TRACKS

_FRAME = re.compile(r"frame_(\d{1,12})")


class _Figure(TypedDict):
    track: int
    label: str
    bbox: Box


class _Truth(TypedDict):
    cuts: list[int]
    frames: list[list[_Figure]]


class _Scene(TypedDict):
    scene: str


class _Track(TypedDict):
    video: str
    id: int
    name: str
    frames: list[int]
    boxes: list[Box]
    frame_names: list[str]


def compare_tracks(gt: str | Path, results: str | Path, iou_match: float = 0.5) -> dict[str, TrackCounts]:
    """Compare every video of a run with its ground truth, in the frames that were searched.

    The truth is a folder with ``clip.json`` of ``clip.mp4``, as ``naruto-vision draw --videos`` writes it: ``{"cuts":
    [61], "frames": [[{"track": 1, "label": "Mira", "bbox": [x1, y1, x2, y2]}], ...]}`` with a list for each frame; or
    such a file, of a run with one video.
    """
    root, searched = Path(results), defaultdict[str, set[int]](set)
    if not (root / TRACKS).is_file():
        raise MissingPathError(root / TRACKS, "file of tracks", "`naruto-vision predict VIDEO` writes it")
    for line in read_json_lines(root / LOG, _Scene):
        scene = PurePosixPath(line["scene"])
        if is_video_name(scene.parent.name) and (frame := _FRAME.fullmatch(scene.name)):
            searched[scene.parent.as_posix()].add(int(frame[1]))
    if not searched:
        raise InputError(f"{root}: no videos were searched; expected a folder that `naruto-vision predict VIDEO` wrote")
    found = defaultdict[str, list[FoundBox]](list)
    for track in read_json_lines(root / TRACKS, _Track):
        found[track["video"]] += _found(root / TRACKS, track)
    return {
        video: _compare(_truth_file(Path(gt), video), frames, found[video], iou_match)
        for video, frames in sorted(searched.items())
    }


def _truth_file(gt: Path, video: str) -> Path:
    path = gt if gt.is_file() else gt / Path(video).with_suffix(".json")
    if not path.is_file():
        raise MissingPathError(path, f"ground truth of {video}")
    return path


def _found(path: Path, track: _Track) -> Iterator[FoundBox]:
    lengths = [len(track["frames"]), len(track["boxes"]), len(track["frame_names"])]
    if len({*lengths}) > 1 or len({*track["frames"]}) < lengths[0]:
        raise FormatError(path, f"a frame, box and name for each region of track {track['id']}", f"{lengths} of them")
    for frame, box, name in zip(track["frames"], track["boxes"], track["frame_names"], strict=True):
        yield FoundBox(frame, track["id"], track["name"], name, box)


def _compare(path: Path, frames: set[int], found: list[FoundBox], iou_match: float) -> TrackCounts:
    truth = read_json(path, _Truth)
    if max(frames) >= len(truth["frames"]):
        raise InputError(
            f"{path}: expected a list for each frame, found {len(truth['frames'])}, no frame {max(frames)}"
        )
    true = [
        TrueBox(frame, each["track"], each["label"], each["bbox"])
        for frame in sorted(frames)
        for each in truth["frames"][frame]
    ]
    if len({(each.frame, each.track) for each in true}) < len(true):
        raise FormatError(path, "each track once in a frame", "one that is there twice")
    return track_counts(true, found, truth["cuts"], iou_match)
