"""The gallery's images, and the scenes that are searched with it."""

import logging
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from naruto_vision.data.readers import ReaderName, read_classes
from naruto_vision.data.sampling import NOTHING, ResumableLoader, ShareSampler, checked_batch_size, process_share
from naruto_vision.data.scenes import SceneDataModule
from naruto_vision.data.store import ImageStore, Preprocess, load_table, module_preprocess
from naruto_vision.data.tables import ClassTable, Policy, ReadRules, Split
from naruto_vision.errors import InputError
from naruto_vision.gallery.enrollment import GAMMA, UNCHANGED, EnrolmentPlan, apply_gamma, draw_gamma, sample_candidates
from naruto_vision.io.quarantine import Quarantine

_LOG = logging.getLogger(__name__)


class GalleryBatch(NamedTuple):
    """Gallery images on their way to the encoder.

    Args:
        pixels: Shape (B, 3, S, S), float32, as the encoder's ``preprocess`` makes them.
        labels: B class names.
        paths: B paths relative to the data's root, POSIX.
        augs: How each image was changed: "none" or "gamma".
    """

    pixels: Tensor
    labels: list[str]
    paths: list[str]
    augs: list[str]


_Item: TypeAlias = tuple[Tensor, str, str, str]


def _as_batch(found: list[_Item | None]) -> GalleryBatch:
    items = [item for item in found if item is not None]
    if not items:
        return GalleryBatch(torch.empty(0, 3, 1, 1), [], [], [])
    pixels, labels, paths, augs = zip(*items, strict=True)
    return GalleryBatch(torch.stack(pixels), list(labels), list(paths), list(augs))


class _EnrolmentDataset(Dataset[_Item | None]):
    """The images of a table and their variants, each prepared for the encoder.

    Args:
        table: The rows.
        store: The decoded images, by the table's row numbers.
        preprocess: From an image to the encoder's pixels.
        plan: Says which variants there are.
    """

    def __init__(self, table: ClassTable, store: ImageStore, preprocess: Preprocess, plan: EnrolmentPlan) -> None:
        self._table = table
        self._store = store
        self._preprocess = preprocess
        self._seed = plan.seed
        match plan.gamma:
            case "none":
                self._variants: tuple[str, ...] = (UNCHANGED,)
            case "add":
                self._variants = (UNCHANGED, GAMMA)
            case "replace":
                self._variants = (GAMMA,)

    def __len__(self) -> int:
        return len(self._table) * len(self._variants)

    def __getitem__(self, index: int) -> _Item | None:
        if index == NOTHING:
            return None
        number, variant = divmod(index, len(self._variants))
        row, aug = self._table.rows[number], self._variants[variant]
        image = self._store[number]
        if aug == GAMMA:
            image = apply_gamma(image, draw_gamma(row.path, self._seed))
        return self._preprocess(image), row.label, row.path, aug


