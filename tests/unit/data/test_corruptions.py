"""Corruptions: what they do at a strength, what they leave, and that they are the same each time."""

import numpy as np
import pytest

from naruto_vision.data.corruptions import CORRUPTIONS, SEVERITIES, corrupt, salt_and_pepper
from naruto_vision.records import ImageArray

KINDS = list(CORRUPTIONS)


def scene(height: int = 60, width: int = 90) -> ImageArray:
    """Smooth colours between 40 and 215, with an edge."""
    rows, columns = np.mgrid[0:height, 0:width]
    image = np.stack([40 + 175 * rows / height, 40 + 175 * columns / width, np.where(columns > width / 2, 200, 60)], -1)
    return image.round().astype(np.uint8)


@pytest.mark.parametrize(("amount", "changed"), [(0.0, 0), (0.05, 270), (0.5, 2700), (1.0, 5400)])
def test_salt_and_pepper_changes_exactly_a_share_of_the_pixels_half_to_white(amount: float, changed: int) -> None:
    image = scene()
    noisy = salt_and_pepper(image, amount, np.random.default_rng(0))
    white, black = (noisy == 255).all(-1), (noisy == 0).all(-1)
    assert (white.sum(), black.sum()) == (changed - changed // 2, changed // 2)
    assert (noisy[~white & ~black] == image[~white & ~black]).all()
    assert (image == scene()).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_larger_severity_changes_more_and_size_and_type_stay(kind: str) -> None:
    image, last = scene(), 0.0
    for severity in SEVERITIES:
        changed = corrupt(image, kind, severity, name="a.png", seed=3)
        assert (changed.shape, changed.dtype) == (image.shape, np.uint8)
        error = float(np.abs(changed.astype(float) - image).mean())
        assert error > last
        last = error
    assert (image == scene()).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_name_and_the_seed_decide_what_is_random(kind: str) -> None:
    image = scene()
    first = corrupt(image, kind, 3, name="a.png", seed=1)
    assert (first == corrupt(image, kind, 3, name="a.png", seed=1)).all()
    others = [corrupt(image, kind, 3, name=f"{other}.png", seed=seed) for other in "abcdef" for seed in (1, 2)]
    same = all((first == other).all() for other in others)
    assert same == (kind in {"blur", "jpeg", "resize"})
    assert corrupt(image, kind, 0) is image


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (7, 3)])
def test_tiny_images_are_corrupted_too(kind: str, size: tuple[int, int]) -> None:
    assert corrupt(scene(*size), kind, 5).shape == (*size, 3)


def test_blur_and_occlusion_are_the_same_at_every_size() -> None:
    for kind, allowed in (("blur", 0.35), ("occlusion", 0.05)):
        small, large = (
            float(np.abs(corrupt(image, kind, 4).astype(float) - image).mean()) for image in (scene(), scene(240, 360))
        )
        assert small == pytest.approx(large, rel=allowed), kind
