"""What is told of an untuned model's skill while it is tuned."""

from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.trainer.states import TrainerFn
from PIL import Image

from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.encoders.tiny import TinySizes
from naruto_vision.errors import InputError
from naruto_vision.modules import zero_shot
from naruto_vision.modules.clip_tuner import ContrastiveTuner
from naruto_vision.modules.zero_shot import ZeroShotProbe, ZeroShotRetention, folder_probe, kept_share, synthetic_probe


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


SIZES = TinySizes(
    embed_dim=16, image_size=24, patch_size=12, vision_width=32, vision_layers=1, text_width=32, text_layers=1
)


def _encoder() -> ClipEncoder:
    torch.manual_seed(0)
    return ClipEncoder("tiny-clip", "random", sizes=SIZES)


def test_a_probe_counts_images_whose_text_is_nearest() -> None:
    encoder = _encoder()
    probe = synthetic_probe(encoder, 6)
    assert probe.pixels.shape == (6, 3, 24, 24)
    with torch.no_grad():
        images = encoder.encode_images(probe.pixels)
        texts = encoder.encode_texts([own[0] for own in probe.texts])
    expected = ((images @ texts.T).argmax(dim=1) == torch.arange(6)).float().mean().item()
    assert probe.accuracy(encoder) == pytest.approx(expected)
    assert torch.equal(synthetic_probe(encoder, 6).pixels, probe.pixels)
    assert not torch.equal(synthetic_probe(encoder, 6, seed=1).pixels, probe.pixels)
    with pytest.raises(InputError, match="at least 2 classes"):
        ZeroShotProbe(torch.zeros(1, 3, 2, 2), torch.zeros(1, dtype=torch.int64), (("a",),))


def test_a_probe_of_ones_own_images(tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("others")
    for place, name in enumerate(("cat", "dog", "dog")):
        for split in ("train", "valid"):
            file = root / split / name / f"{place}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((20, 20, 3), 40 * place + 5, dtype=np.uint8)).save(file)
    probe = folder_probe(_encoder(), str(root))
    assert probe.labels.tolist() == [0, 1, 1]
    assert probe.texts[1][0] == "dog"
    assert 0.0 <= probe.accuracy(_encoder()) <= 1.0


def test_nothing_to_lose_is_nothing_lost() -> None:
    assert kept_share(0.3, 0.6) == pytest.approx(0.5)
    assert kept_share(0.0, 0.0) == 1.0
