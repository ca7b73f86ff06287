"""Two real processes that train on shards: every image once an epoch over both, and the same weights in both."""

import json
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from naruto_vision.cli.main import main
from naruto_vision.data.class_data import ClassBatch, ClassDataModule
from naruto_vision.data.stream_data import StreamDataModule
from naruto_vision.io.images import write_image
from naruto_vision.records import ImageArray

COUNTS = {"train": {"Ada": 7, "Bo": 5}, "valid": {"Ada": 3, "Bo": 2}}  # batches of three and of two to validate on
EPOCHS, BATCH, WORLD = 3, 3, 2


class Noter(pl.LightningModule):
    """Learns a little, and writes down which images its process was given in which epoch."""

    def __init__(self, out: Path) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)
        self.out = out
        self.seen: dict[str, list[list[str]]] = {"train": [], "valid": []}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def on_train_epoch_start(self) -> None:
        self.seen["train"].append([])

    def on_validation_epoch_start(self) -> None:
        self.seen["valid"].append([])

    def training_step(self, batch: ClassBatch) -> Tensor:
        self.seen["train"][-1].extend(batch.paths)
        answer: Tensor = self.layer(batch.pixels.mean(dim=(2, 3)))
        return (answer[:, 0] - batch.labels).square().mean()

    def validation_step(self, batch: ClassBatch) -> None:
        self.seen["valid"][-1].extend(batch.paths)

    def teardown(self, stage: str) -> None:  # noqa: ARG002 - of Lightning
        weights = [value.flatten().tolist() for value in self.parameters()]
        quarantines: Any = getattr(self.trainer, "datamodule").quarantines  # noqa: B009 - it has no type
        counts = {split: quarantine.counts() for split, quarantine in quarantines.items()}
        found = {**self.seen, "weights": weights, "counts": counts}
        (self.out / f"{self.global_rank}.json").write_text(json.dumps(found))


def prepared(image: ImageArray) -> Tensor:
    return torch.from_numpy(image[:8, :8].copy()).permute(2, 0, 1).float() / 255


def packed(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    for split, classes in COUNTS.items():
        for name, count in classes.items():
            for number in range(count):
                image = rng.integers(0, 256, (12, 10, 3)).astype(np.uint8)
                write_image(folder / "data" / split / name / f"{number}.png", image)
    assert main(["data", "shard", str(folder / "data"), "--out", str(folder / "shards"), "--shard-size", "5"]) == 0
    return folder / "shards"


def everything(split: str) -> list[str]:
    return sorted(f"{name}/{number}.png" for name, count in COUNTS[split].items() for number in range(count))


def trained(folder: Path, data: pl.LightningDataModule) -> list[Any]:
    """Train in two processes; return what each was given."""
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=WORLD,
        strategy="ddp_spawn",
        max_epochs=EPOCHS,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    trainer.fit(Noter(folder), data)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(WORLD)]


@pytest.mark.slow
def test_two_processes_stream_every_image_of_the_shards_once_an_epoch(tmp_path: Path) -> None:
    data = StreamDataModule(
        str(packed(tmp_path)), batch_size=BATCH, num_workers=0, shuffle=4, augmented=False, preprocess=prepared
    )
    first, second = trained(tmp_path, data)
    drawn = [one + other for one, other in zip(first["train"], second["train"], strict=True)]
    assert [sorted(paths) for paths in drawn] == [everything("train")] * EPOCHS
    assert len({tuple(paths) for paths in drawn}) == EPOCHS
    assert [sorted(one + other) for one, other in zip(first["valid"], second["valid"], strict=True)] == [
        everything("valid")
    ] * EPOCHS
    assert first["weights"] == second["weights"]
    all_read = {
        split: {"seen": len(everything(split)), "ok": len(everything(split)), "quarantined": 0} for split in COUNTS
    }
    assert first["counts"] == second["counts"] == all_read


@pytest.mark.slow
def test_two_processes_see_every_image_of_the_shards_once_an_epoch(tmp_path: Path) -> None:
    data = ClassDataModule(
        str(packed(tmp_path)), batch_size=BATCH, balanced=False, augmented=False, preprocess=prepared, cache_bytes=0
    )
    first, second = trained(tmp_path, data)
    drawn = [one + other for one, other in zip(first["train"], second["train"], strict=True)]
    assert [sorted(paths) for paths in drawn] == [everything("train")] * EPOCHS
    assert len({tuple(paths) for paths in drawn}) == EPOCHS  # every epoch in another order
    assert [len(paths) for paths in first["train"]] == [len(paths) for paths in second["train"]] == [6] * EPOCHS
    assert [sorted(one + other) for one, other in zip(first["valid"], second["valid"], strict=True)] == [
        everything("valid")
    ] * EPOCHS
    assert first["weights"] == second["weights"]
    _assert_as_alone(tmp_path, [first["train"], second["train"]])


def _assert_as_alone(folder: Path, shares: list[Any]) -> None:
    """One process that takes batches twice as large draws, batch by batch, what the two draw together."""
    data = ClassDataModule(
        str(folder / "shards"), batch_size=WORLD * BATCH, balanced=False, augmented=False, preprocess=prepared
    )
    data.setup("fit")
    batches = [sorted(batch.paths) for batch in data.train_dataloader()]
    both = [
        sorted(path for share in shares for path in share[0][start : start + BATCH]) for start in range(0, 6, BATCH)
    ]
    assert batches == both
