"""Data module of gallery images and of the scenes that are searched with the gallery."""

import logging
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize
from torch.utils.data import DataLoader, Dataset

from naruto_vision.data.frames import FPS
from naruto_vision.data.readers import ReaderName, read_classes
from naruto_vision.data.sampling import NOTHING, ShareSampler, checked_batch_size, process_share
from naruto_vision.data.scenes import SceneDataModule, check_names
from naruto_vision.data.shards import image_reader
from naruto_vision.data.store import (
    ImageStore,
    Preprocess,
    Sample,
    TableLoader,
    TableQuarantine,
    module_preprocess,
    read_first,
    report_quarantines,
)
from naruto_vision.data.tables import ClassTable, Policy, ReadRules, Split
from naruto_vision.encoders.base import prepared
from naruto_vision.errors import InputError
from naruto_vision.gallery.enrolment import (
    GAMMA,
    UNCHANGED,
    EnrolmentConfig,
    apply_gamma,
    draw_gamma,
    sample_candidates,
)
from naruto_vision.gallery.quality import measure_quality
from naruto_vision.records import ImageArray

_LOG = logging.getLogger(__name__)


class GalleryBatch(NamedTuple):
    """A batch of gallery images for the encoder."""

    pixels: Tensor  # (B, 3, S, S), float32, as the encoder's ``preprocess`` makes them
    labels: list[str]  # B class names
    paths: list[str]  # B paths relative to the data's root, POSIX
    augs: list[str]  # augmentation of each image: "none" or "gamma"
    colours: Tensor  # (B, K), float32, unit rows: the images described by their colours alone
    qualities: Tensor  # (B, 4), float32: what the gates compare, of ``measure_quality``


_Item: TypeAlias = tuple[Tensor, str, str, str, Tensor, Tensor]


def _collate_batch(items: list[_Item]) -> GalleryBatch:
    if not items:
        return GalleryBatch(torch.empty(0, 3, 1, 1), [], [], [], torch.empty(0, 0), torch.empty(0, 0))
    pixels, labels, paths, augs, *figures = zip(*items, strict=True)
    return GalleryBatch(torch.stack(pixels), list(labels), list(paths), list(augs), *map(torch.stack, figures))


def describe_colours(image: ImageArray) -> Tensor:
    """Describe an image (H, W, 3), uint8, RGB, by an HSV histogram and a thumbnail: (320,), float32, unit length."""
    small = cv2.resize(image, (32, 32), interpolation=cv2.INTER_AREA)
    hsv = cv2.cvtColor(small, cv2.COLOR_RGB2HSV)
    counts = cv2.calcHist([hsv], [0, 1, 2], None, [8, 4, 4], [0, 180, 0, 256, 0, 256])
    thumbnail = cv2.resize(small, (8, 8), interpolation=cv2.INTER_AREA).astype(np.float32) - 127.5
    parts = [torch.from_numpy(part.ravel()) for part in (np.sqrt(counts), thumbnail)]
    return normalize(torch.cat([normalize(part, dim=0) for part in parts]), dim=0)


class _EnrolmentDataset(Dataset[Sample]):
    """The images of a table and their variants, each prepared for the encoder."""

    def __init__(self, table: ClassTable, preprocess: Preprocess, plan: EnrolmentConfig) -> None:
        self._table, self._preprocess, self._seed = table, preprocess, plan.seed
        self._store = ImageStore(table, side=0, budget=0)
        variants: dict[str, tuple[str, ...]] = {"none": (UNCHANGED,), "add": (UNCHANGED, GAMMA), "replace": (GAMMA,)}
        self._variants = variants[plan.gamma]

    def __len__(self) -> int:
        return len(self._table) * len(self._variants)

    def __getitem__(self, index: int) -> Sample:
        if index == NOTHING:
            return Sample()
        number, variant = divmod(index, len(self._variants))
        return read_first(self._store, (number,), partial(self._prepare, self._variants[variant]))

    def _prepare(self, aug: str, number: int, image: ImageArray) -> _Item:
        row = self._table.rows[number]
        if aug == GAMMA:
            image = apply_gamma(image, draw_gamma(row.path, self._seed))
        figures = describe_colours(image), torch.from_numpy(measure_quality(image))
        return prepared(self._preprocess, image, row.path), row.label, row.path, aug, *figures


