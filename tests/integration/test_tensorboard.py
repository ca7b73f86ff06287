"""What TensorBoard has to show of fit, gallery, predict and test, and that refused runs leave no folder."""

import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tensorboard.backend.event_processing.event_accumulator import TENSORS, EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from naruto_vision.cli.main import main

pytestmark = pytest.mark.usefixtures("folder")
FIT = ["fit", "--config", "clip.yaml", "--data.root", "data", "--data.batch_size", "8", "--trainer.max_epochs", "2"]
FIT += ["--trainer.enable_progress_bar", "false"]
FEW_POINTS = "--model.segmenter.init_args.prompter.init_args.points_per_side=4"
GALLERY = ["fit", "--config", "gallery.yaml", "--data.root", "data", "--data.valid", "data/scenes/valid"]
GALLERY += ["--encoder", "tiny-clip", FEW_POINTS]
SCENES = "data/scenes/test"
PREDICT = ["predict", f"{SCENES}/images", FEW_POINTS]
TEST = ["test", "--config", "scenes.yaml", "--data.test", SCENES, FEW_POINTS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Draw data, run every command once, and stay in their folder."""
    root, before = tmp_path_factory.mktemp("board"), Path.cwd()
    os.chdir(root)
    sizes = {"train": 3, "valid": 2, "test": 1, "scenes": 3, "valid-scenes": 4, "size": 96, "image-size": 48}
    assert main(["draw", "--out", "data", *(f"--{name}={value}" for name, value in sizes.items())]) == 0
    assert main(FIT) == main(GALLERY) == main(PREDICT) == main(TEST) == 0
    yield root
    os.chdir(before)


def events(run: str) -> EventAccumulator:
    found = EventAccumulator(f"lightning_logs/{run}", {TENSORS: 0})
    return found.Reload()


def settings(run: EventAccumulator) -> dict[str, Any]:
    """Read the row of the hyper-parameter table."""
    metadata = run.SummaryMetadata("_hparams_/session_start_info")
    values = HParamsPluginData.FromString(metadata.plugin_data.content).session_start_info.hparams
    return {name: getattr(value, str(value.WhichOneof("kind"))) for name, value in values.items()}


def scalars(run: EventAccumulator, tag: str) -> list[float]:
    return [point.value for point in run.Scalars(tag)]


def texts(run: EventAccumulator, tag: str) -> str:
    return "".join(value.decode() for point in run.Tensors(tag) for value in point.tensor_proto.string_val)


def test_a_fit_has_the_same_losses_under_train_and_valid() -> None:
    run = events("clip/version_0")
    tags = set(run.Tags()["scalars"])
    losses = {"loss", "loss_match", "loss_same_image"}
    steps = {"gradient_norm", "learning_rate", "images_per_second", "logit_scale"}
    assert {f"train/{name}" for name in losses | steps} <= tags
    assert {f"valid/{name}" for name in losses | {"cross_entropy", "accuracy", "macro_accuracy", "score"}} <= tags
    for stage in ("train", "valid"):
        parts = [scalars(run, f"{stage}/{name}") for name in ("loss_match", "loss_same_image", "loss")]
        assert all(first + second == pytest.approx(whole) for first, second, whole in zip(*parts, strict=True))
    assert len(scalars(run, "train/loss")) == 6  # a short run logs every step
    assert max(scalars(run, "train/learning_rate")) == pytest.approx(0.0003)
    assert min(scalars(run, "train/gradient_norm")) > 0
    assert min(scalars(run, "train/images_per_second")) > 0
    assert not tags & {"hp_metric", "epoch"}


def test_a_fit_shows_its_classes_its_mistakes_and_its_config(folder: Path) -> None:
    run = events("clip/version_0")
    with (folder / "runs/clip/per_class_accuracy.csv").open() as file:
        rows = {row["class"]: float(row["accuracy"]) for row in csv.DictReader(file)}
    curves = {name: scalars(run, f"valid_class/{name}") for name in rows}
    kept = "kept" in json.loads((folder / "runs/clip/metrics.json").read_text())  # other weights than an epoch's
    assert all(
        len(curve) == 2 and (kept or rows[name] in [pytest.approx(value, abs=1e-4) for value in curve])
        for name, curve in curves.items()
    )
    assert {"train/images", "valid/confusion", "valid/mistakes"} <= set(run.Tags()["images"])
    config = yaml.safe_load("\n".join(line[4:] for line in texts(run, "config/text_summary").splitlines()))
    assert config["trainer"]["max_epochs"] == 2
    assert "custom_scalars__config__" in run.Tags()["tensors"]


def test_each_run_is_a_row_with_its_best_figures(folder: Path) -> None:
    run = events("clip/version_0")
    row = settings(run)
    assert row["encoder"] == "tiny-clip"
    expected = {"command": "fit", "epochs": 2.0, "batch_size": 8.0, "loss": "contrastive", "optimizer": "AdamW"}
    assert {name: row[name] for name in expected} == expected
    assert row["learning_rate"] == pytest.approx(0.0003)
    best = yaml.safe_load((folder / "runs/clip/metrics.json").read_text())["best"]
    assert scalars(run, "valid_best/macro_accuracy")[-1] == pytest.approx(best["macro_accuracy"])
    assert "test/object_accuracy" in events("scenes/version_1").Tags()["scalars"]
    assert [settings(events(f"scenes/version_{k}"))["command"] for k in (0, 1)] == ["predict", "test"]
    gallery = settings(events("gallery/version_0"))
    assert gallery["search_decision"] == "auto"
    assert "learning_rate" not in gallery


def test_a_gallery_has_its_vectors_with_thumbnails_and_a_curve_of_unknown(folder: Path) -> None:
    run, projector = events("gallery/version_0"), folder / "lightning_logs/gallery/version_0/00000/gallery"
    table = [line.split("\t") for line in (projector / "metadata.tsv").read_text().splitlines()]
    assert table[0] == ["label", "path", "variant"]
    assert len(table) - 1 == len((projector / "tensors.tsv").read_text().splitlines()) == 3 * 8
    assert (projector / "sprite.png").is_file()
    assert "valid/unknown" in run.Tags()["tensors"]
    assert {"valid/threshold", "valid/object_accuracy"} <= set(run.Tags()["scalars"])
    assert [image.step for image in run.Images("valid/scenes")] == [0, 1, 2, 3]


@pytest.mark.parametrize(("number", "command"), [(0, "predict"), (1, "test")])
def test_scenes_have_one_tag_with_a_slider_and_their_latency(number: int, command: str) -> None:
    run = events(f"scenes/version_{number}")
    assert run.Tags()["images"] == [f"{command}/scenes"]
    assert [image.step for image in run.Images(f"{command}/scenes")] == [0, 1, 2]
    totals = ["latency_ms_p50", "latency_ms_p95", "latency_ms_p99", "regions_per_scene", "unknown_share"]
    assert all(len(scalars(run, f"{command}/{name}")) == 1 for name in totals)
    assert sum(scalars(run, f"{command}/regions")) / 3 == pytest.approx(scalars(run, f"{command}/regions_per_scene")[0])
    assert scalars(run, f"{command}/latency_ms_p50")[0] == pytest.approx(
        sorted(scalars(run, f"{command}/latency_ms"))[1]
    )


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (PREDICT, 0),  # every scene is done already
        (["test", "--config", "scenes.yaml", "--data.test", "data"], 2),  # no ground truth
        ([*TEST, "--model.decision", "mean"], 2),  # other thresholds
        ([*FIT, "--data.root", "nowhere"], 2),
        ([*FIT, "--model.loss.max_logit_scale", "nan"], 2),  # fails in the first step
        (["predict", f"{SCENES}/images", "--out", "o", "--model.overlay.nms_iou", "0.5", "--model.gallery", "no"], 2),
    ],
)
def test_a_run_that_is_refused_or_empty_leaves_no_folder(argv: list[str], code: int) -> None:
    before = sorted(Path("lightning_logs").glob("*/*"))
    assert main(argv) == code
    assert sorted(Path("lightning_logs").glob("*/*")) == before


@pytest.mark.slow
@pytest.mark.parametrize("logger", ["false", "lightning.pytorch.loggers.CSVLogger"])
def test_it_works_without_tensorboard(tmp_path: Path, logger: str) -> None:
    options = [f"--trainer.logger={logger}", *([] if logger == "false" else [f"--trainer.logger.save_dir={tmp_path}"])]
    before = sorted(Path("lightning_logs").glob("*/*"))
    assert main([*FIT, *options, "--model.bundle_dir", str(tmp_path / "bundle"), "--out", str(tmp_path / "clip")]) == 0
    assert main([*GALLERY, *options, "--model.gallery", str(tmp_path / "gallery")]) == 0
    assert main([*PREDICT, *options, "--out", str(tmp_path / "scenes")]) == 0
    assert main([*TEST, *options, "--out", str(tmp_path / "s")]) == 0
    assert sorted(Path("lightning_logs").glob("*/*")) == before
    if logger != "false":
        columns = set.union(
            *(set(file.read_text().splitlines()[0].split(",")) for file in tmp_path.rglob("metrics.csv"))
        )
        assert {"train/gradient_norm", "valid_best/loss", "valid/threshold", "predict/unknown_share"} <= columns
