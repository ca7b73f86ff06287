"""``naruto-vision video info | extract | rebuild``: what a video is, its frames as images, and a video of frames."""

import argparse
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from naruto_vision.cli.console import (
    above_zero,
    add_json_option,
    progress,
    show,
    show_json,
    warn,
    warn_left_out,
    whole_number,
)
from naruto_vision.errors import BadVideoError
from naruto_vision.io.text import clock_seconds, quantity

if TYPE_CHECKING:
    from naruto_vision.io.quarantine import Quarantine
    from naruto_vision.io.video import VideoReader
    from naruto_vision.video.frames import FrameChoice

_STALL = 60.0  # seconds
_CODECS = {"h264": "h264", "mp4v": "mpeg4"}
T = TypeVar("T")

frame_rate = above_zero("frames per second", 1000)
"""Read frames per second, for argparse's ``type``."""


def seconds(text: str) -> float:
    """Read a time, "90.5", "1:30.5" or "0:01:30.5", for argparse's ``type``."""
    value = clock_seconds(text)
    if value is None:
        raise argparse.ArgumentTypeError(f"expected seconds or a time such as 1:30, found {text!r}")
    return value


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"([1-9]\d{0,4})[x,]([1-9]\d{0,4})", text)
    if found is None or max(int(found[1]), int(found[2])) > 20_000:
        raise argparse.ArgumentTypeError(f"expected WIDTHxHEIGHT in pixels, such as 640x360, found {text!r}")
    return int(found[1]), int(found[2])


def add_choice_options(parser: argparse.ArgumentParser) -> None:
    """Declare which frames of a video are read, and how large."""
    add = parser.add_argument
    add("--fps", type=frame_rate, metavar="N", help="frames per second to take, none twice (default: every frame)")
    add("--size", type=_size, metavar="WxH", help="width and height of the frames (default: those of the video)")
    text = "fit: the whole frame inside --size; fill: its centre that covers --size; stretch: each side on its own"
    add("--fit", choices=("fit", "fill", "stretch"), default="fit", help=text)
    add("--start", type=seconds, default=0.0, metavar="TIME", help="leave out frames before, as 90 or 1:30")
    add("--end", type=seconds, metavar="TIME", help="leave out frames from here on (default: to the end)")
    add("--start-frame", type=whole_number, default=0, metavar="N", help="leave out frames with a smaller index")
    text = "end a decoder that returns no frame for this long; the frames before are kept"
    add("--stall", type=seconds, default=_STALL, metavar="TIME", help=text)


def frame_choice(arguments: argparse.Namespace) -> "FrameChoice":
    """Return the choice that the options describe."""
    from naruto_vision.video.frames import FrameChoice

    own = arguments
    return FrameChoice(own.start, own.end, own.start_frame, own.fps, own.size, own.fit)


def open_reader(path: Path, arguments: argparse.Namespace) -> "VideoReader":
    """Open a video with the options, decoded in a process that can be ended."""
    from dataclasses import asdict

    from naruto_vision.io.video_process import IsolatedVideoReader

    reader = IsolatedVideoReader(path, stall=arguments.stall, **asdict(frame_choice(arguments)))
    if not len(reader):
        held = f"it has {quantity(reader.info.frames, 'frame')} in {reader.info.duration:.3f} s"
        raise BadVideoError(path, f"--start, --end and --start-frame leave no frames; {held}")
    return reader


def each_video(videos: Sequence[Path], read: Callable[[Path], T]) -> "tuple[list[T], Quarantine]":
    """Use the videos one after the other; those that cannot be used are named, and an error if none can."""
    from naruto_vision.io.quarantine import Quarantine

    quarantine, found = Quarantine("videos", len(videos)), []
    for path in videos:
        value = quarantine.read(path, partial(read, path))
        if value is not None:
            found.append(value)
        elif len(videos) > 1:
            warn(f"left out: {quarantine.rows[-1].reason}")
    quarantine.check(1.0)
    return found, quarantine


def _videos_option(parser: argparse.ArgumentParser) -> None:
    text = "videos, folders of them, patterns such as 'episodes/*.mkv', or @FILE with a name per line"
    parser.add_argument("videos", nargs="+", metavar="VIDEO", help=text)


def _info_options(parser: argparse.ArgumentParser) -> None:
    _videos_option(parser)
    add_choice_options(parser)
    parser.add_argument("--shots", action="store_true", help="decode the frames, and list the cuts between shots")
    add_json_option(parser)


