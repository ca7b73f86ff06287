"""The truth about drawn scenes in the formats that others read: ``gt.json`` and COCO instances."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from naruto_vision.drawn.scenes import DrawnObject, DrawnScene
from naruto_vision.files.rle import encode_rle
from naruto_vision.records import UNKNOWN


@dataclass
class SceneTruth:
    """Collects the truth scene by scene.

    Args:
        names: The cast, in order; category ids count from 1, and strangers come last as ``unknown``.
    """

    names: Sequence[str]
    gt: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    difficulties: dict[str, str] = field(default_factory=dict)
    images: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)

    def add(self, filename: str, scene: DrawnScene) -> None:
        """Add a scene.

        Args:
            filename: The name of its picture.
            scene: The scene.
        """
        height, width = scene.picture.shape[:2]
        number = len(self.images) + 1
        self.gt[filename] = [
            {"bbox": list(drawn.box), "label": drawn.label} for drawn in scene.objects if drawn.label is not None
        ]
        self.difficulties[filename] = scene.difficulty
        self.images.append(
            {"id": number, "file_name": filename, "width": width, "height": height, "difficulty": scene.difficulty}
        )
        before = len(self.annotations)  # counted once: while it is extended, the list grows
        self.annotations.extend(self._annotation(number, drawn, before + k) for k, drawn in enumerate(scene.objects, 1))

    def _annotation(self, image: int, drawn: DrawnObject, number: int) -> dict[str, Any]:
        x1, y1, x2, y2 = drawn.box
        return {
            "id": number,
            "image_id": image,
            "category_id": [*self.names, UNKNOWN].index(drawn.label or UNKNOWN) + 1,
            "bbox": [x1, y1, x2 - x1 + 1, y2 - y1 + 1],
            "area": int(drawn.mask.sum()),
            "iscrowd": 0,
            "segmentation": encode_rle(drawn.mask),
            "parts": {name: encode_rle(mask) for name, mask in drawn.parts.items()},
        }

    def coco(self) -> dict[str, Any]:
        """Return the COCO record: images, annotations (with ``parts`` beside ``segmentation``) and categories."""
        categories = [{"id": k, "name": name} for k, name in enumerate([*self.names, UNKNOWN], 1)]
        return {"images": self.images, "annotations": self.annotations, "categories": categories}
