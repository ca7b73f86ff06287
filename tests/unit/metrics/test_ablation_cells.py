"""Cells of an ablation from known counts: order, intervals, paired tests, spread, and galleries of other rows."""

import csv
import io
from collections.abc import Sequence
from typing import Any

import pytest

from naruto_vision.metrics.ablation import Cell, Run, ablation_csv, ablation_document, learning_curves
from naruto_vision.metrics.stats import holm, mcnemar_exact, wilson_interval
from naruto_vision.metrics.tables import table_markdown

FIGURES = ("object_accuracy", "recall", "shown_accuracy")


def run(right: Sequence[int], objects: int = 1, seed: int = 42, rows: str = "a", gallery: int = 6) -> Run:
    """Scenes with the same number of objects, each figure with the same right ones."""
    scenes = {str(number): dict.fromkeys(FIGURES, (float(count), float(objects))) for number, count in enumerate(right)}
    return Run(seed, gallery, 3, rows, scenes)


def cell(*runs: Run, **levels: str) -> Cell:
    return Cell({"encoder": "one", "images": "0", **levels}, runs)


def named(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in document["cells"]}


def test_cells_are_compared_with_the_best_by_an_exact_test_over_scenes() -> None:
    good, fair, bad = [1] * 10, [1] * 9 + [0], [0] * 8 + [1] * 2
    cells = [cell(run(right), encoder=name) for name, right in (("bad", bad), ("good", good), ("fair", fair))]
    document = ablation_document("T", cells)
    assert list(document["rows"]) == ["good", "fair", "bad"]
    assert (document["baseline"], document["scenes"], document["objects"]) == ("good", 10, 10)
    found = named(document)
    expected = [mcnemar_exact(1, 0), mcnemar_exact(8, 0)]  # scenes of one object
    assert [found[name]["p"] for name in ("fair", "bad")] == expected
    assert [found[name]["p_holm"] for name in ("fair", "bad")] == holm(expected)
    assert found["bad"]["difference"]["value"] == pytest.approx(-0.8)
    assert -1 <= found["bad"]["difference"]["low"] < -0.8 < found["bad"]["difference"]["high"] < 0
    low, high = wilson_interval(10, 10)  # nothing to resample
    assert (found["good"]["figures"]["object_accuracy"]["low"], found["good"]["p"]) == (low, None)
    assert high == 1.0
    text = table_markdown(document)
    assert "| good | 10/10 = 1.000 [0.722, 1.000] | [0.722, 1.000] | 10/10 = 1.000 [0.722, 1.000] |" in text
    assert "differences from it are overstated" in text
    assert "no fair comparison" not in text


def test_objects_of_one_scene_count_as_one_fact() -> None:
    first, second = cell(run([9, 9, 0], 10)), cell(run([1, 9, 0], 10), encoder="two")
    assert named(ablation_document("T", [first, second]))["two"]["p"] == 1.0  # eight objects, but one scene


def test_seeds_are_averaged_and_their_spread_is_said() -> None:
    seeded = cell(run([1, 1, 0, 0], seed=1), run([1, 1, 1, 0], seed=2), images="2")
    all_images = cell(run([1, 1, 1, 1], rows="b", gallery=12))
    document = ablation_document("T", [seeded, all_images], baseline=seeded)
    found = named(document)
    assert found["2"]["spread"] == {"n": 2, "mean": 0.625, "low": 0.5, "high": 0.75}
    assert found["2"]["figures"]["object_accuracy"]["value"] == 0.625
    assert document["rows"]["2"][:3] == [0.625, "[0.125, 1.000]", "2: 0.500 to 0.750"]
    assert found["0"]["difference"]["value"] == pytest.approx(0.375)
    assert (found["2"]["same_rows"], found["0"]["same_rows"]) == (True, False)
    assert document["rows"]["0"][5] == "12 ≠"
    assert "other rows than the baseline's, so this is no fair comparison" in document["note"]
    assert "overstated" not in document["note"]
    curve = learning_curves(document)["all"]
    assert [point[:2] for point in curve] == [(2.0, 0.625), (4.0, 1.0)]


def test_csv_has_a_column_for_each_factor() -> None:
    document = ablation_document("T", [cell(run([1, 0])), cell(run([0, 0]), encoder="two")])
    rows = list(csv.DictReader(io.StringIO(ablation_csv(document))))
    assert [(row["encoder"], row["object_accuracy"], row["same_rows"]) for row in rows] == [
        ("one", "0.5", "True"),
        ("two", "0.0", "True"),
    ]
    assert (rows[0]["p"], rows[1]["p"]) == ("", "1.0")


def test_cells_of_other_scenes_are_refused() -> None:
    with pytest.raises(ValueError, match="cells of the same scenes"):
        ablation_document("T", [cell(run([1, 0])), cell(run([1]))])
