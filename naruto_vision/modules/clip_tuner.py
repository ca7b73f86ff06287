"""Tune a CLIP on labelled images, or teach it from captioned ones: a thin shell over ``modules/objectives.py``."""

import logging
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from naruto_vision.data.caption_data import CaptionBatch
from naruto_vision.data.class_data import ClassBatch
from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.encoders.lora import LoraOptions
from naruto_vision.encoders.prompts import TEMPLATES, checked_templates, class_texts, read_aliases
from naruto_vision.errors import InputError, TrainingStoppedError
from naruto_vision.losses.contrastive import inverse_frequency
from naruto_vision.metrics.classification import class_figures, confusion_matrix, leave_one_out_accuracy, recall_at_1
from naruto_vision.modules.activation_cache import CacheChoice, CacheOptions, FrozenImages
from naruto_vision.modules.freezing import Freeze, freeze_towers
from naruto_vision.modules.gathering import gather_columns
from naruto_vision.modules.objectives import ClassPrototypes, LossKind, LossWeights, Objective, TextsPerStep, batch_loss


def random_state() -> dict[str, Any]:
    """Take the states of Python's, NumPy's and torch's global generators, as values that need no trust to load."""
    version, internal, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)  # noqa: NPY002 - the state to keep
    return {
        "python": [version, list(internal), gauss],
        "numpy": [str(name), torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, cached],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_state(state: Mapping[str, Any]) -> None:
    """Put the global generators back.

    Args:
        state: From ``random_state``.
    """
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))  # noqa: NPY002 - put back
    torch.set_rng_state(state["torch"].cpu())
    if len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([value.cpu() for value in state["cuda"]])


BestBy: TypeAlias = Literal["macro_accuracy", "accuracy"]


@dataclass(frozen=True)
class PassFigures:
    """The figures of one pass.

    Args:
        score: What decides which weights are best: the figure in [0, 1], then, where that is equal,
            minus the loss or the recall in the other direction.
        named: Name to figure, for logs and bundles.
        confusion: Shape (C, C), int64, rows are true classes; None where the data are captions.
    """

    score: tuple[float, float]
    named: dict[str, float]
    confusion: Tensor | None = None


def caption_figures(images: Tensor, captions: Tensor) -> PassFigures:
    """Measure how well captions and images find each other, one among all N.

    Args:
        images: Shape (N, D), float32, unit rows.
        captions: Shape (N, D), float32, unit rows; row i belongs to image i.
    """
    recall = recall_at_1(captions, images)
    named = {
        "recall_at_1": recall,
        "picture_recall_at_1": recall_at_1(images, captions),
        "chance": 1.0 / max(len(images), 1),
    }
    return PassFigures((recall, named["picture_recall_at_1"]), named)


def label_figures(
    images: Tensor, labels: Tensor, prototypes: Tensor, scale: Tensor, best_by: BestBy = "macro_accuracy"
) -> PassFigures:
    """Measure how well images are named by the nearest prototype, and by the nearest other image.

    Args:
        images: Shape (N, D), float32, unit rows.
        labels: Shape (N,), int64, in [0, C).
        prototypes: Shape (C, D), float32, unit rows.
        scale: Shape (), float32, the factor in front of the cosines.
        best_by: Which figure decides which weights are best; where it is equal, the smaller loss does.
    """
    cosines = images @ prototypes.T  # (N, C)
    confusion = confusion_matrix(cosines.argmax(dim=1), labels, len(prototypes))
    figures = class_figures(confusion)
    named = {
        "loss": float(cross_entropy(scale * cosines, labels)),
        "accuracy": figures.accuracy,
        "macro_accuracy": figures.macro_accuracy,
        "macro_f1": figures.macro_f1,
        "nearest_accuracy": leave_one_out_accuracy(images, labels),
    }
    # A mean over classes of other shares may differ in its last bit though it is the same figure.
    return PassFigures((round(named[best_by], 9), -named["loss"]), named, confusion)


