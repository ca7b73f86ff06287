"""The truth of drawn scenes, class tables with and without quirks, seeds and plans."""

import csv
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco

from naruto_vision.records import Box, Mask
from naruto_vision.synthetic.attributes import random_attributes
from naruto_vision.synthetic.dataset import (
    SceneTruth,
    SyntheticConfig,
    TableRow,
    add_quirks,
    class_table,
    misspelt,
    seed_of,
)
from naruto_vision.synthetic.scene import Difficulty, SyntheticObject, SyntheticScene

_QUICK = settings(max_examples=30, deadline=None, derandomize=True)
_HEIGHT, _WIDTH = 12, 20
_NAMES = ("Änne", "Bo", "Cy")


def _mask(box: Box) -> Mask:
    mask = np.zeros((_HEIGHT, _WIDTH), dtype=np.bool_)
    mask[box[1] : box[3] + 1, box[0] : box[2] + 1] = True
    return mask


def _object(label: str | None, box: Box, parts: Sequence[str] = ()) -> SyntheticObject:
    who = random_attributes(np.random.Generator(np.random.PCG64(0)))
    return SyntheticObject(label, who, _mask(box), {part: _mask(box) for part in parts}, box)


def _scene(*objects: SyntheticObject, difficulty: Difficulty = "easy") -> SyntheticScene:
    return SyntheticScene(np.zeros((_HEIGHT, _WIDTH, 3), np.uint8), difficulty, objects)


def test_ids_count_from_one_over_all_scenes() -> None:
    truth = SceneTruth(_NAMES)
    truth.add("a.jpg", _scene(_object("Bo", (0, 0, 3, 3)), _object("Cy", (5, 5, 6, 6))))
    truth.add("b.jpg", _scene())
    truth.add("c.jpg", _scene(_object("Änne", (1, 1, 2, 2))))
    record = truth.coco()
    assert [image["id"] for image in record["images"]] == [1, 2, 3]
    assert [(one["id"], one["image_id"]) for one in record["annotations"]] == [(1, 1), (2, 1), (3, 3)]
    assert all(one["iscrowd"] == 0 for one in record["annotations"])


def test_categories_are_the_cast_in_order_and_strangers_last() -> None:
    truth = SceneTruth(_NAMES)
    truth.add("a.jpg", _scene(_object(None, (0, 0, 1, 1)), _object("Cy", (3, 3, 4, 4)), _object("Änne", (6, 6, 7, 7))))
    record = truth.coco()
    assert record["categories"] == [
        {"id": 1, "name": "Änne"},
        {"id": 2, "name": "Bo"},
        {"id": 3, "name": "Cy"},
        {"id": 4, "name": "unknown"},
    ]
    assert [one["category_id"] for one in record["annotations"]] == [4, 3, 1]


def test_strangers_are_in_the_masks_but_not_in_the_ground_truth() -> None:
    truth = SceneTruth(_NAMES)
    truth.add("a.jpg", _scene(_object(None, (0, 0, 1, 1)), _object("Bo", (3, 2, 9, 11))))
    truth.add("b.jpg", _scene(_object(None, (0, 0, 1, 1))))
    assert truth.gt == {"a.jpg": [{"bbox": [3, 2, 9, 11], "label": "Bo"}], "b.jpg": []}
    assert len(truth.annotations) == 3


def test_images_say_their_size_and_difficulty() -> None:
    truth = SceneTruth(_NAMES)
    truth.add("größe.jpg", _scene(difficulty="hard"))
    assert truth.images == [{"id": 1, "file_name": "größe.jpg", "width": 20, "height": 12, "difficulty": "hard"}]
    assert truth.difficulties == {"größe.jpg": "hard"}


@pytest.mark.parametrize("box", [(0, 0, 0, 0), (0, 0, 19, 11), (19, 11, 19, 11), (4, 1, 9, 10)])
def test_boxes_masks_and_parts_agree(box: Box) -> None:
    truth = SceneTruth(_NAMES)
    truth.add("a.jpg", _scene(_object("Bo", box, ("head", "legs"))))
    [one] = truth.annotations
    x1, y1, x2, y2 = box
    width, height = x2 - x1 + 1, y2 - y1 + 1
    assert one["bbox"] == [x1, y1, width, height]
    assert one["area"] == width * height
    assert one["segmentation"]["size"] == [_HEIGHT, _WIDTH]
    assert list(one["parts"]) == ["head", "legs"]
    for run_lengths in (one["segmentation"], *one["parts"].values()):
        assert isinstance(run_lengths["counts"], str)  # JSON has no bytes
        assert np.array_equal(coco.decode(run_lengths).astype(bool), _mask(box))


def test_two_collectors_share_nothing() -> None:
    one, other = SceneTruth(_NAMES), SceneTruth(_NAMES)
    one.add("a.jpg", _scene(_object("Bo", (0, 0, 1, 1))))
    assert other.coco()["images"] == other.coco()["annotations"] == []
    assert other.gt == {}


@pytest.mark.parametrize(("name", "typed"), [("", ""), ("A", "A"), ("Al", "Al"), ("Ann", "An"), ("Änne", "Äne")])
def test_names_are_misspelt_by_their_second_letter(name: str, typed: str) -> None:
    assert misspelt(name) == typed


