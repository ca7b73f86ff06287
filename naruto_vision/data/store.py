"""The pictures of a class table, decoded once and kept in memory as far as a budget goes."""

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
from naruto_vision.data.shards import picture_reader
from naruto_vision.data.tables import ClassTable
from naruto_vision.encoders.base import Encoder
from naruto_vision.errors import BadImageError, InputError, MissingPathError
from naruto_vision.io.quarantine import Quarantine
from naruto_vision.records import Picture

if TYPE_CHECKING:
    import lightning.pytorch as pl

Preprocess: TypeAlias = Callable[[Picture], Tensor]
"""From a picture (H, W, 3) uint8 RGB to pixels (3, S, S) float32, as an encoder wants them."""


def module_preprocess(trainer: "pl.Trainer | None") -> Preprocess:
    """Return the preprocessing of the encoder that is being trained or used.

    Args:
        trainer: Its LightningModule has an ``encoder``.

    Raises:
        InputError: If there is no trainer, or its module has no encoder.
    """
    encoder = getattr(getattr(trainer, "lightning_module", None), "encoder", None)
    if not isinstance(encoder, Encoder):
        msg = "data: expected a module with an `encoder` to prepare pictures for; give `preprocess` where there is none"
        raise InputError(msg)
    return encoder.preprocess


Augment: TypeAlias = Callable[[Picture, np.random.Generator], Picture]
"""From a picture (H, W, 3) uint8 RGB to another (h, w, 3) uint8 RGB, by nothing but the generator."""

PreparedPicture: TypeAlias = tuple[Tensor, str, str]
"""Pixels (3, S, S) float32, the label, and the path relative to the table's root."""

_AUGMENT_STREAM = 2  # keeps the augmentation's random numbers apart from the order's
_LOG = logging.getLogger(__name__)


def shrink(picture: Picture, side: int) -> Picture:
    """Scale a picture down so that its longer side fits; a smaller one stays as it is.

    Args:
        picture: Shape (H, W, 3), uint8, RGB.
        side: Longest side in pixels; 0 for no limit.

    Returns:
        Shape (h, w, 3), uint8, RGB.
    """
    height, width = picture.shape[:2]
    scale = side / max(height, width)
    if side == 0 or scale >= 1:
        return picture
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small: Picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return small


class PictureStore:
    """Pictures by row number. What does not fit the budget is decoded again on demand, to the same pixels.

    Args:
        root: The folder that the paths are relative to, or a split's folder of shards.
        side: Longest side kept, in pixels; 0 keeps pictures as they are.
        budget: Bytes of pixels kept in memory.
    """

    def __init__(self, root: Path, side: int, budget: int) -> None:
        self._reader = picture_reader(root)
        self._side = side
        self._left = budget
        self._paths: list[str] = []
        self._kept: list[Picture | None] = []
        self._digests: set[bytes] = set()
        self.duplicates = 0

    def __len__(self) -> int:
        return len(self._paths)

    def add(self, path: str) -> None:
        """Decode one more picture and keep it if there is room.

        Args:
            path: Relative to the root.

        Raises:
            BadImageError: If it cannot be used.
            MissingPathError: If it is not there.
        """
        picture = self._decode(path)
        digest = hashlib.blake2b(repr(picture.shape).encode() + picture.tobytes(), digest_size=16).digest()
        self.duplicates += digest in self._digests
        self._digests.add(digest)
        fits = picture.nbytes <= self._left
        self._left -= picture.nbytes if fits else 0
        self._paths.append(path)
        self._kept.append(picture if fits else None)

    def _decode(self, path: str) -> Picture:
        return shrink(self._reader.read(path), self._side)

    def __getitem__(self, row: int) -> Picture:
        kept = self._kept[row]
        return self._decode(self._paths[row]) if kept is None else kept


class TableDataset(Dataset[PreparedPicture]):
    """The pictures of a table, prepared for an encoder. A ``Draw`` is augmented, a plain row number is not.

    Args:
        table: The rows.
        store: The decoded pictures, by the table's row numbers.
        preprocess: From a picture to the encoder's pixels.
        augment: Applied to draws; None leaves them as they are.
        seed: Decides the augmentation, together with a draw's place.
    """

    def __init__(
        self,
        table: ClassTable,
        store: PictureStore,
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

    def __getitem__(self, index: int | Draw) -> PreparedPicture:
        number = index.row if isinstance(index, Draw) else index
        row = self._table.rows[number]
        picture = self._store[number]
        if isinstance(index, Draw) and self._augment is not None:
            picture = self._augment(picture, np.random.default_rng([_AUGMENT_STREAM, self._seed, index.place]))
        return self._preprocess(picture), row.label, row.path


def load_table(
    table: ClassTable, quarantine: Quarantine, *, max_bad_fraction: float, side: int, budget: int
) -> tuple[ClassTable, PictureStore]:
    """Decode every picture of a table once; bad ones leave the table and go into quarantine.

    Args:
        table: What to read.
        quarantine: Gets the bad ones and the counts.
        max_bad_fraction: Largest share of bad pictures that is put up with, in [0, 1].
        side: Longest side kept, in pixels; 0 keeps pictures as they are.
        budget: Bytes of pixels kept in memory.

    Returns:
        The table of good pictures, and a store with the same row numbers.

    Raises:
        InputError: If too many are bad.
    """
    store = PictureStore(table.root, side, budget)
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
        _LOG.info("%s: %d pictures repeat another one's pixels", table.root, store.duplicates)
    for bad in quarantine.rows:
        _LOG.warning("left out: %s", bad.reason)
    return table.with_rows(good), store
