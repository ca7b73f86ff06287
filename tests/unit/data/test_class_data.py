"""Training batches depend on seed and place alone: not on workers, memory, or how often the run was interrupted."""

import json
import logging
import os
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn

from naruto_vision.data.class_data import ClassBatch, ClassDataModule
from naruto_vision.data.sampling import Draw
from naruto_vision.errors import InputError
from naruto_vision.io.images import read_image, write_image
from naruto_vision.records import ImageArray

CLASSES = ("ann", "bob", "cid")


def class_data(root: Path, *, splits: dict[str, int] | None = None) -> Path:
    """Draw noise: class c has c images more than the first."""
    rng = np.random.default_rng(0)
    for split, count in (splits or {"train": 7, "valid": 3, "test": 2}).items():
        lines = ["filename, " + ", ".join(CLASSES)]
        (root / split).mkdir(parents=True)
        for number in range(len(CLASSES)):
            for place in range(count + number):
                write_image(root / split / f"{number}_{place}.png", rng.integers(0, 256, (20, 12, 3), dtype=np.uint8))
                marks = ["1" if other == number else "0" for other in range(len(CLASSES))]
                lines.append(f"{number}_{place}.png, " + ", ".join(marks))
        (root / split / "_classes.csv").write_text("\n".join(lines))
    return root


def pixels_of(image: ImageArray) -> Tensor:
    return torch.from_numpy(image[:4, :4].copy()).permute(2, 0, 1).float() / 255


def module_of(root: Path, **options: Any) -> ClassDataModule:
    return ClassDataModule(str(root), preprocess=pixels_of, **{"batch_size": 4, **options})


def epoch(data: ClassDataModule) -> list[ClassBatch]:
    return list(data.train_dataloader())


def same(first: list[ClassBatch], second: list[ClassBatch]) -> bool:
    return len(first) == len(second) and all(
        torch.equal(a.pixels, b.pixels) and torch.equal(a.labels, b.labels) and a.paths == b.paths
        for a, b in zip(first, second, strict=True)
    )


def test_batches_are_full_balanced_and_labelled(tmp_path: Path) -> None:
    data = module_of(class_data(tmp_path), batch_size=6)
    batches = epoch(data)
    assert data.classes == CLASSES
    assert len(batches) == 4
    for batch in batches:
        assert batch.pixels.shape == (6, 3, 4, 4)
        assert batch.pixels.dtype == torch.float32
        assert batch.labels.bincount().tolist() == [2, 2, 2]
        assert [int(path[0]) for path in batch.paths] == batch.labels.tolist()
    plain = epoch(module_of(tmp_path, batch_size=6, balanced=False))
    assert len({path for batch in plain for path in batch.paths}) == 24


def test_workers_and_memory_change_nothing(tmp_path: Path) -> None:
    class_data(tmp_path)
    reference = epoch(module_of(tmp_path, cache_side=10))
    assert same(reference, epoch(module_of(tmp_path, cache_side=10, num_workers=2)))
    assert same(reference, epoch(module_of(tmp_path, cache_side=10, cache_bytes=900)))
    assert same(reference, epoch(module_of(tmp_path, cache_side=10, cache_bytes=0)))
    assert not same(reference, epoch(module_of(tmp_path, cache_side=10, seed=1)))
    assert not same(reference, epoch(module_of(tmp_path, cache_side=10, augmented=False)))
    assert not same(reference, epoch(module_of(tmp_path, cache_side=10, mirrored=False)))


def test_every_draw_has_its_own_augmentation(tmp_path: Path) -> None:
    dataset = module_of(class_data(tmp_path)).dataset("train")
    draws = [dataset[Draw(0, place)].item[0] for place in (0, 1, 2, 0)]
    assert torch.equal(draws[0], draws[3])
    assert not any(torch.equal(draws[0], other) for other in draws[1:3])
    plain = module_of(tmp_path, augmented=False).dataset("train")
    assert torch.equal(dataset[0].item[0], plain[Draw(0, 1)].item[0])


def test_images_are_kept_small(tmp_path: Path) -> None:
    shapes = []

    def watch(image: ImageArray) -> Tensor:
        shapes.append(image.shape)
        return pixels_of(image)

    class_data(tmp_path)
    list(ClassDataModule(str(tmp_path), preprocess=watch, cache_side=10).val_dataloader())
    assert set(shapes) == {(10, 6, 3)}


def test_other_splits_come_in_table_order_unaugmented(tmp_path: Path) -> None:
    data = module_of(class_data(tmp_path))
    for split, loader in (("valid", data.val_dataloader()), ("test", data.test_dataloader())):
        paths = [path for batch in loader for path in batch.paths]
        assert paths == [row.path for row in data.tables[split].rows]  # type: ignore[index]  # both are splits
    assert same(list(data.test_dataloader()), list(data.predict_dataloader()))


