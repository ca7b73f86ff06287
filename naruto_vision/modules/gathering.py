"""Exchange lists and files between the processes of one run, and compare their inputs."""

import hashlib
import secrets
import socket
from collections.abc import Iterable, Iterator
from itertools import zip_longest
from pathlib import Path
from typing import TypeVar

import lightning.pytorch as pl
import torch
import torch.distributed as dist
from torch import Tensor

from naruto_vision.data.sampling import of_all_processes
from naruto_vision.errors import InputError
from naruto_vision.io.atomic import TEMPORARY_PREFIX
from naruto_vision.io.locks import folder_lock

Item = TypeVar("Item")
_CHUNK = 1 << 24  # bytes of a file that each process sends at a time


def gather_lists(trainer: pl.Trainer, own: list[Item]) -> list[Item]:
    """Concatenate the lists of all processes in the order of their ranks."""
    return [value for part in of_all_processes(trainer.world_size, own) for value in part]


def gather_batches(trainer: pl.Trainer, own: list[Item]) -> list[Item]:
    """Collect what all processes have of their batches, in the order that one process would have it in.

    ``own`` has one item per batch, and the batches were dealt out in turn (``ShareSampler``).
    """
    parts = gather_lists(trainer, [own])
    longest = max(map(len, parts))
    return [part[index] for index in range(longest) for part in parts if index < len(part)]


def gather_items(trainer: pl.Trainer, own: list[list[Item]]) -> list[Item]:
    """Concatenate the lists that all processes have of their batches, in the order of one process."""
    return [item for batch in gather_batches(trainer, own) for item in batch]


def gather_columns(trainer: pl.Trainer, own: list[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """Concatenate the batches of all ranks, tuples of tensors (B, ...), by column: (N, ...); () if there is none."""
    batches = gather_batches(trainer, own)
    return tuple(torch.cat(column) for column in zip(*batches, strict=True))


def gather_file(trainer: pl.Trainer, own: Path | None) -> Iterator[tuple[int, bytes]]:
    """Yield every process's file in parts, with its rank; None sends nothing.

    All processes have to iterate to the end. Memory does not depend on the sizes of the files.
    """
    parts = _parts(own)
    while any(sent := gather_lists(trainer, [next(parts, b"")])):
        yield from ((rank, part) for rank, part in enumerate(sent) if part)


def _parts(path: Path | None) -> Iterator[bytes]:
    if path is not None:
        with path.open("rb") as file:
            while part := file.read(_CHUNK):
                yield part


def check_same(trainer: pl.Trainer, what: str, values: Iterable[str], remedy: str) -> None:
    """Compare lines of text of all processes.

    Raises:
        InputError: In every process, if they differ; it names a process, its host, and the first line that differs.
    """
    own = list(values)
    digest = hashlib.sha256("\n".join(own).encode("utf-8", "surrogatepass")).hexdigest()
    digests = gather_lists(trainer, [digest])
    if len(set(digests)) == 1:
        return
    other = next(rank for rank, each in enumerate(digests) if each != digests[0])
    sides = gather_lists(trainer, [(socket.gethostname(), own) if trainer.global_rank in {0, other} else ("", [])])
    (first_host, first), (host, second) = sides[0], sides[other]
    here, there = next((a, b) for a, b in zip_longest(first, second, fillvalue="nothing") if a != b)
    raise InputError(f"{what}: rank 0 on {first_host} has {here}, rank {other} on {host} has {there}; {remedy}")


def folder_leaders(trainer: pl.Trainer, folder: str | Path) -> list[int]:
    """Return, for each rank, the lowest rank that sees the same folder under this path; hosts may have their own."""
    if trainer.world_size == 1:
        return [0]
    folder = Path(folder)
    token = trainer.strategy.broadcast(secrets.token_hex(4))
    marks = [folder / f"{TEMPORARY_PREFIX}{token}.{rank}" for rank in range(trainer.world_size)]
    with folder_lock(folder, file=marks[trainer.global_rank]):
        trainer.strategy.barrier("folder marks")
        seen = [rank for rank, mark in enumerate(marks) if mark.exists()]
        return gather_lists(trainer, [min(seen)])


def check_shared(trainer: pl.Trainer, folder: str | Path, option: str, why: str) -> None:
    """Refuse a folder of which hosts have their own.

    Raises:
        InputError: In every process.
    """
    leaders = folder_leaders(trainer, folder)
    if any(leaders):
        hosts = gather_lists(trainer, [socket.gethostname()])
        other = next(rank for rank, leader in enumerate(leaders) if leader)
        msg = f"{folder}: rank {other} on {hosts[other]} and rank 0 on {hosts[0]} do not see the same folder, {why}"
        raise InputError(f"{msg}; give a shared one: {option} DIR")


def take_from_first(value: Tensor) -> Tensor:
    """Broadcast a tensor from rank 0 in place; all ranks have the same shape."""
    if dist.is_available() and dist.is_initialized():
        dist.broadcast(value, 0)
    return value
