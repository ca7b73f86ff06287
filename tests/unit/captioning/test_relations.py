"""How regions lie to each other, by the definitions, and that the list stays short."""

import numpy as np
import pytest

import naruto_vision as nv
from naruto_vision.captioning.relations import DEFINITIONS, relation_lines
from naruto_vision.geometry import Box

SIZE = 200


def block(x1: int, y1: int, x2: int, y2: int) -> nv.Region:
    return nv.Region((x1, y1, x2, y2), np.ones((y2 - y1 + 1, x2 - x1 + 1), bool))


def ring(side: int) -> nv.Region:
    mask = np.ones((side, side), bool)
    mask[5:-5, 5:-5] = False
    return nv.Region((0, 0, side - 1, side - 1), mask)


def kinds(*regions: nv.Region) -> list[tuple[str, ...]]:
    return [each.kinds for each in nv.relate_regions(regions, SIZE, SIZE)]


@pytest.mark.parametrize(
    ("first", "second", "found"),
    [
        ((0, 0, 9, 9), (100, 0, 109, 9), ("left of",)),
        ((100, 0, 109, 9), (0, 0, 9, 9), ("right of",)),
        ((0, 0, 9, 9), (0, 100, 9, 109), ("above",)),
        ((0, 100, 9, 109), (100, 0, 109, 9), ("left of", "below")),
        ((0, 0, 9, 9), (15, 0, 24, 9), ("near", "left of")),
        ((0, 0, 9, 9), (5, 0, 14, 9), ("overlaps",)),
        ((0, 0, 9, 9), (9, 0, 18, 9), ("overlaps", "left of")),
        ((2, 2, 5, 5), (0, 0, 9, 9), ("inside",)),
        ((0, 0, 9, 9), (2, 2, 5, 5), ("contains",)),
    ],
)
def test_pairs_have_the_relations_of_the_definitions(first: Box, second: Box, found: tuple[str, ...]) -> None:
    assert kinds(block(*first), block(*second)) == [found]
    assert set(found) <= DEFINITIONS.keys()


def test_every_relation_has_a_definition_and_its_inverse() -> None:
    inverse = {"inside": "contains", "left of": "right of", "above": "below"}
    assert {*inverse, *inverse.values(), "overlaps", "near"} == DEFINITIONS.keys()
    for first, second in (((2, 2, 5, 5), (0, 0, 9, 9)), ((0, 100, 9, 109), (100, 0, 109, 9))):
        both = {**inverse, **{value: key for key, value in inverse.items()}}
        [one], [other] = kinds(block(*first), block(*second)), kinds(block(*second), block(*first))
        assert [both[kind] for kind in one] == list(other)


def test_a_region_in_the_hole_of_another_is_inside_it() -> None:
    [relation] = nv.relate_regions([block(20, 20, 30, 30), ring(60)], SIZE, SIZE)
    assert (relation.kinds, relation.shared) == (("inside",), 0)


def test_boxes_that_overlap_without_shared_pixels_are_near_only() -> None:
    corner = np.tri(20, dtype=bool)
    lower, upper = nv.Region((0, 0, 19, 19), corner), nv.Region((2, 0, 21, 19), ~corner)
    assert kinds(lower, upper)[0][0] == "near"


def test_shared_pixels_and_the_gap_are_stated() -> None:
    [relation] = nv.relate_regions([block(0, 0, 9, 9), block(5, 5, 14, 14)], SIZE, SIZE)
    assert relation.as_json() == {"a": 0, "b": 1, "relations": ["overlaps"], "gap": 0.0, "shared": 25}
    [relation] = nv.relate_regions([block(0, 0, 9, 9), block(13, 14, 20, 20)], SIZE, SIZE)
    assert relation.gap == 5.0


def test_the_list_grows_with_the_regions_not_with_their_square() -> None:
    spread = [block(40 * x, 40 * y, 40 * x + 3, 40 * y + 3) for x in range(10) for y in range(10)]
    relations = nv.relate_regions(spread, 400, 400)
    assert 100 <= len(relations) <= 500
    assert all(each.a < each.b for each in relations)


def test_no_region_and_one_region_have_no_relations() -> None:
    assert kinds() == kinds(block(0, 0, 3, 3)) == []


def test_relations_in_words() -> None:
    lines = relation_lines(nv.relate_regions([block(0, 0, 9, 9), block(2, 2, 5, 5), block(9, 0, 18, 9)], SIZE, SIZE))
    assert lines == ["D1 contains D2", "D1 overlaps and is left of D3", "D2 is near and is left of D3"]


def test_all_pairs_that_touch_are_listed() -> None:
    assert len(kinds(*[block(2 * x, 0, 2 * x + 30, 30) for x in range(9)])) == 9 * 8 // 2
