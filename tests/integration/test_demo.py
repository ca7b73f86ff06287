"""The main job end to end with the packaged weights, as small as it can be."""

import json
from pathlib import Path

import pytest

from naruto_vision.cli.main import main

RATES = ("object_accuracy", "recall", "reference_recall", "class_given_matched", "precision")


def _stop(argv: list[str]) -> None:
    raise KeyboardInterrupt(*argv)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demo that was stopped in its second step, and run again."""
    out = tmp_path_factory.mktemp("demo") / "out"
    line = ["demo", "--out", str(out), "--scenes", "2", "--train", "4", "--epochs", "1", "--seed", "3"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("naruto_vision.cli.trainer.run_cli", _stop)
        assert main(line) == 130
    drawn = (out / "data" / "world.json").stat().st_mtime_ns
    assert main(line) == 0
    assert (out / "data" / "world.json").stat().st_mtime_ns == drawn  # the first step was not repeated
    return out


def test_results_have_every_rate_with_its_count_and_interval(demo: Path) -> None:
    results = json.loads((demo / "results.json").read_text())
    for name in RATES:
        assert set(results[name]) == {"value", "count", "total", "low", "high"}
    truth = json.loads((demo / "data" / "scenes" / "test" / "gt.json").read_text())
    objects = sum(len(boxes) for boxes in truth.values())
    assert results["object_accuracy"]["total"] == results["recall"]["total"] == objects
    assert sum(rate["total"] for rate in results["per_class"].values()) == objects
    assert results["recall"]["count"] >= results["object_accuracy"]["count"]


def test_every_scene_has_its_files(demo: Path) -> None:
    scenes = sorted(path.stem for path in (demo / "data" / "scenes" / "test" / "images").iterdir())
    assert len(scenes) == 2
    for stem in scenes:
        document = json.loads((demo / "runs" / "scenes" / "json" / f"{stem}.json").read_text())
        assert document["scene"].startswith(stem)
        assert (demo / "runs" / "scenes" / "json" / f"{stem}_overlay.json").is_file()
        assert (demo / "runs" / "scenes" / "overlay" / f"{stem}_overlay.jpg").is_file()
    run = json.loads((demo / "runs" / "scenes" / "run.json").read_text())
    assert run["counts"]["seen"] == run["counts"]["ok"] == 2


def test_the_gallery_holds_every_training_image_and_knows_when_to_say_unknown(demo: Path) -> None:
    stats = json.loads((demo / "runs" / "gallery" / "stats.json").read_text())
    assert stats["total"] == 4 * 8
    assert json.loads((demo / "runs" / "gallery" / "thresholds.json").read_text())["default"] is not None


def test_its_gallery_is_searched_from_another_folder(demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As README does: the encoder is recorded relative to the demo's folder."""
    monkeypatch.chdir(demo.parent)
    scenes, options = f"{demo.name}/data/scenes/test/images", ["--trainer.accelerator=cpu", "--data.num_workers=0"]
    assert main(["predict", scenes, "--gallery", f"{demo.name}/runs/gallery", "--out", "named", *options]) == 0
    found, own = (json.loads((folder / "run.json").read_text()) for folder in (Path("named"), demo / "runs" / "scenes"))
    assert found["counts"] == own["counts"]
    assert Path("named/predictions.jsonl").read_bytes() == (demo / "runs" / "scenes" / "predictions.jsonl").read_bytes()


def test_tensorboard_has_something_to_show(demo: Path) -> None:
    assert len(list((demo / "lightning_logs").rglob("events.out.tfevents.*"))) >= 2


def test_a_second_demo_in_the_same_folder_is_refused(demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--out", str(demo)]) == 2
    assert "is not empty" in capsys.readouterr().err
