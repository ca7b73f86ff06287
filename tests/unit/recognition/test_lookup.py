import numpy as np
import pytest

from naruto_vision.gallery.content import GalleryRow
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.gallery.thresholds import Thresholds
from naruto_vision.recognition.lookup import Hit, look_up
from naruto_vision.records import Neighbour, Vectors


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
    assert known.sentence() == "a (score 0.996, 0.423 ahead of the next label; known from 0.500)"
    (free,) = look_up(gallery(), at(5), ["q.png"], "image", votes=1)
    assert free.sentence() == "a (score 0.996; without a threshold nobody is unknown)"


def test_numbers_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(ValueError, match="1 vectors for 2 queries"):
        look_up(gallery(), at(5), ["q.png", "r.png"], "image")
    with pytest.raises(ValueError, match="0 rows shown"):
        look_up(gallery(), at(5), ["q.png"], "image", k=0)
    with pytest.raises(ValueError, match="rank of 1"):
        Hit(0, Neighbour(0, "a", 1.0), None)
