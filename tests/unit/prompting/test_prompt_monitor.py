"""Alerts on times, scores, prompts, shapes and sessions, at the limits of the reference system."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from naruto_vision.errors import InputError
from naruto_vision.prompting.monitor import Monitor, MonitorLimits
from naruto_vision.prompting.session import SessionUse


def region(score: float = 0.9, area: int = 100, parts: int = 1, labels: tuple[int, ...] = ()) -> dict[str, Any]:
    points = [{"x": 1.0, "y": 1.0, "label": label} for label in labels]
    return {"predicted_iou": score, "area": area, "perimeter": 36.0, "components": parts, "points": points}


def watched(*regions: dict[str, Any], ms: float = 100.0, images: int = 1, limits: Sequence[str] = ()) -> Monitor:
    monitor = Monitor(MonitorLimits.read(limits))
    for _ in range(images):
        monitor.add({"scene": "a", "width": 20, "height": 50, "regions": list(regions)}, {"segment": ms})
    return monitor


def alerts(*regions: dict[str, Any], ms: float = 100.0) -> list[str]:
    return [line.rpartition("(")[2].rstrip(")") for line in watched(*regions, ms=ms).alerts()]


def test_a_good_run_has_no_alert() -> None:
    assert alerts(region()) == []
    assert alerts() == []  # no region is no score
    assert Monitor().alerts() == []


def test_times_are_kept_by_image_size_with_percentiles() -> None:
    monitor = watched(region(), ms=100.0, images=3)
    monitor.add({"scene": "b", "width": 2000, "height": 1500, "regions": []}, {"segment": 3001.0, "decode": 9.0})
    times = monitor.summary()["ms_by_size"]
    assert times["up to 0.5 MP"] == {"p50": 100.0, "p95": 100.0, "p99": 100.0, "scenes": 3}
    assert times["2 to 4 MP"]["p95"] == 3001.0
    assert monitor.alerts() == ["segmenting images 2 to 4 MP: p95 in ms: 3001 > 3000 (p95_ms)"]
    assert alerts(region(), ms=3000.0) == []


def test_low_scores_raise_an_alert() -> None:
    assert alerts(region(0.84)) == ["median_score"]
    assert alerts(region(0.85)) == []
    assert alerts(region(0.2), region(0.9)) == []  # the best of an image counts
    monitor = watched(region(0.95), images=16)
    for _ in range(3):
        monitor.add({"scene": "b", "width": 20, "height": 50, "regions": [region(0.69)]}, {})
    assert [line.rpartition("(")[2] for line in monitor.alerts()] == ["low_share)"]
    scores = monitor.summary()["best_score"]
    assert scores["low_share"] == pytest.approx(3 / 19)
    assert (scores["histogram"]["0.6"], scores["histogram"]["0.9"]) == (3, 16)
    assert watched(region(1.0119)).summary()["best_score"]["histogram"]["0.9"] == 1


def test_many_points_and_many_background_points_raise_an_alert() -> None:
    assert alerts(region(labels=(1, 1))) == []
    assert alerts(region(labels=(1, 1, 1))) == ["points"]
    assert alerts(region(labels=(1, 0))) == ["background_share"]
    prompts = watched(region(labels=(1, 1, 0)), region()).summary()["prompts"]
    assert prompts == {"points": 3, "points_each": 1.5, "background_share": pytest.approx(1 / 3)}


def test_masks_of_an_odd_size_or_in_pieces_raise_an_alert() -> None:
    assert alerts(region(area=10)) == alerts(region(area=800)) == []
    assert alerts(region(area=9)) == ["least_area"]
    assert alerts(region(area=801)) == ["most_area"]
    assert alerts(region(parts=5)) == []
    assert alerts(region(parts=6)) == ["components"]
    masks = watched(region(area=9), region(area=100)).summary()["masks"]
    assert (masks["count"], masks["outside_area"], masks["components"]) == (2, 1, 1.0)
    assert masks["perimeter_area"] == pytest.approx((36 / 9 + 36 / 100) / 2)


def test_retries_and_abandoned_sessions_raise_an_alert() -> None:
    monitor = Monitor(sessions=[SessionUse(2, 1, accepted=True)] * 2 + [SessionUse(1, 0, accepted=True)] * 3)
    assert monitor.alerts() == []
    monitor.sessions += [SessionUse(3, 2, accepted=False), SessionUse(1, 0, accepted=False)]
    assert [line.rpartition("(")[2] for line in monitor.alerts()] == ["retry_share)", "abandon_share)"]
    assert monitor.summary()["sessions"]["count"] == 7


def test_limits_are_options_and_regions_of_predict_have_no_prompts() -> None:
    assert watched(region(0.5), limits=["median_score=0.4", "low_share=1"]).alerts() == []
    plain = {"predicted_iou": 0.9, "area": 100}
    monitor = watched(plain)
    assert monitor.summary()["prompts"]["points_each"] is None
    json.dumps(monitor.summary(), allow_nan=False)
    for wrong in ("speed=3", "p95_ms", "p95_ms=fast", "p95_ms=-1", "p95_ms=nan"):
        with pytest.raises(InputError, match=r"--alert .*expected NAME=NUMBER, where NAME is one of p95_ms"):
            MonitorLimits.read([wrong])
