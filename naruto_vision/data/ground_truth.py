"""Read the ground truth of scenes and folders of predicted scenes, with checks."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import msgspec

from naruto_vision.data.box_formats import json_format
from naruto_vision.data.boxes import open_boxes, read_boxes
from naruto_vision.data.tables import FolderFiles
from naruto_vision.errors import FormatError, InputError, MissingPathError
from naruto_vision.io.names import label_name, longer_stems, output_name, refusal
from naruto_vision.io.quarantine import Quarantine
from naruto_vision.io.typed_json import convert_json, read_json
from naruto_vision.records import MAX_BOXES, LabelledBox


class _Object(msgspec.Struct):
    """One object of a scene file; other keys are ignored."""

    bbox: tuple[float, float, float, float]
    label: str

    def __post_init__(self) -> None:
        x1, y1, x2, y2 = self.bbox
        if not all(map(float.is_integer, self.bbox)):  # also false for NaN and infinity
            raise ValueError("a 'bbox' of four whole numbers [x1, y1, x2, y2]")
        if not (0 <= x1 <= x2 and 0 <= y1 <= y2):
            raise ValueError("a 'bbox' with 0 <= x1 <= x2 and 0 <= y1 <= y2 (inclusive corners)")
        if not self.label.strip():
            raise ValueError("a 'label' that is a non-empty text")

    def labelled(self, score: float | None = None) -> LabelledBox:
        x1, y1, x2, y2 = map(int, self.bbox)
        return LabelledBox((x1, y1, x2, y2), label_name(self.label), score)


class _Prediction(_Object):
    score: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.score is not None and not math.isfinite(self.score):
            raise ValueError("a 'score' that is a finite number")


class _SceneFile(msgspec.Struct):
    preds: Annotated[list[_Prediction], msgspec.Meta(max_length=MAX_BOXES)]
    scene: Any = None  # scene name; some writers omit it


def read_gt(path: str | Path, images: str | Path | None = None) -> dict[str, tuple[LabelledBox, ...]]:
    """Read the ground truth of a scene folder.

    Args:
        path: A JSON object: scene path relative to the images' folder, to a list of
            ``{"bbox": [x1, y1, x2, y2], "label": text}`` in inclusive pixels of the upright image. Or box
            annotations: a COCO, CVAT, Label Studio or CSV file, or a folder with one of them, YOLO or Pascal VOC.
        images: The folder that scene paths are relative to, for box annotations; by default ``images`` beside
            the file, or the file's folder.

    Returns:
        Scene to its objects, in the file's order; a scene without known characters has none.

    Raises:
        MissingPathError: If there is no such file.
        FormatError: If its content is not as described; the message names the scene.
        InputError: If a folder has no ground truth of a known layout.
    """
    path = Path(path)
    path = path / "gt.json" if (path / "gt.json").is_file() else path
    if not path.exists():
        raise MissingPathError(path, "ground truth file")
    if path.is_dir() or path.suffix.casefold() != ".json" or json_format(path):
        return read_boxes(open_boxes(path, images)).truth()
    found = read_json(path, dict[str, Any])
    truth: dict[str, tuple[LabelledBox, ...]] = {}
    for scene, objects in found.items():
        reason = refusal(scene)
        if reason:
            raise FormatError(path, "scene names relative to the images' folder", f"{scene!r}, which {reason}")
        if isinstance(objects, list) and len(objects) > MAX_BOXES:
            raise FormatError(path, f"in scene {scene!r} a list of length <= {MAX_BOXES}", str(len(objects)))
        checked = convert_json(path, objects, list[_Object], where=f"scene {scene!r}")
        truth[scene] = tuple(item.labelled() for item in checked)
    return truth


_OVERLAY = "_overlay"


@dataclass(frozen=True)
class PredictionFolder:
    """Predictions by scene, scenes without a file, files of no scene, and the files that could not be read."""

    scenes: Mapping[str, tuple[LabelledBox, ...]]
    missing: tuple[str, ...]
    unknown: tuple[str, ...]
    quarantine: Quarantine


def read_predictions(path: Path, scene: str, *, exact: bool = False) -> tuple[LabelledBox, ...]:
    """Read the predictions of one scene."""
    found = read_json(path, _SceneFile)
    named = scene if found.scene is None else found.scene
    expected, stated = (PurePosixPath(label_name(name) if isinstance(name, str) else "") for name in (scene, named))
    if stated.stem != expected.stem or (exact and stated.name != expected.name):
        raise FormatError(path, f"predictions of scene {scene!r}", f"those of {named!r}")
    return tuple(item.labelled(item.score) for item in found.preds)


def read_prediction_folder(
    folder: str | Path, scenes: Sequence[str], *, overlay: bool = False, advance: Callable[[], None] = lambda: None
) -> PredictionFolder:
    """Read a folder's predictions for the given scenes.

    The file of scene ``a/b.png`` is ``a/b.json`` or ``a/b.png.json``, the overlay's ``a/b_overlay.json`` or
    ``a/b.png_overlay.json``, in the folder or in its sub-folder ``json``. A file that cannot be used is set aside,
    and its scene is one without predictions.

    Args:
        folder: Such as the ``--out`` folder of ``naruto-vision predict``, or the ``json`` folder in it.
        scenes: Paths relative to the images' folder, POSIX.
        overlay: Read only the shown regions.
        advance: Called after each scene, for a progress bar.

    Returns:
        The predictions, and the missing, surplus and unusable files.

    Raises:
        MissingPathError: If there is no such folder, or none of the scenes has a file in it.
        InputError: If no file could be used.
    """
    base = Path(folder)
    if not base.is_dir():
        raise MissingPathError(base, "folder of predictions")
    base = (base / "json" if (base / "json").is_dir() else base).resolve()
    suffix = f"{_OVERLAY}.json" if overlay else ".json"
    found_in = FolderFiles(base)
    files = {scene: _file_of(found_in, scene, suffix) for scene in scenes}
    if scenes and not any(files.values()):
        kind = "overlay JSON" if overlay else "JSON"
        hint = f"{scenes[0]} has none, for one"
        if (base / "predictions.jsonl").is_file():  # of `predict` it is beside the folder of the files
            hint = "the folder is of `segment`, which names no characters: evaluate the --out folder of `predict`"
        raise MissingPathError(base, f"{kind} for any of {len(scenes)} scenes", hint)
    shared = Counter(files.values())
    quarantine = Quarantine("prediction files")
    found: dict[str, tuple[LabelledBox, ...]] = {}
    for scene, path in files.items():
        if path is not None:
            _read_into(found, scene, path, quarantine, exact=shared[path] > 1)
        advance()
    quarantine.check(1.0)
    missing = tuple(scene for scene, path in files.items() if path is None)
    return PredictionFolder(found, missing, _leftover(base, files.values(), overlay), quarantine)


def read_shown(folder: str | Path, scenes: Sequence[str]) -> Mapping[str, tuple[LabelledBox, ...]] | None:
    """Read the shown regions; None if the folder has no file of them that can be used."""
    try:
        return read_prediction_folder(folder, scenes, overlay=True).scenes
    except InputError:
        return None


def _file_of(folder: FolderFiles, scene: str, suffix: str) -> Path | None:
    """Find the file of a scene under one of the names that ``predict`` may give it."""
    stem = PurePosixPath(scene).with_suffix("").as_posix()
    stems = (*reversed(longer_stems(scene)), scene, output_name(stem), stem)
    return next(filter(None, (folder.path(f"{name}{suffix}") for name in dict.fromkeys(stems))), None)


def _read_into(
    found: dict[str, tuple[LabelledBox, ...]], scene: str, path: Path, quarantine: Quarantine, *, exact: bool
) -> None:
    try:
        found[scene] = read_predictions(path, scene, exact=exact)
    except FormatError as error:
        quarantine.refuse(path, str(error).removeprefix(f"{path}: "))
    except OSError as error:
        quarantine.refuse(path, error.strerror or "cannot be read")
    else:
        quarantine.accept()


def _leftover(base: Path, used: Iterable[Path | None], overlay: bool) -> tuple[str, ...]:
    """List the files of one kind that belong to no scene; a file that was read is never listed."""
    taken = {path.resolve() for path in used if path is not None}
    rest = (path for path in base.rglob("*.json") if path.stem.endswith(_OVERLAY) == overlay)
    return tuple(sorted(path.relative_to(base).as_posix() for path in rest if path.resolve() not in taken))


def rename_labels(
    scenes: Mapping[str, Sequence[LabelledBox]], names: Mapping[str, str]
) -> dict[str, tuple[LabelledBox, ...]]:
    """Rename labels."""
    return {
        scene: tuple(replace(item, label=names.get(item.label, item.label)) for item in items)
        for scene, items in scenes.items()
    }
