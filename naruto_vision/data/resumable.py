"""Batches whose order is a pure function of seed and epoch, and a loader that can go on in mid-epoch.

Nothing here uses a global random state: the loader's whole state is two integers, so a run that was killed
goes on with exactly the batches that it would have seen, whatever the number of workers.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

EpochOrder: TypeAlias = Callable[[int], NDArray[np.int64]]
"""Epoch number to the dataset indices of that epoch, shape (N,), int64; N is the same in every epoch."""


class Draw(NamedTuple):
    """One item to load: which one, and when, so that its augmentation is a pure function of these three.

    Attributes:
        epoch: Number of the epoch.
        position: Place in the epoch's order.
        index: Index into the dataset.
    """

    epoch: int
    position: int
    index: int

    def rng(self, seed: int) -> np.random.Generator:
        """Make the random generator of this item and no other.

        Args:
            seed: The run's seed.
        """
        return np.random.Generator(np.random.PCG64([seed, self.epoch, self.position, self.index]))


class EpochBatches(Sampler[list[Draw]]):
    """Batches of draws; of several processes, each takes its own share of every epoch.

    Args:
        order: The indices of an epoch.
        length: How many indices an epoch has.
        batch_size: Items a batch and process.
        drop_last: Whether an incomplete last batch is left out.
        rank: Number of this process.
        world: How many processes there are; each gets ``length // world`` items.

    Attributes:
        epoch: The epoch that the next iteration goes through.
        start: How many of its batches are already done.
    """

    def __init__(
        self,
        order: EpochOrder,
        length: int,
        batch_size: int,
        *,
        drop_last: bool = True,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.order = order
        self.share = length // world
        self.batch_size = min(batch_size, max(self.share, 1))
        self.drop_last = drop_last
        self.rank = rank
        self.world = world
        self.epoch = 0
        self.start = 0

    @property
    def sampler(self) -> "EpochBatches":
        """Itself: Lightning looks here for ``set_epoch``."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; a change of epoch starts at its first batch.

        Args:
            epoch: Number of the epoch.
        """
        if epoch != self.epoch:
            self.epoch = epoch
            self.start = 0

    def __len__(self) -> int:
        """Batches in a whole epoch."""
        full, rest = divmod(self.share, self.batch_size)
        return full + (0 if self.drop_last else int(rest > 0))

    def __iter__(self) -> Iterator[list[Draw]]:
        """Go through what is left of the epoch."""
        epoch, first = self.epoch, self.start
        self.start = 0
        order = self.order(epoch)
        for number in range(first, len(self)):
            inside = range(number * self.batch_size, min((number + 1) * self.batch_size, self.share))
            positions = [place * self.world + self.rank for place in inside]
            yield [Draw(epoch, position, int(order[position])) for position in positions]


class ResumableLoader(DataLoader[Any]):
    """A DataLoader that Lightning saves and restores with its checkpoint.

    Args:
        dataset: Takes a ``Draw`` as its index.
        batches: The order.
        num_workers: Worker processes; the batches do not depend on it.
        collate_fn: Makes a batch of a list of items.
        worker_init_fn: Called in each worker with its number.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        batches: EpochBatches,
        *,
        num_workers: int = 0,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        worker_init_fn: Callable[[int], None] | None = None,
    ) -> None:
        super().__init__(
            dataset,
            batch_sampler=batches,
            num_workers=num_workers,
            collate_fn=collate_fn,
            worker_init_fn=worker_init_fn,
            generator=torch.Generator(),  # else each epoch would draw a number from torch's global generator
        )
        self.batches = batches
        self._done = 0

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # a generator, so that Lightning sets the epoch first
        """Load what is left of the epoch."""
        self._done = self.batches.start
        for batch in super().__iter__():
            self._done += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Return the epoch and how many of its batches were given out."""
        return {"epoch": self.batches.epoch, "done": self._done}

    def load_state_dict(self, state_dict: Mapping[str, int]) -> None:
        """Go on where the state was taken.

        Args:
            state_dict: From ``state_dict``.
        """
        self.batches.set_epoch(state_dict["epoch"])
        self.batches.start = self._done = state_dict["done"]
