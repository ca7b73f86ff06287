"""Synthetic captioned characters, rendered during training: the pretraining data of tiny-clip."""

from functools import partial
from typing import Any, NamedTuple

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from naruto_vision.data.augmentation import chance, cut_out, occlude, soften
from naruto_vision.data.caption_data import CaptionBatch
from naruto_vision.data.sampling import (
    Draw,
    ResumableLoader,
    checked_batch_size,
    fixed_share,
    training_sampler,
)
from naruto_vision.data.store import Preprocess, module_preprocess
from naruto_vision.records import ImageArray
from naruto_vision.synthetic.attributes import Attributes, random_attributes
from naruto_vision.synthetic.captions import (
    PHRASE_ATTRIBUTES,
    PHRASES,
    VOCABULARY,
    caption,
    full_caption,
    phrase_truths,
)
from naruto_vision.synthetic.scene import draw_image

_TRAIN, _VALID, _TEST, _PROBE = 1, 2, 3, 9  # independent streams of random numbers
_ENDLESS = 1 << 40  # training never repeats a character
_IMAGE_SEEDS = 1 << 31
_GROUPS = torch.tensor([tuple(dict.fromkeys(PHRASE_ATTRIBUTES)).index(name) for name in PHRASE_ATTRIBUTES])


def character_at(index: int, seed: int, stream: int, twins: float) -> int:
    """Number of the character at an index: neighbours 2n and 2n + 1 are one character at rate ``twins``."""
    rng = np.random.default_rng([seed, stream, 0, index // 2])
    return index - index % 2 if chance(rng, twins) else index


def draw_character(number: int, seed: int, stream: int) -> Attributes:
    """Sample the attributes of a character."""
    return random_attributes(np.random.default_rng([seed, stream, 1, number]))


def draw_view(attributes: Attributes, rng: np.random.Generator, size: int, cut: float) -> ImageArray:
    """Draw one view, whole or cut out as a segmenter would, at times blurred or occluded: (h, w, 3), uint8, RGB."""
    image, mask = draw_image(attributes, int(rng.integers(_IMAGE_SEEDS)), size)
    view = cut_out(image, mask, rng) if chance(rng, cut) else image
    view = np.ascontiguousarray(view[:, ::-1]) if chance(rng, 0.5) else view
    view = soften(view, rng) if chance(rng, 0.2) else view
    return occlude(view, rng) if chance(rng, 0.15) else view


def probe_item(number: int, seed: int, size: int) -> tuple[ImageArray, str]:
    """Draw an image and its full caption that no training, validation or test set has."""
    attributes = random_attributes(np.random.default_rng([_PROBE, seed, number]))
    return draw_image(attributes, seed + number, size).image, full_caption(attributes)


class _Item(NamedTuple):
    pixels: Tensor
    character: int
    caption: str
    truths: Tensor


class SyntheticCaptions(Dataset[_Item]):
    """Characters by index: a pure function of seed, stream and index."""

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
        self._length, self._stream, self._seed, self._preprocess = length, stream, seed, preprocess
        self._size, self._cut, self._twins, self._full = size, cut, twins, full

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int | Draw) -> _Item:
        position = index.position if isinstance(index, Draw) else index
        number = character_at(position, self._seed, self._stream, self._twins)
        attributes = draw_character(number, self._seed, self._stream)
        rng = np.random.default_rng([self._seed, self._stream, 2, position])
        text = full_caption(attributes) if chance(rng, self._full) else caption(attributes, rng)
        pixels = self._preprocess(draw_view(attributes, rng, self._size, self._cut))
        return _Item(pixels, number, text, torch.from_numpy(phrase_truths(attributes)))


def _collate_batch(items: list[_Item]) -> CaptionBatch:
    pixels, numbers, captions, truths = zip(*items, strict=True)
    subjects = torch.tensor(numbers, dtype=torch.int64)
    return CaptionBatch(torch.stack(pixels), subjects, list(captions), list(PHRASES), _GROUPS, torch.stack(truths))


class SyntheticCaptionData(pl.LightningDataModule):
    """Synthetic characters for ``fit`` (an endless supply), ``validate`` and ``test`` (a fixed set, full captions).

    Every item is a pure function of the seed and its index, so neither the number of workers nor an interruption
    changes the training data.

    Args:
        batch_size: Images per batch and process.
        batches: Batches per epoch.
        valid: Validation characters: retrieval ranks this many.
        test: Test characters.
        num_workers: Worker processes that draw.
        size: Side of a drawing in pixels; a little above the encoder's input, because cut-outs lose their margin.
        cut: Probability that a figure is cut out of its background.
        twins: Probability that two neighbours in a training batch are views of one character.
        full: Probability that a training caption names every attribute.
        seed: Random seed of everything.
        preprocess: From an image to pixels (3, S, S); by default that of the module's encoder.

    Attributes:
        words: Every word of its captions and phrases.
    """

    words: tuple[str, ...] = (*VOCABULARY, *PHRASES)

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
        self.batches, self.num_workers, self.seed = batches, num_workers, seed
        self._counts = {_VALID: valid, _TEST: test}
        self._twins, self._full, self._preprocess = twins, full, preprocess
        self._dataset = partial(SyntheticCaptions, size=size, cut=cut)

    def _prepare(self) -> Preprocess:
        return self._preprocess or module_preprocess(self.trainer)

    def train_dataloader(self) -> ResumableLoader:
        """Return new characters from the run's current step on."""
        dataset = self._dataset(_ENDLESS, _TRAIN, self.seed, self._prepare(), twins=self._twins, full=self._full)
        # one group of one row: only the position of a draw counts
        sampler = training_sampler(self.trainer, [range(1)], self.seed, self.batch_size, self.batches)
        return ResumableLoader(dataset, sampler, self.batch_size, _collate_batch, self.num_workers)

    def _fixed_loader(self, stream: int) -> DataLoader[Any]:
        count = self._counts[stream]
        dataset = self._dataset(count, stream, self.seed, self._prepare(), twins=0.0, full=1.0)
        share = fixed_share(self.trainer, count, self.batch_size)
        return ResumableLoader(dataset, share, self.batch_size, _collate_batch)

    def val_dataloader(self) -> DataLoader[Any]:
        """Return the validation characters, one view each."""
        return self._fixed_loader(_VALID)

    def test_dataloader(self) -> DataLoader[Any]:
        """Return the test characters, one view each."""
        return self._fixed_loader(_TEST)
