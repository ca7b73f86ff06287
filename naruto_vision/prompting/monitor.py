"""What a run of segmentation is watched by: times, scores, prompts, shapes of the masks; and alerts on them.

The limits are those of the reference system. Numbers of single masks (area, parts) are judged by their median in the
run, which for one image with one mask is that mask.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeAlias

import numpy as np

from naruto_vision.errors import InputError
from naruto_vision.prompting.session import SessionUse
from naruto_vision.recognition.writer import latency_percentiles

_SIZES = {0.5: "up to 0.5 MP", 1.0: "0.5 to 1 MP", 2.0: "1 to 2 MP", 4.0: "2 to 4 MP", float("inf"): "over 4 MP"}
"""Megapixels → the class of smaller images."""

_EDGES = tuple(
    round(0.1 * number, 1) for number in range(11)
)  # of the histogram of scores; those above 1 are in the last
_COMPARE: dict[str, Callable[[float, float], bool]] = {"<": operator.lt, ">": operator.gt, ">=": operator.ge}

Record: TypeAlias = Mapping[str, Any]
"""A line of ``predictions.jsonl``."""


@dataclass(frozen=True)
class MonitorLimits:
    """Limits of the alerts; the defaults are those of the reference system.

    Examples:
        >>> MonitorLimits.read(["p95_ms=500"]).p95_ms
        500.0
    """

    p95_ms: float = 3000.0  # most milliseconds of segmentation, in the 95th percentile of any class of image sizes
    median_score: float = 0.85  # least median of the images' best estimated IoU
    low_score: float = 0.7  # an estimated IoU below this is low
    low_share: float = 0.15  # most share of images whose best estimate is low
    points: float = 3.0  # per prompt, on average, from which on prompting is laborious
    background_share: float = 0.30  # most share of background points among all points
    least_area: float = 0.01  # least median share of the image that a mask covers
    most_area: float = 0.80  # most median share
    components: float = 5.0  # most parts of a mask, in the median
    retry_share: float = 0.40  # most share of sessions in which the prompts were changed after a prediction
    abandon_share: float = 0.20  # most share of sessions without an accepted mask

    @classmethod
    def read(cls, texts: Sequence[str]) -> "MonitorLimits":
        """Read limits such as ``p95_ms=500``; InputError if a name is unknown or a value is no number."""
        names, values = [each.name for each in fields(cls)], dict[str, float]()
        for text in texts:
            name, _, number = text.partition("=")
            try:
                value = float(number)
            except ValueError:
                value = float("nan")
            if name not in names or not value >= 0:
                raise InputError(f"--alert {text}: expected NAME=NUMBER, where NAME is one of {', '.join(names)}")
            values[name] = value
        return replace(cls(), **values)


@dataclass
class Monitor:
    """Collects the numbers of segmented images one by one; memory grows by a few numbers for each region.

    Examples:
        >>> monitor = Monitor()
        >>> region = {"area": 500, "predicted_iou": 0.9, "components": 1, "perimeter": 80.0, "points": []}
        >>> _ = monitor.add({"scene": "a.png", "width": 40, "height": 50, "regions": [region]}, {"segment": 20394.4})
        >>> monitor.alerts()
        ['segmenting images up to 0.5 MP: p95 in ms: 20394 > 3000 (p95_ms)']
    """

    limits: MonitorLimits = field(default_factory=MonitorLimits)
    times: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    values: dict[str, list[float]] = field(default_factory=dict)
    sessions: list[SessionUse] = field(default_factory=list)

    def add(self, record: Record, milliseconds: Mapping[str, float]) -> dict[str, float]:
        """Take one image's line and the milliseconds of its steps; returns its numbers, by name."""
        pixels, regions = record["width"] * record["height"], record["regions"]
        size = next(name for most, name in _SIZES.items() if pixels <= most * 1e6)
        self.times.setdefault(size, []).append({"ms": milliseconds.get("segment", 0.0)})
        best = max((region["predicted_iou"] for region in regions), default=None)
        own: dict[str, list[float]] = {"best_score": [] if best is None else [best], "regions": [len(regions)]}
        for region in regions:
            shape = {"area_share": region["area"] / pixels}
            if "points" in region:  # regions of `predict` have neither prompts nor outlines
                labels = [point["label"] for point in region["points"]]
                shape |= {"points": len(labels), "background": labels.count(0)}
                shape |= {
                    "components": region["components"],
                    "perimeter_area": region["perimeter"] / max(region["area"], 1),
                }
            for name, value in shape.items():
                own.setdefault(name, []).append(float(value))
        for name, values in own.items():
            self.values.setdefault(name, []).extend(values)
        numbers = {name: float(np.mean(values)) for name, values in own.items() if values}
        return {"ms": milliseconds.get("segment", 0.0), **numbers}

    def summary(self) -> dict[str, Any]:
        """Return all numbers as JSON values; None where there are no values."""
        values, limits = self.values, self.limits
        scores, shares = values.get("best_score", []), values.get("area_share", [])
        points, background = sum(values.get("points", [])), sum(values.get("background", []))
        counts, _ = np.histogram(np.clip(scores, 0.0, 1.0), _EDGES)
        low, high = limits.least_area, limits.most_area
        found: dict[str, Any] = {
            "ms_by_size": {size: latency_percentiles(rows)["ms"] for size, rows in sorted(self.times.items())},
            "best_score": {
                "images": len(scores),
                "median": _median(scores),
                "low_share": _share([score < limits.low_score for score in scores]),
                "histogram": dict(zip(map(str, _EDGES[:-1]), counts.tolist(), strict=True)),
            },
            "prompts": {
                "points": int(points),
                "points_each": points / len(values["points"]) if values.get("points") else None,
                "background_share": background / points if points else None,
            },
            "masks": {
                "count": len(shares),
                "outside_area": sum(not low <= share <= high for share in shares),
                **{name: _median(values.get(name, [])) for name in ("area_share", "perimeter_area", "components")},
            },
        }
        if self.sessions:
            found["sessions"] = {
                "count": len(self.sessions),
                "retry_share": _share([use.retries > 0 for use in self.sessions]),
                "abandon_share": _share([use.abandoned for use in self.sessions]),
            }
        return found

    def facts(self) -> dict[str, Any]:
        """Return what ``run.json`` has of it: the numbers and the alerts."""
        return {"monitor": self.summary(), "alerts": self.alerts()}

    def alerts(self) -> list[str]:
        """Return a line for each limit that the numbers are beyond."""
        found, masks = self.summary(), "the median mask"
        scores, prompts, sessions = found["best_score"], found["prompts"], found.get("sessions", {})
        rows: list[tuple[str, float | None, str, str]] = [
            *(
                (f"segmenting images {size}: p95 in ms", ms["p95"], ">", "p95_ms")
                for size, ms in found["ms_by_size"].items()
            ),
            ("median of the images' best estimated IoU", scores["median"], "<", "median_score"),
            (f"share of images whose best is below {self.limits.low_score:g}", scores["low_share"], ">", "low_share"),
            ("points of a prompt on average", prompts["points_each"], ">=", "points"),
            ("share of background points", prompts["background_share"], ">", "background_share"),
            (f"share of the image in {masks}", found["masks"]["area_share"], "<", "least_area"),
            (f"share of the image in {masks}", found["masks"]["area_share"], ">", "most_area"),
            (f"parts of {masks}", found["masks"]["components"], ">", "components"),
            ("share of sessions with another try", sessions.get("retry_share"), ">", "retry_share"),
            ("share of abandoned sessions", sessions.get("abandon_share"), ">", "abandon_share"),
        ]
        return [
            f"{what}: {value:{'.0f' if value >= 1000 else '.4g'}} {sign} {limit:g} ({name})"
            for what, value, sign, name in rows
            if value is not None and _COMPARE[sign](value, limit := float(getattr(self.limits, name)))
        ]


def _median(values: Sequence[float]) -> float | None:
    return float(np.median(values)) if len(values) else None


def _share(flags: Sequence[bool]) -> float | None:
    return sum(flags) / len(flags) if flags else None
