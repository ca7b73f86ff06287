"""Weights of SAM in files: official checkpoints, and bundles with the thresholds that go with their weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segment_anything.modeling import Sam

from naruto_vision.errors import FormatError
from naruto_vision.files.bundle import INFO, load_bundle, save_bundle
from naruto_vision.files.share import bundle_path
from naruto_vision.files.strict import load_strictly
from naruto_vision.files.trust import load_state_dict
from naruto_vision.segmentation.sizes import Architecture
from naruto_vision.segmentation.thresholds import MaskThresholds

KIND = "sam"


def load_sam(sam: Sam, architecture: Architecture, weights: str | Path) -> MaskThresholds:
    """Fill a SAM with weights.

    Args:
        sam: Of the given architecture.
        architecture: The name of its size.
        weights: A checkpoint file in the official layout of names, a bundle's folder, or the name of a packaged bundle.

    Returns:
        The thresholds that go with the weights; for official weights, those that they were published with.

    Raises:
        FormatError: If the bundle holds another architecture.
    """
    if Path(weights).is_file():
        load_strictly(sam, load_state_dict(weights), weights, architecture)
        return MaskThresholds()
    folder = bundle_path(weights)
    state, info = load_bundle(folder, KIND)
    if info.get("architecture") != architecture:
        raise FormatError(folder / INFO, f"architecture {architecture!r}", repr(info.get("architecture")))
    load_strictly(sam, state, folder, architecture)
    return MaskThresholds.from_json(info.get("thresholds", {}), str(folder / INFO))


def save_sam(sam: Sam, thresholds: MaskThresholds, folder: str | Path, facts: Mapping[str, Any]) -> None:
    """Write weights as a bundle.

    Args:
        sam: The weights.
        thresholds: That go with them.
        folder: Where the bundle goes; an older one is replaced.
        facts: JSON values that go into ``model.json`` beside them; the architecture has to be among them.
    """
    save_bundle(folder, sam.state_dict(), {"kind": KIND, "thresholds": thresholds.as_json(), **facts})