class GalleryDataModule(SceneDataModule):
    """Data of ``SceneRetriever``: ``fit`` enrols ``root``'s training split, the other commands read scenes.

    Args:
        root: The class data: a Roboflow export, manifests, or class folders. Only ``fit`` needs it.
        valid: Scene folder with ground truth, for choosing thresholds.
        test: Scene folder with ground truth, for evaluation.
        predict: Images and videos to search: a folder, a file, a pattern, ``@FILE`` with a name per line, or a list of
            these.
        reader: How ``root`` is laid out; "auto" finds out.
        aliases: Class name as found, to the name it should have.
        policy: How images with several positive classes are treated.
        split: Which split is enrolled.
        plan: How many images of a class, which near duplicates and which variants are enrolled; None takes every
            image once.
        enrol_batch_size: Gallery images per batch.
        max_bad_fraction: Maximum fraction of unreadable gallery images, in [0, 1]; no gallery is written
            where there are more, or where no image of a class can be read.
        batch_size: Scenes that are searched together; None takes 8 on a GPU, and 1 on a CPU.
        num_workers: Processes that decode ahead; 0 takes a thread for scenes and none for gallery images.
        fps: Frames per second of a video that are searched; the files of its tracks are in ``video.track_files``.

    Attributes:
        table: The enrolled rows, once ``setup("fit")`` has run.
        quarantine: The unreadable gallery images found so far, with counts, once ``setup("fit")`` has run.
        plan: What is enrolled.
    """

    def __init__(
        self,
        root: str | None = None,
        valid: str | None = None,
        test: str | None = None,
        predict: list[str] | str | None = None,
        reader: ReaderName = "auto",
        aliases: dict[str, str] | None = None,
        policy: Policy = "single_only",
        split: Split = "train",
        plan: EnrolmentConfig | None = None,
        enrol_batch_size: int = 32,
        max_bad_fraction: float = 0.05,
        batch_size: int | None = None,
        num_workers: int = 1,
        fps: float = FPS,
    ) -> None:
        super().__init__(valid, test, predict, batch_size, num_workers, fps)
        self.root = root
        self.quarantine: TableQuarantine | None = None
        self.table: ClassTable | None = None
        self.plan = plan or EnrolmentConfig()
        self._not_sampled = 0
        self._reader: ReaderName = reader
        self._rules = ReadRules(aliases or {}, policy)
        self._split: Split = split
        self._enrol_batch_size = checked_batch_size(enrol_batch_size)
        self._max_bad_fraction = max_bad_fraction

    def setup(self, stage: str) -> None:
        """Read the class data for ``fit``, scene folders for the other stages.

        Args:
            stage: "fit", "validate", "test" or "predict".

        Raises:
            InputError: If a required folder is missing or unusable.
        """
        super().setup(stage)
        if stage == "fit" and self.table is None:
            self._read_gallery()

    def _read_gallery(self) -> None:
        if self.root is None:
            raise InputError("no images to enrol: give the class data's folder, --data.root DIR")
        table = read_classes(self.root, self._split, self._reader, self._rules)
        _LOG.info("%s: %s", self.root, "; ".join([table.report.summary(), *table.report.remarks()]))
        if self.folders["valid"] is not None:
            check_names(self.dataset("valid").labels, table.classes, str(self.folders["valid"]))
        chosen = sample_candidates([(row.label, row.path) for row in table.rows], self.plan)
        self._not_sampled = len(table) - len(chosen)
        self.table = table.with_rows([table.rows[index] for index in chosen])
        self.quarantine = TableQuarantine("gallery images", self.table.rows, self._max_bad_fraction, every_class=True)

    @property
    def images_root(self) -> Path:
        """The folder that the enrolled paths are relative to; InputError if nothing has been read."""
        if self.table is None:
            raise InputError("gallery data: nothing has been read; call setup('fit') first")
        return self.table.root

    def read(self, path: str) -> ImageArray:
        """Decode one of the enrolled images: (H, W, 3), uint8, RGB."""
        return image_reader(self.images_root).read(path)

    def settle(self) -> None:
        """Count over all processes which images could not be read; each has to call it. InputError for too many."""
        if self.quarantine is not None:
            report_quarantines(self.trainer, {self._split: self.quarantine})

    def counts(self) -> dict[str, int]:
        """Return the counts of the listed images: ``listed = not_sampled + quarantined + images to embed``."""
        listed = self._not_sampled + (0 if self.table is None else len(self.table))
        bad = 0 if self.quarantine is None else self.quarantine.quarantined
        return {"listed": listed, "not_sampled": self._not_sampled, "quarantined": bad}

    def gallery_loader(self, preprocess: Preprocess) -> DataLoader[Any]:
        """Load every gallery image and its variants once, in table order, sharded over processes.

        An image that cannot be read is left out, so that its batch is shorter.
        A process without a share gets one empty batch, so that it takes part in collective calls.

        Args:
            preprocess: From an image to the encoder's pixels.

        Raises:
            InputError: If there is nothing to enrol.
        """
        if self.table is None:
            self._read_gallery()
        if self.table is None or self.quarantine is None or not len(self.table):
            raise InputError(f"{self.root}: no images to enrol in split {self._split!r}")
        rank, world = process_share(self.trainer)
        images = _EnrolmentDataset(self.table, preprocess, self.plan)
        size = self._enrol_batch_size
        share = ShareSampler(len(images), rank, world, batch_size=size, never_empty=True)
        return TableLoader(images, share, size, _collate_batch, self.quarantine, self.scene_workers)

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the images to enrol, as the module's encoder wants them."""
        return self.gallery_loader(module_preprocess(self.trainer))
