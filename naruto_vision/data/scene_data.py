"""The scenes of ``validate``, ``test`` and ``predict``, and how many of them go through the models together."""

from typing import Any

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader
from typing_extensions import override

from naruto_vision.data.sampling import checked_batch_size, process_share
from naruto_vision.data.scenes import SceneDataset, scene_loader
from naruto_vision.errors import InputError
from naruto_vision.scenes.ahead import group_size


class SceneDataModule(pl.LightningDataModule):
    """Scenes for ``validate``, ``test`` and ``predict``.

    Args:
        valid: Scene folder with ground truth.
        test: Scene folder with ground truth.
        predict: Scene folder; ground truth is not needed.
        batch_size: Scenes that are searched together; None takes 8 on a GPU, and 1 on a CPU.
        num_workers: Processes that decode ahead; 0 takes a thread.
    """

    def __init__(
        self,
        valid: str | None = None,
        test: str | None = None,
        predict: str | None = None,
        batch_size: int | None = None,
        num_workers: int = 1,
    ) -> None:
        super().__init__()
        self.allow_zero_length_dataloader_with_multiple_devices = True  # fewer scenes than processes is no mistake
        self.folders = {"valid": valid, "test": test, "predict": predict}
        self._batch_size = None if batch_size is None else checked_batch_size(batch_size)
        self.scene_workers = num_workers
        self._datasets: dict[str, SceneDataset] = {}

    def dataset(self, stage: str) -> SceneDataset:
        """Return the scenes of one stage; the same object every time.

        Args:
            stage: "valid", "test" or "predict".

        Raises:
            InputError: If the stage has no folder, or the folder cannot be used.
        """
        if stage not in self._datasets:
            folder = self.folders[stage]
            if folder is None:
                msg = f"no {stage} scenes: give their folder, --data.{stage} DIR"
                raise InputError(msg)
            self._datasets[stage] = SceneDataset(folder, need_truth=stage != "predict")
        return self._datasets[stage]

    def setup(self, stage: str) -> None:
        """Open the scene folders that a verb needs, so that a wrong one is told of at once.

        Args:
            stage: "fit", "validate", "test" or "predict".

        Raises:
            InputError: If a folder that is needed was not given or cannot be used.
        """
        if stage != "fit" or self.folders["valid"] is not None:
            self.dataset({"validate": "valid", "fit": "valid"}.get(stage, stage))

    @property
    def scene_batch_size(self) -> int:
        """Scenes that are searched together."""
        device = torch.device("cpu") if self.trainer is None else self.trainer.strategy.root_device
        return self._batch_size or group_size(device)

    def _scene_loader(self, stage: str) -> DataLoader[Any]:
        rank, world = process_share(self.trainer)
        size, workers = self.scene_batch_size, self.scene_workers
        return scene_loader(self.dataset(stage), batch_size=size, num_workers=workers, rank=rank, world=world)

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """Return the scenes that thresholds are chosen on, or nothing where no folder was given."""
        return [] if self.folders["valid"] is None else self._scene_loader("valid")

    def test_dataloader(self) -> DataLoader[Any]:
        """Return the scenes of ``test``."""
        return self._scene_loader("test")

    def predict_dataloader(self) -> DataLoader[Any]:
        """Return the scenes of ``predict``."""
        return self._scene_loader("predict")

    @override
    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Leave scenes where they are; move tensors of other batches.

        Args:
            batch: A list of scenes, or a batch of another loader.
            device: Where the model is.
            dataloader_idx: Which loader.
        """
        if isinstance(batch, list):
            return batch
        return super().transfer_batch_to_device(batch, device, dataloader_idx)


def scenes_together(trainer: pl.Trainer) -> int:
    """Return how many scenes a full batch of a run has.

    Args:
        trainer: One without a ``SceneDataModule`` counts as giving scenes one by one.
    """
    data = getattr(trainer, "datamodule", None)
    return data.scene_batch_size if isinstance(data, SceneDataModule) else 1
