"""Which image comes next: pure functions of the seed and the place in training, and the samplers over them.

A sampler that is a ``DistributedSampler`` is left alone by Lightning, so these split their work themselves.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from naruto_vision.errors import InputError

if TYPE_CHECKING:
    import lightning.pytorch as pl

_ORDER_STREAM = 1  # keeps the order's random numbers apart from the augmentation's

NOTHING = -1
"""The index of no item, for a process that has none."""


class Draw(NamedTuple):
    """One training example.

    Args:
        row: Row of the table.
        place: Place in the endless sequence of draws; with the seed it decides the augmentation.
    """

    row: int
    place: int


def _permutation(size: int, *seeds: int) -> list[int]:
    order: list[int] = np.random.default_rng([_ORDER_STREAM, *seeds]).permutation(size).tolist()
    return order


def draw_rows(groups: Sequence[Sequence[int]], seed: int, start: int, count: int) -> list[Draw]:
    """Return part of the endless sequence of training draws.

    Every round takes one row of each group, in a random order; every group goes through all its rows before
    it repeats one. With one group this is an ordinary shuffle; with one group a class it is class-balanced.
    """
    rounds: dict[int, list[int]] = {}
    passes: dict[tuple[int, int], list[int]] = {}
    draws = []
    for place in range(start, start + count):
        turn, step = divmod(place, len(groups))
        if turn not in rounds:
            rounds = {turn: _permutation(len(groups), seed, 0, turn)}
        group = rounds[turn][step]
        lap, index = divmod(turn, len(groups[group]))
        if (group, lap) not in passes:
            passes[group, lap] = _permutation(len(groups[group]), seed, 1, group, lap)
        draws.append(Draw(groups[group][passes[group, lap][index]], place))
    return draws


def _items(count: int) -> Dataset[Any]:
    """Return what ``DistributedSampler`` wants of a dataset: its length."""
    return cast("Dataset[Any]", range(count))


class DrawSampler(DistributedSampler[Draw]):
    """Draws of one epoch for one process, from wherever training stands.

    Args:
        groups: Lists of rows that take turns.
        seed: Decides the order.
        batch_size: Draws a batch and process; every batch is full.
        batches: Batches an epoch.
        consumed: Tells how many batches training has consumed since its beginning.
        rank: This process among ``world``.
        world: How many processes there are.
    """

    def __init__(
        self,
        groups: Sequence[Sequence[int]],
        seed: int,
        batch_size: int,
        batches: int,
        consumed: Callable[[], int],
        rank: int = 0,
        world: int = 1,
    ) -> None:
        super().__init__(_items(batch_size * batches * world), num_replicas=world, rank=rank, shuffle=False)
        self._groups = groups
        self._seed = seed
        self._batch_size = batch_size
        self._batches = batches
        self._consumed = consumed

    def __len__(self) -> int:
        return self._batch_size * self._batches

    def __iter__(self) -> Iterator[Draw]:
        first = self._consumed()
        for batch in range(first, first + self._batches):
            start = (batch * self.num_replicas + self.rank) * self._batch_size
            yield from draw_rows(self._groups, self._seed, start, self._batch_size)


class ShareSampler(DistributedSampler[int]):
    """This process's share of a dataset, in order: every item in exactly one process, none twice.

    Args:
        count: Items in the dataset.
        rank: This process among ``world``.
        world: How many processes there are.
        skipped: Items that need not be visited; looked at while iterating.
        never_empty: Give ``NOTHING`` to a process that has nothing to visit, since Lightning calls no hook (and so no
            gathering) in a process without a batch, for which the others would wait for ever.
    """

    def __init__(
        self,
        count: int,
        rank: int = 0,
        world: int = 1,
        skipped: Callable[[int], bool] | None = None,
        *,
        never_empty: bool = False,
    ) -> None:
        super().__init__(_items(count), num_replicas=world, rank=rank, shuffle=False)
        self._share: Sequence[int] = range(rank, count, world)
        self._in_place_of_none = (NOTHING,) if never_empty else ()
        self._is_skipped = skipped

    def _visited(self) -> Iterator[int]:
        return (index for index in self._share if self._is_skipped is None or not self._is_skipped(index))

    def __len__(self) -> int:
        return sum(1 for _ in self._visited()) or len(self._in_place_of_none)

    def __iter__(self) -> Iterator[int]:
        none = True
        for index in self._visited():
            none = False
            yield index
        yield from self._in_place_of_none if none else ()


class ResumableLoader(DataLoader[Any]):
    """A loader whose order depends on the trainer's own counters alone, so that it has no state to keep.

    Args:
        dataset: Takes what the sampler gives.
        sampler: Decides the order.
        batch_size: Items a batch.
        collate_fn: Makes a batch of a list of items.
        num_workers: Worker processes; the batches do not depend on it.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        sampler: DistributedSampler[Any],
        batch_size: int,
        collate_fn: Callable[[list[Any]], Any],
        num_workers: int = 0,
    ) -> None:
        super().__init__(
            dataset,
            batch_size=batch_size,
            sampler=sampler,
            collate_fn=collate_fn,
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
            generator=torch.Generator(),  # else every epoch would draw a number from the global generator
        )

    def state_dict(self) -> dict[str, int]:
        """Return a mark that tells Lightning that this loader resumes by itself."""
        return {"resumable": 1}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Accept the mark."""


def consumed_batches(trainer: "pl.Trainer | None") -> int:
    """Return how many training batches a run has consumed, also over a restart."""
    if trainer is None:
        return 0
    progress = trainer.fit_loop.epoch_loop.batch_progress.state_dict()
    return int(progress["total"]["processed"])


def process_share(trainer: "pl.Trainer | None") -> tuple[int, int]:
    """Return this process's rank and how many processes share the work."""
    return (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)


def checked_batch_size(batch_size: int) -> int:
    """Pass a batch size on, if it is one."""
    if batch_size < 1:
        msg = f"batch_size {batch_size}: expected at least 1"
        raise InputError(msg)
    return batch_size
