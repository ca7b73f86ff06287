"""The tiny CLIP that the project trains itself: an open_clip model small enough to travel in the package."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from open_clip.model import CLIP
from torch import nn

from naruto_vision.encoders.tokenizer import WordTokenizer

TINY_CLIP = "tiny-clip"

TINY_PREPROCESS: Mapping[str, Any] = {
    "size": 96,
    "mode": "RGB",
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
    "interpolation": "bicubic",
    "resize_mode": "longest",  # the whole figure stays visible, however tall the crop is
    "fill_color": 128,  # the same grey as the ground of a cut-out, and about zero after normalisation
}


@dataclass(frozen=True)
class TinySizes:
    """The sizes of a tiny CLIP.

    Args:
        embed_dim: Length of the vectors.
        image_size: Side of the square input in pixels.
        patch_size: Side of a patch in pixels.
        vision_width: Width of the image tower.
        vision_layers: Blocks of the image tower.
        text_width: Width of the text tower.
        text_layers: Blocks of the text tower.
        context_length: Tokens a text.
        buckets: Ids that out-of-vocabulary words share.
    """

    embed_dim: int = 192
    image_size: int = 96
    patch_size: int = 12
    vision_width: int = 192
    vision_layers: int = 6
    text_width: int = 128
    text_layers: int = 3
    context_length: int = 40
    buckets: int = 512

    def as_json(self) -> dict[str, int]:
        """Return the sizes as JSON values."""
        return asdict(self)


def build_tiny_clip(sizes: TinySizes, tokenizer: WordTokenizer) -> nn.Module:
    """Build the open_clip model with random weights.

    Args:
        sizes: Its sizes.
        tokenizer: Decides the size of the token table.
    """
    vision = {
        "image_size": sizes.image_size,
        "patch_size": sizes.patch_size,
        "width": sizes.vision_width,
        "layers": sizes.vision_layers,
        "head_width": 32,  # 64 would leave three heads, too few to look at hair, face and clothes apart
    }
    text = {
        "context_length": sizes.context_length,
        "vocab_size": tokenizer.size,
        "width": sizes.text_width,
        "layers": sizes.text_layers,
        "heads": max(1, sizes.text_width // 32),
    }
    model: nn.Module = CLIP(sizes.embed_dim, vision, text)
    return model
