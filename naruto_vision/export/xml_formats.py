"""Scenes as XML: Pascal VOC, and CVAT for images 1.1."""

import re
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from naruto_vision.export.masks import mask_of, row_runs
from naruto_vision.export.source import SceneSource, description_of
from naruto_vision.geometry import shape_of_xyxy, xyxy_from_mask
from naruto_vision.recognition.coco import CocoObject, CocoScene

_NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def xml_value(text: str) -> str:
    """Replace what XML 1.0 cannot hold, even as an entity, by its escape."""
    return _NOT_XML.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def xml_text(root: Element, level: int = 0) -> str:
    """Return the text of an element, indented."""
    indent(root, level=level)
    return "  " * level + tostring(root, encoding="unicode") + "\n"


def _child(parent: Element, name: str, text: object, /, **facts: str) -> None:
    SubElement(parent, name, facts).text = xml_value(str(text))


def voc_text(scene: CocoScene) -> str:
    """Return the XML of an image in Pascal VOC; pixels are counted from 1, both corners inclusive."""
    root = Element("annotation")
    _child(root, "filename", PurePosixPath(scene.file_name).name)
    size = SubElement(root, "size")
    for name, value in (("width", scene.width), ("height", scene.height), ("depth", 3)):
        _child(size, name, value)
    for one in scene.objects:
        item = SubElement(root, "object")
        _child(item, "name", one.label)
        corners = SubElement(item, "bndbox")
        for name, pixel in zip(("xmin", "ymin", "xmax", "ymax"), one.box, strict=True):
            _child(corners, name, pixel + 1)
    return xml_text(root)


def cvat_parts(scenes: Iterable[CocoScene], source: SceneSource) -> Iterator[str]:
    """Yield the parts of a file of CVAT; the id of an image is its number in lexical order, as in CVAT's tasks."""
    meta = Element("meta")
    task = SubElement(meta, "task")
    _child(task, "size", len(source.names))
    _child(task, "mode", "annotation")
    labels = SubElement(task, "labels")
    for label in source.labels:
        _child(SubElement(labels, "label"), "name", label)
    yield '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n' + xml_text(meta, 1)
    numbers = {name: str(number) for number, name in enumerate(sorted(source.names))}
    for scene in scenes:
        facts = {"width": str(scene.width), "height": str(scene.height)}
        image = Element("image", {"id": numbers[scene.file_name], "name": xml_value(scene.file_name), **facts})
        for one in scene.objects:
            facts = {"label": xml_value(one.label), "source": "auto" if source.predicted else "manual", "occluded": "0"}
            tag, place = _cvat_shape(one, scene)
            shape = SubElement(image, tag, {**facts, **place, "z_order": "0"})
            if description := description_of(one):
                _child(shape, "attribute", description, name="description")
        yield xml_text(image, 1)
    yield "</annotations>\n"


def _cvat_shape(one: CocoObject, scene: CocoScene) -> tuple[str, dict[str, str]]:
    """Return a mask, whose runs are along the rows of its own box, or a box, whose edges are between pixels."""
    mask = mask_of(one, scene)
    left, top, right, bottom = box = (mask is not None and xyxy_from_mask(mask)) or one.box
    if mask is None:
        edges = {"xtl": left, "ytl": top, "xbr": right + 1, "ybr": bottom + 1}
        return "box", {name: f"{edge:.2f}" for name, edge in edges.items()}
    height, width = shape_of_xyxy(box)
    runs = ", ".join(map(str, row_runs(mask[top : bottom + 1, left : right + 1])))
    return "mask", {"rle": runs, "left": str(left), "top": str(top), "width": str(width), "height": str(height)}
