"""The loader of scenes: whole groups after a kill, one list ahead without processes, as many scenes as suit."""

import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from typing_extensions import override

from naruto_vision.data.gallery_data import GalleryDataModule
from naruto_vision.data.scenes import SceneDataModule, SceneDataset, SceneItem, scene_loader, scenes_together
from naruto_vision.io.images import write_image

WAIT = 20.0  # seconds until a test that hangs is a failed one


class Threads(SceneDataset):
    """Keeps which thread read what."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.read_by: dict[str, str] = {}

    @override
    def read(self, index: int) -> SceneItem:
        item = super().read(index)
        self.read_by[item.scene] = threading.current_thread().name
        return item


@pytest.fixture
def dataset(tmp_path: Path) -> Threads:
    for number in range(7):
        write_image(tmp_path / f"{number}.png", np.full((6, 8, 3), number, np.uint8))
    return Threads(tmp_path)


def names(loader: Any) -> list[str]:
    return ["".join(item.scene[0] for item in batch) for batch in loader]


@pytest.mark.parametrize(
    ("done", "size", "expected"),
    [
        ("", 3, ["012", "345", "6"]),
        ("012", 3, ["345", "6"]),
        ("0", 3, ["012", "345", "6"]),
        ("0124", 3, ["345", "6"]),
        ("0123456", 3, [""]),  # a loop without a batch would call no hook
        ("16", 1, ["0", "2", "3", "4", "5"]),
        ("01236", 2, ["45"]),
    ],
)
def test_a_group_is_passed_over_as_a_whole_or_not_at_all(
    dataset: Threads, done: str, size: int, expected: list[str]
) -> None:
    loader = scene_loader(dataset, batch_size=size, num_workers=0)
    dataset.skip({f"{number}.png" for number in done})
    assert names(loader) == expected
    assert len(loader) == len(expected)


def test_groups_of_two_processes_are_those_of_their_shares(dataset: Threads) -> None:
    dataset.skip({"0.png", "2.png", "3.png", "1.png", "6.png"})
    shares = [names(scene_loader(dataset, batch_size=2, num_workers=0, rank=rank, world=2)) for rank in range(2)]
    assert shares == [["46"], ["5"]]


def test_without_processes_a_thread_reads_one_list_ahead(dataset: Threads) -> None:
    batches = iter(scene_loader(dataset, batch_size=2, num_workers=0))
    assert dataset.read_by == {}
    next(batches)
    limit = time.monotonic() + WAIT
    while len(dataset.read_by) < 4:
        assert time.monotonic() < limit
        time.sleep(0.001)
    time.sleep(0.02)
    assert len(dataset.read_by) == 4
    assert all(name.startswith("scene-reader") for name in dataset.read_by.values())
    assert names(batches) == ["23", "45", "6"]
    assert not any(thread.name.startswith("scene-reader") for thread in threading.enumerate())


def test_an_error_while_reading_ahead_is_raised_in_its_place(dataset: Threads, monkeypatch: pytest.MonkeyPatch) -> None:
    read = dataset.read

    def failing(index: int) -> SceneItem:
        if index == 3:
            msg = "the disk is gone"
            raise OSError(msg)
        return read(index)

    monkeypatch.setattr(dataset, "read", failing)
    batches = iter(scene_loader(dataset, batch_size=2, num_workers=0))
    assert [item.scene for item in next(batches)] == ["0.png", "1.png"]
    with pytest.raises(OSError, match="the disk is gone"):
        next(batches)


def with_trainer(data: SceneDataModule, device: str) -> SceneDataModule:
    trainer: Any = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device(device)))
    data.trainer = trainer
    return data


def test_how_many_scenes_go_together_is_the_machines_unless_it_is_said() -> None:
    assert SceneDataModule().scene_batch_size == 1
    assert with_trainer(GalleryDataModule(), "cpu").scene_batch_size == 1
    assert with_trainer(GalleryDataModule(), "cuda").scene_batch_size == 8
    assert with_trainer(GalleryDataModule(batch_size=3), "cuda").scene_batch_size == 3


def test_scenes_of_other_data_are_taken_one_by_one() -> None:
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    assert scenes_together(trainer) == 1
    vars(trainer)["datamodule"] = SceneDataModule(batch_size=5)
    assert scenes_together(trainer) == 5
