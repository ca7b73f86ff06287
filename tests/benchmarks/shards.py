"""D1: streamed shards against the files that they were made of, into `fit` with two workers."""

import contextlib
import itertools
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from typing_extensions import override

from benchmarks.timing import Row, draw_image, silence
from naruto_vision.cli.bench import Timing
from naruto_vision.cli.main import main
from naruto_vision.data.class_data import ClassBatch, ClassDataModule
from naruto_vision.data.sampling import Draw, ShareSampler
from naruto_vision.data.stream_data import StreamDataModule
from naruto_vision.data.streams import StreamPlan
from naruto_vision.io.images import write_image
from naruto_vision.records import ImageArray

WORKERS = 2
DRAWN = 8  # different images; the others are copies


def prepare(image: ImageArray) -> Tensor:
    """Cut a square (3, 224, 224) of an image without resizing it."""
    pixels = torch.zeros(3, 224, 224)
    part = torch.from_numpy(image[:224, :224].copy()).permute(2, 0, 1).float() / 255
    pixels[:, : part.shape[1], : part.shape[2]] = part
    return pixels


class Light(pl.LightningModule):
    """A model that takes next to no time, so that the images are waited for; notes the losses."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)
        nn.init.constant_(self.layer.weight, 0.1)
        nn.init.zeros_(self.layer.bias)
        self.losses: list[float] = []

    @override
    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)

    @override
    def training_step(self, batch: ClassBatch) -> Tensor:
        answer: Tensor = self.layer(batch.pixels.mean(dim=(2, 3)))
        loss = (answer[:, 0] - batch.labels).square().mean()
        self.losses.append(float(loss))
        return loss


class InOrder(ShareSampler):
    """Draws in the order of a list."""

    def __init__(self, draws: list[Draw]) -> None:
        super().__init__(len(draws))
        self._draws = draws

    @override
    def __iter__(self) -> Iterator[Any]:
        return iter(self._draws)


class Ordered(ClassDataModule):
    """The images of a folder in the order, and with the augmentation, of a stream."""

    order: list[Draw]

    @override
    def train_dataloader(self) -> Any:
        return self._loader("train", self.dataset("train"), InOrder(self.order))


def stream_order(plan: StreamPlan, rows: dict[str, int]) -> list[Draw]:
    """Return the draws of the first epoch of a stream."""
    parts = [plan.samples(0, worker) for worker in range(plan.workers)]
    batches = (next(parts[number % plan.workers]) for number in range(plan.batches))
    samples = itertools.chain.from_iterable(batches)
    return [Draw(rows[json.loads(sample.content["json"])["path"]], sample.position) for sample in samples]


def fit_once(data: pl.LightningDataModule) -> tuple[float, float, list[float]]:
    """Train one epoch; return wall seconds, CPU seconds with those of the workers, and the losses."""
    module = Light()
    with silence():
        trainer = pl.Trainer(
            accelerator="cpu",
            max_epochs=1,
            limit_val_batches=0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
        wall, cpu = time.perf_counter(), sum(os.times()[:4])
        trainer.fit(module, data)
    return time.perf_counter() - wall, sum(os.times()[:4]) - cpu, module.losses


def streaming(quick: bool) -> Iterator[Row]:
    """D1: images of two sizes, PNG and JPEG shards; the losses over PNG shards are those over the files."""
    count, repeats = (12, 1) if quick else (384, 3)
    sizes = [(90, 120)] if quick else [(640, 640), (1080, 1920)]
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for (height, width), quality in itertools.product(sizes, (0, 92)):
            name = f"{width}x{height}"
            if not Path(name).exists():
                _draw(Path(name), height, width, count)
            out = f"{name}-{quality}"
            with silence():
                main(["data", "shard", name, "--out", out, "--quality", str(quality), "--shard-size", "64"])
            yield _compare(
                f"{name} JPEG, {'JPEG' if quality else 'PNG'} shards of 256", name, out, repeats, not quality
            )


def _draw(folder: Path, height: int, width: int, count: int) -> None:
    for number in range(min(DRAWN, count)):
        image = draw_image(height, width, number)
        for copy in range(number, count, DRAWN):
            write_image(folder / "train" / "ab"[copy % 2] / f"{copy}.jpg", image)


def _compare(what: str, files: str, shards: str, repeats: int, exact: bool) -> Row:
    options: dict[str, Any] = {"batch_size": 16, "num_workers": WORKERS, "preprocess": prepare, "seed": 1}
    stream = StreamDataModule(shards, shuffle=50, **options)
    with silence():
        stream.setup("fit")
    ordered = Ordered(files, cache_bytes=0, hold_out_fraction=0.0, balanced=False, **options)
    with silence():
        rows = {row.path: number for number, row in enumerate(ordered.tables["train"].rows)}
    ordered.order = stream_order(stream.train_dataloader().plan, rows)
    runs: dict[str, list[tuple[float, float, list[float]]]] = {"shards": [], "files": []}
    for round_ in range(repeats + (repeats > 1)):
        for name in list(runs)[:: -1 if round_ % 2 else 1]:
            runs[name].append(fit_once(stream if name == "shards" else ordered))
    ours, other = (Timing(*zip(*[run[:2] for run in own[repeats > 1 :]], strict=True)) for own in runs.values())
    one, two = runs["shards"][-1][2], runs["files"][-1][2]
    equal = sum(a == b for a, b in zip(one, two, strict=True))
    gap = max(abs(a - b) for a, b in zip(one, two, strict=True))
    same = f"{equal}/{len(one)} losses, largest difference {gap:.0e}; {len(rows) / ours.median:.0f} images/s"
    return Row(what, ours, other, same, equal == len(one) if exact else gap < 0.05)
