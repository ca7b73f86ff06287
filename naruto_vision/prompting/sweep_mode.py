"""The sweep as a mode of ``naruto-vision segment``: regions, report and images."""

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

from naruto_vision.errors import BadImageError
from naruto_vision.prompting.mode import STEM, Segmented, SegmentMode
from naruto_vision.prompting.report import REPORT, ReportItem, analysis_report
from naruto_vision.prompting.sweep import SweepSegmenter, Swept
from naruto_vision.records import ImageArray
from naruto_vision.viz.sweep import draw_contours, draw_sweep

_LOG = logging.getLogger(__name__)


class SweepMode(SegmentMode):
    """Everything that a sweep finds in an image.

    The user's ``points`` come first in every image. ``orders``: also measure how stable the result is, in this many
    random orders of the points. ``model`` is the model's name in the report.

    Examples:
        >>> import naruto_vision as nv
        >>> import numpy as np
        >>> mode = SweepMode(nv.SweepSegmenter(nv.SamModel("tiny-sam"), nv.ContourPrompter(grid=(3, 2))))
        >>> sorted(mode(np.zeros((48, 64, 3), np.uint8)).texts)
        ['texts/{stem}_analysis_report.txt']
    """

    def __init__(
        self,
        segmenter: SweepSegmenter,
        points: Sequence[tuple[float, float]] = (),
        orders: int = 0,
        model: str = "",
    ) -> None:
        self.segmenter, self.points, self.orders = segmenter, tuple(points), orders
        self.model = model or str(getattr(segmenter.model, "architecture", type(segmenter.model).__name__))

    @property
    def identity(self) -> Mapping[str, Any]:
        """The fingerprint of model, points and settings, and the user's points."""
        own = {"points": [list(each) for each in self.points], "orders": self.orders}
        return {"segmenter": self.segmenter.fingerprint, "sweep": own}

    def __call__(self, image: ImageArray, name: str = "") -> Segmented:
        """Sweep an image (H, W, 3), uint8, RGB, upright; BadImageError if a point is outside."""
        height, width = image.shape[:2]
        for x, y in self.points:
            if not (0 <= x < width and 0 <= y < height):
                raise BadImageError(name, f"point {x:g},{y:g}: is outside the image of {width}x{height} pixels")
        start = time.perf_counter()
        (embedding,) = self.segmenter.embed_all([image])
        middle = time.perf_counter()
        swept = self.segmenter.sweep(image, embedding, points=self.points)
        spent = (time.perf_counter() - middle) * 1e3
        each = spent / max(1, swept.asked)
        facts = sweep_facts(swept)
        if self.orders:
            found = self.segmenter.order_stability(image, self.orders, embedding=embedding)
            facts["order_stability"] = stability = found.as_json()
        _LOG.info(
            "%s: %d regions of %d points in %.0f ms, %.1f ms a point, on %s; %.1f %% of the image is covered",
            name or "image",
            len(swept.regions),
            swept.asked,
            spent,
            each,
            getattr(self.segmenter.model, "device", "cpu"),
            swept.covered * 100,
        )
        if self.orders:
            again, same = stability["regions_found_again"]["mean"], stability["union_iou"]["mean"]
            shown = (name or "image", self.orders, again * 100, same)
            _LOG.info("%s: in %d random orders %.0f %% of the regions are found again, IoU of all pixels %.2f", *shown)
        rows, small = region_rows(swept), self.segmenter.points.reduce(image)
        return Segmented(
            swept.regions,
            images={
                f"images/{STEM}_visualization.png": draw_sweep(image, swept.regions, swept.points, swept.sources),
                f"images/{STEM}_contours_debug.png": draw_contours(small, swept.found.outlines, swept.found.centroids),
            },
            texts={f"texts/{STEM}{REPORT}": self._report(name, swept)},
            facts={"sweep": facts},
            region_facts=rows,
            note="" if rows else "nothing found: lower --min-area or --predicted-iou",
            milliseconds={
                "segment": (middle - start) * 1e3 + spent,
                "embed": (middle - start) * 1e3,
                "masks": spent,
                "point": each,
            },
        )

    def _report(self, name: str, swept: Swept) -> str:
        rows = zip(swept.regions, swept.sources, swept.points, strict=True)
        items = [ReportItem(region.box, source, point) for region, source, point in rows]
        return analysis_report(name, [f"Segmented by {self.model} (sweep, {self.segmenter.config.mode})"], items)


def region_rows(swept: Swept) -> tuple[dict[str, Any], ...]:
    """Return the JSON values of each region beside its box: name, point, source, pixels, and room for a description."""
    rows = zip(swept.regions, swept.points, swept.sources, strict=True)
    return tuple(
        {"name": f"D{number}", "point": list(point), "source": source, "mask_sum": region.area, "description": ""}
        for number, (region, point, source) in enumerate(rows, start=1)
    )


def sweep_facts(swept: Swept) -> dict[str, Any]:
    """Return the JSON values of a sweep beside its regions."""
    return {
        "points": len(swept.found.points),
        "contours": swept.found.sources.count("contour"),
        "asked": swept.asked,
        "decoded": swept.decoded,
        "skipped": dict(swept.skipped),
        "covered_percent": round(swept.covered * 100, 2),
        "size": list(swept.found.size[::-1]),
    }
