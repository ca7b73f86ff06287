"""How much of what a CLIP could do untuned is left: zero-shot naming of pictures that it is not tuned on."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from naruto_vision.data.class_data import ClassDataModule
from naruto_vision.data.tables import Split
from naruto_vision.drawn.attributes import random_attributes
from naruto_vision.drawn.captions import full_caption
from naruto_vision.drawn.pictures import draw_picture
from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.encoders.prompts import class_texts, text_prototypes
from naruto_vision.errors import InputError

_STREAM = 9  # random numbers that no training, validation or test picture is drawn from
_SIDE = 128
_BATCH = 32


@dataclass(frozen=True)
class ZeroShotProbe:
    """Pictures, and texts of which one belongs to each.

    Args:
        pixels: Shape (N, 3, S, S), float32, as the encoder's ``preprocess`` makes them.
        labels: Shape (N,), int64: places in ``texts``.
        texts: For each of the C answers, one or more texts.

    Raises:
        InputError: If there is no picture, or nothing to choose between.
    """

    pixels: Tensor
    labels: Tensor
    texts: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        if len(self.pixels) != len(self.labels) or len(self.labels) == 0 or len(self.texts) < 2:
            msg = (
                f"zero-shot probe: expected pictures and at least 2 answers, found {len(self.pixels)} pictures, "
                f"{len(self.labels)} labels and {len(self.texts)} answers"
            )
            raise InputError(msg)

    def accuracy(self, encoder: ClipEncoder) -> float:
        """Measure the share of pictures whose nearest text is one of their own.

        Args:
            encoder: Of the same preprocessing as the probe's pixels.

        Returns:
            In [0, 1].
        """
        device = encoder.logit_scale.device
        with torch.no_grad():
            prototypes = text_prototypes(encoder, self.texts).cpu()
            parts = torch.split(self.pixels, _BATCH)
            vectors = torch.cat([encoder.encode_images(part.to(device)).cpu() for part in parts])
        return float(((vectors @ prototypes.T).argmax(dim=1) == self.labels).double().mean())


def drawn_probe(encoder: ClipEncoder, count: int, seed: int = 0) -> ZeroShotProbe:
    """Draw strangers, whom their captions have to find: chance is one in ``count``.

    Args:
        encoder: Prepares the pictures.
        count: How many strangers, 2 or more.
        seed: Decides who they are.

    Raises:
        InputError: If there are fewer than two.
    """
    pixels, texts = [], []
    for number in range(count):
        attributes = random_attributes(np.random.default_rng([_STREAM, seed, number]))
        pixels.append(encoder.preprocess(draw_picture(attributes, seed + number, _SIDE).picture))
        texts.append((full_caption(attributes),))
    stacked = torch.stack(pixels) if pixels else torch.zeros(0, 3, 1, 1)
    return ZeroShotProbe(stacked, torch.arange(count), tuple(texts))


def folder_probe(encoder: ClipEncoder, root: str, split: Split = "valid") -> ZeroShotProbe:
    """Read class data of the user's own, best with classes that are not tuned on.

    Args:
        encoder: Prepares the pictures.
        root: A Roboflow export, a folder of manifests, or class folders.
        split: Which pictures.

    Raises:
        InputError: If the data cannot be used.
    """
    data = ClassDataModule(root, augmented=False, preprocess=encoder.preprocess)
    rows = data.dataset(split)
    items = [rows[place] for place in range(len(rows))]
    labels = torch.tensor([data.classes.index(item[1]) for item in items], dtype=torch.int64)
    pixels = torch.stack([item[0] for item in items]) if items else torch.zeros(0, 3, 1, 1)
    return ZeroShotProbe(pixels, labels, class_texts(data.classes, {}))


def kept_share(now: float, start: float) -> float:
    """Return what is left of an accuracy, as a share: 1 where nothing was there to lose; above 1 where it grew.

    Args:
        now: Accuracy after tuning, in [0, 1].
        start: Accuracy before, in [0, 1].
    """
    return now / start if start > 0 else 1.0
