"""Images with their classes, for training and for measuring."""

import hashlib
import logging
from collections import Counter
from functools import partial
from typing import Any, NamedTuple

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler
from typing_extensions import override

from naruto_vision.data.augmentation import augment
from naruto_vision.data.readers import ReaderName, read_splits
from naruto_vision.data.sampling import (
    DrawSampler,
    ShareSampler,
    checked_batch_size,
    consumed_batches,
    process_share,
)
from naruto_vision.data.store import (
    Augment,
    ImageStore,
    PreparedImage,
    Preprocess,
    TableDataset,
    TableLoader,
    TableQuarantine,
    module_preprocess,
    report_quarantines,
)
from naruto_vision.data.tables import ClassTable, Policy, ReadRules, Split, row_groups
from naruto_vision.errors import InputError

_LOG = logging.getLogger(__name__)


class ClassBatch(NamedTuple):
    """Images with their classes.

    Args:
        pixels: Shape (B, 3, S, S), float32, as the encoder's ``preprocess`` makes them.
        labels: Shape (B,), int64, places in the data module's ``classes``.
        paths: B paths relative to the split's root, POSIX.
    """

    pixels: Tensor
    labels: Tensor
    paths: list[str]


def _as_batch(classes: tuple[str, ...], items: list[PreparedImage]) -> ClassBatch | None:
    if not items:
        return None
    pixels, labels, paths = zip(*items, strict=True)
    numbers = torch.tensor([classes.index(label) for label in labels], dtype=torch.int64)
    return ClassBatch(torch.stack(pixels), numbers, list(paths))


