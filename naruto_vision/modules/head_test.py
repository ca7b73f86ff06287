"""What an encoder can do on labelled images: validation images named by the training images, beside simple floors."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from naruto_vision.data.class_data import ClassDataModule
from naruto_vision.data.gallery_data import describe_colours
from naruto_vision.data.leaks import frame_runs
from naruto_vision.data.tables import Split
from naruto_vision.encoders.base import Encoder, embed_images
from naruto_vision.encoders.prompts import text_prototypes
from naruto_vision.gallery.content import GalleryRow
from naruto_vision.metrics.stats import Rate
from naruto_vision.modules.advice import Floors, Named
from naruto_vision.recognition.heads import compare_rules, name_rows
from naruto_vision.records import ImageArray, Vectors

_MOST = 2_000  # images of a split
_AT_ONCE = 32


class HeadTest:
    """The training and validation images, on which encoders are measured as a gallery would use them.

    The decision rule is chosen on the training images as at enrolment, and names the validation images. At most 2,000
    images of each split are used, evenly.

    Args:
        data: The images; ``InputError`` where a split is missing.
        backbone: An encoder that is joined with every measured one; None takes that one alone.
        share: Weight of the measured encoder beside the backbone, between 0 and 1.
        split: The images that are named, in place of the validation images.
    """

    def __init__(
        self, data: ClassDataModule, backbone: Encoder | None = None, share: float = 0.5, split: Split = "valid"
    ) -> None:
        self._data, self._backbone, self._share, self._split = data, backbone, share, split
        self._rows: dict[Split, list[GalleryRow]] = {}
        self._colours: dict[Split, Vectors] = {}
        self._joined: dict[Split, Vectors] = {}
        for part in ("train", split):
            self._read(part)
        self._runs = frame_runs(self._rows["train"], self._colours["train"])
        self.labels = [row.label for row in self._rows["train"]]
        self._truth = np.asarray([row.label for row in self._rows[self._split]], dtype=object)

    @property
    def usable(self) -> bool:
        """Whether there are several classes, and validation images."""
        return len(set(self.labels)) > 1 and len(self._truth) > 0

    def _parts(self, split: Split) -> Iterator[tuple[list[GalleryRow], list[ImageArray]]]:
        rows = self._data.tables[split].rows
        chosen = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), _MOST)).round().astype(np.int64)).tolist()
        images = self._data.images(split, chosen)
        while part := list(islice(images, _AT_ONCE)):
            yield (
                [GalleryRow(label=rows[row].label, path=rows[row].path) for row, _ in part],
                [image for _, image in part],
            )

    def _read(self, split: Split) -> None:
        rows: list[GalleryRow] = []
        colours, joined = [np.zeros((0, 1), dtype=np.float32)], [np.zeros((0, 0), dtype=np.float32)]
        for own, images in self._parts(split):
            rows += own
            colours.append(np.stack([describe_colours(image).numpy() for image in images]))
            if self._backbone is not None:
                joined.append(embed_images(self._backbone, images).numpy())
        self._rows[split] = rows
        self._colours[split], self._joined[split] = (np.concatenate(parts[1:] or parts) for parts in (colours, joined))

    def _embed(self, encoder: Encoder, split: Split) -> Vectors:
        own = np.concatenate([embed_images(encoder, images).numpy() for _, images in self._parts(split)])
        if self._backbone is None:
            return own
        parts = math.sqrt(self._share) * own, math.sqrt(1.0 - self._share) * self._joined[split]
        return np.concatenate(parts, axis=1).astype(np.float32)

    @property
    def total(self) -> int:
        """How many images are named."""
        return len(self._truth)

    def embedded(self, encoder: Encoder) -> tuple[Tensor, Tensor]:
        """Embed the images that are named, without the backbone: unit rows (N, D), and the index of each class (N,)."""
        parts = [embed_images(encoder, images) for _, images in self._parts(self._split)]
        return torch.cat(parts), torch.tensor([self._data.classes.index(name) for name in self._truth])

    def measure(self, encoder: Encoder, texts: Sequence[Sequence[str]] = ()) -> Named:
        """Name the validation images with an encoder, in evaluation mode; ``texts`` are those of each class."""
        train, valid = self._embed(encoder, "train"), self._embed(encoder, self._split)
        found = compare_rules(train, self._rows["train"], self._runs)
        rule = found["decision"]
        names, _ = name_rows(rule, found.get("strength"), train, self.labels, valid)
        return Named(rule, self._right(names), self._by_texts(encoder, valid, texts) if texts else 0)

    def _right(self, names: Any) -> Rate:  # noqa: ANN401 - an array of names
        return Rate(int((names == self._truth).sum()), len(self._truth))

    def _by_texts(self, encoder: Encoder, valid: Vectors, texts: Sequence[Sequence[str]]) -> int:
        with torch.inference_mode():
            prototypes = text_prototypes(encoder, texts).float().cpu().numpy()
        best = (valid[:, : prototypes.shape[1]] @ prototypes.T).argmax(axis=1)
        names = np.asarray([self._data.classes[index] for index in best.tolist()], dtype=object)
        return self._right(names).count

    def floors(self) -> Floors:
        """Name the validation images without an encoder."""
        nearest, _ = name_rows("top1", None, self._colours["train"], self.labels, self._colours[self._split])
        counts = Counter(self.labels)
        common = counts.most_common(1)[0][0]
        rarest = min(counts, key=lambda name: (counts[name], name))
        return Floors(
            self._right(nearest).count, self._right(np.full(len(self._truth), common)).count, (rarest, counts[rarest])
        )
