"""The callback behind ``predict``: which scenes are written, counted, left out, and what is told of it."""

import json
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import lightning.pytorch as pl
import numpy as np
import pytest

from naruto_vision.callbacks.scenes import SceneWriterCallback
from naruto_vision.data.gallery_data import GalleryDataModule
from naruto_vision.data.scenes import SceneDataset, SceneItem
from naruto_vision.errors import InputError
from naruto_vision.io.images import write_image
from naruto_vision.modules.scene_retriever import SceneRetriever
from naruto_vision.records import Identity, Region, ScenePrediction
from naruto_vision.segmentation.crops import CropConfig
from naruto_vision.viz.overlay import OverlayConfig

SCENES = ("a.png", "b.png", "c.png")


class Retriever(SceneRetriever):
    """A module that was never built, with what the callback looks at."""

    analyzer = SimpleNamespace(gallery=SimpleNamespace(labels=("Koba",), index_kind="exact"))  # type: ignore[assignment]  # its gallery only

    def __init__(self) -> None:
        pl.LightningModule.__init__(self)
        self.crop, self.overlay = CropConfig(), OverlayConfig()
        self.answered = []

    def run_identity(self) -> dict[str, Any]:
        return {"encoder": "e"}


class Data(GalleryDataModule):
    """Scenes of one folder, for any verb."""

    def __init__(self, folder: Path) -> None:
        pl.LightningDataModule.__init__(self)
        self.scenes = SceneDataset(folder)

    def dataset(self, _verb: str) -> SceneDataset:
        return self.scenes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in SCENES:
        write_image(tmp_path / "scenes" / name, np.full((16, 16, 3), 90, dtype=np.uint8))
    return tmp_path


def trainer_of(data: object) -> Any:
    strategy = SimpleNamespace(barrier=lambda _name: None)
    alone = {"is_global_zero": True, "global_rank": 0, "world_size": 1, "strategy": strategy, "fast_dev_run": 0}
    loop = SimpleNamespace(current_batch_indices=[])
    return SimpleNamespace(datamodule=data, precision="32-true", predict_loop=loop, **alone)


def answer(scene: str, *, known: bool = True) -> tuple[SceneItem, ScenePrediction]:
    region = Region((2, 2, 9, 9), np.ones((8, 8), dtype=np.bool_))
    prediction = ScenePrediction(scene, 16, 16, (region,), (Identity("Koba", 0.9, known),), {"segment": 1.0})
    return SceneItem(scene, np.full((16, 16, 3), 90, dtype=np.uint8)), prediction


def broken(scene: str) -> tuple[SceneItem, ScenePrediction]:
    return SceneItem(scene, None, error=f"{scene}: cut short"), ScenePrediction(scene, 16, 16)


def predict(
    folder: Path, answers: list[tuple[SceneItem, ScenePrediction]], *, fail_fast: bool = False, scenes: str = "scenes"
) -> tuple[SceneWriterCallback, Data]:
    callback, module = SceneWriterCallback(str(folder / "out"), fail_fast=fail_fast), Retriever()
    trainer = trainer_of(data := Data(folder / scenes))
    callback.setup(trainer, module, "predict")
    for index, found in enumerate(answers):
        callback.on_predict_batch_end(trainer, module, [found], None, index)
    callback.on_predict_end(trainer, module)
    return callback, data


def logged(folder: Path) -> list[str]:
    return [json.loads(line)["scene"] for line in (folder / "out/predictions.jsonl").read_text().splitlines()]


