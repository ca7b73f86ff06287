import numpy as np
import pytest

from naruto_vision.gallery.enrolment import apply_gamma, draw_gamma


def test_gamma_is_normal_around_one_and_clipped() -> None:
    drawn = np.array([draw_gamma(f"a/{number}.png", 42) for number in range(2000)])
    assert 0.85 <= drawn.min() < drawn.max() <= 1.15
    assert abs(drawn.mean() - 1.0) < 0.005
    assert abs(drawn.std() - 0.05) < 0.005
    assert draw_gamma("a/1.png", 42) == draw_gamma("a/1.png", 42)
    assert draw_gamma("a/1.png", 42) != draw_gamma("a/1.png", 43)


@pytest.mark.parametrize("gamma", [0.85, 1.0, 1.15])
def test_a_gamma_is_a_power_of_the_share_of_white(gamma: float) -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    expected = np.round(255 * (image / 255.0) ** gamma)
    assert np.array_equal(apply_gamma(image, gamma), expected)
