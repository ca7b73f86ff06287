"""Write box annotations as COCO, YOLO, Pascal VOC or ``gt.json``, to the pixel."""

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeAlias
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import yaml

from naruto_vision.data.box_formats import json_format
from naruto_vision.data.boxes import AnnotatedImage, images_of, open_boxes, read_boxes
from naruto_vision.data.ground_truth import read_gt, write_gt
from naruto_vision.errors import FormatError, InputError
from naruto_vision.geometry import Mask, mask_from_rle, rle_from_mask, shape_of_xyxy
from naruto_vision.io.atomic import write_text
from naruto_vision.io.images import image_size
from naruto_vision.recognition.coco import CocoObject, CocoScene, write_coco
from naruto_vision.records import LabelledBox

Target: TypeAlias = Literal["coco", "yolo", "voc", "gt"]


def read_annotated(path: str | Path) -> tuple[list[AnnotatedImage], tuple[str, ...]]:
    """Read ``gt.json``, or what ``open_boxes`` understands: the usable images, sorted, and the classes."""
    path = Path(path)
    path = path / "gt.json" if (path / "gt.json").is_file() else path
    if path.suffix.casefold() == ".json" and path.is_file() and json_format(path) is None:
        truth, folder = read_gt(path), images_of(path.parent)
        found = [_with_size(folder, name, boxes) for name, boxes in sorted(truth.items())]
        return found, tuple(sorted({box.label for boxes in truth.values() for box in boxes}))
    annotations = read_boxes(open_boxes(path))
    usable = annotations.usable()
    if not usable:
        msg = f"{path}: no image that can be used; {annotations.summary()}"
        raise InputError(msg)
    return sorted(usable, key=lambda image: image.name), annotations.classes


def _with_size(folder: Path, name: str, boxes: tuple[LabelledBox, ...]) -> AnnotatedImage:
    return AnnotatedImage(name, *image_size(folder / name), boxes, (None,) * len(boxes))


def write_annotated(out: str | Path, to: Target, images: Sequence[AnnotatedImage], classes: Sequence[str]) -> Path:
    """Write annotations of images into a folder.

    Args:
        out: The folder; it gets ``coco.json``, ``gt.json``, ``data.yaml`` and ``labels/``, or ``Annotations/``.
        to: The format. Only COCO keeps masks.
        images: What is written.
        classes: All classes in their order.

    Returns:
        What was written: the file or, of Pascal VOC, the folder.

    Raises:
        InputError: If it exists, or two images would share a file.
    """
    target = Path(out) / {"coco": "coco.json", "gt": "gt.json", "yolo": "data.yaml", "voc": "Annotations"}[to]
    if target.exists():
        msg = f"{target}: exists; give another --out, or remove it"
        raise InputError(msg)
    match to:
        case "coco":
            scenes = [_coco_scene(image, number) for number, image in enumerate(images, start=1)]
            write_coco(target, lambda: scenes, classes)
        case "gt":
            write_gt(target, {image.name: image.boxes for image in images})
        case "yolo":
            for stem, image in _by_stem(images).items():
                write_text(Path(out) / "labels" / f"{stem}.txt", _yolo_text(image, classes))
            content = {"train": "images", "val": "images", "names": dict(enumerate(classes))}
            write_text(target, yaml.safe_dump(content, allow_unicode=True, sort_keys=False))
        case "voc":
            for stem, image in _by_stem(images).items():
                write_text(target / f"{stem}.xml", _voc_text(image))
    return target


def _by_stem(images: Sequence[AnnotatedImage]) -> dict[str, AnnotatedImage]:
    found: dict[str, AnnotatedImage] = {}
    for image in images:
        other = found.setdefault(PurePosixPath(image.name).with_suffix("").as_posix(), image)
        if other is not image:
            msg = f"{other.name} and {image.name} would share one file; rename one, or use --to coco"
            raise InputError(msg)
    return found


def _coco_scene(image: AnnotatedImage, number: int) -> CocoScene:
    found = zip(image.boxes, image.segmentations, strict=True)
    objects = []
    for box, segmentation in found:
        mask = _checked_mask(image, segmentation) if isinstance(segmentation, Mapping) else None
        area = None if mask is None else int(mask.sum())
        objects.append(CocoObject(box.label, box.box, segmentation if mask is None else rle_from_mask(mask), area))
    return CocoScene(number, image.name, image.width, image.height, objects)


def _checked_mask(image: AnnotatedImage, segmentation: Mapping[str, Any]) -> Mask:
    try:
        return mask_from_rle(segmentation)
    except ValueError as error:
        raise FormatError(image.name, "masks as COCO run lengths", str(error)) from None


def _yolo_text(image: AnnotatedImage, classes: Sequence[str]) -> str:
    lines = []
    for box in image.boxes:
        height, width = shape_of_xyxy(box.box)
        x, y = (box.box[0] + width / 2) / image.width, (box.box[1] + height / 2) / image.height
        size = (width / image.width, height / image.height)
        lines.append(f"{classes.index(box.label)} {x:.8f} {y:.8f} {size[0]:.8f} {size[1]:.8f}\n")
    return "".join(lines)


def _voc_text(image: AnnotatedImage) -> str:
    """Return the XML of an image; pixels are counted from 1, both corners inclusive."""
    root = Element("annotation")
    SubElement(root, "filename").text = PurePosixPath(image.name).name
    size = SubElement(root, "size")
    for name, value in (("width", image.width), ("height", image.height), ("depth", 3)):
        SubElement(size, name).text = str(value)
    for box in image.boxes:
        item = SubElement(root, "object")
        SubElement(item, "name").text = box.label
        corners = SubElement(item, "bndbox")
        for name, pixel in zip(("xmin", "ymin", "xmax", "ymax"), box.box, strict=True):
            SubElement(corners, name).text = str(pixel + 1)
    indent(root)
    return tostring(root, encoding="unicode") + "\n"
