import json
from pathlib import Path

import pytest

from naruto_vision.cli.main import main
from naruto_vision.io.bundles import config_path
from naruto_vision.io.images import write_image
from naruto_vision.synthetic.attributes import read_cast
from naruto_vision.synthetic.scene import draw_scene


@pytest.fixture
def scenes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    cast = read_cast(config_path("cast.yaml"))
    for seed in range(2):
        write_image(tmp_path / "scenes" / "deep" / f"{seed}.png", draw_scene(seed, cast, size=96).image)
    (tmp_path / "scenes" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    return tmp_path / "scenes"


def _lines(out: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]


def test_a_folder_is_swept_with_report_and_images(scenes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--grid", "4x3", "--mode", "subtract", "--min-area", "20", "--max-contours", "9"]
    assert main(["segment", "sweep", str(scenes), "--out", "out", *options]) == 0
    assert "2 of 3 images segmented, 1 could not be used" in capsys.readouterr().out
    records = _lines(Path("out"))
    assert [record["scene"] for record in records] == ["deep/0.png", "deep/1.png"]
    for record in records:
        stem = str(record["scene"]).removesuffix(".png")
        assert (Path("out/images") / f"{stem}_visualization.png").is_file()
        assert (Path("out/images") / f"{stem}_contours_debug.png").is_file()
        report = (Path("out/texts") / f"{stem}_analysis_report.txt").read_text()
        regions = record["regions"]
        assert isinstance(regions, list)
        assert report.count("--- Item") == len(regions) > 0
        assert all(region["mask_sum"] == region["area"] >= 20 for region in regions)
        assert record["sweep"]["points"] <= 9 + 12


def test_a_run_with_other_settings_is_not_continued(scenes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = str(scenes / "deep" / "0.png")
    assert main(["segment", "sweep", image, "--out", "out", "--grid", "2x2"]) == 0
    assert main(["segment", "sweep", image, "--out", "out", "--grid", "2x2"]) == 0
    assert main(["segment", "sweep", image, "--out", "out", "--grid", "3x2"]) == 2
    assert "give another --out, or --force to replace them" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("--grid", "14", "two whole numbers such as 14x12"),
        ("--point", "4;5", "x,y in pixels"),
        ("--tolerance", "1.5", "a number from 0 to 1"),
        ("--max-size", "0x0", "max_size of at least 1x1"),
    ],
)
def test_wrong_options_are_told(
    scenes: Path, capsys: pytest.CaptureFixture[str], option: str, value: str, expected: str
) -> None:
    assert main(["segment", "sweep", str(scenes), "--out", "out", option, value]) == 2
    assert expected in capsys.readouterr().err


def test_the_user_s_points_are_asked_first_then_salient_objects(scenes: Path) -> None:
    image = str(scenes / "deep" / "1.png")
    options = ["--grid", "2x2", "--point", "48,50", "--saliency", "--same-iou", "1"]
    assert main(["segment", "sweep", image, "--out", "out", *options]) == 0
    (record,) = _lines(Path("out"))
    regions = record["regions"]
    assert isinstance(regions, list)
    assert (regions[0]["source"], regions[0]["point"]) == ("user", [48, 50])
    assert regions[1]["source"] == "saliency"


def test_a_point_outside_the_image_is_an_error(scenes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = str(scenes / "deep" / "0.png")
    assert main(["segment", "sweep", image, "--out", "out", "--grid", "2x2", "--point", "96,5"]) == 2
    assert "point 96,5: is outside the image of 96x96 pixels" in capsys.readouterr().err


def test_the_stability_of_the_order_is_shown_and_its_time_is_not_the_image_s(
    scenes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = str(scenes / "deep" / "0.png")
    assert main(["segment", "sweep", image, "--out", "out", "--grid", "3x3", "--orders", "3"]) == 0
    assert "0.png: in 3 random orders " in capsys.readouterr().err
    (times,) = [json.loads(line) for line in Path("out/timings.jsonl").read_text().splitlines()]
    assert times["segment"] == pytest.approx(times["embed"] + times["masks"], abs=0.01)
