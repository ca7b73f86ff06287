"""What passes between rooms cannot be changed on the way: dataclasses are frozen, but for those that collect."""

import ast
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import numpy as np
import pytest

import naruto_vision
from naruto_vision.records import Box, Identity, LabelledBox, LabelledImage, Neighbour, Region, ScenePrediction

_ROOT = Path(naruto_vision.__file__).parent
_COLLECTORS = {"IndexReport", "Monitor", "Record", "ScannedImages", "SceneTruth", "_Open"}  # filled one by one
_LIVE = {"Context", "Engine", "Job", "StreamLoader", "_Request"}  # what is going on


def _dataclasses() -> dict[str, str]:
    """Return the decorator of every dataclass of the package, by name."""
    found: dict[str, str] = {}
    for file in _ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                words = [ast.unparse(item) for item in node.decorator_list]
                found |= {name: word for name, word in ((node.name, word) for word in words) if "dataclass" in word}
    return found


def test_only_what_collects_can_be_changed() -> None:
    found = _dataclasses()
    assert len(found) > 60
    assert {name for name, words in found.items() if "frozen=True" not in words} == _COLLECTORS | _LIVE


_PIXEL = Region((1, 2, 1, 2), np.ones((1, 1), np.bool_))


@pytest.mark.parametrize(
    ("record", "field"),
    [
        (Neighbour(0, "a", 0.5), "score"),
        (Identity("a", 0.5), "label"),
        (ScenePrediction("s", 4, 4), "scene"),
        (LabelledBox((0, 0, 1, 1), "a"), "box"),
        (LabelledImage("p", "a"), "label"),
        (_PIXEL, "box"),
    ],
)
def test_a_record_refuses_changes(record: object, field: str) -> None:
    with pytest.raises(FrozenInstanceError, match=field):
        setattr(record, field, None)


@pytest.mark.parametrize("box", [(-1, 0, 1, 1), (0, -1, 1, 1), (2, 0, 1, 1), (0, 2, 1, 1)])
def test_boxes_with_corners_in_another_order_are_refused(box: Box) -> None:
    with pytest.raises(ValueError, match=r"expected 0 <= x1 <= x2 and 0 <= y1 <= y2 in inclusive pixels"):
        LabelledBox(box, "a")
    with pytest.raises(ValueError, match="expected 0 <= x1 <= x2"):
        Region(box, np.ones((1, 1), np.bool_))


@pytest.mark.parametrize("score", [float("nan"), float("inf"), -float("inf")])
def test_a_score_is_finite(score: float) -> None:
    with pytest.raises(ValueError, match="identity 'ann': expected a finite score"):
        Identity("ann", score)


def test_a_name_is_the_label_only_where_it_is_known() -> None:
    known = Identity("ann", 0.5)
    assert (known.name, replace(known, known=False).name) == ("ann", "unknown")


def test_a_scene_holds_together() -> None:
    with pytest.raises(ValueError, match=r"scene s\.png: 1 regions but 0 identities"):
        ScenePrediction("s.png", 9, 9, (_PIXEL,))
    for width, height in ((1, 9), (9, 2)):
        with pytest.raises(ValueError, match=rf"box \(1, 2, 1, 2\) leaves the {width}x{height} image"):
            ScenePrediction("s.png", width, height, (_PIXEL,), (Identity("a", 0.5),))
    whole = ScenePrediction("s.png", 2, 3, (_PIXEL,), (Identity("a", 0.5),))
    assert whole.regions[0].full_mask(3, 2).sum() == 1


def test_scenes_do_not_share_their_times() -> None:
    assert ScenePrediction("a", 1, 1).milliseconds is not ScenePrediction("b", 1, 1).milliseconds
