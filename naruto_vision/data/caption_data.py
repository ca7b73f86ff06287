"""Images with captions of the user's own, and the batch that contrastive training sees."""

import csv
import io
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple, get_args

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from naruto_vision.data.augmentation import augment
from naruto_vision.data.sampling import (
    Draw,
    DrawSampler,
    ResumableLoader,
    ShareSampler,
    checked_batch_size,
    consumed_batches,
    process_share,
)
from naruto_vision.data.shards import shrink
from naruto_vision.data.store import Augment, Preprocess, module_preprocess
from naruto_vision.data.tables import Split, find_inside, refusal
from naruto_vision.encoders.tiny import vocabulary_of
from naruto_vision.errors import BadImageError, FormatError, InputError, MissingPathError
from naruto_vision.io.images import read_image
from naruto_vision.io.quarantine import Quarantine, QuarantinedFile

CAPTIONS_CSV = "captions.csv"
_AUGMENT_STREAM, _HOLD_OUT_STREAM = 4, 5
_LONGEST_SIDE = 256  # larger than any tower that is trained here sees, small enough to augment quickly
_LOG = logging.getLogger(__name__)


class CaptionBatch(NamedTuple):
    """Images and what is true of them.

    Args:
        pixels: Shape (B, 3, S, S), float32, as the encoder's ``preprocess`` makes them.
        subjects: Shape (B,), int64; images of equal numbers share their captions.
        captions: B texts, one an image.
        phrases: P short texts, of which several may be true of an image; none where only captions are known.
        phrase_groups: Shape (P,), int64: phrases of one group exclude each other (the hair colours, say).
        truths: Shape (B, P), bool: which phrases are true of each image.
    """

    pixels: Tensor
    subjects: Tensor
    captions: list[str]
    phrases: list[str]
    phrase_groups: Tensor
    truths: Tensor


class Caption(NamedTuple):
    """One row of ``captions.csv``: a POSIX path relative to its folder, and a text."""

    path: str
    text: str


@dataclass(frozen=True)
class CaptionTable:
    """The usable rows of a ``captions.csv`` in its folder, and the rows that were left out, each with its reason."""

    root: Path
    rows: tuple[Caption, ...]
    left_out: tuple[QuarantinedFile, ...] = ()

    @property
    def subjects(self) -> list[int]:
        """A number for each row; equal for captions of one image, and for images whose only captions are equal."""
        captions = Counter(row.path for row in self.rows)
        keys = [(row.path, "") if captions[row.path] > 1 else ("", row.text) for row in self.rows]
        numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
        return [numbers[key] for key in keys]

    def one_a_path(self) -> "CaptionTable":
        """Keep the first caption of each image."""
        first = {row.path: row for row in reversed(self.rows)}
        return CaptionTable(self.root, tuple(row for row in self.rows if first[row.path] is row), self.left_out)

    def hold_out(self, fraction: float, seed: int) -> tuple["CaptionTable", "CaptionTable"]:
        """Split off a random share of the images, with all their captions: the rest, and the share."""
        paths = sorted({row.path for row in self.rows})
        order = np.random.default_rng([_HOLD_OUT_STREAM, seed]).permutation(len(paths))
        held = {paths[k] for k in order[: round(fraction * len(paths))]}
        rest, share = (tuple(row for row in self.rows if (row.path in held) == wanted) for wanted in (False, True))
        return CaptionTable(self.root, rest, self.left_out), CaptionTable(self.root, share)


def _read_lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number and values of each row that is not blank."""
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise FormatError(path, "UTF-8 text", f"another encoding in line {line}", "save it as UTF-8") from None
    reader = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True, strict=True)
    try:
        for values in reader:
            if any(value.strip() for value in values):
                yield reader.line_num, [value.strip() for value in values]
    except csv.Error as error:
        raise FormatError(path, "comma-separated values", f"{error} in line {reader.line_num}") from None


def read_captions(path: str | Path) -> CaptionTable:
    """Read a CSV file of images and their captions; paths are relative to its folder.

    Args:
        path: UTF-8 with or without a byte-order mark. The header has ``path`` and ``text``, in any order and among
            other columns; texts with commas stand in double quotes. Several rows may caption one image.

    Returns:
        The rows that can be used; those without a text or a file, or with a path that leads out, are left out.

    Raises:
        MissingPathError: If there is no such file.
        FormatError: If it is not UTF-8 or not CSV, or lacks a column; with the line.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingPathError(path, "captions file")
    lines = _read_lines(path)
    header = next(lines, (0, []))[1]
    names = [name.casefold() for name in header]
    if names.count("path") != 1 or names.count("text") != 1:
        found = ", ".join(header)[:80] or "an empty file"
        raise FormatError(path, "one column 'path' and one column 'text'", found)
    rows, left_out, base = [], [], path.parent.resolve()
    for line, values in lines:
        if len(values) != len(names):
            hint = "put texts with commas in double quotes"
            raise FormatError(path, f"{len(names)} values in line {line}", str(len(values)), hint)
        name, text = values[names.index("path")], values[names.index("text")]
        reason = "has no text" if not text else refusal(name)
        file = None if reason else find_inside(base, name)
        if file is None:
            left_out.append(QuarantinedFile(name, f"line {line}: {name!r} {reason or 'is not there'}"))
        else:
            rows.append(Caption(file.relative_to(base).as_posix(), text))
    return CaptionTable(path.parent, tuple(rows), tuple(left_out))


