"""Which prompt gives the better mask, on drawn scenes of a fixed seed, and the table of all kinds."""

import numpy as np
import pytest

from benchmarks.prompts import KINDS, Measured, Study, difference, main, mean_and_interval, measure
from naruto_vision.segmentation.sam import SamModel


def test_boxes_of_other_sizes_are_measured() -> None:
    kinds = ("box", "box, 20 % larger", "box, 20 % smaller")
    study = measure(SamModel(weights="tiny-sam").eval(), kinds, scenes=2, size=128)
    means = {kind: mean_and_interval(study.kinds[kind].ious)[0] for kind in kinds}
    assert len(set(means.values())) == 3
    assert means["box"] > 0.5


def test_the_table_has_every_kind_and_difficulty_with_its_figures(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--scenes", "2", "--kinds", "box", "1 point"]) == 0
    title, _, head, _, *rows, last = capsys.readouterr().out.splitlines()
    assert title == "tiny-sam, 4 figures of 2 scenes"
    assert head.endswith("| easy | medium | hard |")
    assert [row.split(" | ")[0] for row in rows] == ["| box", "| 1 point"]
    assert all("/4 [" in row for row in rows)
    assert last.startswith("box minus 1 point: ")


def test_a_difference_is_that_of_the_same_figures() -> None:
    first, second = [np.array([0.9, 0.5]), np.array([0.7])], [np.array([0.8, 0.4]), np.array([0.6])]
    study = Study(["easy", "hard"], {"a": Measured(first, 3, 0.0), "b": Measured(second, 3, 0.0)})
    assert difference(study, "a", "b") == pytest.approx((0.1, 0.1, 0.1))


@pytest.mark.slow
def test_a_box_beats_a_point_and_three_points_beat_one() -> None:
    study = measure(SamModel(weights="tiny-sam").eval(), ("box", "1 point", "3 points"), scenes=200)
    assert difference(study, "box", "1 point")[1] > 0  # the whole interval
    assert difference(study, "3 points", "1 point")[1] > 0


@pytest.mark.slow
def test_a_mask_as_a_prompt_helps_a_correction_and_does_no_harm_without_one() -> None:
    kinds = "box", "box, refined", "1 point, 1 correction", "1 point, 1 correction, with the mask"
    study = measure(SamModel(weights="tiny-sam").eval(), kinds, scenes=120)
    assert difference(study, kinds[3], kinds[2])[1] > 0  # the whole interval
    assert difference(study, kinds[1], kinds[0])[1] > -0.02


TAUGHT = {kind for kind in KINDS if kind.startswith(("exemplars", "text"))}


@pytest.mark.parametrize("kinds", [set(KINDS) - TAUGHT, pytest.param(TAUGHT, marks=pytest.mark.slow)])
def test_every_kind_answers(kinds: set[str]) -> None:
    study = measure(SamModel(weights="tiny-sam").eval(), sorted(kinds), scenes=1, size=96)
    assert {kind for kind, one in study.kinds.items() if one.regions > 0} == kinds
