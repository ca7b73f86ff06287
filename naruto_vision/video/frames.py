"""Frames of a video as image files, and a video of frames.

A folder of frames has ``frames.csv``, a row for each frame, which comes last and means "done"; ``frames.json`` says
what they were made from, so that the same extraction continues and another one is refused.
"""

import csv
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

from naruto_vision.errors import BadImageError, FormatError, InputError, MissingPathError
from naruto_vision.io.atomic import TEMPORARY_PREFIX, utf8, write_json, write_text
from naruto_vision.io.images import encode_image, image_size, is_image, read_image
from naruto_vision.io.locks import folder_lock
from naruto_vision.io.machine import allowed_cpus
from naruto_vision.io.names import label_name, longer_stems, output_name
from naruto_vision.io.quarantine import Quarantine
from naruto_vision.io.typed_json import read_json, require_regular
from naruto_vision.io.video import (
    MAX_SECONDS,
    Fit,
    VideoFrame,
    VideoInfo,
    VideoReader,
    VideoWriter,
    resize_frame,
    writable_fps,
)

FRAMES, SETTINGS, INFO = "frames.csv", "frames.json", "info.txt"
_COLUMNS = ("file", "frame", "time")
_ENCODERS = 4  # threads at most; each holds two frames
REBUILT_FPS = 30.0
"""Frames per second of a video of frames without times, as in the reference system."""


@dataclass(frozen=True)
class FrameChoice:
    """Which frames of a video are extracted, and how large; as the arguments of ``VideoReader``."""

    start: float = 0.0
    end: float | None = None
    start_frame: int = 0
    fps: float | None = None
    size: tuple[int, int] | None = None
    fit: Fit = "fit"


@dataclass(frozen=True)
class Extracted:
    """The outcome of an extraction: frames that are in the folder, those that this run wrote, what is missing."""

    folder: Path
    info: VideoInfo
    frames: int
    written: int
    lost: str


@dataclass(frozen=True)
class FrameFile:
    """A row of ``frames.csv``: an image file in the folder, the frame's index in its video, and its seconds."""

    file: str
    frame: int
    time: float


def dated_folder() -> Path:
    """Return the name of a new folder of frames, as the reference system names it."""
    return Path(f"frames_resized_{datetime.now():%Y-%m-%d_%H-%M-%S}")


def info_lines(info: VideoInfo, frames: int, fps: float | None = None) -> list[str]:
    """Say what a video is, and how many frames of it are taken at a frame rate (None: its own)."""
    turned = f", turned by {info.rotation} degrees" if info.rotation else ""
    return [
        f"video: {info.path}",
        f"format: {info.container}, {info.codec}, {info.width}x{info.height}{turned}",
        f"frames: {info.frames}",
        f"duration: {info.duration:.3f} s",
        f"original fps: {info.fps:.6g}",
        f"target fps: {min(fps or info.fps, info.fps):.6g} ({frames} frames)",
    ]


def extract_frames(
    reader: VideoReader,
    folder: str | Path,
    choice: FrameChoice,
    *,
    suffix: str = ".png",
    advance: Callable[[], None] = lambda: None,
) -> Extracted:
    """Write the frames of a reader as ``frame_NNNNNN.png``, numbered as in the video; continues where it was stopped.

    ``choice`` has the options that the reader was opened with, and has to be the same to continue, as ``suffix``:
    ".png", which has the exact pixels, or ".jpg". ``advance`` is called for each frame. InputError if the folder has
    frames of something else, or another process writes there.
    """
    out = Path(folder)
    with folder_lock(out, "--out"):
        _check_settings(out, reader.info, choice, suffix)
        for leftover in out.glob(f"{TEMPORARY_PREFIX}frame_*"):  # of a killed run
            leftover.unlink()
        done = _done(out)
        total = len(reader)
        if done:
            reader.skip_to(done[-1].frame + 1)
        for _ in done:
            advance()
        written = _write_all(reader, out, suffix, advance)
        frames, missing = len(done) + written, reader.lost
        if done and frames < total:  # the earlier run has passed over some
            missing = f"{total - frames} of {total} frames could not be decoded"
        lines = [*info_lines(reader.info, total, choice.fps), *filter(None, [missing])]
        write_text(out / INFO, "\n".join(lines) + "\n")
    return Extracted(out, reader.info, frames, written, missing)


