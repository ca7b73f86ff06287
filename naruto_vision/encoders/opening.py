"""Open encoders by name: a bundle, an architecture, or the encoder recorded in a gallery."""

from collections.abc import Mapping
from typing import Any

from naruto_vision.encoders.base import Encoder
from naruto_vision.encoders.clip import KIND, RANDOM, ClipEncoder
from naruto_vision.errors import InputError


def open_encoder(model: str, pretrained: str | None = None) -> Encoder:
    """Open an encoder by its name, in evaluation mode."""
    if "dino" in model:
        import timm  # slow to import, and not needed by CLIP

        from naruto_vision.encoders.dino import HUB_NAMES, DinoEncoder

        if model in HUB_NAMES or timm.is_model(model):
            return DinoEncoder(model, pretrained).eval()
    return ClipEncoder(model, pretrained).eval()


def open_recipe(recipe: Mapping[str, Any]) -> Encoder:
    """Open the encoder recorded in a gallery, in evaluation mode."""
    if (
        not isinstance(recipe, Mapping) or RANDOM in recipe.values()
    ):  # a model of any size without weights; no gallery records one
        recipe = {}
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
            from naruto_vision.encoders.dino import DinoEncoder  # imports timm

            return DinoEncoder(model, weights, image_size=size, pooling=pooling).eval()
    msg = f"expected the recipe of a CLIP or DINO encoder, found {dict(recipe)}"
    raise InputError(msg)
