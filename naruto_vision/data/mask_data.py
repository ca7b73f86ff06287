"""Batches of prompts for training and measuring a promptable model."""

from typing import NamedTuple

import lightning.pytorch as pl
import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from naruto_vision.data.mask_prompts import Asked, ask, ask_all, collate, to_square
from naruto_vision.data.mask_sources import MaskedPicture, MaskSource
from naruto_vision.data.sampling import (
    Draw,
    DrawSampler,
    ResumableLoader,
    ShareSampler,
    checked_batch_size,
    consumed_batches,
    process_share,
)
from naruto_vision.records import Picture

_PROMPT_STREAM = 2  # keeps the prompts' random numbers apart from the order's
_VALID_STREAM = 3


class _Packed(NamedTuple):
    picture: Picture
    bits: NDArray[np.uint8]
    masks: int


class _Kept:
    """Squares that were made once, packed to eight mask pixels a byte."""

    def __init__(self, source: MaskSource, side: int, *, keep: bool) -> None:
        self._source = source
        self._side = side
        self._keep = keep
        self._squares: dict[int, _Packed] = {}

    def __getitem__(self, row: int) -> MaskedPicture:
        if row in self._squares:
            picture, bits, count = self._squares[row]
            masks = np.unpackbits(bits, count=count * self._side**2).astype(np.bool_)
            return MaskedPicture(picture, masks.reshape(count, self._side, self._side))
        square = to_square(self._source[row], self._side)
        if self._keep:
            self._squares[row] = _Packed(square.picture, np.packbits(square.masks), len(square.masks))
        return square


class _TrainPrompts(Dataset[Asked]):
    def __init__(self, squares: _Kept, seed: int, figures: int, off_figure: int, boxes: float) -> None:
        self._squares = squares
        self._seed = seed
        self._figures = figures
        self._off_figure = off_figure
        self._boxes = boxes

    def __getitem__(self, draw: Draw) -> Asked:
        rng = np.random.default_rng([_PROMPT_STREAM, self._seed, draw.place])
        square = self._squares[draw.row]
        return ask(square, rng, figures=self._figures, off_figure=self._off_figure, boxes=self._boxes)


class _ValidPrompts(Dataset[Asked]):
    def __init__(self, squares: _Kept, count: int) -> None:
        self._squares = squares
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, row: int) -> Asked:
        return ask_all(self._squares[row], np.random.default_rng([_VALID_STREAM, row]))


class MaskData(pl.LightningDataModule):
    """Prompts for training and measuring a promptable model.

    What a training step sees is a pure function of the seed and the step: neither the number of workers nor a
    restart changes it.

    Args:
        train: Pictures to learn from.
        valid: Pictures to measure on.
        side: Side of the model's input in pixels.
        batch_size: Pictures a batch.
        epoch_batches: Batches an epoch and process; None goes through all pictures once.
        num_workers: Processes that prepare training batches; 0 prepares them in the training process.
        seed: Decides the order and the prompts.
        figures: How many figures of a picture are asked for at most.
        off_figure: How many points of a picture lie on no figure.
        boxes: Chance that a figure is asked for by a box instead of a point.
        keep: Keep the scaled pictures in memory, about 0.22 MB each at 256 pixels.

    Example:
        >>> from naruto_vision.data.mask_sources import DrawnMasks
        >>> data = MaskData(DrawnMasks(1, 4, 64), DrawnMasks(2, 2, 64), side=64, batch_size=2)
        >>> next(iter(data.train_dataloader())).pixels.shape
        torch.Size([2, 3, 64, 64])
    """

    def __init__(
        self,
        train: MaskSource,
        valid: MaskSource,
        *,
        side: int = 256,
        batch_size: int = 8,
        epoch_batches: int | None = None,
        num_workers: int = 0,
        seed: int = 0,
        figures: int = 3,
        off_figure: int = 1,
        boxes: float = 0.25,
        keep: bool = True,
    ) -> None:
        super().__init__()
        self.train = train
        self.valid = valid
        self.side = side
        self.batch_size = checked_batch_size(batch_size)
        self.epoch_batches = epoch_batches
        self.num_workers = num_workers
        self.seed = seed
        self._prompts = _TrainPrompts(_Kept(train, side, keep=keep), seed, figures, off_figure, boxes)
        self._measured = _ValidPrompts(_Kept(valid, side, keep=keep), len(valid))

    def train_dataloader(self) -> ResumableLoader:
        """Return the training prompts from wherever the run stands."""
        rank, world = process_share(self.trainer)
        batches = self.epoch_batches or max(1, len(self.train) // (self.batch_size * world))
        sampler = DrawSampler(
            [range(len(self.train))],
            self.seed,
            self.batch_size,
            batches,
            lambda: consumed_batches(self.trainer),
            rank,
            world,
        )
        return ResumableLoader(self._prompts, sampler, self.batch_size, collate, self.num_workers)

    def val_dataloader(self) -> ResumableLoader:
        """Return every figure of every validation picture, in order; each picture in exactly one process."""
        sampler = ShareSampler(len(self.valid), *process_share(self.trainer))
        return ResumableLoader(self._measured, sampler, self.batch_size, collate)

    def test_dataloader(self) -> ResumableLoader:
        """Return the same prompts as validation."""
        return self.val_dataloader()
