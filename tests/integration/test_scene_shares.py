"""Two real processes: each scene in exactly one of them, also where there are fewer scenes than processes."""

import json
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pytest
from torch import nn

from naruto_vision.data.scenes import SceneDataModule, SceneItem
from naruto_vision.io.images import write_image


class Noter(pl.LightningModule):
    """Writes down which scenes its process was given."""

    def __init__(self, out: Path) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.out = out
        self.seen: list[str] = []

    def predict_step(self, batch: list[SceneItem], batch_idx: int) -> list[str]:  # noqa: ARG002 - Lightning passes it
        self.seen.extend(item.scene for item in batch)
        return self.seen

    def on_predict_end(self) -> None:
        (self.out / f"{self.global_rank}.json").write_text(json.dumps(self.seen))


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 5])
def test_two_processes_share_the_scenes(tmp_path: Path, count: int) -> None:
    for number in range(count):
        write_image(tmp_path / "scenes" / f"{number}.png", np.zeros((8, 8, 3), dtype=np.uint8))
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp_spawn",
        logger=False,
        enable_progress_bar=False,
        default_root_dir=tmp_path,
    )
    data = SceneDataModule(predict=str(tmp_path / "scenes"), num_workers=0)
    trainer.predict(Noter(tmp_path), data, return_predictions=False)
    shares = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    assert shares == [[f"{number}.png" for number in range(rank, count, 2)] for rank in range(2)]
