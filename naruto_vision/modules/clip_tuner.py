"""``ContrastiveTuner``: fine-tune CLIP on labelled images, or train it on captions."""

import logging
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from naruto_vision.data.caption_data import CaptionBatch
from naruto_vision.data.class_data import ClassBatch
from naruto_vision.data.tables import Split
from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.encoders.lora import LoraConfig
from naruto_vision.encoders.prompts import TEMPLATES, checked_templates, class_texts, read_aliases
from naruto_vision.errors import InputError
from naruto_vision.losses.contrastive import inverse_frequency
from naruto_vision.metrics.classification import class_figures, confusion_matrix, leave_one_out_accuracy, recall_at_1
from naruto_vision.modules.freezing import ActivationCache, CacheConfig, FreezeConfig, freeze_towers, open_cache
from naruto_vision.modules.gathering import gather_batches, gather_columns, gather_items
from naruto_vision.modules.objectives import (
    ClassPrototypes,
    ClassWeights,
    LossConfig,
    Objective,
    TextsPerStep,
    batch_losses,
    caption_losses,
    fast_attention,
    split_losses,
)
from naruto_vision.modules.tuning import PassFigures, ScheduleConfig, Tuner

BestBy: TypeAlias = Literal["macro_accuracy", "accuracy"]

_LOG = logging.getLogger(__name__)
_TIE_BREAK = 1e-6
"""Weight of the tie-breaking term: too small to outweigh a difference of one image."""
_MOST_MISTAKES = 500


class Mistake(NamedTuple):
    """A validation or test image that is nearer to another class's texts than to those of its own."""

    path: str  # relative to the split's root, POSIX
    truth: str
    answer: str
    score: float  # cosine with the texts of the answer
    own: float  # cosine with the texts of the true class


@dataclass(frozen=True)
class TextConfig:
    """The texts of the classes."""

    templates: Sequence[str] = TEMPLATES
    aliases_json: str | None = None
    per_step: TextsPerStep = "one"


def _adamw(parameters: Any) -> Optimizer:  # noqa: ANN401 - the type of torch's optimisers
    return AdamW(parameters, lr=3e-4, weight_decay=0.05)


