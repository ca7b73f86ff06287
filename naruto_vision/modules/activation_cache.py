"""Features of the frozen part of an image tower, computed once a run and image instead of once an epoch."""

import logging
import shutil
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from naruto_vision.data.class_data import ClassDataModule
from naruto_vision.data.tables import Split
from naruto_vision.encoders.class_token import can_pool, clip_tokens, pool_tokens
from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.errors import InputError

CacheChoice: TypeAlias = bool | Literal["auto"]

_LOG = logging.getLogger(__name__)
_FILE = "activations.npy"
_SPLITS: tuple[Split, ...] = ("train", "valid")
_BLOCKS = "transformer.resblocks."
_AFTER_THE_BLOCKS = ("ln_post.", "proj", "attn_pool")


@dataclass(frozen=True)
class CacheConfig:
    """Whether and how features of frozen image blocks are cached.

    Args:
        frozen: Run the frozen image blocks once an image, not once an epoch: "auto" does where it changes nothing,
            true insists on it.
        half: In 16 bits, which halves the room and rounds them to three digits.
        memory: Bytes that may be kept in memory; more goes to a file in the run's folder.
    """

    frozen: CacheChoice = "auto"
    half: bool = False
    memory: int = 1 << 30


@dataclass(frozen=True)
class FrozenTrunk:
    """An image tower in two parts: the first ``blocks`` of its transformer are frozen; all of it where that is None."""

    encoder: ClipEncoder
    blocks: int | None

    def below(self, pixels: Tensor) -> Tensor:
        """Run the frozen part on (B, 3, S, S) without gradients: (B, T, W); (B, D), unit rows, where all is frozen."""
        with torch.no_grad():
            if self.blocks is None:
                return self.encoder.encode_images(pixels)
            visual: Any = self.encoder.clip.visual
            hidden = clip_tokens(visual, pixels)  # (B, T, W)
            for block in visual.transformer.resblocks[: self.blocks]:
                hidden = block(hidden)
            activations: Tensor = hidden.float()
            return activations

    def above(self, activations: Tensor) -> Tensor:
        """Run the trained part on what ``below`` gave: (B, D), float32, unit rows; gradients flow."""
        if self.blocks is None:
            return activations
        visual: Any = self.encoder.clip.visual
        hidden = activations
        for block in visual.transformer.resblocks[self.blocks :]:
            hidden = block(hidden)
        return normalize(pool_tokens(visual, hidden).float(), dim=-1)


def find_trunk(encoder: ClipEncoder) -> FrozenTrunk | str:
    """Find how far up the image tower nothing is trained, or why there is no such part, after "because"."""
    visual = encoder.clip.visual
    if any(map(_varies, visual.modules())):
        return "its image tower drops or normalises by the batch in training"
    trained = [name for name, value in visual.named_parameters() if value.requires_grad]
    if not trained:
        return FrozenTrunk(encoder, None)
    below = int(min(*map(_lowest_block, trained), len(_open_clip_blocks(visual))))
    return FrozenTrunk(encoder, below) if below > 0 else "no blocks at the bottom of its image tower are frozen"


def _varies(module: nn.Module) -> bool:
    """Tell whether a layer's training pass is not a function of each image alone."""
    if isinstance(module, _BatchNorm):
        return True
    if isinstance(module, _DropoutNd):
        return module.p > 0
    return any(float(getattr(module, name, 0.0) or 0.0) > 0 for name in ("drop_prob", "prob"))


def _open_clip_blocks(visual: nn.Module) -> list[nn.Module]:
    """Return the blocks of open_clip's own vision transformer; nothing for other towers."""
    transformer: Any = visual.transformer if can_pool(visual) else None
    return list(transformer.resblocks) if transformer and transformer.batch_first else []


def _lowest_block(name: str) -> float:
    """Return the block that a parameter belongs to; 0 before all blocks, infinite after them."""
    if name.startswith(_BLOCKS):
        return int(name.removeprefix(_BLOCKS).partition(".")[0])
    return float("inf") if name.startswith(_AFTER_THE_BLOCKS) else 0


class ActivationCache:
    """Frozen features by image, at most ``count``; they are forgotten when other weights are loaded.

    What is more than ``config.memory`` goes to a file in ``folder``, which is gone when the process ends.
    """

    def __init__(self, trunk: FrozenTrunk, count: int, config: CacheConfig, folder: Path) -> None:
        self._trunk = trunk
        self._rows: dict[str, int] = {}
        own = weakref.ref(self)  # a copy of the encoder does not bring the cache along

        def forget(*_: object) -> None:
            if (cache := own()) is not None:
                cache._rows = {}

        encoder: Any = trunk.encoder
        encoder.register_load_state_dict_post_hook(forget)
        side, device = encoder.image_size, encoder.logit_scale.device
        shape = (count, *trunk.below(torch.zeros(1, 3, side, side, device=device)).shape[1:])
        dtype = np.dtype(np.float16 if config.half else np.float32)
        self.nbytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        self.on_disk = self.nbytes > config.memory
        self._kept: NDArray[Any] = _file(folder, shape, dtype) if self.on_disk else np.empty(shape, dtype)

    def __len__(self) -> int:
        return len(self._rows)

    def encode(self, pixels: Tensor, keys: Sequence[str]) -> Tensor:
        """Embed images (B, 3, S, S), always the same for one of the B keys: (B, D), unit rows; gradients flow.

        The frozen part is run for those that were not seen before.
        """
        new = {key: index for index, key in enumerate(keys) if key not in self._rows}
        if new:
            found = self._trunk.below(pixels[list(new.values())]).cpu().numpy()
            for key, row in zip(new, found, strict=True):
                self._kept[len(self._rows)] = row
                self._rows[key] = len(self._rows)
        rows = torch.from_numpy(self._kept[[self._rows[key] for key in keys]])
        return self._trunk.above(rows.to(pixels.device).float())


def _file(folder: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    folder.mkdir(parents=True, exist_ok=True)
    needed, free = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize, shutil.disk_usage(folder).free
    if needed > free:
        msg = (
            f"{folder}: the activations of {shape[0]} images need {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are "
            "free; use cache.half=true or cache.frozen=false"
        )
        raise InputError(msg)
    path = folder / _FILE
    kept = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    path.unlink()  # the file stays for as long as it is open, so that a killed run leaves nothing behind
    return kept


def open_cache(config: CacheConfig, encoder: ClipEncoder, data: object, folder: Path) -> ActivationCache | None:
    """Open the cache of one fit, or log why there is none; where one is insisted on, that is an error."""
    if config.frozen is False:
        return None
    trunk = find_trunk(encoder)
    reason = trunk if isinstance(trunk, str) else _changing(data)
    if reason and config.frozen is True:
        msg = f"cache.frozen=true: activations cannot be kept, because {reason}"
        raise InputError(msg)
    if isinstance(trunk, str):
        return None
    if reason or not isinstance(data, ClassDataModule):
        _LOG.info("activations of the frozen image blocks are not kept, because %s", reason)
        return None
    cache = ActivationCache(trunk, sum(len(data.tables[split]) for split in _SPLITS), config, folder)
    where = f"on the disk in {folder}" if cache.on_disk else "in memory"
    _LOG.info("activations of the frozen image blocks are kept, %.0f MB %s", cache.nbytes / 1e6, where)
    return cache


def _changing(data: object) -> str:
    if not isinstance(data, ClassDataModule):
        return f"{type(data).__name__} has no images that come again"
    return "images are augmented, so none comes twice; data.augmented=false keeps them the same" * data.augmented