class _Item(NamedTuple):
    pixels: Tensor
    subject: int
    caption: str


class CaptionDataset(Dataset[_Item | None]):
    """Captioned images, decoded when they are asked for; None for one that cannot be decoded.

    Args:
        table: The rows.
        preprocess: From an image to the encoder's pixels.
        augment: Applied to draws, not to plain row numbers.
        seed: Random seed of the augmentation, together with a draw's position.

    Attributes:
        unreadable: Shape (N,), bool, in shared memory: rows that could not be decoded so far, in any process.
    """

    def __init__(
        self, table: CaptionTable, preprocess: Preprocess, augment: Augment | None = None, seed: int = 0
    ) -> None:
        self.table = table
        unreadable = torch.zeros(len(table.rows), dtype=torch.bool)
        self.unreadable: Tensor = unreadable.share_memory_()  # type: ignore[no-untyped-call]  # torch has no types for it
        self._preprocess, self._augment, self._seed = preprocess, augment, seed
        self._subjects = table.subjects

    def __len__(self) -> int:
        return len(self.table.rows)

    def __getitem__(self, index: int | Draw) -> _Item | None:
        number = index.row if isinstance(index, Draw) else index
        row = self.table.rows[number]
        try:
            image = shrink(read_image(self.table.root / row.path), _LONGEST_SIDE)
        except (BadImageError, MissingPathError):
            self.unreadable[number] = True
            return None
        if isinstance(index, Draw) and self._augment is not None:
            image = self._augment(image, np.random.default_rng([_AUGMENT_STREAM, self._seed, index.place]))
        return _Item(self._preprocess(image), self._subjects[number], row.text)

    def collate(self, items: Sequence[_Item | None]) -> CaptionBatch:
        """Make a batch of the images that could be decoded; where none could, of the first that can."""
        readable = [item for item in items if item is not None]
        if not readable:
            readable = [item for item in map(self.__getitem__, range(len(self))) if item is not None][:1]
        if not readable:
            msg = f"{self.table.root}: none of {len(self)} captioned images can be read"
            raise InputError(msg)
        pixels, subjects, captions = zip(*readable, strict=True)
        none = torch.zeros(0, dtype=torch.int64)
        truths = torch.zeros(len(readable), 0, dtype=torch.bool)
        return CaptionBatch(torch.stack(pixels), torch.tensor(subjects), list(captions), [], none, truths)


