"""Which weights a fit keeps, how encoders are measured on the user's images, and what is advised."""

import json
import logging
import re
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor
from torch.optim import AdamW

from naruto_vision.cli.next_steps import next_step
from naruto_vision.data.class_data import ClassDataModule
from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.encoders.tiny import TinySizes
from naruto_vision.errors import InputError
from naruto_vision.io.images import write_image
from naruto_vision.metrics.stats import Rate
from naruto_vision.modules.advice import Floors, Named, advise, advise_gallery
from naruto_vision.modules.clip_tuner import ContrastiveTuner
from naruto_vision.modules.head_test import HeadTest
from naruto_vision.modules.weight_choice import ChooseWeights
from naruto_vision.modules.wise_ft import interpolate

SIZES = TinySizes(
    embed_dim=16, image_size=24, patch_size=12, vision_width=32, vision_layers=1, text_width=32, text_layers=1
)
COLOURS = {"ayame": (220, 40, 40), "kenta": (40, 220, 40), "mira": (40, 40, 220)}


def draw(folder: Path, split: str, counts: dict[str, int], seed: int) -> None:
    random = np.random.default_rng(seed)
    for name, count in counts.items():
        for number in range(count):
            image = np.clip(np.array(COLOURS[name]) + random.normal(0, 40, (32, 32, 3)), 0, 255).astype(np.uint8)
            write_image(folder / split / name / f"{name[0]}{'abcdefghijklmnop'[number]}.png", image)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cast")
    draw(folder, "train", {"ayame": 10, "kenta": 8, "mira": 8}, 1)
    draw(folder, "valid", {"ayame": 4, "kenta": 8, "mira": 8}, 2)
    return folder


def fit(
    root: Path, out: Path, callbacks: list[Any], *, epochs: int = 1, lr: float = 1e-3, resume: str | None = None
) -> tuple[dict[str, Tensor], ContrastiveTuner]:
    """Tune a small CLIP; return the untuned weights and the module."""
    pl.seed_everything(3)
    torch.manual_seed(0)
    encoder = ClipEncoder("tiny-clip", "random", sizes=SIZES)
    start = {name: value.clone() for name, value in encoder.clip.state_dict().items()}
    module = ContrastiveTuner(encoder, lambda parameters: AdamW(parameters, lr=lr), bundle_dir=str(out / "bundle"))
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        callbacks=[ModelCheckpoint(out / "checkpoints", monitor="valid/score", mode="max", save_last=True), *callbacks],
    )
    trainer.fit(module, datamodule=ClassDataModule(str(root), batch_size=8), ckpt_path=resume, weights_only=True)
    return start, module


def validated(root: Path, encoder: ClipEncoder) -> Tensor:
    """Return the confusion matrix that ``validate`` computes with an encoder."""
    module = ContrastiveTuner(encoder.eval())
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
    trainer.validate(module, datamodule=ClassDataModule(str(root), batch_size=8), verbose=False)
    assert module.figures is not None
    assert module.figures.confusion is not None
    return module.figures.confusion


def test_floors_and_the_untuned_encoder_stand_beside_the_accuracy(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    module = ContrastiveTuner(ClipEncoder("tiny-clip", "random", sizes=SIZES))
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[ChooseWeights(str(tmp_path))],
    )
    with caplog.at_level(logging.INFO):
        trainer.validate(module, datamodule=ClassDataModule(str(root), batch_size=8), verbose=False)
    (line,) = [message for message in caplog.messages if message.startswith("valid: ")]
    assert re.fullmatch(
        r"valid: by class texts \d+ of 20 images are right \[0\.\d\d, \d\.\d\d\]; without an encoder colours alone "
        r"name 20, the commonest class 4; by the untuned tiny-clip \d+ of 20 images are right \[.*\]",
        line,
    )


def named(right: int, texts: int = 0) -> Named:
    return Named("vote", Rate(right, 20), texts)


@pytest.mark.parametrize(
    ("measured", "chosen", "line"),
    [
        ([15, 12, 13, 14], 0.0, "fine-tuning did not help; kept are the untuned weights: 15 of 20"),
        ([12, 13, 14, 15], 1.0, "kept are the weights of the best epoch: 15 of 20 validation images"),
        ([12, 13, 16, 15], 0.75, "kept is a mixture, 0.75 of it the tuned weights: 16 of 20"),
        ([15, 15, 15, 15], 0.0, "fine-tuning did not help"),
        ([(15, 3), (15, 9), (14, 20), (15, 9)], 0.25, "by class texts 9, untuned 3"),
    ],
)
def test_the_bundle_holds_the_best_weights(
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    measured: list[Any],
    chosen: float,
    line: str,
) -> None:
    left = [named(*(one if isinstance(one, tuple) else (one,))) for one in measured]
    monkeypatch.setattr(HeadTest, "measure", lambda *_: left.pop(0))
    callback = ChooseWeights(str(tmp_path), alphas=(0.75, 0.25), backbone=None)
    with caplog.at_level(logging.INFO):
        start, module = fit(root, tmp_path, [callback])
    assert left == []
    assert sum(line in message for message in caplog.messages) == 1
    kept = ClipEncoder(str(tmp_path / "bundle"))
    tuned = module.encoder.clip.state_dict()
    wanted = interpolate(start, tuned, chosen)
    assert all(torch.allclose(kept.clip.state_dict()[name], value, atol=1e-6) for name, value in wanted.items())
    assert kept.info["classes"] == ["ayame", "kenta", "mira"]
    assert ("weights" in kept.info) == (chosen != 1.0)
    assert ("figures" in kept.info) == (chosen == 1.0)
    assert module.export.kept == chosen
    if chosen != 1.0:  # the metrics are those of the bundle
        own = validated(root, kept)
        assert module.export.figures.confusion is not None
        assert torch.equal(module.export.figures.confusion, own)
    assert ("the untuned weights, which were kept" in next_step(module, None)[0]) == (chosen == 0.0)
    document = json.loads((tmp_path / "weights.json").read_text())
    assert document["chosen"] == chosen
    assert [point["alpha"] for point in document["points"]] == [0.0, 0.25, 0.75, 1.0]


