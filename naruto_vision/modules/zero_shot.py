"""Zero-shot retention: the fraction of its accuracy on other images that a CLIP keeps after tuning."""

from dataclasses import dataclass
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from typing_extensions import override

from naruto_vision.data.class_data import ClassDataModule
from naruto_vision.data.tables import Split
from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.encoders.prompts import class_texts, text_prototypes
from naruto_vision.errors import InputError
from naruto_vision.modules.clip_tuner import ContrastiveTuner

_SIDE = 128
_BATCH = 32


@dataclass(frozen=True)
class ZeroShotProbe:
    """Preprocessed images (N, 3, S, S), the texts of C classes, and labels (N,), which are class indices."""

    pixels: Tensor
    labels: Tensor
    texts: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        if len(self.pixels) != len(self.labels) or len(self.labels) == 0 or len(self.texts) < 2:
            found = f"{len(self.pixels)} images, {len(self.labels)} labels and {len(self.texts)} classes"
            raise InputError(f"zero-shot probe: expected images and at least 2 classes, found {found}")

    def accuracy(self, encoder: ClipEncoder) -> float:
        """Measure the fraction of images whose nearest class prototype is their own, in [0, 1]."""
        device = encoder.logit_scale.device
        with torch.no_grad():
            prototypes = text_prototypes(encoder, self.texts).cpu()
            parts = torch.split(self.pixels, _BATCH)
            vectors = torch.cat([encoder.encode_images(part.to(device)).cpu() for part in parts])
        return float(((vectors @ prototypes.T).argmax(dim=1) == self.labels).double().mean())


def synthetic_probe(encoder: ClipEncoder, count: int, seed: int = 0) -> ZeroShotProbe:
    """Draw ``count`` synthetic characters, 2 or more, each a class with its caption; chance is ``1 / count``."""
    from naruto_vision.data.synthetic_captions import probe_item

    items = [probe_item(number, seed, _SIDE) for number in range(count)]
    pixels = [encoder.preprocess(image) for image, _ in items]
    stacked = torch.stack(pixels) if pixels else torch.zeros(0, 3, 1, 1)
    return ZeroShotProbe(stacked, torch.arange(count), tuple((text,) for _, text in items))


def folder_probe(encoder: ClipEncoder, root: str, split: Split = "valid") -> ZeroShotProbe:
    """Read class data, preferably of classes that are not in the training data."""
    data = ClassDataModule(root, augmented=False, preprocess=encoder.preprocess)
    batches = list(data.ordered_loader(split))
    labels = torch.cat([torch.zeros(0, dtype=torch.int64), *(batch.labels for batch in batches)])
    pixels = torch.cat([batch.pixels for batch in batches]) if batches else torch.zeros(0, 3, 1, 1)
    return ZeroShotProbe(pixels, labels, class_texts(data.classes, {}))


def make_probe(encoder: ClipEncoder, root: str | None, count: int) -> ZeroShotProbe:
    """Read the valid split of ``root``, or draw ``count`` characters."""
    return synthetic_probe(encoder, count) if root is None else folder_probe(encoder, root)


def kept_share(now: float, start: float) -> float:
    """Divide an accuracy by that before tuning; 1 if that was 0."""
    return now / start if start > 0 else 1.0


class ZeroShotRetention(Callback):
    """Log ``valid/zero_shot`` and ``valid/retention``, the ratio to its value before tuning.

    Args:
        root: Folder of held-out class data, whose valid split is classified; None takes synthetic characters.
        count: Number of synthetic characters.

    Attributes:
        start: Zero-shot accuracy before tuning; kept in checkpoints.
    """

    def __init__(self, root: str | None = None, count: int = 64) -> None:
        self.root, self.count = root, count
        self.start: float | None = None
        self._probe: ZeroShotProbe | None = None

    def probe(self, encoder: ClipEncoder) -> ZeroShotProbe:
        """Return the images and texts, which are made once."""
        if self._probe is None:
            self._probe = make_probe(encoder, self.root, self.count)
        return self._probe

    @override
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measure the untuned model."""
        if isinstance(pl_module, ContrastiveTuner) and self.start is None:
            self.start = self.probe(pl_module.encoder).accuracy(pl_module.encoder)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measure the current model."""
        fitting = trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
        if fitting and isinstance(pl_module, ContrastiveTuner) and self.start is not None:
            now = self.probe(pl_module.encoder).accuracy(pl_module.encoder)
            pl_module.log_dict({"valid/zero_shot": now, "valid/retention": kept_share(now, self.start)})

    def state_dict(self) -> dict[str, Any]:
        """Return the accuracy before tuning."""
        return {"start": self.start}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the accuracy before tuning."""
        self.start = state_dict["start"]
