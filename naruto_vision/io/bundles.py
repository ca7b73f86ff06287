"""Model bundles (``model.safetensors`` + ``model.json``): hashes, packaged ones, writing, reading, strict loading.

The JSON has the architecture of the weights, the preprocessing, and what depends on the weights (classes, thresholds,
licence, metrics). It names no code. torch is imported where tensors are handled: commands that only need the path of a
packaged config or bundle start without it.
"""

import difflib
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from naruto_vision.errors import FormatError, MissingPathError, StateDictError
from naruto_vision.io.atomic import atomic_folder, write_json
from naruto_vision.io.typed_json import read_json, require_regular

if TYPE_CHECKING:
    from torch import Tensor, nn

WEIGHTS = "model.safetensors"
INFO = "model.json"
FORMAT = 1
_PACKAGE = Path(__file__).resolve().parent.parent
_MISSING = {
    "clip": (
        "model bundle",
        "tune one with `naruto-vision fit --config clip.yaml`, or give tiny-clip or a name of open_clip or timm",
    ),
    "sam": ("SAM weights", "give tiny-sam, an official name (sam_vit_b), a file or a bundle"),
    "detector": ("detector bundle", "learn one with `naruto-vision fit --config regions.yaml`"),
}
"""What is missing if there is no bundle of a kind, and what to do."""


def file_digest(path: str | Path, algorithm: str) -> str:
    """Hash a file block by block; ``algorithm`` is a name of ``hashlib``."""
    require_regular(Path(path))
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, algorithm).hexdigest()


def file_sha256(path: str | Path) -> str:
    """Hash a file with sha256."""
    return file_digest(path, "sha256")


def has_sha256(path: Path, digest: str) -> bool:
    """Return whether a file exists and has that hash."""
    return path.is_file() and file_sha256(path) == digest


def model_fingerprint(facts: Mapping[str, Any], state: "Mapping[str, Tensor]") -> str:
    """Hash everything that determines a model's outputs: configuration and weights."""
    import torch

    digest = hashlib.sha256(repr(sorted(facts.items())).encode())
    for name, tensor in sorted(state.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _shared(kind: str) -> Path:
    """Return a folder of the installed package, or of the checkout."""
    inside = _PACKAGE / "share" / kind
    return inside if inside.is_dir() else _PACKAGE.parent / kind


def config_path(name: str) -> Path:
    """Find a packaged config."""
    path = _shared("configs") / name
    if not path.is_file():
        raise MissingPathError(path, "packaged config")
    return path


def packaged_configs() -> dict[str, str]:
    """Return the names of the packaged configs, sorted, each with what it does: the second line of the file."""
    lines = {path.name: path.read_text(encoding="utf-8").splitlines()[1] for path in _shared("configs").glob("*.yaml")}
    return {name: line.removeprefix("# ").partition(". ")[0].rstrip(".") for name, line in sorted(lines.items())}


def packaged_tables(kind: Literal["tables", "grids"] = "tables") -> list[str]:
    """Return the names of the packaged tables, or grids of an ablation, sorted."""
    return sorted(path.stem for path in _shared("configs").glob(f"{kind}/*.yaml"))


def bundle_path(name: str | Path, kind: str = "clip") -> Path:
    """Turn a bundle's name or folder into its folder; ``kind`` ("clip", "sam", "detector") words the error."""
    folder = Path(name)
    if (folder / INFO).is_file():
        return folder
    packaged = _shared("checkpoints") / folder.name
    if len(folder.parts) == 1 and (packaged / INFO).is_file():
        return packaged
    what, hint = _MISSING[kind]
    near = difflib.get_close_matches(folder.name, packaged_bundles(), n=1, cutoff=0.8)
    if near and len(folder.parts) == 1:
        hint = f"did you mean {near[0]}?"
    raise MissingPathError(folder, what, hint)


def packaged_bundles() -> list[str]:
    """Return the names of the bundles that the package carries, sorted."""
    return sorted(file.parent.name for file in _shared("checkpoints").glob(f"*/{INFO}"))


def check_fits(model: "nn.Module", state: "Mapping[str, Tensor]", path: str | Path, architecture: str) -> None:
    """Raise StateDictError unless all names and shapes match; FormatError if a weight is NaN or infinite.

    The model may be on torch's ``meta`` device: building it there first costs no memory, whatever sizes a file states.
    """
    import torch

    own = model.state_dict()
    reshaped = [
        f"{name} ({tuple(state[name].shape)}, {tuple(value.shape)})"
        for name, value in own.items()
        if name in state and state[name].shape != value.shape
    ]
    missing = sorted(own.keys() - state.keys())
    unexpected = sorted(state.keys() - own.keys())
    if missing or unexpected or reshaped:
        raise StateDictError(path, architecture, missing, unexpected, reshaped)
    for name, value in state.items():
        if value.is_floating_point() and not value.sum(dtype=torch.float32).isfinite():
            raise FormatError(Path(path), "finite weights", f"{name}: NaN or infinity", "take an earlier file")


def load_strictly(model: "nn.Module", state: "Mapping[str, Tensor]", path: str | Path, architecture: str) -> None:
    """Load a state dict whose names and shapes all match; half-precision values are cast to the model's type."""
    check_fits(model, state, path, architecture)
    model.load_state_dict(dict(state))


def save_bundle(folder: str | Path, state: "Mapping[str, Tensor]", info: Mapping[str, Any]) -> None:
    """Write a bundle; an older one in its place is replaced as a whole."""
    from safetensors.torch import save

    with atomic_folder(folder) as temporary:
        weights = temporary / WEIGHTS
        weights.write_bytes(save({name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}))
        record = {"format": FORMAT, **info, "sha256": file_sha256(weights)}
        write_json(temporary / INFO, record)


def read_bundle_info(folder: str | Path, kind: str) -> dict[str, Any]:
    """Read and check a bundle's ``model.json``."""
    path = Path(folder) / INFO
    if not path.is_file():
        raise MissingPathError(path, "model bundle")
    info = read_json(path, dict[str, Any])
    if info.get("format") != FORMAT:
        raise FormatError(path, f"bundle format {FORMAT}", repr(info.get("format")))
    if info.get("kind") != kind:
        raise FormatError(path, f"a {kind!r} bundle", f"kind {info.get('kind')!r}")
    return info


def load_bundle(folder: str | Path, kind: str) -> "tuple[dict[str, Tensor], dict[str, Any]]":
    """Read a bundle's tensors, on the CPU, and its JSON object, after checking kind and hash."""
    from naruto_vision.io.checkpoints import load_state_dict

    info = read_bundle_info(folder, kind)
    weights = Path(folder) / WEIGHTS
    if not weights.is_file():
        raise MissingPathError(weights, "weights file")
    found = file_sha256(weights)
    if found != info.get("sha256"):
        raise FormatError(weights, f"sha256 {str(info.get('sha256'))[:12]}", found[:12], "copy the bundle again")
    return load_state_dict(weights), info
