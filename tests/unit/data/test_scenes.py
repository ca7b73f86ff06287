"""Scene folders, their loaders and data module."""

import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from cluster import workers_left_by
from torch import nn
from typing_extensions import override

from naruto_vision.data.gallery_data import GalleryDataModule
from naruto_vision.data.scenes import SceneDataModule, SceneDataset, SceneItem, scene_loader, scenes_together
from naruto_vision.errors import FormatError, InputError, MissingPathError
from naruto_vision.export.writers import write_gt
from naruto_vision.io.images import write_image
from naruto_vision.records import LabelledBox

BOX = LabelledBox((0, 0, 3, 3), "x")


def scene_folder(root: Path, names: list[str], truth: dict[str, list[LabelledBox]] | None = None) -> Path:
    for number, name in enumerate(names):
        (root / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        write_image(root / "images" / name, np.full((6, 9, 3), number, dtype=np.uint8))
    if truth is not None:
        write_gt(root / "gt.json", truth.items())
    return root


def test_items_come_in_order_with_their_truth(tmp_path: Path) -> None:
    scene_folder(tmp_path, ["b.png", "sub/a.png", "a.png"], {"a.png": [BOX], "b.png": [], "sub/a.png": [BOX, BOX]})
    items = list(SceneDataset(tmp_path, need_truth=True))
    assert [item.scene for item in items] == ["a.png", "b.png", "sub/a.png"]
    assert [len(item.truth or ()) for item in items] == [1, 0, 2]
    assert all(item.image is not None and item.image.shape == (6, 9, 3) for item in items)
    assert all(item.milliseconds > 0 for item in items)


def test_a_plain_folder_of_images_is_its_own_scene_folder(tmp_path: Path) -> None:
    scene_folder(tmp_path, ["a.png", "sub/a.png"])
    dataset = SceneDataset(tmp_path / "images")
    assert dataset.scenes == ("a.png", "sub/a.png")
    assert dataset.read(0).truth is None


def test_a_bad_image_is_an_item_with_its_reason_and_leaves_its_neighbours_alone(tmp_path: Path) -> None:
    scene_folder(tmp_path, ["a.png", "b.png", "c.png"])
    before = [item.image for item in SceneDataset(tmp_path)]
    (tmp_path / "images" / "b.png").write_bytes(b"")
    (tmp_path / "images" / "d.png").symlink_to("nowhere.png")
    items = list(SceneDataset(tmp_path))
    assert [item.image is None for item in items] == [False, True, False, True]
    assert "empty" in items[1].error
    assert "no such image" in items[3].error
    assert np.array_equal(items[0].image, before[0])  # type: ignore[arg-type]  # checked above
    assert np.array_equal(items[2].image, before[2])  # type: ignore[arg-type]  # checked above


def test_wrong_folders_are_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="nowhere: no such image or folder"):
        SceneDataset(tmp_path / "nowhere")
    with pytest.raises(MissingPathError, match="nowhere: no such scene folder"):
        SceneDataset(tmp_path / "nowhere", need_truth=True)
    with pytest.raises(InputError, match="empty: no images in it"):
        SceneDataset(tmp_path / "empty")
    scene_folder(tmp_path / "s", ["a.png"])
    with pytest.raises(MissingPathError, match="no such ground truth"):
        SceneDataset(tmp_path / "s", need_truth=True)
    (tmp_path / "s" / "gt.json").write_text("{")
    with pytest.raises(FormatError):
        SceneDataset(tmp_path / "s")


