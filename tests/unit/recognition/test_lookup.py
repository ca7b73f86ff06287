import numpy as np
import pytest

from naruto_vision.gallery.content import GalleryRow
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.gallery.thresholds import Thresholds
from naruto_vision.recognition.lookup import ImageThreshold, look_up, measure_threshold
from naruto_vision.records import Vectors


def at(*degrees: float) -> Vectors:
    angles = np.deg2rad(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def gallery() -> Gallery:
    rows = [GalleryRow(f"{n}.png", label) for n, label in enumerate("aabb")]
    of_regions = Thresholds(1.0)  # which say nothing of whole images
    return Gallery.build(at(0, 10, 60, 90), rows, fingerprint="0" * 64, thresholds=of_regions)


def test_margins_are_over_the_best_row_of_another_label() -> None:
    (answer,) = look_up(gallery(), at(5), ["q.png"], "image", k=3)
    assert [hit.neighbour.label for hit in answer.hits] == ["a", "a", "b"]
    cosines = np.cos(np.deg2rad([5, 5, 55]))
    margins = [hit.margin for hit in answer.hits]
    assert margins == pytest.approx(
        [cosines[0] - cosines[2], cosines[1] - cosines[2], cosines[2] - cosines[0]], abs=1e-6
    )
    assert [hit.rank for hit in answer.hits] == [1, 2, 3]


def test_the_margin_looks_beyond_what_is_shown() -> None:
    (answer,) = look_up(gallery(), at(5), ["q.png"], "image", k=1)
    assert len(answer.hits) == 1
    assert answer.hits[0].margin is not None
    (alone,) = look_up(gallery(), at(5), ["q.png"], "image", k=1, votes=1)
    assert alone.hits[0].margin is None


def test_below_the_threshold_a_image_is_nobody_and_a_text_still_has_its_nearest() -> None:
    (image,) = look_up(gallery(), at(35), ["q.png"], "image", threshold=0.95)
    assert image.identity.name == "unknown"
    assert image.sentence().startswith("unknown: best guess is ")
    assert image.as_json()["answer"]["known"] is False
    (text,) = look_up(gallery(), at(35), ["pink hair"], "text", threshold=0.95)
    assert text.identity.known
    assert text.threshold is None
    assert text.as_json()["answer"]["known"] is None
    assert "texts have no threshold" in text.sentence()


def test_sentences_say_why() -> None:
    (known,) = look_up(gallery(), at(5), ["q.png"], "image", threshold=0.5)
    assert known.sentence() == "a (score 0.996, 0.423 ahead of the next label; threshold 0.500)"
    (free,) = look_up(gallery(), at(5), ["q.png"], "image", votes=1)
    assert free.sentence() == "a (score 0.996; no threshold, so no open-set rejection)"


def test_numbers_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(ValueError, match="1 vectors for 2 queries"):
        look_up(gallery(), at(5), ["q.png", "r.png"], "image")
    with pytest.raises(ValueError, match="0 rows shown"):
        look_up(gallery(), at(5), ["q.png"], "image", k=0)


def gallery_at(degrees: Vectors, paths: list[str] | None = None) -> Gallery:
    names = paths or [f"{n}.png" for n in range(len(degrees))]
    rows = [GalleryRow(name, "a" if angle < 90 else "b") for name, angle in zip(names, degrees, strict=True)]
    return Gallery.build(at(*degrees), rows, fingerprint="0" * 64)


def steps(count: int) -> Vectors:
    """Return angles whose distance to the next one rises: 1, 1, 2, 3 … times an eighth of a degree."""
    return np.cumsum([0, *range(1, count)]).astype(np.float32) / 8


def test_the_threshold_is_what_nineteen_of_twenty_images_reach_without_themselves() -> None:
    angles = steps(21)
    nearest = [min(abs(float(one) - float(other)) for other in angles if other != one) for one in angles]
    cosines = np.cos(np.deg2rad(nearest))
    found = measure_threshold(gallery_at(angles), votes=1)
    assert (found.searched, found.right) == (21, 21)
    assert found.score == pytest.approx(np.quantile(cosines, 0.05), abs=1e-6)
    assert found.score is not None
    assert (cosines >= found.score - 1e-6).sum() == 20  # of 21: the loosest image may fall below
    assert found.sentence() == (
        f"threshold {found.score:.3f}: of 21 gallery images searched among the others, 21 are named correctly, "
        "and 95% of these reach it"
    )


def test_the_variants_of_an_image_do_not_vote_for_it() -> None:
    angles = np.repeat(steps(21), 2)
    paths = [f"{n // 2}.png" for n in range(42)]
    assert measure_threshold(gallery_at(angles, paths), votes=1).score == pytest.approx(
        measure_threshold(gallery_at(steps(21)), votes=1).score, abs=1e-6
    )
    copies = measure_threshold(gallery_at(angles), votes=1)  # under names of their own they do
    assert copies.score == pytest.approx(1.0)


def test_images_that_are_named_wrong_do_not_count() -> None:
    angles = np.concatenate([steps(21), [179.0]]).astype(np.float32)  # the only one of its class
    found = measure_threshold(gallery_at(angles), votes=1)
    assert (found.searched, found.right) == (22, 21)
    assert found.score is not None
    assert found.score > 0.9


@pytest.mark.parametrize("count", [1, 2, 19])
def test_few_images_give_no_threshold(count: int) -> None:
    found = measure_threshold(gallery_at(steps(count)), votes=20)
    assert (found.score, found.searched) == (None, count)
    assert found.sentence().startswith(f"no threshold, no open-set rejection: of {count} gallery images")


def test_a_large_gallery_is_sampled_all_over() -> None:
    angles = np.linspace(0, 80, 700, dtype=np.float32)
    found = measure_threshold(gallery_at(angles), votes=5)
    assert (found.searched, found.right) == (500, 500)
    assert found == measure_threshold(gallery_at(angles), votes=5)


def test_a_threshold_is_a_cosine_or_none() -> None:
    with pytest.raises(ValueError, match="expected a cosine"):
        ImageThreshold(1.5)
    assert ImageThreshold(0.5).as_json() == {"score": 0.5, "asked": 0, "right": 0, "kept": None}
    assert ImageThreshold(0.5).sentence() == "threshold: as given"