ClassWeights: TypeAlias = Literal["none", "inverse_frequency"]

_LOG = logging.getLogger(__name__)


def read_class_weights(kind: ClassWeights, data: object) -> Tensor | None:
    """Work out how much each class counts.

    Args:
        kind: "none", or "inverse_frequency".
        data: The data module, with ``class_counts`` and ``balanced``.

    Returns:
        Shape (C,), float32; None where all classes count the same.

    Raises:
        InputError: If the data have no classes to count.
    """
    if kind == "none":
        return None
    counts = getattr(data, "class_counts", None)
    if counts is None:
        msg = "class_weights=inverse_frequency needs class data, whose images can be counted; use class_weights=none"
        raise InputError(msg)
    if getattr(data, "balanced", False):
        _LOG.warning("class_weights=inverse_frequency and data.balanced favour rare classes twice; choose one of them")
    return inverse_frequency(counts)


@dataclass(frozen=True)
class RateSchedule:
    """A linear rise to the optimiser's own rate, then half a cosine down to a floor.

    Args:
        warm_up: Share of the steps in which the rate rises, in [0, 1).
        warm_up_epochs: The same in epochs; if given, ``warm_up`` is not looked at.
        min_lr_factor: Where the rate ends, as a share of its peak, in [0, 1].

    Raises:
        InputError: If one of them is out of its range.
    """

    warm_up: float = 0.1
    warm_up_epochs: float | None = None
    min_lr_factor: float = 0.01

    def __post_init__(self) -> None:
        if not (0 <= self.warm_up < 1 and 0 <= self.min_lr_factor <= 1 and (self.warm_up_epochs or 0) >= 0):
            msg = f"rate: warm_up in [0, 1), warm_up_epochs >= 0 and min_lr_factor in [0, 1] expected, found {self}"
            raise InputError(msg)

    def build(self, optimizer: Optimizer, steps: int, epochs: int | None) -> LambdaLR:
        """Build the schedule, which is stepped after each optimiser step.

        Args:
            optimizer: Its rates are the peaks.
            steps: Optimiser steps of the whole run.
            epochs: Epochs of the whole run, if it is measured in epochs.

        Raises:
            InputError: If the warm-up is given in epochs and the run is not.
        """
        return warm_up_cosine(optimizer, steps, self.rising(steps, epochs), self.min_lr_factor)

    def rising(self, steps: int, epochs: int | None) -> int:
        """Count the steps in which the rate rises, at least one.

        Args:
            steps: Optimiser steps of the whole run.
            epochs: Epochs of the whole run, if it is measured in epochs.

        Raises:
            InputError: If the warm-up is given in epochs and the run is not.
        """
        if self.warm_up_epochs is None:
            return max(1, round(steps * self.warm_up))
        if not epochs or epochs < 0:
            msg = f"rate.warm_up_epochs={self.warm_up_epochs}: this run has no trainer.max_epochs; give rate.warm_up"
            raise InputError(msg)
        return max(1, round(steps * self.warm_up_epochs / epochs))


def warm_up_cosine(optimizer: Optimizer, steps: int, rising: int, floor: float) -> LambdaLR:
    """Rise linearly to the optimiser's own rate, then fall along half a cosine.

    Args:
        optimizer: Its rates are the peaks.
        steps: Optimiser steps of the whole run.
        rising: Steps in which the rate rises, 1 or more.
        floor: Where the rate ends, as a share of its peak, in [0, 1].
    """

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / rising
        done = min(1.0, (step - rising) / max(1, steps - rising))
        return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * done))

    return LambdaLR(optimizer, factor)


