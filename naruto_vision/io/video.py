"""The only door to video files: times, frames and a writer, through PyAV (the extra ``video``).

A file is read twice: the packets once, without decoding, which gives the number of frames and their times, and then
the frames. Playlists, patterns and addresses, which could open other files, are not read. A damaged video gives what
can be decoded, and says what is missing.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, repeat
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from naruto_vision.errors import BadVideoError, InputError, MissingPathError
from naruto_vision.geometry import MAX_PIXELS
from naruto_vision.io.atomic import atomic_file
from naruto_vision.io.images import MAX_SIDE
from naruto_vision.io.machine import allowed_cpus, require_package
from naruto_vision.io.text import clock_seconds
from naruto_vision.records import ImageArray

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame as DecodedFrame
    from av.video.stream import VideoStream

Fit: TypeAlias = Literal["fit", "fill", "stretch"]
"""How a frame gets another size: the whole frame inside it, the centre that covers it, or both sides on their own."""

_Item = TypeVar("_Item")

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".gif", ".ts", ".mpg", ".mpeg", ".wmv", ".flv"}
)
_DEMUXERS = (  # files only: no playlists, no patterns of images, no text
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,gif,mpegts,mpegtsraw,mpeg,mpegvideo,m4v,asf,flv,ogg,mxf,nut,ivf,obu,"
    "h264,hevc,dv,rm,wtv,vob,mp3,flac,wav,aac,amr,aiff"  # audio formats, so that they are called what they are
)
MAX_SECONDS = 1e7
"""Longest video, four months; times beyond are damaged."""

_RATES = 0.001, 1000.0  # frames per second that are written

_THREADS = 8  # of a decoder; each holds a frame
_SLACK = 1.0  # seconds that a duration in a header may exceed the frames, as a longer sound track makes it


_SKIPPING = ("h264", "hevc", "mpeg2video", "mpeg4")  # decoders that take what to skip frame by frame
_COPIED = {"mov": ".mp4", "matroska": ".mkv", "mpegts": ".ts"}  # containers that packets are copied to
_WRITTEN = (".mp4", ".mov", ".mkv")
_TICKS = 60_000  # of a second, for frames with times of their own; MPEG-4 takes at most 65,535
_BT709 = 1  # colours as players take them to be


@dataclass(frozen=True)
class VideoInfo:
    """What a video file is.

    Args:
        path: The file.
        container: Short name of its format, such as "mov" or "matroska".
        codec: Name of the decoder, such as "h264".
        width: Pixels of an upright frame.
        height: Pixels of an upright frame.
        rotation: Degrees clockwise by which stored frames are turned to be upright: 0, 90, 180 or 270.
        frames: Number of frames that are in the file.
        fps: Average frames per second; 0 if there is one frame only.
        duration: Seconds from the first frame to the end of the last one.
    """

    path: str
    container: str
    codec: str
    width: int
    height: int
    rotation: int
    frames: int
    fps: float
    duration: float


@dataclass(frozen=True)
class VideoFrame:
    """One frame of a video.

    Args:
        index: Its number from 0, in the order of presentation of the whole video.
        time: Seconds after the first frame, as the container says.
        image: Shape (H, W, 3), uint8, RGB, upright.
    """

    index: int
    time: float
    image: ImageArray


@dataclass(frozen=True)
class Scan:
    """What the packets of a file say; ``stamps`` are None where frames have none, or wrong ones."""

    info: VideoInfo
    times: NDArray[np.float64]  # (N,), rising, the first is 0
    stamps: NDArray[np.int64] | None  # (N,), the container's own; None if frames have none, or wrong ones
    keys: NDArray[np.int64]  # stamps of the key frames, rising
    missing: str  # what the file should have and has not
    turn: tuple[int, int, int, int]  # a, b, c, d of the display matrix


def is_video_name(name: str | Path) -> bool:
    """Return whether a file is a video by its name; GIFs count, of which ``read_image`` reads the first frame."""
    return Path(name).suffix.lower() in VIDEO_SUFFIXES


def video_info(path: str | Path) -> VideoInfo:
    """Read what a video is: all its packets, and the first frame.

    Args:
        path: A video file, of any container and codec that PyAV reads.

    Raises:
        MissingPathError: If there is no such file.
        BadVideoError: If it is no video, has no video stream, or none of its frames can be decoded.
        MissingPackageError: If PyAV is not installed.
    """
    return _scan(path).info


def check_video_file(path: Path) -> ModuleType:
    """Refuse what is no file, or an empty one; returns PyAV."""
    av = require_package("av", "video")
    if not path.exists():
        raise MissingPathError(path, "video")
    if not path.is_file():
        raise BadVideoError(path, "expected a video file, found a folder, a pipe or a device")
    if path.stat().st_size == 0:
        raise BadVideoError(path, "the file is empty (0 bytes)")
    return av


def _url(path: Path) -> str:
    """Name a file so that FFmpeg takes no part of its name for a protocol."""
    return f"file:{path.absolute()}"


@contextmanager
def _opened(path: Path, threads: int = 1) -> "Iterator[tuple[InputContainer, VideoStream]]":
    """Open a file and its best video stream, to be decoded by threads; FFmpeg's errors become ``BadVideoError``."""
    av = check_video_file(path)
    av.logging.set_level(None)
    options = {"format_whitelist": _DEMUXERS, "protocol_whitelist": "file"}
    try:
        with av.open(_url(path), options=options, metadata_errors="replace") as container:
            yield container, _video_stream(path, container, threads)
    except PermissionError:
        raise BadVideoError(path, "may not be read; change its permissions") from None
    except av.FFmpegError as error:
        reason = f"no video that can be read ({error.strerror}); it is truncated, or of another kind"
        raise BadVideoError(path, reason) from None


