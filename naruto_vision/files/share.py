"""Where the configs and small weights lie: at the top of a checkout, or inside the installed wheel."""

from pathlib import Path

from naruto_vision.errors import MissingPathError

_PACKAGE = Path(__file__).resolve().parent.parent


def _shared(kind: str) -> Path:
    inside = _PACKAGE / "share" / kind
    return inside if inside.is_dir() else _PACKAGE.parent / kind


def config_path(name: str) -> Path:
    """Find a packaged config.

    Args:
        name: Its file name, such as ``scenes.yaml``.

    Raises:
        MissingPathError: If the package carries no such config.
    """
    path = _shared("configs") / name
    if not path.is_file():
        raise MissingPathError(path, "packaged config")
    return path


def bundle_path(name: str | Path) -> Path:
    """Turn a bundle's name or folder into its folder.

    Args:
        name: A folder that holds ``model.json``, or the name of a bundle that the package carries ("tiny-clip").

    Raises:
        MissingPathError: If it is neither.
    """
    folder = Path(name)
    if (folder / "model.json").is_file():
        return folder
    packaged = _shared("checkpoints") / folder.name
    if len(folder.parts) == 1 and (packaged / "model.json").is_file():
        return packaged
    hint = f"tune one with `naruto-vision fit --config clip.yaml`, or give a packaged name: {_names()}"
    raise MissingPathError(folder, "model bundle", hint)


def packaged_bundles() -> list[str]:
    """Return the names of the bundles that the package carries, sorted."""
    return sorted(file.parent.name for file in _shared("checkpoints").glob("*/model.json"))


def _names() -> str:
    return ", ".join(packaged_bundles()) or "none"
