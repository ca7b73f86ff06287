"""From which score a whole image is known: nineteen of twenty gallery images reach it, none by its own rows."""

import numpy as np
import pytest

from naruto_vision.gallery.content import GalleryRow
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.recognition.lookup import ImageBar, measure_bar
from naruto_vision.records import Vectors


def at(degrees: Vectors) -> Vectors:
    angles = np.deg2rad(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def gallery(degrees: Vectors, paths: list[str] | None = None) -> Gallery:
    names = paths or [f"{n}.png" for n in range(len(degrees))]
    rows = [GalleryRow(name, "a" if angle < 90 else "b") for name, angle in zip(names, degrees, strict=True)]
    return Gallery.build(at(degrees), rows, fingerprint="0" * 64)


def steps(count: int) -> Vectors:
    """Return angles whose distance to the next one rises: 1, 1, 2, 3 … times an eighth of a degree."""
    return np.cumsum([0, *range(1, count)]).astype(np.float32) / 8


def test_the_bar_is_what_nineteen_of_twenty_reach_without_themselves() -> None:
    angles = steps(21)
    nearest = [min(abs(float(one) - float(other)) for other in angles if other != one) for one in angles]
    cosines = np.cos(np.deg2rad(nearest))
    bar = measure_bar(gallery(angles), votes=1)
    assert (bar.asked, bar.right) == (21, 21)
    assert bar.score == pytest.approx(np.quantile(cosines, 0.05), abs=1e-6)
    assert bar.score is not None
    assert (cosines >= bar.score - 1e-6).sum() == 20  # of 21: the loosest image may fall below
    assert bar.sentence() == (
        f"known from {bar.score:.3f}: of 21 gallery images asked of the others, 21 are named right, "
        "and 95% of these score as much"
    )


def test_a_image_s_variants_do_not_answer_for_it() -> None:
    angles = np.repeat(steps(21), 2)
    paths = [f"{n // 2}.png" for n in range(42)]
    assert measure_bar(gallery(angles, paths), votes=1).score == pytest.approx(
        measure_bar(gallery(steps(21)), votes=1).score, abs=1e-6
    )
    copies = measure_bar(gallery(angles), votes=1)  # under names of their own they do
    assert copies.score == pytest.approx(1.0)


def test_images_that_are_named_wrong_set_no_bar() -> None:
    angles = np.concatenate([steps(21), [179.0]]).astype(np.float32)  # the only one of its class
    bar = measure_bar(gallery(angles), votes=1)
    assert (bar.asked, bar.right) == (22, 21)
    assert bar.score is not None
    assert bar.score > 0.9


@pytest.mark.parametrize("count", [1, 2, 19])
def test_of_few_images_nothing_is_said(count: int) -> None:
    bar = measure_bar(gallery(steps(count)), votes=20)
    assert (bar.score, bar.asked) == (None, count)
    assert bar.sentence().startswith(f"nobody is unknown: of {count} gallery images")


def test_a_large_gallery_is_sampled_all_over() -> None:
    angles = np.linspace(0, 80, 700, dtype=np.float32)
    bar = measure_bar(gallery(angles), votes=5)
    assert (bar.asked, bar.right) == (500, 500)
    assert bar == measure_bar(gallery(angles), votes=5)


def test_a_bar_is_a_cosine_or_none() -> None:
    with pytest.raises(ValueError, match="expected a cosine"):
        ImageBar(1.5)
    assert ImageBar(0.5).as_json() == {"score": 0.5, "asked": 0, "right": 0, "kept": None}
    assert ImageBar(0.5).sentence() == "known from: as given"
