"""Write the files of segmented images: one line in ``predictions.jsonl`` each, overlays, COCO; resumable.

An image's line comes last and means "done", as in ``recognition/writer.py``, whose logs these are.
"""

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np
import torch

from naruto_vision.errors import BadImageError, first_line
from naruto_vision.io.atomic import remove_leftovers, write_json, write_text
from naruto_vision.io.images import IMAGE_FAULTS, read_image, write_image
from naruto_vision.io.quarantine import Quarantine
from naruto_vision.io.typed_json import read_json_lines
from naruto_vision.prompting.mode import STEM, Segmented, SegmentMode
from naruto_vision.recognition.coco import CocoObject, CocoScene, write_coco
from naruto_vision.recognition.writer import (
    COCO,
    LOG,
    RUN,
    TIMES,
    SceneLog,
    as_line,
    latency_percentiles,
    output_stems,
    refuse_other_results,
    source_digest,
)
from naruto_vision.records import ImageArray, Mask, Region
from naruto_vision.viz.overlay import DrawnRegion, draw_regions, label_colours

OVERLAYS = "overlay"
LABEL = "region"
"""The category of regions without a label."""

_DIGITS = 6
_DAMAGED = "the results are damaged: give another --out, or remove the folder"


class SegmentWriter:
    """Writes segmented images into a folder.

    ``done`` are the images that are finished, also by earlier runs; ``absent`` those that are not among the images of
    this run; their results are kept, and not counted.
    """

    def __init__(self, out: str | Path, images: Sequence[str], identity: Mapping[str, Any]) -> None:
        self.out = Path(out)
        self._order = {name: index for index, name in enumerate(images)}
        self._identity = json.loads(json.dumps(dict(identity)))  # as it is read again
        self.out.mkdir(parents=True, exist_ok=True)
        remove_leftovers(self.out)
        self.done: set[str] = {record["scene"] for record, _ in read_results(self.out)}
        if self.done:
            refuse_other_results(self.out, self._identity, "--force to replace them")
        self.absent = self.done - self._order.keys()
        self._stems = output_stems([*self._order, *sorted(self.absent)])
        self._log, self._times = SceneLog(self.out / LOG), SceneLog(self.out / TIMES, self.done)
        write_json(self.out / RUN, {"state": "running", "identity": self._identity})

    def records(self) -> Iterator[tuple[dict[str, Any], dict[str, float]]]:
        """Yield the lines of this run's finished images, each with the milliseconds of its steps."""
        return ((record, steps) for record, steps in read_results(self.out) if record["scene"] in self._order)

    def write(
        self, name: str, image: ImageArray, found: Segmented, sha256: str, milliseconds: Mapping[str, float]
    ) -> dict[str, Any]:
        """Write everything of one image, and return its line."""
        stem = self._stems[name]
        for ending, drawn in found.images.items():
            write_image(self._file(stem, ending), drawn)
        for ending, text in found.texts.items():
            write_text(self._file(stem, ending), text)
        write_image(self.out / OVERLAYS / f"{stem}_overlay.jpg", _overlay(image, found))
        record = image_document(name, image.shape[:2], found, sha256)
        self._times.append(as_line({"scene": name, **{step: round(value, 3) for step, value in milliseconds.items()}}))
        self._log.append(as_line(record))
        self.done.add(name)
        return record

    def _file(self, stem: str, ending: str) -> Path:
        """Return the path of a file: folders in front of the stem come before those of the image."""
        whole = PurePosixPath(stem)
        before, named, after = ending.partition(STEM)
        if not named:
            return self.out / (stem + ending)
        folder, _, prefix = before.rpartition("/")
        return self.out / folder / whole.parent / (prefix + whole.name + after)

    def close(self) -> None:
        """Close the logs."""
        self._log.close()
        self._times.close()

    def finish(self, quarantined: Sequence[tuple[str, str]], facts: Mapping[str, Any]) -> dict[str, Any]:
        """Write ``coco.json`` and ``run.json``, and return the latter; called after ``close``."""
        regions, notes, times = 0, Counter[str](), []
        for record, steps in self.records():
            regions += len(record["regions"])
            notes.update(filter(None, [record.get("note", "")]))
            times.append(steps)
        write_coco(self.out / COCO, self._coco_scenes, ())
        bad = [{"scene": scene, "reason": reason} for scene, reason in sorted(quarantined)]
        counts = {"seen": len(times) + len(bad), "ok": len(times), "quarantined": len(bad), "regions": regions}
        run = {
            "state": "done",
            "identity": self._identity,
            "counts": counts | ({"absent": len(self.absent)} if self.absent else {}),
            "quarantined": bad,
            "notes": dict(notes),
            "latency_ms": latency_percentiles(times),
            **facts,
        }
        write_json(self.out / RUN, run)
        return run

    def _coco_scenes(self) -> Iterator[CocoScene]:
        for record, _ in self.records():
            objects = [_coco_object(region) for region in record["regions"]]
            number = self._order[record["scene"]] + 1
            yield CocoScene(number, record["scene"], record["width"], record["height"], objects)


