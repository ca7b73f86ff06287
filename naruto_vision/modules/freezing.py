"""Which parameters of a CLIP are trained, and a cache of the features of its frozen image blocks."""

import logging
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn.functional import normalize

from naruto_vision.data.class_data import ClassDataModule
from naruto_vision.data.tables import Split
from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.encoders.lora import LoraConfig, add_lora
from naruto_vision.errors import InputError

Freeze: TypeAlias = Literal["none", "text", "vision", "both"]
CacheChoice: TypeAlias = bool | Literal["auto"]

_LOG = logging.getLogger(__name__)
_FILE = "activations.npy"
_SPLITS: tuple[Split, ...] = ("train", "valid")
_SHARED = frozenset({"logit_scale", "logit_bias"})
_BLOCKS = "transformer.resblocks."
_AFTER_THE_BLOCKS = ("ln_post.", "proj", "attn_pool.", "head.", "trunk.norm.", "trunk.attn_pool.", "trunk.fc_norm.")
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)


@dataclass(frozen=True)
class FreezeConfig:
    """Which parts of a CLIP are frozen; the logit scale is always trained."""

    towers: Freeze = "none"
    unfreeze_visual_blocks: int = 0

    def __post_init__(self) -> None:
        if self.unfreeze_visual_blocks and self.towers not in {"vision", "both"}:
            raise InputError(
                f"freeze.unfreeze_visual_blocks={self.unfreeze_visual_blocks} takes effect only with "
                f"freeze.towers=vision or both, not {self.towers}"
            )


@dataclass(frozen=True)
class CacheConfig:
    """Whether and how features of frozen image blocks are cached."""

    frozen: CacheChoice = "auto"
    half: bool = False
    memory: int = 1 << 30


def freeze_towers(encoder: ClipEncoder, config: FreezeConfig, lora: LoraConfig | None = None) -> None:
    """Choose what is trained; with ``lora``, only low-rank updates and the logit scale."""
    if lora is not None and config.towers != "none":
        raise InputError(f"lora trains no other weights, so freeze.towers={config.towers} has no effect; omit it")
    for name, parameter in encoder.clip.named_parameters():
        tower = "vision" if name.startswith("visual.") else "text"
        parameter.requires_grad_(lora is None and (name in _SHARED or config.towers not in {tower, "both"}))
    for parameter in _last_parameters(encoder.clip.visual, config.unfreeze_visual_blocks):
        parameter.requires_grad_(True)
    if lora is not None:
        add_lora(encoder.clip, lora)
    encoder.logit_scale.requires_grad_(True)


def _last_parameters(visual: nn.Module, blocks: int) -> Iterator[nn.Parameter]:
    """Yield the parameters of the last blocks and of every layer after them."""
    if blocks == 0:
        return
    modules = dict(visual.named_modules())
    owner = modules.get("transformer.resblocks") or modules.get("trunk.blocks")  # open_clip's own tower, or timm's
    stack = list(owner.children()) if owner else []
    if not 0 < blocks <= len(stack):
        msg = f"freeze.unfreeze_visual_blocks={blocks}: the image tower has {len(stack)} blocks that can be unfrozen"
        raise InputError(msg)
    for block in stack[-blocks:]:
        yield from block.parameters()
    for name, parameter in visual.named_parameters():
        if name.startswith(_AFTER_THE_BLOCKS):
            yield parameter


def weights_stamp(parameters: Iterable[nn.Parameter]) -> list[tuple[int, int]]:
    """Return values that change when a weight is replaced or modified in place."""
    return [(value.data_ptr(), value._version) for value in parameters]


@dataclass(frozen=True)
class FrozenTrunk:
    """An image tower whose first ``blocks`` transformer blocks are frozen; None freezes the whole tower."""

    encoder: ClipEncoder
    blocks: int | None

    def below(self, pixels: Tensor) -> Tensor:
        """Run the frozen part on (B, 3, S, S) without gradients: (B, T, W); (B, D), unit rows, if all is frozen."""
        with torch.no_grad():
            if self.blocks is None:
                return self.encoder.encode_images(pixels)
            layers = {"indices": [self.blocks - 1], "stop_early": True, "intermediates_only": True}
            found = self.encoder.clip.visual.forward_intermediates(
                pixels, **layers, output_fmt="NLC", output_extra_tokens=True
            )
            tokens = found["image_intermediates_prefix"][0], found["image_intermediates"][0]
            return torch.cat(tokens, dim=1).float()

    def above(self, activations: Tensor) -> Tensor:
        """Run the trained part on the output of ``below``: (B, D), float32, unit rows; gradients flow."""
        if self.blocks is None:
            return activations
        visual: Any = self.encoder.clip.visual
        hidden = activations
        for block in visual.transformer.resblocks[self.blocks :]:
            hidden = block(hidden)
        pooled = visual.ln_post(hidden)[:, 0]
        return normalize((pooled if visual.proj is None else pooled @ visual.proj).float(), dim=-1)

    def parameters(self) -> list[nn.Parameter]:
        """Return all parameters of the tower that are not trained."""
        return [value for value in self.encoder.clip.visual.parameters() if not value.requires_grad]


