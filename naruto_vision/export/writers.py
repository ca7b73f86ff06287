"""Write scenes in the formats of other tools, into a folder that appears as a whole."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal, TypeAlias
from urllib.parse import quote

import numpy as np
import yaml

from naruto_vision.errors import InputError
from naruto_vision.export.label_studio import labelling_text, task_of
from naruto_vision.export.masks import mask_of, polygon_of_mask
from naruto_vision.export.pairs import write_pairs
from naruto_vision.export.source import SceneSource
from naruto_vision.export.xml_formats import cvat_parts, voc_text
from naruto_vision.geometry import shape_of_xyxy, xyxy_from_mask
from naruto_vision.io.atomic import atomic_file, atomic_folder, check_empty, utf8, write_json
from naruto_vision.io.locks import folder_lock, lock_beside
from naruto_vision.recognition.coco import CocoObject, CocoScene, write_coco
from naruto_vision.records import LabelledBox

Target: TypeAlias = Literal["coco", "yolo-seg", "yolo", "voc", "cvat", "label-studio", "pairs", "gt"]
Scenes: TypeAlias = Callable[[], Iterator[CocoScene]]


def write_scenes(
    source: SceneSource, to: Target, out: str | Path, *, url: str | None = None, advance: Callable[[], None]
) -> Path:
    """Write scenes into a new or empty folder, with a link to their images; returns what was written.

    The folder appears as a whole. ``advance`` is called after each scene; COCO takes two passes.
    """
    out = Path(out)

    def scenes() -> Iterator[CocoScene]:
        for scene in source.scenes():
            yield scene
            advance()

    name, write = _WRITERS[to]
    with folder_lock(out, "--out", file=lock_beside(out)):
        check_empty(out)
        with atomic_folder(out) as folder:
            if to == "label-studio":
                _write_tasks(folder / name, source, scenes, url)
            else:
                write(folder / name, source, scenes)
            if source.images is not None and source.images.is_dir():
                (folder / "images").symlink_to(source.images.resolve())
    return out / name


def _write(path: Path, parts: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as out:
        out.writelines(map(utf8, parts))


def _joined(start: str, items: Iterable[str], end: str) -> Iterator[str]:
    yield start
    for number, item in enumerate(items):
        yield f",\n{item}" if number else item
    yield end


def write_gt(path: str | Path, truth: Iterable[tuple[str, Iterable[LabelledBox | CocoObject]]]) -> None:
    """Write a ground truth file, one scene a line, in the order given."""
    lines = (
        f"{json.dumps(scene)}: {json.dumps([{'bbox': list(one.box), 'label': one.label} for one in objects])}"
        for scene, objects in truth
    )
    with atomic_file(path) as temporary:
        _write(temporary, _joined("{\n", lines, "\n}\n"))


def _stem(name: str) -> str:
    return PurePosixPath(name).with_suffix("").as_posix()


def _refuse_shared(names: Sequence[str]) -> None:
    found: dict[str, str] = {}
    for name in names:
        other = found.setdefault(_stem(name), name)
        if other != name:
            raise InputError(f"{other} and {name} would share one file; rename one, or use --to coco")


def _write_voc(target: Path, source: SceneSource, scenes: Scenes) -> None:
    _refuse_shared(source.names)
    target.mkdir()
    for scene in scenes():
        _write(target / f"{_stem(scene.file_name)}.xml", [voc_text(scene)])


def _write_cvat(target: Path, source: SceneSource, scenes: Scenes) -> None:
    """Write the annotations, and the labels as the constructor of a task takes them."""
    text = {"name": "description", "mutable": False, "input_type": "text", "values": [""]}
    attributes = [text] if source.described else []
    _write(target, cvat_parts(scenes(), source))
    write_json(target.with_name("labels.json"), [{"name": label, "attributes": attributes} for label in source.labels])


def _write_tasks(target: Path, source: SceneSource, scenes: Scenes, url: str | None = None) -> None:
    if url is None:
        url = f"/data/local-files/?d={quote(source.images.resolve().name if source.images else 'images')}/"
    tasks = (json.dumps(task_of(scene, source, url)) for scene in scenes())
    _write(target, _joined("[\n", tasks, "\n]\n"))
    _write(target.with_name("label_config.xml"), [labelling_text(source)])


def _write_yolo(target: Path, source: SceneSource, scenes: Scenes) -> None:
    _write_labels(target, source, scenes, _centred)


def _write_yolo_seg(target: Path, source: SceneSource, scenes: Scenes) -> None:
    _write_labels(target, source, scenes, _outline)


def _write_labels(
    target: Path, source: SceneSource, scenes: Scenes, values_of: Callable[[CocoObject, CocoScene], Sequence[float]]
) -> None:
    _refuse_shared(source.names)
    numbers = {label: number for number, label in enumerate(source.labels)}
    for scene in scenes():
        texts = [(one, " ".join(f"{value:.6f}" for value in values_of(one, scene))) for one in scene.objects]
        lines = [f"{numbers[one.label]} {text}\n" for one, text in texts]
        _write(target.parent / "labels" / f"{_stem(scene.file_name)}.txt", lines)
    content = {"train": "images", "val": "images", "names": dict(enumerate(source.labels))}
    _write(target, [yaml.safe_dump(content, allow_unicode=True, sort_keys=False)])


def _centred(one: CocoObject, scene: CocoScene) -> Sequence[float]:
    height, width = shape_of_xyxy(one.box)
    x, y = (one.box[0] + width / 2) / scene.width, (one.box[1] + height / 2) / scene.height
    return x, y, width / scene.width, height / scene.height


def _outline(one: CocoObject, scene: CocoScene) -> Sequence[float]:
    """Return one polygon in fractions of the image: the object's only one, or of its mask, or of its box."""
    left, top, right, bottom = one.box[0], one.box[1], one.box[2] + 1, one.box[3] + 1
    points: list[float] = [left, top, right, top, right, bottom, left, bottom]
    if isinstance(one.segmentation, Sequence) and len(one.segmentation) == 1:
        points = list(one.segmentation[0])
    elif (mask := mask_of(one, scene)) is not None:
        x, y, right, bottom = xyxy_from_mask(mask) or one.box
        points = np.add(polygon_of_mask(mask[y : bottom + 1, x : right + 1]), (x, y)).ravel().tolist()
    return [value / (scene.height if k % 2 else scene.width) for k, value in enumerate(points)]


_WRITERS: Mapping[Target, tuple[str, Callable[[Path, SceneSource, Scenes], None]]] = {
    "coco": ("coco.json", lambda target, source, scenes: write_coco(target, scenes, source.labels)),
    "yolo-seg": ("data.yaml", _write_yolo_seg),
    "yolo": ("data.yaml", _write_yolo),
    "voc": ("Annotations", _write_voc),
    "cvat": ("annotations.xml", _write_cvat),
    "label-studio": ("tasks.json", _write_tasks),
    "pairs": ("captions.csv", write_pairs),
    "gt": ("gt.json", lambda target, _, scenes: write_gt(target, ((one.file_name, one.objects) for one in scenes()))),
}
"""Format → the file that is written, and the function that writes it and what belongs to it."""
