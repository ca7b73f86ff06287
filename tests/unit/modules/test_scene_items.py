"""Scenes of a loader through the analyzer: bad ones keep their place, times have the decoding, errors come late."""

from collections.abc import Iterable, Iterator, Mapping

import cv2
import numpy as np
import pytest
import torch

from naruto_vision.data.scenes import SceneItem
from naruto_vision.modules.scene_retriever import analyze_items
from naruto_vision.recognition.analyzer import SceneAnalyzer
from naruto_vision.records import ImageArray, ScenePrediction

IMAGE = np.zeros((6, 8, 3), np.uint8)


class Told(SceneAnalyzer):
    """Answers without looking, and keeps how it was asked."""

    def __init__(self, faults: Mapping[str, Exception] | None = None) -> None:
        self.faults = faults or {}
        self.groups: list[int | None] = []
        self.alone: list[str] = []

    def __call__(self, image: ImageArray, scene: str = "") -> ScenePrediction:
        self.alone.append(scene)
        if scene in self.faults:
            raise self.faults[scene]
        return ScenePrediction(scene, image.shape[1], image.shape[0], milliseconds={"segment": 2.0})

    def analyze_many(
        self, scenes: Iterable[tuple[ImageArray, str]], group: int | None = None
    ) -> Iterator[ScenePrediction]:
        self.groups.append(group)
        return (self(image, scene) for image, scene in scenes)


def items(*scenes: str) -> list[SceneItem]:
    return [
        SceneItem(scene, None if scene.startswith("bad") else IMAGE, error="no image", milliseconds=5.0)
        for scene in scenes
    ]


@pytest.mark.parametrize("group", [1, 8])
def test_a_scene_that_cannot_be_read_keeps_its_place(caplog: pytest.LogCaptureFixture, group: int) -> None:
    batch = items("bad0.png", "a.png", "bad1.png", "b.png", "bad2.png")
    answers = list(analyze_items(Told(), batch, group))
    assert [item for item, _ in answers] == batch
    assert [found.scene for _, found in answers] == [item.scene for item in batch]
    assert [(found.width, found.height) for _, found in answers] == [(1, 1), (8, 6), (1, 1), (8, 6), (1, 1)]
    assert [dict(found.milliseconds) for _, found in answers][:2] == [{}, {"decode": 5.0, "segment": 2.0}]
    assert len(caplog.messages) == 3


def test_the_last_scenes_of_a_run_are_a_group_like_the_others() -> None:
    analyzer = Told()
    list(analyze_items(analyzer, items("a.png", "bad.png", "b.png"), 4))
    list(analyze_items(analyzer, items("a.png")))
    assert analyzer.groups == [4, 1]


@pytest.mark.parametrize("group", [1, 8])
def test_what_comes_before_a_defect_is_given_first(group: int) -> None:
    answers: list[str] = []
    told = Told({"fails.png": TypeError("a defect")})
    stream = analyze_items(told, items("a.png", "b.png", "fails.png", "c.png"), group)
    with pytest.raises(TypeError, match="a defect"):
        answers.extend(item.scene for item, _ in stream)
    assert answers == ["a.png", "b.png"]


@pytest.mark.parametrize("group", [1, 2, 8])
@pytest.mark.parametrize("fault", [ValueError("height 0\nmore"), RuntimeError("out of memory"), cv2.error("assertion")])
def test_a_scene_that_fails_does_not_cost_the_others(group: int, fault: Exception) -> None:
    told = Told({"fails0.png": fault, "fails1.png": fault})
    batch = items("a.png", "fails0.png", "bad.png", "b.png", "fails1.png", "c.png")
    answers = list(analyze_items(told, batch, group))
    assert [item.scene for item, _ in answers] == [item.scene for item in batch]
    assert [item.scene for item, _ in answers if item.image is not None] == ["a.png", "b.png", "c.png"]
    first = str(fault).partition("\n")[0]
    assert answers[1][0].error == f"fails0.png: fails in the search ({type(fault).__name__}: {first})"
    assert answers[1][1].regions == ()


def test_a_device_that_is_lost_ends_the_run() -> None:
    told = Told({"fails.png": torch.AcceleratorError("lost")})
    with pytest.raises(torch.AcceleratorError):
        list(analyze_items(told, items("a.png", "fails.png", "b.png")))
