"""``naruto-vision evaluate`` and ``evaluate counts``: figures, tables, files and errors."""

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from naruto_vision.cli.evaluate import read_counts, read_label_map, remarks, run_names
from naruto_vision.cli.main import main
from naruto_vision.errors import InputError
from naruto_vision.geometry import rle_from_mask
from naruto_vision.metrics.stats import Rate


def write_run(folder: Path, scenes: dict[str, list[tuple[list[int], str]]], suffix: str = "") -> Path:
    for scene, preds in scenes.items():
        path = folder / Path(scene).parent / f"{Path(scene).stem}{suffix}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        values = [{"bbox": box, "label": label, "score": 0.9 - 0.1 * rank} for rank, (box, label) in enumerate(preds)]
        path.write_text(json.dumps({"scene": Path(scene).name, "preds": values}), encoding="utf-8")
    return folder


HERE, THERE = [0, 0, 9, 9], [20, 0, 29, 9]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COLUMNS", "160")
    truth = {
        "a.jpg": [{"bbox": HERE, "label": "Gaara"}, {"bbox": THERE, "label": "Koba"}],
        "sub/b.jpg": [{"bbox": HERE, "label": "Koba"}],
        "gone.jpg": [{"bbox": HERE, "label": "Koba"}],
    }
    (tmp_path / "gt.json").write_text(json.dumps(truth), encoding="utf-8")
    write_run(tmp_path / "run", {"a.jpg": [(HERE, "Gara"), (THERE, "Koba"), (THERE, "Gara")], "sub/b.jpg": []})
    write_run(tmp_path / "run", {"a.jpg": [(THERE, "Koba")], "sub/b.jpg": [(HERE, "unknown")]}, "_overlay")
    return tmp_path


def evaluate(world: Path, *words: str) -> dict[str, Any]:
    out = world / "out.json"
    base = ["evaluate", "--gt", str(world / "gt.json"), "--preds-dir", str(world / "run"), "--json-out", str(out)]
    assert main([*base, "--bootstrap", "50", *words]) == 0
    return dict(json.loads(out.read_text(encoding="utf-8")))


def counts(record: dict[str, Any]) -> tuple[int, int]:
    return record["count"], record["total"]