def test_bad_images_are_set_aside_up_to_a_share(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class_data(tmp_path)
    (tmp_path / "train" / "1_3.png").write_bytes(b"")
    data = module_of(tmp_path, balanced=False)
    with caplog.at_level(logging.WARNING):
        batches = epoch(data)
        data.teardown("fit")
    assert data.quarantines["train"].counts() == {"seen": 24, "ok": 23, "quarantined": 1}
    assert "left out: " in caplog.text
    assert "1_3.png: the file is empty" in caplog.text
    assert "1 of 24 images of split 'train' could not be read and were left out (bob 1 of 8)" in caplog.text
    assert {batch.pixels.shape[0] for batch in batches} == {4}
    assert "1_3.png" not in {path for batch in batches for path in batch.paths}
    with pytest.raises(InputError, match=r"1 of 24 images of split 'train' cannot be read, more than the 1%"):
        epoch(module_of(tmp_path, balanced=False, max_bad_fraction=0.01))


@pytest.mark.parametrize("workers", [0, 2])
def test_in_place_of_a_bad_image_comes_the_next_of_its_class(tmp_path: Path, workers: int) -> None:
    whole = epoch(module_of(class_data(tmp_path)))
    for name in ("1_3", "1_7", "1_0"):  # one in the middle, the last and the first of a class
        (tmp_path / "train" / f"{name}.png").write_bytes(b"no image")
    found = epoch(module_of(tmp_path, num_workers=workers, max_bad_fraction=0.2))
    drawn = [path for batch in whole for path in batch.paths]
    stand_in = {"1_3.png": "1_4.png", "1_7.png": "1_1.png", "1_0.png": "1_1.png"}
    assert stand_in.keys() <= set(drawn)
    assert [path for batch in found for path in batch.paths] == [stand_in.get(path, path) for path in drawn]
    assert all(torch.equal(one.labels, other.labels) for one, other in zip(whole, found, strict=True))


def test_other_splits_leave_bad_images_out_and_skip_a_batch_without_any(tmp_path: Path) -> None:
    class_data(tmp_path)
    for name in ("0_0", "0_1", "0_2", "1_0", "2_4"):  # a whole batch, and one of another
        (tmp_path / "valid" / f"{name}.png").write_bytes(b"")
    data = module_of(tmp_path, max_bad_fraction=0.5)
    rows = [row.path for row in data.tables["valid"].rows] if data.classes else []
    bad = {path for path in rows if (tmp_path / "valid" / path).stat().st_size == 0}
    assert rows[:4] == ["0_0.png", "0_1.png", "0_2.png", "1_0.png"]
    batches = list(data.val_dataloader())
    assert [len(batch.paths) for batch in batches] == [4, 3]
    assert [path for batch in batches for path in batch.paths] == [path for path in rows if path not in bad]
    assert data.quarantines["valid"].counts() == {"seen": 12, "ok": 7, "quarantined": 5}


@pytest.mark.parametrize("workers", [0, 1])
def test_a_class_without_a_readable_image_stops_training(tmp_path: Path, workers: int) -> None:
    class_data(tmp_path)
    for file in (tmp_path / "train").glob("1_*.png"):
        file.write_bytes(b"")
    with pytest.raises(InputError, match=r"^class 'bob': none of 8 images of split 'train' can be read; first .*png"):
        epoch(module_of(tmp_path, max_bad_fraction=0.9, num_workers=workers))
    for file in (tmp_path / "valid").glob("*.png"):
        file.write_bytes(b"")
    with pytest.raises(InputError, match=r"none of 12 images of split 'valid' can be read"):
        list(module_of(tmp_path, max_bad_fraction=1.0).val_dataloader())


@pytest.mark.slow
def test_the_first_batch_of_100_000_images_decodes_only_what_is_prefetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class_data(tmp_path, splits={"train": 1, "valid": 1})
    for number in range(100_000):
        split = "valid" if number % 5 == 0 else "train"
        os.link(tmp_path / split / f"{number % 3}_0.png", tmp_path / split / f"x{number}.png")
    lines = [f"x{number}.png, " + ", ".join(str(int(number % 3 == k)) for k in range(3)) for number in range(100_000)]
    for split in ("train", "valid"):
        text = "\n".join(line for number, line in enumerate(lines) if (number % 5 == 0) == (split == "valid"))
        (tmp_path / split / "_classes.csv").write_text("filename, " + ", ".join(CLASSES) + "\n" + text)
    log = tmp_path / "decoded"

    def counted(path: Path) -> ImageArray:
        with log.open("ab") as file:  # also from worker processes
            file.write(b".")
        return read_image(path)

    monkeypatch.setattr("naruto_vision.data.shards.read_image", counted)
    listed = module_of(tmp_path)
    listed.setup("fit")
    assert (len(listed.tables["train"]), len(listed.tables["valid"])) == (80_000, 20_000)
    assert sum(listed.class_counts) == 80_000
    assert not log.exists()
    for workers in (0, 2):
        data = module_of(tmp_path, num_workers=workers)
        data.tables = listed.tables
        log.write_bytes(b"")
        batch = next(iter(data.train_dataloader()))
        assert len(batch.paths) == 4
        assert 4 <= log.stat().st_size <= 4 * max(1, 2 * workers + 1)


def test_missing_parts(tmp_path: Path) -> None:
    class_data(tmp_path, splits={"train": 10})
    data = module_of(tmp_path)
    data.setup("fit")
    assert (len(data.tables["train"]), len(data.tables["valid"])) == (27, 6)
    with pytest.raises(InputError, match="no class data of split 'test'"):
        data.setup("test")
    with pytest.raises(InputError, match="expected a module with an `encoder`"):
        ClassDataModule(str(tmp_path)).train_dataloader()


class Line(pl.LightningModule):
    """A linear classifier that remembers what it saw."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(48, 3)
        self.seen: list[list[str]] = []

    def training_step(self, batch: ClassBatch, batch_idx: int) -> Tensor:  # noqa: ARG002 - Lightning passes it
        self.seen.append(batch.paths)
        return nn.functional.cross_entropy(self.layer(batch.pixels.flatten(1)), batch.labels)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-2)


class Stop(pl.Callback):
    """Ends the run as a kill would: before the next batch, without another checkpoint."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            raise RuntimeError("killed")


def fit(
    folder: Path, root: Path, checkpoint: Path | None = None, stop: int = -1, epochs: int = 3, **options: Any
) -> Line:
    module = Line()
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=CSVLogger(folder),
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        callbacks=[ModelCheckpoint(folder, save_last=True, every_n_train_steps=1), Stop(stop)],
    )
    try:
        trainer.fit(module, module_of(root, **options), ckpt_path=checkpoint, weights_only=True)
    except RuntimeError as error:
        if str(error) != "killed":
            raise
    return module


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Line]:
    """Return class data, and a run of three epochs over them."""
    folder = tmp_path_factory.mktemp("whole")
    root = class_data(folder / "data")
    return root, fit(folder / "run", root)