def _check_settings(out: Path, info: VideoInfo, choice: FrameChoice, suffix: str) -> None:
    """Record what the frames are of; InputError if the folder has those of something else."""
    path = Path(info.path)
    video = {"path": str(path.resolve()), "bytes": path.stat().st_size, "frames": info.frames}
    settings: dict[str, Any] = {"video": video, "choice": asdict(choice), "suffix": suffix}
    settings["choice"]["size"] = list(choice.size) if choice.size else None
    if (out / SETTINGS).exists():
        if read_json(out / SETTINGS, dict[str, Any]) != settings:
            raise InputError(f"{out}: has frames of another video or of other options; give another --out")
        return
    if any(is_image(path) for path in out.iterdir()):
        raise InputError(f"{out}: has images that are no frames of this video; give another --out")
    write_json(out / SETTINGS, settings)


def _done(out: Path) -> list[FrameFile]:
    """Return the rows up to the first whose file is missing, and cut the others off ``frames.csv``."""
    rows = []
    for row in read_frames(out) if (out / FRAMES).exists() else ():
        if not (out / row.file).is_file() or not (out / row.file).stat().st_size:
            break
        rows.append(row)
    write_text(out / FRAMES, ",".join(_COLUMNS) + "\n" + "".join(map(_line, rows)))
    return rows


def _line(row: FrameFile) -> str:
    return f"{row.file},{row.frame},{row.time:.6f}\n"


def read_frames(folder: str | Path) -> list[FrameFile]:
    """Read ``frames.csv`` of a folder, without a torn last line; FormatError if it is not such a file."""
    path = Path(folder) / FRAMES
    require_regular(path)
    whole = path.read_bytes().rpartition(b"\n")[0].decode("utf-8", "replace")
    try:
        table = list(csv.reader(whole.splitlines()))
    except csv.Error as error:
        raise FormatError(path, "a CSV file", str(error)[:60]) from None
    if not table or tuple(table[0]) != _COLUMNS:
        raise FormatError(path, f"the columns {','.join(_COLUMNS)}", repr(",".join(table[0]) if table else "")[:60])
    try:
        rows = [FrameFile(file, int(frame), float(time)) for file, frame, time in table[1:]]
    except ValueError as error:
        raise FormatError(path, "a file, a whole number and seconds in each row", str(error)[:60]) from None
    for row in rows:
        if "\0" in row.file or not 0 <= row.time <= MAX_SECONDS:
            raise FormatError(path, f"file names and 0 to {MAX_SECONDS:.0f} seconds", f"{row.file!r}, {row.time}"[:60])
    return rows


def _write_all(reader: VideoReader, out: Path, suffix: str, advance: Callable[[], None]) -> int:
    """Encode frames in threads, and log each in order once its file is there; returns how many."""
    written, workers = 0, min(allowed_cpus(), _ENCODERS)
    pending: deque[Future[FrameFile]] = deque()
    with (out / FRAMES).open("ab") as log, ThreadPoolExecutor(workers) as pool:

        def finish() -> None:
            nonlocal written
            log.write(utf8(_line(pending.popleft().result())))
            log.flush()
            written += 1
            advance()

        for frame in reader:
            pending.append(pool.submit(_save, out, frame, suffix))
            if len(pending) > workers:
                finish()
        while pending:
            finish()
    return written


def _save(out: Path, frame: VideoFrame, suffix: str) -> FrameFile:
    """Write one frame; without a flush to the disk, which a video has too many of."""
    name = f"frame_{frame.index:06d}{suffix}"
    temporary = out / f"{TEMPORARY_PREFIX}{name}"
    temporary.write_bytes(encode_image(frame.image, suffix))
    os.replace(temporary, out / name)  # noqa: PTH105 - one call a frame
    return FrameFile(name, frame.index, frame.time)


