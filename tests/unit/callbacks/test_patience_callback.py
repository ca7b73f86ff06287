"""When a tuning run is given up."""

import logging
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import pytest
from lightning.pytorch.trainer.states import TrainerFn

from naruto_vision.callbacks.patience import Patience
from naruto_vision.errors import InputError
from naruto_vision.modules.clip_tuner import PassFigures, ResumableModule


def trainer_of(verb: TrainerFn = TrainerFn.FITTING, *, sanity: bool = False) -> Any:
    state = SimpleNamespace(fn=verb)
    return SimpleNamespace(state=state, sanity_checking=sanity, should_stop=False, current_epoch=6)


def offered(module: ResumableModule, scores: list[float], trainer: Any, patience: Patience) -> list[bool]:
    stopped = []
    for epoch, score in enumerate(scores):
        module.best.offer(PassFigures((score, 0.0), {}), epoch)
        patience.on_validation_end(trainer, module)
        stopped.append(trainer.should_stop)
    return stopped


@pytest.mark.parametrize("patience", [0, -1])
def test_patience_is_at_least_one_validation(patience: int) -> None:
    with pytest.raises(InputError, match="at least 1"):
        Patience(patience)


def test_it_stops_after_so_many_that_were_no_better() -> None:
    assert offered(ResumableModule(), [0.5, 0.4, 0.4], trainer_of(), Patience(2)) == [False, False, True]
    assert offered(ResumableModule(), [0.5, 0.4], trainer_of(), Patience(1)) == [False, True]


def test_a_better_one_starts_the_count_anew() -> None:
    assert offered(ResumableModule(), [0.5, 0.4, 0.6, 0.5, 0.5], trainer_of(), Patience(2)) == [False] * 4 + [True]


def test_an_equal_one_is_no_better() -> None:
    assert offered(ResumableModule(), [0.5, 0.5, 0.5], trainer_of(), Patience(2))[-1]


def test_it_says_which_epoch_was_the_best(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "naruto_vision"):
        offered(ResumableModule(), [0.1, 0.5, 0.4, 0.3], trainer_of(), Patience(2))
    assert caplog.messages == ["stopped after epoch 7: 2 validations in a row were no better than that of epoch 2"]


@pytest.mark.parametrize("trainer", [trainer_of(TrainerFn.VALIDATING), trainer_of(sanity=True)], ids=["verb", "sanity"])
def test_only_a_fit_s_own_validations_count(trainer: Any) -> None:
    assert not any(offered(ResumableModule(), [0.5, 0.1, 0.1, 0.1], trainer, Patience(1)))


def test_a_module_without_a_best_pass_is_let_alone() -> None:
    trainer = trainer_of()
    Patience(1).on_validation_end(trainer, pl.LightningModule())
    assert not trainer.should_stop
