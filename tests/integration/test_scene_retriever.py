"""The Trainer verbs of ``SceneRetriever`` on scenes of coloured squares, where every right answer is known."""

import json
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from naruto_vision.callbacks.card import RunCard
from naruto_vision.callbacks.scenes import SceneReportCallback, SceneWriterCallback
from naruto_vision.data.gallery_data import GalleryDataModule
from naruto_vision.encoders.base import Encoder
from naruto_vision.errors import FingerprintError, InputError
from naruto_vision.gallery.edits import remove_rows
from naruto_vision.gallery.gallery import Gallery, edit_gallery
from naruto_vision.gallery.thresholds import Aim
from naruto_vision.io.atomic import write_json
from naruto_vision.io.images import write_image
from naruto_vision.modules.scene_retriever import SceneRetriever
from naruto_vision.recognition.decision import Decision
from naruto_vision.records import Identity, ImageArray, Region, ScenePrediction
from naruto_vision.segmentation.crops import CropConfig

RED, GREEN, BLUE, YELLOW = (220, 30, 30), (30, 200, 30), (30, 30, 220), (220, 220, 30)
CAST = {"akai": RED, "midori": GREEN}
BOXES = ((6, 8, 25, 27), (36, 8, 55, 27))


class ColourEncoder(Encoder):
    """The mean colour of what is not black, as a unit vector."""

    dim = 3

    def __init__(self, tint: float = 0.0) -> None:
        super().__init__()
        self.tint = nn.Parameter(torch.tensor(tint))

    def preprocess(self, image: ImageArray) -> Tensor:
        small = cv2.resize(image, (8, 8), interpolation=cv2.INTER_AREA)
        return torch.from_numpy(small).permute(2, 0, 1).float() / 255

    def encode_images(self, pixels: Tensor) -> Tensor:
        return nn.functional.normalize(pixels.mean(dim=(2, 3)) + self.tint, dim=-1)

    def describe(self) -> Mapping[str, Any]:
        return {"kind": "mean colour"}


class SquareSegmenter:
    """Every connected bright patch is a region."""

    model = None
    fingerprint = "squares"

    def __call__(self, image: ImageArray) -> list[Region]:
        _, labels, stats, _ = cv2.connectedComponentsWithStats((image.max(axis=2) > 128).astype(np.uint8))
        regions = []
        for index, (x, y, width, height, area) in enumerate(stats.tolist()):
            if index and area > 50:
                mask = labels[y : y + height, x : x + width] == index
                regions.append(Region((x, y, x + width - 1, y + height - 1), mask))
        return sorted(regions, key=lambda region: -region.area)


def scene(*colours: tuple[int, int, int]) -> ImageArray:
    image = np.zeros((40, 64, 3), dtype=np.uint8)
    for colour, (x1, y1, x2, y2) in zip(colours, BOXES, strict=False):
        image[y1 : y2 + 1, x1 : x2 + 1] = colour
    return image


SCENES = {
    "both.png": ((RED, GREEN), [(0, "akai"), (1, "midori")]),
    "one.png": ((GREEN, BLUE), [(0, "midori")]),
    "sub/stranger.png": ((YELLOW,), []),
}


def write_scenes(folder: Path) -> Path:
    truth = {}
    for name, (colours, known) in SCENES.items():
        write_image(folder / "images" / name, scene(*colours))
        truth[name] = [{"bbox": list(BOXES[place]), "label": label} for place, label in known]
    (folder / "gt.json").write_text(json.dumps(truth))
    return folder