@pytest.mark.parametrize("lr", [1e-3, 0.3])
def test_a_fit_is_never_below_the_untuned_weights(root: Path, tmp_path: Path, lr: float) -> None:
    callback = ChooseWeights(str(tmp_path), backbone=None)
    fit(root, tmp_path, [callback], epochs=2, lr=lr)
    test = HeadTest(ClassDataModule(str(root)))
    kept = test.measure(ClipEncoder(str(tmp_path / "bundle")).eval())
    assert kept.right.count >= callback.measured[0.0].right.count
    assert kept.right == callback.measured[callback.chosen or 0.0].right


def test_measuring_leaves_training_as_it_was(root: Path, tmp_path: Path) -> None:
    _, plain = fit(root, tmp_path / "a", [], epochs=2)
    _, other = fit(root, tmp_path / "b", [ChooseWeights(str(tmp_path / "b"), backbone=None)], epochs=2)
    mine, theirs = plain.encoder.clip.state_dict(), other.encoder.clip.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in mine.items())


def test_a_resumed_run_measures_the_untuned_weights_too(root: Path, tmp_path: Path) -> None:
    first, again = (ChooseWeights(str(tmp_path), backbone=None) for _ in range(2))
    fit(root, tmp_path, [first], lr=0.01)
    last = str(tmp_path / "checkpoints" / "last.ckpt")
    fit(root, tmp_path, [again], epochs=2, lr=0.01, resume=last)
    if again.measured:  # none where no later epoch was better
        assert again.measured[0.0] == first.measured[0.0]


def test_without_validation_nothing_is_compared(tmp_path: Path) -> None:
    draw(tmp_path, "train", {"ayame": 2, "kenta": 2}, 1)
    callback = ChooseWeights(str(tmp_path), backbone=None)
    fit(tmp_path, tmp_path, [callback])
    assert callback.measured == {}
    assert not (tmp_path / "weights.json").exists()
    assert (tmp_path / "bundle" / "model.json").is_file()


@pytest.mark.parametrize("options", [{"alphas": [0.0]}, {"alphas": [0.5, 1.0]}, {"share": 1.0}])
def test_a_mixture_is_between_the_two(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="above 0 and below 1"):
        ChooseWeights(**options)


def test_floors_are_counted_on_the_readable_images(root: Path, tmp_path: Path) -> None:
    draw(tmp_path, "train", {"ayame": 5, "kenta": 3}, 1)
    draw(tmp_path, "valid", {"ayame": 2, "kenta": 6}, 2)
    (tmp_path / "valid" / "kenta" / "kz.png").write_text("no image")
    test = HeadTest(ClassDataModule(str(tmp_path)))
    assert test.floors() == Floors(8, 2, ("kenta", 3))
    found = HeadTest(ClassDataModule(str(root))).measure(ClipEncoder("tiny-clip", "random", sizes=SIZES).eval())
    assert found.right.total == 20
    assert found.rule in {"vote", "centroid", "lda", "logreg"}


@pytest.mark.parametrize(
    ("right", "floors", "tuned", "said"),
    [
        (Rate(90, 100), Floors(50, 20, ("a", 30)), False, ""),
        (Rate(96, 100), Floors(98, 20, ("a", 30)), False, ""),
        (Rate(8, 10), Floors(1, 2, ("a", 3)), False, "only 10 validation images: too few to say .*class a has 3"),
        (
            Rate(60, 100),
            Floors(58, 20, ("a", 30)),
            False,
            "may be no better .*; not certain; try fine-tuning .*official",
        ),
        (Rate(40, 100), Floors(70, 20, ("a", 30)), True, "do not fit .*; certain; try official weights .*more images"),
        (Rate(40, 100), Floors(20, 41, ("a", 3)), True, "not certain with 100 .*; try more images .class a has 3"),
    ],
)
def test_advice_names_what_is_wrong_and_two_remedies(right: Rate, floors: Floors, tuned: bool, said: str) -> None:
    found = advise(Named("lda", right), floors, "DIR", tuned=tuned)
    assert "\n" not in found
    if said:
        assert re.search(said, found)
    else:
        assert found == ""


@pytest.mark.parametrize(
    ("right", "colour", "said"),
    [
        (30, 20, ""),
        (37, 39, ""),  # nine of ten: nothing to improve
        (24, 20, "may be no better .*: 24 of 40 gallery images, by the others, .* by lda, colours alone name 20, the "),
        (
            12,
            32,
            "do not fit .* certain; try fine-tuning .*clip.yaml --data.root DIR.*, or official weights .*download",
        ),
    ],
)
def test_a_gallery_is_compared_with_colours_and_the_commonest_class(right: int, colour: int, said: str) -> None:
    heads = {"decision": "lda", "of": 40, "rules": {"lda": {"right": right}}, "colour": colour, "majority": 14}
    found = advise_gallery(heads, ["a"] * 15 + ["b"] * 25, "DIR", tuned=False)
    assert re.search(said, found) if said else found == ""
    assert advise_gallery({"decision": "vote", "of": 4, "rules": {}}, ["a", "b"], "DIR", tuned=False) == ""