@dataclass(frozen=True)
class Rebuilt:
    """The outcome of ``rebuild_video``: the frames that are in the video, its seconds, and the images left out."""

    frames: int
    seconds: float
    quarantine: Quarantine


def rebuild_video(
    folder: str | Path,
    out: str | Path,
    fps: float | None = None,
    *,
    codec: Literal["h264", "mpeg4"] = "h264",
    advance: Callable[[], None] = lambda: None,
) -> Rebuilt:
    """Write a video, ".mp4", ".mov" or ".mkv", of a folder of frames (``list_frames``).

    Without ``fps``, frames last as ``frames.csv`` says, or there are 30 a second. InputError if no frame can be read.
    """
    root = Path(folder)
    rows = list_frames(root)
    times = [None if fps is not None or row.time < 0 else row.time for row in rows]
    quarantine = Quarantine("frames", len(rows))
    rate = fps or _rate([time for time in times if time is not None])
    width, height = _first_size(root, rows)
    with VideoWriter(out, rate, (width, height), codec) as writer:
        for row, time in zip(rows, times, strict=True):
            image = quarantine.read(row.file, partial(read_image, root / row.file))
            if image is not None:
                writer.write(resize_frame(image, (width, height), "stretch"), time)
            advance()
        quarantine.check(1.0)
    last = times[-1] if times and times[-1] is not None else (quarantine.ok - 1) / rate
    return Rebuilt(quarantine.ok, last - (times[0] or 0.0) + 1 / rate, quarantine)


def list_frames(folder: str | Path) -> list[FrameFile]:
    """Return the rows of ``frames.csv``, or images by name with the time -1; InputError if there are none."""
    root = Path(folder)
    if not root.is_dir():
        raise MissingPathError(root, "folder of frames")
    if (root / FRAMES).is_file():
        rows = read_frames(root)
    else:
        names = sorted(path.name for path in root.iterdir() if is_image(path))
        rows = [FrameFile(name, index, -1.0) for index, name in enumerate(names)]
    if not rows:
        inside = sorted(path.parent.name for path in root.glob(f"*/{FRAMES}"))
        found = f"one of the folders in it, such as {root / inside[0]}" if inside else "a folder of images"
        raise InputError(f"{root}: no frames in this folder; give {found}, as `naruto-vision video extract` writes it")
    return rows


def _first_size(root: Path, rows: Sequence[FrameFile]) -> tuple[int, int]:
    for row in rows:
        try:
            return image_size(root / row.file)
        except (BadImageError, MissingPathError, OSError):
            continue
    raise InputError(f"{root}: none of its {len(rows)} frames can be read; first {rows[0].file}")


def _rate(times: Sequence[float]) -> float:
    """Return the frame rate of rising times, which the last frame lasts by."""
    if len(times) < 2 or times[-1] <= times[0]:
        return REBUILT_FPS
    return writable_fps((len(times) - 1) / (times[-1] - times[0]))


def video_folders(videos: Sequence[Path], out: Path, *, alone: bool) -> Iterator[tuple[Path, Path]]:
    """Yield each video and the folder of its frames: the output folder itself for one that was named alone."""
    if alone:
        yield videos[0], out
        return
    absolute = [Path(os.path.abspath(video)) for video in videos]  # noqa: PTH100 - without ".."
    parent = Path(os.path.commonpath([path.parent for path in absolute]))
    taken: set[str] = set()
    for video, path in zip(videos, absolute, strict=True):
        name = path.relative_to(parent).as_posix()
        stems = [output_name(path.relative_to(parent).with_suffix("").as_posix()), *longer_stems(name)]
        stem = next(stem for stem in stems if label_name(stem).casefold() not in taken)
        taken.add(label_name(stem).casefold())
        yield video, out / stem
