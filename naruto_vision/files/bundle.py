"""Model bundles: a folder with ``model.safetensors`` and ``model.json`` that travel together.

The JSON says which architecture the weights belong to, how pictures are prepared, and what else the
weights decide (classes, thresholds, licence, figures). It names no code.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from naruto_vision.errors import FormatError, JsonError, MissingPathError
from naruto_vision.files.atomic import atomic_folder, write_text
from naruto_vision.files.hashing import file_sha256
from naruto_vision.files.trust import load_state_dict

WEIGHTS = "model.safetensors"
INFO = "model.json"
FORMAT = 1


def save_bundle(folder: str | Path, state: Mapping[str, Tensor], info: Mapping[str, Any]) -> None:
    """Write a bundle; an older one in its place is replaced as a whole.

    Args:
        folder: Where the bundle goes.
        state: Name to tensor, any shapes and dtypes.
        info: JSON values. ``kind`` says what the bundle is ("clip", "sam").
    """
    with atomic_folder(folder) as temporary:
        weights = temporary / WEIGHTS
        weights.write_bytes(save({name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}))
        record = {"format": FORMAT, **info, "sha256": file_sha256(weights)}
        write_text(temporary / INFO, json.dumps(record, ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def read_bundle_info(folder: str | Path, kind: str) -> dict[str, Any]:
    """Read and check a bundle's ``model.json``.

    Args:
        folder: The bundle.
        kind: What the bundle has to be.

    Returns:
        The JSON object.

    Raises:
        MissingPathError: If the folder has no ``model.json``.
        FormatError: If the JSON is broken, of another format version or of another kind.
    """
    path = Path(folder) / INFO
    if not path.is_file():
        raise MissingPathError(path, "model bundle")
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise JsonError(path, error) from None
    if not isinstance(info, dict) or info.get("format") != FORMAT:
        raise FormatError(
            path, f"bundle format {FORMAT}", f"{info.get('format') if isinstance(info, dict) else info!r}"
        )
    if info.get("kind") != kind:
        raise FormatError(path, f"a {kind!r} bundle", f"kind {info.get('kind')!r}")
    return info


def load_bundle(folder: str | Path, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a bundle after checking that its weights are the ones its JSON was written for.

    Args:
        folder: The bundle.
        kind: What the bundle has to be.

    Returns:
        The tensors, of any shapes, on the CPU; and the JSON object.

    Raises:
        MissingPathError: If a file is missing.
        FormatError: If a file is corrupt, or the weights' hash is not the recorded one.
    """
    info = read_bundle_info(folder, kind)
    weights = Path(folder) / WEIGHTS
    if not weights.is_file():
        raise MissingPathError(weights, "weights file")
    found = file_sha256(weights)
    if found != info.get("sha256"):
        raise FormatError(weights, f"sha256 {str(info.get('sha256'))[:12]}", found[:12], "copy the bundle again")
    return load_state_dict(weights), info
