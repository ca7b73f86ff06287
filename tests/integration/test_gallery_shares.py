"""Two real processes and one image: the process without an image waits for nobody, and nobody for it."""

from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from naruto_vision.data.gallery_data import GalleryBatch, GalleryDataModule
from naruto_vision.encoders.base import Encoder
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.io.images import write_image
from naruto_vision.modules.scene_retriever import SceneRetriever
from naruto_vision.records import ImageArray


class MeanColour(Encoder):
    """Embeds an image as its mean colour; refuses a batch of nothing, as convolutions may."""

    dim = 3

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))  # a module without parameters cannot be distributed

    def preprocess(self, image: ImageArray) -> Tensor:
        return torch.from_numpy(image[:4, :4].copy()).permute(2, 0, 1).float() / 255 + 0.1

    def encode_images(self, pixels: Tensor) -> Tensor:
        if not len(pixels):
            raise RuntimeError("nothing to embed")
        return nn.functional.normalize(self.gain * pixels.mean(dim=(2, 3)), dim=-1)

    def describe(self) -> dict[str, str]:
        return {"architecture": "mean colour"}


def one_image(root: Path) -> Path:
    write_image(root / "ann" / "1.png", np.full((8, 8, 3), 90, dtype=np.uint8))
    return root


def test_a_process_without_images_gets_one_empty_batch(tmp_path: Path) -> None:
    data = GalleryDataModule(str(one_image(tmp_path)))
    data.trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, default_root_dir=tmp_path)
    batches = []
    for rank in range(3):
        loader = data.gallery_loader(MeanColour().preprocess)
        sampler = type(loader.sampler)(1, rank, 3, never_empty=True)
        batches.append([loader.collate_fn([loader.dataset[place] for place in sampler])[0]])
    assert [batch[0].labels for batch in batches] == [["ann"], [], []]
    assert all(len(batch[0].pixels) == len(batch[0].labels) for batch in batches)
    empty = GalleryBatch(torch.empty(0, 3, 1, 1), [], [], [], torch.empty(0, 0), torch.empty(0, 0))
    assert SceneRetriever(MeanColour()).training_step(empty) is None


@pytest.mark.slow
def test_fewer_images_than_processes_are_enrolled(tmp_path: Path) -> None:
    trainer = pl.Trainer(
        max_epochs=1,
        accelerator="cpu",
        devices=2,
        strategy="ddp_spawn",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        default_root_dir=tmp_path,
    )
    module = SceneRetriever(MeanColour(), gallery=str(tmp_path / "gallery"))
    trainer.fit(module, GalleryDataModule(str(one_image(tmp_path / "data"))))
    assert [row.path for row in Gallery.open(tmp_path / "gallery").rows] == ["ann/1.png"]
