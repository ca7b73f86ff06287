"""What is told of an untuned model's skill while it is tuned."""

from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import pytest
from lightning.pytorch.trainer.states import TrainerFn

from naruto_vision.callbacks import zero_shot
from naruto_vision.callbacks.zero_shot import ZeroShotRetention
from naruto_vision.modules.clip_tuner import ContrastiveTuner


class Tuner(ContrastiveTuner):
    """A tuner without an encoder, which writes down what it is told to log."""

    def __init__(self) -> None:
        pl.LightningModule.__init__(self)
        self.logged: list[dict[str, float]] = []

    def log_dict(self, dictionary: Any, *_words: Any, **_options: Any) -> None:
        self.logged.append(dict(dictionary))


class Probe:
    """Gives the accuracies that it was made with, one a time."""

    def __init__(self, *accuracies: float) -> None:
        self._left = list(accuracies)

    def accuracy(self, _encoder: object) -> float:
        return self._left.pop(0)


def trainer_of(verb: TrainerFn = TrainerFn.FITTING, *, sanity: bool = False) -> Any:
    return SimpleNamespace(state=SimpleNamespace(fn=verb), sanity_checking=sanity)


@pytest.fixture
def tuner(monkeypatch: pytest.MonkeyPatch) -> Tuner:
    monkeypatch.setattr(Tuner, "encoder", "an encoder", raising=False)
    return Tuner()


def probing(*accuracies: float) -> ZeroShotRetention:
    callback = ZeroShotRetention()
    callback._probe = Probe(*accuracies)  # type: ignore[assignment]  # it has the one method that is used
    return callback


def test_each_epoch_is_a_share_of_the_start(tuner: Tuner) -> None:
    callback = probing(0.8, 0.6, 0.9)
    callback.on_fit_start(trainer_of(), tuner)
    for _ in range(2):
        callback.on_validation_epoch_end(trainer_of(), tuner)
    assert [row["valid/zero_shot"] for row in tuner.logged] == [0.6, 0.9]
    assert [row["valid/retention"] for row in tuner.logged] == [pytest.approx(0.75), pytest.approx(1.125)]


def test_a_start_of_zero_cannot_be_lost(tuner: Tuner) -> None:
    callback = probing(0.0, 0.0)
    callback.on_fit_start(trainer_of(), tuner)
    callback.on_validation_epoch_end(trainer_of(), tuner)
    assert tuner.logged[0]["valid/retention"] == 1.0


def test_an_interrupted_run_remembers_the_start_and_does_not_measure_it_again(tuner: Tuner) -> None:
    first = probing(0.8)
    first.on_fit_start(trainer_of(), tuner)
    again = probing(0.4)
    again.load_state_dict(first.state_dict())
    again.on_fit_start(trainer_of(), tuner)  # would take 0.4, which the tuned model reaches, for the start
    again.on_validation_epoch_end(trainer_of(), tuner)
    assert tuner.logged[0]["valid/retention"] == pytest.approx(0.5)


@pytest.mark.parametrize("trainer", [trainer_of(TrainerFn.VALIDATING), trainer_of(sanity=True)], ids=["verb", "sanity"])
def test_only_a_fit_s_own_validations_are_measured(trainer: Any, tuner: Tuner) -> None:
    callback = probing(0.8)
    callback.on_fit_start(trainer_of(), tuner)
    callback.on_validation_epoch_end(trainer, tuner)
    assert tuner.logged == []


def test_other_modules_are_passed_over() -> None:
    callback = probing()
    callback.on_fit_start(trainer_of(), pl.LightningModule())
    callback.on_validation_epoch_end(trainer_of(), pl.LightningModule())
    assert callback.start is None


@pytest.mark.parametrize(("root", "made"), [(None, ("drawn", 5)), ("others", ("folder", "others"))])
def test_the_images_are_made_once(root: str | None, made: object, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []

    def drawn(_encoder: object, count: int) -> str:
        calls.append(("drawn", count))
        return "a probe"

    def folder(_encoder: object, root: str) -> str:
        calls.append(("folder", root))
        return "a probe"

    monkeypatch.setattr(zero_shot, "synthetic_probe", drawn)
    monkeypatch.setattr(zero_shot, "folder_probe", folder)
    callback = ZeroShotRetention(root, count=5)
    encoder: Any = object()
    assert [str(callback.probe(encoder)) for _ in range(2)] == ["a probe", "a probe"]
    assert calls == [made]
