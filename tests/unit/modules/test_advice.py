"""What ``predict`` says of scenes that segmenter or gallery do not fit."""

from typing import Any

import pytest

from naruto_vision.modules.advice import advise_run


def _run(
    scenes: int = 40, empty: int = 0, nameless: int = 0, best: tuple[float, float, float] | None = (0.83, 0.8, 0.86)
) -> dict[str, Any]:
    facts = {"without_regions": empty, "without_names": nameless, "best_iou": best and list(best)}
    return {"counts": {"ok": scenes}, "scenes": facts}


@pytest.mark.parametrize(
    ("run", "masks"),
    [
        (_run(nameless=15), True),  # drawn scenes, thresholds from the gallery alone
        (_run(best=(0.79, 0.77, 0.81)), True),  # may be as on drawn scenes
        (_run(best=(0.6, 0.5, 0.7)), False),  # scores of a detector are no IoU
        (_run(scenes=9, empty=9, nameless=9, best=None), True),  # too few scenes
        (_run(empty=4), True),
        (_run(nameless=24), True),
    ],
)
def test_nothing_is_said_where_nothing_is_surely_wrong(run: dict[str, Any], masks: bool) -> None:
    assert advise_run(run, "scenes", masks=masks) == ""


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (
            _run(empty=20),
            "the segmenter does not fit these scenes: 20 of 40 have no region; certain; try boxes of about",
        ),
        (_run(best=(0.76, 0.73, 0.79)), "an IoU of only 0.76 [0.73, 0.79] of the best region of a scene; certain; try"),
        (
            _run(nameless=30),
            "unless its characters are not in them: 30 of 40 [0.60, 0.86] have no named region; certain",
        ),
    ],
)
def test_one_line_says_what_is_wrong_how_sure_and_what_to_do(run: dict[str, Any], said: str) -> None:
    line = advise_run(run, "my scenes", masks=True)
    assert said in line
    assert "\n" not in line
    assert line.count("`naruto-vision ") >= 2
    remedies = "fit --config regions.yaml --data.root 'my scenes'`, or SAM's official weights"
    assert (remedies in line) == ("segmenter" in line)
