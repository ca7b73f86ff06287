"""Write scenes as one COCO file: images, annotations with boxes and masks, categories; in constant memory."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from naruto_vision.geometry import Box, area_xyxy, shape_of_xyxy
from naruto_vision.io.atomic import atomic_file


class CocoObject(NamedTuple):
    """One annotation: inclusive box, polygons or run lengths (None: the box alone), area, and further keys."""

    label: str
    box: Box
    segmentation: Any = None
    area: int | None = None  # None: that of the box
    extra: Mapping[str, Any] = {}


class CocoScene(NamedTuple):
    """One image with its annotations."""

    id: int
    file_name: str
    width: int
    height: int
    objects: Iterable[CocoObject] = ()


def write_coco(path: str | Path, scenes: Callable[[], Iterable[CocoScene]], labels: Sequence[str]) -> None:
    """Write a COCO file atomically, in ASCII.

    Args:
        path: The file.
        scenes: Called twice, for the images and for the annotations, so that no more than one scene is in memory.
        labels: Categories 1, 2, … in this order; labels that only objects have follow.
    """
    numbers = {label: number for number, label in enumerate(labels, start=1)}
    with atomic_file(path) as temporary, temporary.open("w", encoding="ascii") as out:
        out.write("{")
        images = ({"id": s.id, "file_name": s.file_name, "width": s.width, "height": s.height} for s in scenes())
        _write_list(out, "images", images)
        out.write(",\n")
        _write_list(out, "annotations", _annotations(scenes(), numbers))
        out.write(",\n")
        _write_list(out, "categories", ({"id": number, "name": label} for label, number in numbers.items()))
        out.write("}\n")


def _annotations(scenes: Iterable[CocoScene], numbers: dict[str, int]) -> Iterator[dict[str, Any]]:
    count = 0
    for scene in scenes:
        for one in scene.objects:
            count += 1
            height, width = shape_of_xyxy(one.box)
            yield {
                "id": count,
                "image_id": scene.id,
                "category_id": numbers.setdefault(one.label, len(numbers) + 1),
                "bbox": [one.box[0], one.box[1], width, height],
                "area": area_xyxy(one.box) if one.area is None else one.area,
                **({} if one.segmentation is None else {"segmentation": one.segmentation}),
                "iscrowd": 0,
                **one.extra,
            }


def _write_list(out: TextIO, name: str, values: Iterable[dict[str, Any]]) -> None:
    out.write(f'"{name}": [')
    for index, value in enumerate(values):
        out.write((",\n" if index else "\n") + json.dumps(value, allow_nan=False))
    out.write("]")


def coco_of_record(record: Mapping[str, Any], number: int) -> CocoScene:
    """Return a line of ``predictions.jsonl`` as a scene of a COCO file, every region under its best label."""
    objects = [
        CocoObject(
            region["label"],
            tuple(region["bbox"]),
            region["mask"],
            region["area"],
            {"score": region["score"], "attributes": {"name": region["name"], "shown": region["shown"]}},
        )
        for region in record["regions"]
    ]
    return CocoScene(number, record["scene"], record["width"], record["height"], objects)