def test_every_option_reaches_the_result(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = evaluate(world, "--label-map", "Gara: Gaara; Odran:Odran", "--csv-out", str(world / "c.csv"), "--verbose")
    assert counts(found["object_accuracy"]) == (2, 4)
    assert (counts(found["recall"]), counts(found["reference_recall"])) == ((2, 4), (2, 2))
    assert counts(found["precision"]) == (2, 3)
    assert found["files"]["missing"] == ["gone.jpg"]
    text = capsys.readouterr().out
    assert "2/4  0.500" in text
    assert "scenes without a file: 1 (" in text
    assert "gone.jpg" in text
    assert "object Koba [20, 0, 29, 9]: right as Koba, IoU 1.000" in text
    assert "predicted Gaara [20, 0, 29, 9]: duplicate" in text
    with (world / "c.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [
            ["class", "correct", "total", "accuracy"],
            ["Gaara", "1", "1", "1.000000"],
            ["Koba", "1", "3", "0.333333"],
        ]
    assert counts(evaluate(world)["object_accuracy"]) == (1, 4)
    assert [item["reason"] for item in found["per_scene"][0]["preds"]] == ["right", "right", "duplicate"]


def test_the_label_map_mends_either_side(world: Path) -> None:
    assert evaluate(world, "--label-map", "Gaara:Gara")["per_class"]["Gara"]["count"] == 1


def test_overlay_files_are_scored_on_request(world: Path) -> None:
    found = evaluate(world, "--use-overlay")
    assert (counts(found["object_accuracy"]), counts(found["recall"])) == ((1, 4), (2, 4))
    assert found["reasons"]["objects"] == {
        "right": 1,
        "wrong name": 0,
        "unknown": 1,
        "cut in parts": 0,
        "swallowed": 0,
        "missed": 2,
    }


def test_iou_match_and_matching(world: Path) -> None:
    write_run(world / "run", {"a.jpg": [(HERE, "Koba"), ([0, 0, 9, 6], "Gaara")]})
    assert counts(evaluate(world)["object_accuracy"]) == (0, 4)
    assert counts(evaluate(world, "--matching", "label")["object_accuracy"]) == (1, 4)
    strict = evaluate(world, "--matching", "label", "--iou-match", "0.8")
    assert (counts(strict["object_accuracy"]), strict["iou_match"], strict["matching"]) == ((0, 4), 0.8, "label")


def test_runs_are_compared_object_by_object(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = write_run(world / "other", {"a.jpg": [(HERE, "Gaara"), (THERE, "Koba")], "gone.jpg": [(HERE, "Koba")]})
    found = evaluate(world, "--compare", str(other), "--coco")
    (item,) = found["comparisons"]
    assert (item["first"], item["second"]) == ("run", "other")
    assert item["pairing"] == {"only_first": 0, "only_second": 2}
    assert (item["p_low"], item["verdict"]) == (0.5, "not separable")
    assert item["difference"]["low"] <= 0.5 <= item["difference"]["high"]
    assert counts(found["others"]["other"]["object_accuracy"]) == (3, 4)
    assert found["others"]["other"]["average_precision"]["AP50"] == pytest.approx(0.83, abs=0.01)
    told = capsys.readouterr().out
    assert "not separable" in told
    assert "difference: the second's object accuracy minus the first's" in told
    assert "the verdict goes by p after Holm" in told
    assert "run lacks 1 of 3 scenes: every object of those counts against it above" in told
    assert "other lacks 1 of 3 scenes" in told
    evaluate(world, "--compare", str(other), "--bootstrap", "0")
    assert "difference: the second's" not in capsys.readouterr().out


def test_a_name_to_mend_that_nothing_carries_is_told(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mended = evaluate(world, "--label-map", "Gara:Gaara;Kobba:Koba;Odran:Odran", "--coco")
    assert capsys.readouterr().err == "--label-map: no object and no prediction has the label Kobba\n"
    assert mended["average_precision"]["AP50"] > evaluate(world, "--coco")["average_precision"]["AP50"]
    assert capsys.readouterr().err == ""


def test_files_that_cannot_be_read_are_counted_and_named(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (world / "run" / "sub" / "b.json").write_text("{", encoding="utf-8")
    found = evaluate(world)
    assert (found["files"]["seen"], found["files"]["ok"], found["files"]["quarantined"]) == (2, 1, 1)
    assert counts(found["recall"]) == (2, 4)
    assert "1 of 2 files cannot be read" in capsys.readouterr().out


def test_intervals_repeat_and_can_be_left_out(world: Path) -> None:
    assert evaluate(world)["intervals"] == evaluate(world)["intervals"]
    assert evaluate(world, "--bootstrap", "0")["intervals"] == {}


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--label-map", "Gara"], "expected pairs like"),
        (["--label-map", "a:b;a:c"], "both 'b' and 'c'"),
        (["--iou-match", "1.5"], "from 0 to 1"),
        (["--bootstrap", "-1"], "0 or more"),
        (["--gt", "nowhere.json"], "nowhere.json"),
        (["--preds-dir", "nowhere"], "nowhere"),
    ],
)
def test_wrong_input_is_one_line(
    world: Path, words: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    base = ["evaluate", "--gt", str(world / "gt.json"), "--preds-dir", str(world / "run")]
    assert main([*base, *words]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert reason in lines[-1]


def test_an_empty_ground_truth_is_refused(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (world / "gt.json").write_text("{}", encoding="utf-8")
    assert main(["evaluate", "--gt", str(world / "gt.json"), "--preds-dir", str(world / "run")]) == 2
    assert "at least one scene" in capsys.readouterr().err


def test_runs_are_named_by_what_tells_them_apart(tmp_path: Path) -> None:
    first, second = tmp_path / "x" / "json", tmp_path / "y" / "json"
    assert list(run_names([first, second])) == ["x/json", "y/json"]
    assert list(run_names([first])) == [str(first)]
    with pytest.raises(InputError, match="twice"):
        run_names([first, tmp_path / "x" / ".." / "x" / "json"])
    assert read_label_map(" a : b ;; c:d") == {"a": "b", "c": "d"}


def test_the_published_table_from_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    words = ["CLIP=45/50/56/62", "FT=43/50/56/62", "DINO=39/50/56/62", "--json-out", str(tmp_path / "c.json")]
    assert main(["evaluate", "counts", *words]) == 0
    text = capsys.readouterr().out
    for figure in ("0.7258", "0.6935", "0.6290", "0.8929", "0.8065", "0.9000", "0.8600", "0.7800"):
        assert figure in text
    assert text.count("not separable") == 3
    found = json.loads((tmp_path / "c.json").read_text(encoding="utf-8"))
    assert counts(found["runs"]["DINO"]["class_given_matched"]) == (39, 50)
    assert [item["adjusted_low"] for item in found["comparisons"]] == [0.5, 0.09375, 0.25]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["CLIP=45/62"], "expected NAME=RIGHT/MATCHED/SEEN/ALL"),
        (["CLIP=51/50/56/62"], "expected RIGHT <= MATCHED <= SEEN <= ALL"),
        (["a=1/2/3/4", "a=1/2/3/4"], "two runs"),
        (["a=1/2/3/4", "b=1/2/3/5"], "different objects"),
    ],
)
def test_counts_that_make_no_sense_are_refused(
    words: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "counts", *words]) == 2
    assert reason in capsys.readouterr().err


def test_evaluation_starts_without_torch(world: Path) -> None:
    code = (
        "import sys; from naruto_vision.cli.main import main; code = main(sys.argv[1:]); "
        "sys.exit(code or int(any(name in sys.modules for name in ('torch', 'matplotlib'))))"
    )
    words = ["evaluate", "--gt", str(world / "gt.json"), "--preds-dir", str(world / "run"), "--bootstrap", "5"]
    assert subprocess.run([sys.executable, "-c", code, *words], capture_output=True, check=False).returncode == 0


def write_masks(world: Path, wide: int = 30) -> Path:
    """Write two figures a scene, of which ``a.jpg`` has one found and one cut in two, and ``sub/b.jpg`` a merge."""

    def packed(x1: int, x2: int, size: int = wide) -> dict[str, Any]:
        mask = np.zeros((20, size), dtype=np.bool_)
        mask[2:12, x1:x2] = True
        return rle_from_mask(mask)

    scenes = {"a.jpg": [(0, 10), (20, 25), (25, 30)], "sub/b.jpg": [(0, 30)]}
    lines = [
        {"scene": scene, "regions": [{"mask": packed(*edge, wide), "shown": edge[0] == 0} for edge in edges]}
        for scene, edges in scenes.items()
    ]
    (world / "run" / "predictions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    images = [{"id": number, "file_name": name} for number, name in enumerate((*scenes, "gone.jpg"))]
    truth = [{"image_id": n, "segmentation": packed(*edge, 30)} for n in range(3) for edge in ((0, 10), (20, 30))]
    (world / "coco.json").write_text(json.dumps({"images": images, "annotations": truth}))
    return world / "coco.json"


def test_masks_tell_how_figures_are_cut(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    masks = str(write_masks(world))
    cuts = evaluate(world, "--gt-masks", masks)["fragments"]
    assert counts(cuts["mask_recall"]) == (2, 6)  # a region of half a figure's pixels is it
    assert counts(cuts["only_pieces"]) == (0, 6)
    assert counts(cuts["over_merged"]) == (1, 4)
    assert counts(cuts["fragments_per_object"]) == (0, 6)
    assert "How figures are cut" in capsys.readouterr().out
    strict = evaluate(world, "--gt-masks", masks, "--iou-match", "0.6")["fragments"]
    assert counts(strict["mask_recall"]) == (1, 6)
    assert counts(strict["only_pieces"]) == (1, 6)
    assert counts(strict["fragments_per_object"]) == (2, 6)
    shown = evaluate(world, "--gt-masks", masks, "--use-overlay")["fragments"]
    assert counts(shown["over_merged"]) == (1, 2)


def test_without_masks_nothing_is_said_of_them(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "fragments" not in evaluate(world)
    assert "How figures are cut" not in capsys.readouterr().out


def test_what_masks_lack_is_told(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(masks: str) -> str:
        words = ["--gt", str(world / "gt.json"), "--preds-dir", str(world / "run"), "--gt-masks", masks]
        assert main(["evaluate", *words]) == 2
        text = capsys.readouterr().err
        assert text.count("\n") == 1
        return text

    assert "nowhere.json: no such COCO file of masks" in refused("nowhere.json")
    masks = str(write_masks(world, wide=31))
    assert "the size that the true ones have, found 20x30, 20x31" in refused(masks)
    log = world / "run" / "predictions.jsonl"
    log.write_text("[1]\n")
    assert "predictions.jsonl: line 1: expected an object, found [1]" in refused(masks)
    log.write_text("{\n")
    assert "predictions.jsonl: line 1: not JSON" in refused(masks)
    log.unlink()
    assert "omit --gt-masks" in refused(masks)
    (world / "coco.json").write_text(json.dumps({"images": [], "annotations": []}))
    assert "an image for every scene of the ground truth, found none for 'a.jpg'" in refused(masks)


def _files(**changes: Any) -> dict[str, Any]:
    return {"missing": [], "unknown": [], "refused": [], "seen": 9, **changes}


def test_folders_without_faults_are_not_remarked_on() -> None:
    assert remarks(_files()) == []


def test_faults_of_a_folder_are_counted_and_five_are_named() -> None:
    lines = remarks(
        _files(missing=list("abcdefg"), unknown=["x.json"], refused=[{"path": "bad.json", "reason": "not JSON"}])
    )
    assert lines == [
        "scenes without a file: 7 (counted as scenes without predictions): a, b, c, d, e and 2 more",
        "files of no scene of the ground truth: 1 (ignored): x.json",
        "1 of 9 files cannot be read; their scenes count as without predictions:",
        "  bad.json: not JSON",
    ]
    assert remarks(_files(missing=list("abcde")))[0].endswith("a, b, c, d, e")


def test_four_counts_of_a_run_are_four_rates() -> None:
    assert read_counts(["CLIP=45/50/56/62"]) == {
        "CLIP": {
            "object_accuracy": Rate(45, 62),
            "recall": Rate(50, 62),
            "reference_recall": Rate(50, 56),
            "class_given_matched": Rate(45, 50),
        }
    }
    assert list(read_counts(["b=0/0/0/5", "a=5/5/5/5"])) == ["b", "a"]


@pytest.mark.parametrize(
    "word", ["CLIP", "CLIP=1/2/3", "CLIP=1/2/3/4/5", "=1/2/3/4", "CLIP=a/2/3/4", "CLIP=-1/2/3/4", "x=1.5/2/3/4"]
)
def test_runs_written_otherwise_are_refused(word: str) -> None:
    with pytest.raises(InputError, match=r"expected NAME=RIGHT/MATCHED/SEEN/ALL, such as CLIP=45/50/56/62") as caught:
        read_counts([word])
    assert str(caught.value).startswith(word)


@pytest.mark.parametrize("counts", ["2/1/3/4", "1/3/2/4", "1/2/4/3"])
def test_counts_that_fall_are_refused(counts: str) -> None:
    found = counts.replace("/", ", ")
    with pytest.raises(InputError, match=rf"x={counts}: expected RIGHT <= MATCHED <= SEEN <= ALL, found {found}"):
        read_counts([f"x={counts}"])


def test_runs_need_names_of_their_own_and_the_same_objects() -> None:
    with pytest.raises(InputError, match="a: two runs have this name"):
        read_counts(["a=1/2/3/4", "a=1/2/3/4"])
    with pytest.raises(InputError, match="runs over different objects cannot be compared"):
        read_counts(["a=1/2/3/4", "b=1/2/3/5"])


def test_counts_from_the_command_line_are_printed_and_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "counts", "A=45/50/56/62", "B=30/50/56/62", "--json-out", str(tmp_path / "c.json")]) == 0
    assert "45/62" in capsys.readouterr().out
    told = json.loads((tmp_path / "c.json").read_text())
    assert told["runs"]["A"]["object_accuracy"]["value"] == pytest.approx(45 / 62)
    assert len(told["comparisons"]) == 1


def test_a_weak_part_is_named_with_its_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    boxes, names = ([0, 0, 9, 9], [20, 0, 59, 39]), ("Gaara", "Koba")
    scenes = {f"{n}.jpg": list(zip(boxes, names, strict=True)) for n in range(12)}
    truth = {name: [{"bbox": box, "label": label} for box, label in found] for name, found in scenes.items()}
    (tmp_path / "gt.json").write_text(json.dumps(truth), encoding="utf-8")
    write_run(tmp_path / "run", {name: found[1:] for name, found in scenes.items()})
    evaluate(tmp_path)
    assert "weak: label Gaara: 0/12" in capsys.readouterr().out
    write_run(tmp_path / "run", scenes)
    assert not any(one["weak"] for one in evaluate(tmp_path)["slices"])
    assert "weak: " not in capsys.readouterr().out
