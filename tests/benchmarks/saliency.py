"""Recall of figures by the salient objects of an image and by a grid, with the prompts that each needs.

``python -m benchmarks.saliency SCENES``: a folder with ``images/`` and ``coco.json`` (all figures) or ``gt.json``.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from naruto_vision.geometry import area_xyxy, box_pixels, inclusive_iou_matrix, shared_pixel_matrix
from naruto_vision.io.images import read_image
from naruto_vision.metrics.scene import INSIDE, match_matrix
from naruto_vision.metrics.stats import wilson_interval
from naruto_vision.prompting.saliency import SaliencyMode, SaliencyPrompter
from naruto_vision.records import Box, ImageArray, Region
from naruto_vision.segmentation.generator import Segmenter
from naruto_vision.segmentation.prompts import GridPrompter
from naruto_vision.segmentation.sam import SamModel

Ways = dict[str, Callable[[ImageArray], tuple[int, Sequence[Region]]]]


def ways(model: SamModel) -> Ways:
    """Return what segments an image, by its name: the number of prompts, and the regions."""
    settings: dict[str, dict[str, Any]] = {
        "boxes (general)": {},
        "points": {"prompt_type": "point"},
        "boxes, split false": {"split": False},
        "many-small": {"num_objects": 20, "prompt_type": "point", "threshold": 0.5, "min_area": 50},
        "few-large": {"num_objects": 3, "threshold": 0.7, "min_area": 500},
        "maximum": {"num_objects": 50, "threshold": 0.4, "min_area": 20},
    }
    grid = Segmenter(GridPrompter(16), model)
    found: Ways = {"grid of 16 x 16": lambda image: (256, grid(image))}
    for name, each in settings.items():
        found[name] = _salient(SaliencyMode(SaliencyPrompter(**each), model, visualize=False))
    return found


def _salient(mode: SaliencyMode) -> Callable[[ImageArray], tuple[int, Sequence[Region]]]:
    def segment(image: ImageArray) -> tuple[int, Sequence[Region]]:
        found = mode(image)
        return len(found.facts["salient"]), found.regions

    return segment


def scenes(folder: Path) -> Iterator[tuple[Path, list[Box]]]:
    """Yield the images and the boxes of their figures."""
    truth: dict[str, list[Box]] = {}
    if (folder / "coco.json").is_file():
        coco = json.loads((folder / "coco.json").read_text(encoding="utf-8"))
        names = {image["id"]: image["file_name"] for image in coco["images"]}
        for row in coco["annotations"]:
            x, y, wide, high = row["bbox"]
            truth.setdefault(names[row["image_id"]], []).append((x, y, x + wide - 1, y + high - 1))
    else:
        for name, rows in json.loads((folder / "gt.json").read_text(encoding="utf-8")).items():
            truth[name] = [(x1, y1, x2, y2) for x1, y1, x2, y2 in (row["bbox"] for row in rows)]
    return ((folder / "images" / name, boxes) for name, boxes in sorted(truth.items()))


def main(argv: Sequence[str] | None = None) -> int:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.saliency")
    parser.add_argument("scenes", type=Path)
    folder = parser.parse_args(argv).scenes
    loaded = [(read_image(path), boxes) for path, boxes in scenes(folder)]
    total = sum(len(boxes) for _, boxes in loaded)
    heads = ("prompts from", "recall at IoU 0.5", "held by a region", "prompts", "regions", "median share", "CPU ms")
    sys.stdout.write(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}\n")
    for name, segment in ways(SamModel(weights="tiny-sam").eval()).items():
        recalled, held, prompts, regions, shares, start = 0, 0, 0, 0, list[float](), time.process_time()
        answers = [segment(image) for image, _ in loaded]
        took = (time.process_time() - start) / len(loaded) * 1e3
        for (image, truth), (asked, found) in zip(loaded, answers, strict=True):
            boxes = [region.box for region in found]
            prompts, regions = prompts + asked, regions + len(boxes)
            shares += [area_xyxy(box) / (image.shape[0] * image.shape[1]) for box in boxes]
            if boxes:
                recalled += len(match_matrix(inclusive_iou_matrix(truth, boxes), 0.5))
                inside = shared_pixel_matrix(truth, boxes) / box_pixels(truth)[:, None]
                held += int((inside >= INSIDE).any(axis=1).sum())
        cells = [_rate(recalled, total), _rate(held, total), f"{prompts / len(loaded):.1f}"]
        cells += [f"{regions / len(loaded):.2f}", f"{statistics.median(shares or [0.0]):.2f}", f"{took:.0f}"]
        sys.stdout.write(f"| {name} | {' | '.join(cells)} |\n")
    return 0


def _rate(count: int, total: int) -> str:
    low, high = wilson_interval(count, total)
    return f"{count}/{total} = {count / total:.3f} [{low:.3f}, {high:.3f}]"


if __name__ == "__main__":
    raise SystemExit(main())
