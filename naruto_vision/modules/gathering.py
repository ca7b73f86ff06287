"""Bring what several processes hold together, whatever its length in each of them."""

from typing import TypeVar

import lightning.pytorch as pl
import torch.distributed as dist

Item = TypeVar("Item")


def gather_lists(trainer: pl.Trainer, own: list[Item]) -> list[Item]:
    """Return the lists of all processes one after the other, in the order of their ranks.

    Args:
        trainer: Knows how many processes there are.
        own: This process's list of picklable values; its length may differ from the others'.
    """
    if trainer.world_size == 1:
        return list(own)
    parts: list[list[Item]] = [[] for _ in range(trainer.world_size)]
    dist.all_gather_object(parts, own)
    return [value for part in parts for value in part]
