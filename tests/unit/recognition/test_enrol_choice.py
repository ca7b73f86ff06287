"""Images of one label are enrolled whole, by their one region, or both: what names regions best."""

from typing import Any

import numpy as np
import pytest

from naruto_vision.gallery.content import GalleryRow
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.recognition.enrolment import Enrol, Rows, choose_enrolment, describe_enrolment, only_crop
from naruto_vision.recognition.open_set import gallery_thresholds
from naruto_vision.records import Box, ImageArray, Region, Vectors

NAMES = ("ayame", "kenta")


def _unit(rows: Any) -> Vectors:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def _rows(vectors: Vectors, ending: str = "") -> Rows:
    rows = [GalleryRow(f"{number:02d}.png{ending}", NAMES[number % 2]) for number in range(len(vectors))]
    return Rows(rows, vectors, vectors[:, :4])


def _world(own: float, seed: int = 0, count: int = 40) -> tuple[Rows, Rows]:
    """Whole images that say nothing of their class, but ``own`` of their region, which shows it."""
    rng = np.random.default_rng(seed)
    region = rng.normal(size=(count, 16)) * 0.3
    region[np.arange(count), np.arange(count) % 2] += 2.0
    whole = rng.normal(size=(count, 16)) + own * region
    return _rows(_unit(whole)), _rows(_unit(region), "#xywh=1,2,9,9")


RUNS = [None] * 40


def test_regions_are_enrolled_where_whole_images_do_not_name_them() -> None:
    whole, regions = _world(0.0)
    rows, heads, note = choose_enrolment(whole, regions, RUNS)
    assert (note["by"], note["images"], note["regions"], note["of"]) == ("region", 40, 40, 40)
    assert note["right"]["region"] == 40
    assert note["right"]["image"] < 32  # each is named without its own image
    assert [row.path for row in rows.rows] == [row.path for row in regions.rows]
    assert heads["rules"][heads["decision"]]["right"] == 40
    line = describe_enrolment(note)
    assert line.startswith("images are enrolled by their one region: 40 of 40 show one region; of 40 regions named by")
    assert "region 40, by both" in line


def test_an_image_without_one_region_is_enrolled_whole() -> None:
    whole, regions = _world(0.0)
    gone = Rows([GalleryRow("99.png#xywh=1,2,9,9", "ayame")], regions.vectors[:1], regions.colours[:1])
    rows, _, note = choose_enrolment(whole, regions.take(range(30)).also(gone), RUNS)  # the plan left 99.png out
    assert note["regions"] == 30
    paths = [f"{number:02d}.png" + "#xywh=1,2,9,9" * (number < 30) for number in range(40)]
    assert [row.path for row in rows.rows] == paths


def test_whole_images_stay_where_regions_say_nothing() -> None:
    regions, whole = _world(0.0)
    whole, regions = _rows(whole.vectors), _rows(regions.vectors, "#xywh=1,2,9,9")
    rows, _, note = choose_enrolment(whole, regions.take(range(10)), RUNS)
    assert (note["by"], note["right"]) == ("image", {})  # ten regions are too few
    assert rows.rows == whole.rows
    assert "too few or too many to compare" in describe_enrolment(note)


@pytest.mark.parametrize(("wanted", "count"), [("image", 40), ("region", 40), ("both", 80)])
def test_a_way_can_be_given(wanted: Enrol, count: int) -> None:
    rows, heads, note = choose_enrolment(*_world(0.0), RUNS, wanted)
    assert (note["by"], list(note["right"]), len(rows.rows)) == (wanted, [wanted], count)
    assert len({(row.path, row.label) for row in rows.rows}) == count
    gallery = Gallery.build(rows.vectors, rows.rows, fingerprint="0" * 64, note={"heads": heads, "enrol": note})
    assert gallery_thresholds(gallery, heads["decision"]).counts[""]["tested"] == 40  # regions, not both rows


def test_an_image_is_not_named_by_its_own_other_row() -> None:
    rng = np.random.default_rng(3)
    noise = _unit(rng.normal(size=(40, 16)))
    near = _unit(noise + 0.1 * rng.normal(size=(40, 16)))  # each region is nearest to its own image
    _, _, note = choose_enrolment(_rows(noise), _rows(near, "#xywh=1,2,9,9"), RUNS)
    assert max(note["right"].values()) < 34


@pytest.mark.parametrize(
    ("boxes", "found"),
    [([(2, 3, 11, 14)], (2, 3, 11, 14)), ([], None), ([(2, 3, 11, 14), (0, 0, 9, 9)], None), ([(2, 3, 8, 14)], None)],
)
def test_one_region_of_some_size_is_cut(boxes: list[Box], found: Box | None) -> None:
    image = np.arange(20 * 20 * 3, dtype=np.uint8).reshape(20, 20, 3)

    def segment(_: ImageArray) -> list[Region]:
        return [Region(box, np.ones((box[3] - box[1] + 1, box[2] - box[0] + 1), np.bool_)) for box in boxes]

    box, crop = only_crop(segment, image)  # type: ignore[arg-type]
    assert box == found
    assert np.array_equal(crop, image if box is None else image[3:15, 2:12])
