"""``bench pipeline``: the same files in both ways, what counts as parity, and what cannot be compared."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from naruto_vision.cli.bench_pipeline import OURS, REFERENCE
from naruto_vision.cli.main import main
from naruto_vision.cli.pipeline_ways import STEPS, OneByOne, compare, step_means
from naruto_vision.encoders.base import embed_images
from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.errors import InputError
from naruto_vision.gallery.content import GalleryRow
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.geometry import rle_from_mask
from naruto_vision.io.bundles import config_path
from naruto_vision.io.images import write_image
from naruto_vision.recognition.analyzer import SceneAnalyzer
from naruto_vision.recognition.merging import MergeSettings
from naruto_vision.records import ImageArray
from naruto_vision.segmentation.crops import CropSettings
from naruto_vision.segmentation.generator import RegionFilter, Segmenter
from naruto_vision.segmentation.prompts import GridPrompter
from naruto_vision.segmentation.sam import SamModel
from naruto_vision.synthetic.attributes import read_cast
from naruto_vision.synthetic.scene import draw_scene

SMALL = ["bench", "pipeline", "--repeats", "1", "--size", "128"]
FEW_POINTS = "--predict=--model.segmenter.init_args.prompter.init_args.points_per_side=6"


@pytest.fixture(scope="module")
def image() -> ImageArray:
    return draw_scene(3, read_cast(config_path("cast.yaml")), size=128).image


def analyzer(image: ImageArray, **options: Any) -> SceneAnalyzer:
    encoder = ClipEncoder("tiny-clip")
    images = [image[:64], image[64:], image[:, :64], image[:, 64:]]
    rows = [GalleryRow(f"{number}.png", name) for number, name in enumerate("abca")]
    gallery = Gallery.build(embed_images(encoder, images).numpy(), rows, fingerprint=encoder.fingerprint)
    segmenter = Segmenter(GridPrompter(6), SamModel(weights="tiny-sam").eval(), keep=RegionFilter(min_area=20))
    return SceneAnalyzer(segmenter, encoder, gallery, neighbours=3, **options)


def test_both_ways_name_the_same_regions_alike(
    image: ImageArray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_image(tmp_path / "scenes" / "one.png", image)
    assert main([*SMALL, "--scenes", "scenes", FEW_POINTS, "--json", "report.json"]) == 0
    shown = capsys.readouterr().out
    assert "1 scenes, 1 rounds" in shown
    assert "100.00% agree" in shown
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["bench"] == "pipeline"
    results = report["results"]
    assert list(results["ways"]) == [OURS, REFERENCE]
    assert results["ways"][REFERENCE]["times_as_fast"] == 1.0
    assert set(results["ways"][OURS]["ms_per_scene"]) == set(STEPS)
    assert results["ways"][OURS]["ms_per_scene"]["segment"] > 0
    parity = results["parity"]
    assert parity["same"] == parity["matched"] == parity["reference"] == parity["ours"] > 0
    assert results["gemm_gflops"] > 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.json", "scenes"]  # no logs, no results


@pytest.mark.parametrize(
    "options",
    [
        {"more_crops": [CropSettings(background=128)]},
        {"mirror": False, "decision": "top1"},
        {"renormalise": False, "more_crops": [CropSettings(background=255)]},
    ],
    ids=["defaults", "top1", "reference scores"],
)
def test_one_by_one_is_the_analyzer_written_plainly(image: ImageArray, options: dict[str, Any]) -> None:
    ours = analyzer(image, **options)
    first, second = ours(image, "one"), OneByOne(ours)(image, "one")
    assert len(first.regions) == len(second.regions) > 0
    assert [region.box for region in first.regions] == [region.box for region in second.regions]
    assert [one.label for one in first.identities] == [one.label for one in second.identities]
    assert [one.score for one in first.identities] == pytest.approx([two.score for two in second.identities], abs=2e-3)
    rows = [[row.row for row in one.neighbours] for one in first.identities]
    assert rows == [[row.row for row in one.neighbours] for one in second.identities]
    assert set(second.milliseconds) == set(STEPS)


@pytest.mark.parametrize("options", [{"decision": "mean"}, {"merge": MergeSettings()}])
def test_one_by_one_refuses_what_it_does_not_know(image: ImageArray, options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="expected one of max, top1, vote, and no merging"):
        OneByOne(analyzer(image, **options))


def write_log(folder: Path, scenes: dict[str, list[dict[str, Any]]]) -> Path:
    folder.mkdir()
    lines = [json.dumps({"scene": scene, "regions": regions}) + "\n" for scene, regions in scenes.items()]
    (folder / "predictions.jsonl").write_text("".join(lines))
    return folder


def region(columns: int, name: str = "ayame") -> dict[str, Any]:
    mask = np.zeros((20, 200), dtype=np.bool_)
    mask[:, :columns] = True
    return {"mask": rle_from_mask(mask), "label": name, "name": name}


def test_parity_counts_every_region_once(tmp_path: Path) -> None:
    reference = {"a": [region(150), region(40), region(100)], "b": [region(10)]}
    ours = {"a": [region(40, "kenta"), region(149), region(98)], "c": [region(10)]}
    parity = compare(write_log(tmp_path / "ours", ours), write_log(tmp_path / "reference", reference))
    # 149 of 150 columns is one region, 98 of 100 is not; "b" and "c" have no partner
    assert (parity.reference, parity.ours, parity.matched, parity.same) == (4, 4, 2, 1)
    assert parity.share == pytest.approx(1 / 6)


def test_one_region_cannot_stand_for_two(tmp_path: Path) -> None:
    reference, ours = {"a": [region(150), region(150)]}, {"a": [region(150)]}
    parity = compare(write_log(tmp_path / "ours", ours), write_log(tmp_path / "reference", reference))
    assert (parity.matched, parity.same, parity.share) == (1, 1, 0.5)


def test_nothing_found_in_both_is_agreement(tmp_path: Path) -> None:
    parity = compare(write_log(tmp_path / "ours", {"a": []}), write_log(tmp_path / "reference", {"a": []}))
    assert (parity.matched, parity.share) == (0, 1.0)


def test_steps_are_averaged_over_scenes(tmp_path: Path) -> None:
    rows = [{"scene": "a", "segment": 10.0, "embed": 4.0, "search": 1.0}, {"scene": "b", "segment": 20.0}]
    (tmp_path / "timings.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert step_means(tmp_path) == {"segment": 15.0, "embed": 2.0, "search": 0.5}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--scenes", "0"], "--scenes 0: expected 1 or more"),
        (["--scenes", "nowhere"], "nowhere"),
        (["--size", "3"], "--size 3: expected 32 or more"),
        (["--repeats", "0"], "--repeats 0: expected 1 or more"),
        (["--scenes", "1", "--config", "nothing.yaml"], "nothing.yaml"),
    ],
)
def test_what_cannot_be_timed_is_told(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, *words]) == 2
    assert told in capsys.readouterr().err
