"""The gallery's pictures, and the scenes that are searched with it."""

import logging
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from naruto_vision.data.preprocessing import Preprocess, module_preprocess
from naruto_vision.data.readers import ReaderName, read_classes
from naruto_vision.data.rows import Policy, ReadRules
from naruto_vision.data.sampling import ResumableLoader, ShareSampler, checked_batch_size, process_share
from naruto_vision.data.scenes import SceneDataModule
from naruto_vision.data.store import PictureStore, PreparedPicture, TableDataset, load_table
from naruto_vision.data.tables import ClassTable, Split
from naruto_vision.errors import InputError
from naruto_vision.files.quarantine import Quarantine

_LOG = logging.getLogger(__name__)


class GalleryBatch(NamedTuple):
    """Gallery pictures on their way to the encoder.

    Args:
        pixels: Shape (B, 3, S, S), float32, as the encoder's ``preprocess`` makes them.
        labels: B class names.
        paths: B paths relative to the data's root, POSIX.
    """

    pixels: Tensor
    labels: list[str]
    paths: list[str]


def _as_batch(items: list[PreparedPicture]) -> GalleryBatch:
    pixels, labels, paths = zip(*items, strict=True)
    return GalleryBatch(torch.stack(pixels), list(labels), list(paths))


class GalleryDataModule(SceneDataModule):
    """What ``SceneRetriever`` needs: ``fit`` enrols ``root``'s training split, the other verbs read scenes.

    Args:
        root: The class data: a Roboflow export, manifests, or class folders. Only ``fit`` needs it.
        valid: Scene folder with ground truth, to choose thresholds on.
        test: Scene folder with ground truth, to measure on.
        predict: Scene folder.
        reader: How ``root`` is laid out; "auto" looks.
        aliases: Class name as found, to the name it should have.
        policy: What becomes of pictures with several positive classes.
        split: Which split is enrolled.
        enrol_batch_size: Gallery pictures a batch.
        max_bad_fraction: Largest share of unreadable gallery pictures that is put up with, in [0, 1].
        cache_bytes: Bytes of decoded gallery pictures kept between ``setup`` and ``fit``.
        batch_size: Scenes a batch.
        num_workers: Processes that decode scenes ahead; 0 decodes in between.

    Attributes:
        table: The enrolled rows, once ``setup("fit")`` has run.
        quarantine: The gallery pictures that could not be read, with counts.
        duplicates: Gallery pictures whose pixels repeat another one's; they are kept.
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
        enrol_batch_size: int = 32,
        max_bad_fraction: float = 0.05,
        cache_bytes: int = 256 << 20,
        batch_size: int = 1,
        num_workers: int = 1,
    ) -> None:
        super().__init__(valid, test, predict, batch_size, num_workers)
        self.root = root
        self.quarantine = Quarantine("gallery pictures")
        self.table: ClassTable | None = None
        self.duplicates = 0
        self._reader: ReaderName = reader
        self._rules = ReadRules(aliases or {}, policy)
        self._split: Split = split
        self._enrol_batch_size = checked_batch_size(enrol_batch_size)
        self._max_bad_fraction = max_bad_fraction
        self._cache_bytes = cache_bytes
        self._store: PictureStore | None = None

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
            msg = "no pictures to enrol: give the class data's folder, --data.root DIR"
            raise InputError(msg)
        table = read_classes(self.root, self._split, self._reader, self._rules)
        _LOG.info("%s: %s", self.root, table.report.summary())
        self.table, self._store = load_table(
            table, self.quarantine, max_bad_fraction=self._max_bad_fraction, side=0, budget=self._cache_bytes
        )
        self.duplicates = self._store.duplicates

    def gallery_loader(self, preprocess: Preprocess) -> DataLoader[Any]:
        """Load every gallery picture once, in table order; each process has its own share.

        Args:
            preprocess: From a picture to the encoder's pixels.

        Raises:
            InputError: If there is nothing to enrol.
        """
        if self.table is None or self._store is None:
            self._read_gallery()
        if self.table is None or self._store is None or not len(self.table):
            msg = f"{self.root}: no pictures to enrol in split {self._split!r}"
            raise InputError(msg)
        rank, world = process_share(self.trainer)
        return ResumableLoader(
            TableDataset(self.table, self._store, preprocess),
            ShareSampler(len(self.table), rank, world),
            self._enrol_batch_size,
            _as_batch,
        )

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the pictures to enrol, as the module's encoder wants them."""
        return self.gallery_loader(module_preprocess(self.trainer))
