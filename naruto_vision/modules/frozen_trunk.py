"""The part of an image tower that is not trained, apart from the part above it that is."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from naruto_vision.encoders.clip import ClipEncoder


@dataclass(frozen=True)
class FrozenTrunk:
    """An image tower in two parts.

    Args:
        encoder: Whose tower it is.
        blocks: How many of the transformer's first blocks are below; None where the whole tower is.
    """

    encoder: ClipEncoder
    blocks: int | None

    def below(self, pixels: Tensor) -> Tensor:
        """Run the frozen part; no gradient flows.

        Args:
            pixels: Shape (B, 3, S, S), float32, prepared.

        Returns:
            Shape (B, T, W), float32: what the first trained block is given; (B, D), unit rows, where none is trained.
        """
        with torch.no_grad():
            if self.blocks is None:
                return self.encoder.encode_images(pixels)
            visual: Any = self.encoder.clip.visual
            hidden = visual._embeds(pixels)  # (B, T, W)
            for block in visual.transformer.resblocks[: self.blocks]:
                hidden = block(hidden)
            activations: Tensor = hidden.float()
            return activations

    def above(self, activations: Tensor) -> Tensor:
        """Run the trained part; gradients flow.

        Args:
            activations: From ``below``.

        Returns:
            Shape (B, D), float32, unit rows.
        """
        if self.blocks is None:
            return activations
        visual: Any = self.encoder.clip.visual
        hidden = activations
        for block in visual.transformer.resblocks[self.blocks :]:
            hidden = block(hidden)
        pooled = visual._pool(hidden)[0]
        return normalize((pooled if visual.proj is None else pooled @ visual.proj).float(), dim=-1)

    def parameters(self) -> list[nn.Parameter]:
        """Return the parameters of the frozen part, and of whatever else is not trained in the tower."""
        return [value for value in self.encoder.clip.visual.parameters() if not value.requires_grad]


def find_trunk(encoder: ClipEncoder) -> FrozenTrunk | str:
    """Find how far up the image tower nothing is trained.

    Args:
        encoder: Whose parameters say whether they are trained.

    Returns:
        The two parts, or why there are none, in words that follow "because".
    """
    visual = encoder.clip.visual
    if any(map(_varies, visual.modules())):
        return "its image tower drops or normalises by the batch in training"
    trained = [name for name, value in visual.named_parameters() if value.requires_grad]
    if not trained:
        return FrozenTrunk(encoder, None)
    blocks = _open_clip_blocks(visual)
    lowest = min((_lowest_block(name) for name in trained), default=0)
    below = int(min(lowest, len(blocks)))
    return FrozenTrunk(encoder, below) if below > 0 else "no blocks at the bottom of its image tower are frozen"


def _varies(module: nn.Module) -> bool:
    """Tell whether a layer's training pass is not a function of each picture alone."""
    if isinstance(module, _BatchNorm):
        return True
    if isinstance(module, _DropoutNd):
        return module.p > 0
    return any(float(getattr(module, name, 0.0) or 0.0) > 0 for name in ("drop_prob", "prob"))


def _open_clip_blocks(visual: nn.Module) -> list[nn.Module]:
    """Return the blocks of open_clip's own vision transformer; nothing for other towers."""
    transformer = getattr(visual, "transformer", None)
    known = hasattr(visual, "_embeds") and hasattr(visual, "_pool") and getattr(transformer, "batch_first", False)
    return list(getattr(transformer, "resblocks", ())) if known else []


_PREFIX = "transformer.resblocks."
_AFTER = ("ln_post.", "proj", "attn_pool")


def _lowest_block(name: str) -> float:
    """Return the block that a parameter belongs to; 0 before all blocks, infinite after them."""
    if name.startswith(_PREFIX):
        return int(name.removeprefix(_PREFIX).partition(".")[0])
    return float("inf") if name.startswith(_AFTER) else 0