class ContrastiveTuner(Tuner):
    """Fine-tunes a CLIP by matching images with texts; a row may have several positives.

    With ``ClassDataModule`` the texts are templates around class names and aliases; with ``CaptionDataModule`` they are
    captions. The weights with the highest ``valid/score`` are kept as a model bundle.

    Args:
        encoder: The CLIP to tune.
        optimizer: Builds the optimiser of the trainable parameters; None takes AdamW with a learning rate of 3e-4.
        scheduler: Builds the learning-rate schedule, stepped once an epoch; None uses ``schedule``.
        schedule: Linear warm-up, then cosine decay, stepped each optimiser step.
        loss: The training loss.
        texts: Templates and aliases that make the texts of the classes.
        freeze: Which parts of the CLIP are not trained.
        lora: Train low-rank updates only; they are merged into the weights of the bundle.
        cache: Whether and how the features of frozen image blocks are cached.
        best_by: The validation metric that chooses the best epoch; ties go to the smaller cross-entropy.
        bundle_dir: Folder of the bundle that is written whenever validation is better than before.
        half_bundle: Store the bundle's weights as float16.
        facts: Further JSON values for the bundle's ``model.json`` (licence, recipe).

    Attributes:
        mistakes: Wrongly classified images of the last validation or test, the clearest mistakes first.

    Raises:
        InputError: If a template has no ``{}``, the aliases cannot be read, or options contradict each other.
    """

    def __init__(
        self,
        encoder: ClipEncoder,
        optimizer: OptimizerCallable = _adamw,
        scheduler: LRSchedulerCallable | None = None,
        *,
        schedule: ScheduleConfig | None = None,
        loss: LossConfig | None = None,
        texts: TextConfig | None = None,
        freeze: FreezeConfig | None = None,
        lora: LoraConfig | None = None,
        cache: CacheConfig | None = None,
        best_by: BestBy = "macro_accuracy",
        bundle_dir: str = "runs/clip/bundle",
        half_bundle: bool = False,
        facts: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(optimizer, scheduler, bundle_dir, facts)
        freeze = freeze or FreezeConfig()
        freeze_towers(encoder, freeze, lora)
        self.encoder = encoder.train()
        self.schedule, self.loss = schedule or ScheduleConfig(), loss or LossConfig()
        self.cache = cache or CacheConfig()
        own = encoder.clip.logit_bias if self.loss.kind == "sigmoid" else None
        fresh = self.loss.kind == "sigmoid" and own is None
        self.bias = torch.nn.Parameter(torch.tensor(torch.nan)) if fresh else own
        self.texts = texts or TextConfig()
        self.templates = checked_templates(self.texts.templates)
        self.aliases = read_aliases(self.texts.aliases_json) if self.texts.aliases_json else {}
        self.best_by, self.half_bundle = best_by, half_bundle
        self.prototypes = ClassPrototypes(encoder, ())
        self._class_weights: Tensor | None = None
        self._features: ActivationCache | None = None
        self.mistakes: tuple[Mistake, ...] = ()
        self._seen: list[tuple[Tensor, ...]] = []
        self._paths: list[list[str]] = []
        self._parts: list[dict[str, float]] = []
        named = {"encoder": encoder.short_name, "loss": self.loss.kind, "lora_rank": lora.rank if lora else 0}
        self.save_hyperparameters(named | vars(freeze) | vars(self.loss) | vars(self.schedule))
        self._trained: tuple[str, ...] | None = None  # the classes of the resumed checkpoint

    @property
    def _data(self) -> Any:  # noqa: ANN401 - any data module, or None
        return getattr(self.trainer, "datamodule", None)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of their label indices; empty for captions."""
        return tuple(getattr(self._data, "classes", ()) or self.encoder.info.get("classes", ()))

    def scale(self) -> Tensor:
        """Return the logit scale, which multiplies the cosines: shape (), float32, at most ``loss.max_logit_scale``."""
        return self.encoder.logit_scale.exp().clamp(max=self.loss.max_logit_scale)

    def setup(self, stage: str) -> None:
        """Build the vocabulary of captions, the texts of classes, and class weights if configured."""
        if words := getattr(self._data, "words", ()):
            self.encoder.build_vocabulary(words)
        texts = class_texts(self.classes, self.aliases, self.templates)
        self.prototypes = ClassPrototypes(self.encoder, texts, self.texts.per_step)
        if stage == "fit":
            self._class_weights = read_class_weights(self.loss.class_weights, self._data)

    def default_schedule(self, optimizer: Optimizer) -> LRScheduler:
        """Build the schedule of ``schedule``."""
        return self.schedule.build(optimizer, int(self.trainer.estimated_stepping_batches), self.trainer.max_epochs)

    def on_fit_start(self) -> None:
        """Refuse a checkpoint of other classes; open the cache of frozen features, if it applies."""
        if self._trained is not None and self._trained != self.classes:
            raise InputError(_other_classes(str(self.trainer.ckpt_path), self._trained, self.classes, self.bundle_dir))
        self._features = open_cache(self.cache, self.encoder, self._data, Path(self.bundle_dir).parent)

    def training_step(self, batch: ClassBatch | CaptionBatch) -> Tensor:
        """Compute the loss of one batch: shape (), float32."""
        own = self._class_weights.to(self.device) if self._class_weights is not None else None
        objective = Objective(self.scale(), self.loss, self.bias, own)
        cached = self._cached(batch, "train")
        parts = batch_losses(self.encoder, batch, self.prototypes, self.global_step, objective, cached)
        loss = self.finite(reduce(operator.add, parts.values()))
        named = {"train/loss": loss.detach(), "train/logit_scale": objective.scale.detach()}
        self.log_dict(named, prog_bar=True, batch_size=len(batch.pixels))
        if self.logs_next_step:
            self.log_dict({f"train/loss_{name}": part.detach() for name, part in parts.items()})
        return loss

    def _cached(self, batch: ClassBatch | CaptionBatch, split: Split) -> Tensor | None:
        """Embed images from cached features: (B, D); None without a cache. Paths are unique per split."""
        if self._features is None or isinstance(batch, CaptionBatch):
            return None
        with fast_attention(batch.pixels.device):
            return self._features.encode(batch.pixels, [f"{split}/{path}" for path in batch.paths])

    def on_validation_epoch_start(self) -> None:
        """Drop text vectors computed with earlier weights."""
        self.prototypes.forget()

    on_test_epoch_start = on_validation_epoch_start
    on_predict_epoch_start = on_validation_epoch_start

    def validation_step(self, batch: ClassBatch | CaptionBatch | None) -> None:
        """Embed one batch."""
        if batch is None:
            return
        vectors = self._cached(batch, "valid")
        vectors = self.encoder.encode_images(batch.pixels) if vectors is None else vectors
        if isinstance(batch, CaptionBatch):
            texts = self.encoder.encode_texts([*batch.captions, *batch.phrases])
            parts = caption_losses(vectors, texts, batch, self._frozen_objective(self.device))
            self._parts.append({name: float(part) for name, part in parts.items()})
        other = texts[: len(batch.captions)] if isinstance(batch, CaptionBatch) else batch.labels
        self._seen.append((vectors.cpu(), other.cpu()))
        self._paths.append(list(getattr(batch, "paths", ())))

    test_step = validation_step

    def _frozen_objective(self, device: torch.device) -> Objective:
        """Return the training objective with copies of its parameters."""
        bias = None if self.bias is None else self.bias.detach().clone().to(device)
        own = None if self._class_weights is None else self._class_weights.to(device)
        return Objective(self.scale().detach().to(device), self.loss, bias, own)

    def measure(self) -> PassFigures | None:
        """Compute the metrics of the validation or test pass over all processes."""
        columns = gather_columns(self.trainer, self._seen)
        paths, parts = gather_items(self.trainer, self._paths), gather_batches(self.trainer, self._parts)
        self._seen, self._paths, self._parts = [], [], []
        if not columns:
            return None
        vectors, other = columns
        if other.is_floating_point():
            means = {name: sum(part[name] for part in parts) / len(parts) for name in parts[0]}
            return caption_figures(vectors, other).also(_loss_names(means))
        prototypes, objective = self.prototypes.averaged().cpu(), self._frozen_objective(torch.device("cpu"))
        paths = paths if len(paths) == len(other) else [""] * len(other)
        self.mistakes = find_mistakes(vectors, other, prototypes, paths, self.classes)
        losses = split_losses(vectors, other, prototypes, objective, getattr(self._data, "batch_size", len(other)))
        return label_figures(vectors, other, prototypes, objective.scale, self.best_by).also(_loss_names(losses))

    def predict_step(self, batch: ClassBatch | None) -> list[tuple[str, str, float]]:
        """Return path, class and cosine with the class's prototype for each image."""
        if batch is None:
            return []
        scores = self.encoder.encode_images(batch.pixels) @ self.prototypes.averaged().T
        best = scores.max(dim=1)
        names = [self.classes[index] for index in best.indices.tolist()]
        return list(zip(batch.paths, names, best.values.tolist(), strict=True))

    def on_fit_end(self) -> None:
        """Free the cached features."""
        self._features = None

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the classes beside the random states."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["classes"] = list(self.classes)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the classes of the checkpoint until training starts."""
        super().on_load_checkpoint(checkpoint)
        self._trained = tuple(map(str, checkpoint["classes"])) if "classes" in checkpoint else None

    def save_bundle(self, figures: dict[str, float]) -> None:
        """Write the encoder with its classes and their texts, if any."""
        extra: dict[str, Any] = {**self.facts, "steps": self.global_step, "figures": figures}
        if self.classes:
            extra |= {"classes": list(self.classes), "texts": [list(own) for own in self.prototypes.texts]}
        self.encoder.save(Path(self.bundle_dir), extra, dtype=torch.float16 if self.half_bundle else torch.float32)


def _other_classes(path: str, before: Sequence[str], now: Sequence[str], bundle: str) -> str:
    """Say which classes of a checkpoint and of the data differ."""
    gone, new = sorted({*before} - {*now}), sorted({*now} - {*before})
    differing = [f"{what} {', '.join(names)}" for what, names in (("new:", new), ("gone:", gone)) if names]
    what = "; ".join(differing) or "in another order"
    return (
        f"{path}: this checkpoint was trained with other classes ({what}); start a new fit without --ckpt_path "
        f"(--model.encoder.init_args.model {bundle} starts it from the tuned weights)"
    )


def read_class_weights(kind: ClassWeights, data: object) -> Tensor | None:
    """Compute the weight of each class: (C,), float32; None if all are equal."""
    if kind == "none":
        return None
    counts = getattr(data, "class_counts", None)
    if counts is None:
        raise InputError("loss.class_weights=inverse_frequency needs class data, whose images can be counted; use none")
    if getattr(data, "balanced", False):
        _LOG.warning("loss.class_weights=inverse_frequency and data.balanced favour rare classes twice; choose one")
    return inverse_frequency(counts)


def _loss_names(parts: Mapping[str, float]) -> dict[str, float]:
    return {"loss": sum(parts.values()), **{f"loss_{name}": part for name, part in parts.items()}}


def find_mistakes(
    images: Tensor, labels: Tensor, prototypes: Tensor, paths: Sequence[str], classes: Sequence[str]
) -> tuple[Mistake, ...]:
    """List the images (N, D) of classes (N,) that are nearest to a wrong one of (C, D) prototypes, at most 500."""
    cosines = images @ prototypes.T  # (N, C)
    best, own = cosines.max(dim=1), cosines.gather(1, labels.unsqueeze(1)).squeeze(1)
    order = (best.values - own).argsort(descending=True, stable=True)
    wrong = [row for row in order.tolist() if best.indices[row] != labels[row]]
    return tuple(
        Mistake(
            paths[row],
            classes[int(labels[row])],
            classes[int(best.indices[row])],
            float(best.values[row]),
            float(own[row]),
        )
        for row in wrong[:_MOST_MISTAKES]
    )


def caption_figures(images: Tensor, captions: Tensor) -> PassFigures:
    """Measure retrieval between N images and their captions, both (N, D), float32, unit rows.

    The score is the image recall@1 of caption queries; the caption recall@1 of image queries breaks ties.
    """
    named = {
        "recall_at_1": recall_at_1(captions, images),
        "caption_recall_at_1": recall_at_1(images, captions),
        "chance": 1.0 / max(len(images), 1),
    }
    return PassFigures(named["recall_at_1"] + _TIE_BREAK * named["caption_recall_at_1"], named)


def label_figures(
    images: Tensor, labels: Tensor, prototypes: Tensor, scale: Tensor, best_by: BestBy = "macro_accuracy"
) -> PassFigures:
    """Measure classification of images (N, D) by the nearest of (C, D) prototypes, and by the nearest other image.

    The score is ``best_by + 1e-6 / (1 + cross_entropy)``: ties go to the smaller cross-entropy.
    """
    cosines = images @ prototypes.T  # (N, C)
    confusion = confusion_matrix(cosines.argmax(dim=1), labels, len(prototypes))
    figures = class_figures(confusion)
    named = {
        "cross_entropy": float(cross_entropy(scale * cosines, labels)),
        "accuracy": figures.accuracy,
        "macro_accuracy": figures.macro_accuracy,
        "macro_f1": figures.macro_f1,
        "nearest_accuracy": leave_one_out_accuracy(images, labels),
    }
    # Equal means over classes may differ in their last bit.
    return PassFigures(round(named[best_by], 9) + _TIE_BREAK / (1.0 + named["cross_entropy"]), named, confusion)
