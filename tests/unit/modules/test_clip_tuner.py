from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.optim import AdamW
from torch.utils.data import DataLoader

from naruto_vision.data.class_data import ClassBatch
from naruto_vision.data.synthetic_captions import SyntheticCaptionData
from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.encoders.tiny import TinySizes
from naruto_vision.errors import InputError, TrainingStoppedError
from naruto_vision.modules.clip_tuner import ContrastiveTuner, TextConfig
from naruto_vision.modules.freezing import Freeze, FreezeConfig
from naruto_vision.modules.objectives import LossConfig

SIZES = TinySizes(
    embed_dim=16, image_size=24, patch_size=12, vision_width=32, vision_layers=2, text_width=32, text_layers=1
)
COLOURS = np.eye(3, dtype=np.float32)


def _batch(start: int, count: int, channels: int = 3) -> ClassBatch:
    labels = torch.arange(start, start + count) % channels
    rng = np.random.default_rng(start)
    noise = torch.from_numpy(rng.normal(0, 0.3, (count, 3, 24, 24)).astype(np.float32))
    return ClassBatch(noise + torch.from_numpy(COLOURS)[labels][:, :, None, None], labels, [f"{n}.jpg" for n in labels])


class ColourData(pl.LightningDataModule):
    """Three classes, each brighter in another channel."""

    classes = ("red", "green", "blue")

    def _loader(self, batches: list[ClassBatch]) -> "DataLoader[Any]":
        return DataLoader(batches, batch_size=None)  # type: ignore[arg-type]  # a list is a dataset

    def train_dataloader(self) -> "DataLoader[Any]":
        return self._loader([_batch(12 * n, 12) for n in range(8)])

    def val_dataloader(self) -> "DataLoader[Any]":
        return self._loader([_batch(1000, 9)])

    def test_dataloader(self) -> "DataLoader[Any]":
        return self._loader([_batch(2000, 9)])

    def predict_dataloader(self) -> "DataLoader[Any]":
        return self.test_dataloader()


def _adamw(parameters: Any) -> AdamW:
    return AdamW(parameters, lr=3e-3)


def _tuner(folder: Path, **options: Any) -> ContrastiveTuner:
    torch.manual_seed(0)
    encoder = ClipEncoder("tiny-clip", "random", sizes=SIZES)
    return ContrastiveTuner(encoder, _adamw, bundle_dir=str(folder / "bundle"), **options)


def _trainer(folder: Path, **options: Any) -> pl.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    return pl.Trainer(default_root_dir=folder, enable_checkpointing=False, **(quiet | options))


def test_it_learns_classes_names_them_and_keeps_the_best_bundle(tmp_path: Path) -> None:
    module, data = _tuner(tmp_path, loss=LossConfig(smoothing=0.05, same_image=0.5)), ColourData()
    trainer = _trainer(tmp_path, max_epochs=4)
    trainer.fit(module, data)
    metrics = trainer.test(module, data, verbose=False)[0]
    assert metrics["test/accuracy"] >= 0.95
    assert metrics["test/nearest_accuracy"] >= 0.95
    assert module.figures is not None
    assert module.figures.confusion is not None
    assert module.figures.confusion.sum() == 9
    named = [row for rows in trainer.predict(module, data) or [] for row in rows]
    assert all(name == data.classes[int(path[0])] for path, name, _ in named)

    again = ClipEncoder(str(tmp_path / "bundle"))
    assert again.info["classes"] == list(data.classes)
    assert again.info["figures"]["macro_accuracy"] == pytest.approx(
        module.export.best.named["macro_accuracy"], abs=1e-3
    )


def test_the_bundle_holds_the_best_weights_not_the_last(tmp_path: Path) -> None:
    module = _tuner(tmp_path)

    class Spoil(pl.Callback):
        def on_validation_start(self, trainer: pl.Trainer, _: pl.LightningModule) -> None:
            if trainer.current_epoch == 3:
                torch.nn.init.zeros_(module.encoder.clip.visual.proj)

    _trainer(tmp_path, max_epochs=4, callbacks=[Spoil()]).fit(module, ColourData())
    kept = ClipEncoder(str(tmp_path / "bundle"))
    assert float(module.encoder.clip.visual.proj.detach().abs().max()) == 0.0
    assert float(kept.clip.visual.proj.detach().abs().max()) > 0.0


def _moved(module: ContrastiveTuner, before: dict[str, Tensor]) -> set[str]:
    return {name for name, value in module.encoder.clip.state_dict().items() if not torch.equal(value, before[name])}


@pytest.mark.parametrize(
    ("freeze", "blocks", "text", "first_block", "last_block"),
    [("none", 0, True, True, True), ("text", 0, False, True, True), ("vision", 0, True, False, False),
     ("vision", 1, True, False, True)],
)  # fmt: skip
def test_one_step_moves_what_is_not_frozen(
    tmp_path: Path, freeze: Freeze, blocks: int, text: bool, first_block: bool, last_block: bool
) -> None:
    module = _tuner(tmp_path, freeze=FreezeConfig(freeze, blocks))
    before = {name: value.clone() for name, value in module.encoder.clip.state_dict().items()}
    _trainer(tmp_path, max_steps=2, limit_val_batches=0).fit(module, ColourData())
    moved = _moved(module, before)
    assert ("text_projection" in moved) is text
    assert ("transformer.resblocks.0.mlp.c_fc.weight" in moved) is text
    assert ("visual.conv1.weight" in moved) is first_block
    assert ("visual.transformer.resblocks.0.mlp.c_fc.weight" in moved) is first_block
    assert ("visual.transformer.resblocks.1.mlp.c_fc.weight" in moved) is last_block
    assert ("visual.proj" in moved) is last_block
    assert "logit_scale" in moved


def test_blocks_that_cannot_be_unfrozen_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the image tower has 2 blocks"):
        _tuner(tmp_path, freeze=FreezeConfig("vision", 3))
    with pytest.raises(InputError, match=r"only with freeze\.towers=vision or both"):
        _tuner(tmp_path, freeze=FreezeConfig("text", 1))
    with pytest.raises(InputError, match=r"expected one \{\}"):
        _tuner(tmp_path, texts=TextConfig(templates=["a portrait"]))


def test_a_loss_that_is_not_finite_stops_training(tmp_path: Path) -> None:
    module = _tuner(tmp_path)
    with torch.no_grad():
        module.encoder.clip.visual.proj.fill_(float("nan"))
    with pytest.raises(TrainingStoppedError, match="the loss of step 0 is nan"):
        _trainer(tmp_path, max_epochs=1).fit(module, ColourData())
    assert not (tmp_path / "bundle").exists()


def test_the_logit_scale_is_clamped(tmp_path: Path) -> None:
    module = _tuner(tmp_path, loss=LossConfig(max_logit_scale=20.0))
    with torch.no_grad():
        module.encoder.logit_scale.fill_(9.0)
    assert module.scale().item() == pytest.approx(20.0)


def test_captions_teach_it_too(tmp_path: Path) -> None:
    module = _tuner(tmp_path, loss=LossConfig(phrases=2.0))
    data = SyntheticCaptionData(batch_size=8, batches=2, valid=6, test=6, num_workers=0, size=32, seed=1)
    trainer = _trainer(tmp_path, max_epochs=1)
    trainer.fit(module, data)
    assert trainer.logged_metrics["valid/chance"] == pytest.approx(1 / 6)
    assert 0.0 <= float(trainer.logged_metrics["valid/recall_at_1"]) <= 1.0
    assert (tmp_path / "bundle" / "model.json").is_file()