def _rows(count: int, classes: Sequence[str]) -> list[TableRow]:
    return [TableRow(f"{k:03d}.jpg", (classes[k % len(classes)],)) for k in range(count)]


@_QUICK
@given(count=st.integers(0, 70), classes=st.integers(1, 5))
def test_quirks_add_rows_and_second_classes_and_keep_the_rest(count: int, classes: int) -> None:
    names = [f"c{k}" for k in range(classes)]
    rows = _rows(count, names)
    quirky = add_quirks(rows, names)
    assert len(quirky) == count + 1 + count // 20
    for k, (before, after) in enumerate(zip(rows, quirky, strict=False)):
        assert after.filename == before.filename
        assert after.labels[0] == before.labels[0]
        assert len(after.labels) == (2 if k % 17 == 16 else 1)
    for k, row in enumerate(quirky[count:]):
        assert row == TableRow(f"absent-{k:03d}.jpg", (names[k % classes],))


def test_the_second_class_is_the_next_and_the_last_wraps_round() -> None:
    rows = [TableRow(f"{k}.jpg", ("c",)) for k in range(17)]
    assert add_quirks(rows, ["a", "b", "c"])[16].labels == ("c", "a")
    rows = [TableRow(f"{k}.jpg", ("a",)) for k in range(17)]
    assert add_quirks(rows, ["a", "b", "c"])[16].labels == ("a", "b")


@_QUICK
@given(count=st.integers(0, 8), classes=st.integers(1, 4))
def test_a_tidy_table_reads_back(count: int, classes: int) -> None:
    names = [f"c{k}" for k in range(classes)]
    rows = _rows(count, names)
    text = class_table(rows, names)
    assert text.endswith("\n")
    header, *cells = list(csv.reader(text.splitlines()))
    assert header == ["filename", *names]
    found = [
        TableRow(row[0], tuple(name for name, one in zip(names, row[1:], strict=True) if one == "1")) for row in cells
    ]
    assert found == rows


def test_a_quirky_table_has_a_placeholder_in_the_middle_of_every_row() -> None:
    text = class_table(
        [TableRow("a.jpg", ("Dana",)), TableRow("b.jpg", ("Abe", "Bea"))], ["Abe", "Bea", "Cy", "Dana"], quirks=True
    )
    assert text.split("\n") == [
        "filename, Abe, Bea, Unlabeled, Cy, Dna",
        "a.jpg, 0, 0, 0, 0, 1",
        "b.jpg, 1, 1, 0, 0, 0",
    ]


def test_a_table_does_not_change_the_list_of_classes() -> None:
    classes = ["a", "b"]
    class_table([], classes, quirks=True)
    assert classes == ["a", "b"]


@_QUICK
@given(what=st.lists(st.one_of(st.integers(), st.text(max_size=5)), min_size=1, max_size=4))
def test_seeds_are_whole_numbers_that_fit_sixteen_hex_digits(what: list[object]) -> None:
    seed = seed_of(*what)
    assert 0 <= seed < 2**63
    assert seed == seed_of(*what)


def test_seeds_tell_their_purposes_apart() -> None:
    purposes = [
        (seed, split, name, k) for seed in (1, 2) for split in ("train", "test") for name in "ab" for k in range(50)
    ]
    assert len({seed_of(*what) for what in purposes}) == len(purposes)
    assert seed_of(1, 2) != seed_of(2, 1)


@pytest.mark.parametrize(
    ("plan", "members", "steps"),
    [
        (SyntheticConfig(train=3, valid=2, test=1, scenes=5, valid_scenes=7), 4, 36),
        (SyntheticConfig(train=0, valid=0, test=0, scenes=0, valid_scenes=0), 8, 0),
        (SyntheticConfig(train=1, valid=0, test=0, scenes=2, valid_scenes=0), 0, 2),
        (SyntheticConfig(), 8, 840),
    ],
)
def test_a_plan_counts_its_steps(plan: SyntheticConfig, members: int, steps: int) -> None:
    assert plan.steps(members) == steps


@pytest.mark.parametrize("field", ["train", "valid", "test", "scenes", "valid_scenes"])
def test_no_count_may_be_negative(field: str) -> None:
    with pytest.raises(ValueError, match=r"none below 0, found -2"):
        SyntheticConfig(**{field: -2})  # type: ignore[arg-type]  # one field of each type
    SyntheticConfig(**{field: 0})  # type: ignore[arg-type]  # one field of each type


@pytest.mark.parametrize("field", ["size", "picture_size"])
@pytest.mark.parametrize(("side", "good"), [(31, False), (32, True), (2048, True), (2049, False)])
def test_sides_have_bounds(field: str, side: int, good: bool) -> None:
    if good:
        SyntheticConfig(**{field: side})  # type: ignore[arg-type]  # one field of each type
    else:
        with pytest.raises(ValueError, match=rf"32 to 2048 pixels, found {side}"):
            SyntheticConfig(**{field: side})  # type: ignore[arg-type]  # one field of each type
