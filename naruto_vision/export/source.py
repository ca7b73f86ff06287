"""The scenes that are exported, one at a time: those of a run of ``predict`` or ``segment``, or labelled ones."""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec

from naruto_vision.errors import FormatError
from naruto_vision.geometry import area_of_counts, canonical_rle
from naruto_vision.io.typed_json import convert_json, read_json, read_json_lines
from naruto_vision.recognition.coco import CocoObject, CocoScene
from naruto_vision.records import UNKNOWN

Regions: TypeAlias = Literal["shown", "all"]
PREDICTIONS = "predictions.jsonl"  # here too, as `recognition/writer.py` imports torch
_RUN, _DESCRIPTIONS = "run.json", "descriptions.jsonl"
_LOG = logging.getLogger(__name__)
REGION = "region"
"""The class of regions without a name."""


@dataclass(frozen=True)
class SceneSource:
    """Scenes to export, with all their names and classes; no more than one of them is in memory."""

    scenes: Callable[[], Iterable[CocoScene]]  # one call a pass, in the order of the names
    names: Sequence[str]
    labels: tuple[str, ...]
    objects: int
    images: Path | None  # their folder; None if it is not known
    predicted: bool = False  # by a model, not by people
    described: bool = False


def description_of(one: CocoObject) -> str:
    """Return the description of an object; "" if it has none."""
    return str(one.extra.get("attributes", {}).get("description", ""))


class _Region(msgspec.Struct):
    bbox: tuple[int, int, int, int]
    mask: dict[str, Any]
    name: str | None = None
    label: str | None = None
    score: float | None = None
    predicted_iou: float | None = None
    shown: bool = True

    def __post_init__(self) -> None:
        x1, y1, x2, y2 = self.bbox
        if not (0 <= x1 <= x2 and 0 <= y1 <= y2):
            raise ValueError("a 'bbox' with 0 <= x1 <= x2 and 0 <= y1 <= y2 (inclusive corners)")

    @property
    def title(self) -> str:
        """The class: a name of the gallery or ``unknown``, the label of a prompt, or ``region``."""
        return self.name or self.label or REGION

    @property
    def sure(self) -> float | None:
        """The score of the name or, of a region without one, of its mask."""
        return self.predicted_iou if self.score is None else self.score

    def is_chosen(self, regions: Regions) -> bool:
        return regions == "all" or (self.shown and self.name != UNKNOWN)


class _Scene(msgspec.Struct):
    scene: str
    width: int
    height: int
    regions: list[_Region]

    def __post_init__(self) -> None:
        os.fsencode(self.scene)  # a ValueError where no file can have the name
        if {"..", ""} & set(self.scene.split("/")) or "\0" in self.scene:
            raise ValueError("a 'scene' that is a path inside the folder of images")
        if min(self.width, self.height) < 1 or any(
            one.bbox[2] >= self.width or one.bbox[3] >= self.height for one in self.regions
        ):
            raise ValueError("boxes inside an image of 'width' and 'height'")


class _Description(msgspec.Struct):
    description: str = ""


class _Described(msgspec.Struct):
    scene: str
    regions: list[_Description]


class _Run(msgspec.Struct):
    state: str = "done"
    identity: dict[str, Any] = {}


def read_run(folder: Path, regions: Regions = "shown", images: Path | None = None) -> SceneSource:
    """Open the folder of a run, with its descriptions if there are; ``run.json`` has recorded where its images are."""
    log = folder / PREDICTIONS
    descriptions = _Descriptions(folder / _DESCRIPTIONS)
    names: list[str] = []
    labels: set[str] = set()
    objects = 0
    for record in read_json_lines(log, _Scene):
        chosen = [one for one in record.regions if one.is_chosen(regions)]
        labels.update(one.title for one in chosen)
        names.append(record.scene)
        objects += len(chosen)

    def scenes() -> Iterator[CocoScene]:
        for number, record in enumerate(read_json_lines(log, _Scene), start=1):
            texts = descriptions.of(record.scene, len(record.regions))
            found = [
                _object(log, record, *pair)
                for pair in zip(record.regions, texts, strict=True)
                if pair[0].is_chosen(regions)
            ]
            yield CocoScene(number, record.scene, record.width, record.height, found)

    run = read_json(folder / _RUN, _Run) if (folder / _RUN).is_file() else _Run()
    if run.state != "done":
        _LOG.warning("%s: the run has not finished; its first %d scenes are exported", folder, len(names))
    recorded = run.identity.get("scenes") or run.identity.get("images")
    if images is None and isinstance(recorded, str) and Path(recorded).is_dir():
        images = Path(recorded)
    described = bool(descriptions.starts)
    return SceneSource(scenes, names, tuple(sorted(labels)), objects, images, predicted=True, described=described)


def _object(log: Path, scene: _Scene, region: _Region, description: str) -> CocoObject:
    try:
        rle = canonical_rle(region.mask)
    except ValueError as error:
        raise FormatError(log, f"masks of scene {scene.scene!r}", str(error)) from None
    if rle is None or rle["size"] != [scene.height, scene.width]:
        expected = f"masks of {scene.height}x{scene.width} pixels for scene {scene.scene!r}"
        raise FormatError(log, expected, f"one of {region.mask.get('size')}" if rle else "an empty one")
    facts = {"label": region.label, "shown": region.shown, "description": description or None}
    extra: dict[str, Any] = {"attributes": {key: value for key, value in facts.items() if value is not None}}
    if region.sure is not None:
        extra["score"] = region.sure
    return CocoObject(region.title, region.bbox, rle, area_of_counts(rle["counts"].encode()), extra)


class _Descriptions:
    """The texts of ``descriptions.jsonl`` by scene, in any order; only where each line starts is kept in memory."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.starts: dict[str, int] = {}
        if path.is_file():
            start = 0
            with path.open("rb") as lines:
                for record, line in zip(read_json_lines(path, _Described), lines, strict=False):  # not a torn last line
                    self.starts[record.scene] = start
                    start += len(line)

    def of(self, scene: str, regions: int) -> list[str]:
        """Return the description of each region of a scene; "" for none."""
        start = self.starts.get(scene)
        if start is None:
            return [""] * regions
        with self._path.open("rb") as lines:
            lines.seek(start)
            found = convert_json(self._path, msgspec.json.decode(lines.readline()), _Described)
        if len(found.regions) != regions:
            expected = f"{regions} regions of scene {scene!r}"
            raise FormatError(self._path, expected, str(len(found.regions)), "run `naruto-vision describe` again")
        return [one.description for one in found.regions]
