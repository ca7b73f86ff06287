"""Decoding of a class table's images in data-loader workers, with an optional cache in memory.

An image that cannot be read never stops a batch. A training draw takes the next readable image of the same class
instead, in table order: batches stay full, and the draws depend on the files alone, not on workers or interruptions.
Every other loader leaves it out, so that a batch is shorter. The main process counts them.
"""

import logging
from abc import ABC, abstractmethod
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol, TypeAlias, TypeVar

import lightning.pytorch as pl
import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler, get_worker_info
from typing_extensions import override

from naruto_vision.data.sampling import (
    Draw,
    ResumableLoader,
    checked_batch_size,
    fixed_share,
    of_all_processes,
    process_share,
    training_sampler,
)
from naruto_vision.data.shards import FolderReader, ShardReader, image_reader
from naruto_vision.data.tables import Split
from naruto_vision.encoders.base import Encoder, prepared
from naruto_vision.errors import BadImageError, InputError, MissingPathError
from naruto_vision.io.images import shrink
from naruto_vision.io.quarantine import Quarantine, QuarantinedFile
from naruto_vision.records import ImageArray

T = TypeVar("T", covariant=True)

Augment: TypeAlias = Callable[[ImageArray, np.random.Generator], ImageArray]
"""From an image (H, W, 3) uint8 RGB to another (h, w, 3) uint8 RGB, depending on the generator alone."""

Preprocess: TypeAlias = Callable[[ImageArray], Tensor]
"""From an image (H, W, 3) uint8 RGB to pixels (3, S, S) float32, as an encoder wants them."""

PreparedImage: TypeAlias = tuple[Tensor, int]
"""Pixels (3, S, S) float32, and the row."""

QUARANTINE = "quarantine.jsonl"
TRAINING_SIDE = 256
"""Longest side of training images: above the input of any tower trained here, and quickly augmented."""
AUGMENT_STREAM = 2  # keeps the augmentation's random numbers apart from the order's
_LOG = logging.getLogger(__name__)


def module_preprocess(trainer: pl.Trainer | None) -> Preprocess:
    """Return the preprocessing of the encoder of the trainer's module; an InputError if it has none."""
    encoder = getattr(getattr(trainer, "lightning_module", None), "encoder", None)
    if not isinstance(encoder, Encoder):
        msg = "data: expected a module with an `encoder` to prepare images for; give `preprocess` where there is none"
        raise InputError(msg)
    return encoder.preprocess


class ImageRow(Protocol):
    """A row of a table of images."""

    @property
    def path(self) -> str:
        """Relative to the table's root, POSIX."""

    @property
    def label(self) -> str:
        """Its class; empty where images have none."""


class ImageTable(Protocol):
    """Images by row, equal labels one after the other."""

    @property
    def root(self) -> Path:
        """The folder that paths are relative to."""

    @property
    def rows(self) -> Sequence[ImageRow]:
        """The images."""


class ImagesByRow(Protocol[T]):
    """Images by row number."""

    def __getitem__(self, row: int) -> T:
        """Decode one."""


class ImageStore:
    """The images of a table by row number, decoded when a batch needs them.

    ``side`` is the longest side in pixels (0 keeps images as they are), ``budget`` the bytes of pixels that are kept in
    memory, in all worker processes together.
    """

    def __init__(
        self, table: ImageTable, side: int, budget: int, reader: ShardReader | FolderReader | None = None
    ) -> None:
        self._rows = table.rows
        self._reader = reader or image_reader(table.root)
        self._side = side
        self._budget = budget
        self._used = 0
        self._kept: dict[int, ImageArray] = {}
        self._latest: tuple[int, ImageArray | None] = (-1, None)  # for several views of one image in a row

    def __getitem__(self, row: int) -> ImageArray:
        kept = self._latest[1] if row == self._latest[0] else self._kept.get(row)
        if kept is not None:
            return kept
        image = shrink(self._reader.read(self._rows[row].path), self._side)
        worker = get_worker_info()
        if self._used + image.nbytes <= self._budget // (1 if worker is None else worker.num_workers):
            self._used += image.nbytes
            self._kept[row] = image
        self._latest = (row, image)
        return image


