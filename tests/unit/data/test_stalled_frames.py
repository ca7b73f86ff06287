"""A decoder that stops inside a video costs one wait, not one for each of its frames, also in a loader's process."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import clips
import pytest

from naruto_vision.data.frames import VideoFrames
from naruto_vision.data.scenes import SceneDataset, scene_loader
from naruto_vision.errors import BadVideoError
from naruto_vision.io import video_process

if TYPE_CHECKING:
    from torch.utils.data import DataLoader


def test_the_frames_after_a_stall_fail_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = VideoFrames(clips.write(tmp_path / "a.mp4", frames=30), fps=100)
    receive, count = video_process._Worker.receive, 0

    def stalls(worker: Any, seconds: float) -> tuple[Any, ...]:
        nonlocal count
        count += 1
        return ("stall",) if count > 6 else receive(worker, seconds)

    monkeypatch.setattr(video_process._Worker, "receive", stalls)
    assert frames.read(0).ndim == 3
    start = time.monotonic()
    for index in range(20, 30):
        with pytest.raises(BadVideoError, match=f"frame {index} cannot be decoded; the decoder gave no frame"):
            frames.read(index)
    assert time.monotonic() - start < 2


def test_a_loader_decodes_in_processes_of_its_own(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        clips.write(tmp_path / name, frames=6)
    dataset = SceneDataset(tmp_path, fps=100)
    loader: DataLoader[Any] = scene_loader(dataset, batch_size=4, num_workers=1)
    items = [item for items in loader for item in items]
    assert [item.scene for item in items] == list(dataset.scenes)
    assert all(item.image is not None for item in items)
