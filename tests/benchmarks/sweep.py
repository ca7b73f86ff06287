"""The sweep beside the plain grid on drawn scenes: figures found, points decoded, and batches beside single points.

Run ``PYTHONPATH=tests python -m benchmarks.sweep --scenes 40``.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

import naruto_vision as nv
from benchmarks.prompts import FIRST_SEED, FOUND, best_of, iou
from naruto_vision.io.bundles import config_path
from naruto_vision.metrics.stats import Rate
from naruto_vision.prompting.sweep import rows_of
from naruto_vision.records import ImageArray, Region
from naruto_vision.segmentation.generator import RegionFilter, Segmenter
from naruto_vision.segmentation.protocol import PromptableModel, Prompter, SceneEmbedding
from naruto_vision.synthetic.attributes import read_cast
from naruto_vision.synthetic.scene import SyntheticScene, draw_scene

ALL = RegionFilter(min_area=50, max_masks=None)
SAME = 0.99
"""IoU of masks that batches and single points have in common."""


class Found(NamedTuple):
    """The regions of one image, and the points that were decoded."""

    regions: Sequence[Region]
    decoded: int


Way: TypeAlias = Callable[[ImageArray, SceneEmbedding], Found]


def by_prompter(model: PromptableModel, prompter: Prompter) -> Way:
    """Decode every point of a prompter, and drop duplicates by box."""
    segmenter = Segmenter(prompter, model, keep=ALL)
    return lambda image, embedding: Found(segmenter(image, embedding), len(prompter(image).points))


def by_sweep(model: PromptableModel, config: nv.SweepConfig, *before: Prompter) -> Way:
    """Ask point after point."""
    segmenter = nv.SweepSegmenter(model, sweep=config, before=before)

    def ask(image: ImageArray, embedding: SceneEmbedding) -> Found:
        swept = segmenter.sweep(image, embedding)
        return Found(swept.regions, swept.decoded)

    return ask


def one_by_one(model: PromptableModel) -> Way:
    """Sweep in mode ``skip`` by its plain definition: one pass of the mask decoder for each point."""
    settings, points = nv.SweepConfig(), nv.ContourPrompter()

    def ask(image: ImageArray, embedding: SceneEmbedding) -> Found:
        prompts = points(image)
        ignored, regions = np.zeros(image.shape[:2], np.bool_), list[Region]()
        masks, decoded = list[np.ndarray](), 0
        for row, ((x, y),) in enumerate(prompts.points.astype(int).tolist()):
            if ignored[y, x]:
                continue
            decoded += 1
            (some,) = model.predict_masks(embedding, rows_of(prompts, [row]), -np.inf)
            best = int(some.ious.argmax())
            for full in model.full_masks(some.logits[best][None], embedding, 0.0, 1.0):
                region = Region(full.box, full.mask)
                mask = region.full_mask(*ignored.shape)
                if full.mask.sum() >= settings.min_area and all(iou(mask, one) <= settings.same_iou for one in masks):
                    regions.append(region)
                    masks.append(mask)
                    ignored |= mask
        return Found(regions, decoded)

    return ask


def ways(model: PromptableModel) -> dict[str, Way]:
    """Return what is compared."""
    trusted = model.thresholds.predicted_iou
    return {
        "grid of 16 x 16, all points": by_prompter(model, nv.GridPrompter(16)),
        "contours and grid, all points": by_prompter(model, nv.ContourPrompter()),
        "sweep, one point at a time": one_by_one(model),
        "sweep": by_sweep(model, nv.SweepConfig()),
        "sweep, every mask kept (reference)": by_sweep(model, nv.SweepConfig(same_iou=1.0)),
        "sweep, first mask": by_sweep(model, nv.SweepConfig(mask="first")),
        f"sweep, estimated IoU from {trusted:g}": by_sweep(model, nv.SweepConfig(predicted_iou=trusted)),
        "sweep, order by estimated IoU": by_sweep(model, nv.SweepConfig(order="iou")),
        "sweep, order from the centre": by_sweep(model, nv.SweepConfig(order="centre")),
        "sweep, masks above 25 % cover nothing": by_sweep(model, nv.SweepConfig(max_cover=0.25)),
        "sweep, salient objects first": by_sweep(model, nv.SweepConfig(), nv.SaliencyPrompter()),
        "subtract": by_sweep(model, nv.SweepConfig(mode="subtract")),
        "overlap_tolerance 0.5": by_sweep(model, nv.SweepConfig(mode="overlap_tolerance")),
        "overlap_tolerance 0.8": by_sweep(model, nv.SweepConfig(mode="overlap_tolerance", tolerance=0.8)),
    }


class Sums(NamedTuple):
    """What one way did on all scenes."""

    right: int = 0
    regions: int = 0
    decoded: int = 0
    seconds: float = 0.0


def count(scene: SyntheticScene, found: Found, before: Sums, seconds: float) -> Sums:
    """Add one scene."""
    masks = best_of(found.regions, scene).masks
    pairs = zip(masks, scene.objects, strict=True)
    right = sum(mask is not None and iou(mask, figure.mask) >= FOUND for mask, figure in pairs)
    return Sums(
        before.right + right,
        before.regions + len(found.regions),
        before.decoded + found.decoded,
        before.seconds + seconds,
    )


def equal_regions(scene: SyntheticScene, first: Found, second: Found) -> int:
    """Count the regions that two ways have in common, in order."""
    size = scene.image.shape[:2]
    pairs = zip(first.regions, second.regions, strict=False)
    return sum(iou(one.full_mask(*size), other.full_mask(*size)) >= SAME for one, other in pairs)


def main(argv: list[str] | None = None) -> int:
    """Print the tables as Markdown."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sweep", description="Sweeps beside the plain grid.")
    parser.add_argument("--scenes", type=int, default=40, help="(default: 40)")
    parser.add_argument("--orders", type=int, default=5, help="random orders of each scene (default: 5)")
    parser.add_argument("--weights", default="tiny-sam", help="promptable model (default: tiny-sam)")
    arguments = parser.parse_args(argv)
    model, cast = nv.SamModel(weights=arguments.weights).eval(), read_cast(config_path("cast.yaml"))
    compared, figures, same = ways(model), 0, 0
    sums, stability = dict.fromkeys(compared, Sums()), list[tuple[float, float]]()
    for number in range(arguments.scenes):
        scene = draw_scene(FIRST_SEED + number, cast)
        embedding, figures = model.embed(scene.image), figures + len(scene.objects)
        found = dict[str, Found]()
        for name, way in compared.items():
            start = time.process_time()
            found[name] = way(scene.image, embedding)
            sums[name] = count(scene, found[name], sums[name], time.process_time() - start)
        same += equal_regions(scene, found["sweep, one point at a time"], found["sweep"])
        if arguments.orders:
            measured = nv.SweepSegmenter(model).order_stability(scene.image, arguments.orders)
            stability.append((float(np.mean(measured.union_iou)), float(np.mean(measured.found))))
    lines = [f"{arguments.weights}, {figures} figures of {arguments.scenes} scenes", ""]
    lines.append(f"| way | found (IoU >= {FOUND:g}) | regions a scene | points decoded a scene | CPU ms a scene |")
    lines.append("|---|---|---|---|---|")
    for name, one in sums.items():
        low, high = Rate(one.right, figures).interval or (0.0, 0.0)
        cells = [f"{one.right}/{figures} [{low:.3f}, {high:.3f}]", f"{one.regions / arguments.scenes:.1f}"]
        cells += [f"{one.decoded / arguments.scenes:.0f}", f"{one.seconds / arguments.scenes * 1e3:.0f}"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    alone, batches = sums["sweep, one point at a time"], sums["sweep"]
    lines.append("")
    lines.append(f"in batches {alone.seconds / batches.seconds:.2f} times as fast as one point at a time (CPU time)")
    lines.append(f"the same regions: {same}/{alone.regions}")
    if stability:
        union, again = np.array(stability).T
        orders = f"{arguments.orders} random orders of each scene"
        lines.append(f"{orders}: union IoU {union.mean():.3f}, lowest scene {union.min():.3f}")
        lines.append(f"{orders}: regions found again {again.mean():.3f}, lowest scene {again.min():.3f}")
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
