"""What the frozen part of an image tower says of each picture, worked out once a run instead of once an epoch."""

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from naruto_vision.data.caption_data import CaptionBatch
from naruto_vision.data.class_data import ClassBatch, ClassDataModule
from naruto_vision.data.tables import Split
from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.errors import InputError
from naruto_vision.modules.frozen_trunk import FrozenTrunk, find_trunk
from naruto_vision.modules.objectives import fast_attention

CacheChoice: TypeAlias = bool | Literal["auto"]

_LOG = logging.getLogger(__name__)
_FILE = "activations.npy"
_SPLITS: tuple[Split, ...] = ("train", "valid")


@dataclass(frozen=True)
class CacheOptions:
    """How activations are kept.

    Args:
        half: In 16 bits, which halves the room and rounds them to three digits.
        memory: Bytes that may be kept in memory; more goes to a file in the run's folder.

    Raises:
        InputError: If ``memory`` is below 0.
    """

    half: bool = False
    memory: int = 1 << 30

    def __post_init__(self) -> None:
        if self.memory < 0:
            msg = f"cache.memory {self.memory}: expected 0 or more bytes"
            raise InputError(msg)


class ActivationCache:
    """Activations by picture. They are forgotten when weights of the frozen part are replaced.

    Args:
        trunk: What makes them, and what makes vectors of them.
        count: How many pictures there are at most.
        options: How they are kept.
        folder: Gets the file, where memory is not to hold them; it is gone when the process ends.

    Raises:
        InputError: If they fit neither memory nor the disk.
    """

    def __init__(self, trunk: FrozenTrunk, count: int, options: CacheOptions, folder: Path) -> None:
        self._trunk = trunk
        self._places: dict[str, int] = {}
        self._stamp = self._weights()
        side, device = trunk.encoder.image_size, trunk.encoder.logit_scale.device
        shape = (count, *trunk.below(torch.zeros(1, 3, side, side, device=device)).shape[1:])
        dtype = np.dtype(np.float16 if options.half else np.float32)
        self.nbytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        self.on_disk = self.nbytes > options.memory
        self._kept: NDArray[Any] = _file(folder, shape, dtype) if self.on_disk else np.empty(shape, dtype)

    def __len__(self) -> int:
        return len(self._places)

    def _weights(self) -> list[tuple[int, int]]:
        return [(value.data_ptr(), value._version) for value in self._trunk.parameters()]

    def encode(self, pixels: Tensor, keys: Sequence[str]) -> Tensor:
        """Embed pictures; the frozen part is run for those that were not seen before.

        Args:
            pixels: Shape (B, 3, S, S), float32, prepared, always the same for a key.
            keys: B names of pictures.

        Returns:
            Shape (B, D), float32, unit rows; gradients flow into the trained part.
        """
        stamp = self._weights()
        if stamp != self._stamp:
            self._places, self._stamp = {}, stamp
        new = {key: place for place, key in enumerate(keys) if key not in self._places}
        if new:
            found = self._trunk.below(pixels[list(new.values())]).cpu().numpy()
            for key, row in zip(new, found, strict=True):
                self._kept[len(self._places)] = row
                self._places[key] = len(self._places)
        rows = torch.from_numpy(self._kept[[self._places[key] for key in keys]])
        return self._trunk.above(rows.to(pixels.device).float())


def _file(folder: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    folder.mkdir(parents=True, exist_ok=True)
    needed, free = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize, shutil.disk_usage(folder).free
    if needed > free:
        msg = (
            f"{folder}: the activations of {shape[0]} pictures need {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are "
            "free; use cache.half=true or cache_frozen=false"
        )
        raise InputError(msg)
    path = folder / _FILE
    kept = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    path.unlink()  # the file stays for as long as it is open, so that a killed run leaves nothing behind
    return kept


class FrozenPictures:
    """The cache of one fit, where there is something to keep.

    Args:
        choice: True insists, "auto" does where it changes nothing, False does not.
        options: How activations are kept.
    """

    def __init__(self, choice: CacheChoice, options: CacheOptions) -> None:
        self._choice, self._options = choice, options
        self.cache: ActivationCache | None = None

    def open(self, encoder: ClipEncoder, data: object, folder: Path) -> None:
        """Prepare the cache, or say why there is none.

        Args:
            encoder: What is trained.
            data: The data module.
            folder: The run's folder.

        Raises:
            InputError: If a cache is insisted on and cannot be, or there is no room.
        """
        self.cache = None
        if self._choice is False:
            return
        trunk = find_trunk(encoder)
        reason = trunk if isinstance(trunk, str) else _changing(data)
        if reason and self._choice is True:
            msg = f"cache_frozen=true: activations cannot be kept, because {reason}"
            raise InputError(msg)
        if isinstance(trunk, str):
            return
        if reason or not isinstance(data, ClassDataModule):
            _LOG.info("activations of the frozen image blocks are not kept, because %s", reason)
            return
        count = sum(len(data.tables[split]) for split in _SPLITS)
        self.cache = ActivationCache(trunk, count, self._options, folder)
        place = f"on the disk in {folder}" if self.cache.on_disk else "in memory"
        _LOG.info("activations of the frozen image blocks are kept, %.0f MB %s", self.cache.nbytes / 1e6, place)

    def known(self, batch: ClassBatch | CaptionBatch, split: Split = "train") -> Tensor | None:
        """Return the vectors of pictures by way of the cache.

        Args:
            batch: Pictures.
            split: Where they are from; paths are unique within a split.

        Returns:
            Shape (B, D), float32, unit rows; None without a cache.
        """
        if self.cache is None or isinstance(batch, CaptionBatch):
            return None
        with fast_attention(batch.pixels.device):
            return self.cache.encode(batch.pixels, [f"{split}/{path}" for path in batch.paths])

    def vectors(self, encoder: ClipEncoder, batch: ClassBatch | CaptionBatch, split: Split) -> Tensor:
        """Return the vectors of pictures by way of the cache, or else of the encoder.

        Args:
            encoder: What is trained.
            batch: Pictures.
            split: Where they are from.

        Returns:
            Shape (B, D), float32, unit rows.
        """
        known = self.known(batch, split)
        return encoder.encode_images(batch.pixels) if known is None else known

    def close(self) -> None:
        """Give the room back."""
        self.cache = None


def _changing(data: object) -> str:
    if not isinstance(data, ClassDataModule):
        return f"{type(data).__name__} has no pictures that come again"
    return "pictures are augmented, so none comes twice; data.augmented=false keeps them the same" * data.augmented
