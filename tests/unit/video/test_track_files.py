"""Files of the tracks of a video: the same from any order of the log, times, screen time, timeline, annotated copy."""

import csv
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from naruto_vision.data.frames import VideoFrames, frame_scene
from naruto_vision.errors import FormatError
from naruto_vision.geometry import rle_from_mask
from naruto_vision.io.images import read_image
from naruto_vision.io.video import VideoReader, VideoWriter
from naruto_vision.recognition.writer import LOG, as_line, vector_from_text, vector_text
from naruto_vision.records import ImageArray, Mask
from naruto_vision.video.track_files import SCREEN_TIME, TRACKS, SearchedVideo, frames_to_read, write_tracks

_NAME = "a clip.mp4"
_COLOURS = {"Mira": (200, 40, 40)}


@pytest.fixture
def clip(tmp_path: Path) -> SearchedVideo:
    """Two shots of two seconds each at 10 frames per second, of which every second frame is searched."""
    rng = np.random.default_rng(0)
    shots = [np.repeat(np.repeat(rng.integers(0, 255, (6, 8, 3), np.uint8), 8, 0), 8, 1) for _ in range(2)]
    with VideoWriter(tmp_path / _NAME, 10) as writer:
        for k in range(40):
            writer.write(shots[k // 20])
    frames = VideoFrames(tmp_path / _NAME, 5)
    scenes = {frame_scene(_NAME, index): index for index in frames.indices}
    return SearchedVideo(frames.path, scenes, 5.0, frames.frames)


def _line(scene: str, index: int, *, shown: bool = True, mask: object = "") -> dict[str, Any]:
    x = index % 20
    vector = vector_text(np.array([0.6, 0.8], np.float32))
    mira = {"bbox": [x, 4, x + 20, 40], "label": "Mira", "name": "Mira", "score": 0.9, "shown": shown, "vector": vector}
    mira["p_value"] = None
    pixels = np.zeros((48, 64), np.bool_)
    pixels[:, :10] = True
    mira |= {"mask": mask or rle_from_mask(pixels)} if mask is not None else {}
    other = {**mira, "bbox": [40, 4, 60, 40], "label": "Mira", "name": "unknown", "score": 0.1}
    return {"scene": scene, "regions": [mira, other] if 20 <= index < 30 else [mira]}


def _write(out: Path, clip: SearchedVideo, order: int = 1, *, mask: object = "", **options: Any) -> Any:
    out.mkdir()
    lines = [as_line(_line(scene, index, mask=mask)) for scene, index in clip.scenes.items()][::order]
    (out / LOG).write_text("".join([as_line(_line("other.png", 0)), *lines]) + '{"scene": "torn')
    return write_tracks(out, {_NAME: clip}, _COLOURS, **options)


def test_tracks_have_frames_times_and_boxes_and_end_at_the_cut(tmp_path: Path, clip: SearchedVideo) -> None:
    _write(tmp_path / "out", clip, annotate=False)
    first, second, third = (json.loads(line) for line in (tmp_path / "out" / TRACKS).read_text().splitlines())
    assert first["frames"] == list(range(0, 20, 2))
    assert first["times"] == pytest.approx([k / 10 for k in range(0, 20, 2)])
    assert first["boxes"] == [[k, 4, k + 20, 40] for k in range(0, 20, 2)]
    assert (first["video"], first["id"], first["name"], first["known"], first["score"]) == (_NAME, 1, "Mira", True, 0.9)
    assert second["frames"] == list(range(20, 40, 2))
    assert (third["name"], third["label"], third["frame_names"]) == ("unknown", "Mira", ["unknown"] * 5)
    assert not (tmp_path / "out" / "videos" / "a clip.mp4").exists()


def test_the_order_of_the_log_does_not_matter(tmp_path: Path, clip: SearchedVideo) -> None:
    for name, order in (("one", 1), ("other", -1)):
        _write(tmp_path / name, clip, order, annotate=False)
    for file in (TRACKS, SCREEN_TIME):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "other" / file).read_bytes()


def test_screen_time_adds_up_stretches_of_one_name(tmp_path: Path, clip: SearchedVideo) -> None:
    times = _write(tmp_path / "out", clip, annotate=False)
    assert [(each.name, each.tracks) for each in times] == [("Mira", 2), ("unknown", 1)]
    assert times[0].seconds == pytest.approx(3.8)  # 0.1 s after the last searched frame of each shot
    assert times[1].seconds == pytest.approx(0.9, abs=0.11)
    assert times[1].spans[0][0] == pytest.approx(2.0)  # not before the cut
    rows = list(csv.DictReader((tmp_path / "out" / SCREEN_TIME).open()))
    assert [(row["video"], row["name"]) for row in rows] == [(_NAME, each.name) for each in times]
    assert [float(row["seconds"]) for row in rows] == pytest.approx([each.seconds for each in times], abs=1e-3)


def test_the_annotated_copy_has_every_frame_and_boxes_between_the_searched_ones(
    tmp_path: Path, clip: SearchedVideo
) -> None:
    calls: list[None] = []
    _write(tmp_path / "out", clip, advance=lambda: calls.append(None))
    assert len(calls) == frames_to_read({"": clip}) == 80
    copy = VideoReader(tmp_path / "out" / "videos" / "a clip.mp4")
    frames, source = list(copy), list(VideoReader(clip.path))
    assert copy.info.codec == "h264"
    assert [frame.time for frame in frames] == pytest.approx([frame.time for frame in source])
    red = frames[5].image[20, 3:8].astype(int)  # a searched one, 4, has the left side at 4, and 6 at 6
    change = np.abs(red - source[5].image[20, 3:8]).sum(axis=1)
    assert int(change.argmax()) in {1, 2, 3}
    timeline = read_image(tmp_path / "out" / "videos" / "a clip_timeline.png")
    assert (np.abs(timeline.astype(int) - _COLOURS["Mira"]).max(axis=2) < 3).sum() > 1000


def test_vectors_keep_three_digits_as_text() -> None:
    vector = np.random.default_rng(1).normal(size=64).astype(np.float32)
    vector /= np.linalg.norm(vector)
    assert np.abs(vector_from_text(vector_text(vector)) - vector).max() < 5e-4
    assert vector_text(None) == ""


class _Everywhere:
    """A mask memory that sees each object in all of the image, and notes what it is given."""

    def __init__(self) -> None:
        self.frames, self.added, self.numbers = list[ImageArray](), list[int](), set[int]()

    def follow(self, image: ImageArray) -> dict[int, Mask]:
        self.frames.append(image)
        return {number: np.ones(image.shape[:2], np.bool_) for number in self.numbers}

    def add(self, number: int, mask: Mask) -> None:
        assert mask.shape == self.frames[-1].shape[:2]
        self.added.append(int(mask.sum()))
        self.numbers.add(number)

    def keep(self, numbers: Collection[int]) -> None:
        self.numbers &= set(numbers)


def test_a_mask_memory_gets_the_searched_frames_and_the_masks_of_their_regions(
    tmp_path: Path, clip: SearchedVideo
) -> None:
    memory, calls = _Everywhere(), list[None]()
    _write(tmp_path / "out", clip, memory=memory, annotate=False, advance=lambda: calls.append(None))
    assert len(calls) == frames_to_read({"": clip}, annotate=False, follow=True) == 60
    expected = [frame.image for frame in VideoReader(clip.path, fps=5)]
    assert all(np.array_equal(a, b) for a, b in zip(memory.frames, expected, strict=True))
    assert memory.added == [10 * 48] * 3  # those of the first frame of a shot; later ones are covered
    tracks = [json.loads(line) for line in (tmp_path / "out" / TRACKS).read_text().splitlines()]
    assert tracks[0]["frames"] == list(range(0, 20, 2))  # its regions are inside the followed mask
    assert all(max(track["frames"]) < 20 or min(track["frames"]) >= 20 for track in tracks)


@pytest.mark.parametrize("mask", [{"size": [8, 8], "counts": [64]}, {"size": [8, 8], "counts": [1]}, None])
def test_masks_that_do_not_fit_the_frames_are_refused(
    tmp_path: Path, clip: SearchedVideo, mask: dict[str, Any] | None
) -> None:
    with pytest.raises(FormatError, match=LOG):
        _write(tmp_path / "out", clip, memory=_Everywhere(), mask=mask)
