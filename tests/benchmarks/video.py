"""V1 and V2: frames of a video against a bare loop over PyAV, and the memory of a long video."""

import gc
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import av
import cv2
import numpy as np

from benchmarks.timing import Row, draw_image, own, run_process
from naruto_vision.cli.bench import Timing
from naruto_vision.io.video import VideoReader, VideoWriter
from naruto_vision.io.video_process import IsolatedVideoReader
from naruto_vision.records import ImageArray
from naruto_vision.video.frames import FrameChoice, extract_frames


def write_video(path: Path, frames: int, height: int, width: int, shot: int = 48) -> Path:
    """Write a video whose drawn scenes pan, with a cut every ``shot`` frames."""
    scenes = [draw_image(height, width, seed) for seed in range(3)]
    with VideoWriter(path, fps=24) as writer:
        for index in range(frames):
            writer.write(np.roll(scenes[index // shot % 3], 2 * (index % shot), axis=1))
    return path


def bare(path: Path, use: Callable[[int, ImageArray], object]) -> int:
    """Decode every frame with PyAV and pass its pixels on; returns how many."""
    count = 0
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        for frame in container.decode(stream):
            image = frame.to_ndarray(format="rgb24")
            use(count, image)
            count += 1
    return count


def frames(quick: bool) -> Iterator[Row]:
    """Time reading and extracting all frames; a process of its own is in the CPU time."""
    size, count, repeats = ((90, 160), 24, 1) if quick else ((720, 1280), 240, 5)
    with tempfile.TemporaryDirectory() as name:
        path = write_video(Path(name) / "a.mp4", count, *size)
        seen: dict[str, list[int]] = {}

        def check(kind: str) -> Callable[[int, ImageArray], None]:
            sums = seen.setdefault(kind, [])
            sums.clear()
            return lambda _index, image: sums.append(int(image[:: size[0] // 8].sum()))

        def read(kind: str, reader: VideoReader) -> None:
            use = check(kind)
            for frame in reader:
                use(frame.index, frame.image)

        def loop() -> None:
            bare(path, check("bare"))

        def plain() -> None:
            read("plain", VideoReader(path))

        def isolated() -> None:
            read("isolated", IsolatedVideoReader(path))

        times = _timed({"bare": loop, "plain": plain, "isolated": isolated}, repeats)
        for kind, what in (("plain", "read"), ("isolated", "read in a process of its own")):
            same = seen[kind] == seen["bare"] and len(seen["bare"]) == count
            yield Row(f"{what}, {count} frames of {size[1]} x {size[0]}", times[kind], times["bare"], "pixels", same)
        yield _extraction(path, count, repeats)


def _extraction(path: Path, count: int, repeats: int) -> Row:
    ours, theirs = path.with_name("ours"), path.with_name("theirs")

    def extract() -> None:
        shutil.rmtree(ours, ignore_errors=True)
        extract_frames(IsolatedVideoReader(path), ours, FrameChoice())

    def loop() -> None:
        shutil.rmtree(theirs, ignore_errors=True)
        theirs.mkdir()
        bare(path, lambda index, image: cv2.imwrite(str(theirs / f"frame_{index:06d}.png"), image[..., ::-1]))

    times = _timed({"bare": loop, "ours": extract}, repeats)
    pairs = [(ours / each.name, each) for each in sorted(theirs.iterdir())]
    same = all(np.array_equal(cv2.imread(str(a)), cv2.imread(str(b))) for a, b in pairs[:: max(count // 8, 1)])
    return Row(f"extract {count} frames as PNG", times["ours"], times["bare"], "pixels", same and len(pairs) == count)


def _timed(candidates: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, Timing]:
    """Time candidates in turns, with the CPU time of processes that they started."""
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in candidates}
    for number in range(repeats + (repeats > 1)):
        for name in list(candidates)[:: -1 if number % 2 else 1]:
            gc.collect()
            wall, cpu = time.perf_counter(), sum(os.times()[:4])
            candidates[name]()
            if number or repeats == 1:
                took[name].append((time.perf_counter() - wall, sum(os.times()[:4]) - cpu))
    return {name: Timing(*zip(*times, strict=True)) for name, times in took.items()}


def memory(quick: bool) -> Iterator[Row]:
    """Read, and extract at a frame a second, ever longer videos; MiB of the larger process, no baseline."""
    peaks: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        for minutes in (0.1, 0.2) if quick else (1, 10, 60):
            path = write_video(Path(name) / f"{minutes}.mp4", int(minutes * 60 * 24), 90, 160)
            code = f"from naruto_vision.io.video import VideoReader; [None for _ in VideoReader({str(path)!r})]"
            programs = {
                "read": [sys.executable, "-c", code],
                "extract": own("video", "extract", str(path), "--fps", "1", "--out", str(path.with_suffix(""))),
            }
            for what, argv in programs.items():
                finished = run_process(argv)
                peaks.setdefault(what, []).append(finished.peak_mib)
                timing = Timing((finished.seconds,), (finished.cpu_seconds,))
                flat = max(peaks[what]) - min(peaks[what]) <= 24
                yield Row(f"{what}, {minutes} minutes", timing, None, f"{finished.peak_mib:.0f} MiB", flat)