class ClassDataModule(pl.LightningDataModule):
    """Class data of any layout for ``fit``, ``validate``, ``test`` and ``predict``.

    Training order and augmentation depend on the seed and on how many batches were consumed, on nothing else:
    not on the number of workers, nor on whether the run was interrupted. Every training batch is full: in place of a
    image that cannot be read comes the next readable one of its class. The other verbs leave it out. Images are
    decoded when a batch needs them, so a run starts at once however many are listed.

    Args:
        root: A Roboflow export, a folder of manifests, class folders, or a folder of shards.
        reader: How ``root`` is laid out; "auto" looks.
        aliases: Class name as found, to the name that it should have.
        policy: What becomes of images with several positive classes.
        batch_size: Images a batch and process.
        num_workers: Worker processes that decode ahead; 0 is best where images fit the cache and are small.
        balanced: Draw every class equally often.
        augmented: Augment the training images.
        mirrored: Let augmentation swap left and right; not where a mirror image is of another class, or of none.
        seed: Decides order and augmentation.
        cache_side: Longest side that images are kept at, in pixels; 0 keeps them as they are.
        cache_bytes: Bytes of pixels kept in memory for each split, in all its workers together; the rest is decoded
            again on demand. ``naruto-vision data shard`` makes a smaller data set for any number of runs.
        max_bad_fraction: Largest share of the listed images that may be unreadable, in [0, 1]; the run stops as soon
            as there are more, or as no image of a training class can be read.
        hold_out_fraction: Share of each class's training images that validates where there is no valid split.
        preprocess: From an image to pixels (3, S, S); by default that of the module's encoder.

    Attributes:
        preprocess: As given.
        augmented: As given.
        tables: Split name to its table, after ``setup``.
        quarantines: Split name to the images met so far that could not be read, with counts.
    """

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
        cache_side: int = 256,
        cache_bytes: int = 1 << 30,
        max_bad_fraction: float = 0.05,
        hold_out_fraction: float = 0.2,
        preprocess: Preprocess | None = None,
    ) -> None:
        super().__init__()
        self.allow_zero_length_dataloader_with_multiple_devices = True  # a split may be smaller than the world
        self.root = root
        self.batch_size = checked_batch_size(batch_size)
        self.num_workers = num_workers
        self.balanced, self.augmented = balanced, augmented
        self.seed = seed
        self.tables: dict[Split, ClassTable] = {}
        self.quarantines: dict[str, TableQuarantine] = {}
        self._reader: ReaderName = reader
        self._rules = ReadRules(aliases or {}, policy)
        self._cache = {"side": cache_side, "budget": cache_bytes}
        self._max_bad_fraction = max_bad_fraction
        self._hold_out_fraction = hold_out_fraction
        self._augment: Augment | None = partial(augment, mirrored=mirrored) if augmented else None
        self.preprocess = preprocess
        self._stores: dict[str, ImageStore] = {}

    @property
    def classes(self) -> tuple[str, ...]:
        """Every class of every split, the training split's first: the order of all label numbers."""
        self._read_tables()
        return self.tables["train"].classes

    @property
    def class_counts(self) -> tuple[int, ...]:
        """Training images of each class, in the order of ``classes``."""
        self._read_tables()
        counts = Counter(row.label for row in self.tables["train"].rows)
        return tuple(counts[name] for name in self.classes)

    def _read_tables(self) -> None:
        if not self.tables:
            self.tables = read_splits(self.root, self._hold_out_fraction, self._reader, self._rules)

    def _open(self, split: Split) -> ClassTable:
        self._read_tables()
        if split not in self.tables:
            msg = f"{self.root}: no class data of split {split!r}"
            raise InputError(msg)
        table = self.tables[split]
        if split not in self._stores:
            self._stores[split] = ImageStore(table, **self._cache)
            self.quarantines[split] = TableQuarantine(
                f"images of split {split!r}", table, self._max_bad_fraction, every_class=split == "train"
            )
        return table

    def setup(self, stage: str) -> None:
        """Read the tables that a verb needs; no image is decoded.

        Args:
            stage: "fit", "validate", "test" or "predict".

        Raises:
            InputError: If a split is not there or cannot be used.
        """
        splits: dict[str, tuple[Split, ...]] = {"fit": ("train", "valid"), "validate": ("valid",)}
        for split in splits.get(stage, ("test",)):
            self._open(split)
        if stage == "validate" and not self.tables["valid"].rows:
            msg = f"{self.root}: no images to validate on: too few of every class to hold any out"
            raise InputError(msg)

    def dataset(self, split: Split) -> TableDataset:
        """Return the images of a split in table order, as samples; only draws of "train" are augmented.

        Args:
            split: "train", "valid" or "test".

        Raises:
            InputError: If the split is not there.
        """
        preprocess = self.preprocess or module_preprocess(self.trainer)
        return TableDataset(self._open(split), self._stores[split], preprocess, self._augment, self.seed)

    @override
    def teardown(self, stage: str) -> None:
        """Say which images could not be read, and list them in ``quarantine.jsonl`` in the run's log folder.

        Raises:
            InputError: If they are too many over all processes.
        """
        report_quarantines(self.trainer, self.quarantines)

    def train_dataloader(self) -> TableLoader:
        """Return the training draws from wherever the run stands."""
        dataset = self.dataset("train")
        share = process_share(self.trainer)
        batches = -(-len(dataset) // (self.batch_size * share[1]))
        groups = row_groups(self.tables["train"], balanced=self.balanced)
        sampler = DrawSampler(
            groups, self.seed, self.batch_size, batches, lambda: consumed_batches(self.trainer), *share
        )
        return self._loader("train", dataset, sampler)

    def _loader(self, split: Split, dataset: TableDataset, sampler: DistributedSampler[Any]) -> TableLoader:
        collate = partial(_as_batch, self.classes)
        return TableLoader(dataset, sampler, self.batch_size, collate, self.quarantines[split], self.num_workers)

    def ordered_loader(self, split: Split) -> DataLoader[Any]:
        """Return the readable images of a split in table order, unaugmented; each in exactly one process.

        Args:
            split: "train", "valid" or "test".
        """
        dataset = self.dataset(split)
        sampler = ShareSampler(len(dataset), *process_share(self.trainer))
        return self._loader(split, dataset, sampler)

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """Return the validation images in table order, or nothing where too few were there to hold any out."""
        return self.ordered_loader("valid") if self._open("valid").rows else []

    def test_dataloader(self) -> DataLoader[Any]:
        """Return the test images in table order."""
        return self.ordered_loader("test")

    def predict_dataloader(self) -> DataLoader[Any]:
        """Return the test images in table order."""
        return self.ordered_loader("test")

    def state_dict(self) -> dict[str, Any]:
        """Return what an interrupted run's data has to match to go on exactly."""
        bad = {split: list(quarantine.bad.items()) for split, quarantine in self.quarantines.items()}
        return {"order": self._order_identity(), "consumed": consumed_batches(self.trainer), "quarantined": bad}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Check that the data are those of the interrupted run; the place itself is the trainer's counter.

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
        """Return a digest of everything that decides the order of training."""
        rows = self._open("train").rows
        parts = (self.seed, self.batch_size, self.balanced, process_share(self.trainer)[1], rows)
        return hashlib.sha256(repr(parts).encode()).hexdigest()
