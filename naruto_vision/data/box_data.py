"""Data module of images with boxes, for learning where characters are."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DistributedSampler
from typing_extensions import override

from naruto_vision.data.boxes import FORMATS_READ, find_boxes, read_boxes
from naruto_vision.data.ground_truth import read_gt
from naruto_vision.data.sampling import Draw, checked_batch_size, fixed_share
from naruto_vision.data.store import SampleDataModule, SampleDataset, TableLoader, TableQuarantine
from naruto_vision.data.tables import Split
from naruto_vision.errors import InputError
from naruto_vision.io.images import read_image, scan_folder, shrink
from naruto_vision.io.inputs import images_folder
from naruto_vision.records import Box, ImageArray, LabelledImage
from naruto_vision.segmentation.detector import to_tensor

_LOG = logging.getLogger(__name__)
_STREAM = 4  # keeps the flips' random numbers apart from the order's
_BLOCKS, _EVERY = 20, 5  # held out: every fifth of twenty runs of neighbouring images, so that few have a near twin


class BoxedImage(NamedTuple):
    """An image and the boxes in it."""

    image: ImageArray  # (H, W, 3), uint8, RGB
    edges: NDArray[np.float64]  # (N, 4), x1 y1 x2 y2 in pixels


class BoxBatch(NamedTuple):
    """A training batch of images of any sizes."""

    images: list[Tensor]  # B x (3, H, W), float32, in [0, 1]
    boxes: list[Tensor]  # B x (N, 4), float32, edges x1 y1 x2 y2 in pixels


class _Source:
    """Images with boxes by row, decoded when a batch needs them and kept at a bounded size."""

    def __init__(self, root: Path, items: Sequence[tuple[str, tuple[Box, ...]]], side: int, *, keep: bool) -> None:
        self.root, self.items, self._side, self._keep = root, items, side, keep
        self._kept: dict[int, BoxedImage] = {}
        self.rows = [LabelledImage(name, "") for name, _ in items]

    def __getitem__(self, row: int) -> BoxedImage:
        if row in self._kept:
            return self._kept[row]
        name, boxes = self.items[row]
        image = read_image(self.root / name)
        small = shrink(image, self._side)
        grow = np.array([small.shape[1] / image.shape[1], small.shape[0] / image.shape[0]] * 2)
        item = BoxedImage(small, (np.asarray(boxes, dtype=np.float64).reshape(-1, 4) + np.array([0, 0, 1, 1])) * grow)
        if self._keep:
            self._kept[row] = item
        return item


class _Boxes(SampleDataset):
    """Draws flipped at random, plain rows as they are on the disk."""

    def __init__(self, source: _Source, seed: int) -> None:
        super().__init__(source, len(source.rows))
        self._seed = seed

    @override
    def _prepare(self, index: int | Draw, row: int, image: BoxedImage) -> BoxedImage | tuple[Tensor, Tensor]:
        return self._flip(index.position, image) if isinstance(index, Draw) else image

    def _flip(self, position: int, item: BoxedImage) -> tuple[Tensor, Tensor]:
        image, edges = item.image, torch.from_numpy(item.edges).float()
        if np.random.default_rng([_STREAM, self._seed, position]).random() < 0.5:
            image, width = image[:, ::-1], image.shape[1]
            edges = torch.stack([width - edges[:, 2], edges[:, 1], width - edges[:, 0], edges[:, 3]], dim=1)
        return to_tensor(image), edges


def _collate_training(items: list[tuple[Tensor, Tensor]]) -> BoxBatch | None:
    return BoxBatch([image for image, _ in items], [edges for _, edges in items]) if items else None


class BoxDataModule(SampleDataModule):
    """Images with boxes for ``RegionTuner``: gt.json, COCO, YOLO, Pascal VOC, CVAT, Label Studio or CSV boxes.

    Labels are not used. Images without a box teach what is no object; images that are not annotated are left out.

    Args:
        root: A data set with splits, or one folder of images with annotations; without a split "valid" every fifth run
            of neighbouring images (in order of their names) is held out.
        image_size: Shorter side of the detector's input in pixels.
        batch_size: Images per training batch.
        num_workers: Processes that prepare training batches; 0 prepares them in the training process.
        seed: Random seed of the order and the flips.
        limit: Number of training images, evenly spaced; None takes all.
        max_bad_fraction: Maximum fraction of unreadable images, in [0, 1]; training replaces one by the next.
    """

    def __init__(
        self,
        root: str = "data",
        *,
        image_size: int = 288,
        batch_size: int = 6,
        num_workers: int = 0,
        seed: int = 0,
        limit: int | None = None,
        max_bad_fraction: float = 0.05,
    ) -> None:
        super().__init__()
        self.root, self.seed, self.num_workers, self.limit = root, seed, num_workers, limit
        self.batch_size = checked_batch_size(batch_size)
        self._side = round(image_size * 2.5)  # the largest training scale of a 16:9 image
        self._max_bad_fraction = max_bad_fraction
        self.sources: dict[str, _Source] = {}
        self.quarantines: dict[str, TableQuarantine] = {}

    @override
    def setup(self, stage: str) -> None:
        """Read the annotations of the splits; no image is decoded."""
        if self.sources:
            return
        train = _read_split(Path(self.root), "train")
        valid = _read_split(Path(self.root), "valid")
        if train is None:
            raise InputError(f"{self.root}: no boxes; expected gt.json, {FORMATS_READ}")
        folder, items = train
        if valid is None:
            held = _held_out(len(items))
            valid = folder, [item for item, out in zip(items, held, strict=True) if out]
            items = [item for item, out in zip(items, held, strict=True) if not out]
        if self.limit is not None and self.limit < len(items):
            items = [items[k] for k in np.linspace(0, len(items) - 1, self.limit).round().astype(int)]
        test = _read_split(Path(self.root), "test") if stage == "test" else None
        for split, (base, listed) in {"train": (folder, items), "valid": valid, "test": test or valid}.items():
            boxes = sum(len(each) for _, each in listed)
            if not boxes:
                raise InputError(f"{self.root}: no boxes in split {split!r} ({len(listed)} images)")
            if split != "test" or test:
                _LOG.info("%s split: %d images with %d boxes", split, len(listed), boxes)
            keep = split == "train"
            self.sources[split] = _Source(base, listed, self._side if keep else 0, keep=keep)
            self.quarantines[split] = TableQuarantine(
                f"images of split {split!r}", self.sources[split].rows, self._max_bad_fraction
            )

    def _loader(
        self, split: str, sampler: DistributedSampler[Any], collate: Callable[[list[Any]], Any], workers: int = 0
    ) -> TableLoader:
        return TableLoader(
            _Boxes(self.sources[split], self.seed), sampler, self.batch_size, collate, self.quarantines[split], workers
        )

    def train_dataloader(self) -> TableLoader:
        """Return the training images from the run's current step on."""
        return self._loader("train", self._draws(len(self.sources["train"].rows)), _collate_training, self.num_workers)

    def val_dataloader(self, split: str = "valid") -> TableLoader:
        """Return every readable validation image as it is, in order; each in exactly one process."""
        share = fixed_share(self.trainer, len(self.sources[split].rows), self.batch_size)
        return self._loader(split, share, lambda items: items or None)

    def test_dataloader(self) -> TableLoader:
        """Return the test images, or the validation images where there are none."""
        return self.val_dataloader("test")


def _held_out(count: int) -> list[bool]:
    """Mark every fifth run of neighbouring images, or the last one where there are too few."""
    held = [k * _BLOCKS // count % _EVERY == _EVERY - 1 for k in range(count)]
    return held if any(held) else [k == count - 1 for k in range(count)]


def _read_split(root: Path, split: Split) -> tuple[Path, list[tuple[str, tuple[Box, ...]]]] | None:
    """Return the images' folder, and the images with their boxes, sorted by name; None if there are no boxes."""
    scenes = [base for base in (root / split, root) if (base / "gt.json").is_file()]
    if scenes and (split == "train" or scenes[0] != root):
        folder = images_folder(scenes[0])
        truth, listed = read_gt(scenes[0] / "gt.json"), set(scan_folder(folder).images)
        rows = [(name, tuple(box.box for box in boxes)) for name, boxes in sorted(truth.items()) if name in listed]
        return folder, rows
    source = find_boxes(root, split)
    if source is None:
        return None
    images = (one for one in read_boxes(source).images if not one.problem and not one.missing)
    return source.images, sorted((one.name, tuple(box.box for box in one.boxes)) for one in images)
