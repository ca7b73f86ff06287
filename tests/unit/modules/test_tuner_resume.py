import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor
from torch.optim import AdamW

import naruto_vision
from naruto_vision.data.caption_data import CaptionBatch
from naruto_vision.data.synthetic_captions import SyntheticCaptionData
from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.encoders.tiny import TinySizes
from naruto_vision.modules.clip_tuner import ContrastiveTuner

SIZES = TinySizes(
    embed_dim=16, image_size=24, patch_size=12, vision_width=32, vision_layers=1, text_width=32, text_layers=1
)
STOP_AT = 6  # the second batch of the second epoch; the last checkpoint before it was written at step 5


class NoisyTuner(ContrastiveTuner):
    """Uses the global generator in each step, as dropout would."""

    def training_step(self, batch: CaptionBatch) -> Tensor:
        return super().training_step(batch) * (1 + 0.1 * torch.rand(()))


class Stop(pl.Callback):
    """Ends the run at a step, in the middle of an epoch."""

    def __init__(self, end: Callable[[], None]) -> None:
        self.end = end

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == STOP_AT:
            self.end()


def _adamw(parameters: Any) -> AdamW:
    return AdamW(parameters, lr=3e-3)


def fit(folder: Path, resume: str | None = None, end: Callable[[], None] | None = None) -> ContrastiveTuner:
    """Train three epochs of four batches, with a checkpoint after each step."""
    pl.seed_everything(5, verbose=False)
    encoder = ClipEncoder("tiny-clip", "random", sizes=SIZES)
    module = NoisyTuner(encoder, _adamw, bundle_dir=str(folder / "bundle"))
    data = SyntheticCaptionData(batch_size=4, batches=4, valid=4, num_workers=0, size=32, seed=2)
    keep = ModelCheckpoint(folder / "checkpoints", every_n_train_steps=1, save_last=True)
    trainer = pl.Trainer(
        default_root_dir=folder,
        max_epochs=3,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[keep, *([Stop(end)] if end else [])],
    )
    trainer.fit(module, data, ckpt_path=resume, weights_only=True)
    return module


def _equal(first: ContrastiveTuner, second: ContrastiveTuner) -> bool:
    other = second.state_dict()
    return all(torch.equal(value, other[name]) for name, value in first.state_dict().items())


def _interrupt() -> None:
    raise RuntimeError("the power went")


@pytest.mark.filterwarnings("ignore")
def test_a_run_stopped_in_mid_epoch_ends_with_the_same_bits(tmp_path: Path) -> None:
    unbroken = fit(tmp_path / "unbroken")
    with pytest.raises(RuntimeError, match="the power went"):
        fit(tmp_path / "broken", end=_interrupt)
    last = tmp_path / "broken" / "checkpoints" / "last.ckpt"
    assert torch.load(last, weights_only=True)["global_step"] == STOP_AT
    torch.rand(3)  # another process starts with another state
    resumed = fit(tmp_path / "broken", resume=str(last))
    assert resumed.global_step == unbroken.global_step == 12
    assert _equal(resumed, unbroken)
    assert ClipEncoder(str(tmp_path / "broken" / "bundle")).fingerprint == (
        ClipEncoder(str(tmp_path / "unbroken" / "bundle")).fingerprint
    )


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_run_killed_in_mid_epoch_ends_with_the_same_bits(tmp_path: Path) -> None:
    unbroken = fit(tmp_path / "unbroken")
    program = "import pathlib, test_tuner_resume as t; t.fit(pathlib.Path('broken'), end=t._kill)"
    root = Path(naruto_vision.__file__).parent.parent  # the package under test, wherever it is
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), str(root)])}
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    resumed = fit(tmp_path / "broken", resume=str(tmp_path / "broken" / "checkpoints" / "last.ckpt"))
    assert _equal(resumed, unbroken)