def segment_file(
    mode: SegmentMode, writer: SegmentWriter, quarantine: Quarantine, name: str, path: Path
) -> tuple[dict[str, Any], dict[str, float]] | None:
    """Segment one image with a mode, write its files, and count it, or why it cannot be used, in a quarantine.

    Returns its line of ``predictions.jsonl``, and the milliseconds of its steps; None if it cannot be used.
    """
    start = time.perf_counter()
    image = quarantine.read(name, partial(read_image, path))
    if image is None:
        return None
    middle = time.perf_counter()
    try:
        found = mode(image, name)
    except BadImageError as error:
        quarantine.refuse(name, str(error))
    except torch.AcceleratorError:  # the device is unusable from now on
        raise
    except IMAGE_FAULTS as error:
        reason = first_line(error)
        quarantine.refuse(name, f"{name}: fails in the segmentation ({type(error).__name__}: {reason})")
    else:
        end = time.perf_counter()
        times = {"decode": (middle - start) * 1e3, "segment": (end - middle) * 1e3, **found.milliseconds}
        return writer.write(name, image, found, source_digest(path.parent, path.name), times), times
    return None


def read_results(out: str | Path) -> Iterator[tuple[dict[str, Any], dict[str, float]]]:
    """Yield the lines of ``predictions.jsonl`` in a folder of results, each with the milliseconds of its steps."""
    lines = read_json_lines(Path(out) / TIMES, dict[str, Any], hint=_DAMAGED)
    times = {line.pop("scene", ""): line for line in lines}
    for record in read_json_lines(Path(out) / LOG, dict[str, Any], hint=_DAMAGED):
        yield record, times.get(record["scene"], {})


def _coco_object(region: Mapping[str, Any]) -> CocoObject:
    extra = {"score": region["predicted_iou"]}
    return CocoObject(str(region.get("label") or LABEL), tuple(region["bbox"]), region["mask"], region["area"], extra)


def _overlay(image: ImageArray, found: Segmented) -> ImageArray:
    """Draw every region, the smallest on top, with its label or its number."""
    rows = found.region_facts or ({},) * len(found.regions)
    tags = [str(facts.get("name") or facts.get("label") or number) for number, facts in enumerate(rows, start=1)]
    colours = label_colours(tags)
    order = sorted(range(len(tags)), key=lambda index: found.regions[index].area)
    return draw_regions(image, [DrawnRegion(found.regions[i], colours[tags[i]], tags[i]) for i in order])


def image_document(name: str, size: tuple[int, int], found: Segmented, sha256: str = "") -> dict[str, Any]:
    """Return an image's line of ``predictions.jsonl``, with the keys of ``record_document`` as far as they apply."""
    height, width = size
    rows = found.region_facts or ({},) * len(found.regions)
    regions = [{**region_document(region, size), **facts} for region, facts in zip(found.regions, rows, strict=True)]
    source = {"scene": name, **({"sha256": sha256} if sha256 else {}), "width": width, "height": height}
    return {**source, **({"note": found.note} if found.note else {}), **found.facts, "regions": regions}


def region_document(region: Region, size: tuple[int, int]) -> dict[str, Any]:
    """Return the JSON values of a region of an image (height, width)."""
    prompt, mask = region.prompt, region.mask
    return {
        "bbox": list(region.box),
        "area": region.area,
        "mask": region.rle(*size),
        "prompt": prompt.name,
        "points": [{"x": x, "y": y, "label": int(on)} for x, y, on in prompt.points],
        "box": None if prompt.box is None else list(prompt.box),
        "confidence": prompt.confidence,
        "predicted_iou": round(region.predicted_iou, _DIGITS),
        "stability": round(region.stability, _DIGITS),
        "perimeter": round(perimeter(mask), 3),
        "components": components(mask),
    }


def perimeter(mask: Mask) -> float:
    """Sum the lengths of the external contours of a mask (H, W), bool, through the centres of its border pixels."""
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return float(sum(cv2.arcLength(contour, closed=True) for contour in contours))


def components(mask: Mask) -> int:
    """Count the parts of a mask (H, W), bool, that touch each other nowhere, not even at a corner."""
    return int(cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)[0]) - 1
