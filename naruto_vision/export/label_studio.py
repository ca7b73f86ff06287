"""Scenes as tasks of Label Studio, and the labelling configuration of their project."""

from typing import Any
from urllib.parse import quote
from xml.etree.ElementTree import Element, SubElement

from naruto_vision.export.masks import mask_of, row_runs
from naruto_vision.export.source import SceneSource, description_of
from naruto_vision.export.xml_formats import xml_text, xml_value
from naruto_vision.geometry import Mask, shape_of_xyxy
from naruto_vision.recognition.coco import CocoObject, CocoScene

_SIZES = (3, 4, 8, 16)  # bits of a run's length; those that Label Studio writes itself


def brush_of_mask(mask: Mask) -> list[int]:
    """Return Label Studio's run lengths of RGBA values, 255 inside a mask (H, W), bool, as a list of bytes.

    The number of values takes 32 bits, the size of a value 5, four sizes of lengths 4 each. Of each run follow a 1, the
    index of its size (2 bits), its length and its value. Sizes and lengths are less one, as in thi.ng/rle-pack.
    """
    bits = [f"{4 * mask.size:032b}", f"{7:05b}", *(f"{size - 1:04b}" for size in _SIZES)]
    for number, run in enumerate(row_runs(mask)):
        for start in range(0, 4 * run, 1 << _SIZES[-1]):
            length = min(4 * run - start, 1 << _SIZES[-1])
            index = next(k for k, size in enumerate(_SIZES) if length <= 1 << size)
            bits.append(f"1{index:02b}{length - 1:0{_SIZES[index]}b}{number % 2 * 255:08b}")
    text = "".join(bits)
    return list((int(text, 2) << -len(text) % 8).to_bytes((len(text) + 7) // 8))


def task_of(scene: CocoScene, source: SceneSource, root: str) -> dict[str, Any]:
    """Return a task; what a model found are predictions, which Label Studio shows as pre-annotations."""
    found: list[dict[str, Any]] = []
    for number, one in enumerate(scene.objects, start=1):
        kind, value = _shape(one, scene)
        score = {"score": one.extra["score"]} if "score" in one.extra else {}
        frame = {"original_width": scene.width, "original_height": scene.height, "image_rotation": 0}
        region = {"id": f"r{number}", "to_name": "image", **frame}
        found.append({**region, "from_name": kind, "type": kind, **score, "value": {**value, kind: [one.label]}})
        if text := description_of(one):
            found.append({**region, "from_name": "description", "type": "textarea", "value": {"text": [text]}})
    done: dict[str, Any] = {"result": found}
    if source.predicted:
        done["model_version"] = "naruto-vision"
        if scores := [region["score"] for region in found if "score" in region]:
            done["score"] = sum(scores) / len(scores)
    image = root + quote(scene.file_name, errors="surrogateescape")
    return {"data": {"image": image}, "predictions" if source.predicted else "annotations": [done]}


def _shape(one: CocoObject, scene: CocoScene) -> tuple[str, dict[str, Any]]:
    """Return a brush, or a rectangle in per cent of the image."""
    mask = mask_of(one, scene)
    if mask is not None:
        return "brushlabels", {"format": "rle", "rle": brush_of_mask(mask)}
    height, width = shape_of_xyxy(one.box)
    across, down = 100 / scene.width, 100 / scene.height
    box = {"x": one.box[0] * across, "y": one.box[1] * down, "width": width * across, "height": height * down}
    return "rectanglelabels", {**box, "rotation": 0}


def labelling_text(source: SceneSource) -> str:
    """Return the labelling configuration, XML."""
    view = Element("View")
    SubElement(view, "Image", {"name": "image", "value": "$image", "zoom": "true"})
    for tag in ("BrushLabels", "RectangleLabels"):
        choice = SubElement(view, tag, {"name": tag.lower(), "toName": "image"})
        for label in source.labels:
            SubElement(choice, "Label", {"value": xml_value(label)})
    if source.described:
        SubElement(view, "TextArea", {"name": "description", "toName": "image", "perRegion": "true"})
    return xml_text(view)