class Sample(NamedTuple):
    """The result of one index: an item or None, the readable rows, and row and reason of the others."""

    item: Any = None
    read: tuple[int, ...] = ()
    bad: tuple[tuple[int, str], ...] = ()


def read_first(store: ImagesByRow[T], rows: Iterable[int], make: Callable[[int, T], Any]) -> Sample:
    """Make an item of the first of the rows whose image can be read and prepared."""
    bad: list[tuple[int, str]] = []
    for row in rows:
        try:
            return Sample(make(row, store[row]), (row,), tuple(bad))
        except (BadImageError, MissingPathError) as error:
            bad.append((row, str(error)))
    return Sample(bad=tuple(bad))


class SampleDataset(Dataset[Sample]):
    """Items of images by row. In place of an unreadable image a ``Draw`` takes the next one, a plain row nothing."""

    def __init__(self, store: ImagesByRow[Any], count: int) -> None:
        self._store, self._count = store, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int | Draw) -> Sample:
        rows = (index.row, *self._substitutes(index.row)) if isinstance(index, Draw) else (index,)
        return read_first(self._store, rows, partial(self._prepare, index))

    def _substitutes(self, row: int) -> Iterable[int]:
        return (*range(row + 1, self._count), *range(row))

    def _prepare(self, index: int | Draw, row: int, image: Any) -> Any:  # noqa: ANN401 - of a subclass
        """Make the item of an index from the image of a row."""
        raise NotImplementedError


class TableDataset(SampleDataset):
    """The images of a table, prepared for an encoder. A ``Draw`` is augmented, a plain row number is not."""

    def __init__(
        self,
        table: ImageTable,
        store: ImageStore,
        preprocess: Preprocess,
        augment: Augment | None = None,
        seed: int = 0,
        stream: int = AUGMENT_STREAM,
    ) -> None:
        super().__init__(store, len(table.rows))
        self._rows, self._preprocess = table.rows, preprocess
        self._augment, self._seeds = augment, (stream, seed)

    @override
    def _substitutes(self, row: int) -> Iterable[int]:
        """Return the other rows of its class in cyclic table order."""
        label = self._rows[row].label
        first = bisect_left(self._rows, label, key=lambda one: one.label)
        last = bisect_right(self._rows, label, key=lambda one: one.label)
        return (*range(row + 1, last), *range(first, row))

    @override
    def _prepare(self, index: int | Draw, row: int, image: ImageArray) -> PreparedImage:
        if isinstance(index, Draw) and self._augment is not None:
            image = self._augment(image, np.random.default_rng([*self._seeds, index.position]))
        return prepared(self._preprocess, image, self._rows[row].path), row


class RunQuarantine(Quarantine, ABC):
    """Counts the images of a run, of which each process reads a part."""

    @abstractmethod
    def gather(self, world: int) -> None:
        """Count over all processes; each of them has to call this."""

    def summary(self) -> str:
        """Report the unreadable images."""
        total = max(self.listed, self.seen)
        return f"{self.quarantined} of {total} {self.what} could not be read and were left out"


