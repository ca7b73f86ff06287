"""Drawn strangers with captions, made while training runs: the data that the tiny CLIP learns from."""

from functools import partial
from typing import Any, NamedTuple

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from naruto_vision.data.augmentation import chance, cut_out, occlude, soften
from naruto_vision.data.sampling import (
    Draw,
    DrawSampler,
    ResumableLoader,
    ShareSampler,
    checked_batch_size,
    consumed_batches,
    process_share,
)
from naruto_vision.data.store import Preprocess, module_preprocess
from naruto_vision.records import ImageArray
from naruto_vision.synthetic.attributes import Attributes, random_attributes
from naruto_vision.synthetic.captions import caption, full_caption, phrase_truths
from naruto_vision.synthetic.scene import draw_image

_TRAIN, _VALID, _TEST = 1, 2, 3  # streams of random numbers that never meet
_ENDLESS = 1 << 40  # training never sees a stranger twice, so its table of strangers has no end
_PIXELS = 1 << 31


class CaptionBatch(NamedTuple):
    """Images of strangers, what is said of them, and what is true of them.

    Args:
        pixels: Shape (B, 3, S, S), float32, as the encoder's ``preprocess`` makes them.
        strangers: Shape (B,), int64; equal numbers are two views of one stranger.
        captions: B texts, one an image.
        truths: Shape (B, P), bool: which of ``drawn.phrases.PHRASES`` are true of each image's stranger.
    """

    pixels: Tensor
    strangers: Tensor
    captions: list[str]
    truths: Tensor