def _video_stream(path: Path, container: "InputContainer", threads: int) -> "VideoStream":
    """Return the best video stream, which is no cover image."""
    found = [each for each in container.streams.video if not each.disposition & each.disposition.attached_pic]
    best: Any = container.streams.best("video")
    stream: VideoStream | None = best if best in found else next(iter(found), None)
    if stream is None:
        kinds = ", ".join(sorted({each.type for each in container.streams})) or "nothing"
        raise BadVideoError(path, f"has no video stream; found {kinds}")
    context = stream.codec_context
    if context is None:
        raise BadVideoError(path, "its codec is not known to the installed FFmpeg; convert it to H.264")
    if context.width * context.height > MAX_PIXELS or max(context.width, context.height) > MAX_SIDE:
        reason = f"frames of {context.width}x{context.height} pixels; at most {MAX_PIXELS // 1_000_000} megapixels "
        raise BadVideoError(path, f"{reason}and {MAX_SIDE} a side are read")
    context.thread_type, context.thread_count = "AUTO", min(threads, _THREADS)
    context.options = {"max_pixels": str(MAX_PIXELS)}  # of frames that grow later on
    return stream


def _packets(
    stream: "VideoStream", alive: Callable[[], None]
) -> tuple[list[int] | None, list[int], list[tuple[int, int]]]:
    """Return the presentation times of all frames, those of key frames, and time and duration of all; unordered."""
    shown: list[int | None] = []
    keys, lasting = [], []
    hidden = stream.codec_context.name == "vp8"
    for packet in _demuxed(stream):
        alive()
        if not packet.size or packet.is_discard or (hidden and not bytes(packet)[0] & 0x10):  # VP8's alternate frames
            continue
        shown.append(packet.pts)
        lasting.append((packet.pts or 0, packet.duration or 0))
        if packet.is_keyframe and packet.pts is not None:
            keys.append(packet.pts)
    stamps = [stamp for stamp in shown if stamp is not None]
    return (stamps if len(stamps) == len(shown) else None), keys, lasting


def _demuxed(stream: "VideoStream") -> Iterator[Any]:
    """Yield the packets of a stream as far as the file can be read."""
    av = require_package("av", "video")
    try:
        yield from stream.container.demux(stream)  # type: ignore[attr-defined]  # it is of an input
    except av.FFmpegError:  # truncated: what was read counts
        return


