"""The images of a class table, decoded once and kept in memory as far as a budget goes."""

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import cv2
import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from naruto_vision.data.sampling import Draw
from naruto_vision.data.shards import image_reader
from naruto_vision.data.tables import ClassTable
from naruto_vision.encoders.base import Encoder
from naruto_vision.errors import BadImageError, InputError, MissingPathError
from naruto_vision.io.quarantine import Quarantine
from naruto_vision.records import ImageArray

if TYPE_CHECKING:
    import lightning.pytorch as pl

Preprocess: TypeAlias = Callable[[ImageArray], Tensor]
"""From an image (H, W, 3) uint8 RGB to pixels (3, S, S) float32, as an encoder wants them."""


def module_preprocess(trainer: "pl.Trainer | None") -> Preprocess:
    """Return the preprocessing of the encoder that is being trained or used.

    Args:
        trainer: Its LightningModule has an ``encoder``.

    Raises:
        InputError: If there is no trainer, or its module has no encoder.
    """
    encoder = getattr(getattr(trainer, "lightning_module", None), "encoder", None)
    if not isinstance(encoder, Encoder):
        msg = "data: expected a module with an `encoder` to prepare images for; give `preprocess` where there is none"
        raise InputError(msg)
    return encoder.preprocess


Augment: TypeAlias = Callable[[ImageArray, np.random.Generator], ImageArray]
"""From an image (H, W, 3) uint8 RGB to another (h, w, 3) uint8 RGB, by nothing but the generator."""

PreparedImage: TypeAlias = tuple[Tensor, str, str]
"""Pixels (3, S, S) float32, the label, and the path relative to the table's root."""

_AUGMENT_STREAM = 2  # keeps the augmentation's random numbers apart from the order's
_LOG = logging.getLogger(__name__)


def shrink(image: ImageArray, side: int) -> ImageArray:
    """Scale an image down so that its longer side fits; a smaller one stays as it is.

    Args:
        image: Shape (H, W, 3), uint8, RGB.
        side: Longest side in pixels; 0 for no limit.

    Returns:
        Shape (h, w, 3), uint8, RGB.
    """
    height, width = image.shape[:2]
    scale = side / max(height, width)
    if side == 0 or scale >= 1:
        return image
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small: ImageArray = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return small


class ImageStore:
    """Images by row number. What does not fit the budget is decoded again on demand, to the same pixels.

    Args:
        root: The folder that the paths are relative to, or a split's folder of shards.
        side: Longest side kept, in pixels; 0 keeps images as they are.
        budget: Bytes of pixels kept in memory.
    """

    def __init__(self, root: Path, side: int, budget: int) -> None:
        self._reader = image_reader(root)
        self._side = side
        self._left = budget
        self._paths: list[str] = []
        self._kept: list[ImageArray | None] = []
        self._digests: set[bytes] = set()
        self.duplicates = 0

    def __len__(self) -> int:
        return len(self._paths)

    def add(self, path: str) -> None:
        """Decode one more image and keep it if there is room.

        Args:
            path: Relative to the root.

        Raises:
            BadImageError: If it cannot be used.
            MissingPathError: If it is not there.
        """
        image = self._decode(path)
        digest = hashlib.blake2b(repr(image.shape).encode() + image.tobytes(), digest_size=16).digest()
        self.duplicates += digest in self._digests
        self._digests.add(digest)
        fits = image.nbytes <= self._left
        self._left -= image.nbytes if fits else 0
        self._paths.append(path)
        self._kept.append(image if fits else None)

    def _decode(self, path: str) -> ImageArray:
        return shrink(self._reader.read(path), self._side)

    def __getitem__(self, row: int) -> ImageArray:
        kept = self._kept[row]
        return self._decode(self._paths[row]) if kept is None else kept


class TableDataset(Dataset[PreparedImage]):
    """The images of a table, prepared for an encoder. A ``Draw`` is augmented, a plain row number is not.

    Args:
        table: The rows.
        store: The decoded images, by the table's row numbers.
        preprocess: From an image to the encoder's pixels.
        augment: Applied to draws; None leaves them as they are.
        seed: Decides the augmentation, together with a draw's place.
    """

    def __init__(
        self,
        table: ClassTable,
        store: ImageStore,
        preprocess: Preprocess,
        augment: Augment | None = None,
        seed: int = 0,
    ) -> None:
        self._table = table
        self._store = store
        self._preprocess = preprocess
        self._augment = augment
        self._seed = seed

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, index: int | Draw) -> PreparedImage:
        number = index.row if isinstance(index, Draw) else index
        row = self._table.rows[number]
        image = self._store[number]
        if isinstance(index, Draw) and self._augment is not None:
            image = self._augment(image, np.random.default_rng([_AUGMENT_STREAM, self._seed, index.place]))
        return self._preprocess(image), row.label, row.path


def load_table(
    table: ClassTable, quarantine: Quarantine, *, max_bad_fraction: float, side: int, budget: int
) -> tuple[ClassTable, ImageStore]:
    """Decode every image of a table once; bad ones leave the table and go into quarantine.

    Args:
        table: What to read.
        quarantine: Gets the bad ones and the counts.
        max_bad_fraction: Largest share of bad images that is put up with, in [0, 1].
        side: Longest side kept, in pixels; 0 keeps images as they are.
        budget: Bytes of pixels kept in memory.

    Returns:
        The table of good images, and a store with the same row numbers.

    Raises:
        InputError: If too many are bad.
    """
    store = ImageStore(table.root, side, budget)
    good = []
    for row in table.rows:
        try:
            store.add(row.path)
        except (BadImageError, MissingPathError) as error:
            quarantine.refuse(row.path, str(error))
        else:
            quarantine.accept()
            good.append(row)
    quarantine.check(max_bad_fraction)
    if store.duplicates:
        _LOG.info("%s: %d images repeat another one's pixels", table.root, store.duplicates)
    for bad in quarantine.rows:
        _LOG.warning("left out: %s", bad.reason)
    return table.with_rows(good), store