def find_trunk(encoder: ClipEncoder) -> FrozenTrunk | str:
    """Find how many leading blocks of the image tower are frozen, or the reason why features cannot be cached."""
    visual = encoder.clip.visual
    if any(map(_varies, visual.modules())):
        return "its image tower has dropout or batch normalisation"
    trained = [name for name, value in visual.named_parameters() if value.requires_grad]
    if not trained:
        return FrozenTrunk(encoder, None)
    below = int(min(*map(_lowest_block, trained), _block_count(visual)))
    return FrozenTrunk(encoder, below) if below > 0 else "no blocks at the bottom of its image tower are frozen"


def _varies(module: nn.Module) -> bool:
    """Return whether a layer is random or depends on the batch in training mode."""
    if isinstance(module, _DROPOUTS):
        return module.p > 0
    drops = any(float(getattr(module, name, 0.0) or 0.0) > 0 for name in ("drop_prob", "prob"))
    return drops or isinstance(module, _BATCH_NORMS)


def _block_count(visual: nn.Module) -> int:
    """Count the blocks of open_clip's own vision transformer with a class token; 0 for other towers."""
    if not isinstance(visual, VisionTransformer) or visual.attn_pool is not None or visual.pool_type != "tok":
        return 0
    return len(visual.transformer.resblocks) if visual.transformer.batch_first else 0


def _lowest_block(name: str) -> float:
    """Return the block that a parameter belongs to; 0 before all blocks, infinite after them."""
    if name.startswith(_BLOCKS):
        return int(name.removeprefix(_BLOCKS).partition(".")[0])
    return float("inf") if name.startswith(_AFTER_THE_BLOCKS) else 0


class ActivationCache:
    """Frozen features by image, at most ``count``. They are dropped when weights of the frozen part are replaced.

    Features above ``config.memory`` bytes go to a temporary file in ``folder``.
    """

    def __init__(self, trunk: FrozenTrunk, count: int, config: CacheConfig, folder: Path) -> None:
        self._trunk = trunk
        self._rows: dict[str, int] = {}
        self._stamp = weights_stamp(trunk.parameters())
        side, device = trunk.encoder.image_size, trunk.encoder.logit_scale.device
        shape = (count, *trunk.below(torch.zeros(1, 3, side, side, device=device)).shape[1:])
        dtype = np.dtype(np.float16 if config.half else np.float32)
        self.nbytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        self.on_disk = self.nbytes > config.memory
        self._kept: NDArray[Any] = self._file(folder, shape, dtype) if self.on_disk else np.empty(shape, dtype)

    def _file(self, folder: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        if self.nbytes > free:
            raise InputError(
                f"{folder}: the activations of {shape[0]} images need {self.nbytes / 1e9:.1f} GB, and "
                f"{free / 1e9:.1f} GB are free; use cache.half=true or cache.frozen=false"
            )
        kept = np.lib.format.open_memmap(folder / _FILE, mode="w+", dtype=dtype, shape=shape)
        (folder / _FILE).unlink()  # the open file stays usable, and a killed run leaves no file
        return kept

    def __len__(self) -> int:
        return len(self._rows)

    def encode(self, pixels: Tensor, keys: Sequence[str]) -> Tensor:
        """Embed images (B, 3, S, S), each identified by one of B keys: (B, D), unit rows; gradients flow.

        The frozen part runs for new keys only.
        """
        stamp = weights_stamp(self._trunk.parameters())
        if stamp != self._stamp:
            self._rows, self._stamp = {}, stamp
        new = {key: index for index, key in enumerate(keys) if key not in self._rows}
        if new:
            found = self._trunk.below(pixels[list(new.values())]).cpu().numpy()
            for key, row in zip(new, found, strict=True):
                self._kept[len(self._rows)] = row
                self._rows[key] = len(self._rows)
        rows = torch.from_numpy(self._kept[[self._rows[key] for key in keys]])
        return self._trunk.above(rows.to(pixels.device).float())


def open_cache(config: CacheConfig, encoder: ClipEncoder, data: object, folder: Path) -> ActivationCache | None:
    """Open the cache of one fit, or log why there is none; InputError if the config requires one."""
    if config.frozen is False:
        return None
    trunk = find_trunk(encoder)
    reason = trunk if isinstance(trunk, str) else _changing(data)
    if reason and config.frozen is True:
        raise InputError(f"cache.frozen=true: activations cannot be cached, because {reason}")
    if isinstance(trunk, str):
        return None
    if reason or not isinstance(data, ClassDataModule):
        _LOG.info("activations of the frozen image blocks are not cached, because %s", reason)
        return None
    cache = ActivationCache(trunk, sum(len(data.tables[split]) for split in _SPLITS), config, folder)
    where = f"on disk in {folder}" if cache.on_disk else "in memory"
    _LOG.info("activations of the frozen image blocks are cached, %.0f MB %s", cache.nbytes / 1e6, where)
    return cache


def _changing(data: object) -> str:
    if not isinstance(data, ClassDataModule):
        return f"{type(data).__name__} does not repeat its images"
    return "images are augmented and differ each epoch; data.augmented=false turns this off" * data.augmented
