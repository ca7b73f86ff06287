"""Scenes of a run are described resumably: one line each, reports, quarantine, and damaged files refused."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from segmented_run import make_run

import naruto_vision as nv
from naruto_vision.captioning.protocol import Describer, ImageRegion
from naruto_vision.captioning.scenes import Chosen, RunScenes, WholeImages
from naruto_vision.captioning.writer import DESCRIPTIONS, SceneDescriber, summary_lines
from naruto_vision.errors import FormatError, InputError, MissingPathError
from naruto_vision.io.bundles import file_sha256
from naruto_vision.io.images import write_image
from naruto_vision.io.inputs import find_images


class Colours(Describer):
    """Says the mean red value of each region, and counts; a region whose text is in ``broken`` fails."""

    batch_size = 3

    def __init__(self, question: str = "", broken: Sequence[str] = ()) -> None:
        self.question, self.broken = question, set(broken)
        self.batches: list[int] = []

    @property
    def name(self) -> str:
        return "colours"

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"describer": "colours", "question": self.question}

    def load(self) -> None:
        """Nothing to load."""

    def unload(self) -> None:
        """Nothing to free."""

    def describe(self, items: Sequence[ImageRegion], *, again: bool = False) -> list[nv.Description]:  # noqa: ARG002 - as the protocol
        self.batches.append(len(items))
        texts = [f"a red of {int(image[region.box[1], region.box[0], 0])}" for image, region in items]
        return [nv.Description(error="no answer") if text in self.broken else nv.Description(text) for text in texts]


def describe(run: Path, describer: Describer | None = None, chosen: Chosen = "shown") -> dict[str, Any]:
    source = RunScenes(run / "predictions.jsonl", None, chosen)
    return SceneDescriber(source, describer or Colours(), run).run()


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / DESCRIPTIONS).read_text(encoding="utf-8").splitlines()]


def test_every_region_has_its_description_and_where_it_came_from(tmp_path: Path) -> None:
    run = make_run(tmp_path, {"a.png": [10, 20], "sub/b.png": [30]})
    summary = describe(run)
    first, second = lines(run)
    assert (first["scene"], first["width"], first["height"]) == ("a.png", 64, 32)
    assert first["sha256"] == file_sha256(tmp_path / "images" / "a.png")
    assert first["regions"][0] == {
        "bbox": [0, 4, 7, 11],
        "area": 64,
        "source": "point 2,6",
        "point": [2.0, 6.0],
        "description": "a red of 10",
        "score": None,
        "parts": {},
        "asked": 1,
        "box_shown": False,
    }
    assert first["relations"] == [{"a": 0, "b": 1, "relations": ["left of"], "gap": 8.0, "shared": 0}]
    assert [row["description"] for row in second["regions"]] == ["a red of 30"]
    assert summary["counts"] == {
        "seen": 2,
        "ok": 2,
        "quarantined": 0,
        "regions": 3,
        "described": 3,
        "empty": 0,
        "failed": 0,
        "asked": 3,
    }
    assert summary["relations"]["inside"].startswith("at least 90 %")
    report = (run / "texts" / "sub" / "b_analysis_report.txt").read_text(encoding="utf-8")
    assert report.splitlines()[:3] == [
        "Deep Analysis Report for Image: sub/b.png",
        "Segmented by model abababababab",
        "Described by colours",
    ]
    assert "Source: point 2,6" in report
    assert "    a red of 30" in report
    report = (run / "texts" / "a_analysis_report.txt").read_text(encoding="utf-8")
    assert report.splitlines()[-1] == "D1 is left of D2"


def test_regions_that_are_not_shown_keep_their_place(tmp_path: Path) -> None:
    run = make_run(tmp_path, {"a.png": [10, 20, 30]}, shown=[0, 2])
    describe(run)
    [line] = lines(run)
    assert [row["description"] for row in line["regions"]] == ["a red of 10", "", "a red of 30"]
    assert line["regions"][1].keys() == {"bbox", "description"}
    assert [(each["a"], each["b"]) for each in line["relations"]] == [(0, 2)]
    report = (run / "texts" / "a_analysis_report.txt").read_text(encoding="utf-8")
    assert report.count("--- Item") == 2
    assert report.splitlines()[-1].endswith("D2")
    describe(run, chosen="all")
    assert [row["description"] for row in lines(run)[0]["regions"]] == ["a red of 10", "a red of 20", "a red of 30"]


def test_several_scenes_fill_a_batch(tmp_path: Path) -> None:
    describer = Colours()
    describe(make_run(tmp_path, {f"{number}.png": [number] for number in range(7)}), describer)
    assert describer.batches == [3, 3, 1]


def test_a_second_run_describes_only_what_is_new_or_changed(tmp_path: Path) -> None:
    run = make_run(tmp_path, {"a.png": [10], "b.png": [20]})
    describe(run)
    first = (run / DESCRIPTIONS).read_bytes()
    describer = Colours()
    assert describe(run, describer)["counts"]["described"] == 2
    assert (describer.batches, (run / DESCRIPTIONS).read_bytes()) == ([], first)
    make_run(tmp_path, {"a.png": [10], "b.png": [21], "c.png": [30]})
    describe(run, describer)
    assert describer.batches == [2]
    assert sorted((line["scene"], line["regions"][0]["description"]) for line in lines(run)) == [
        ("a.png", "a red of 10"),
        ("b.png", "a red of 21"),
        ("c.png", "a red of 30"),
    ]


def test_a_killed_run_continues_behind_its_last_whole_line(tmp_path: Path) -> None:
    run = make_run(tmp_path, {"a.png": [10], "b.png": [20], "c.png": [30]})
    describe(run)
    whole = (run / DESCRIPTIONS).read_bytes()
    cut = whole.splitlines(keepends=True)
    (run / DESCRIPTIONS).write_bytes(cut[0] + cut[1][:40])
    describer = Colours()
    describe(run, describer)
    assert describer.batches == [2]
    assert (run / DESCRIPTIONS).read_bytes() == whole


def test_what_failed_is_asked_again_by_the_next_run(tmp_path: Path) -> None:
    run = make_run(tmp_path, {"a.png": [10, 20], "b.png": [30]})
    summary = describe(run, Colours(broken=["a red of 20"]))
    assert (summary["counts"]["failed"], summary["failed"]) == (1, ["no answer"])
    assert lines(run)[0]["regions"][1]["error"] == "no answer"
    assert "(failed: no answer)" in (run / "texts" / "a_analysis_report.txt").read_text(encoding="utf-8")
    assert any("failed: no answer; the same command asks again" in line for line in summary_lines(run, summary))
    describer = Colours()
    assert describe(run, describer)["counts"]["failed"] == 0
    assert describer.batches == [2]


def test_a_describer_that_always_fails_stops_the_run(tmp_path: Path) -> None:
    reds = {f"{number:02d}.png": [number] for number in range(30)}
    run = make_run(tmp_path, reds)
    with pytest.raises(InputError, match="8 regions in a row cannot be described; first no answer"):
        describe(run, Colours(broken=[f"a red of {number}" for number in range(5, 30)]))
    assert len(lines(run)) < 20
    with pytest.raises(InputError, match="none of 1 regions can be described; first no answer"):
        describe(make_run(tmp_path / "one", {"a.png": [1]}), Colours(broken=["a red of 1"]))


def test_another_describer_does_not_mix_with_the_first(tmp_path: Path) -> None:
    run = make_run(tmp_path, {"a.png": [10]})
    describe(run)
    with pytest.raises(
        InputError, match=r"descriptions of another describer \(different question\); give another --out"
    ):
        describe(run, Colours(question="colour?"))


def test_images_that_are_not_the_segmented_ones_are_quarantined(tmp_path: Path) -> None:
    run = make_run(tmp_path, {"a.png": [10], "b.png": [20], "c.png": [30], "d.png": [40]})
    images = tmp_path / "images"
    (images / "a.png").write_bytes(b"no image")
    (images / "b.png").unlink()
    write_image(images / "c.png", np.ones((32, 64, 3), np.uint8))
    summary = describe(run)
    assert (summary["counts"]["ok"], summary["counts"]["quarantined"]) == (1, 3)
    reasons = {row["scene"]: row["reason"] for row in summary["quarantined"]}
    assert "not an image" in reasons["a.png"]
    assert "no such image" in reasons["b.png"]
    assert "has changed since it was segmented" in reasons["c.png"]
    (images / "d.png").unlink()
    (run / DESCRIPTIONS).unlink()
    with pytest.raises(InputError, match="none of 4 scenes can be read"):
        describe(run)


def test_descriptions_that_say_the_same_get_one_wording(tmp_path: Path) -> None:
    class Formal(Colours):
        def describe(self, items: Sequence[ImageRegion], *, again: bool = False) -> list[nv.Description]:  # noqa: ARG002 - as above
            return [nv.Description(text) for text in ("a grey hat", "The gray hat.")][: len(items)]

    run = make_run(tmp_path, {"a.png": [10, 20]})
    describe(run, Formal())
    rows = lines(run)[0]["regions"]
    assert [(row["description"], row.get("said")) for row in rows] == [
        ("a grey hat", None),
        ("a grey hat", "The gray hat."),
    ]


def test_a_run_of_segment_needs_no_names(tmp_path: Path) -> None:
    run = make_run(tmp_path, {"a.png": [10]})
    [line] = [json.loads(line) for line in (run / "predictions.jsonl").read_text(encoding="utf-8").splitlines()]
    for row in line["regions"]:
        for key in ("label", "name", "score", "shown", "neighbours", "margin", "p_value"):
            del row[key]
        row |= {"source": "contour", "points": [{"x": 1, "y": 5, "label": 0}, {"x": 3.5, "y": 7, "label": 1}]}
    (run / "predictions.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
    (run / "run.json").write_text(json.dumps({"identity": {"images": str(tmp_path / "images")}}), encoding="utf-8")
    describe(run)
    row = lines(run)[0]["regions"][0]
    assert (row["source"], row["point"]) == ("contour", [3.5, 7])


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"scene": "../outside.png"}, "a path inside the folder of images"),
        ({"scene": "/etc/passwd"}, "a path inside the folder of images"),
        ({"scene": "a//b.png"}, "a path inside the folder of images"),
        ({"width": 63}, r"mask 0 of scene 'a\.png' of 32x63 pixels, found 32x64"),
        ({"regions": [{"bbox": [0, 0, 1, 1], "mask": {"size": [32, 64], "counts": [2048]}}]}, "found an empty one"),
        ({"regions": [{"bbox": [0, 0, 1, 1], "mask": {"size": [32, 64], "counts": [9]}}]}, "expected runs that fill"),
        ({"regions": [{"bbox": [0, 0], "mask": {}}]}, "bbox"),
    ],
)
def test_damaged_lines_of_a_run_are_refused_with_their_place(
    tmp_path: Path, change: dict[str, Any], found: str
) -> None:
    run = make_run(tmp_path, {"a.png": [10]})
    line = json.loads((run / "predictions.jsonl").read_text(encoding="utf-8")) | change
    if "width" in change:
        line.pop("sha256")
        write_image(tmp_path / "images" / "a.png", np.zeros((32, 63, 3), np.uint8))
    (run / "predictions.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
    with pytest.raises(FormatError, match=found) as caught:
        describe(run)
    assert "predictions.jsonl" in str(caught.value)


def test_where_the_images_are_is_recorded_or_given(tmp_path: Path) -> None:
    run = make_run(tmp_path, {"a.png": [10]})
    (tmp_path / "images").rename(tmp_path / "moved")
    with pytest.raises(MissingPathError, match="give --images DIR"):
        describe(run)
    assert RunScenes(run / "predictions.jsonl", tmp_path / "moved").digests.keys() == {"a.png"}
    (run / "run.json").unlink()
    with pytest.raises(InputError, match="does not say where the images are; give --images DIR"):
        describe(run)
    (run / "predictions.jsonl").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="has no scenes"):
        RunScenes(run / "predictions.jsonl", tmp_path / "moved")


def test_whole_images_are_regions_too(tmp_path: Path) -> None:
    make_run(tmp_path, {"a.png": [10], "b.png": [20]})
    (tmp_path / "images" / "c.jpg").write_bytes(b"")
    files = find_images([tmp_path / "images", tmp_path / "none.png"])
    summary = SceneDescriber(WholeImages(files), Colours(), tmp_path / "out").run()
    assert (summary["counts"]["ok"], summary["counts"]["quarantined"]) == (2, 2)
    assert [(line["scene"], line["regions"][0]["bbox"]) for line in lines(tmp_path / "out")] == [
        ("a.png", [0, 0, 63, 31]),
        ("b.png", [0, 0, 63, 31]),
    ]
    assert {row["reason"].rpartition("/")[2] for row in summary["quarantined"]} == {
        "c.jpg: the file is empty (0 bytes)",
        "none.png: no such image or folder",
    }
    describer = Colours()
    assert SceneDescriber(WholeImages(files), describer, tmp_path / "out").run()["counts"]["quarantined"] == 2
    assert describer.batches == []