def test_truth_and_images_have_to_go_together(tmp_path: Path) -> None:
    names = [f"{number}.png" for number in range(6)]
    scene_folder(tmp_path, names, {**{name: [BOX] for name in names[:1]}, "gone.png": []})
    with pytest.raises(InputError, match=r"has 1 scenes that are not in .*: gone\.png"):
        SceneDataset(tmp_path)
    write_gt(tmp_path / "gt.json", [("0.png", [BOX])])
    assert SceneDataset(tmp_path).read(1).truth is None
    with pytest.raises(InputError, match=r"no entry for 5 of 6 images: 1\.png, 2\.png, 3\.png and 2 more"):
        SceneDataset(tmp_path, need_truth=True)


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_are_lists_in_order(tmp_path: Path, workers: int) -> None:
    scene_folder(tmp_path, [f"{number}.png" for number in range(5)])
    batches = list(scene_loader(SceneDataset(tmp_path), batch_size=2, num_workers=workers))
    assert [[item.scene for item in batch] for batch in batches] == [["0.png", "1.png"], ["2.png", "3.png"], ["4.png"]]
    assert isinstance(batches[0][0], SceneItem)


def test_more_processes_than_scenes(tmp_path: Path) -> None:
    dataset = SceneDataset(scene_folder(tmp_path, ["0.png"]))
    shares = [list(scene_loader(dataset, num_workers=0, rank=rank, world=2)) for rank in range(2)]
    assert [[item.scene for item in batch] for share in shares for batch in share] == [["0.png"], []]


def test_what_is_done_is_not_decoded_again(tmp_path: Path) -> None:
    scene_folder(tmp_path, [f"{number}.png" for number in range(5)])
    dataset = SceneDataset(tmp_path)
    loader = scene_loader(dataset, num_workers=0)
    dataset.skip({"0.png", "3.png", "not there.png"})
    assert [batch[0].scene for batch in loader] == ["1.png", "2.png", "4.png"]
    assert len(dataset.scenes) == 5


class Watcher(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.seen: list[SceneItem] = []

    def validation_step(self, batch: list[SceneItem], batch_idx: int) -> None:  # noqa: ARG002 - Lightning passes it
        self.seen.extend(batch)

    def test_step(self, batch: list[SceneItem], batch_idx: int) -> None:  # noqa: ARG002 - Lightning passes it
        self.seen.extend(batch)

    def predict_step(self, batch: list[SceneItem], batch_idx: int) -> None:  # noqa: ARG002 - Lightning passes it
        self.seen.extend(batch)


def quiet_trainer(folder: Path, **options: Any) -> pl.Trainer:
    return pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        **options,
    )


@pytest.mark.parametrize("verb", ["validate", "test", "predict"])
def test_the_trainer_gets_every_scene_once_and_unchanged(tmp_path: Path, verb: str) -> None:
    scene_folder(tmp_path, ["0.png", "1.png", "2.png"], {f"{number}.png": [BOX] for number in range(3)})
    (tmp_path / "images" / "1.png").write_bytes(b"broken")
    data = SceneDataModule(str(tmp_path), str(tmp_path), str(tmp_path), num_workers=0)
    module = Watcher()
    getattr(quiet_trainer(tmp_path), verb)(module, data)
    assert [item.scene for item in module.seen] == ["0.png", "1.png", "2.png"]
    assert [item.truth for item in module.seen] == [(BOX,)] * 3
    assert data.dataset("predict") is data.dataset("predict")


@pytest.mark.parametrize("verb", ["validate", "test", "predict"])
def test_a_folder_that_was_not_given_is_asked_for(tmp_path: Path, verb: str) -> None:
    with pytest.raises(InputError, match=r"give their folder, --data\."):
        getattr(quiet_trainer(tmp_path), verb)(Watcher(), SceneDataModule())


def test_images_beside_the_searched_folder_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = scene_folder(tmp_path, ["a.png"])
    SceneDataset(folder)
    assert caplog.text == ""
    for name in ("b.png", "c.jpg", ".hidden.png", "notes.txt"):
        (folder / name).write_bytes(b"")
    assert SceneDataset(folder).scenes == ("a.png",)
    assert "2 images beside images/ are not searched (b.png, c.jpg); move them into" in caplog.text


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
    assert shares == [["45"], [""]]  # whole groups, and as many batches for each


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


def test_workers_of_a_killed_process_end(tmp_path: Path) -> None:
    for number in range(9):
        write_image(tmp_path / f"{number}.png", np.zeros((9, 9, 3), np.uint8))
    assert workers_left_by(scene_loader(SceneDataset(tmp_path), num_workers=2)) == set()