def test_every_scene_is_written_and_counted(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "naruto_vision"):
        callback, _ = predict(folder, [answer("a.png"), answer("b.png", known=False), broken("c.png")])
    assert callback.run["counts"] == {"seen": 3, "ok": 2, "quarantined": 1, "regions": 2, "shown": 2, "named": 1}
    assert callback.run["quarantined"] == [{"scene": "c.png", "reason": "c.png: cut short"}]
    assert callback.run["index"] == "exact"
    assert callback.run["monitor"]["masks"] == {**callback.run["monitor"]["masks"], "count": 2, "area_share": 0.25}
    assert callback.run["alerts"] == []
    assert json.loads((folder / "out/run.json").read_text()) == callback.run
    assert logged(folder) == ["a.png", "b.png"]
    assert (folder / "out/overlay/a_overlay.jpg").is_file()
    out, scenes = folder / "out", folder / "scenes"
    summary, reason, look, measure = caplog.messages[-4:]
    assert summary == f"{out}: 2 of 3 scenes searched, 1 could not be read; 2 of 2 regions shown: 1 named, 1 unknown"
    assert reason == "  c.png: cut short"
    assert look == f"look at the scenes: open {out / 'index.html'} in a browser"
    assert measure.startswith(f"measure: write {scenes / 'gt.json'} as {{")
    assert measure.endswith(f"then naruto-vision evaluate --gt {scenes / 'gt.json'} --preds-dir {out}")


@pytest.mark.parametrize("place", ["images", "."])
def test_the_command_that_measures_is_told(folder: Path, place: str, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "scenes").rename(folder / "images")
    truth = folder / place / "gt.json"
    truth.write_text("{}")
    with caplog.at_level(logging.INFO, "naruto_vision"):
        predict(folder, [answer(name) for name in SCENES], scenes="images")
    command = f"measure: naruto-vision evaluate --gt {truth} --preds-dir {folder / 'out'}"
    assert caplog.messages[-1] == command
    with caplog.at_level(logging.INFO, "naruto_vision"):
        predict(folder, [], scenes="images/*.png")
    assert caplog.messages[-1] == f"{command}  # its scenes that were not searched count as missed"


