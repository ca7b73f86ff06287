"""Tune a CLIP on labelled pictures, or teach it from captioned ones: a thin shell over ``modules/objectives.py``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim import AdamW, Optimizer

from naruto_vision.data.caption_data import CaptionBatch
from naruto_vision.data.class_data import ClassBatch
from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.encoders.prompts import TEMPLATES, checked_templates, class_texts, read_aliases
from naruto_vision.errors import TrainingStoppedError
from naruto_vision.modules.freezing import Freeze, freeze_towers
from naruto_vision.modules.gathering import gather_lists
from naruto_vision.modules.objectives import LossWeights, caption_loss, class_loss, fast_attention
from naruto_vision.modules.prototypes import ClassPrototypes
from naruto_vision.modules.randomness import random_state, restore_random_state
from naruto_vision.modules.schedules import warm_up_cosine
from naruto_vision.modules.tuning_figures import PassFigures, caption_figures, label_figures


def _adamw(parameters: Any) -> Optimizer:  # noqa: ANN401 - whatever torch's optimisers take
    return AdamW(parameters, lr=3e-4, weight_decay=0.05)


class ContrastiveTuner(pl.LightningModule):
    """Fine-tunes a CLIP by matching pictures with texts; several pictures or texts may be right at once.

    With ``ClassDataModule`` the texts are templates around class names and aliases; with ``DrawnCaptionData`` they are
    captions. The best weights, by ``valid/macro_accuracy`` or ``valid/recall_at_1``, are kept as a model bundle.

    Args:
        encoder: What is tuned.
        optimizer: Makes the optimiser of the trainable parameters; AdamW 3e-4 where none is given.
        scheduler: Makes the learning-rate schedule, stepped once an epoch; where none is given, linear warm-up and
            half a cosine over all steps.
        freeze: Which tower stays as it is.
        unfreeze_visual_blocks: With ``freeze: vision``, how many of its last blocks are trained all the same.
        weights: How the parts of the loss are added up.
        templates: Texts with one ``{}``; by default seven.
        aliases_json: A JSON file with other texts for each class.
        warm_up: Share of the steps in which the learning rate rises.
        min_rate: Where the learning rate ends, as a share of its peak.
        max_logit_scale: Largest factor in front of the cosines.
        bundle_dir: Folder of the bundle that is written whenever validation is better than before.
        half_bundle: Store the bundle's weights in 16 bits.
        facts: JSON values for the bundle (licence, recipe).
        seed: Decides which texts a step sees.

    Raises:
        InputError: If a template has no ``{}``, or the aliases cannot be read.
    """

    def __init__(
        self,
        encoder: ClipEncoder,
        optimizer: OptimizerCallable = _adamw,
        scheduler: LRSchedulerCallable | None = None,
        *,
        freeze: Freeze = "none",
        unfreeze_visual_blocks: int = 0,
        weights: LossWeights | None = None,
        templates: Sequence[str] = TEMPLATES,
        aliases_json: str | None = None,
        warm_up: float = 0.1,
        min_rate: float = 0.01,
        max_logit_scale: float = 100.0,
        bundle_dir: str = "runs/clip/bundle",
        half_bundle: bool = False,
        facts: dict[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        freeze_towers(encoder, freeze, unfreeze_visual_blocks)
        self.encoder = encoder.train()
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.weights = weights or LossWeights()
        self.templates = checked_templates(templates)
        self.aliases = read_aliases(aliases_json) if aliases_json else {}
        self.rates = (warm_up, min_rate)
        self.max_logit_scale = max_logit_scale
        self.bundle_dir = bundle_dir
        self.half_bundle = half_bundle
        self.facts = facts or {}
        self.seed = seed
        self.best = (-1.0, 0.0)
        self.confusion: Tensor | None = None
        self.prototypes = ClassPrototypes(encoder, (), seed)
        self._seen: list[tuple[Tensor, Tensor]] = []
        self._random: dict[str, Any] = {}
        self.save_hyperparameters({"freeze": freeze, "weights": vars(self.weights), "seed": seed, "rates": self.rates})

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of their label numbers; none where the data are captions."""
        data = getattr(self.trainer, "datamodule", None)
        return tuple(getattr(data, "classes", ()) or self.encoder.info.get("classes", ()))

    def scale(self) -> Tensor:
        """Return the factor in front of the cosines: shape (), float32, at most ``max_logit_scale``."""
        return self.encoder.logit_scale.exp().clamp(max=self.max_logit_scale)

    def setup(self, stage: str) -> None:  # noqa: ARG002 - Lightning passes it
        """List the texts of the classes that the data have.

        Args:
            stage: The Trainer's verb.
        """
        self.prototypes = ClassPrototypes(
            self.encoder, class_texts(self.classes, self.aliases, self.templates), self.seed
        )

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build the optimiser and its schedule."""
        optimizer = self.optimizer(parameter for parameter in self.parameters() if parameter.requires_grad)
        if self.scheduler is not None:
            return {"optimizer": optimizer, "lr_scheduler": self.scheduler(optimizer)}
        schedule = warm_up_cosine(optimizer, int(self.trainer.estimated_stepping_batches), *self.rates)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_start(self) -> None:
        """Put the global random states back where the interrupted run had them."""
        if self._random:
            restore_random_state(self._random)

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
        if isinstance(batch, CaptionBatch):
            loss = caption_loss(self.encoder, *batch, scale=scale, weights=self.weights)
        else:
            with fast_attention(self.device):
                texts = self.prototypes.for_step(self.global_step)
            loss = class_loss(self.encoder, batch.pixels, batch.labels, texts, scale=scale, weights=self.weights)
        if not torch.isfinite(loss):
            msg = f"training: the loss of step {self.global_step} is {loss.item()}; lower the learning rate"
            raise TrainingStoppedError(msg)
        named = {"train/loss": loss.detach(), "train/logit_scale": scale.detach()}
        self.log_dict(named, prog_bar=True, batch_size=len(batch.pixels))
        return loss

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
        vectors = self.encoder.encode_images(batch.pixels)
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
        """Log the figures, and write the bundle when they are better than before."""
        figures = self._measure("valid")
        fitting = self.trainer.state.fn == TrainerFn.FITTING and not self.trainer.sanity_checking
        if figures and fitting and figures.score > self.best:
            self.best = figures.score
            self._save(figures.named)

    def on_test_epoch_end(self) -> None:
        """Log the figures."""
        self._measure("test")

    def on_fit_end(self) -> None:
        """Write the bundle of a run that had no validation."""
        if self.best[0] < 0:
            self._save({})

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep how good the bundle is, and the random states, which Lightning leaves out.

        Args:
            checkpoint: What Lightning is about to write.
        """
        checkpoint["best_score"] = list(self.best)
        checkpoint["random_state"] = random_state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up how good the bundle is, and the random states.

        Args:
            checkpoint: What Lightning has read.
        """
        self.best = (float(checkpoint["best_score"][0]), float(checkpoint["best_score"][1]))
        self._random = checkpoint["random_state"]

    def _measure(self, stage: str) -> PassFigures | None:
        """Work out and log the figures of a pass; None where it saw nothing."""
        seen = gather_lists(self.trainer, self._seen)
        self._seen = []
        if not seen:
            return None
        vectors, other = (torch.cat(parts) for parts in zip(*seen, strict=True))
        if other.is_floating_point():
            figures = caption_figures(vectors, other)
        else:
            figures = label_figures(vectors, other, self.prototypes.averaged().cpu(), self.scale().detach().cpu())
        self.log_dict({f"{stage}/{name}": value for name, value in figures.named.items()})
        self.confusion = figures.confusion
        return figures

    def _save(self, figures: dict[str, float]) -> None:
        if not self.trainer.is_global_zero:
            return
        extra: dict[str, Any] = {"figures": {name: round(value, 4) for name, value in figures.items()}}
        if self.classes:
            extra |= {"classes": list(self.classes), "texts": [list(own) for own in self.prototypes.texts]}
        dtype = torch.float16 if self.half_bundle else torch.float32
        self.encoder.save(Path(self.bundle_dir), {**self.facts, "steps": self.global_step, **extra}, dtype=dtype)
