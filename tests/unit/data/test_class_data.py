"""Training batches depend on seed and place alone: not on workers, memory, or how often the run was interrupted."""

import logging
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn

from naruto_vision.data.class_data import ClassBatch, ClassDataModule
from naruto_vision.data.sampling import Draw
from naruto_vision.errors import InputError
from naruto_vision.io.images import write_image
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
    draws = [dataset[Draw(0, place)][0] for place in (0, 1, 2, 0)]
    assert torch.equal(draws[0], draws[3])
    assert not any(torch.equal(draws[0], other) for other in draws[1:3])
    assert torch.equal(dataset[0][0], module_of(tmp_path, augmented=False).dataset("train")[Draw(0, 1)][0])


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
    data = module_of(tmp_path)
    with caplog.at_level(logging.WARNING):
        data.setup("fit")
    assert data.quarantines["train"].counts() == {"seen": 24, "ok": 23, "quarantined": 1}
    assert "1_3.png: the file is empty" in caplog.text
    assert "1_3.png" not in {path for batch in epoch(data) for path in batch.paths}
    with pytest.raises(InputError, match=r"1 of 24 images of split 'train'"):
        module_of(tmp_path, max_bad_fraction=0.01).setup("fit")


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


def fit(folder: Path, root: Path, checkpoint: Path | None = None, stop: int = -1) -> Line:
    module = Line()
    trainer = pl.Trainer(
        max_epochs=3,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        callbacks=[ModelCheckpoint(folder, save_last=True, every_n_train_steps=1), Stop(stop)],
    )
    try:
        trainer.fit(module, module_of(root), ckpt_path=checkpoint, weights_only=True)
    except RuntimeError as error:
        if str(error) != "killed":
            raise
    return module


@pytest.mark.filterwarnings("error:.*not resumable")
@pytest.mark.parametrize("step", [1, 5, 6, 7, 11, 12, 17])
def test_a_killed_run_goes_on_exactly(tmp_path: Path, step: int) -> None:
    root = class_data(tmp_path / "data")
    whole = fit(tmp_path / "whole", root)
    assert len(whole.seen) == 18
    killed = fit(tmp_path / "killed", root, stop=step)
    resumed = fit(tmp_path / "killed", root, tmp_path / "killed" / "last.ckpt")
    assert killed.seen + resumed.seen == whole.seen
    assert torch.equal(resumed.layer.weight, whole.layer.weight)
    assert len({tuple(paths) for paths in whole.seen}) == 18


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
