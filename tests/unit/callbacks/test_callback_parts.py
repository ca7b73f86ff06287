"""Plots, tables and the stop of a tuning run, each by itself."""

import csv
import logging
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.trainer.states import TrainerFn

from naruto_vision.callbacks.curves import line_figure
from naruto_vision.callbacks.figures import confusion_figure, example_grid
from naruto_vision.callbacks.patience import Patience
from naruto_vision.callbacks.retention import ZeroShotRetention
from naruto_vision.callbacks.scene_report import results_document
from naruto_vision.callbacks.tuning_files import confusion_csv, per_class_csv
from naruto_vision.callbacks.wise_sweep import WiseSweep
from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.errors import InputError
from naruto_vision.metrics.scene_counts import count_scene, scene_report
from naruto_vision.modules.best import ResumableModule
from naruto_vision.modules.tuning_figures import PassFigures
from naruto_vision.records import LabelledBox


def test_a_plot_has_a_line_for_each_name_that_has_points() -> None:
    figure = line_figure({"loss": [(0, 1.0), (1, 0.5)], "none": [], "other": [(0, 2.0)]}, "epoch", "loss")
    [axes] = figure.axes
    assert [line.get_label() for line in axes.lines] == ["loss", "other"]
    assert np.array_equal(axes.lines[0].get_xydata(), [[0, 1.0], [1, 0.5]])
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("epoch", "loss")
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["loss", "other"]


@pytest.mark.parametrize(("mark", "has_legend"), [(None, False), (0.0, True), (3.0, True)])
def test_one_line_needs_a_legend_only_beside_a_mark(mark: float | None, has_legend: bool) -> None:
    [axes] = line_figure({"a": [(0, 1.0)]}, "x", "y", mark=mark, note="best").axes
    assert (axes.get_legend() is not None) == has_legend
    if mark is not None:
        assert np.asarray(axes.lines[-1].get_xdata())[0] == mark
        assert axes.lines[-1].get_label() == "best"


@pytest.mark.parametrize(("points", "marker"), [(1, "o"), (60, "o"), (61, "None")])
def test_long_lines_have_no_markers(points: int, marker: str) -> None:
    [axes] = line_figure({"a": [(k, float(k)) for k in range(points)]}, "x", "y").axes
    assert str(axes.lines[0].get_marker() or "None") == marker


def test_a_plot_of_nothing_can_be_drawn() -> None:
    line_figure({}, "x", "y").canvas.draw()