def stranger_of(place: int, seed: int, stream: int, twins: float) -> int:
    """Tell who is drawn at a place: neighbours 2n and 2n + 1 are sometimes two views of one stranger.

    Args:
        place: Place in the sequence.
        seed: The run's seed.
        stream: Keeps training, validation and test apart.
        twins: How often neighbours are one stranger, in [0, 1].
    """
    rng = np.random.default_rng([seed, stream, 0, place // 2])
    return place - place % 2 if chance(rng, twins) else place


def draw_stranger(number: int, seed: int, stream: int) -> Attributes:
    """Draw a stranger's attributes.

    Args:
        number: Which stranger.
        seed: The run's seed.
        stream: Keeps training, validation and test apart.
    """
    return random_attributes(np.random.default_rng([seed, stream, 1, number]))


def draw_view(attributes: Attributes, rng: np.random.Generator, size: int, cut: float) -> ImageArray:
    """Draw one view: as it is drawn, or cut out as a segmenter would; sometimes blurred or partly hidden.

    Args:
        attributes: Who it is.
        rng: Decides everything else.
        size: Side of the drawing in pixels.
        cut: How often the figure is cut out, in [0, 1].

    Returns:
        Shape (h, w, 3), uint8, RGB, at most ``size`` a side.
    """
    drawn = draw_image(attributes, int(rng.integers(_PIXELS)), size)
    view = cut_out(drawn.image, drawn.mask, rng) if chance(rng, cut) else drawn.image
    view = np.ascontiguousarray(view[:, ::-1]) if chance(rng, 0.5) else view
    view = soften(view, rng) if chance(rng, 0.2) else view
    return occlude(view, rng) if chance(rng, 0.15) else view


class StrangerDataset(Dataset[tuple[Tensor, int, str, Tensor]]):
    """Strangers by place: a pure function of seed, stream and place.

    Args:
        length: How many places there are.
        stream: Keeps training, validation and test apart.
        seed: The run's seed.
        preprocess: From an image to the encoder's pixels.
        size: Side of a drawing in pixels.
        cut: How often the figure is cut out, in [0, 1].
        twins: How often neighbours are two views of one stranger, in [0, 1].
        full: How often a caption says everything, in [0, 1].
    """

    def __init__(
        self,
        length: int,
        stream: int,
        seed: int,
        preprocess: Preprocess,
        *,
        size: int,
        cut: float,
        twins: float,
        full: float,
    ) -> None:
        self._length = length
        self._stream = stream
        self._seed = seed
        self._preprocess = preprocess
        self._size = size
        self._cut = cut
        self._twins = twins
        self._full = full

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int | Draw) -> tuple[Tensor, int, str, Tensor]:
        place = index.place if isinstance(index, Draw) else index
        stranger = stranger_of(place, self._seed, self._stream, self._twins)
        attributes = draw_stranger(stranger, self._seed, self._stream)
        rng = np.random.default_rng([self._seed, self._stream, 2, place])
        text = full_caption(attributes) if chance(rng, self._full) else caption(attributes, rng)
        pixels = self._preprocess(draw_view(attributes, rng, self._size, self._cut))
        return pixels, stranger, text, torch.from_numpy(phrase_truths(attributes))


def _as_batch(items: list[tuple[Tensor, int, str, Tensor]]) -> CaptionBatch:
    pixels, strangers, captions, truths = zip(*items, strict=True)
    numbers = torch.tensor(strangers, dtype=torch.int64)
    return CaptionBatch(torch.stack(pixels), numbers, list(captions), torch.stack(truths))


class DrawnCaptionData(pl.LightningDataModule):
    """Strangers for ``fit`` (an endless supply), ``validate`` and ``test`` (a fixed set with full captions).

    Every item is a pure function of the seed and its place, so neither the number of workers nor an interruption
    changes what training sees.

    Args:
        batch_size: Images a batch and process.
        batches: Batches an epoch.
        valid: Strangers to validate on: retrieval is one among this many.
        test: Strangers to test on.
        num_workers: Worker processes that draw.
        size: Side of a drawing in pixels; a little above the encoder's input, because cut-outs lose their margin.
        cut: How often a figure is cut out of its background, in [0, 1].
        twins: How often two neighbours in a training batch are views of one stranger, in [0, 1].
        full: How often a training caption says everything, in [0, 1].
        seed: Decides everything.
        preprocess: From an image to pixels (3, S, S); by default that of the module's encoder.
    """

    def __init__(
        self,
        batch_size: int = 96,
        batches: int = 100,
        valid: int = 256,
        test: int = 256,
        num_workers: int = 1,
        size: int = 112,
        cut: float = 0.6,
        twins: float = 0.25,
        full: float = 0.5,
        seed: int = 0,
        preprocess: Preprocess | None = None,
    ) -> None:
        super().__init__()
        self.batch_size = checked_batch_size(batch_size)
        self.batches = batches
        self.num_workers = num_workers
        self.seed = seed
        self._counts = {_VALID: valid, _TEST: test}
        self._twins = twins
        self._full = full
        self._preprocess = preprocess
        self._dataset = partial(StrangerDataset, size=size, cut=cut)

    def _prepare(self) -> Preprocess:
        return self._preprocess or module_preprocess(self.trainer)

    def train_dataloader(self) -> ResumableLoader:
        """Return new strangers from wherever the run stands."""
        dataset = self._dataset(_ENDLESS, _TRAIN, self.seed, self._prepare(), twins=self._twins, full=self._full)
        sampler = DrawSampler(
            [range(1)],
            self.seed,
            self.batch_size,
            self.batches,
            lambda: consumed_batches(self.trainer),
            *process_share(self.trainer),
        )  # one group of one row: only a draw's place counts
        return ResumableLoader(dataset, sampler, self.batch_size, _as_batch, self.num_workers)

    def _fixed_loader(self, stream: int) -> DataLoader[Any]:
        count = self._counts[stream]
        dataset = self._dataset(count, stream, self.seed, self._prepare(), twins=0.0, full=1.0)
        return ResumableLoader(dataset, ShareSampler(count, *process_share(self.trainer)), self.batch_size, _as_batch)

    def val_dataloader(self) -> DataLoader[Any]:
        """Return the validation strangers, one view each."""
        return self._fixed_loader(_VALID)

    def test_dataloader(self) -> DataLoader[Any]:
        """Return the test strangers, one view each."""
        return self._fixed_loader(_TEST)