def test_many_reasons_are_cut_short_and_no_image_at_all_is_an_error(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(7):
        write_image(folder / "scenes" / f"z{number}.png", np.zeros((4, 4, 3), dtype=np.uint8))
    bad = [broken(name) for name in (*SCENES, *(f"z{number}.png" for number in range(7)))]
    with (
        caplog.at_level(logging.INFO, "naruto_vision"),
        pytest.raises(InputError, match=r"none of 10 scenes could be searched; first a\.png: cut short"),
    ):
        predict(folder, bad)
    assert f"  and 5 more, listed in {folder / 'out/run.json'}" in caplog.messages
    assert "a.png: cut short" in (folder / "out/index.html").read_text("utf-8")


def test_a_second_run_goes_on_behind_the_first(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    predict(folder, [answer("a.png"), answer("b.png")])
    before = (folder / "out/json/a.json").stat().st_mtime_ns
    with caplog.at_level(logging.INFO, "naruto_vision"):
        callback, data = predict(folder, [answer("a.png"), answer("c.png")])  # the first is not to be written again
    assert [data.scenes.is_skipped(place) for place in range(3)] == [True, True, False]
    assert (folder / "out/json/a.json").stat().st_mtime_ns == before
    assert logged(folder) == list(SCENES)
    assert callback.run["counts"]["ok"] == 3
    assert f"2 of 3 scenes were already done (in {folder / 'out'}); the others are searched" in caplog.messages


def test_where_all_is_done_another_folder_is_proposed(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    predict(folder, [answer(name) for name in SCENES])
    with caplog.at_level(logging.INFO, "naruto_vision"):
        predict(folder, [])
    assert "3 of 3 scenes were already done" in caplog.text
    assert "use another --out to search them again" in caplog.text


def test_a_scene_that_was_replaced_is_searched_again(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    predict(folder, [answer(name) for name in SCENES])
    write_image(folder / "scenes/b.png", np.zeros((16, 16, 3), dtype=np.uint8))
    with caplog.at_level(logging.INFO, "naruto_vision"):
        _, data = predict(folder, [answer("b.png")])
    assert [data.scenes.is_skipped(place) for place in range(3)] == [True, False, True]
    assert "1 scenes have changed since they were searched and are searched again" in caplog.messages


def test_the_first_bad_image_stops_a_strict_run(folder: Path) -> None:
    with pytest.raises(InputError, match=r"c\.png: cut short; stopped at the first bad image"):
        predict(folder, [answer("a.png"), broken("c.png"), answer("b.png")], fail_fast=True)


def stopped_by(
    folder: Path, exception: BaseException, answered: Sequence[tuple[SceneItem, ScenePrediction]] = ()
) -> SceneWriterCallback:
    callback, module = SceneWriterCallback(str(folder / "out")), Retriever()
    module.answered = list(answered)
    trainer = trainer_of(Data(folder / "scenes"))
    callback.setup(trainer, module, "predict")
    callback.on_predict_batch_end(trainer, module, [answer("a.png")], None, 0)
    callback.on_exception(trainer, module, exception)
    return callback


def test_a_run_that_is_stopped_keeps_what_was_searched_and_says_how_to_go_on(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "naruto_vision"):
        stopped_by(folder, KeyboardInterrupt())
    assert logged(folder) == ["a.png"]
    assert caplog.messages[-1].startswith("stopped with 1 of 3 scenes done")
    assert caplog.messages[-1].endswith("the same command again continues from there")


def linked(folder: Path) -> list[str]:
    """Return the scenes of the page, whose links all lead to files."""
    page = (folder / "out/index.html").read_text(encoding="utf-8")
    files = {unquote(link) for link in re.findall(r'(?:href|src)="([^"]+)"', page)}
    assert [file for file in files if not (folder / "out" / file).is_file()] == []
    return re.findall("<h2>(.*?)</h2>", page)


def test_the_page_has_every_scene_after_a_stop_and_after_the_run_that_goes_on(folder: Path) -> None:
    stopped_by(folder, KeyboardInterrupt(), [answer("b.png")])
    assert linked(folder) == ["a.png", "b.png"]
    (folder / "out/index.html").unlink()  # a killed run leaves none
    predict(folder, [answer("c.png")])
    assert linked(folder) == [*SCENES]


def test_what_a_batch_has_when_it_stops_is_kept(folder: Path) -> None:
    stopped_by(folder, KeyboardInterrupt(), [answer("b.png"), broken("c.png")])
    assert logged(folder) == ["a.png", "b.png"]


def test_a_defect_is_not_called_a_stop(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "naruto_vision"):
        stopped_by(folder, ZeroDivisionError())
    assert logged(folder) == ["a.png"]
    assert not any("stopped with" in message for message in caplog.messages)


def test_a_disk_that_fails_while_stopping_does_not_hide_what_stopped_it(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    callback = SceneWriterCallback(str(folder / "out"))

    def fail() -> None:
        raise OSError("no room")

    callback._behind = SimpleNamespace(close=fail)  # type: ignore[assignment]  # it has the one method that is used
    callback.on_exception(trainer_of(None), Retriever(), OSError("no room"))
    assert caplog.messages == ["a scene could not be written: no room"]


@pytest.mark.parametrize("module", [pl.LightningModule(), Retriever()])
def test_other_modules_and_data_are_refused(module: pl.LightningModule, folder: Path) -> None:
    data = Data(folder / "scenes") if not isinstance(module, SceneRetriever) else None
    with pytest.raises(InputError, match=r"use configs/scenes\.yaml"):
        SceneWriterCallback(str(folder / "out")).setup(trainer_of(data), module, "predict")


def test_without_a_start_there_is_nothing_to_end(folder: Path) -> None:
    callback, trainer = SceneWriterCallback(str(folder / "out")), trainer_of(None)
    callback.on_predict_batch_end(trainer, Retriever(), [answer("a.png")], None, 0)
    callback.on_predict_end(trainer, Retriever())
    assert not (folder / "out").exists()
