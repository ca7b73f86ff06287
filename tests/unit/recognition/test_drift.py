"""What a sample of scenes holds, and which differences between two samples are found and said."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from naruto_vision.errors import InputError
from naruto_vision.gallery.store import DRIFT
from naruto_vision.gallery.thresholds import Thresholds
from naruto_vision.recognition.drift import (
    compare_samples,
    drift_sentences,
    image_quality,
    read_sample,
    sample_line,
    sampled,
)
from naruto_vision.records import Identity, ImageArray, Region, ScenePrediction

IDENTITY = {"segmenter": "s", "encoder": "e", "gallery": "g"}


def drawing(seed: int) -> ImageArray:
    rng = np.random.default_rng(seed)
    image = np.full((48, 64, 3), rng.integers(80, 220, 3), np.uint8)
    for _ in range(6):
        x, y = rng.integers(0, 40, 2).tolist()
        cv2.rectangle(image, (x, y), (x + 12, y + 9), rng.integers(0, 255, 3).tolist(), -1)
    return image


def prediction(scene: str, seed: int, *, regions: int = 2, side: int = 8, shift: float = 0.0) -> ScenePrediction:
    rng = np.random.default_rng(seed)
    found = tuple(Region((0, 0, side - 1, side - 1), np.ones((side, side), np.bool_)) for _ in range(regions))
    identities = []
    for _ in range(regions):
        vector = rng.standard_normal(16) + shift * np.eye(16)[0]
        score, margin = rng.random(2).tolist()
        unit = (vector / np.linalg.norm(vector)).astype(np.float32)
        identities.append(Identity("Mira", score, known=score > 0.5, margin=margin, vector=unit))
    return ScenePrediction(scene, 64, 48, found, tuple(identities))


def write(folder: Path, lines: list[dict[str, Any]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / DRIFT).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def lines(
    first: int,
    count: int,
    change: Callable[[ImageArray], ImageArray] = lambda image: image,
    identity: dict[str, str] | None = None,
    name: str = "{}.png",
    **options: Any,
) -> list[dict[str, Any]]:
    return [
        sample_line(
            image_quality(change(drawing(seed))),
            prediction(name.format(seed), seed, **{"regions": seed % 4, **options}),
            IDENTITY if identity is None else identity,
        )
        for seed in range(first, first + count)
    ]


def compared(folder: Path, query: list[dict[str, Any]], reference: list[dict[str, Any]] | None = None) -> Any:
    before = write(folder / "before", lines(0, 40) if reference is None else reference)
    return compare_samples(read_sample(before), read_sample(write(folder / "now", query)), "at enrolment")


def drifted(found: dict[str, Any]) -> set[str]:
    return {name for name, one in found["figures"].items() if one["verdict"] == "drift"}


def test_the_same_200_scenes_are_sampled_whatever_else_is_there() -> None:
    names = [f"{number}.png" for number in range(1000)]
    chosen = sampled(names)
    assert len(chosen) == 200
    assert sampled(reversed(names)) == chosen
    assert sampled(names[:300]) >= chosen & set(names[:300])
    assert sampled(["\udce9.png"]) == {"\udce9.png"}


def test_quality_falls_as_images_are_spoilt() -> None:
    image = drawing(3)
    clean, blurred = image_quality(image), image_quality(cv2.GaussianBlur(image, (0, 0), 3))
    assert blurred["sharpness"] < clean["sharpness"] / 5
    assert blurred["luminance"] == pytest.approx(clean["luminance"], abs=2)
    grey = image_quality(np.full((2000, 1000, 3), 90, np.uint8))
    assert grey == {"sharpness": 0.0, "luminance": 90.0, "contrast": 0.0, "saturation": 0.0}


def test_a_line_has_the_figures_of_its_scene() -> None:
    line = sample_line({"sharpness": 1.0}, prediction("a.png", 0), IDENTITY, Thresholds(default=0.0))
    assert line["figures"] == {
        "sharpness": 1.0,
        "regions": 2,
        "area": 64 / (64 * 48),
        "margin": pytest.approx(np.mean([each.margin for each in prediction("a.png", 0).identities])),
        "unknown": 0.0,
    }
    assert sample_line({}, prediction("a.png", 0), IDENTITY, Thresholds(default=2.0))["figures"]["unknown"] == 1.0
    empty = sample_line({}, prediction("a.png", 0, regions=0), IDENTITY)
    assert empty["figures"] == {"regions": 0, "area": None, "margin": None, "unknown": None}
    assert (empty["count"], empty["vectors"]) == (0, "")


def test_scenes_of_one_source_have_not_drifted(tmp_path: Path) -> None:
    found = compared(tmp_path, lines(100, 30))
    assert not found["drifted"]
    assert {one["verdict"] for one in found["figures"].values()} == {"none"}
    assert (found["n_reference"], found["n_query"]) == (40, 30)
    assert list(drift_sentences(found)) == ["drift: none in 9 figures (30 scenes against 40 at enrolment)"]


def darker(image: ImageArray) -> ImageArray:
    return ((image / 255.0) ** 2 * 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("query", "figure"),
    [
        (lines(100, 30, darker), "luminance"),
        (lines(100, 30, lambda image: cv2.GaussianBlur(image, (0, 0), 3).astype(np.uint8)), "sharpness"),
        (lines(100, 30, lambda image: np.repeat(image[..., 1:2], 3, axis=2)), "saturation"),
        (lines(100, 30, regions=6), "regions"),
        (lines(100, 30, side=20), "area"),
        (lines(100, 30, shift=2.0), "vectors"),
    ],
)
def test_what_has_changed_is_found(tmp_path: Path, query: list[dict[str, Any]], figure: str) -> None:
    found = compared(tmp_path, query)
    assert found["drifted"]
    assert figure in drifted(found)
    one = found["figures"][figure]
    assert one["p"] <= one["adjusted_p"] < 0.01
    assert "margin" not in drifted(found)


def test_the_sentence_says_which_way_and_by_how_much(tmp_path: Path) -> None:
    first = next(line for line in drift_sentences(compared(tmp_path, lines(100, 30, darker))) if "luminance" in line)
    assert first.startswith("drift: image luminance is lower than at enrolment (median ")
    assert ", 30 scenes against 40, p = " in first
    (other,) = drift_sentences(compared(tmp_path, lines(100, 30, shift=2.0)))
    assert other.startswith("drift: query vectors differ from those at enrolment (MMD² 0.")


def test_few_scenes_are_not_tested(tmp_path: Path) -> None:
    found = compared(tmp_path, lines(100, 7, darker))
    assert not found["drifted"]
    assert list(drift_sentences(found)) == ["drift: too few scenes to test (7 < 10)"]
    found = compared(tmp_path, lines(100, 30), lines(0, 9))
    assert list(drift_sentences(found)) == ["drift: too few scenes at enrolment to test (9 < 10)"]


def test_frames_of_a_video_are_one_scene(tmp_path: Path) -> None:
    frames = [line for video in range(12) for line in lines(100 + video, 4, name=f"{video}.mp4/frame_{{}}")]
    found = compared(tmp_path, frames)
    assert found["n_query"] == 12
    assert not compared(tmp_path, lines(100, 30, darker, name="clip.mp4/frame_{}"))["drifted"]


@pytest.mark.parametrize(
    ("changed", "left"), [("gallery", 7), ("decision", 7), ("encoder", 6), ("mirror", 6), ("segmenter", 4)]
)
def test_what_another_model_has_made_is_not_compared(tmp_path: Path, changed: str, left: int) -> None:
    found = compared(tmp_path, lines(100, 30, identity={**IDENTITY, changed: "other"}, shift=2.0, side=20))
    assert sum("p" in one for one in found["figures"].values()) == left
    assert found["figures"]["margin"]["verdict"] == "not comparable"
    assert "not compared: " in [*drift_sentences(found)][-1]
    assert "margin, unknown share" in [*drift_sentences(found)][-1]


def test_the_last_line_of_a_scene_counts_and_only_scenes_of_the_run(tmp_path: Path) -> None:
    folder = write(tmp_path, [*lines(0, 12), *lines(0, 1, darker)])
    assert read_sample(folder).scenes == 12
    assert read_sample(folder).values["luminance"][0] == lines(0, 1, darker)[0]["figures"]["luminance"]
    assert read_sample(folder, ["3.png", "gone.png"]).scenes == 1


def other_length() -> dict[str, Any]:
    line = lines(2, 1)[0]
    return {**line, "scene": "other.png", "vectors": line["vectors"][:32]}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"vectors": "%%%"}, "2 finite vectors"),
        ({"vectors": "AAA"}, "2 finite vectors"),
        ({"vectors": "AHwAfA=="}, "2 finite vectors"),  # infinity
        ({"count": 3}, "3 finite vectors"),
        ({"vectors": ""}, "2 finite vectors, found none"),
        ({"count": 10**9}, "in count"),
        ({"count": -1}, "in count"),
        ({"figures": {"sharpness": float("nan")}}, "NaN, expected a finite number"),
        ({"figures": {"sharpness": 1e300}}, "figures below"),
        ({"figures": {"sharpness": 10**400}}, "figures"),
        ({"figures": {"sharpness": "0"}}, "a number"),
        (other_length(), "vectors of one length"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    first = lines(2, 1)[0]
    with pytest.raises(InputError, match=reason) as error:
        read_sample(write(tmp_path, [first, {**first, **change}]))
    assert DRIFT in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_or_a_huge_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no such sample of scenes; give the --out of an earlier `predict`"):
        read_sample(tmp_path)
    with (tmp_path / DRIFT).open("wb") as file:
        file.truncate(1 << 27)
    with pytest.raises(InputError, match="at most 67108864 bytes"):
        read_sample(tmp_path)
