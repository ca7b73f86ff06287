"""``predict`` compares its scenes with the sample of its gallery, or with an earlier run."""

import json
import shutil
from pathlib import Path
from typing import Any

import drawn_gallery
import numpy as np
import pytest
from cluster import ENCODER, QUIET
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from naruto_vision.cli.main import main
from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.io.images import write_image

FEW_POINTS = "--model.segmenter.init_args.prompter.init_args.points_per_side=3"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Search scenes and the same ones darkened, by a gallery without a sample and by one whose sample is the first."""
    root = tmp_path_factory.mktemp("drift")
    drawn_gallery.build(root, ClipEncoder("tiny-clip").eval())
    shutil.move(root / "runs" / "gallery", root / "bare")
    for seed in range(10):
        image = drawn_gallery.noisy((60 + 12 * seed, 200 - 9 * seed, 90), seed)
        write_image(root / "clean" / f"{seed}.png", image)
        write_image(root / "dark" / f"{seed}.png", ((image / 255.0) ** 4 * 255).astype(np.uint8))
    assert predict(root, "clean", gallery="bare") == 0
    shutil.copytree(root / "bare", root / "gallery")
    shutil.copy(root / "out-clean" / "drift.jsonl", root / "gallery")
    return root


def predict(root: Path, scenes: str, *options: str, gallery: str = "gallery", out: str = "") -> int:
    folders = ["--gallery", str(root / gallery), "--out", str(root / (out or f"out-{scenes}"))]
    return main(["predict", str(root / scenes), *folders, *ENCODER, *QUIET, FEW_POINTS, *options])


def drift_of(out: Path) -> Any:
    return json.loads((out / "run.json").read_text()).get("drift")


def test_without_a_reference_nothing_is_compared(drawn: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert drift_of(drawn / "out-clean") is None
    assert predict(drawn, "clean", "--fail-on-drift", gallery="bare") == 2
    assert "bare/drift.jsonl: no such sample of scenes" in capsys.readouterr().err


def test_the_same_scenes_are_compared_and_pass(drawn: Path) -> None:
    assert predict(drawn, "clean", "--fail-on-drift") == 0
    drift = drift_of(drawn / "out-clean")
    assert (drift["drifted"], drift["reference"]) == (False, "at enrolment")
    assert (drift["n_reference"], drift["n_query"]) == (10, 10)
    assert drift["figures"]["luminance"]["verdict"] == "none"
    assert all(one["verdict"] in {"none", "too few"} for one in drift["figures"].values())


def test_darker_scenes_are_named_first_logged_and_can_fail_the_run(
    drawn: Path, caplog: pytest.LogCaptureFixture
) -> None:
    logger = ["--trainer.logger=LateTensorBoardLogger", f"--trainer.logger.init_args.save_dir={drawn / 'logs'}"]
    with caplog.at_level("INFO", "naruto_vision"):
        assert predict(drawn, "dark", *logger) == 0
    lines = [record.getMessage() for record in caplog.records if record.name.endswith("callbacks.scenes")]
    assert lines[0].startswith("drift: ")
    assert any(line.startswith("drift: image luminance is lower than at enrolment (median ") for line in lines)
    (events,) = (drawn / "logs").rglob("events*")
    board = EventAccumulator(str(events)).Reload()
    luminance = drift_of(drawn / "out-dark")["figures"]["luminance"]
    assert board.Scalars("drift/luminance_adjusted_p")[0].value == pytest.approx(luminance["adjusted_p"])
    assert board.Scalars("drift/luminance_statistic")[0].value == pytest.approx(luminance["statistic"])
    before = (drawn / "out-dark" / "drift.jsonl").read_bytes()
    assert predict(drawn, "dark", "--fail-on-drift") == 1  # all scenes are done: from what the folder has
    assert (drawn / "out-dark" / "drift.jsonl").read_bytes() == before


def test_a_resumed_run_tests_all_its_scenes(drawn: Path, tmp_path: Path) -> None:
    out = shutil.copytree(drawn / "out-clean", tmp_path / "out")
    for name, kept in {"predictions.jsonl": 9, "drift.jsonl": 10, "timings.jsonl": 10}.items():  # killed in between
        (out / name).write_bytes(b"".join((out / name).read_bytes().splitlines(keepends=True)[:kept]))
    assert predict(drawn, "clean", out=str(out)) == 0
    assert drift_of(out) == drift_of(drawn / "out-clean")


def test_an_earlier_run_is_a_reference_too(drawn: Path, capsys: pytest.CaptureFixture[str]) -> None:
    earlier = ["--drift-reference", str(drawn / "out-clean")]
    assert predict(drawn, "dark", *earlier, "--fail-on-drift") == 1
    drift = drift_of(drawn / "out-dark")
    assert drift["reference"] == f"in {drawn / 'out-clean'}"
    assert drift["figures"]["margin"]["verdict"] != "not comparable"
    assert predict(drawn, "dark", "--drift-reference", str(drawn / "clean")) == 2
    assert "clean/drift.jsonl: no such sample of scenes" in capsys.readouterr().err
