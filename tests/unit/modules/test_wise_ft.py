"""The sweep of mixtures after a fit: what it measures, chooses, writes and leaves alone."""

import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor

from naruto_vision.data.class_data import ClassBatch
from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.encoders.prompts import class_texts
from naruto_vision.encoders.tiny import TinySizes
from naruto_vision.errors import InputError
from naruto_vision.modules import wise_ft, zero_shot
from naruto_vision.modules.clip_tuner import ContrastiveTuner
from naruto_vision.modules.objectives import LossConfig
from naruto_vision.modules.tuning import ExportBundle, PassFigures
from naruto_vision.modules.wise_ft import WisePoint, WiseSweep, choose_point, interpolate

SIZES = TinySizes(
    embed_dim=16, image_size=24, patch_size=12, vision_width=32, vision_layers=1, text_width=32, text_layers=1
)
CLASSES = ("red", "green")


class Tuner(ContrastiveTuner):
    """A tuner that was never built: an untuned encoder in hand, a tuned one in its bundle."""

    classes = CLASSES
    best_by = "accuracy"
    loss = LossConfig()

    def __init__(self, folder: Path, epoch: int = 0) -> None:
        pl.LightningModule.__init__(self)
        torch.manual_seed(1)
        self.encoder = ClipEncoder("tiny-clip", "random", sizes=SIZES)
        self.bundle_dir = str(folder / "bundle")
        self.prototypes = SimpleNamespace(texts=class_texts(CLASSES, {}))  # type: ignore[assignment]  # texts only
        self.export = ExportBundle()
        self.export.epoch = epoch
        torch.manual_seed(2)
        ClipEncoder("tiny-clip", "random", sizes=SIZES).save(
            folder / "bundle", {"figures": {"accuracy": 1.0}, "by": "me"}
        )


def trainer_of(*, first: bool = True) -> Any:
    labels = torch.tensor([0, 1, 0, 1])
    batch = ClassBatch(torch.randn(4, 3, 24, 24), labels, list("abcd"))
    data = SimpleNamespace(val_dataloader=lambda: [batch, batch])
    strategy = SimpleNamespace(barrier=lambda _name: None)
    return SimpleNamespace(datamodule=data, is_global_zero=first, strategy=strategy, world_size=1)


class Probe:
    """Says how much zero-shot skill each mixture keeps, in the order in which it is asked."""

    def __init__(self, *accuracies: float) -> None:
        self._left = list(accuracies)

    def accuracy(self, _encoder: object) -> float:
        return self._left.pop(0)


def swept(
    folder: Path, monkeypatch: pytest.MonkeyPatch, shares: tuple[float, ...], scores: tuple[float, ...], **options: Any
) -> tuple[WiseSweep, Tuner]:
    """Run a sweep whose validation and zero-shot figures are given."""
    left = list(scores)

    def validate(*_words: object) -> PassFigures:
        score = left.pop(0)
        return PassFigures(score, {"accuracy": score})

    monkeypatch.setattr(wise_ft, "_validate", validate)
    monkeypatch.setattr(zero_shot, "synthetic_probe", lambda *_words: Probe(*shares))
    callback, module = WiseSweep(str(folder / "out"), steps=len(scores) - 1, **options), Tuner(folder)
    trainer = trainer_of()
    callback.setup(trainer, module, "fit")
    callback.on_fit_end(trainer, module)
    return callback, module


@pytest.mark.parametrize("options", [{"steps": 0}, {"least_retention": 1.1}, {"least_retention": -0.1}])
def test_numbers_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="WiseSweep: steps"):
        WiseSweep(**options)


def test_the_best_mixture_that_keeps_enough_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    callback, _ = swept(tmp_path, monkeypatch, (0.5, 0.48, 0.2), (0.3, 0.8, 0.9))
    assert callback.chosen is not None
    assert callback.chosen.alpha == 0.5  # the tuned weights validate better, but keep 40 % only
    assert [point.retention for point in callback.points] == [1.0, pytest.approx(0.96), pytest.approx(0.4)]
    written = json.loads((tmp_path / "out/wise.json").read_text())
    assert written["least_retention"] == 0.9
    assert written["chosen"] == {"alpha": 0.5, "accuracy": 0.8, "zero_shot": 0.48, "retention": 0.96}
    assert [point["alpha"] for point in written["points"]] == [0.0, 0.5, 1.0]
    assert (tmp_path / "out/wise.png").read_bytes().startswith(b"\x89PNG")


def weights(folder: Path) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in ClipEncoder(str(folder)).clip.state_dict().items()}


