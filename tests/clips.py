"""Videos of known frames, written with PyAV, and what PyAV itself reads from a video."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from naruto_vision.io.video import VideoWriter
from naruto_vision.records import ImageArray
from naruto_vision.synthetic.attributes import random_attributes
from naruto_vision.synthetic.scene import draw_image

WIDTH, HEIGHT = 64, 48
IRREGULAR = tuple(np.cumsum([0, 40, 110, 20, 65, 33, 90, 15, 47, 71, 120, 38, 52, 29, 84, 61, 18, 95, 43, 77]).tolist())
"""Milliseconds of the frames of a video of variable frame rate."""


def image(index: int, width: int = WIDTH, height: int = HEIGHT) -> ImageArray:
    """Draw a frame: a bar that moves, over a colour that changes, and a red corner that says which side is up."""
    drawn = np.zeros((height, width, 3), np.uint8)
    drawn[:] = (40 + index * 3 % 200, 120, 200 - index * 2 % 200)
    left = index * 3 % (width - 12)
    drawn[10:22, left : left + 12] = (250, 240, 20)
    drawn[:8, :12] = (250, 0, 0)
    return drawn


def write(
    path: Path,
    codec: str = "libx264",
    frames: int | Sequence[ImageArray] = 24,
    *,
    rate: int = 24,
    milliseconds: Sequence[int] | None = None,
    pixels: str = "yuv420p",
    options: Mapping[str, str] | None = None,
    container: Mapping[str, str] | None = None,
    rotation: tuple[int, bool] | None = None,
    form: str | None = None,
) -> Path:
    """Write a video, and return its path; ``rotation`` is degrees counterclockwise and whether it is mirrored."""
    images = [image(index) for index in range(frames)] if isinstance(frames, int) else frames
    with av.open(str(path), "w", format=form, options=dict(container or {})) as out:
        stream = out.add_stream(codec, rate=rate, options=dict(options or {}))
        stream.height, stream.width, stream.pix_fmt = *images[0].shape[:2], pixels
        unit = Fraction(1, 1000) if milliseconds else Fraction(1, rate)
        if milliseconds:
            stream.codec_context.time_base = unit
        if rotation is not None:
            stream.set_display_rotation(rotation[0], hflip=rotation[1])
        for index, each in enumerate(images):
            frame = av.VideoFrame.from_ndarray(each, format="rgb24").reformat(format=pixels)
            frame.pts, frame.time_base = milliseconds[index] if milliseconds else index, unit
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def truncate(path: Path, share: float) -> Path:
    """Cut a file to a share of its bytes."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def decoded(path: Path) -> list[tuple[float, ImageArray]]:
    """Decode with PyAV alone: seconds and pixels as they are stored, without the packets that raise an error."""
    found = []
    with av.open(str(path)) as container:
        stream = container.streams.best("video")
        stream.thread_type = "NONE"
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
                if packet is None:
                    return found
                frames = packet.decode()
            except av.FFmpegError:
                continue
            found += [(float(frame.pts * stream.time_base), frame.to_ndarray(format="rgb24")) for frame in frames]


FIGURES = [random_attributes(np.random.default_rng(seed)) for seed in range(4)]
"""Of the shots of ``write_figures``."""


def write_figures(folder: Path) -> None:
    """Write ``0.mp4`` and ``1.mp4`` of two shots each, of twelve frames of one of ``FIGURES``."""
    for number in range(2):
        with VideoWriter(folder / f"{number}.mp4", fps=8) as writer:
            for shot in range(2):
                image = draw_image(FIGURES[2 * number + shot], 2 * number + shot, 128).image
                for _ in range(12):
                    writer.write(image)
