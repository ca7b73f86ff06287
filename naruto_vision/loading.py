"""``load``: the analyzer of a run, with the settings of its config."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from naruto_vision.cli.trainer_args import (
    RUN_CONFIG,
    SCENES_CONFIG,
    find_config,
    model_section,
    parts_of_gallery,
    read_config,
)
from naruto_vision.errors import MissingPathError
from naruto_vision.gallery.info import list_gallery
from naruto_vision.gallery.store import MANIFEST, store_uri

if TYPE_CHECKING:
    from naruto_vision.recognition.analyzer import SceneAnalyzer


def load(
    source: str | Path = "runs",
    *,
    config: str | Path = SCENES_CONFIG,
    device: str | None = None,
    allow_imports: Sequence[str] = (),
) -> "SceneAnalyzer":
    """Open the analyzer of a run, with the settings of its config.

    Class paths in a config outside of this package, Lightning, ``torch.nn`` and ``torch.optim`` are refused before they
    are imported, unless ``allow_imports`` or an installed plugin opens their package.

    Args:
        source: A folder that ``predict`` wrote (its own config is used); or a folder such as ``runs`` with ``gallery/``
            and optionally ``regions/bundle``, which then finds the regions; or a gallery alone, as a folder or an
            address of a vector store (``chroma:DIR``, ``milvus+http://...``): the config's segmenter finds the regions
            then, also where there is a ``regions/bundle`` beside it. The encoder is the one that the gallery records.
        config: The config for a folder of the last two kinds: a YAML file, or the name of a packaged one. A file
            of your own keeps its encoder.
        device: Device to compute on ("cpu", "cuda"); None takes a GPU if there is one.
        allow_imports: Names of packages of yours whose classes the config may name too.

    Returns:
        The analyzer; ``analyzer.analyze("scene.jpg")`` names the characters of a scene.

    Raises:
        MissingPathError: If the folder, its gallery or its weights are missing.
        FormatError: If the config has no model.
        InputError: If the config or another file is invalid.
        FingerprintError: If the gallery was built with another encoder.

    Examples:
        >>> import naruto_vision as nv
        >>> result = nv.load("runs").analyze("scene.jpg")  # doctest: +SKIP
        >>> result.names  # doctest: +SKIP
        ('ayame', 'unknown')
    """
    path, changes = _config_of(source, str(config))
    return _build(path, model_section(read_config(path), path, changes), device, allow_imports)


def _config_of(source: str | Path, config: str) -> tuple[Path, dict[str, Any]]:
    """Return the path of the config for a folder or store, and the model options that it overrides."""
    folder, uri = Path(source), store_uri(source)
    if uri is None and (folder / RUN_CONFIG).is_file():
        return folder / RUN_CONFIG, {}
    gallery = uri or _gallery_in(folder)
    parts = parts_of_gallery(list_gallery(gallery).note, folder) if config == SCENES_CONFIG else {}
    return find_config(config), {"gallery": str(gallery), **parts}


def _gallery_in(folder: Path) -> Path:
    if not folder.is_dir():
        raise MissingPathError(folder, "folder", "give one that `naruto-vision predict` or `fit` wrote, such as runs")
    gallery = folder if (folder / MANIFEST).is_file() else folder / "gallery"
    if not gallery.is_dir():
        hint = "build one with `naruto-vision fit --config gallery.yaml`, or give a folder that `predict` wrote"
        raise MissingPathError(gallery, "gallery", hint)
    return gallery


def _build(path: Path, model: dict[str, Any], device: str | None, allow_imports: Sequence[str]) -> "SceneAnalyzer":
    import torch

    from naruto_vision.cli.trainer import parse_class
    from naruto_vision.modules.scene_retriever import SceneRetriever

    retriever = parse_class(SceneRetriever, model, path, allow_imports)
    analyzer = retriever.checked_analyzer()
    retriever.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return analyzer