class GalleryDataModule(SceneDataModule):
    """What ``SceneRetriever`` needs: ``fit`` enrols ``root``'s training split, the other verbs read scenes.

    Args:
        root: The class data: a Roboflow export, manifests, or class folders. Only ``fit`` needs it.
        valid: Scene folder with ground truth, to choose thresholds on.
        test: Scene folder with ground truth, to measure on.
        predict: Scene folder.
        reader: How ``root`` is laid out; "auto" looks.
        aliases: Class name as found, to the name it should have.
        policy: What becomes of images with several positive classes.
        split: Which split is enrolled.
        plan: How many images of a class, which near duplicates and which variants are enrolled; None takes every
            image once.
        enrol_batch_size: Gallery images a batch.
        max_bad_fraction: Largest share of unreadable gallery images that is put up with, in [0, 1].
        cache_bytes: Bytes of decoded gallery images kept between ``setup`` and ``fit``.
        batch_size: Scenes that are searched together; None takes 8 on a GPU, and 1 on a CPU.
        num_workers: Processes that decode scenes ahead; 0 takes a thread.

    Attributes:
        table: The enrolled rows, once ``setup("fit")`` has run.
        quarantine: The gallery images that could not be read, with counts.
        duplicates: Gallery images whose pixels repeat another one's; only the plan's threshold leaves them out.
        plan: What is enrolled.
    """

    def __init__(
        self,
        root: str | None = None,
        valid: str | None = None,
        test: str | None = None,
        predict: str | None = None,
        reader: ReaderName = "auto",
        aliases: dict[str, str] | None = None,
        policy: Policy = "single_only",
        split: Split = "train",
        plan: EnrolmentPlan | None = None,
        enrol_batch_size: int = 32,
        max_bad_fraction: float = 0.05,
        cache_bytes: int = 256 << 20,
        batch_size: int | None = None,
        num_workers: int = 1,
    ) -> None:
        super().__init__(valid, test, predict, batch_size, num_workers)
        self.root = root
        self.quarantine = Quarantine("gallery images")
        self.table: ClassTable | None = None
        self.duplicates = 0
        self.plan = plan or EnrolmentPlan()
        self._not_sampled = 0
        self._reader: ReaderName = reader
        self._rules = ReadRules(aliases or {}, policy)
        self._split: Split = split
        self._enrol_batch_size = checked_batch_size(enrol_batch_size)
        self._max_bad_fraction = max_bad_fraction
        self._cache_bytes = cache_bytes
        self._store: ImageStore | None = None

    def setup(self, stage: str) -> None:
        """Read what a verb needs: the class data for ``fit``, scene folders for the others.

        Args:
            stage: "fit", "validate", "test" or "predict".

        Raises:
            InputError: If something that is needed was not given or cannot be used.
        """
        super().setup(stage)
        if stage == "fit" and self.table is None:
            self._read_gallery()

    def _read_gallery(self) -> None:
        if self.root is None:
            msg = "no images to enrol: give the class data's folder, --data.root DIR"
            raise InputError(msg)
        table = read_classes(self.root, self._split, self._reader, self._rules)
        _LOG.info("%s: %s", self.root, table.report.summary())
        chosen = sample_candidates([(row.label, row.path) for row in table.rows], self.plan)
        self._not_sampled = len(table) - len(chosen)
        table = table.with_rows([table.rows[place] for place in chosen])
        self.table, self._store = load_table(
            table, self.quarantine, max_bad_fraction=self._max_bad_fraction, side=0, budget=self._cache_bytes
        )
        self.duplicates = self._store.duplicates

    @property
    def images_root(self) -> Path:
        """The folder that the enrolled paths are relative to.

        Raises:
            InputError: If nothing has been read.
        """
        if self.table is None:
            msg = "gallery data: nothing has been read; call setup('fit') first"
            raise InputError(msg)
        return self.table.root

    def counts(self) -> dict[str, int]:
        """Return what became of the listed images: ``listed = not_sampled + quarantined + images to embed``."""
        read = self.quarantine.counts()
        listed = read["seen"] + self._not_sampled
        return {"listed": listed, "not_sampled": self._not_sampled, "quarantined": read["quarantined"]}

    def gallery_loader(self, preprocess: Preprocess) -> DataLoader[Any]:
        """Load every gallery image and its variants once, in table order; each process has its own share.

        A process without a share gets one empty batch, so that it takes part in what the others do together.

        Args:
            preprocess: From an image to the encoder's pixels.

        Raises:
            InputError: If there is nothing to enrol.
        """
        if self.table is None or self._store is None:
            self._read_gallery()
        if self.table is None or self._store is None or not len(self.table):
            msg = f"{self.root}: no images to enrol in split {self._split!r}"
            raise InputError(msg)
        rank, world = process_share(self.trainer)
        images = _EnrolmentDataset(self.table, self._store, preprocess, self.plan)
        share = ShareSampler(len(images), rank, world, never_empty=True)
        return ResumableLoader(images, share, self._enrol_batch_size, _as_batch)

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the images to enrol, as the module's encoder wants them."""
        return self.gallery_loader(module_preprocess(self.trainer))
