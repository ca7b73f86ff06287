"""Captioned images: ``captions.csv``, its data module, and the batch of contrastive training."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from naruto_vision.data.augmentation import augment
from naruto_vision.data.readers import SPLITS
from naruto_vision.data.shards import INDEX, PackedImage, PackSource, ShardReader, image_reader
from naruto_vision.data.store import (
    TRAINING_SIDE,
    ImageStore,
    PreparedImage,
    Preprocess,
    TableDataModule,
    TableQuarantine,
)
from naruto_vision.data.tables import FolderFiles, Split, path_in_table
from naruto_vision.encoders.tiny import vocabulary_of
from naruto_vision.errors import FormatError, MissingPathError
from naruto_vision.io.csv_files import read_csv
from naruto_vision.io.names import refusal
from naruto_vision.io.quarantine import QuarantinedFile

CAPTIONS_CSV = "captions.csv"
_AUGMENT_STREAM, _HOLD_OUT_STREAM = 4, 5
_LOG = logging.getLogger(__name__)


class CaptionBatch(NamedTuple):
    """Images with captions and phrases."""

    pixels: Tensor  # (B, 3, S, S), float32, as the encoder's ``preprocess`` makes them
    subjects: Tensor  # (B,), int64; images of equal numbers share their captions
    captions: list[str]  # B texts, one per image
    phrases: list[str]  # P short texts, several of which may apply to an image; empty if only captions are known
    phrase_groups: Tensor  # (P,), int64: phrases of one group exclude each other (e.g. hair colours)
    truths: Tensor  # (B, P), bool: which phrases apply to each image


class Caption(NamedTuple):
    """One row of ``captions.csv``: a POSIX path relative to its folder, and a text."""

    path: str
    text: str

    @property
    def label(self) -> str:
        """Empty: captioned images have no class."""
        return ""


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
        return number_subjects((row.path, row.text, captions[row.path] < 2) for row in self.rows)

    def one_a_path(self) -> "CaptionTable":
        """Keep the first caption of each image."""
        first = {row.path: row for row in reversed(self.rows)}
        return CaptionTable(self.root, tuple(row for row in self.rows if first[row.path] is row), self.left_out)

    def hold_out(self, fraction: float, seed: int) -> tuple["CaptionTable", "CaptionTable"]:
        """Split off a random fraction of the images with all their captions; returns the rest and the fraction."""
        paths = sorted({row.path for row in self.rows})
        order = np.random.default_rng([_HOLD_OUT_STREAM, seed]).permutation(len(paths))
        held = {paths[k] for k in order[: round(fraction * len(paths))]}
        rest, share = (tuple(row for row in self.rows if (row.path in held) == wanted) for wanted in (False, True))
        return CaptionTable(self.root, rest, self.left_out), CaptionTable(self.root, share)


def read_captions(path: str | Path) -> CaptionTable:
    """Read a CSV file of images and their captions; paths are relative to its folder.

    The header has ``path`` and ``text``, in any order and among other columns; several rows may caption one image. Rows
    without a text or a file, or with a path that leads out, are left out. A FormatError names the malformed line.
    """
    path = Path(path)
    lines = read_csv(path, strict=True)
    header = next(lines, (0, []))[1]
    names = [name.casefold() for name in header]
    if names.count("path") != 1 or names.count("text") != 1:
        found = ", ".join(header)[:80] or "an empty file"
        raise FormatError(path, "one column 'path' and one column 'text'", found)
    rows, left_out, files = [], [], FolderFiles(path.parent)
    for line, values in lines:
        if len(values) != len(names):
            hint = "put texts with commas in double quotes"
            raise FormatError(path, f"{len(names)} values in line {line}", str(len(values)), hint)
        name, text = path_in_table(values[names.index("path")]), values[names.index("text")]
        reason = "has no text" if not text else refusal(name)
        file = "" if reason else files.find(name)
        if file:
            rows.append(Caption(file, text))
        else:
            left_out.append(QuarantinedFile(name, f"line {line}: {name!r} {reason or 'is not there'}"))
    return CaptionTable(path.parent, tuple(rows), tuple(left_out))


def read_shard_captions(folder: str | Path) -> CaptionTable:
    """Read the captions of a split of shards."""
    images = ShardReader(Path(folder), "captions").images
    return CaptionTable(Path(folder), tuple(Caption(path, text) for path in images for text in images[path].texts))


def caption_source(table: CaptionTable) -> PackSource:
    """Return what is packed of a table: each image with its captions, in order."""
    texts: dict[str, list[str]] = {}
    for row in table.rows:
        texts.setdefault(row.path, []).append(row.text)
    images = [PackedImage(path, (), 0, 0, texts=tuple(own)) for path, own in texts.items()]
    return PackSource("captions", images, image_reader(table.root))


def number_subjects(images: Iterable[tuple[str, str, bool]]) -> list[int]:
    """Number images by path, caption and whether that is the only one: equal for equal paths, or sole captions."""
    keys = [("", text) if sole else (path, "") for path, text, sole in images]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return [numbers[key] for key in keys]


def caption_batch(pixels: Sequence[Tensor], subjects: Sequence[int], texts: list[str]) -> CaptionBatch:
    """Put images with captions alone into one batch."""
    groups, none = torch.zeros(0, dtype=torch.int64), torch.zeros(len(texts), 0, dtype=torch.bool)
    return CaptionBatch(torch.stack(list(pixels)), torch.tensor(subjects), texts, [], groups, none)


def _collate_batch(table: CaptionTable, subjects: list[int], items: list[PreparedImage]) -> CaptionBatch | None:
    if not items:
        return None
    rows = [row for _, row in items]
    texts = [table.rows[row].text for row in rows]
    return caption_batch([pixels for pixels, _ in items], [subjects[row] for row in rows], texts)


class CaptionDataModule(TableDataModule):
    """Captioned images for ``fit``, ``validate`` and ``test``, listed in ``captions.csv`` (columns ``path``, ``text``).

    Images are decoded in the loader's workers. Training order and augmentation depend on the seed and on how many
    batches were consumed, on nothing else. Unusable rows are counted, reported and left out; every training batch is
    full.

    Args:
        root: Has ``captions.csv``, part of which is held out for validation; or ``train/``, ``valid/`` and
            ``test/`` with a ``captions.csv`` each; or shards of captions.
        batch_size: Images per batch and process.
        num_workers: Worker processes that decode; the batches do not depend on it.
        augmented: Augment the training images.
        mirrored: Let augmentation swap left and right; disable it if captions name sides.
        hold_out_fraction: Fraction of the images held out if there is no ``valid/``, in [0, 1].
        max_bad_fraction: Maximum fraction of rows that cannot be used, in [0, 1].
        seed: Random seed of the order, the augmentation and the held-out split.
        preprocess: From an image to pixels (3, S, S); by default that of the module's encoder.

    Attributes:
        tables: Split name to its usable rows; for validation and test, the first caption of each image.
        quarantines: Split name to the rows found so far that cannot be used, with counts.
    """

    _what, _stream = "captioned images", _AUGMENT_STREAM

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
        super().__init__(
            root,
            batch_size=batch_size,
            num_workers=num_workers,
            seed=seed,
            augment=partial(augment, mirrored=mirrored) if augmented else None,
            max_bad_fraction=max_bad_fraction,
            preprocess=preprocess,
        )
        self._hold_out_fraction = hold_out_fraction

    @cached_property
    def tables(self) -> dict[Split, CaptionTable]:
        """The usable rows of each split; InputError if there is no training split or too many cannot be used."""
        root = Path(self.root)
        places = [(split, root / split / name) for split in SPLITS for name in (CAPTIONS_CSV, INDEX)]
        found = {split: place for split, place in places if place.is_file()}
        found.setdefault("train", root / CAPTIONS_CSV)
        if not found["train"].is_file():
            raise MissingPathError(root, f"data with captions: expected {CAPTIONS_CSV} or train/{CAPTIONS_CSV} in it")
        tables = {
            split: read_shard_captions(path.parent) if path.name == INDEX else read_captions(path)
            for split, path in found.items()
        }
        for split, table in tables.items():
            usable, bad = len(table.rows), table.left_out
            _LOG.info("%s: %d of %d rows can be used", found[split], usable, usable + len(bad))
            for row in bad:
                _LOG.warning("left out: %s: %s", found[split], row.reason)
            self._new_quarantine(split, table).check(self._max_bad_fraction)
            if not table.rows:
                raise FormatError(found[split], "rows of images and texts", "none")
        if "valid" not in tables:
            tables["train"], tables["valid"] = tables["train"].hold_out(self._hold_out_fraction, self.seed)
        return {split: table if split == "train" else table.one_a_path() for split, table in tables.items()}

    @property
    def words(self) -> tuple[str, ...]:
        """Every word of the training captions once, sorted."""
        return vocabulary_of(row.text for row in self.tables["train"].rows)

    def _new_quarantine(self, split: Split, table: CaptionTable) -> TableQuarantine:
        what = f"captions of split {split!r}"
        return TableQuarantine(what, table.rows, self._max_bad_fraction, left_out=table.left_out)

    def _new_store(self, split: Split) -> tuple[ImageStore, TableQuarantine]:
        table = self.tables[split]
        store = ImageStore(table, TRAINING_SIDE, 0, image_reader(table.root))
        return store, self._new_quarantine(split, table)

    def _batch_maker(self, split: Split) -> Callable[[list[PreparedImage]], CaptionBatch | None]:
        return partial(_collate_batch, self.tables[split], self.tables[split].subjects)