class Best:
    """The best pass so far, and how many passes ago it was.

    Attributes:
        figures: Its figures; their score is below 0 before the first pass.
        epoch: Its epoch, counted from 0; -1 before the first pass.
        passes_since: Passes after it.
        count: How many passes were better than all before them.
    """

    def __init__(self) -> None:
        self.figures = PassFigures((-1.0, 0.0), {})
        self.epoch = -1
        self.passes_since = 0
        self.count = 0

    def offer(self, figures: PassFigures, epoch: int) -> bool:
        """Take a pass if it is better than all before; return whether it is.

        Args:
            figures: The pass's figures.
            epoch: Its epoch, counted from 0.
        """
        self.passes_since += 1
        if not figures.score > self.figures.score:  # so that a loss of NaN is never better
            return False
        self.figures, self.epoch, self.passes_since = figures, epoch, 0
        self.count += 1
        return True

    def state_dict(self) -> dict[str, Any]:
        """Return everything, as values that need no trust to load."""
        figures = {**vars(self.figures), "score": list(self.figures.score)}
        return {"figures": figures, "epoch": self.epoch, "passes_since": self.passes_since, "count": self.count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up where another run stood.

        Args:
            state: From ``state_dict``.
        """
        figures = dict(state["figures"])
        score = (float(figures["score"][0]), float(figures["score"][1]))
        self.figures = PassFigures(score, dict(figures["named"]), figures["confusion"])
        self.epoch, self.passes_since = int(state["epoch"]), int(state["passes_since"])
        self.count = int(state["count"])


class ResumableModule(pl.LightningModule):
    """A module whose checkpoints also hold the best pass and the random states, which Lightning leaves out.

    Attributes:
        best: The best pass so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.best = Best()
        self._random: dict[str, Any] = {}

    def on_train_start(self) -> None:
        """Put the global random states back where the interrupted run had them."""
        if self._random:
            restore_random_state(self._random)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the best pass and the random states.

        Args:
            checkpoint: What Lightning is about to write.
        """
        checkpoint["best"] = self.best.state_dict()
        checkpoint["random_state"] = random_state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up the best pass and the random states.

        Args:
            checkpoint: What Lightning has read.
        """
        self.best.load_state_dict(checkpoint["best"])
        self._random = checkpoint["random_state"]


def _adamw(parameters: Any) -> Optimizer:  # noqa: ANN401 - whatever torch's optimisers take
    return AdamW(parameters, lr=3e-4, weight_decay=0.05)


class ContrastiveTuner(ResumableModule):
    """Fine-tunes a CLIP by matching images with texts; several images or texts may be right at once.

    With ``ClassDataModule`` the texts are templates around class names and aliases; with ``CaptionDataModule`` they are
    captions. The best weights, by ``best_by`` or ``valid/recall_at_1``, are kept as a model bundle.

    Args:
        encoder: What is tuned.
        optimizer: Makes the optimiser of the trainable parameters; AdamW 3e-4 where none is given.
        scheduler: Makes the learning-rate schedule, stepped once an epoch; where none is given, ``rate`` is used.
        rate: Linear warm-up and half a cosine over all steps.
        loss: "contrastive" (several positives), "sigmoid" (each pair by itself) or "prototype" (a classifier).
        weights: How the parts of the loss are added up.
        class_weights: "inverse_frequency" lets every class count the same in all; for data that are not ``balanced``.
        freeze: Which tower stays as it is.
        unfreeze_visual_blocks: With the image tower frozen, how many of its last blocks are trained all the same.
        lora: Train low-rank updates, and leave all other weights as they are; they are merged in the bundle.
        cache_frozen: Run the frozen image blocks once an image, not once an epoch; true insists on it.
        cache: How what they say is kept.
        templates: Texts with one ``{}``; by default seven.
        aliases_json: A JSON file with other texts for each class.
        texts_per_step: Whether a step sees one text a class, by chance, or the average of all of them.
        max_logit_scale: Largest factor in front of the cosines.
        best_by: Which figure of the validation decides which weights are best; of equal ones the smaller loss.
        bundle_dir: Folder of the bundle that is written whenever validation is better than before.
        half_bundle: Store the bundle's weights in 16 bits.
        facts: JSON values for the bundle (licence, recipe).
        seed: Decides which texts a step sees.

    Attributes:
        confusion: Confusion matrix of the last pass, shape (C, C), int64.

    Raises:
        InputError: If a template has no ``{}``, the aliases cannot be read, or options contradict each other.
    """

    def __init__(
        self,
        encoder: ClipEncoder,
        optimizer: OptimizerCallable = _adamw,
        scheduler: LRSchedulerCallable | None = None,
        *,
        rate: RateSchedule | None = None,
        loss: LossKind = "contrastive",
        weights: LossWeights | None = None,
        class_weights: ClassWeights = "none",
        freeze: Freeze = "none",
        unfreeze_visual_blocks: int = 0,
        lora: LoraOptions | None = None,
        cache_frozen: CacheChoice = "auto",
        cache: CacheOptions | None = None,
        templates: Sequence[str] = TEMPLATES,
        aliases_json: str | None = None,
        texts_per_step: TextsPerStep = "one",
        max_logit_scale: float = 100.0,
        best_by: BestBy = "macro_accuracy",
        bundle_dir: str = "runs/clip/bundle",
        half_bundle: bool = False,
        facts: dict[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        freeze_towers(encoder, freeze, unfreeze_visual_blocks, lora)
        self.encoder = encoder.train()
        self.optimizer, self.scheduler, self.rate = optimizer, scheduler, rate or RateSchedule()
        self.loss, self.weights, self.class_weights = loss, weights or LossWeights(), class_weights
        own = encoder.clip.logit_bias if loss == "sigmoid" else None
        self.bias = torch.nn.Parameter(torch.tensor(torch.nan)) if loss == "sigmoid" and own is None else own
        self.templates = checked_templates(templates)
        self.aliases = read_aliases(aliases_json) if aliases_json else {}
        self.texts_per_step, self.seed = texts_per_step, seed
        self.max_logit_scale, self.best_by = max_logit_scale, best_by
        self.bundle_dir, self.half_bundle, self.facts = bundle_dir, half_bundle, facts or {}
        self.confusion: Tensor | None = None
        self._images = FrozenImages(cache_frozen, cache or CacheOptions())
        self.prototypes = ClassPrototypes(encoder, (), seed)
        self._counted: Tensor | None = None
        self._seen: list[tuple[Tensor, ...]] = []
        self.save_hyperparameters({"freeze": freeze, "loss": loss, "seed": seed} | vars(self.weights) | vars(self.rate))

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of their label numbers; none where the data are captions."""
        data = getattr(self.trainer, "datamodule", None)
        return tuple(getattr(data, "classes", ()) or self.encoder.info.get("classes", ()))

    def scale(self) -> Tensor:
        """Return the factor in front of the cosines: shape (), float32, at most ``max_logit_scale``."""
        return self.encoder.logit_scale.exp().clamp(max=self.max_logit_scale)

    def setup(self, stage: str) -> None:
        """Take up the words of captions, list the texts of classes, and count their images where that is asked for.

        Args:
            stage: The Trainer's verb.
        """
        if words := getattr(getattr(self.trainer, "datamodule", None), "words", ()):
            self.encoder.build_vocabulary(words)
        texts = class_texts(self.classes, self.aliases, self.templates)
        self.prototypes = ClassPrototypes(self.encoder, texts, self.seed, self.texts_per_step)
        if stage == "fit":
            self._counted = read_class_weights(self.class_weights, getattr(self.trainer, "datamodule", None))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build the optimiser and its schedule."""
        optimizer = self.optimizer(parameter for parameter in self.parameters() if parameter.requires_grad)
        if self.scheduler is not None:
            return {"optimizer": optimizer, "lr_scheduler": self.scheduler(optimizer)}
        schedule = self.rate.build(optimizer, int(self.trainer.estimated_stepping_batches), self.trainer.max_epochs)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def training_step(self, batch: ClassBatch | CaptionBatch) -> Tensor:
        """Compute the loss of one batch.

        Args:
            batch: Images with their classes, or with their captions.

        Returns:
            Shape (), float32.

        Raises:
            TrainingStoppedError: If it is not finite.
        """
        scale = self.scale()
        counted = self._counted.to(self.device) if self._counted is not None else None
        objective = Objective(scale, self.weights, self.loss, self.bias, counted)
        known = self._images.known(batch)
        loss = batch_loss(self.encoder, batch, self.prototypes, self.global_step, objective, known)
        if not torch.isfinite(loss):
            msg = f"training: the loss of step {self.global_step} is {loss.item()}; lower the learning rate"
            raise TrainingStoppedError(msg)
        named = {"train/loss": loss.detach(), "train/logit_scale": scale.detach()}
        self.log_dict(named, prog_bar=True, batch_size=len(batch.pixels))
        return loss

    def on_fit_start(self) -> None:
        """Prepare to keep what frozen image blocks say of each image."""
        self._images.open(self.encoder, getattr(self.trainer, "datamodule", None), Path(self.bundle_dir).parent)

    def on_validation_epoch_start(self) -> None:
        """Forget text vectors of older weights."""
        self.prototypes.forget()

    on_test_epoch_start = on_validation_epoch_start
    on_predict_epoch_start = on_validation_epoch_start

    def validation_step(self, batch: ClassBatch | CaptionBatch) -> None:
        """Embed one batch.

        Args:
            batch: Images with their classes, or with their captions.
        """
        vectors = self._images.vectors(self.encoder, batch, "valid")
        other = self.encoder.encode_texts(batch.captions) if isinstance(batch, CaptionBatch) else batch.labels
        self._seen.append((vectors.cpu(), other.cpu()))

    test_step = validation_step

    def predict_step(self, batch: ClassBatch) -> list[tuple[str, str, float]]:
        """Name single images.

        Args:
            batch: Images; their labels are not looked at.

        Returns:
            Path, class and cosine with the class's prototype, for each image.
        """
        scores = self.encoder.encode_images(batch.pixels) @ self.prototypes.averaged().T
        best = scores.max(dim=1)
        names = [self.classes[index] for index in best.indices.tolist()]
        return list(zip(batch.paths, names, best.values.tolist(), strict=True))

    def on_validation_epoch_end(self) -> None:
        """Log the figures, and write the bundle when they are better than before.

        ``valid/improvements`` counts those passes: a checkpoint that monitors it is always of the bundle's weights.
        """
        figures = self._measure("valid")
        fitting = self.trainer.state.fn == TrainerFn.FITTING and not self.trainer.sanity_checking
        if figures and fitting and self.best.offer(figures, self.current_epoch):
            self._save(figures.named)
        if figures and fitting:
            self.log("valid/improvements", float(self.best.count))

    def on_test_epoch_end(self) -> None:
        """Log the figures."""
        self._measure("test")

    def on_fit_end(self) -> None:
        """Write the bundle of a run that had no validation."""
        self._images.close()
        if self.best.epoch < 0:
            self._save({})

    def _measure(self, stage: str) -> PassFigures | None:
        """Work out and log the figures of a pass; None where it saw nothing."""
        columns = gather_columns(self.trainer, self._seen)
        self._seen = []
        if not columns:
            return None
        vectors, other = columns
        if other.is_floating_point():
            figures = caption_figures(vectors, other)
        else:
            prototypes, scale = self.prototypes.averaged().cpu(), self.scale().detach().cpu()
            figures = label_figures(vectors, other, prototypes, scale, self.best_by)
        self.log_dict({f"{stage}/{name}": value for name, value in figures.named.items()})
        self.confusion = figures.confusion
        return figures

    def _save(self, figures: dict[str, float]) -> None:
        if not self.trainer.is_global_zero:
            return
        rounded = {name: round(value, 4) for name, value in figures.items()}
        extra: dict[str, Any] = {**self.facts, "steps": self.global_step, "figures": rounded}
        if self.classes:
            extra |= {"classes": list(self.classes), "texts": [list(own) for own in self.prototypes.texts]}
        self.encoder.save(Path(self.bundle_dir), extra, dtype=torch.float16 if self.half_bundle else torch.float32)