class TableQuarantine(RunQuarantine):
    """Counts the images of some rows, each once, as loaders read them; ``left_out`` are known to be bad."""

    def __init__(
        self,
        what: str,
        rows: Sequence[ImageRow],
        max_bad_fraction: float,
        *,
        every_class: bool = False,
        left_out: Sequence[QuarantinedFile] = (),
    ) -> None:
        super().__init__(what, listed=len(rows) + len(left_out))
        self.bad: dict[int, str] = {}
        self._rows_of_table = rows
        self._max_bad_fraction = max_bad_fraction
        self._every_class = every_class
        self._read: set[int] = set()
        for file in left_out:
            self.refuse(*file)

    def note(self, read: Iterable[int], bad: Iterable[tuple[int, str]]) -> None:
        """Count rows that were not counted before."""
        for row in read:
            if row not in self._read and row not in self.bad:
                self._read.add(row)
                self.accept()
        before = len(self.bad)
        for row, reason in bad:
            if row not in self._read and row not in self.bad:
                self.bad[row] = reason
                self.refuse(self._rows_of_table[row].path, reason)
                _LOG.warning("left out: %s", reason)
        if len(self.bad) > before:
            self.check(self._max_bad_fraction)
            self._check_classes()

    def _check_classes(self) -> None:
        for name, (bad, listed) in self._bad_by_class().items():
            if self._every_class and bad == listed:
                first = next(reason for row, reason in self.bad.items() if self._rows_of_table[row].label == name)
                raise InputError(f"class {name!r}: none of {bad} {self.what} can be read; first {first}")

    def _bad_by_class(self) -> dict[str, tuple[int, int]]:
        """Return class to how many of its images could not be read, and how many there are."""
        bad = Counter(self._rows_of_table[row].label for row in self.bad)
        listed = Counter(row.label for row in self._rows_of_table)
        return {name: (count, listed[name]) for name, count in sorted(bad.items()) if name}

    @override
    def gather(self, world: int) -> None:
        for read, bad in of_all_processes(world, (set(self._read), dict(self.bad))):
            self.note(read, bad.items())

    @override
    def summary(self) -> str:
        classes = ", ".join(f"{name} {bad} of {listed}" for name, (bad, listed) in self._bad_by_class().items())
        return super().summary() + f" ({classes})" * bool(classes)


def report_quarantines(trainer: pl.Trainer | None, quarantines: Mapping[str, RunQuarantine]) -> None:
    """Report unreadable images at the end of a run, and list them in the run's log folder.

    Every process has to call this; the first one writes.
    """
    rank, world = process_share(trainer)
    together = Quarantine()
    opened = of_all_processes(world, set(quarantines))  # the first process may have opened more
    for split in sorted(opened[0].intersection(*opened)):
        quarantines[split].gather(world)
    for split, quarantine in quarantines.items():
        if not quarantine.seen:
            continue
        for row in quarantine.rows:
            together.refuse(f"{split}/{row.path}", row.reason)
        if quarantine.rows and rank == 0:
            _LOG.warning("%s", quarantine.summary())
    folder = trainer.log_dir if trainer is not None and trainer.loggers and together.rows else None
    if folder is not None and rank == 0:
        together.write(Path(folder) / QUARANTINE)
        _LOG.warning("they are listed in %s", Path(folder) / QUARANTINE)


class TableLoader(ResumableLoader):
    """A loader that records the workers' unreadable images in its own process.

    ``collate_fn`` makes a batch of the available items, or None for no batch.
    """

    def __init__(
        self,
        dataset: Dataset[Sample],
        sampler: DistributedSampler[Any],
        batch_size: int,
        collate_fn: Callable[[list[Any]], Any],
        quarantine: TableQuarantine,
        num_workers: int = 0,
    ) -> None:
        super().__init__(dataset, sampler, batch_size, partial(_collate, collate_fn), num_workers)
        self._quarantine = quarantine

    @override
    def batches(self) -> Iterator[Any]:
        for batch, read, bad in super().batches():
            self._quarantine.note(read, bad)
            if batch is not None:
                yield batch


def _collate(make: Callable[[list[Any]], Any], samples: Sequence[Sample]) -> tuple[Any, list[int], list[Any]]:
    items = [sample.item for sample in samples if sample.item is not None]
    return make(items), [row for one in samples for row in one.read], [row for one in samples for row in one.bad]


