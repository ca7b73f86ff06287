"""Masks of whole scenes, ground truth and predicted, matched scene by scene."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict, TypeVar

import msgspec

from naruto_vision.errors import FormatError, MissingPathError
from naruto_vision.export.source import PREDICTIONS
from naruto_vision.geometry import canonical_rle, mask_from_rle, rle_from_polygons
from naruto_vision.io.typed_json import read_json, read_json_lines
from naruto_vision.metrics.fragments import FragmentCounts, add_fragments, count_fragments
from naruto_vision.records import Mask

T = TypeVar("T")


class _Region(TypedDict):
    shown: bool
    mask: Any


class _Scene(TypedDict):
    scene: str
    regions: list[_Region]


class _Image(msgspec.Struct):
    id: int | str
    file_name: str
    width: int = 0  # of polygons
    height: int = 0


class _Annotation(msgspec.Struct):
    image_id: int | str
    segmentation: Any  # polygons, or run lengths, checked on decoding


class _Coco(msgspec.Struct):
    images: list[_Image]
    annotations: list[_Annotation]


def read_coco_masks(path: str | Path) -> dict[str, list[Any]]:
    """Read which masks the images of a COCO file have, as run lengths, without decoding those."""
    path = Path(path)
    if not path.is_file():
        raise MissingPathError(path, "COCO file of masks")
    record = read_json(path, _Coco)
    images = {image.id: image for image in record.images}
    masks: dict[str, list[Any]] = {image.file_name: [] for image in record.images}
    if len(masks) != len(record.images):
        raise FormatError(path, "every id and every file_name once", f"{len(masks)} of {len(record.images)}")
    for one in record.annotations:
        if one.image_id not in images:
            raise FormatError(path, "annotations of its images", f"image_id {one.image_id!r}")
        image, mask = images[one.image_id], one.segmentation
        if isinstance(mask, list):
            try:
                mask = rle_from_polygons(mask, image.height, image.width)
            except ValueError as error:
                raise FormatError(path, f"masks of scene {image.file_name!r}", str(error)) from None
        masks[image.file_name].append(mask)
    return masks


def read_figures(path: str | Path, scenes: Iterable[str]) -> dict[str, list[Any]]:
    """Read the masks of every true figure."""
    masks = read_coco_masks(path)
    scenes = list(scenes)
    absent = [scene for scene in scenes if scene not in masks]
    if absent:
        raise FormatError(path, "an image for every scene of the ground truth", f"none for {absent[0]!r}")
    return {scene: masks[scene] for scene in scenes}


def count_scene_fragments(
    folder: str | Path,
    figures: Mapping[str, Sequence[Any]],
    *,
    iou_match: float = 0.5,
    shown_only: bool = False,
    advance: Callable[[], None] = lambda: None,
) -> FragmentCounts:
    """Count how often a segmenter over-segments or merges figures."""
    path = _log_of(Path(folder))
    counts, left = [], dict(figures)
    for line in read_json_lines(path, _Scene):
        scene = line["scene"]
        true = left.pop(scene, None)  # a scene that comes twice counts once
        if true is not None:
            masks = [region["mask"] for region in line["regions"] if region["shown"] or not shown_only]
            found = _checked(path, scene, masks)
            counts.append(_count(path, scene, found, _checked("the true masks", scene, true), iou_match))
            advance()
    for true in left.values():
        counts.append(FragmentCounts(objects=len(true)))
        advance()
    return add_fragments(counts)


def _log_of(folder: Path) -> Path:
    for base in (folder, folder.parent):
        if (base / PREDICTIONS).is_file():
            return base / PREDICTIONS
    hint = "`naruto-vision predict` writes it; without masks, omit --gt-masks"
    raise MissingPathError(folder / PREDICTIONS, "file of masks", hint)


def _checked(path: str | Path, scene: str, records: Sequence[Any]) -> list[dict[str, Any]]:
    """Check and encode each mask once, without its pixels: unchecked values of a file must not reach the C library."""
    return [rle for record in records if (rle := _of_file(path, scene, record, canonical_rle))]


def unpack_mask(path: str | Path, scene: str, record: object) -> Mask:
    """Decode the run lengths of a file, (H, W), bool; FormatError if they are no mask."""
    return _of_file(path, scene, record, mask_from_rle)


def _of_file(path: str | Path, scene: str, record: object, read: Callable[[Mapping[str, Any]], T]) -> T:
    try:
        return read(record if isinstance(record, dict) else {"counts": record})
    except ValueError as error:
        raise FormatError(path, f"masks of scene {scene!r}", str(error)) from None


def _count(
    path: Path, scene: str, found: list[dict[str, Any]], true: list[dict[str, Any]], iou_match: float
) -> FragmentCounts:
    sizes = {tuple(record["size"]) for record in (*found, *true)}
    if len(sizes) > 1:
        listed = ", ".join(f"{height}x{width}" for height, width in sorted(sizes))
        raise FormatError(path, f"masks of scene {scene!r} of the size that the true ones have", listed)
    return count_fragments(found, true, iou_match=iou_match)
