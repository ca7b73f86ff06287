"""The callback behind ``test``: files and tables of the scenes' report."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import pytest

from naruto_vision.callbacks.scenes import SceneReportCallback
from naruto_vision.metrics.scene import SceneReport, add_counts, count_scene
from naruto_vision.metrics.slices import reliability
from naruto_vision.modules.scene_retriever import SceneRetriever
from naruto_vision.records import LabelledBox
from naruto_vision.viz.overlay import OverlayConfig


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
        self.slices, self.reliability = [], reliability([0.9, 0.4], [True, False])


def trainer_of(logger: object = None, *, first: bool = True) -> Any:
    whole = {"fast_dev_run": 0, "overfit_batches": 0.0, "state": SimpleNamespace(fn=None)}
    return SimpleNamespace(logger=logger, is_global_zero=first, **whole)


def test_the_report_is_written_and_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    SceneReportCallback(str(tmp_path / "deep")).on_test_end(trainer_of(), Retriever())
    written = json.loads((tmp_path / "deep" / "results.json").read_text())
    searched, shown = (json.loads(json.dumps(report("Koba", other).as_json())) for other in ("Odran", "Koba"))
    assert [(one["low"], one["right"]["count"]) for one in written.pop("reliability")] == [(0.4, 0), (0.9, 1)]
    assert written == {**searched, "shown": {**shown, "slices": []}}
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