def info(arguments: argparse.Namespace) -> int:
    """Print what videos are."""
    from naruto_vision.io.inputs import find_videos
    from naruto_vision.video.frames import info_lines

    def read(path: Path) -> dict[str, Any]:
        reader = open_reader(path, arguments)
        document: dict[str, Any] = {**vars(reader.info), "target_fps": arguments.fps, "target_frames": len(reader)}
        lines = info_lines(reader.info, len(reader), arguments.fps)
        if arguments.shots:
            document["shots"] = _shots(reader, path)
            document["lost"] = reader.lost
            starts = [f"  {shot['start']:.3f} s (frame {shot['start_frame']})" for shot in document["shots"]]
            lines += [f"shots: {len(starts)}, which start at", *starts, *filter(None, [reader.lost])]
        if not arguments.json:
            show(*lines, *[""] * (len(videos) > 1))
        return document

    videos = find_videos(arguments.videos)
    found, quarantine = each_video(videos, read)
    if arguments.json:
        show_json({"videos": found, "left_out": [row._asdict() for row in quarantine.rows]})
    return 0


def _shots(reader: "VideoReader", path: Path) -> list[dict[str, Any]]:
    from naruto_vision.io.video import counted
    from naruto_vision.video.shots import find_shots

    with progress(f"cuts of {path.name}", len(reader)) as advance:
        return [vars(shot) for shot in find_shots(counted(reader, advance))]


def _extract_options(parser: argparse.ArgumentParser) -> None:
    _videos_option(parser)
    text = "folder of the frames, one in it for each video if there are several; the same command continues there"
    parser.add_argument("--out", type=Path, metavar="DIR", help=f"{text} (default: frames_resized_<date>_<time>)")
    add_choice_options(parser)
    parser.add_argument("--format", choices=("png", "jpg"), default="png", help="png has the exact pixels")


def extract(arguments: argparse.Namespace) -> int:
    """Write the frames of videos as images."""
    from naruto_vision.io.inputs import find_videos
    from naruto_vision.video.frames import FRAMES, dated_folder, extract_frames, video_folders

    videos = find_videos(arguments.videos)
    root = arguments.out or dated_folder()
    alone = len(videos) == 1 and not Path(arguments.videos[0]).is_dir()
    folders = dict(video_folders(videos, root, alone=alone))

    def read(path: Path) -> int:
        reader = open_reader(path, arguments)
        choice = frame_choice(arguments)
        with progress(path.name, len(reader)) as advance:
            done = extract_frames(reader, folders[path], choice, suffix=f".{arguments.format}", advance=advance)
        kept = f", {done.frames - done.written} of which were there" if done.frames > done.written else ""
        frames = quantity(done.frames, "frame")
        show(f"{done.folder}: {frames} of {path.name}{kept}; times: {done.folder / FRAMES}")
        if done.lost:
            warn(f"{path}: {done.lost}")
        return done.frames

    try:
        found, quarantine = each_video(videos, read)
    except KeyboardInterrupt:
        again = "the same command" if arguments.out else f"the same command with --out {root}"
        warn(f"stopped; {again} continues")
        raise
    if len(videos) > 1:
        left = f", {quarantine.quarantined} could not be used" if quarantine.quarantined else ""
        show(f"{root}: {quantity(sum(found), 'frame')} of {len(found)} of {len(videos)} videos{left}")
    return 0


def _rebuild_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("frames", type=Path, metavar="DIR", help="folder of frames, as `video extract` writes it or of any images")
    add("--out", type=Path, default=Path("rebuilt.mp4"), metavar="FILE", help="the video: .mp4, .mov or .mkv")
    text = "frames per second (default: the times of frames.csv, or 30 in a folder without it)"
    add("--fps", type=frame_rate, metavar="N", help=text)
    text = "h264 plays in browsers; mp4v is what the reference system writes"
    add("--codec", choices=tuple(_CODECS), default="h264", help=text)


def rebuild(arguments: argparse.Namespace) -> int:
    """Write a video of a folder of frames."""
    from naruto_vision.video.frames import list_frames, rebuild_video

    total = len(list_frames(arguments.frames))
    codec: Any = _CODECS[arguments.codec]
    with progress("rebuilding", total) as advance:
        done = rebuild_video(arguments.frames, arguments.out, arguments.fps, codec=codec, advance=advance)
    warn_left_out(done.quarantine)
    show(f"{arguments.out}: {quantity(done.frames, 'frame')}, {done.seconds:.3f} s")
    return 0


COMMANDS = {
    "video info": (_info_options, info),
    "video extract": (_extract_options, extract),
    "video rebuild": (_rebuild_options, rebuild),
}