def test_a_confusion_figure_writes_every_count_that_is_there() -> None:
    figure = confusion_figure(torch.tensor([[3, 1, 0], [0, 0, 0], [0, 0, 7]]), ("ann", "ナルト", "cy"))
    [axes] = figure.axes
    assert sorted(text.get_text() for text in axes.texts) == ["1", "3", "7"]
    assert [text.get_position() for text in axes.texts] == [(0, 0), (1, 0), (2, 2)]
    assert [text.get_color() for text in axes.texts] == ["white", "black", "white"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("answer", "truth")
    shares = np.array([[0.75, 0.25, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    assert np.array_equal(np.asarray(axes.images[0].get_array()), shares)


def test_examples_are_stretched_and_no_more_than_asked_for() -> None:
    pixels = torch.randn(12, 3, 4, 4)
    grid = example_grid(pixels, 3)
    assert grid.shape[0] == 3
    assert (float(grid.min()), float(grid.max())) == (0.0, 1.0)
    assert grid.shape[2] < example_grid(pixels, 12).shape[2]


def test_tables_of_a_confusion_matrix() -> None:
    confusion, names = torch.tensor([[3, 1], [0, 0]]), ('a "b"', "c,d")
    assert list(csv.reader(confusion_csv(confusion, names).splitlines())) == [
        ["truth", 'a "b"', "c,d"], ['a "b"', "3", "1"], ["c,d", "0", "0"],
    ]  # fmt: skip
    assert list(csv.reader(per_class_csv(confusion, names).splitlines())) == [
        ["class", "correct", "total", "accuracy"], ['a "b"', "3", "4", "0.7500"], ["c,d", "0", "0", ""],
    ]  # fmt: skip


@pytest.mark.parametrize("patience", [0, -1])
def test_patience_of_nothing_is_refused(patience: int) -> None:
    with pytest.raises(InputError, match=f"Patience: expected at least 1 validation, found {patience}"):
        Patience(patience)


def _trainer(fn: TrainerFn = TrainerFn.FITTING, *, sanity: bool = False) -> Any:
    state = SimpleNamespace(fn=fn)
    return SimpleNamespace(state=state, sanity_checking=sanity, should_stop=False, current_epoch=4)


def _module(passes_since: int) -> ResumableModule:
    module = ResumableModule()
    module.best.offer(PassFigures((0.5, 0.0), {}), 1)
    module.best.passes_since = passes_since
    return module


@pytest.mark.parametrize(("passes_since", "stops"), [(0, False), (2, False), (3, True), (4, True)])
def test_a_run_stops_after_so_many_passes_that_were_no_better(
    caplog: pytest.LogCaptureFixture, passes_since: int, stops: bool
) -> None:
    trainer = _trainer()
    with caplog.at_level(logging.INFO):
        Patience(3).on_validation_end(trainer, _module(passes_since))
    assert trainer.should_stop == stops
    words = f"stopped after epoch 5: {passes_since} validations in a row were no better than that of epoch 2"
    assert (words in caplog.text) == stops


@pytest.mark.parametrize(
    ("trainer", "module"),
    [
        (_trainer(TrainerFn.VALIDATING), _module(9)),
        (_trainer(sanity=True), _module(9)),
        (_trainer(), pl.LightningModule()),
    ],
)
def test_only_a_fit_of_a_module_that_keeps_its_best_is_stopped(trainer: Any, module: pl.LightningModule) -> None:
    Patience(1).on_validation_end(trainer, module)
    assert not trainer.should_stop


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"least_retention": -0.1}, {"least_retention": 1.1}])
def test_a_sweep_out_of_range_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(
        InputError, match=r"WiseSweep: steps .* \(1 or more\) and least_retention .* \(0 to 1\) expected"
    ):
        WiseSweep(**wrong)  # type: ignore[arg-type]  # one field of each type
    WiseSweep(steps=1, least_retention=0.0)


def test_a_sweep_passes_other_modules_over() -> None:
    sweep = WiseSweep()
    sweep.setup(_trainer(), pl.LightningModule(), "fit")
    sweep.on_fit_end(_trainer(), pl.LightningModule())
    assert (sweep.points, sweep.chosen) == ([], None)


def test_zero_shot_skill_before_tuning_survives_a_checkpoint_and_is_not_measured_anew() -> None:
    callback, again = ZeroShotRetention(count=2), ZeroShotRetention(count=2)
    callback.start = 0.25
    again.load_state_dict(callback.state_dict())
    assert again.start == 0.25
    again.on_fit_start(_trainer(), pl.LightningModule())
    assert again.start == 0.25


def test_a_probe_is_made_once() -> None:
    callback, encoder = ZeroShotRetention(count=2, seed=3), ClipEncoder("tiny-clip")
    probe = callback.probe(encoder)
    assert callback.probe(encoder) is probe
    assert len(probe.labels) == 2
    other = ZeroShotRetention(count=2, seed=4).probe(encoder)
    assert other.texts != probe.texts


def test_results_hold_what_was_searched_and_what_is_shown() -> None:
    truth = [LabelledBox((0, 0, 9, 9), "a")]
    right = scene_report(count_scene([LabelledBox((0, 0, 9, 9), "a", 0.9)], truth, 0.5))
    wrong = scene_report(count_scene([], truth, 0.5))
    document = results_document(right, wrong)
    assert document["object_accuracy"]["value"] == 1.0
    assert document["shown"]["object_accuracy"]["value"] == 0.0
    assert {key for key in document if key != "shown"} == set(right.as_json())
