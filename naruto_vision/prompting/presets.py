"""Presets of ``segment saliency``: packaged YAML files, or the user's own; without torch."""

from pathlib import Path
from typing import Literal

import msgspec

from naruto_vision.io.bundles import config_path, packaged_configs
from naruto_vision.io.typed_json import convert_json
from naruto_vision.io.yaml_files import read_yaml

PREFIX = "saliency-"
"""Of the file names of the packaged presets."""


class SaliencyPreset(msgspec.Struct, forbid_unknown_fields=True):
    """The settings of ``SaliencyPrompter`` that a preset may have."""

    model: str | None = None
    weights: str | None = None
    map: Literal["auto", "attention", "norm"] | None = None
    image_size: int | None = None
    num_objects: int | None = None
    prompt_type: Literal["box", "point"] | None = None
    threshold: float | None = None
    min_area: int | None = None
    split: bool | None = None


def read_preset(path: Path) -> SaliencyPreset:
    """Read a preset; InputError if it has other keys or values."""
    return convert_json(path, read_yaml(path), SaliencyPreset)


def packaged_presets() -> dict[str, SaliencyPreset]:
    """Return the packaged presets by their names, "general" first."""
    names = [Path(name).stem.removeprefix(PREFIX) for name in packaged_configs() if name.startswith(PREFIX)]
    names.sort(key=lambda name: (name != "general", name))
    return {name: read_preset(config_path(f"{PREFIX}{name}.yaml")) for name in names}
