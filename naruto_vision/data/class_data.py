"""Data module of labelled images, for training and evaluation of classifiers."""

import hashlib
import logging
from collections.abc import Callable
from functools import cached_property, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from naruto_vision.data.augmentation import augment
from naruto_vision.data.readers import ReaderName, read_splits
from naruto_vision.data.sampling import consumed_batches, process_share
from naruto_vision.data.store import (
    TRAINING_SIDE,
    ImageStore,
    PreparedImage,
    Preprocess,
    TableDataModule,
    TableQuarantine,
)
from naruto_vision.data.tables import ClassTable, Policy, ReadRules, Split, row_groups

_LOG = logging.getLogger(__name__)


class ClassBatch(NamedTuple):
    """Images with their classes."""

    pixels: Tensor  # (B, 3, S, S), float32, as the encoder's ``preprocess`` makes them
    labels: Tensor  # (B,), int64, indices in the data module's ``classes``
    paths: list[str]  # B paths relative to the split's root, POSIX


def _collate_batch(table: ClassTable, items: list[PreparedImage]) -> ClassBatch | None:
    if not items:
        return None
    rows = [table.rows[row] for _, row in items]
    labels = torch.tensor([table.classes.index(row.label) for row in rows], dtype=torch.int64)
    return ClassBatch(torch.stack([pixels for pixels, _ in items]), labels, [row.path for row in rows])


class ClassDataModule(TableDataModule):
    """Class data of any layout for ``fit``, ``validate``, ``test`` and ``predict``.

    Training order and augmentation depend on the seed and on how many batches were consumed, on nothing else:
    not on the number of workers, nor on whether the run was interrupted. Every training batch is full: in place of an
    image that cannot be read comes the next readable one of its class. The other stages leave it out. Images are
    decoded when a batch needs them, so a run starts at once however many are listed.

    Args:
        root: A Roboflow export, a folder of manifests, class folders, or a folder of shards.
        reader: How ``root`` is laid out; "auto" finds out.
        aliases: Class name as found, to the name that it should have.
        policy: How images with several positive classes are treated.
        batch_size: Images per batch and process.
        num_workers: Worker processes that decode ahead; 0 is best where images fit the cache and are small.
        balanced: Draw every class equally often.
        augmented: Augment the training images.
        mirrored: Let augmentation swap left and right; disable it if a mirror image has another class, or none.
        seed: Random seed of order and augmentation.
        cache_side: Longest side that images are kept at, in pixels; 0 keeps them as they are.
        cache_bytes: Bytes of pixels kept in memory for each split, in all its workers together; the rest is decoded
            again on demand. ``naruto-vision data shard`` makes a smaller data set for any number of runs.
        max_bad_fraction: Maximum fraction of unreadable images, in [0, 1]; the run stops as soon
            as there are more, or as no image of a training class can be read.
        hold_out_fraction: Fraction of each class's training images held out if there is no valid split.
        preprocess: From an image to pixels (3, S, S); by default that of the module's encoder.

    Attributes:
        preprocess: As given.
        augmented: As given.
        tables: Split name to its table.
        quarantines: Split name to the unreadable images found so far, with counts.
    """

    _what = "class data"

    def __init__(
        self,
        root: str,
        reader: ReaderName = "auto",
        aliases: dict[str, str] | None = None,
        policy: Policy = "single_only",
        batch_size: int = 32,
        num_workers: int = 0,
        balanced: bool = True,
        augmented: bool = True,
        mirrored: bool = True,
        seed: int = 0,
        cache_side: int = TRAINING_SIDE,
        cache_bytes: int = 1 << 30,
        max_bad_fraction: float = 0.05,
        hold_out_fraction: float = 0.2,
        preprocess: Preprocess | None = None,
    ) -> None:
        super().__init__(
            root,
            batch_size=batch_size,
            num_workers=num_workers,
            seed=seed,
            augment=partial(augment, mirrored=mirrored) if augmented else None,
            max_bad_fraction=max_bad_fraction,
            preprocess=preprocess,
        )
        self.balanced, self.augmented = balanced, augmented
        self._reader: ReaderName = reader
        self._rules = ReadRules(aliases or {}, policy)
        self._cache = (cache_side, cache_bytes)
        self._hold_out_fraction = hold_out_fraction

    @cached_property
    def tables(self) -> dict[Split, ClassTable]:
        """Split to its table, read on first use."""
        return read_splits(self.root, self._hold_out_fraction, self._reader, self._rules)

    @property
    def classes(self) -> tuple[str, ...]:
        """Every class of every split, the training split's first: the order of all label numbers."""
        return self.tables["train"].classes

    @property
    def class_counts(self) -> tuple[int, ...]:
        """Training images of each class, in the order of ``classes``."""
        return tuple(self.tables["train"].counts().values())

    def _new_store(self, split: Split) -> tuple[ImageStore, TableQuarantine]:
        table, what = self.tables[split], f"images of split {split!r}"
        quarantine = TableQuarantine(what, table.rows, self._max_bad_fraction, every_class=split == "train")
        return ImageStore(table, *self._cache), quarantine

    def _batch_maker(self, split: Split) -> Callable[[list[PreparedImage]], ClassBatch | None]:
        return partial(_collate_batch, self.tables[split])

    def _groups(self) -> list[list[int]]:
        return row_groups(self.tables["train"], balanced=self.balanced)

    def state_dict(self) -> dict[str, Any]:
        """Return what the data must match to resume an interrupted run exactly."""
        bad = {split: list(quarantine.bad.items()) for split, quarantine in self.quarantines.items()}
        return {"order": self._order_identity(), "consumed": consumed_batches(self.trainer), "quarantined": bad}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Check that the data are those of the interrupted run; the position itself is the trainer's counter.

        Args:
            state: What ``state_dict`` returned.
        """
        if state.get("order") != self._order_identity():
            _LOG.warning("%s: data, batch size, world or seed differ from the interrupted run's", self.root)
            return
        for split, bad in state.get("quarantined", {}).items():
            self._open(split)
            self.quarantines[split].note((), bad)

    def _order_identity(self) -> str:
        """Return a digest of everything that determines the training order."""
        rows = self.tables["train"].rows
        parts = (self.seed, self.batch_size, self.balanced, process_share(self.trainer)[1], rows)
        return hashlib.sha256(repr(parts).encode()).hexdigest()
