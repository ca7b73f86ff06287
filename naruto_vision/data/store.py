"""The images of a class table: decoded where a batch needs them, and kept in memory as far as a budget goes.

An image that cannot be read never stops a batch. In its place a training draw takes the next readable image of the
same class, by the order of the table: batches stay full, and what is drawn depends on the files alone, not on workers
or interruptions. Every other loader leaves it out, so that a batch is shorter. The process that trains counts them.
"""

import logging
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import Dataset, DistributedSampler, get_worker_info
from typing_extensions import override

from naruto_vision.data.sampling import Draw, ResumableLoader, process_share
from naruto_vision.data.shards import image_reader, shrink
from naruto_vision.data.tables import ClassTable
from naruto_vision.encoders.base import Encoder
from naruto_vision.errors import BadImageError, InputError, MissingPathError
from naruto_vision.io.quarantine import Quarantine
from naruto_vision.records import ImageArray

if TYPE_CHECKING:
    import lightning.pytorch as pl

Augment: TypeAlias = Callable[[ImageArray, np.random.Generator], ImageArray]
"""From an image (H, W, 3) uint8 RGB to another (h, w, 3) uint8 RGB, by nothing but the generator."""

Preprocess: TypeAlias = Callable[[ImageArray], Tensor]
"""From an image (H, W, 3) uint8 RGB to pixels (3, S, S) float32, as an encoder wants them."""

PreparedImage: TypeAlias = tuple[Tensor, str, str]
"""Pixels (3, S, S) float32, the label, and the path relative to the table's root."""

QUARANTINE = "quarantine.jsonl"
_AUGMENT_STREAM = 2  # keeps the augmentation's random numbers apart from the order's
_LOG = logging.getLogger(__name__)


def module_preprocess(trainer: "pl.Trainer | None") -> Preprocess:
    """Return the preprocessing of the encoder of the trainer's module; an InputError if it has none."""
    encoder = getattr(getattr(trainer, "lightning_module", None), "encoder", None)
    if not isinstance(encoder, Encoder):
        msg = "data: expected a module with an `encoder` to prepare images for; give `preprocess` where there is none"
        raise InputError(msg)
    return encoder.preprocess


class ImageStore:
    """The images of a table by row number, decoded when they are first asked for.

    Args:
        table: The rows.
        side: Longest side in pixels; 0 keeps images as they are.
        budget: Bytes of pixels kept in memory, all worker processes together.
    """

    def __init__(self, table: ClassTable, side: int, budget: int) -> None:
        self._rows = table.rows
        self._reader = image_reader(table.root)
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
    """What became of one index.

    Args:
        item: None where there is none.
        read: Rows that could be read.
        bad: Row and reason of images that could not.
    """

    item: Any = None
    read: tuple[int, ...] = ()
    bad: tuple[tuple[int, str], ...] = ()


def read_first(store: ImageStore, rows: Iterable[int], make: Callable[[int, ImageArray], Any]) -> Sample:
    """Make an item of the first of the rows whose image can be read."""
    bad: list[tuple[int, str]] = []
    for row in rows:
        try:
            image = store[row]
        except (BadImageError, MissingPathError) as error:
            bad.append((row, str(error)))
        else:
            return Sample(make(row, image), (row,), tuple(bad))
    return Sample(bad=tuple(bad))


class TableDataset(Dataset[Sample]):
    """The images of a table, prepared for an encoder. A ``Draw`` is augmented, a plain row number is not.

    Args:
        table: The rows.
        store: Their images.
        preprocess: From an image to the encoder's pixels.
        augment: Applied to draws; None leaves them as they are.
        seed: Decides the augmentation, together with a draw's place.
    """

    def __init__(
        self,
        table: ClassTable,
        store: ImageStore,
        preprocess: Preprocess,
        augment: Augment | None = None,
        seed: int = 0,
    ) -> None:
        self._rows = table.rows
        self._store = store
        self._preprocess = preprocess
        self._augment = augment
        self._seed = seed

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int | Draw) -> Sample:
        rows = self._with_substitutes(index.row) if isinstance(index, Draw) else (index,)
        return read_first(self._store, rows, partial(self._prepare, index))

    def _with_substitutes(self, row: int) -> Iterator[int]:
        """Yield a row, then the others of its class, behind it first."""
        yield row
        label = self._rows[row].label
        first = bisect_left(self._rows, label, key=lambda one: one.label)
        last = bisect_right(self._rows, label, key=lambda one: one.label)
        yield from (*range(row + 1, last), *range(first, row))

    def _prepare(self, index: int | Draw, row: int, image: ImageArray) -> PreparedImage:
        if isinstance(index, Draw) and self._augment is not None:
            image = self._augment(image, np.random.default_rng([_AUGMENT_STREAM, self._seed, index.place]))
        return self._preprocess(image), self._rows[row].label, self._rows[row].path


