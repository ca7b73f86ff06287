"""Samplers: the order of images, a pure function of the seed and the position in training.

Lightning does not replace a ``DistributedSampler``, so these shard the data themselves.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

import numpy as np
import torch
import torch.distributed as dist
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from naruto_vision.errors import InputError
from naruto_vision.io.processes import end_with_parent

if TYPE_CHECKING:
    import lightning.pytorch as pl

T = TypeVar("T")

_ORDER_STREAM = 1  # keeps the order's random numbers apart from the augmentation's

NOTHING = -1
"""The index of no item, for a process that has none."""


class Draw(NamedTuple):
    """One training example: a row, and its position among all draws, which seeds its augmentation."""

    row: int
    position: int


def _permutation(size: int, *seeds: int) -> list[int]:
    order: list[int] = np.random.default_rng([_ORDER_STREAM, *seeds]).permutation(size).tolist()
    return order


def draw_rows(groups: Sequence[Sequence[int]], seed: int, start: int, count: int) -> list[Draw]:
    """Return part of the endless sequence of training draws.

    Every round takes one row of each group, in a random order; every group goes through all its rows before
    it repeats one. With one group this is an ordinary shuffle; with one group per class it is class-balanced.
    """
    rounds: dict[int, list[int]] = {}
    passes: dict[tuple[int, int], list[int]] = {}
    draws = []
    for position in range(start, start + count):
        turn, step = divmod(position, len(groups))
        if turn not in rounds:
            rounds = {turn: _permutation(len(groups), seed, 0, turn)}
        group = rounds[turn][step]
        lap, index = divmod(turn, len(groups[group]))
        if (group, lap) not in passes:
            passes[group, lap] = _permutation(len(groups[group]), seed, 1, group, lap)
        draws.append(Draw(groups[group][passes[group, lap][index]], position))
    return draws


class DrawSampler(DistributedSampler[Draw]):
    """Draws of one epoch for one process, in full batches, behind the batches that training has ``consumed``."""

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
        super().__init__(
            cast("Dataset[Any]", range(batch_size * batches * world)), num_replicas=world, rank=rank, shuffle=False
        )
        self._groups, self._seed, self._consumed = groups, seed, consumed
        self._batch_size, self._batches = batch_size, batches

    def __len__(self) -> int:
        return self._batch_size * self._batches

    def __iter__(self) -> Iterator[Draw]:
        first = self._consumed()
        for batch in range(first, first + self._batches):
            start = (batch * self.num_replicas + self.rank) * self._batch_size
            yield from draw_rows(self._groups, self._seed, start, self._batch_size)


class ShareSampler(DistributedSampler[int]):
    """This process's share of a dataset, in order: every item in exactly one process, none twice.

    Whole batches are dealt out in turn, so that every batch, and with it each result to the last bit, is the same in
    any number of processes. Items that are ``skipped`` when their turn comes are not visited. ``never_empty`` gives
    ``NOTHING`` to a process that has nothing to visit, since Lightning calls no hook without a batch, and the others
    would wait for its part.
    """

    def __init__(
        self,
        count: int,
        rank: int = 0,
        world: int = 1,
        skipped: Callable[[int], bool] | None = None,
        *,
        batch_size: int = 1,
        never_empty: bool = False,
    ) -> None:
        super().__init__(cast("Dataset[Any]", range(count)), num_replicas=world, rank=rank, shuffle=False)
        self._count, self._batch_size = count, batch_size
        self._fallback = [NOTHING] if never_empty else []
        self._is_skipped = skipped

    def __iter__(self) -> Iterator[int]:
        visited = False
        step = self.num_replicas * self._batch_size
        firsts = range(self.rank * self._batch_size, self._count, step)
        for index in (index for first in firsts for index in range(first, min(first + self._batch_size, self._count))):
            if self._is_skipped is None or not self._is_skipped(index):
                visited = True
                yield index
        if not visited:
            yield from self._fallback

    def __len__(self) -> int:
        return sum(1 for _ in self)


class Resumed:
    """A loader whose order depends on the trainer's own counters alone, so that it has no state to keep."""

    def state_dict(self) -> dict[str, int]:
        """Return a placeholder state: Lightning then leaves resuming to this loader."""
        return {"resumable": 1}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Ignore the placeholder state."""


class ResumableLoader(Resumed, DataLoader[Any]):
    """A loader of a sampler that starts behind the batches that training has consumed.

    One of several processes that has no batch gets None, so that it takes part in collective calls.
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
            worker_init_fn=end_with_parent,
            generator=torch.Generator(),  # otherwise every epoch consumes a number of the global generator
        )

    def __len__(self) -> int:
        return max(super().__len__(), int(self._is_one_of_several()))

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # of a loader that keeps no iterator
        empty = self._is_one_of_several()
        for batch in self.batches():
            empty = False
            yield batch
        if empty:
            yield None

    def _is_one_of_several(self) -> bool:
        return cast("DistributedSampler[Any]", self.sampler).num_replicas > 1

    def batches(self) -> Iterator[Any]:
        """Yield the batches of this process."""
        return super().__iter__()


def consumed_batches(trainer: "pl.Trainer | None") -> int:
    """Return how many training batches a run has consumed, also over a restart."""
    if trainer is None:
        return 0
    progress = trainer.fit_loop.epoch_loop.batch_progress.state_dict()
    return int(progress["total"]["processed"])


def process_share(trainer: "pl.Trainer | None") -> tuple[int, int]:
    """Return this process's rank and how many processes share the work."""
    return (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)


def of_all_processes(world: int, own: T) -> list[T]:
    """Return what each of ``world`` processes has, in the order of their ranks; all of them have to call this."""
    parts = [own] * world
    if world > 1:
        dist.all_gather_object(parts, own)
    return parts


def fixed_share(trainer: "pl.Trainer | None", count: int, batch_size: int) -> ShareSampler:
    """Deal the batches of a fixed dataset of this size out to the processes of a run."""
    return ShareSampler(count, *process_share(trainer), batch_size=batch_size)


def training_sampler(
    trainer: "pl.Trainer | None",
    groups: Sequence[Sequence[int]],
    seed: int,
    batch_size: int,
    batches: int | None = None,
) -> DrawSampler:
    """Sample this process's draws from the run's current step on; by default an epoch has one draw per row."""
    rank, world = process_share(trainer)
    batches = batches or -(-sum(map(len, groups)) // (batch_size * world))
    return DrawSampler(groups, seed, batch_size, batches, partial(consumed_batches, trainer), rank, world)


def checked_batch_size(batch_size: int) -> int:
    """Check a batch size and return it."""
    if batch_size < 1:
        raise InputError(f"batch_size {batch_size}: expected at least 1")
    return batch_size
