"""Videos go into a store once, in batches that survive a kill, and bad ones are counted."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from naruto_vision.encoders.base import Encoder
from naruto_vision.errors import FingerprintError, InputError
from naruto_vision.gallery.vector_store import VectorStore, open_store
from naruto_vision.io.video import VideoWriter
from naruto_vision.records import ImageArray
from naruto_vision.video.index import FrameSampling, frame_views, index_videos

COLOURS = {"red": (250, 20, 20), "green": (20, 250, 20), "blue": (20, 20, 250), "white": (250, 250, 250)}


class ColourEncoder(Encoder):
    """Embeds the mean colour; texts are names of colours."""

    dim = 3
    has_text = True

    def __init__(self, name: str = "colour") -> None:
        super().__init__()
        self.name, self.images = name, 0
        self.scale = nn.Parameter(torch.ones(1))

    def preprocess(self, image: ImageArray) -> Tensor:
        return torch.from_numpy(image.mean(axis=(0, 1)).astype(np.float32))[:, None, None]

    def encode_images(self, pixels: Tensor) -> Tensor:
        self.images += len(pixels)
        return nn.functional.normalize(pixels.flatten(1) + 1.0, dim=-1)

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        return nn.functional.normalize(torch.tensor([COLOURS.get(text, (1, 1, 1)) for text in texts]).float(), dim=-1)

    def describe(self) -> Mapping[str, Any]:
        return {"name": self.name}


def write_video(path: Path, colours: Sequence[str], seconds: float = 1.0, size: tuple[int, int] = (64, 36)) -> Path:
    """Write shots of one colour each, at 8 frames per second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, fps=8) as writer:
        for colour in colours:
            for _ in range(round(8 * seconds)):
                writer.write(np.full((size[1], size[0], 3), COLOURS[colour], np.uint8))
    return path


def _store(folder: Path) -> VectorStore:
    return open_store(str(folder / "store"))