class SampleDataModule(pl.LightningDataModule):
    """Base of data modules of samples, whose unreadable images are counted split by split."""

    seed: int
    batch_size: int
    num_workers: int
    quarantines: Mapping[str, Any]  # of RunQuarantine

    def _draws(self, count: int, batches: int | None = None) -> DistributedSampler[Any]:
        """Sample the draws of an epoch from ``count`` images: all full batches once, or so many."""
        world = process_share(self.trainer)[1]
        batches = batches or max(1, count // (self.batch_size * world))
        return training_sampler(self.trainer, [range(count)], self.seed, self.batch_size, batches)

    @override
    def teardown(self, stage: str) -> None:
        """Report which images could not be read, and list them in ``quarantine.jsonl`` in the run's log folder.

        Raises:
            InputError: If there are too many over all processes.
        """
        report_quarantines(self.trainer, self.quarantines)


class TableDataModule(SampleDataModule):
    """Base of data modules with one table per split; a subclass reads the tables and makes the batches."""

    _what: ClassVar[str]  # noun for a split's content, in messages
    _stream: ClassVar[int] = AUGMENT_STREAM

    def __init__(
        self,
        root: str,
        *,
        batch_size: int,
        num_workers: int,
        seed: int,
        augment: Augment | None,
        max_bad_fraction: float,
        preprocess: Preprocess | None,
    ) -> None:
        super().__init__()
        self.allow_zero_length_dataloader_with_multiple_devices = True  # a split may be smaller than the world
        self.root, self.num_workers, self.seed, self.preprocess = root, num_workers, seed, preprocess
        self.batch_size = checked_batch_size(batch_size)
        self.quarantines: dict[str, TableQuarantine] = {}
        self._augment, self._max_bad_fraction = augment, max_bad_fraction
        self._stores: dict[Split, ImageStore] = {}

    @cached_property
    def tables(self) -> Mapping[Split, Any]:
        """Split to its table."""
        raise NotImplementedError

    def _new_store(self, split: Split) -> tuple[ImageStore, TableQuarantine]:
        raise NotImplementedError

    def _batch_maker(self, split: Split) -> Callable[[list[PreparedImage]], Any]:
        """Return the collate function, which also accepts no items."""
        raise NotImplementedError

    def _groups(self) -> Sequence[Sequence[int]]:
        """Return the groups of training rows."""
        return [range(len(self.tables["train"].rows))]

    def _open(self, split: Split) -> None:
        if split not in self.tables:
            raise InputError(f"{self.root}: no {self._what} of split {split!r}")
        if split not in self._stores:
            self._stores[split], self.quarantines[split] = self._new_store(split)

    def setup(self, stage: str) -> None:
        """Read the tables that a stage needs; no image is decoded."""
        splits: dict[str, tuple[Split, ...]] = {"fit": ("train", "valid"), "validate": ("valid",)}
        for split in splits.get(stage, ("test",)):
            self._open(split)
        if stage == "validate" and not self.tables["valid"].rows:
            raise InputError(f"{self.root}: no images to validate on: too few to hold any out")

    def dataset(self, split: Split) -> TableDataset:
        """Return the images of a split in table order, as samples; only draws of "train" are augmented."""
        self._open(split)
        preprocess = self.preprocess or module_preprocess(self.trainer)
        return TableDataset(self.tables[split], self._stores[split], preprocess, self._augment, self.seed, self._stream)

    def images(self, split: Split, rows: Iterable[int]) -> Iterator[tuple[int, ImageArray]]:
        """Decode some rows of a split; those that cannot be read are left out, and not counted."""
        self._open(split)
        for row in rows:
            sample = read_first(self._stores[split], (row,), lambda _, image: image)
            if sample.item is not None:
                yield row, sample.item

    def _loader(self, split: Split, dataset: TableDataset, sampler: DistributedSampler[Any]) -> TableLoader:
        make, quarantine = self._batch_maker(split), self.quarantines[split]
        return TableLoader(dataset, sampler, self.batch_size, make, quarantine, self.num_workers)

    def train_dataloader(self) -> TableLoader:
        """Return the training draws from the run's current step on."""
        dataset = self.dataset("train")
        return self._loader(
            "train", dataset, training_sampler(self.trainer, self._groups(), self.seed, self.batch_size)
        )

    def ordered_loader(self, split: Split) -> DataLoader[Any]:
        """Return the readable images of a split in table order, unaugmented; each in exactly one process."""
        dataset = self.dataset(split)
        return self._loader(split, dataset, fixed_share(self.trainer, len(dataset), self.batch_size))

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """Return the validation images in table order, or nothing if there were too few to hold any out."""
        self._open("valid")
        return self.ordered_loader("valid") if self.tables["valid"].rows else []

    def test_dataloader(self) -> DataLoader[Any]:
        """Return the test images in table order."""
        return self.ordered_loader("test")

    def predict_dataloader(self) -> DataLoader[Any]:
        """Return the test images in table order."""
        return self.ordered_loader("test")
