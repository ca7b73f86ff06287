"""Groups of pictures to the splits: each to one, and every class shared out as well as whole groups allow."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from naruto_vision.data.frame_leaks import Numbers
from naruto_vision.data.tables import Split
from naruto_vision.errors import InputError


@dataclass(frozen=True)
class SplitPlan:
    """How much goes where.

    Args:
        valid: Share of the pictures that validates, in [0, 1).
        test: Share of the pictures that tests, in [0, 1).
        seed: Decides between groups of equal size.
        window: Frame numbers that differ by at most this much stay together.
        numbers: What numbers in file names are.

    Raises:
        InputError: If a share is out of range, or nothing is left to train on.
    """

    valid: float = 0.15
    test: float = 0.15
    seed: int = 42
    window: int = 3
    numbers: Numbers = "auto"

    def __post_init__(self) -> None:
        if not (0 <= self.valid < 1 and 0 <= self.test < 1 and self.valid + self.test < 1):
            msg = f"valid {self.valid} and test {self.test}: expected shares of 0 or more that leave some to train on"
            raise InputError(msg)

    def shares(self) -> dict[Split, float]:
        """Return the share of each split that gets any, the training split first."""
        shares: dict[Split, float] = {"train": 1 - self.valid - self.test, "valid": self.valid, "test": self.test}
        return {split: share for split, share in shares.items() if share > 0}


def _order(groups: Sequence[Sequence[int]], seed: int) -> list[int]:
    """Return the groups, the largest first, equal ones by chance: small ones fill up what large ones left."""
    chance = np.random.default_rng(seed).permutation(len(groups)).tolist()
    return sorted(range(len(groups)), key=lambda place: (-len(groups[place]), chance[place]))


def _misfit(held: Mapping[str, int], added: Mapping[str, int], wanted: Mapping[str, float]) -> float:
    """Return how much further a split gets from what is wanted of each class when a group is added to it."""
    return sum(
        ((held.get(name, 0) + more - wanted[name]) ** 2 - (held.get(name, 0) - wanted[name]) ** 2) / wanted[name]
        for name, more in added.items()
    )


def assign_groups(groups: Sequence[Sequence[int]], labels: Sequence[str], plan: SplitPlan) -> dict[Split, list[int]]:
    """Give every group to one split, so that each class is shared out as asked for, as well as whole groups allow.

    The first group of every class goes to training, so that there is nothing to be measured that was not learned.

    Args:
        groups: Lists of pictures that stay together; every picture is in exactly one.
        labels: The class of each of N pictures.
        plan: How much goes where.

    Returns:
        Split name to its pictures, sorted; the same for the same arguments.
    """
    totals = Counter(labels)
    shares = plan.shares()
    wanted = {split: {name: share * totals[name] for name in totals} for split, share in shares.items()}
    held: dict[Split, Counter[str]] = {split: Counter() for split in shares}
    given: dict[Split, list[int]] = {split: [] for split in shares}
    for place in _order(groups, plan.seed):
        added = Counter(labels[picture] for picture in groups[place])
        fresh = any(held["train"][name] == 0 for name in added)
        best: Split = "train" if fresh else min(shares, key=lambda split: _misfit(held[split], added, wanted[split]))
        held[best].update(added)
        given[best].extend(groups[place])
    return {split: sorted(pictures) for split, pictures in given.items()}
