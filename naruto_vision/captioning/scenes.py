"""Segmented scenes that are described: those of a run's ``predictions.jsonl``, or whole images as one region each."""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

import msgspec
import numpy as np

from naruto_vision.captioning.protocol import Described
from naruto_vision.captioning.relations import Relation, relate_regions, relation_lines
from naruto_vision.captioning.wording import same_wording
from naruto_vision.errors import BadImageError, FormatError, InputError, MissingPathError
from naruto_vision.geometry import Box, mask_from_rle, xyxy_from_mask
from naruto_vision.io.atomic import utf8
from naruto_vision.io.bundles import file_sha256
from naruto_vision.io.images import read_image
from naruto_vision.io.inputs import ImageFiles
from naruto_vision.io.typed_json import read_json, read_json_lines
from naruto_vision.prompting.report import ReportItem, analysis_report
from naruto_vision.recognition.writer import RUN
from naruto_vision.records import ImageArray, Prompt, Region

Chosen: TypeAlias = Literal["shown", "all"]
"""Which regions of a run are described: those on the overlays, or all."""

_POINT = re.compile(r"point (\d+),(\d+)")
_DIGITS = 6


class _Point(msgspec.Struct):
    x: float
    y: float
    label: int = 1


class _Row(msgspec.Struct):
    """What is read of a region."""

    bbox: Box
    mask: dict[str, Any]
    predicted_iou: float = 1.0
    stability: float = 1.0
    prompt: str = ""
    points: list[_Point] = []
    source: str = ""
    shown: bool = True

    @property
    def point(self) -> tuple[float, float] | None:
        """The first positive point of the prompt, or the one that its name has."""
        for each in self.points:
            if each.label > 0:
                return each.x, each.y
        named = _POINT.search(self.prompt)
        return (float(named[1]), float(named[2])) if named else None


class SegmentedScene(msgspec.Struct):
    """One line of ``predictions.jsonl``."""

    scene: str
    width: int
    height: int
    regions: list[_Row]
    sha256: str = ""

    def __post_init__(self) -> None:
        if {"..", ""} & set(self.scene.split("/")) or "\0" in self.scene:
            raise ValueError("a 'scene' that is a path inside the folder of images")

    def digest(self, chosen: Chosen) -> str:
        """Hash what decides which regions are described, so that other ones are described again."""
        return hashlib.sha256(utf8(repr((self, chosen)))).hexdigest()  # names need not be UTF-8

    def open_regions(self, log: Path, chosen: Chosen) -> dict[int, Region]:
        """Decode the masks of the chosen regions, by index; FormatError if one is empty or leaves the image."""
        found = {}
        for index, row in enumerate(self.regions):
            if chosen == "all" or row.shown:
                where = f"mask {index} of scene {self.scene!r}"
                try:
                    mask = mask_from_rle(row.mask)
                except ValueError as error:
                    raise FormatError(log, where, str(error)) from None
                box = xyxy_from_mask(mask)
                if box is None or mask.shape != (self.height, self.width):
                    what = "an empty one" if box is None else f"{mask.shape[0]}x{mask.shape[1]}"
                    raise FormatError(log, f"{where} of {self.height}x{self.width} pixels", what)
                cut = mask[box[1] : box[3] + 1, box[0] : box[2] + 1]
                found[index] = Region(box, cut, row.predicted_iou, row.stability, Prompt(row.prompt))
        return found


class OpenedScene(NamedTuple):
    """A scene, its image and its chosen regions by their index."""

    scene: SegmentedScene
    image: ImageArray
    regions: Mapping[int, Region]


class SceneSource(Protocol):
    """Scenes to describe, in order; each comes once."""

    digests: Mapping[str, str]  # scene → hash of what decides its descriptions
    models: Sequence[str] = ()  # what found the regions, for reports

    def __iter__(self) -> Iterator[SegmentedScene]:
        """Yield the scenes without their images."""
        ...

    def open(self, scene: SegmentedScene) -> OpenedScene:
        """Read the image of a scene; BadImageError or MissingPathError if it cannot be used."""
        ...


class _Run(msgspec.Struct):
    identity: dict[str, Any] = {}