@pytest.mark.parametrize(("least", "alpha"), [(0.9, 0.5), (0.0, 1.0), (1.0, 0.0)])
def test_the_bundle_holds_the_mixture_and_the_tuned_one_stays(
    least: float, alpha: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    callback, module = swept(tmp_path, monkeypatch, (0.5, 0.48, 0.2), (0.3, 0.8, 0.9), least_retention=least)
    assert callback.chosen is not None
    assert callback.chosen.alpha == alpha
    mixed, tuned, start = weights(tmp_path / "out/wise"), weights(tmp_path / "bundle"), module.encoder.clip.state_dict()
    for name, value in mixed.items():
        if value.is_floating_point():
            expected = (1 - alpha) * start[name] + alpha * tuned[name]
            assert torch.allclose(value, expected, atol=1e-5)
    info = json.loads((tmp_path / "out/wise/model.json").read_text())
    assert info["by"] == "me"
    assert info["wise"]["alpha"] == alpha
    assert "figures" not in info  # those of the tuned bundle are not the mixture's


def test_the_untuned_weights_are_those_before_the_fit(tmp_path: Path) -> None:
    callback, module = WiseSweep(str(tmp_path / "out")), Tuner(tmp_path)
    callback.setup(trainer_of(), module, "fit")
    kept = {name: value.clone() for name, value in callback._start.items()}
    with torch.no_grad():
        for parameter in module.encoder.parameters():
            parameter.add_(1.0)
    assert all(torch.equal(kept[name], value) for name, value in callback._start.items())
    assert not torch.equal(next(iter(kept.values())), next(iter(module.encoder.clip.state_dict().values())))


def test_the_mixtures_are_truly_validated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zero_shot, "synthetic_probe", lambda *_words: Probe(0.5, 0.5))
    callback, module, trainer = WiseSweep(str(tmp_path / "out"), steps=1), Tuner(tmp_path), trainer_of()
    callback.setup(trainer, module, "fit")
    callback.on_fit_end(trainer, module)
    assert len(callback.points) == 2
    assert all(point.named["accuracy"] in {0.0, 0.25, 0.5, 0.75, 1.0} for point in callback.points)  # of 2 x 4 images
    assert callback.points[0].named["cross_entropy"] != callback.points[1].named["cross_entropy"]


def test_a_folder_of_other_images_is_used_where_one_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[object] = []

    def folder(_encoder: object, root: str) -> Probe:
        used.append(root)
        return Probe(0.5, 0.5)

    monkeypatch.setattr(zero_shot, "folder_probe", folder)
    swept(tmp_path, monkeypatch, (), (0.5, 0.6), root="others")
    assert used == ["others"]


@pytest.mark.parametrize("stage", ["validate", "test", "predict"])
def test_other_verbs_keep_and_write_nothing(stage: str, tmp_path: Path) -> None:
    callback, module = WiseSweep(str(tmp_path / "out")), Tuner(tmp_path)
    callback.setup(trainer_of(), module, stage)
    callback.on_fit_end(trainer_of(), module)
    assert not (tmp_path / "out").exists()


def test_other_modules_are_passed_over(tmp_path: Path) -> None:
    callback = WiseSweep(str(tmp_path / "out"))
    callback.setup(trainer_of(), pl.LightningModule(), "fit")
    callback.on_fit_end(trainer_of(), pl.LightningModule())
    assert not (tmp_path / "out").exists()


def test_a_run_without_validation_has_nothing_to_choose_by(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    callback, module = WiseSweep(str(tmp_path / "out")), Tuner(tmp_path, epoch=-1)
    callback.setup(trainer_of(), module, "fit")
    with caplog.at_level(logging.WARNING, "naruto_vision"):
        callback.on_fit_end(trainer_of(), module)
    assert caplog.messages == ["WiseSweep: skipped, because this run validated on no classes"]
    assert not (tmp_path / "out").exists()


def test_only_the_first_process_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zero_shot, "synthetic_probe", lambda *_words: Probe(0.5, 0.5))
    callback, module = WiseSweep(str(tmp_path / "out"), steps=1), Tuner(tmp_path)
    callback.setup(trainer_of(first=False), module, "fit")
    callback.on_fit_end(trainer_of(first=False), module)
    assert callback.chosen is not None
    assert not (tmp_path / "out").exists()


def _point(alpha: float, accuracy: float, loss: float, retention: float) -> WisePoint:
    return WisePoint(alpha, accuracy - 1e-6 * loss, {"accuracy": accuracy}, retention)


def test_weights_are_mixed_and_counts_are_not() -> None:
    start = {"weight": torch.tensor([0.0, 2.0]), "count": torch.tensor(3)}
    tuned = {"weight": torch.tensor([1.0, 4.0]), "count": torch.tensor(9)}
    mixed = interpolate(start, tuned, 0.25)
    assert mixed["weight"].tolist() == [0.25, 2.5]
    assert mixed["count"].item() == 9
    assert torch.equal(interpolate(start, tuned, 1.0)["weight"], tuned["weight"])
    with pytest.raises(InputError, match="names in one only"):
        interpolate({"other": torch.zeros(1)}, tuned, 0.5)
    with pytest.raises(InputError, match="0 to 1 expected"):
        interpolate(start, tuned, 1.5)


def test_the_best_mixture_that_keeps_enough_is_chosen() -> None:
    points = [_point(0.0, 0.5, 1.0, 1.0), _point(0.5, 0.8, 0.6, 0.95), _point(1.0, 0.9, 0.4, 0.6)]
    assert choose_point(points, 0.9).alpha == 0.5
    assert choose_point(points, 0.0).alpha == 1.0
    assert choose_point(points, 1.0).alpha == 0.0
    assert choose_point([_point(0.4, 0.8, 0.6, 1.0), _point(0.2, 0.8, 0.6, 1.0)], 0.0).alpha == 0.2
    assert choose_point([_point(0.4, 0.8, 0.5, 1.0), _point(0.2, 0.8, 0.6, 1.0)], 0.0).alpha == 0.4
    with pytest.raises(InputError, match="no mixture keeps 90%"):
        choose_point([_point(1.0, 0.9, 0.4, 0.6)], 0.9)
