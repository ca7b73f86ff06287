"""Masks of whole scenes, true and predicted, held against one another scene by scene."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from naruto_vision.data.masks import read_coco_masks
from naruto_vision.errors import FormatError, JsonError, MissingPathError
from naruto_vision.geometry import mask_from_rle, rle_from_mask
from naruto_vision.metrics.fragments import FragmentCounts, add_fragments, count_encoded_fragments
from naruto_vision.recognition.writer import read_log

PREDICTIONS = "predictions.jsonl"
"""Where ``predict`` writes its masks."""


def read_figures(path: str | Path, scenes: Iterable[str]) -> dict[str, list[Any]]:
    """Read the masks of every true figure.

    Args:
        path: COCO instance truth with run-length masks; its ``file_name`` are the scenes' names.
        scenes: Those that have to be in it, as the ground truth names them.

    Returns:
        Scene to its masks, packed, for the scenes that were asked for.

    Raises:
        MissingPathError: If there is no such file.
        FormatError: If it is something else, or lacks a scene.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingPathError(path, "COCO file of masks")
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
    """Count how often a segmenter cut figures into pieces or ran several together.

    Args:
        folder: The ``--out`` folder of ``naruto-vision predict``, or the ``json`` folder in it.
        figures: What ``read_figures`` returns. A scene that was not predicted is one without regions.
        iou_match: Mask IoU from which a region is a figure, in [0, 1].
        shown_only: Look at the regions only that people are shown.
        advance: Called after each scene, for a progress bar.

    Returns:
        The counts of all scenes together.

    Raises:
        MissingPathError: If the folder has no masks.
        FormatError: If a mask is broken, or not of its scene's size.
    """
    path = _log_of(Path(folder))
    counts, left = [], dict(figures)
    for scene, regions in _regions(path, shown_only):
        true = left.pop(scene, None)  # a scene that comes twice counts once
        if true is not None:
            found = _checked(path, scene, regions)
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
    hint = "`naruto-vision predict` writes it; without masks, leave --gt-masks away"
    raise MissingPathError(folder / PREDICTIONS, "file of masks", hint)


def _regions(path: Path, shown_only: bool) -> Iterable[tuple[str, list[Any]]]:
    """Yield the packed masks of one scene after the other."""
    try:
        for line in read_log(path):
            regions = [region for region in line["regions"] if region["shown"] or not shown_only]
            yield str(line["scene"]), [region["mask"] for region in regions]
    except ValueError as error:
        raise JsonError(path, error) from None
    except (KeyError, TypeError) as error:
        raise FormatError(path, "scenes with regions and masks", f"{type(error).__name__} {error}") from None


def _checked(path: str | Path, scene: str, records: Sequence[Any]) -> list[dict[str, Any]]:
    """Unpack and pack each mask once: what stands in a file may not reach the C library."""
    checked = []
    for record in records:
        try:
            mask = mask_from_rle(record if isinstance(record, dict) else {"counts": record})
        except ValueError as error:
            raise FormatError(path, f"masks of scene {scene!r}", str(error)) from None
        if mask.any():
            checked.append(rle_from_mask(mask))
    return checked


def _count(
    path: Path, scene: str, found: list[dict[str, Any]], true: list[dict[str, Any]], iou_match: float
) -> FragmentCounts:
    sizes = {tuple(record["size"]) for record in (*found, *true)}
    if len(sizes) > 1:
        listed = ", ".join(f"{height}x{width}" for height, width in sorted(sizes))
        raise FormatError(path, f"masks of scene {scene!r} of the size that the true ones have", listed)
    return count_encoded_fragments(found, true, iou_match=iou_match)