@pytest.mark.filterwarnings("error:.*not resumable")
@pytest.mark.parametrize("step", [1, 6, 7, 17])  # of 6 an epoch
def test_a_killed_run_goes_on_exactly(tmp_path: Path, whole_run: tuple[Path, Line], step: int) -> None:
    root, whole = whole_run
    assert len(whole.seen) == 18
    killed = fit(tmp_path / "killed", root, stop=step)
    resumed = fit(tmp_path / "killed", root, tmp_path / "killed" / "last.ckpt")
    assert killed.seen + resumed.seen == whole.seen
    assert torch.equal(resumed.layer.weight, whole.layer.weight)
    assert len({tuple(paths) for paths in whole.seen}) == 18


def test_a_killed_run_with_bad_images_goes_on_exactly_and_lists_them(tmp_path: Path) -> None:
    root = class_data(tmp_path / "data")
    for name in ("0_1", "2_3"):
        (root / "train" / f"{name}.png").write_bytes(b"no image")
    options: dict[str, Any] = {"max_bad_fraction": 0.2, "balanced": False, "epochs": 2}
    whole = fit(tmp_path / "whole", root, **options)
    killed = fit(tmp_path / "killed", root, stop=7, num_workers=1, **options)
    resumed = fit(tmp_path / "killed", root, tmp_path / "killed" / "last.ckpt", **options)
    assert killed.seen + resumed.seen == whole.seen
    assert torch.equal(resumed.layer.weight, whole.layer.weight)
    assert {len(paths) for paths in whole.seen} == {4}
    for name in ("whole", "killed"):
        [listed] = (tmp_path / name).rglob("quarantine.jsonl")
        rows = [json.loads(line) for line in listed.read_text().splitlines()]
        assert sorted(row["path"] for row in rows) == ["train/0_1.png", "train/2_3.png"]
        assert all("not an image" in row["reason"] for row in rows)


def test_a_run_over_changed_data_is_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    state = module_of(class_data(tmp_path)).state_dict()
    with caplog.at_level(logging.WARNING):
        module_of(tmp_path).load_state_dict(state)
        assert "differ" not in caplog.text
        module_of(tmp_path, batch_size=5).load_state_dict(state)
    assert "differ from the interrupted run's" in caplog.text


@pytest.mark.filterwarnings("error:Total length")
def test_too_few_images_to_hold_any_out_train_without_validation(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("ann/1.png", "ann/2.png", "bob/1.png", "bob/2.png"):
        write_image(tmp_path / name, np.zeros((8, 8, 3), dtype=np.uint8))
    data = module_of(tmp_path)
    with caplog.at_level(logging.WARNING):
        data.setup("fit")
    assert "too few images of every class to hold any out" in caplog.text
    assert data.val_dataloader() == []
    assert len(data.tables["train"]) == 4
    with pytest.raises(InputError, match="no images to validate on"):
        module_of(tmp_path).setup("validate")
