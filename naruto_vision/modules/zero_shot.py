"""How much of what a CLIP could do untuned is left: zero-shot naming of images that it is not tuned on."""

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


def synthetic_probe(encoder: ClipEncoder, count: int, seed: int = 0) -> ZeroShotProbe:
    """Draw synthetic characters, each to be found by its caption: chance is one in ``count``.

    Args:
        encoder: Prepares the images.
        count: How many characters, 2 or more.
        seed: Random seed of the characters.

    Raises:
        InputError: If there are fewer than two.
    """
    from naruto_vision.data.synthetic_captions import probe_item

    items = [probe_item(number, seed, _SIDE) for number in range(count)]
    pixels = [encoder.preprocess(image) for image, _ in items]
    stacked = torch.stack(pixels) if pixels else torch.zeros(0, 3, 1, 1)
    return ZeroShotProbe(stacked, torch.arange(count), tuple((text,) for _, text in items))


def folder_probe(encoder: ClipEncoder, root: str, split: Split = "valid") -> ZeroShotProbe:
    """Read class data of the user's own, best with classes that are not tuned on."""
    data = ClassDataModule(root, augmented=False, preprocess=encoder.preprocess)
    batches = list(data.ordered_loader(split))
    labels = torch.cat([torch.zeros(0, dtype=torch.int64), *(batch.labels for batch in batches)])
    pixels = torch.cat([batch.pixels for batch in batches]) if batches else torch.zeros(0, 3, 1, 1)
    return ZeroShotProbe(pixels, labels, class_texts(data.classes, {}))


def kept_share(now: float, start: float) -> float:
    """Return what is left of an accuracy, as a share: 1 where nothing was there to lose; above 1 where it grew."""
    return now / start if start > 0 else 1.0


class ZeroShotRetention(Callback):
    """Log ``valid/zero_shot`` and ``valid/retention``, its share of what it was before tuning.

    Args:
        root: Class data that are not tuned on, whose valid split is named; None for synthetic characters.
        count: How many synthetic characters are drawn.

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
            self._probe = (
                synthetic_probe(encoder, self.count) if self.root is None else folder_probe(encoder, self.root)
            )
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