def write_world(folder: Path) -> Path:
    for label, colour in CAST.items():
        for shade in range(4):
            image = np.zeros((16, 16, 3), dtype=np.uint8)
            image[2:14, 2:14] = [min(255, value + 6 * shade) for value in colour]
            write_image(folder / "data" / "train" / label / f"{shade}.png", image)
    write_scenes(folder / "valid")
    write_scenes(folder / "test")
    return folder


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first generation of the gallery of ``world``, for all tests that begin with it."""
    folder = write_world(tmp_path_factory.mktemp("first"))
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        trainer().fit(make_retriever(folder), datamodule=data(folder, valid=str(folder / "valid")))
    return folder / "gallery"


@pytest.fixture
def world(tmp_path: Path, first: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(write_world(tmp_path))
    (tmp_path / "first").symlink_to(first)
    return tmp_path


def trainer(*callbacks: pl.Callback, **options: Any) -> pl.Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    usual = {"max_epochs": 1, "num_sanity_val_steps": 0, **quiet}
    return pl.Trainer(
        accelerator="cpu",
        enable_checkpointing=False,
        use_distributed_sampler=False,
        callbacks=list(callbacks),
        **(usual | options),
    )


def make_retriever(world: Path, tint: float = 0.0, **options: Any) -> SceneRetriever:
    crop, encoder = CropConfig(pad=0.0, pad_min=0), ColourEncoder(tint)
    return SceneRetriever(encoder, SquareSegmenter(), gallery=str(world / "gallery"), crop=crop, **options)  # type: ignore[arg-type]


@pytest.fixture
def retriever(world: Path) -> Callable[..., SceneRetriever]:
    return partial(make_retriever, world)


def data(world: Path, **folders: str) -> GalleryDataModule:
    return GalleryDataModule(str(world / "data"), num_workers=0, **folders)


def enrol(world: Path, retriever: Callable[..., SceneRetriever]) -> None:
    if not (world / "gallery").exists():
        shutil.copytree(world / "first", world / "gallery")
        return
    trainer().fit(retriever(), datamodule=data(world, valid=str(world / "valid")))


@pytest.mark.parametrize("way", ["image", "region", "both"])
def test_images_with_one_region_are_enrolled_by_it(
    way: str, world: Path, retriever: Callable[..., SceneRetriever]
) -> None:
    write_image(world / "data" / "train" / "akai" / "two.png", scene(RED, RED))
    trainer().fit(retriever(enrol=way), datamodule=data(world))
    gallery = Gallery.open(world / "gallery")
    paths = {row.path for row in gallery.rows}
    whole, crop = "akai/0.png", "akai/0.png#xywh=2,2,12,12"
    assert {whole, crop} & paths == {"image": {whole}, "region": {crop}, "both": {whole, crop}}[way]
    assert "akai/two.png" in paths
    assert gallery.note.get("enrol", {}).get("by") == (None if way == "image" else way)
    if way == "region":
        expected = nn.functional.normalize(torch.tensor(RED).float(), dim=0).numpy()
        np.testing.assert_allclose(gallery.vectors[[row.path for row in gallery.rows].index(crop)], expected, atol=1e-2)


def test_without_a_learnt_detector_images_are_enrolled_whole(retriever: Callable[..., SceneRetriever]) -> None:
    assert retriever().enrol == "image"


def test_fit_enrols_every_image_once_and_calibrates_unknown(
    world: Path, retriever: Callable[..., SceneRetriever]
) -> None:
    enrol(world, retriever)
    gallery = Gallery.open(world / "gallery", fingerprint=ColourEncoder().fingerprint)
    assert [row.label for row in gallery.rows] == ["akai"] * 4 + ["midori"] * 4
    assert len({row.path for row in gallery.rows}) == 8
    bar = gallery.thresholds.threshold("akai")
    assert bar is not None
    assert 0.6 < bar <= 1.0


def test_fit_without_scenes_needs_no_segmenter_and_names_everything(
    world: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="naruto_vision")
    trainer().fit(SceneRetriever(ColourEncoder(), gallery=str(world / "gallery")), datamodule=data(world))
    assert Gallery.open(world / "gallery").thresholds.threshold("akai") is None
    assert caplog.messages[-1].startswith(f"gallery {world / 'gallery'}: 8 entries, 2 labels; no threshold, ")
    assert "no region is unknown (of 8 gallery images" in caplog.messages[-1]


def test_fit_says_where_the_gallery_is_and_from_which_score_somebody_is_known(
    world: Path, retriever: Callable[..., SceneRetriever], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="naruto_vision")
    trainer().fit(retriever(), datamodule=data(world, valid=str(world / "valid")))
    assert caplog.messages[-1].startswith(f"gallery {world / 'gallery'}: 8 entries, 2 labels; a score below 0.")


def test_test_counts_every_object_once(world: Path, retriever: Callable[..., SceneRetriever]) -> None:
    enrol(world, retriever)
    module = retriever()
    report_to = SceneReportCallback(str(world / "out"))
    trainer(report_to).test(module, datamodule=data(world, test=str(world / "test")), verbose=False)
    results = json.loads((world / "out" / "results.json").read_text())
    assert (results["object_accuracy"]["count"], results["object_accuracy"]["total"]) == (3, 3)
    assert (results["precision"]["count"], results["precision"]["total"]) == (3, 5)
    assert (results["shown"]["object_accuracy"]["count"], results["shown"]["object_accuracy"]["total"]) == (3, 3)
    assert results["recall"]["low"] < 1.0


def test_a_test_writes_a_card_that_says_what_it_is_of(world: Path, retriever: Callable[..., SceneRetriever]) -> None:
    trainer(RunCard()).fit(retriever(), datamodule=data(world))
    enrolled = (world / "gallery" / "card.md").read_text()
    assert "| akai | 4 |" in enrolled
    assert Gallery.open(world / "gallery").labels == ("akai", "midori")  # the gallery is still whole
    measured = data(world, test=str(world / "test"))
    trainer(SceneReportCallback(str(world / "out"))).test(retriever(), datamodule=measured, verbose=False)
    card = (world / "out" / "card.md").read_text()
    assert "| object accuracy | 3/3 = 1.000" in card
    assert "3 objects are too few" in card
    assert "no such character was in it" in card
    assert (world / "out" / "card_reliability.png").is_file()
    write_image(world / "test" / "images" / "one.png", np.zeros((16, 16, 3), dtype=np.uint8))
    write_image(world / "data" / "train" / "akai" / "twin.png", scene(RED, GREEN))
    enrol(world, retriever)
    trainer(SceneReportCallback(str(world / "out"))).test(retriever(), datamodule=measured, verbose=False)
    again = (world / "out" / "card.md").read_text()
    assert "| tested | 1/3 = 0.333" in again  # a scene is in the gallery too
    assert "| object accuracy | 2/3 = 0.667" in again
    assert "9 entries" in again


def test_names_in_a_card_are_text_and_no_html_links_or_cells(
    world: Path, retriever: Callable[..., SceneRetriever]
) -> None:
    (world / "data" / "train" / "akai").rename(world / "data" / "train" / "<img src=x>|![a](b)`")
    trainer(RunCard()).fit(retriever(), datamodule=data(world))
    card = (world / "gallery" / "card.md").read_text()
    assert "| &lt;img src=x>\\|!\\[a\\](b)' | 4 |" in card
    assert "<img" not in card


def test_the_card_has_the_curves_of_its_own_gallery_only(world: Path, retriever: Callable[..., SceneRetriever]) -> None:
    enrol(world, retriever)
    gallery, folder = Gallery.open(world / "gallery"), world / "robustness"
    settings = {"gallery": gallery.content.generation, "encoder": gallery.fingerprint}
    row = {"measure": "accuracy", "corruption": "blur", "severity": 1, "strength": 1.0, "count": 2, "total": 3}
    for of in (settings, {**settings, "gallery": 99}):
        write_json(folder / "settings.json", of)
        write_json(folder / "robustness.json", [{**row, "low": 0.2, "high": 0.9}])
        report = SceneReportCallback(str(world / "out"))
        trainer(report).test(retriever(), datamodule=data(world, test=str(world / "test")), verbose=False)
        card = (world / "out" / "card.md").read_text()
        assert ("| accuracy, blur | 2/3 = 0.667" in card) == (of is settings)
        assert ("is of another gallery" in card) == (of is not settings)


def test_predict_names_the_cast_and_calls_the_others_unknown(
    world: Path, retriever: Callable[..., SceneRetriever], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="naruto_vision")
    enrol(world, retriever)
    (world / "test" / "images" / "broken.png").write_bytes(b"not an image")
    writer = SceneWriterCallback(str(world / "out"))
    folder = str(world / "test" / "images")
    trainer(writer).predict(retriever(), datamodule=data(world, predict=folder))
    labels = {}
    for name in SCENES:
        document = json.loads((world / "out" / "json" / name.replace(".png", "_overlay.json")).read_text())
        labels[name] = sorted(pred["label"] for pred in document["preds"])
    assert labels == {"both.png": ["akai", "midori"], "one.png": ["midori", "unknown"], "sub/stranger.png": ["unknown"]}
    assert writer.run["counts"] == {"seen": 4, "ok": 3, "quarantined": 1, "regions": 5, "shown": 5, "named": 3}
    assert "broken.png" in writer.run["quarantined"][0]["reason"]
    assert writer.run["index"] == "faiss"
    assert "broken.png: not an image" in caplog.text
    assert "3 of 4 scenes searched, 1 could not be read; 5 of 5 regions shown: 3 named, 2 unknown" in caplog.text


def test_predict_twice_does_no_scene_again(world: Path, retriever: Callable[..., SceneRetriever]) -> None:
    enrol(world, retriever)
    folder = str(world / "test" / "images")

    def predict() -> dict[Path, int]:
        run = trainer(SceneWriterCallback(str(world / "out")))
        run.predict(retriever(), datamodule=data(world, predict=folder))
        return {file: file.stat().st_mtime_ns for file in (world / "out" / "json").rglob("*.json")}

    assert predict() == predict()


def test_scenes_of_another_folder_do_not_pass_for_done(world: Path, retriever: Callable[..., SceneRetriever]) -> None:
    enrol(world, retriever)
    run = trainer(SceneWriterCallback(str(world / "out")))
    run.predict(retriever(), datamodule=data(world, predict=str(world / "test")))
    again = trainer(SceneWriterCallback(str(world / "out")))
    with pytest.raises(InputError, match=r"different scenes.*another --out"):
        again.predict(retriever(), datamodule=data(world, predict=str(world / "valid")))


def test_further_crops_change_the_score_and_the_identity_of_the_run(
    world: Path, retriever: Callable[..., SceneRetriever]
) -> None:
    enrol(world, retriever)
    plain, averaged = retriever(), retriever()
    averaged.more_crops = (CropConfig(expand=1.0, background=None),)  # with the black around, so darker
    image = scene(RED)
    one, other = (module.analyzer(image).identities[0] for module in (plain, averaged))
    assert one.label == other.label == "akai"
    assert plain.run_identity()["crop"] != averaged.run_identity()["crop"]
    assert len(averaged.analyzer.crops) == 2
    assert averaged.analyzer(np.zeros((20, 20, 3), dtype=np.uint8)).identities == ()


def test_a_gallery_of_another_encoder_is_refused(world: Path, retriever: Callable[..., SceneRetriever]) -> None:
    enrol(world, retriever)
    with pytest.raises(FingerprintError, match="enrol again"):
        trainer().test(retriever(0.5), datamodule=data(world, test=str(world / "test")), verbose=False)


def test_scenes_without_a_segmenter_are_refused_in_words(world: Path) -> None:
    trainer().fit(SceneRetriever(ColourEncoder(), gallery=str(world / "gallery")), datamodule=data(world))
    module = SceneRetriever(ColourEncoder(), gallery=str(world / "gallery"))
    with pytest.raises(InputError, match="expected a segmenter"):
        trainer().test(module, datamodule=data(world, test=str(world / "test")), verbose=False)


def test_a_folder_is_searched_recursively_and_bad_files_are_counted_or_stop_it(
    world: Path, retriever: Callable[..., SceneRetriever]
) -> None:
    enrol(world, retriever)
    images = world / "mixed"
    for name in ("a.jpg", "sub/b.jpeg", "sub/deep/c.png", "d.webp"):
        (images / name).parent.mkdir(parents=True, exist_ok=True)
        _, encoded = cv2.imencode(Path(name).suffix, scene(RED))
        (images / name).write_bytes(encoded.tobytes())
    (images / "e.png").write_bytes(b"not an image")
    writer = SceneWriterCallback(str(world / "out"))
    trainer(writer).predict(retriever(), datamodule=data(world, predict=str(images)))
    counts = writer.run["counts"]
    assert (counts["seen"], counts["ok"], counts["quarantined"]) == (5, 4, 1)
    strict = SceneWriterCallback(str(world / "strict"), fail_fast=True)
    with pytest.raises(InputError, match=r"e\.png.*fail_fast"):
        trainer(strict).predict(retriever(), datamodule=data(world, predict=str(images)))


def test_a_scene_whose_image_was_replaced_is_searched_again(
    world: Path, retriever: Callable[..., SceneRetriever]
) -> None:
    enrol(world, retriever)
    images = world / "test" / "images"

    def predict() -> dict[str, float]:
        writer = SceneWriterCallback(str(world / "out"))
        trainer(writer).predict(retriever(), datamodule=data(world, predict=str(images)))
        return {file.stem: file.stat().st_mtime_ns for file in (world / "out" / "json").rglob("*_overlay.json")}

    before = predict()
    write_image(images / "one.png", scene(RED, BLUE))
    after = predict()
    assert [name for name in before if before[name] != after[name]] == ["one_overlay"]
    assert json.loads((world / "out" / "json" / "one_overlay.json").read_text())["preds"][0]["label"] == "akai"
    lines = (world / "out" / "predictions.jsonl").read_text().splitlines()
    assert [json.loads(line)["scene"] for line in lines].count("one.png") == 1


def test_without_renormalising_scores_are_smaller_by_the_length_of_the_average(
    world: Path, retriever: Callable[..., SceneRetriever]
) -> None:
    enrol(world, retriever)
    whole, compatible = retriever(), retriever()
    for module in (whole, compatible):
        module.more_crops = (CropConfig(background=128, pad=0.5),)  # another view, so the average is shorter than 1
    compatible.renormalise = False
    one, other = (module.analyzer(scene(RED)).identities[0] for module in (whole, compatible))
    assert one.label == other.label
    assert other.score < one.score - 1e-4
    assert [row.row for row in one.neighbours] == [row.row for row in other.neighbours]


@pytest.mark.parametrize("decision", ["vote", "top1", "max", "mean", "prototype"])
def test_every_decision_names_the_squares(
    world: Path, retriever: Callable[..., SceneRetriever], decision: Decision
) -> None:
    enrol(world, retriever)
    module = retriever()
    module.decision = decision
    names = [identity.label for identity in module.analyzer(scene(RED, GREEN)).identities]
    assert sorted(names) == ["akai", "midori"]


def test_thresholds_of_another_decision_are_refused(world: Path, retriever: Callable[..., SceneRetriever]) -> None:
    enrol(world, retriever)
    module = retriever()
    module.decision = "mean"
    with pytest.raises(InputError, match="chosen for vote"):
        trainer().test(module, datamodule=data(world, test=str(world / "test")), verbose=False)


def test_one_image_goes_from_masks_to_names(world: Path, retriever: Callable[..., SceneRetriever]) -> None:
    enrol(world, retriever)
    prediction = retriever().analyzer(scene(RED, GREEN), "both.png")
    assert [(region.box, identity.name) for region, identity in zip(*_both(prediction), strict=True)] == [
        (BOXES[0], "akai"),
        (BOXES[1], "midori"),
    ]


def _both(prediction: ScenePrediction) -> tuple[tuple[Region, ...], tuple[Identity, ...]]:
    return prediction.regions, prediction.identities


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()} if folder.is_dir() else {}


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("fast_dev_run", True),
        ("limit_train_batches", 1),
        ("limit_val_batches", 1),
        ("max_epochs", 0),
    ],
)
def test_a_trial_leaves_the_gallery_as_it_is(
    option: str,
    value: int,
    world: Path,
    retriever: Callable[..., SceneRetriever],
    caplog: pytest.LogCaptureFixture,
) -> None:
    enrol(world, retriever)
    before = contents(world / "gallery")
    write_image(world / "data" / "train" / "akai" / "new.png", np.full((16, 16, 3), 200, np.uint8))
    caplog.set_level("INFO", logger="naruto_vision")
    tried = GalleryDataModule(str(world / "data"), valid=str(world / "valid"), num_workers=0, enrol_batch_size=2)
    trainer(**{option: value}).fit(retriever(), datamodule=tried)
    assert contents(world / "gallery") == before
    assert caplog.messages[-1].startswith("nothing was written: ")
    assert f"trainer.{option}" in caplog.messages[-1]


def test_a_trial_without_a_gallery_tries_everything_and_writes_nothing(
    world: Path, retriever: Callable[..., SceneRetriever]
) -> None:
    module = retriever()
    trainer(fast_dev_run=True).fit(module, datamodule=data(world, valid=str(world / "valid")))
    assert module.reports["valid"].as_json()["object_accuracy"]["total"] > 0
    assert not (world / "gallery").exists()


def test_sanity_checks_come_before_the_gallery_and_write_nothing(
    world: Path, retriever: Callable[..., SceneRetriever]
) -> None:
    trainer(num_sanity_val_steps=2).fit(retriever(), datamodule=data(world, valid=str(world / "valid")))
    assert [line["op"] for line in Gallery.open(world / "gallery").content.ledger] == ["build", "thresholds"]


def test_part_of_a_validation_or_test_replaces_no_thresholds_and_no_report(
    world: Path, retriever: Callable[..., SceneRetriever]
) -> None:
    enrol(world, retriever)
    before = contents(world / "gallery")
    trainer(limit_val_batches=1).validate(
        retriever(), datamodule=data(world, valid=str(world / "valid")), verbose=False
    )
    assert contents(world / "gallery") == before
    scenes = data(world, test=str(world / "test"))
    trainer(SceneReportCallback(str(world / "out"))).test(retriever(), datamodule=scenes, verbose=False)
    whole = (world / "out" / "results.json").read_bytes()
    report = SceneReportCallback(str(world / "out"))
    trainer(report, limit_test_batches=1).test(retriever(), datamodule=scenes, verbose=False)
    assert (world / "out" / "results.json").read_bytes() == whole


def test_enrolling_again_says_what_stayed_and_keeps_the_history(
    world: Path, retriever: Callable[..., SceneRetriever], caplog: pytest.LogCaptureFixture
) -> None:
    enrol(world, retriever)
    before = contents(world / "gallery")
    caplog.set_level("INFO", logger="naruto_vision")
    enrol(world, retriever)
    assert contents(world / "gallery") == before
    assert "enrolled again, and all 8 entries are as they were" in caplog.text
    (world / "data" / "train" / "akai" / "0.png").unlink()
    enrol(world, retriever)
    assert "enrolled again: 7 entries kept, 0 added, 1 removed; `gallery rollback" in caplog.text
    with pytest.raises(FingerprintError):
        Gallery.open(world / "gallery", fingerprint=ColourEncoder(0.1).fingerprint)


def test_edits_are_not_lost_to_another_encoder_unless_that_is_wanted(
    world: Path, retriever: Callable[..., SceneRetriever]
) -> None:
    enrol(world, retriever)
    edit_gallery(world / "gallery", remove_rows, [0])
    before = contents(world / "gallery")
    with pytest.raises(InputError, match=r"has 1 edits .* --model\.replace true"):
        trainer().fit(retriever(0.1), datamodule=data(world))
    assert contents(world / "gallery") == before
    module = retriever(0.1)
    module.replace = True
    trainer().fit(module, datamodule=data(world))
    assert Gallery.open(world / "gallery").generation == 1


def test_enrolment_compares_the_rules_and_every_command_takes_the_best(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rng = np.random.default_rng(0)
    for label, red in (("kuro", 100), ("akai", 125)):
        for number in range(24):
            green = int(rng.integers(30, 226))
            colour = (red, green, 255 - green)  # only red tells them apart
            write_image(tmp_path / "data" / "train" / label / f"{number}.png", np.full((16, 16, 3), colour, np.uint8))
    folder = str(tmp_path / "gallery")
    with caplog.at_level("INFO"):
        trainer().fit(SceneRetriever(ColourEncoder(), gallery=folder), GalleryDataModule(root=str(tmp_path / "data")))
    gallery = Gallery.open(folder)
    heads = gallery.note["heads"]
    rules = heads["rules"]
    assert heads["decision"] != "vote"
    assert rules[heads["decision"]]["right"] > rules["vote"]["right"]
    assert 0 <= heads["colour"] <= heads["of"] == 48
    assert f"decision {heads['decision']}: of 48 images" in caplog.text
    chosen: Any = {
        decision: SceneRetriever(ColourEncoder(), SquareSegmenter(), gallery=folder, decision=decision)
        for decision in ("auto", "top1")
    }
    assert chosen["auto"].analyzer.decision == heads["decision"]
    assert chosen["top1"].analyzer.decision == "top1"
    (named,) = chosen["auto"].analyzer(scene((135, 150, 105))).identities
    assert named.label == "akai"
    old = Gallery.build(gallery.vectors, gallery.rows, fingerprint=gallery.fingerprint)
    old.save(folder)
    assert SceneRetriever(ColourEncoder(), SquareSegmenter(), gallery=folder).analyzer.decision == "vote"


def write_cast(world: Path, shades: int) -> None:
    for label, colour in {**CAST, "ao": BLUE}.items():
        for shade in range(shades):
            image = np.zeros((16, 16, 3), dtype=np.uint8)
            image[2:14, 2:14] = [min(255, value + (5 + shade) * index) for index, value in enumerate(colour)]
            write_image(world / "data" / "train" / label / f"more{shade}.png", image)


def test_without_scenes_the_gallery_chooses_thresholds_that_follow_it_and_name_the_cast(
    world: Path, retriever: Callable[..., SceneRetriever], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="naruto_vision")
    write_cast(world, 8)
    trainer().fit(retriever(), datamodule=data(world))
    first = Gallery.open(world / "gallery")
    assert (first.thresholds.source, first.thresholds.default is None) == ("gallery", False)
    assert "images of classes left out" in caplog.messages[-1]
    write_cast(world, 12)
    trainer().fit(retriever(), datamodule=data(world))
    again = Gallery.open(world / "gallery")
    assert again.thresholds != first.thresholds
    assert again.stale_since is None
    module = retriever()
    module.decision = "mean"  # thresholds of scenes would be refused
    trainer().test(module, datamodule=data(world, test=str(world / "test")))
    assert module.reports["test_shown"].names_recall.count >= 2
    enrol(world, retriever)  # scenes choose
    assert Gallery.open(world / "gallery").thresholds.source == ""


def test_test_logs_who_is_there_and_the_record_has_names_and_p_values(
    world: Path, retriever: Callable[..., SceneRetriever]
) -> None:
    enrol(world, retriever)
    run = trainer()
    module = retriever()
    run.test(module, datamodule=data(world, test=str(world / "test")))
    report = module.reports["test_shown"]
    assert report.names_recall.total == 3
    assert float(run.callback_metrics["test/names_recall"]) == pytest.approx(report.names_recall.value)
    assert float(run.callback_metrics["test/names_precision"]) == pytest.approx(report.names_precision.value)
    trainer(SceneWriterCallback(str(world / "out"))).predict(
        retriever(), datamodule=data(world, predict=str(world / "test"))
    )
    lines = [json.loads(line) for line in (world / "out" / "predictions.jsonl").read_text().splitlines()]
    for line in lines:
        shown = {region["name"] for region in line["regions"] if region["shown"]} - {"unknown"}
        assert line["names"] == sorted(shown)
        assert all(0 < region["p_value"] <= 1 for region in line["regions"])


@pytest.mark.parametrize("kind", ["coverage", "false_accept"])
def test_the_aim_of_the_config_chooses_the_thresholds(
    world: Path, retriever: Callable[..., SceneRetriever], kind: Any
) -> None:
    module = retriever()
    module.aim = Aim(kind, 0.5)
    trainer().fit(module, datamodule=data(world, valid=str(world / "valid")))
    assert Gallery.open(world / "gallery").thresholds.rule.startswith(f"{Aim(kind, 0.5)} on names of validation scenes")


@pytest.mark.parametrize("command", ["fit", "validate"])
def test_the_sample_of_validation_scenes_is_what_a_run_would_have(
    command: str, world: Path, retriever: Callable[..., SceneRetriever]
) -> None:
    enrol(world, retriever)
    sample = world / "gallery" / "drift.jsonl"
    if command == "validate":
        sample.unlink()
        trainer().validate(retriever(), datamodule=data(world, valid=str(world / "valid")), verbose=False)
    trainer(SceneWriterCallback(str(world / "out"))).predict(
        retriever(), datamodule=data(world, predict=str(world / "valid"))
    )
    ours, theirs = (
        {json.loads(line)["scene"]: json.loads(line) for line in file.read_text().splitlines()}
        for file in (sample, world / "out" / "drift.jsonl")
    )
    assert ours == theirs
    assert ours["sub/stranger.png"]["figures"]["unknown"] == 1.0
    assert ours["both.png"]["figures"]["regions"] == ours["both.png"]["count"] == 2


def test_a_trial_writes_no_sample(world: Path, retriever: Callable[..., SceneRetriever]) -> None:
    enrol(world, retriever)
    sample = world / "gallery" / "drift.jsonl"
    before = sample.stat().st_mtime_ns
    found = data(world, valid=str(world / "valid"))
    trainer(limit_val_batches=1).validate(retriever(), datamodule=found, verbose=False)
    assert sample.stat().st_mtime_ns == before
