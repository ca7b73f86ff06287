"""How much of what a CLIP could do untuned is left: zero-shot naming of images that it is not tuned on."""

from dataclasses import dataclass
from typing import Any

import lightning.pytorch as pl
import numpy as np
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
from naruto_vision.synthetic.attributes import random_attributes
from naruto_vision.synthetic.captions import full_caption
from naruto_vision.synthetic.scene import draw_image

_STREAM = 9  # random numbers that no training, validation or test image is drawn from
_SIDE = 128
_BATCH = 32


@dataclass(frozen=True)
class ZeroShotProbe:
    """Images (N, 3, S, S), prepared, and for each of C answers its texts; ``labels`` (N,) are indices into these."""

    pixels: Tensor
    labels: Tensor
    texts: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        if len(self.pixels) != len(self.labels) or len(self.labels) == 0 or len(self.texts) < 2:
            found = f"{len(self.pixels)} images, {len(self.labels)} labels and {len(self.texts)} answers"
            msg = f"zero-shot probe: expected images and at least 2 answers, found {found}"
            raise InputError(msg)

    def accuracy(self, encoder: ClipEncoder) -> float:
        """Measure the share of images whose nearest text is one of their own, in [0, 1]."""
        device = encoder.logit_scale.device
        with torch.no_grad():
            prototypes = text_prototypes(encoder, self.texts).cpu()
            parts = torch.split(self.pixels, _BATCH)
            vectors = torch.cat([encoder.encode_images(part.to(device)).cpu() for part in parts])
        return float(((vectors @ prototypes.T).argmax(dim=1) == self.labels).double().mean())


def drawn_probe(encoder: ClipEncoder, count: int, seed: int = 0) -> ZeroShotProbe:
    """Draw ``count`` strangers, 2 or more, whom their captions have to find: chance is one in ``count``."""
    pixels, texts = [], []
    for number in range(count):
        attributes = random_attributes(np.random.default_rng([_STREAM, seed, number]))
        pixels.append(encoder.preprocess(draw_image(attributes, seed + number, _SIDE).image))
        texts.append((full_caption(attributes),))
    stacked = torch.stack(pixels) if pixels else torch.zeros(0, 3, 1, 1)
    return ZeroShotProbe(stacked, torch.arange(count), tuple(texts))


def folder_probe(encoder: ClipEncoder, root: str, split: Split = "valid") -> ZeroShotProbe:
    """Read class data of the user's own, best with classes that are not tuned on."""
    data = ClassDataModule(root, augmented=False, preprocess=encoder.preprocess)
    rows = data.dataset(split)
    items = [rows[index] for index in range(len(rows))]
    labels = torch.tensor([data.classes.index(item[1]) for item in items], dtype=torch.int64)
    pixels = torch.stack([item[0] for item in items]) if items else torch.zeros(0, 3, 1, 1)
    return ZeroShotProbe(pixels, labels, class_texts(data.classes, {}))


def kept_share(now: float, start: float) -> float:
    """Return what is left of an accuracy, as a share: 1 where nothing was there to lose; above 1 where it grew."""
    return now / start if start > 0 else 1.0


class ZeroShotRetention(Callback):
    """Log ``valid/zero_shot`` and ``valid/retention``, its share of what it was before tuning.

    Args:
        root: Class data that are not tuned on, whose valid split is named; None for drawn strangers and their captions.
        count: How many strangers are drawn.

    Attributes:
        start: Zero-shot accuracy before tuning; kept in checkpoints, so that an interrupted run still knows it.
    """

    def __init__(self, root: str | None = None, count: int = 64) -> None:
        self.root, self.count = root, count
        self.start: float | None = None
        self._probe: ZeroShotProbe | None = None

    def probe(self, encoder: ClipEncoder) -> ZeroShotProbe:
        """Return the images and texts, made once."""
        if self._probe is None:
            self._probe = drawn_probe(encoder, self.count) if self.root is None else folder_probe(encoder, self.root)
        return self._probe

    @override
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measure the untuned model."""
        if isinstance(pl_module, ContrastiveTuner) and self.start is None:
            self.start = self.probe(pl_module.encoder).accuracy(pl_module.encoder)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measure the model as it is now."""
        fitting = trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
        if fitting and isinstance(pl_module, ContrastiveTuner) and self.start is not None:
            now = self.probe(pl_module.encoder).accuracy(pl_module.encoder)
            pl_module.log_dict({"valid/zero_shot": now, "valid/retention": kept_share(now, self.start)})

    def state_dict(self) -> dict[str, Any]:
        """Return what the untuned model reached."""
        return {"start": self.start}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take what the untuned model reached."""
        self.start = state_dict["start"]
