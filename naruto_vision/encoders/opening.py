"""Encoders for commands, by the name that a user types or the recipe that a gallery keeps."""

from collections.abc import Mapping
from typing import Any

from naruto_vision.encoders.base import Encoder
from naruto_vision.encoders.clip import KIND, ClipEncoder
from naruto_vision.errors import InputError


def open_encoder(model: str, pretrained: str | None = None) -> Encoder:
    """Open an encoder by its name, ready to embed.

    Args:
        model: ``tiny-clip``, a bundle folder, an open_clip architecture, or a DINOv2 (``dinov2_vits14``, timm's names).
        pretrained: A local weights file or, for an architecture, one of open_clip's tags.

    Raises:
        InputError: If the name is unknown, or the weights do not fit it.
    """
    if "dino" in model:
        import timm  # takes longer to import than all that a CLIP needs

        from naruto_vision.encoders.dino import HUB_NAMES, DinoEncoder

        if model in HUB_NAMES or timm.is_model(model):
            return DinoEncoder(model, pretrained).eval()
    return ClipEncoder(model, pretrained).eval()


def open_recipe(recipe: Mapping[str, Any]) -> Encoder:
    """Open the encoder of a gallery, ready to embed.

    Args:
        recipe: What ``Encoder.recipe`` returned.

    Raises:
        InputError: If the recipe is none, or its weights are not where they were.
    """
    match recipe:
        case {"kind": kind, "model": str(model), "pretrained": str() | None as pretrained} if kind == KIND:
            return ClipEncoder(model, pretrained).eval()
        case {
            "kind": "dino",
            "model": str(model),
            "weights": str() | None as weights,
            "image_size": int(size),
            "pooling": "cls" | "mean" as pooling,
        }:
            from naruto_vision.encoders.dino import DinoEncoder  # brings timm

            return DinoEncoder(model, weights, image_size=size, pooling=pooling).eval()
    msg = f"expected the recipe of a CLIP or DINO encoder, found {dict(recipe)}"
    raise InputError(msg)
