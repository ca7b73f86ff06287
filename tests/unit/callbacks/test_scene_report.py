"""The callback behind ``test``: files, tables and images of the scenes' report."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
from lightning.pytorch.loggers import TensorBoardLogger

from naruto_vision.callbacks.scenes import SceneReportCallback
from naruto_vision.data.scenes import SceneItem
from naruto_vision.metrics.scene import SceneReport, add_counts, count_scene
from naruto_vision.modules.scene_retriever import SceneRetriever
from naruto_vision.records import Identity, LabelledBox, Region, ScenePrediction
from naruto_vision.viz.overlay import OverlayConfig

BOX = (2, 2, 9, 9)


def report(*labels: str) -> SceneReport:
    """Judge one scene in which everybody is Koba."""
    truth = [LabelledBox((20 * n, 0, 20 * n + 9, 9), "Koba") for n in range(len(labels))]
    guesses = [LabelledBox(true.box, label, 0.9) for true, label in zip(truth, labels, strict=True)]
    return SceneReport(add_counts([count_scene(guesses, truth, 0.5, "box")]))


class Retriever(SceneRetriever):
    """A module that was never built, with what the callback reads."""

    analyzer = SimpleNamespace(gallery=SimpleNamespace(labels=("Koba",)))  # type: ignore[assignment]  # its gallery only

    def __init__(self) -> None:
        pl.LightningModule.__init__(self)
        self.overlay = OverlayConfig()
        self.reports = {"test": report("Koba", "Odran"), "test_shown": report("Koba", "Koba")}


def trainer_of(logger: object = None, *, first: bool = True) -> Any:
    whole = {"fast_dev_run": 0, "overfit_batches": 0.0, "state": SimpleNamespace(fn=None)}
    return SimpleNamespace(logger=logger, is_global_zero=first, **whole)


def test_the_report_is_written_and_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    SceneReportCallback(str(tmp_path / "deep")).on_test_end(trainer_of(), Retriever())
    written = json.loads((tmp_path / "deep" / "results.json").read_text())
    searched, shown = (json.loads(json.dumps(report("Koba", other).as_json())) for other in ("Odran", "Koba"))
    assert written == {**searched, "shown": shown}
    printed = capsys.readouterr().out
    assert printed.index("every region under its best label") < printed.index("what people are shown")
    assert "1/2" in printed
    assert "2/2" in printed


@pytest.mark.parametrize(
    ("trainer", "module"), [(trainer_of(first=False), Retriever()), (trainer_of(), pl.LightningModule())]
)
def test_other_processes_and_modules_write_nothing(trainer: Any, module: pl.LightningModule, tmp_path: Path) -> None:
    SceneReportCallback(str(tmp_path)).on_test_end(trainer, module)
    assert list(tmp_path.iterdir()) == []


class Board(TensorBoardLogger):
    """A logger that keeps what it is shown."""

    def __init__(self) -> None:
        self.shown: dict[str, Any] = {}

    @property
    def experiment(self) -> Any:
        return self

    def add_image(self, name: str, image: Any, dataformats: str) -> None:
        assert dataformats == "HWC"
        self.shown[name] = image


def outputs(*scenes: str) -> dict[str, Any]:
    image = np.zeros((16, 16, 3), dtype=np.uint8)
    region = Region(BOX, np.ones((8, 8), dtype=np.bool_))
    found = [
        (SceneItem(scene, image), ScenePrediction(scene, 16, 16, (region,), (Identity("Koba", 0.9),)))
        for scene in scenes
    ]
    broken = [(SceneItem("broken.png", None, error="cut short"), ScenePrediction("broken.png", 16, 16))]
    return {"predictions": [*found, *broken]}


def test_the_first_scenes_are_shown_with_their_regions() -> None:
    board, callback = Board(), SceneReportCallback()
    for index in range(9):  # each batch has a broken image too
        callback.on_test_batch_end(trainer_of(board), Retriever(), outputs(f"{index}.png"), None, index)
    assert sorted(board.shown) == [f"scenes/{index}.png" for index in range(6)]  # 12 with the broken ones
    assert all(image.shape == (16, 16, 3) and image.any() for image in board.shown.values())


def test_of_a_large_batch_only_so_many_are_shown_and_a_second_test_starts_over() -> None:
    board, callback = Board(), SceneReportCallback()
    callback.on_test_batch_end(trainer_of(board), Retriever(), outputs(*map(str, range(15))), None, 0)
    assert len(board.shown) == 12
    callback.on_test_batch_end(trainer_of(board), Retriever(), outputs("d.png"), None, 0)
    assert "scenes/d.png" in board.shown


@pytest.mark.parametrize(("logger", "module"), [(None, Retriever()), (Board(), pl.LightningModule())])
def test_without_tensorboard_or_scenes_nothing_is_drawn(logger: Any, module: pl.LightningModule) -> None:
    SceneReportCallback().on_test_batch_end(trainer_of(logger), module, outputs("a.png"), None, 0)
    assert logger is None or logger.shown == {}
