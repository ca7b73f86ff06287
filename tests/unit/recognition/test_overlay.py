import itertools

import numpy as np

from naruto_vision.records import Box, Identity, Region, ScenePrediction
from naruto_vision.viz.overlay import draw_overlay, label_colours, place_tag


def overlap(first: Box, second: Box) -> bool:
    return first[0] <= second[2] and second[0] <= first[2] and first[1] <= second[3] and second[1] <= first[3]


def test_every_label_has_its_own_colour_and_keeps_it_in_any_order() -> None:
    labels = [f"label {i}" for i in range(12)]
    colours = label_colours(labels)
    assert len(set(colours.values())) == 12
    assert label_colours(labels[::-1]) == colours


def test_tags_of_figures_in_one_place_do_not_collide_and_stay_inside() -> None:
    taken: list[Box] = []
    for _ in range(4):
        taken.append(place_tag((40, 40, 120, 160), (50, 12), (200, 200), taken))
    assert not any(overlap(a, b) for a, b in itertools.combinations(taken, 2))
    assert all(tag[0] >= 0 and tag[1] >= 0 and tag[2] < 200 and tag[3] < 200 for tag in taken)


def test_a_box_at_the_top_edge_gets_its_tag_inside_the_image() -> None:
    assert place_tag((0, 0, 30, 30), (20, 10), (64, 64), [])[1] >= 0


def test_the_overlay_paints_shown_regions_only_and_leaves_the_source_alone() -> None:
    image = np.full((64, 96, 3), 200, dtype=np.uint8)
    mask = np.ones((20, 20), dtype=np.bool_)
    regions = (Region((4, 30, 23, 49), mask), Region((60, 30, 79, 49), mask))
    prediction = ScenePrediction("a.png", 96, 64, regions, (Identity("x", 0.9), Identity("y", 0.8)))
    drawn = draw_overlay(image, prediction, [0], label_colours(["x", "y"]))
    assert (image == 200).all()
    assert (drawn[40, 14] != 200).any()
    assert (drawn[40, 70] == 200).all()


def test_unknown_is_grey() -> None:
    image = np.zeros((64, 64, 3), dtype=np.uint8)
    region = Region((10, 30, 40, 60), np.ones((31, 31), dtype=np.bool_))
    prediction = ScenePrediction("a.png", 64, 64, (region,), (Identity("x", 0.2, known=False),))
    red, green, blue = draw_overlay(image, prediction, [0], label_colours(["x"]))[50, 25].tolist()
    assert red == green == blue > 0