class TableQuarantine(Quarantine):
    """Counts the images of a table, each once, as loaders meet them.

    Args:
        what: What they are, for messages.
        table: The rows.
        max_bad_fraction: Largest share of the listed images that may be unreadable, in [0, 1].
        every_class: Whether each class needs a readable image.
    """

    def __init__(self, what: str, table: ClassTable, max_bad_fraction: float, *, every_class: bool) -> None:
        super().__init__(what, listed=len(table))
        self.bad: dict[int, str] = {}
        self._table = table
        self._max_bad_fraction = max_bad_fraction
        self._every_class = every_class
        self._read: set[int] = set()

    def note(self, read: Iterable[int], bad: Iterable[tuple[int, str]]) -> None:
        """Count rows that were not met before."""
        for row in read:
            if row not in self._read and row not in self.bad:
                self._read.add(row)
                self.accept()
        before = len(self.bad)
        for row, reason in bad:
            if row not in self._read and row not in self.bad:
                self.bad[row] = reason
                self.refuse(self._table.rows[row].path, reason)
                _LOG.warning("left out: %s", reason)
        if len(self.bad) > before:
            self.check(self._max_bad_fraction)
            self._check_classes()

    def _check_classes(self) -> None:
        counts = self._table.counts()
        for name, bad in self.bad_by_class().items():
            if self._every_class and bad == counts[name]:
                first = next(reason for row, reason in self.bad.items() if self._table.rows[row].label == name)
                msg = f"class {name!r}: none of {bad} {self.what} can be read; first {first}"
                raise InputError(msg)

    def bad_by_class(self) -> Counter[str]:
        """Return class to how many of its images could not be read."""
        return Counter(self._table.rows[row].label for row in self.bad)

    def gather(self, world: int) -> None:
        """Count what all processes met; each of them has to call this."""
        parts: list[tuple[set[int], dict[int, str]]] = [(set(), {})] * world
        if world > 1:
            dist.all_gather_object(parts, (self._read, self.bad))
        for read, bad in parts:
            self.note(read, bad.items())

    def summary(self) -> str:
        """Say how many images could not be read, class by class."""
        counts = self._table.counts()
        classes = ", ".join(f"{name} {bad} of {counts[name]}" for name, bad in sorted(self.bad_by_class().items()))
        return f"{self.quarantined} of {self.listed} {self.what} could not be read and were left out ({classes})"


def report_quarantines(trainer: "pl.Trainer | None", quarantines: Mapping[str, TableQuarantine]) -> None:
    """Say at the end of a run which images could not be read, and list them in the run's log folder.

    Every process has to call this; the first one writes.
    """
    rank, world = process_share(trainer)
    together = Quarantine()
    for split, quarantine in quarantines.items():
        quarantine.gather(world)
        for row in quarantine.rows:
            together.refuse(f"{split}/{row.path}", row.reason)
        if quarantine.rows and rank == 0:
            _LOG.warning("%s", quarantine.summary())
    folder = trainer.log_dir if trainer is not None and trainer.loggers and together.rows else None
    if folder is not None and rank == 0:
        together.write(Path(folder) / QUARANTINE)
        _LOG.warning("they are listed in %s", Path(folder) / QUARANTINE)


class TableLoader(ResumableLoader):
    """A loader of samples that notes in its own process which images the workers could not read.

    Args:
        dataset: Gives a ``Sample`` for what the sampler gives.
        sampler: Decides the order.
        batch_size: Samples a batch.
        collate_fn: Makes a batch of the items; None for no batch.
        quarantine: Counts the images.
        num_workers: Processes that decode ahead; the batches do not depend on it.
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
    def __iter__(self) -> Any:
        return self._noted(super().__iter__())

    def _noted(self, batches: Iterator[Any]) -> Iterator[Any]:
        for batch, read, bad in batches:
            self._quarantine.note(read, bad)
            if batch is not None:
                yield batch


def _collate(make: Callable[[list[Any]], Any], samples: Sequence[Sample]) -> tuple[Any, list[int], list[Any]]:
    items = [sample.item for sample in samples if sample.item is not None]
    return make(items), [row for one in samples for row in one.read], [row for one in samples for row in one.bad]