class RunScenes(SceneSource):
    """The scenes of a run of ``predict`` or ``segment``; its images are where it found them, or in ``images``."""

    def __init__(self, log: Path, images: Path | None = None, chosen: Chosen = "shown") -> None:
        self.log, self.chosen = log, chosen
        run = log.parent / RUN
        identity = read_json(run, _Run).identity if run.is_file() else {}
        self.models = [f"Segmented by model {str(identity['segmenter'])[:12]}"] if "segmenter" in identity else []
        self.root = images or _images_of(run, identity)
        if not self.root.is_dir():
            raise MissingPathError(self.root, "folder of the run's images", "give --images DIR")
        self.digests = {scene.scene: scene.digest(chosen) for scene in read_json_lines(log, SegmentedScene)}
        if not self.digests:
            raise InputError(f"{log}: has no scenes; has the run finished one?")

    def __iter__(self) -> Iterator[SegmentedScene]:
        seen: set[str] = set()
        for scene in read_json_lines(self.log, SegmentedScene):
            if scene.scene not in seen:
                seen.add(scene.scene)
                yield scene

    def open(self, scene: SegmentedScene) -> OpenedScene:
        """Read the image of a scene, which must be the one that was segmented."""
        path = self.root / scene.scene
        image = read_image(path)
        if scene.sha256 and file_sha256(path) != scene.sha256:
            raise BadImageError(path, "has changed since it was segmented; segment it again")
        if image.shape[:2] != (scene.height, scene.width):
            size = f"{image.shape[1]}x{image.shape[0]}"
            raise BadImageError(path, f"expected {scene.width}x{scene.height} pixels as in the run, found {size}")
        return OpenedScene(scene, image, scene.open_regions(self.log, self.chosen))


def _images_of(run: Path, identity: Mapping[str, Any]) -> Path:
    recorded = identity.get("scenes", identity.get("images"))
    if not isinstance(recorded, str):
        raise InputError(f"{run}: does not say where the images are; give --images DIR")
    return Path(recorded)


class WholeImages(SceneSource):
    """Images, each of which is one region."""

    def __init__(self, files: ImageFiles) -> None:
        self._root = files.root
        self._refused = {  # the names are absolute
            name.lstrip("/"): BadImageError(name, reason.rpartition(": ")[2]) for name, reason in files.refused.items()
        }
        paths = {name.lstrip("/"): files.root / name for name in files.names}
        self.digests = {name: file_sha256(path) if path.is_file() else "" for name, path in paths.items()}

    def __iter__(self) -> Iterator[SegmentedScene]:
        return (SegmentedScene(name, 0, 0, []) for name in self.digests)

    def open(self, scene: SegmentedScene) -> OpenedScene:
        """Read an image."""
        path = self._root / scene.scene
        if error := self._refused.get(scene.scene):
            raise error
        image = read_image(path)
        height, width = image.shape[:2]
        whole = Region((0, 0, width - 1, height - 1), np.ones((height, width), np.bool_))
        rows = [_Row(whole.box, {}, source="image")]
        return OpenedScene(
            SegmentedScene(scene.scene, width, height, rows, self.digests[scene.scene]), image, {0: whole}
        )


def scene_document(opened: OpenedScene, described: Sequence[Described], digest: str) -> dict[str, Any]:
    """Return the line of ``descriptions.jsonl``: an entry for every region of the scene, and the relations."""
    scene, indexes = opened.scene, list(opened.regions)
    texts = same_wording([each.description.text for each in described])
    entries: list[dict[str, Any]] = [{"bbox": list(row.bbox), "description": ""} for row in scene.regions]
    for (index, region), each, text in zip(opened.regions.items(), described, texts, strict=True):
        entries[index] = _region_document(region, scene.regions[index], each, text)
    relations = relate_regions(list(opened.regions.values()), scene.width, scene.height)
    source = {"scene": scene.scene, **({"sha256": scene.sha256} if scene.sha256 else {}), "digest": digest}
    moved = [{**each.as_json(), "a": indexes[each.a], "b": indexes[each.b]} for each in relations]
    return {**source, "width": scene.width, "height": scene.height, "regions": entries, "relations": moved}


def _region_document(region: Region, row: _Row, each: Described, text: str) -> dict[str, Any]:
    said = each.description
    document = {
        "bbox": list(region.box),
        "area": region.area,
        "source": row.source or row.prompt,
        "point": row.point,
        "description": text,
        "score": None if said.score is None else round(said.score, _DIGITS),
        "parts": {group: [phrase, round(chance, _DIGITS)] for group, (phrase, chance) in said.parts.items()},
        "asked": each.asked,
        "box_shown": each.box_shown,
    }
    return {**document, **({"said": said.text} if text != said.text else {}), **_error(said.error)}


def _error(text: str) -> dict[str, str]:
    return {"error": text} if text else {}


def scene_report(document: Mapping[str, Any], models: Sequence[str]) -> str:
    """Return the text report of a line of ``descriptions.jsonl``: the described regions, numbered, and relations."""
    numbers = {index: n for n, index in enumerate(i for i, row in enumerate(document["regions"]) if "asked" in row)}
    rows = [document["regions"][index] for index in numbers]
    items = [
        ReportItem(tuple(row["bbox"]), row["source"], row["point"], row["description"] or _note(row)) for row in rows
    ]
    pairs = [(numbers[each["a"]], numbers[each["b"]], tuple(each["relations"])) for each in document["relations"]]
    return analysis_report(document["scene"], models, items, relation_lines([Relation(*pair) for pair in pairs]))


def _note(row: Mapping[str, Any]) -> str:
    return f"(failed: {row['error']})" if "error" in row else ""
