"""Gates: flawed images among good ones are found, and what is usual in a gallery or class is no flaw."""

import logging

import cv2
import numpy as np
import pytest
import torch

from naruto_vision.gallery.content import GalleryRow
from naruto_vision.gallery.enrolment import Enrolment, EnrolmentConfig
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.gallery.quality import failed_gates, find_flaws, gate_limits, measure_quality
from naruto_vision.records import ImageArray, Vectors


def drawn(seed: int, side: int = 160) -> ImageArray:
    """Draw coloured boxes with hard edges."""
    rng = np.random.default_rng(seed)
    image = np.full((side, side, 3), rng.integers(0, 256, 3), np.uint8)
    for _ in range(40):
        x, y = rng.integers(0, side - 12, 2)
        image[y : y + 12, x : x + 9] = rng.integers(0, 256, 3)
    return image


def blurred(image: ImageArray) -> ImageArray:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), 4), dtype=np.uint8)


def tiny(image: ImageArray) -> ImageArray:
    return np.asarray(cv2.resize(image, (12, 12), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def cut(image: ImageArray) -> ImageArray:
    padded = np.zeros_like(image)
    padded[:, :50] = image[:, -50:]
    return padded


def grey(image: ImageArray) -> ImageArray:
    return np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2).astype(np.uint8)


def gated(images: list[ImageArray], labels: list[str]) -> list[str]:
    return failed_gates(np.stack([measure_quality(image) for image in images]), labels)


SPOIL = {"blurred": blurred, "tiny": tiny, "cut off": cut, "grey": grey}


def test_each_flaw_is_found_among_good_images() -> None:
    images = [drawn(seed) for seed in range(20)]
    flawed = [change(drawn(30 + seed)) for seed, change in enumerate(SPOIL.values())]
    reasons = gated([*images, *flawed], ["a", "b"] * 12)
    assert reasons[:20] == [""] * 20
    assert reasons[20] == "blurred"
    assert reasons[21] in {"blurred", "tiny"}  # an enlarged thumbnail is blurred too
    assert reasons[22:] == ["cut off", "grey"]


@pytest.mark.parametrize("reason", SPOIL)
def test_what_a_whole_gallery_or_class_has_is_no_flaw(reason: str) -> None:
    flawed = [SPOIL[reason](drawn(seed)) for seed in range(6)]
    assert gated(flawed, ["a", "b"] * 3) == [""] * 6
    mixed = [*flawed[:4], *(drawn(40 + seed) for seed in range(9))]
    assert gated(mixed, ["a"] * 4 + ["b"] * 9) == [""] * 13


def test_a_class_keeps_three_images() -> None:
    images = [*(drawn(seed) for seed in range(12)), grey(drawn(20)), blurred(drawn(21))]
    labels = ["b"] * 10 + ["a"] * 4
    assert gated(images, labels) == [""] * 14
    assert gated([*images, drawn(22)], [*labels, "a"])[12:] == ["grey", "blurred", ""]


def test_an_added_image_is_compared_with_the_limits_of_its_gallery() -> None:
    limits = gate_limits(np.stack([measure_quality(drawn(seed)) for seed in range(9)]))
    assert not find_flaws(measure_quality(drawn(9))[None], limits).any()
    assert find_flaws(measure_quality(grey(drawn(9)))[None], limits).tolist() == [[False, False, False, True]]
    soft = gate_limits(np.stack([measure_quality(grey(blurred(drawn(seed)))) for seed in range(9)]))
    assert not find_flaws(measure_quality(grey(blurred(drawn(9))))[None], soft).any()


@pytest.mark.parametrize("shape", [(1, 1), (1, 60_000), (3000, 2)])
def test_images_of_any_shape_are_measured(shape: tuple[int, int]) -> None:
    found = measure_quality(np.full((*shape, 3), 200, np.uint8))
    assert found.tolist() == [1.0, min(shape), 1.0, 0.0]


def units(count: int) -> Vectors:
    values = np.random.default_rng(0).normal(size=(count, 16))
    return np.asarray(values / np.linalg.norm(values, axis=1, keepdims=True), dtype=np.float32)


def built(plan: EnrolmentConfig, images: list[ImageArray]) -> Gallery:
    enrolment = Enrolment()
    paths = [f"{number:02d}.png" for number in range(len(images))]
    enrolment.add(torch.from_numpy(units(len(images))), ["a"] * len(images), paths)
    enrolment.qualities.append(np.stack([measure_quality(image) for image in images]))
    return enrolment.build("0" * 64, "exact", plan, {"enrolment": {"listed": len(images)}})


def test_left_out_images_are_counted_and_named_and_can_be_kept(caplog: pytest.LogCaptureFixture) -> None:
    images = [*(drawn(seed) for seed in range(8)), grey(drawn(8))]
    with caplog.at_level(logging.INFO):
        gallery = built(EnrolmentConfig(gates=True), images)
    assert [row.path for row in gallery.rows] == [f"{number:02d}.png" for number in range(8)]
    assert gallery.rows[0] == GalleryRow("00.png", "a")
    assert gallery.note["left_out"] == [{"path": "08.png", "label": "a", "reason": "grey"}]
    counts = gallery.note["enrolment"]
    assert (counts["images"], counts["grey"], counts["kept"]) == (9, 1, 8)
    assert "8 of 9 images enrolled" in caplog.text
    assert "1 grey" in caplog.text
    with caplog.at_level(logging.INFO):
        kept = built(EnrolmentConfig(), images)
    assert "1 of 9 images may be flawed (1 grey), and are enrolled" in caplog.text
    assert len(kept) == 9
    assert "left_out" not in kept.note