def _declared(container: "InputContainer", stream: "VideoStream") -> float:
    """Return the seconds that the header says the video has; 0 if it does not say."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    if seconds := clock_seconds(stream.metadata.get("DURATION", "")):
        return seconds
    alone = len(container.streams) == 1 and container.duration
    return container.duration / 1e6 if alone and container.duration else 0.0


def _scan(source: str | Path, alive: Callable[[], None] = lambda: None) -> Scan:
    """Read the packets, then the first frame that can be decoded; ``alive`` is called for each packet."""
    path = Path(source)
    with _opened(path) as (container, stream):
        found, keys, lasting = _packets(stream, alive)
        unit, rate = float(stream.time_base or 0), float(stream.average_rate or stream.guessed_rate or 25)
        rate = rate if len(lasting) / rate <= MAX_SECONDS else 25.0
        declared, container_name = _declared(container, stream), container.format.name.partition(",")[0]
        codec = stream.codec_context.codec.canonical_name
    if not lasting:
        raise BadVideoError(path, "has a video stream without frames")
    stamps = None if found is None else np.sort(np.array(found, np.int64))
    if stamps is not None and (int(stamps[-1]) - int(stamps[0])) * unit > MAX_SECONDS:
        stamps = None
    times = np.arange(len(lasting)) / rate if stamps is None else (stamps - stamps[0]) * unit
    duration = 0.0 if stamps is None else float(sum(max(lasting)) - stamps[0]) * unit
    if container_name == "avi":  # it stores times in the order of decoding
        stamps = None
    duration = duration if times[-1] < duration <= MAX_SECONDS else float(times[-1]) + 1 / rate
    fps = float((len(times) - 1) / times[-1]) if times[-1] > 0 else 0.0
    fps = rate if fps and abs(rate / fps - 1) < 0.005 else fps  # times are rounded, to milliseconds in Matroska
    lost = declared - duration
    missing = f"the last {lost:.1f} of {declared:.1f} s are missing: the file is truncated" if lost > _SLACK else ""
    (height, width), rotation, turn = _first_frame(path)
    height, width = (width, height) if abs(turn[1]) > abs(turn[0]) else (height, width)
    info = VideoInfo(str(source), container_name, codec, width, height, rotation, len(times), fps, duration)
    return Scan(info, times, stamps, np.sort(np.array(keys, np.int64)), missing, turn)


def _first_frame(path: Path) -> tuple[tuple[int, int], int, tuple[int, int, int, int]]:
    """Return the stored height and width of the first frame, its rotation clockwise and its display matrix."""
    with _opened(path) as (_, stream):
        frame = next(_decoded(stream, Counter()), None)
        if frame is None:
            raise BadVideoError(path, "none of its frames can be decoded; it is corrupt")
        data: Any = frame.side_data.get("DISPLAYMATRIX")  # of one frame only: it is not freed with its side data
        a, b, _, c, d = (1, 0, 0, 0, 1) if data is None else np.frombuffer(bytes(data), np.int32, 5).tolist()
        return (frame.height, frame.width), -round(frame.rotation / 90) * 90 % 360, (a, b, c, d)


def _decoded(
    stream: "VideoStream", faults: "Counter[str]", wanted: "Callable[[int], bool] | None" = None
) -> "Iterator[DecodedFrame]":
    """Yield frames in order of presentation, without those that cannot be decoded, which are counted.

    ``wanted`` says of a presentation time whether its frame is: other frames that no frame refers to are passed over.
    """
    av = require_package("av", "video")
    context: Any = stream.codec_context
    for packet in chain(_demuxed(stream), repeat(None, _THREADS + 1)):  # a fault ends a flush: each thread may have one
        if wanted is not None and packet is not None:
            context.skip_frame = "DEFAULT" if packet.pts is None or wanted(packet.pts) else "NONREF"
        try:
            frames = stream.decode(packet)
        except EOFError:  # it was flushed
            return
        except av.FFmpegError:
            faults["undecoded"] += 1
            continue
        for frame in frames:
            faults["damaged"] += frame.is_corrupt
            yield frame


def _pixels(frame: "DecodedFrame", turn: tuple[int, int, int, int]) -> ImageArray:
    """Return the pixels of a frame, turned and mirrored by its display matrix to the nearest multiple of 90 degrees."""
    image: Any = frame.to_ndarray(format="rgb24")
    a, b, c, d = turn
    if abs(a) >= abs(b):
        image = image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
    else:
        image = image.transpose(1, 0, 2)[:: -1 if b < 0 else 1, :: -1 if c < 0 else 1]
    return np.ascontiguousarray(image)


def resize_frame(image: ImageArray, size: tuple[int, int], fit: Fit = "fit") -> ImageArray:
    """Scale one frame, by the mean over areas where it gets smaller.

    Args:
        image: Shape (H, W, 3), uint8, RGB.
        size: Width and height in pixels, such as (640, 360).
        fit: "fit": the whole frame inside this size, one side may be shorter; "fill": the centre of the frame that
            covers it; "stretch": both sides on their own, as the reference system does.

    Returns:
        Shape (h, w, 3), uint8, RGB.

    Examples:
        >>> import numpy as np
        >>> import naruto_vision as nv
        >>> nv.resize_frame(np.zeros((1080, 1920, 3), np.uint8), (640, 640)).shape
        (360, 640, 3)
    """
    (height, width), (w, h) = image.shape[:2], size
    if fit != "stretch":
        scale = (min if fit == "fit" else max)(w / width, h / height)
        w, h = max(round(width * scale), 1), max(round(height * scale), 1)
    if (w, h) != (width, height):
        shrinks = w * h < width * height
        image = cv2.resize(image, (w, h), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    if fit == "fill":
        top, left = max(h - size[1], 0) // 2, max(w - size[0], 0) // 2
        image = image[top : top + size[1], left : left + size[0]]
    return np.ascontiguousarray(image)


class VideoReader:
    """Reads the frames of a video one after the other, in constant memory.

    Every iteration starts from the beginning. Frames have the pixels that PyAV's ``to_ndarray(format="rgb24")`` gives,
    turned upright.

    Args:
        path: A video file, of any container and codec that PyAV reads.
        start: Seconds; frames before are left out.
        end: Seconds; frames from here on are left out. None: to the end.
        start_frame: Frames with a smaller index are left out.
        fps: Frames per second to pick: of each tick ``first + k / fps`` the frame that is nearest in time, each at
            most once, so that no frame is repeated and a smaller source rate gives every frame. None: every frame.
        size: Width and height in pixels that frames are scaled to; None: as they are.
        fit: How, as in ``resize_frame``.

    Attributes:
        info: What the file is.
        lost: After an iteration, what could not be read; "" if nothing is missing.

    Raises:
        MissingPathError: If there is no such file.
        BadVideoError: If it is no video, has no video stream, or none of its frames can be decoded.
        InputError: If an option is out of range.

    Examples:
        >>> import naruto_vision as nv
        >>> for frame in nv.VideoReader("episode.mp4", fps=1):  # doctest: +SKIP
        ...     print(frame.index, frame.time, frame.image.shape)
    """

    def __init__(
        self,
        path: str | Path,
        *,
        start: float = 0.0,
        end: float | None = None,
        start_frame: int = 0,
        fps: float | None = None,
        size: tuple[int, int] | None = None,
        fit: Fit = "fit",
    ) -> None:
        if size is not None and not all(0 < side <= MAX_SIDE for side in size):
            raise InputError(f"size of frames: expected 1 to {MAX_SIDE} pixels a side, found {size[0]}x{size[1]}")
        if fps is not None and not 0 < fps <= 1e6:
            raise InputError(f"frames per second: expected a number above 0, found {fps}")
        self._path, self._size, self._fit = Path(path), size, fit
        self._scan = self._read_packets()
        self.info = self._scan.info
        self.lost, self.faults = "", Counter[str]()
        self._picked = _pick(self._scan.times, max(start, 0.0), end, start_frame, fps)

    def _read_packets(self) -> Scan:
        return _scan(self._path, self._alive)

    def _alive(self) -> None:
        """Called for each packet and each decoded frame."""

    @property
    def scan(self) -> Scan:
        """What the packets of the file say."""
        return self._scan

    def __len__(self) -> int:
        """Number of frames that are yielded if all can be decoded."""
        return len(self._picked)

    def pick(self, indices: NDArray[np.int64]) -> None:
        """Read the frames of these indices only, which rise: shape (N,), int64; unknown ones are left out."""
        self._picked = indices[(indices >= 0) & (indices < self.info.frames)]

    def skip_to(self, index: int) -> None:
        """Leave out frames before an index; which of the later ones are picked does not change."""
        self._picked = self._picked[self._picked >= index]

    def __iter__(self) -> Iterator[VideoFrame]:
        """Yield the frames in order of presentation."""
        self.lost, self.faults, found = "", Counter(), 0
        for index, frame in self._frames(self.faults):
            found += 1
            yield VideoFrame(index, float(self._scan.times[index]), self._image(frame))  # no name keeps it in memory
        self.lost = lost_text(self._scan.missing, len(self._picked) - found, len(self._picked), self.faults)

    @property
    def indices(self) -> NDArray[np.int64]:
        """Index of each frame that is yielded if all can be decoded: shape (N,), rising."""
        return self._picked

    @property
    def times(self) -> NDArray[np.float64]:
        """Seconds of all frames of the video, not only of the picked ones: shape (M,), rising."""
        return self._scan.times

    def _image(self, frame: "DecodedFrame") -> ImageArray:
        image = _pixels(frame, self._scan.turn)
        return image if self._size is None else resize_frame(image, self._size, self._fit)

    def _frames(self, faults: "Counter[str]") -> "Iterator[tuple[int, DecodedFrame]]":
        """Yield the picked frames with their index; from the first fault on with one thread, which is repeatable."""
        yielded = 0
        for threads in (allowed_cpus() + 1, 1):  # as many as FFmpeg takes itself
            faults.clear()
            for index, frame in self._decode(self._picked[yielded:], threads, faults):
                if faults and threads > 1:
                    break
                yield index, frame
                yielded = int(np.searchsorted(self._picked, index)) + 1
            if not faults:
                return

    def _decode(
        self, picked: NDArray[np.int64], threads: int, faults: "Counter[str]"
    ) -> "Iterator[tuple[int, DecodedFrame]]":
        stamps = self._scan.stamps
        if not len(picked):
            return
        with _opened(self._path, threads) as (container, stream):
            indices = set(picked.tolist())
            wanted = None
            if stamps is not None and len(picked) < len(stamps) and stream.codec_context.name in _SKIPPING:
                wanted = set(stamps[picked].tolist()).__contains__
            self._seek(container, stream, int(picked[0]))
            index = -1
            for frame in _decoded(stream, faults, wanted):
                self._alive()
                index = self._index(frame, index)
                if index in indices:
                    yield index, frame
                if index >= picked[-1]:
                    return

    def _seek(self, container: "InputContainer", stream: "VideoStream", first: int) -> None:
        """Go to the last key frame up to a frame."""
        stamps, keys = self._scan.stamps, self._scan.keys
        if stamps is not None and len(keys):
            target = int(keys[max(int(np.searchsorted(keys, stamps[first], "right")) - 1, 0)])
            if target > keys[0]:
                container.seek(target, stream=stream)

    def _index(self, frame: "DecodedFrame", before: int) -> int:
        """Return the index of a frame by its time, or the next one where the container has no such time."""
        stamps = self._scan.stamps
        if stamps is None or frame.pts is None:
            return before + 1
        index = int(np.searchsorted(stamps, frame.pts))
        fits = index < len(stamps) and stamps[index] == frame.pts and index > before
        return index if fits else min(before + 1, len(stamps) - 1)


def counted(frames: Iterable[_Item], advance: Callable[[], None]) -> Iterator[_Item]:
    """Yield frames, and call ``advance`` after each is used, for a progress bar."""
    for frame in frames:
        yield frame
        advance()


def lost_text(missing: str, lost: int, total: int, faults: "Counter[str]", ended: str = "") -> str:
    """Say what of a video could not be read; "" if nothing is missing."""
    parts = [missing, ended, f"{lost} of {total} frames could not be decoded" if lost else ""]
    parts.append(f"{faults['damaged']} decoded with damage" if faults["damaged"] else "")
    return "; ".join(filter(None, parts))


def _pick(
    times: NDArray[np.float64], start: float, end: float | None, start_frame: int, fps: float | None
) -> NDArray[np.int64]:
    """Return the indices of the frames in a span, or of those nearest to the ticks of a frame rate."""
    inside = np.flatnonzero((times >= start) & (times < (np.inf if end is None else end)))
    inside = inside[inside >= start_frame]
    if fps is None or not len(inside):
        return inside
    span = times[inside]
    length = span[-1] - span[0]
    last = int(length * (1 + 0.5 / max(len(span) - 1, 1)) * fps)  # to half a frame on
    below = np.floor((span - span[0]) * fps).astype(np.int64)  # a frame near any tick is near the one below or above it
    ticks = span[0] + np.unique(np.concatenate([below - 1, below, below + 1, below + 2, [last]]).clip(0, last)) / fps
    after = np.searchsorted(span, ticks).clip(1, max(len(span) - 1, 1))
    before = after - 1
    after = np.minimum(after, len(span) - 1)
    nearest = np.where(ticks - span[before] <= span[after] - ticks, before, after)
    picked: NDArray[np.int64] = np.unique(inside[nearest])
    return picked


def writable_fps(fps: float) -> float:
    """Return the nearest frame rate that ``VideoWriter`` takes; 25 for an unknown one, 0."""
    return min(max(fps or 25.0, _RATES[0]), _RATES[1])


class VideoWriter:
    """Writes frames to a video file, which appears when it is complete.

    Args:
        path: The file to write; its name ends in ".mp4", ".mov" or ".mkv".
        fps: Frames per second, where frames have no times of their own.
        size: Width and height of the frames in pixels; None: those of the first one. An odd side is made even by
            repeating its last row or column.
        codec: "h264", which browsers play, or "mpeg4" ("mp4v", as the reference system writes).

    Raises:
        InputError: If an option is out of range, a frame has another size, or there are no frames.

    Examples:
        >>> import naruto_vision as nv
        >>> with nv.VideoWriter("copy.mp4", fps=24) as writer:  # doctest: +SKIP
        ...     for frame in nv.VideoReader("episode.mp4"):
        ...         writer.write(frame.image, frame.time)
    """

    def __init__(
        self,
        path: str | Path,
        fps: float = 30.0,
        size: tuple[int, int] | None = None,
        codec: Literal["h264", "mpeg4"] = "h264",
    ) -> None:
        if Path(path).suffix.lower() not in _WRITTEN:
            raise InputError(f"{path}: expected a name ending in {', '.join(sorted(_WRITTEN))}")
        if not _RATES[0] <= fps <= _RATES[1]:
            raise InputError(f"frames per second: expected {_RATES[0]:g} to {_RATES[1]:g}, found {fps}")
        self.path, self._fps, self._size, self._codec = Path(path), Fraction(fps).limit_denominator(1001), size, codec
        self._stack = ExitStack()
        self._stream: Any = None
        self._container: Any = None
        self._stamp = -1
        self._start = 0.0

    def __enter__(self) -> Self:
        av = require_package("av", "video")
        temporary = self._stack.enter_context(atomic_file(self.path))
        options = {} if self.path.suffix.lower() == ".mkv" else {"movflags": "+faststart"}
        self._container = self._stack.enter_context(av.open(_url(temporary), "w", options=options))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:
            if kind is not None:
                self._stack.__exit__(kind, error, trace)
                return
            if self._stream is None:
                raise InputError(f"{self.path}: there are no frames to write")
            self._container.mux(self._stream.encode(None))

    def write(self, image: ImageArray, time: float | None = None) -> None:
        """Append one frame.

        Args:
            image: Shape (H, W, 3), uint8, RGB.
            time: Its seconds, rising; the first is the start. None: at the frame rate. All frames alike.

        Raises:
            InputError: If the frame has another size than the first one.
        """
        if self._stream is None:
            self._open_stream(image, time)
        size = self._size or (0, 0)
        if (found := (image.shape[1], image.shape[0])) != size:
            raise InputError(f"{self.path}: expected frames of {size[0]}x{size[1]}, found {found[0]}x{found[1]}")
        av = require_package("av", "video")
        even = np.pad(image, ((0, image.shape[0] % 2), (0, image.shape[1] % 2), (0, 0)), "edge")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
        stamp = self._stamp + 1 if time is None else round((time - self._start) * _TICKS)
        self._stamp = frame.pts = max(stamp, self._stamp + 1)
        frame.time_base = self._stream.codec_context.time_base
        self._container.mux(self._stream.encode(frame))

    def _open_stream(self, image: ImageArray, time: float | None) -> None:
        height, width = image.shape[:2]
        self._size = self._size or (width, height)
        options = {"crf": "18", "preset": "veryfast"} if self._codec == "h264" else {}
        name = "libx264" if self._codec == "h264" else "mpeg4"
        self._stream = self._container.add_stream(name, rate=self._fps, options=options)
        context = self._stream.codec_context
        context.width, context.height = self._size[0] + self._size[0] % 2, self._size[1] + self._size[1] % 2
        context.pix_fmt = "yuv420p"
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = 1
        if time is not None:  # MP4 ends at its last decoding time, which B-frames of irregular times leave too early
            context.max_b_frames = 0
        if self._codec == "mpeg4":
            context.bit_rate = int(width * height * self._fps * 0.3)
        self._start, context.time_base = time or 0.0, 1 / self._fps if time is None else Fraction(1, _TICKS)


def cut_part(reader: VideoReader, start: float, end: float, stem: str | Path, *, exact: bool = False) -> Path:
    """Do what ``cut_video`` does, with a reader of the video, of which other frames are picked."""
    scan = reader.scan
    for suffix in {".mp4", *_COPIED.values()}:
        if (target := Path(f"{stem}{suffix}")).exists() and target.samefile(scan.info.path):
            raise InputError(f"{target}: is the video that is cut; choose another name")
    if start > scan.times[-1]:
        raise InputError(f"{scan.info.path}: no frames from {start:g} s on; it lasts {scan.info.duration:.3f} s")
    if not exact and (copied := copy_part(scan, start, end, stem)):
        return copied
    path = Path(f"{stem}.mp4")
    reader.pick(np.flatnonzero((scan.times >= start) & (scan.times < end)))
    if not sum(1 for _ in frames_and_parts(reader, [(start, end, path)])):
        raise InputError(f"{scan.info.path}: no frames from {start:g} to {end:g} s that can be decoded")
    return path


def copy_part(scan: Scan, start: float, end: float, stem: str | Path) -> Path | None:
    """Copy a part without encoding; None if the container does not allow it."""
    copied = scan.info.container in _COPIED and not scan.info.rotation and len(scan.keys) > 0
    if not copied or scan.stamps is None:
        return None
    path = Path(f"{stem}{_COPIED[scan.info.container]}")
    try:
        _copy_part(scan, scan.stamps, start, end, path)
    except BadVideoError:  # the container does not take these packets
        return None
    return path


def frames_and_parts(reader: VideoReader, parts: Iterable[tuple[float, float, Path]]) -> Iterator[VideoFrame]:
    """Yield frames, and write those of each part, from its start up to its end, to a video of its own: one pass."""
    fps, waiting, writing = writable_fps(reader.info.fps), sorted(parts), list[tuple[float, ExitStack, VideoWriter]]()
    with ExitStack() as stack:
        for frame in reader:
            while waiting and waiting[0][0] <= frame.time:
                _, end, path = waiting.pop(0)
                own = stack.enter_context(ExitStack())
                writing.append((end, own, own.enter_context(VideoWriter(path, fps=fps))))
            for end, own, writer in writing:
                if frame.time < end:
                    writer.write(frame.image, frame.time)
                else:
                    own.close()
            writing = [each for each in writing if frame.time < each[0]]
            yield frame


def _copy_part(scan: Scan, stamps: NDArray[np.int64], start: float, end: float, path: Path) -> None:
    """Copy a part of a video, whose frames have these times, from the key frame before it."""
    with _opened(Path(scan.info.path)) as (container, stream):
        unit = stream.time_base or Fraction(1)
        wanted = int(stamps[min(int(np.searchsorted(scan.times, start)), len(stamps) - 1)])
        first = int(scan.keys[max(int(np.searchsorted(scan.keys, wanted, "right")) - 1, 0)])
        container.seek(first, stream=stream)
        _copy_packets(container, stream, path, first * unit, float(stamps[0] * unit) + end)


def _copy_packets(container: "InputContainer", stream: "VideoStream", path: Path, start: Fraction, end: float) -> None:
    """Copy the packets of the video and of its sound that are decoded in a span of container seconds."""
    av = require_package("av", "video")
    streams: list[Any] = [stream, *container.streams.audio]
    with atomic_file(path) as temporary, av.open(_url(temporary), "w") as out:
        copies = {each.index: out.add_stream_from_template(each, opaque=True) for each in streams}
        for packet in container.demux(streams):
            if not packet.size or packet.pts is None or packet.pts * packet.time_base < start:
                continue
            if packet.dts is not None and packet.dts * packet.time_base >= end:
                if packet.stream_index == stream.index:
                    break
                continue
            shift = round(start / packet.time_base)
            packet.pts, packet.dts = packet.pts - shift, None if packet.dts is None else packet.dts - shift
            packet.stream = copies[packet.stream_index]
            out.mux(packet)
