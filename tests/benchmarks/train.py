"""T11 and T12: what the Trainer adds to a plain loop in torch, and one prompt a class against one caption an image."""

import contextlib
import operator
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import islice
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from torch import Tensor
from torch.nn.functional import normalize
from torch.nn.utils import clip_grad_norm_
from typing_extensions import override

from benchmarks.timing import Row, own, run_process, silence
from naruto_vision.cli.bench import Timing
from naruto_vision.cli.trainer import run_cli
from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.encoders.prompts import class_texts
from naruto_vision.io.bundles import config_path
from naruto_vision.modules.objectives import ClassPrototypes, Objective, batch_losses, class_losses

LOSS_TOLERANCE = 1e-5
CLASSES = 8  # of the packaged cast


@dataclass(frozen=True)
class Trained:
    """Wall and CPU seconds from before the first batch to after the last step, and the loss of each."""

    seconds: float
    cpu_seconds: float
    losses: tuple[float, ...]


class _Watch:
    def __init__(self) -> None:
        self.start = time.perf_counter(), time.process_time()

    def stop(self, losses: Sequence[Tensor]) -> Trained:
        wall, cpu = time.perf_counter(), time.process_time()
        return Trained(wall - self.start[0], cpu - self.start[1], tuple(float(loss) for loss in losses))


class _Clock(pl.Callback):
    """Stands before all other callbacks: starts before theirs, and stops before what they do once an epoch."""

    def __init__(self) -> None:
        self.losses: list[Tensor] = []

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.watch = _Watch()

    @override
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.losses.append(outputs["loss"].detach())

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.found = self.watch.stop(self.losses)


def trainer_loop(argv: Sequence[str]) -> Trained:
    """Train as `naruto-vision fit` does, with the config's callbacks, logger and progress bar."""
    with silence():
        parts = run_cli(argv, run=False)
        clock = _Clock()
        parts.trainer.callbacks.insert(0, clock)
        parts.trainer.fit(parts.model, parts.datamodule)
    return clock.found


def plain_loop(argv: Sequence[str], steps: int, *, captions: bool = False) -> Trained:
    """Train the same model on the same batches in a few lines of torch, by choice with one caption an image."""
    with silence():
        parts = run_cli(argv, run=False)
        module, data = parts.model, parts.datamodule
        data.preprocess = module.encoder.preprocess
        data.setup("fit")
    encoder: ClipEncoder = module.encoder
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimizer = module.optimizer(iter(parameters))
    schedule = module.schedule.build(optimizer, steps, 1)
    texts = class_texts(data.classes, module.aliases, module.templates)
    prototypes = ClassPrototypes(encoder, texts, module.texts.per_step)
    losses, watch = [], _Watch()
    for step, batch in enumerate(islice(data.train_dataloader(), steps)):
        objective = Objective(module.scale(), module.loss, module.bias)
        if captions:
            loss = _caption_loss(encoder, batch.pixels, batch.labels, prototypes.chosen(step), objective)
        else:
            loss = reduce(operator.add, batch_losses(encoder, batch, prototypes, step, objective).values())
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(parameters, float(parts.trainer.gradient_clip_val))
        optimizer.step()
        schedule.step()
        losses.append(loss.detach())
    return watch.stop(losses)


def _caption_loss(
    encoder: ClipEncoder, pixels: Tensor, labels: Tensor, chosen: Sequence[str], objective: Objective
) -> Tensor:
    """The same loss, with as many rows through the whole text tower as there are images, as open_clip trains."""
    shown = labels.tolist()
    rows = shown + [label for label in range(len(chosen)) if label not in shown]
    vectors = normalize(encoder.clip.encode_text(encoder.tokenizer([chosen[label] for label in rows])).float(), dim=-1)
    texts = vectors[[rows.index(label) for label in range(len(chosen))]]
    return reduce(operator.add, class_losses(encoder.encode_images(pixels), labels, texts, objective).values())


def overhead(quick: bool) -> Iterator[Row]:
    """T11: `fit` with clip.yaml's callbacks, logger and bar; all losses are those of the plain loop."""
    steps, size, repeats = (2, 4, 1) if quick else (16, 16, 5)
    with _fit_argv(steps, size) as argv:
        ours, plain = [], []
        for _ in range(repeats + 1):
            plain.append(plain_loop(argv, steps))
            ours.append(trainer_loop(argv))
    equal = sum(one == other for one, other in zip(ours[0].losses, plain[0].losses, strict=True))
    gap = max(abs(one - other) for one, other in zip(ours[0].losses, plain[0].losses, strict=True))
    same = f"{equal}/{steps} losses, largest difference {gap:.0e}"
    yield Row(f"fit, {steps} steps of {size} images", _timing(ours), _timing(plain), same, gap <= LOSS_TOLERANCE)


def text_cache(quick: bool) -> Iterator[Row]:
    """T12: one prompt a class through the text tower, against one caption an image, both in plain torch."""
    name, size, repeats = ("tiny-clip", 8, 1) if quick else ("ViT-B-32", 16, 3)
    more = [f"--model.encoder.init_args.model={name}", "--model.encoder.init_args.pretrained=random"]
    with _fit_argv(1, size, *more) as argv:
        ours, captions = [], []
        for _ in range(repeats + 1):
            captions.append(plain_loop(argv, 1, captions=True))
            ours.append(plain_loop(argv, 1))
    gap = abs(ours[0].losses[0] - captions[0].losses[0])
    what = f"{name}, {size} images of {CLASSES} classes, 1 step"
    yield Row(what, _timing(ours), _timing(captions), f"difference of the loss {gap:.0e}", gap <= 1e-3)


@contextlib.contextmanager
def _fit_argv(steps: int, batch: int, *more: str) -> Iterator[list[str]]:
    """Draw the cast into a temporary folder, work there, and yield the arguments of a `fit` without validation."""
    config = str(config_path("clip.yaml").resolve())
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        counts = {"train": -(-batch * steps // CLASSES), "valid": 1, "test": 1, "scenes": 0, "valid-scenes": 0}
        run_process(own("draw", "--out", str(Path(folder) / "data"), *(f"--{key}={n}" for key, n in counts.items())))
        limits = [f"--trainer.limit_train_batches={steps}", "--trainer.limit_val_batches=0"]
        epochs = [
            "--trainer.max_epochs=1",
            f"--data.batch_size={batch}",
            "--trainer.precision=32-true",
        ]  # as in plain torch
        yield ["fit", "--config", config, *more, *epochs, *limits]


def _timing(runs: Sequence[Trained]) -> Timing:
    """Leave out the first run, a warm-up, where there are more."""
    timed = runs[1:] or runs
    return Timing(tuple(run.seconds for run in timed), tuple(run.cpu_seconds for run in timed))