class CaptionDataModule(pl.LightningDataModule):
    """Captioned images for ``fit``, ``validate`` and ``test``, listed in ``captions.csv`` (columns ``path``, ``text``).

    Images are decoded in the loader's workers. Training order and augmentation depend on the seed and on how many
    batches were consumed, on nothing else. What cannot be used is counted and named, and left out.

    Args:
        root: Has ``captions.csv``, of which some images are held out to validate on; or ``train/``, ``valid/`` and
            ``test/`` with a ``captions.csv`` each.
        batch_size: Images a batch and process.
        num_workers: Worker processes that decode; the batches do not depend on it.
        augmented: Augment the training images.
        mirrored: Let augmentation swap left and right; not where captions name sides.
        hold_out_fraction: Share of the images that validates where there is no ``valid/``, in [0, 1].
        max_bad_fraction: Maximum fraction of rows that cannot be used, in [0, 1].
        seed: Random seed of the order, the augmentation and what is held out.
        preprocess: From an image to pixels (3, S, S); by default that of the module's encoder.
    """

    def __init__(
        self,
        root: str,
        batch_size: int = 32,
        num_workers: int = 1,
        augmented: bool = True,
        mirrored: bool = False,
        hold_out_fraction: float = 0.1,
        max_bad_fraction: float = 0.05,
        seed: int = 0,
        preprocess: Preprocess | None = None,
    ) -> None:
        super().__init__()
        self.allow_zero_length_dataloader_with_multiple_devices = True  # a split may be smaller than the world
        self.root, self.seed, self.num_workers = root, seed, num_workers
        self.batch_size = checked_batch_size(batch_size)
        self._augment: Augment | None = partial(augment, mirrored=mirrored) if augmented else None
        self._hold_out_fraction, self._max_bad_fraction = hold_out_fraction, max_bad_fraction
        self._preprocess = preprocess
        self._datasets: dict[Split, CaptionDataset] = {}
        self._unreadable = 0

    @cached_property
    def tables(self) -> dict[Split, CaptionTable]:
        """The usable rows of each split; to validate and test, the first caption of each image.

        Raises:
            InputError: If there is no training split, a file is malformed, or too many rows cannot be used.
        """
        root, splits = Path(self.root), get_args(Split)
        found = {split: root / split / CAPTIONS_CSV for split in splits if (root / split / CAPTIONS_CSV).is_file()}
        if "train" not in found:
            found["train"] = root / CAPTIONS_CSV
        if not found["train"].is_file():
            raise MissingPathError(root, f"data with captions: expected {CAPTIONS_CSV} or train/{CAPTIONS_CSV} in it")
        tables = {split: read_captions(path) for split, path in found.items()}
        for split, table in tables.items():
            report = _quarantine(split, table)
            _LOG.info("%s: %d of %d rows can be used", found[split], report.ok, report.seen)
            for bad in report.rows:
                _LOG.warning("left out: %s: %s", found[split], bad.reason)
            report.check(self._max_bad_fraction)
            if not table.rows:
                raise FormatError(found[split], "rows of images and texts", "none")
        if "valid" not in tables:
            tables["train"], tables["valid"] = tables["train"].hold_out(self._hold_out_fraction, self.seed)
        return {split: table if split == "train" else table.one_a_path() for split, table in tables.items()}

    @property
    def words(self) -> tuple[str, ...]:
        """Every word of the training captions once, sorted."""
        return vocabulary_of(row.text for row in self.tables["train"].rows)

    def setup(self, stage: str) -> None:
        """Read the tables.

        Args:
            stage: "fit", "validate" or "test".

        Raises:
            InputError: If a split is not there or cannot be used.
        """
        splits: dict[str, Split] = {"fit": "train", "validate": "valid"}
        wanted = splits.get(stage, "test")
        if not (self.tables.get(wanted) and self.tables[wanted].rows):
            msg = f"{self.root}: no captioned images of split {wanted!r}"
            raise InputError(msg)

    def _dataset(self, split: Split) -> CaptionDataset:
        preprocess = self._preprocess or module_preprocess(self.trainer)
        self._datasets[split] = CaptionDataset(self.tables[split], preprocess, self._augment, self.seed)
        return self._datasets[split]

    def train_dataloader(self) -> ResumableLoader:
        """Return the training draws from wherever the run stands."""
        dataset, share = self._dataset("train"), process_share(self.trainer)
        batches = -(-len(dataset) // (self.batch_size * share[1]))
        consumed = partial(consumed_batches, self.trainer)
        sampler = DrawSampler([range(len(dataset))], self.seed, self.batch_size, batches, consumed, *share)
        return ResumableLoader(dataset, sampler, self.batch_size, dataset.collate, self.num_workers)

    def _ordered_loader(self, split: Split) -> DataLoader[Any]:
        dataset = self._dataset(split)
        sampler = ShareSampler(len(dataset), *process_share(self.trainer))
        return ResumableLoader(dataset, sampler, self.batch_size, dataset.collate, self.num_workers)

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """Return the validation images in table order, or nothing where none could be held out."""
        return self._ordered_loader("valid") if self.tables["valid"].rows else []

    def test_dataloader(self) -> DataLoader[Any]:
        """Return the test images in table order."""
        return self._ordered_loader("test")

    def quarantine(self, split: Split) -> Quarantine:
        """Count the rows of a split, and list those that turned out to be unusable so far.

        Args:
            split: "train", "valid" or "test".
        """
        return _quarantine(split, self.tables[split], self._datasets.get(split))

    def on_before_batch_transfer(self, batch: CaptionBatch, dataloader_idx: int) -> CaptionBatch:  # noqa: ARG002 - Lightning's
        """Stop where more images than allowed turned out to be unreadable.

        Args:
            batch: Passed on.
            dataloader_idx: Not used.

        Raises:
            InputError: If there are too many.
        """
        unreadable = sum(int(dataset.unreadable.sum()) for dataset in self._datasets.values())
        if unreadable > self._unreadable:
            self._unreadable = unreadable
            for split in self._datasets:
                self.quarantine(split).check(self._max_bad_fraction)
        return batch

    def teardown(self, stage: str) -> None:  # noqa: ARG002 - Lightning's
        """Name the images that could not be decoded.

        Args:
            stage: Not used.
        """
        for split, dataset in self._datasets.items():
            for bad in self.quarantine(split).rows[len(dataset.table.left_out) :]:
                _LOG.warning("left out: %s", bad.reason)


def _quarantine(split: Split, table: CaptionTable, dataset: CaptionDataset | None = None) -> Quarantine:
    report = Quarantine(f"captions of split {split!r}")
    for bad in table.left_out:
        report.refuse(bad.path, bad.reason)
    unreadable = dataset.unreadable.nonzero().flatten().tolist() if dataset is not None else []
    report.ok = len(table.rows) - len(unreadable)
    for path in (table.root / table.rows[number].path for number in unreadable):
        try:
            read_image(path)
            report.ok += 1  # it can be read by now
        except (BadImageError, MissingPathError) as error:
            report.refuse(path, str(error))
    return report
