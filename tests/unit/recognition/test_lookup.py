import numpy as np
import pytest

from naruto_vision.gallery.content import GalleryRow
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.gallery.thresholds import Aim, Thresholds
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
    assert free.sentence() == "a (score 0.996; no threshold, so no image is unknown)"


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


def three(per_class: int, spread: float, seed: int = 0) -> tuple[Vectors, list[str]]:
    """Draw unit rows around three axes of eight."""
    rng = np.random.default_rng(seed)
    labels = [name for name in "abc" for _ in range(per_class)]
    rows = np.eye(8)[["abc".index(name) for name in labels]] + spread * rng.normal(size=(len(labels), 8))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), labels


def of_three(per_class: int = 20, spread: float = 0.2, paths: int = 1) -> Gallery:
    vectors, labels = three(per_class, spread)
    rows = [GalleryRow(f"{number // paths}.png", label) for number, label in enumerate(labels)]
    return Gallery.build(vectors, rows, fingerprint="0" * 64)


def test_the_threshold_keeps_the_cast_and_refuses_classes_that_were_left_out() -> None:
    found = measure_threshold(of_three())
    assert (found.searched, found.right) == (60, 60)
    assert found.score is not None
    assert found.kept >= 54
    assert found.rule.startswith("precision >= 0.9 on gallery images: of 60 gallery images named by the others, 60 are")
    assert f"keeps {found.kept} of 60 right names, lets through " in found.rule
    assert found.sentence() == f"threshold {found.score:.3f}: {found.rule}"
    stranger = np.eye(8, dtype=np.float32)[7:]
    (answer,) = look_up(of_three(), stranger, ["q.png"], "image", threshold=found.score)
    assert answer.identity.name == "unknown"
    fresh, labels = three(20, 0.2, seed=1)
    answers = look_up(of_three(), fresh, labels, "image", threshold=found.score)
    assert sum(one.identity.name == label for one, label in zip(answers, labels, strict=True)) >= 51


def test_another_aim_moves_the_threshold() -> None:
    strict, wide = (measure_threshold(of_three(), aim=aim) for aim in (Aim("false_accept", 0.0), Aim("coverage", 1.0)))
    assert strict.score is not None
    assert wide.score is not None
    assert wide.kept == 60
    assert strict.rule.startswith("false_accept <= 0 on gallery images")
    assert strict.rule.endswith("lets through 0 of 60 images of classes left out")
    assert strict.kept < 60 or strict.score >= wide.score


def test_two_classes_leave_nobody_to_refuse_so_nineteen_of_twenty_images_are_kept() -> None:
    found = measure_threshold(gallery_at(steps(21)), votes=1)
    assert (found.searched, found.right, found.kept) == (21, 21, 20)
    assert "left out" not in found.rule


def test_the_variants_of_an_image_do_not_vote_for_it() -> None:
    vectors, labels = three(20, 0.2)
    rows = [GalleryRow(f"{number}.png", label) for number, label in enumerate(labels) for _ in range(2)]
    twice = Gallery.build(np.repeat(vectors, 2, axis=0), rows, fingerprint="0" * 64)
    single, double = measure_threshold(of_three(), votes=1), measure_threshold(twice, votes=1)
    assert single.score is not None
    assert double.score == pytest.approx(single.score, abs=0.05)
    assert double.score < 0.999


@pytest.mark.parametrize("count", [1, 2, 19])
def test_few_images_give_no_threshold(count: int) -> None:
    found = measure_threshold(gallery_at(steps(count)), votes=20)
    assert (found.score, found.searched) == (None, count if count > 1 else 0)  # one image has no others
    assert found.sentence().startswith(f"no threshold, so no image is unknown: of {found.searched} gallery images")


def test_a_large_gallery_is_sampled_all_over() -> None:
    angles = np.linspace(0, 80, 700, dtype=np.float32)
    found = measure_threshold(gallery_at(angles), votes=5)
    assert (found.searched, found.right) == (600, 600)
    assert found == measure_threshold(gallery_at(angles), votes=5)


def test_a_threshold_is_a_cosine_or_none() -> None:
    with pytest.raises(ValueError, match="expected a cosine"):
        ImageThreshold(1.5)
    assert ImageThreshold(0.5).as_json() == {"score": 0.5, "asked": 0, "right": 0, "kept": None, "rule": ""}
    assert ImageThreshold(0.5).sentence() == "threshold: as given"
