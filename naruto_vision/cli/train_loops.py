"""What ``naruto-vision bench train`` times: the Trainer's loop, and the same training written plainly in torch."""

import contextlib
import io
import logging
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.nn.functional import normalize
from torch.nn.utils import clip_grad_norm_
from typing_extensions import override

from naruto_vision.cli.trainer import NarutoCLI, run_cli
from naruto_vision.data.class_data import ClassBatch, ClassDataModule
from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.encoders.prompts import class_texts
from naruto_vision.errors import InputError
from naruto_vision.modules.clip_tuner import ContrastiveTuner, read_class_weights
from naruto_vision.modules.objectives import ClassPrototypes, Objective, batch_loss, class_loss

_PRECISIONS = {"32-true": None, "32": None, "bf16-mixed": torch.bfloat16}


@dataclass(frozen=True)
class Trained:
    """What one pass over some training batches took, and what it went through.

    Args:
        seconds: Wall time from before the first batch is fetched to after the last step.
        cpu_seconds: CPU time of this process meanwhile.
        losses: The loss of each step.
    """

    seconds: float
    cpu_seconds: float
    losses: tuple[float, ...]


class Stopwatch:
    """Wall and CPU time between two moments at which the device has nothing left to do.

    Args:
        device: Where the work is done.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._start = self._now()

    def _now(self) -> tuple[float, float]:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter(), time.process_time()

    def stop(self, losses: Sequence[Tensor]) -> Trained:
        """Return the times since the start.

        Args:
            losses: Of each step, shape ().
        """
        wall, cpu = self._now()
        return Trained(wall - self._start[0], cpu - self._start[1], tuple(float(loss) for loss in losses))


class Setup(NarutoCLI):
    """Model, data and Trainer of a ``fit`` as a user would get them, without the ``fit`` itself.

    Args:
        words: ``fit`` and its options.

    Raises:
        InputError: If the config is wrong.
    """

    @override
    def _run_subcommand(self, subcommand: str) -> None:
        """Leave it to whoever asked for the parts."""


class _Clock(pl.Callback):
    """Stands in front of all other callbacks: starts before theirs, and stops before what they do once an epoch."""

    def __init__(self) -> None:
        self.losses: list[Tensor] = []
        self.watch: Stopwatch | None = None
        self.found: Trained | None = None

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.watch = Stopwatch(pl_module.device)

    @override
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.losses.append(outputs["loss"].detach())

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.watch is not None:
            self.found = self.watch.stop(self.losses)


def trainer_loop(words: Sequence[str]) -> Trained:
    """Train as ``naruto-vision fit`` does, with the config's callbacks, logger and progress bar.

    Args:
        words: ``fit`` and its options.

    Raises:
        InputError: If the config is wrong, or is not of a CLIP that is tuned on class data.
    """
    with silence():
        setup = run_cli(words, Setup)
        check_setup(setup)
        clock = _Clock()
        vars(setup.trainer)["callbacks"].insert(0, clock)
        setup.trainer.fit(setup.model, setup.datamodule)
    if clock.found is None:
        msg = "bench train: the Trainer took no step"
        raise InputError(msg)
    return clock.found


def check_setup(setup: NarutoCLI) -> tuple[ContrastiveTuner, ClassDataModule]:
    """Return the module and the data, where the plain loop can do the same.

    Args:
        setup: The parts of a ``fit``.

    Raises:
        InputError: If they are of another kind, or in a precision that the plain loop does not know.
    """
    module, data = setup.model, setup.datamodule
    if not isinstance(module, ContrastiveTuner) or not isinstance(data, ClassDataModule):
        kinds = f"{type(module).__name__} on {type(data).__name__}"
        msg = f"bench train: expected a ContrastiveTuner on a ClassDataModule, found {kinds}"
        raise InputError(msg)
    if str(setup.trainer.precision) not in _PRECISIONS:
        msg = f"bench train: precision {setup.trainer.precision}: the plain loop knows {', '.join(_PRECISIONS)}"
        raise InputError(msg)
    return module, data


def plain_loop(words: Sequence[str], steps: int, *, captions: bool = False) -> Trained:
    """Train the same model on the same batches in a few lines of torch.

    Args:
        words: ``fit`` and its options.
        steps: Optimiser steps, at most an epoch.
        captions: Put one caption an image through the text tower, as open_clip's training does, not one a class.

    Raises:
        InputError: If the config is wrong, or captions are asked for where the text tower is frozen.
    """
    with silence():
        setup = run_cli(words, Setup)
        module, data = check_setup(setup)
        device = setup.trainer.strategy.root_device
        data.preprocess = module.encoder.preprocess
        data.setup("fit")
    encoder: ClipEncoder = module.encoder.to(device)
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimizer = module.optimizer(iter(parameters))
    schedule = module.schedule.build(optimizer, steps, 1) if module.scheduler is None else None
    texts = class_texts(data.classes, module.aliases, module.templates)
    prototypes = ClassPrototypes(encoder, texts, module.texts.per_step)
    if captions and not (encoder.trains_text and module.texts.per_step == "one"):
        msg = "--captions: a frozen text tower, or all texts a step, is no comparison with one caption an image"
        raise InputError(msg)
    counted = read_class_weights(module.loss.class_weights, data)
    half = _PRECISIONS[str(setup.trainer.precision)]
    clip, losses = setup.trainer.gradient_clip_val, []
    watch = Stopwatch(device)
    for step, raw in enumerate(islice(data.train_dataloader(), steps)):
        batch = ClassBatch(raw.pixels.to(device), raw.labels.to(device), raw.paths)
        with torch.autocast(device.type, half, enabled=half is not None):
            objective = Objective(module.scale(), module.loss, module.bias, counted)
            loss = (_caption_loss if captions else batch_loss)(encoder, batch, prototypes, step, objective)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        if clip:
            clip_grad_norm_(parameters, float(clip))
        optimizer.step()
        if schedule is not None:
            schedule.step()
        losses.append(loss.detach())
    return watch.stop(losses)


def _caption_loss(
    encoder: ClipEncoder, batch: ClassBatch, prototypes: ClassPrototypes, step: int, objective: Objective
) -> Tensor:
    """The same loss, with as many rows through the whole text tower as there are images."""
    chosen = prototypes.chosen(step)
    shown = batch.labels.tolist()
    rows = shown + [label for label in range(len(chosen)) if label not in shown]
    tokens = encoder.tokenizer([chosen[label] for label in rows]).to(batch.labels.device)
    vectors = normalize(encoder.clip.encode_text(tokens).float(), dim=-1)
    own = vectors[torch.tensor([rows.index(label) for label in range(len(chosen))], device=vectors.device)]
    return class_loss(encoder.encode_images(batch.pixels), batch.labels, own, objective=objective)


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Let bars and log lines be made, but not be seen between the rounds of a benchmark."""
    sink, before = io.StringIO(), logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def fit_words(config: str, root: str, steps: int, more: Sequence[str]) -> list[str]:
    """Return the words of a ``fit`` of one epoch that is cut short, without validation.

    Args:
        config: The config.
        root: The class data.
        steps: How many batches.
        more: Options of the user's own, which come before ours.
    """
    ours = {
        "data.root": root,
        "trainer.max_epochs": 1,
        "trainer.max_steps": -1,
        "trainer.limit_train_batches": steps,
        "trainer.limit_val_batches": 0,
        "trainer.num_sanity_val_steps": 0,
        "trainer.accumulate_grad_batches": 1,
    }
    return ["fit", "--config", config, *more, *(f"--{name}={value}" for name, value in ours.items())]
