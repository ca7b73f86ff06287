"""``naruto-vision describe``: from a run's folder or images to descriptions, with each describer's own options."""

import json
from pathlib import Path

import numpy as np
import pytest
from segmented_run import make_run

from naruto_vision.cli.main import main
from naruto_vision.io.images import write_image


def test_a_run_is_described_beside_its_predictions_and_again_only_what_is_new(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path, {"a.png": [250, 10], "b.png": [200]})
    assert main(["describe", str(run)]) == 0
    shown = capsys.readouterr().out
    assert f"{run}: 2 of 2 scenes described" in shown
    assert "3 regions" in shown
    assert json.loads((run / "describe.json").read_text(encoding="utf-8"))["describer"] == "attributes of tiny-clip"
    assert (run / "texts" / "a_analysis_report.txt").is_file()
    assert main(["describe", str(run / "predictions.jsonl")]) == 0
    assert "2 of 2 scenes were already described" in capsys.readouterr().err


def test_images_are_described_without_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_image(tmp_path / "red.png", np.full((24, 24, 3), (220, 20, 20), np.uint8))
    assert main(["describe", "red.png"]) == 0
    line = json.loads((tmp_path / "runs" / "describe" / "descriptions.jsonl").read_text(encoding="utf-8"))
    assert line["scene"] == "red.png"


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--url", "http://localhost:1"], "--url: is an option of --describer endpoint, found --describer attributes"),
        (["--describer", "endpoint", "--vocabulary", "x.yaml"], "--vocabulary: is an option of --describer attributes"),
        (["--describer", "transformers"], "give the folder of a model: --model DIR"),
        (["--describer", "transformers", "--model", "none"], "none/config.json: no such config of a model"),
        (["--describer", "endpoint", "--url", "ftp://x"], "expected an address that starts with http"),
        (["--describer", "endpoint", "--url", "http://127.0.0.1:9/v1"], "nothing listens there; start a server"),
        (["--describer", "endpoint", "--timeout", "0"], "expected seconds, above 0 and up to"),
        (["--vocabulary", "none.yaml"], "none.yaml: no such vocabulary file"),
        (["--attempts", "11"], "expected attempts from 1 to 10"),
        (["--images", "none"], "none: no such folder of the run's images"),
    ],
)
def test_mistakes_are_one_line(
    words: list[str], found: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = make_run(tmp_path, {"a.png": [250]})
    assert main(["describe", str(run), *words]) == 2
    error = capsys.readouterr().err
    assert found in error
    assert error.count("\n") == 1


def test_names_that_are_no_run_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path, {"a.png": [250]})
    for words, found in (
        ([str(run), str(tmp_path / "images")], "a run is described alone, found 2 arguments"),
        ([str(tmp_path / "nowhere")], "no such image or folder"),
        ([str(tmp_path / "images"), "--images", str(tmp_path)], "--images: is for a run"),
    ):
        assert main(["describe", *words]) == 2
        assert found in capsys.readouterr().err
