"""Top-K picks: score steps, distinct boxes, and the wish for another label."""

import numpy as np
import pytest

from naruto_vision.records import Box, Identity, Region, ScenePrediction
from naruto_vision.viz.overlay import OverlayConfig, choose_for_overlay


def scene(*found: tuple[Box, str, float]) -> ScenePrediction:
    regions = tuple(Region(b, np.ones((b[3] - b[1] + 1, b[2] - b[0] + 1), dtype=np.bool_)) for b, _, _ in found)
    return ScenePrediction("s.png", 200, 100, regions, tuple(Identity(label, score) for _, label, score in found))


def places(count: int) -> list[Box]:
    return [(20 * k, 0, 20 * k + 9, 9) for k in range(count)]


REFERENCE = (0.80, 0.70, 0.60)


def test_the_score_steps_fall_back_until_none_is_left() -> None:
    found = scene(*zip(places(4), "abcd", (0.85, 0.75, 0.65, 0.55), strict=True))
    assert choose_for_overlay(found, OverlayConfig(top_k=2, steps=REFERENCE)) == (0, 1)
    assert choose_for_overlay(found, OverlayConfig(top_k=4, steps=REFERENCE)) == (0, 1, 2)  # 0.55 reaches no step
    assert choose_for_overlay(found, OverlayConfig(top_k=4)) == (0, 1, 2, 3)  # ours ends without a bar
    assert choose_for_overlay(found, OverlayConfig(steps=REFERENCE)) == (0, 1, 2, 3)  # only when K is set


def test_picks_are_distinct_boxes() -> None:
    found = scene(((0, 0, 9, 9), "a", 0.9), ((0, 0, 9, 4), "b", 0.85), ((50, 0, 59, 9), "c", 0.8))
    settings = OverlayConfig(nms_iou=1.1, top_k=2, steps=REFERENCE)  # the IoU of the first two is exactly 0.5
    assert choose_for_overlay(found, settings) == (0, 2)


@pytest.mark.parametrize(
    ("score", "within", "second"),
    [(0.82, 0.0, 2), (0.78, 0.10, 2), (0.78, 0.05, 1), (0.75, 0.10, 1)],
    ids=["above the step", "within", "too far", "far too far"],
)
def test_the_second_pick_may_be_another_label(score: float, within: float, second: int) -> None:
    found = scene(*zip(places(3), "aab", (0.9, 0.87, score), strict=True))
    settings = OverlayConfig(top_k=2, steps=REFERENCE, prefer_different_label=True, within=within)
    assert choose_for_overlay(found, settings) == (0, second)
    assert choose_for_overlay(found, OverlayConfig(top_k=2, steps=REFERENCE)) == (0, 1)


def test_a_score_threshold_holds_without_top_k() -> None:
    found = scene(*zip(places(3), "abc", (0.9, 0.7, 0.5), strict=True))
    assert choose_for_overlay(found, OverlayConfig(min_score=0.7)) == (0, 1)


def test_steps_that_rise_are_refused() -> None:
    with pytest.raises(ValueError, match="falling steps"):
        OverlayConfig(steps=(0.6, 0.7))
