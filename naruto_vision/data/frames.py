"""Frames of videos as scenes: which ones they are, and reading them in order."""

from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING

from naruto_vision.errors import BadVideoError
from naruto_vision.io.video_process import IsolatedVideoReader
from naruto_vision.records import ImageArray

if TYPE_CHECKING:
    from collections.abc import Iterator

    from naruto_vision.io.video import VideoFrame

FPS = 3.0
"""Frames per second that are searched by default: a figure that crosses the image is seen several times."""


def frame_scene(video: str, index: int) -> str:
    """Name the scene of a frame; the index counts all frames of the video from 0, in order of presentation."""
    return f"{video}/frame_{index:06d}"


class VideoFrames:
    """Frames of one video, the nearest to each tick of ``fps``; it is read once if they are asked for in order.

    ``indices`` are those of its frames, rising, among the ``frames`` of the whole video.
    """

    def __init__(self, path: str | Path, fps: float = FPS) -> None:
        self.path, self.fps = Path(path), fps
        self._reader = IsolatedVideoReader(path, fps=fps)
        self._reader.close()  # the frames may be read in another process
        self.frames = self._reader.info.frames
        self.indices: list[int] = self._reader.indices.tolist()
        self._frames: Iterator[VideoFrame] | None = None
        self._next: VideoFrame | None = None  # the last one that was decoded
        self._asked = -1

    def read(self, index: int) -> ImageArray:
        """Decode a frame: shape (H, W, 3), uint8, RGB, upright; BadVideoError if it cannot be decoded."""
        if self._frames is None or index < self._asked:
            self._pass = copy(self._reader)
            self._pass.skip_to(index)
            self._frames = iter(self._pass)
            self._next = next(self._frames, None)
        self._asked = index
        while self._next is not None and self._next.index < index:
            self._next = next(self._frames, None)
        if self._next is None or self._next.index != index:
            ended = self._pass.lost if self._next is None else ""
            raise BadVideoError(self.path, f"frame {index} cannot be decoded" + (f"; {ended}" if ended else ""))
        return self._next.image

    def close(self) -> None:
        """End the process that decodes."""
        self._frames = self._next = None