def test_key_frames_of_every_shot_with_their_times(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", ["red", "green", "blue"])
    encoder = ColourEncoder()
    with _store(tmp_path) as store:
        report = index_videos([video], store, encoder, sampling=FrameSampling(windows=0))
        ids, vectors, facts = store.open("a.mp4").read()
    assert report.videos == {"a.mp4": 3}
    assert [fact["shot"] for fact in facts] == [0, 1, 2]
    assert [(fact["start"], fact["end"]) for fact in facts] == [
        (0.0, 1.0),
        (1.0, 2.0),
        (2.0, pytest.approx(2.9, abs=0.1)),
    ]
    assert all(float(fact["start"]) <= float(fact["time"]) <= float(fact["end"]) for fact in facts)
    assert {fact["video"] for fact in facts} == {str(video)}
    assert ids == [f"frame_{fact['frame']:06}.png" for fact in facts]
    assert [int(row.argmax()) for row in vectors] == [0, 1, 2]


def test_every_frame_at_a_rate_with_windows(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", ["red", "blue"], seconds=2)
    encoder = ColourEncoder()
    with _store(tmp_path) as store:
        index_videos([video], store, encoder, sampling=FrameSampling(fps=2, windows=1))
        _, _, facts = store.open("a.mp4").read()
    assert encoder.images == len(facts) == 3 * 8
    assert sorted({fact["time"] for fact in facts}) == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5]
    assert sorted({fact["end"] for fact in facts}) == [0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0]


def test_windows_are_spread_over_the_frame() -> None:
    wide = np.arange(40 * 100 * 3, dtype=np.uint32).astype(np.uint8).reshape(40, 100, 3)
    views = frame_views(wide, 3)
    assert [view.shape for view in views] == [(40, 100, 3), *[(30, 24, 3)] * 6]
    assert np.array_equal(views[1], wide[:30, :24])
    assert np.array_equal(views[6], wide[10:, 76:])
    tall = frame_views(wide.transpose(1, 0, 2), 3)
    assert [view.shape for view in tall] == [(100, 40, 3), *[(30, 24, 3)] * 6]
    assert np.array_equal(tall[6], wide.transpose(1, 0, 2)[70:, 16:])
    assert [len(frame_views(wide, windows)) for windows in (0, 1, 2)] == [1, 3, 5]


def test_what_is_indexed_is_skipped_unless_it_changed(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", ["red"])
    with _store(tmp_path) as store:
        index_videos([video], store, ColourEncoder())
        again = ColourEncoder()
        assert index_videos([video], store, again).skipped == ["a.mp4"]
        assert again.images == 0
        write_video(video, ["green", "blue"])
        os.utime(video, ns=(1, 1))
        changed = index_videos([video], store, again, sampling=FrameSampling(windows=0))
        assert changed.skipped == []
        assert changed.videos == {"a.mp4": 2}
        assert index_videos([video], store, again, sampling=FrameSampling(fps=4, windows=0)).videos == {"a.mp4": 8}


def test_a_killed_run_is_continued_where_it_stopped(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", ["red", "green"], seconds=5)
    sampling = FrameSampling(fps=8, windows=0)

    def stop(_name: str, done: int, _total: int) -> None:
        if done >= 40:  # of the second batch
            raise KeyboardInterrupt

    with _store(tmp_path) as store:
        with pytest.raises(KeyboardInterrupt):
            index_videos([video], store, ColourEncoder(), sampling=sampling, watch=stop)
        assert len(store.open("a.mp4")) == 32
    rest = ColourEncoder()
    with _store(tmp_path) as store:
        report = index_videos([video], store, rest, sampling=sampling)
        assert (report.skipped, report.videos, rest.images) == ([], {"a.mp4": 80}, 48)
        assert index_videos([video], store, rest, sampling=sampling).skipped == ["a.mp4"]


def test_progress_is_told_every_few_frames_and_never_falls(tmp_path: Path) -> None:
    video, told = write_video(tmp_path / "a.mp4", ["red", "green"], seconds=5), list[tuple[str, int, int]]()
    with _store(tmp_path) as store:
        index_videos([video], store, ColourEncoder(), watch=lambda *each: told.append(each))
    done = [passed for _, passed, _ in told]
    assert {(name, total) for name, _, total in told} == {("a.mp4", 80)}
    assert done == sorted(done)
    assert set(range(0, 80, 8)) < set(done)
    assert done[-1] == 80


def test_bad_videos_are_counted_and_the_others_go_on(tmp_path: Path) -> None:
    write_video(tmp_path / "in" / "good.mp4", ["red"])
    (tmp_path / "in" / "text.mp4").write_text("no video")
    (tmp_path / "in" / "empty.mkv").touch()
    with _store(tmp_path) as store:
        report = index_videos([tmp_path / "in"], store, ColourEncoder())
        assert report.as_json()["counts"] | {"entries": 0} == {
            "seen": 3, "ok": 1, "quarantined": 2, "skipped": 0, "entries": 0,
        }  # fmt: skip
        assert store.collections() == ["good.mp4"]
        with pytest.raises(InputError, match=r"text\.mp4"):
            index_videos([tmp_path / "in" / "text.mp4"], store, ColourEncoder())
        with pytest.raises(InputError, match="no such"):
            index_videos([tmp_path / "absent.mp4"], store, ColourEncoder())


def test_videos_of_one_name_have_collections_of_their_own(tmp_path: Path) -> None:
    first, second = (write_video(tmp_path / name / "a.mp4", [colour]) for name, colour in (("x", "red"), ("y", "blue")))
    os.utime(second, ns=(5, 5))
    with _store(tmp_path) as store:
        index_videos([first, second], store, ColourEncoder())
        assert store.collections() == ["a.mp4", "y/a.mp4"]
        assert index_videos([second, first], store, ColourEncoder()).skipped == ["y/a.mp4", "a.mp4"]
        moved = first.rename(tmp_path / "a.mp4")
        assert index_videos([moved], store, ColourEncoder()).videos == {"a.mp4": 7}
        assert store.collections() == ["a.mp4", "y/a.mp4"]
        assert {fact["video"] for fact in store.open("a.mp4").read()[2]} == {str(moved)}


def test_a_store_of_another_encoder_is_refused(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", ["red"])
    with _store(tmp_path) as store:
        index_videos([video], store, ColourEncoder())
        with pytest.raises(FingerprintError, match="--encoder"):
            index_videos([video], store, ColourEncoder("another"))


@pytest.mark.parametrize("wrong", [{"fps": 0}, {"key_frames": 4}, {"windows": -1}])
def test_a_sampling_out_of_range_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="frames to index"):
        FrameSampling(**wrong)
