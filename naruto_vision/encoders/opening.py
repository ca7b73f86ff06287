"""Open encoders by name: a bundle, an architecture, or the encoder that a gallery or a store records."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import open_clip

from naruto_vision.encoders.base import Encoder
from naruto_vision.encoders.clip import KIND, RANDOM, ClipEncoder
from naruto_vision.errors import FingerprintError, InputError
from naruto_vision.io.bundles import packaged_bundles


def open_encoder(model: str, pretrained: str | None = None) -> Encoder:
    """Open an encoder by its name, in evaluation mode."""
    if "dino" in model:
        import timm  # slow to import, and not needed by CLIP

        from naruto_vision.encoders.dino import HUB_NAMES, DinoEncoder

        if model in HUB_NAMES or timm.is_model(model):
            return DinoEncoder(model, pretrained).eval()
    if Path(model).name == model and model not in {*packaged_bundles(), *open_clip.list_models()}:
        import timm  # as above

        from naruto_vision.encoders.backbone import LITE0, TimmEncoder

        if not Path(model).exists() and (model == LITE0 or timm.is_model(model)):
            return TimmEncoder(model, pretrained).eval()
    return ClipEncoder(model, pretrained).eval()


def recorded_encoder(
    where: str | Path,
    recipe: Mapping[str, Any] | None,
    fingerprint: str,
    model: str = "",
    pretrained: str | None = None,
    **advice: str,
) -> Encoder:
    """Open the encoder that a gallery or a store of videos records, or check that ``model`` is it.

    ``model`` and ``pretrained`` say where it is now, as ``ClipEncoder`` takes them. InputError, which names ``where``,
    if there is no record of the encoder; FingerprintError, with its own ``advice``, if it is another one.
    """
    if not model and not recipe:
        raise InputError(f"{where}: has no record of its encoder; give --encoder MODEL")
    try:
        encoder = open_encoder(model, pretrained) if model else open_recipe(recipe or {})
    except InputError as error:
        if model:
            raise
        raise InputError(f"{error}; that encoder built {where}: give --encoder where it is now") from None
    if encoder.fingerprint != fingerprint:
        raise FingerprintError(where, fingerprint, encoder.fingerprint, **advice)
    return encoder


def open_recipe(recipe: Mapping[str, Any]) -> Encoder:
    """Open the encoder recorded in a gallery, in evaluation mode."""
    if not isinstance(recipe, Mapping) or RANDOM in recipe.values():  # of any size, without weights: none is recorded
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
        case {
            "kind": "timm",
            "model": str(model),
            "weights": str() | None as weights,
            "image_size": int() | None as size,
            "pooling": "model" | "cls" | "mean" as pooling,
        }:
            from naruto_vision.encoders.backbone import TimmEncoder

            return TimmEncoder(model, weights, image_size=size, pooling=pooling).eval()
        case {
            "kind": "clip_ensemble",
            "model": str(model),
            "pretrained": str() | None as pretrained,
            "backbone": str(backbone),
            "share": float(share),
        }:
            from naruto_vision.encoders.ensemble import ClipEnsemble

            return ClipEnsemble(model, pretrained, backbone=backbone, share=share).eval()
        case {"kind": "ensemble", "members": list(members), "weights": list(member_weights)}:
            from naruto_vision.encoders.ensemble import EnsembleEncoder

            return EnsembleEncoder([open_recipe(member) for member in members], member_weights).eval()
    raise InputError(f"expected the recipe of an encoder, found {dict(recipe)}")
