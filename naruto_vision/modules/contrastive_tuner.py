"""Tune a CLIP on labelled pictures, or teach it from captioned ones: a thin shell over ``modules/objectives.py``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim import AdamW, Optimizer

from naruto_vision.data.caption_data import CaptionBatch
from naruto_vision.data.class_data import ClassBatch
from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.encoders.lora import LoraOptions
from naruto_vision.encoders.prompts import TEMPLATES, checked_templates, class_texts, read_aliases
from naruto_vision.errors import TrainingStoppedError
from naruto_vision.modules.activation_cache import CacheChoice, CacheOptions, FrozenPictures
from naruto_vision.modules.best import ResumableModule
from naruto_vision.modules.class_weights import ClassWeights, read_class_weights
from naruto_vision.modules.freezing import Freeze, freeze_towers
from naruto_vision.modules.gathering import gather_columns
from naruto_vision.modules.objectives import LossKind, LossWeights, Objective, batch_loss
from naruto_vision.modules.prototypes import ClassPrototypes, TextsPerStep
from naruto_vision.modules.schedules import RateSchedule
from naruto_vision.modules.tuning_figures import BestBy, PassFigures, caption_figures, label_figures


def _adamw(parameters: Any) -> Optimizer:  # noqa: ANN401 - whatever torch's optimisers take
    return AdamW(parameters, lr=3e-4, weight_decay=0.05)


class ContrastiveTuner(ResumableModule):
    """Fine-tunes a CLIP by matching pictures with texts; several pictures or texts may be right at once.

    With ``ClassDataModule`` the texts are templates around class names and aliases; with ``DrawnCaptionData`` they are
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
        cache_frozen: Run the frozen image blocks once a picture, not once an epoch; true insists on it.
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
        self._pictures = FrozenPictures(cache_frozen, cache or CacheOptions())
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
        """List the texts of the classes that the data have, and count their pictures where that is asked for.

        Args:
            stage: The Trainer's verb.
        """
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
            batch: Pictures with their classes, or with their captions.

        Returns:
            Shape (), float32.

        Raises:
            TrainingStoppedError: If it is not finite.
        """
        scale = self.scale()
        counted = self._counted.to(self.device) if self._counted is not None else None
        objective = Objective(scale, self.weights, self.loss, self.bias, counted)
        known = self._pictures.known(batch)
        loss = batch_loss(self.encoder, batch, self.prototypes, self.global_step, objective, known)
        if not torch.isfinite(loss):
            msg = f"training: the loss of step {self.global_step} is {loss.item()}; lower the learning rate"
            raise TrainingStoppedError(msg)
        named = {"train/loss": loss.detach(), "train/logit_scale": scale.detach()}
        self.log_dict(named, prog_bar=True, batch_size=len(batch.pixels))
        return loss

    def on_fit_start(self) -> None:
        """Prepare to keep what frozen image blocks say of each picture."""
        self._pictures.open(self.encoder, getattr(self.trainer, "datamodule", None), Path(self.bundle_dir).parent)

    def on_validation_epoch_start(self) -> None:
        """Forget text vectors of older weights."""
        self.prototypes.forget()

    on_test_epoch_start = on_validation_epoch_start
    on_predict_epoch_start = on_validation_epoch_start

    def validation_step(self, batch: ClassBatch | CaptionBatch) -> None:
        """Embed one batch.

        Args:
            batch: Pictures with their classes, or with their captions.
        """
        vectors = self._pictures.vectors(self.encoder, batch, "valid")
        other = self.encoder.encode_texts(batch.captions) if isinstance(batch, CaptionBatch) else batch.labels
        self._seen.append((vectors.cpu(), other.cpu()))

    test_step = validation_step

    def predict_step(self, batch: ClassBatch) -> list[tuple[str, str, float]]:
        """Name single pictures.

        Args:
            batch: Pictures; their labels are not looked at.

        Returns:
            Path, class and cosine with the class's prototype, for each picture.
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
        self._pictures.close()
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
