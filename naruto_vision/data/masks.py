"""Data module of images with masks: synthetic ones, or a folder with COCO annotations."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DistributedSampler
from typing_extensions import override

from naruto_vision.data.sampling import Draw, checked_batch_size, fixed_share
from naruto_vision.data.scene_masks import read_coco_masks, unpack_mask
from naruto_vision.data.shards import INDEX, FolderReader, PackedImage, PackSource, ShardReader
from naruto_vision.data.store import SampleDataModule, SampleDataset, TableLoader, TableQuarantine
from naruto_vision.errors import FormatError
from naruto_vision.geometry import xyxy_from_mask
from naruto_vision.io.bundles import config_path
from naruto_vision.records import ImageArray, LabelledImage
from naruto_vision.segmentation.training import PromptBatch

_MASK_PIXELS = 1_000_000_000  # of all masks of one image, a byte each
_SEEDS_APART = 1_000_003  # a prime: scene seeds of nearby source seeds coincide only after this many scenes


class MaskedImage(NamedTuple):
    """An image and the masks of the figures in it."""

    image: ImageArray
    masks: NDArray[np.bool_]


class MaskSource(ABC):
    """Images with masks, by number."""

    @abstractmethod
    def __len__(self) -> int:
        """Return how many images there are."""

    @abstractmethod
    def __getitem__(self, index: int) -> MaskedImage:
        """Return an image (H, W, 3), uint8, RGB, and its masks (N, H, W), bool."""


class SyntheticMasks(MaskSource):
    """Synthetic scenes of unknown characters, each rendered when a batch needs it.

    Args:
        seed: Random seed of every scene.
        count: How many there are.
        size: Side of a scene in pixels.

    Examples:
        >>> import naruto_vision as nv
        >>> scene = nv.SyntheticMasks(seed=3, count=2, size=64)[1]
        >>> scene.image.shape, scene.masks.shape[1:]
        ((64, 64, 3), (64, 64))
    """

    def __init__(self, seed: int = 0, count: int = 1000, size: int = 384) -> None:
        from naruto_vision.synthetic.attributes import read_cast  # `predict` reads masks from here, and renders none

        self.seed = seed
        self.count = count
        self.size = size
        self._cast = read_cast(config_path("cast.yaml"))  # unknowns must not resemble these

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> MaskedImage:
        if not 0 <= index < self.count:
            raise IndexError(index)
        from naruto_vision.synthetic.scene import draw_scene

        scene = draw_scene(self.seed * _SEEDS_APART + index, self._cast, size=self.size, unknowns_only=True)
        masks = [figure.mask for figure in scene.objects]
        return MaskedImage(scene.image, np.stack(masks) if masks else np.zeros((0, self.size, self.size), bool))


class CocoMasks(MaskSource):
    """A folder as ``naruto-vision draw`` writes its scenes: ``images/`` and ``coco.json`` with run-length masks.

    Args:
        folder: The folder, or shards that ``naruto-vision data shard --kind masks`` made of one.

    Raises:
        MissingPathError: If ``coco.json`` is not there.
        FormatError: If it is not COCO instance truth with run-length masks, also on reading an image whose masks are
            broken or not of its size.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        packed = (self.folder / INDEX).is_file()
        self.path = self.folder / (INDEX if packed else "coco.json")
        self._reader: ShardReader | FolderReader = FolderReader(self.folder / "images")
        if packed:
            self._reader = ShardReader(self.folder, "masks")
            masks = {name: list(image.masks) for name, image in self._reader.images.items()}
        else:
            masks = read_coco_masks(self.path)
        self.names = list(masks)
        self.records = list(masks.values())

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> MaskedImage:
        name = self.names[index]
        image = self._reader.read(name)
        shape = image.shape[:2]
        if len(self.records[index]) * image[..., 0].size > _MASK_PIXELS:
            found = f"{len(self.records[index])} of {shape[0]}x{shape[1]}"
            raise FormatError(
                self.path, f"masks of {name} of at most {_MASK_PIXELS} pixels in all", found, "scale it down"
            )
        masks = np.zeros((len(self.records[index]), *shape), dtype=np.bool_)
        for row, record in enumerate(self.records[index]):
            mask = unpack_mask(self.path, name, record)
            if mask.shape != shape:
                raise FormatError(self.path, f"a mask of {shape} for {name}", f"one of {mask.shape}")
            masks[row] = mask
        return MaskedImage(image, masks)

    def pack_source(self) -> PackSource:
        """Return what ``data shard`` packs."""
        images = [
            PackedImage(name, (), 0, 0, masks=tuple(own)) for name, own in zip(self.names, self.records, strict=True)
        ]
        return PackSource("masks", images, self._reader)


class PromptedImage(NamedTuple):
    """One image and its prompts."""

    image: ImageArray  # (S, S, 3), uint8, RGB
    points: NDArray[np.float32]  # (A, 2), x and y in pixels
    point_masks: NDArray[np.bool_]  # (A, S, S); empty for a point on no figure
    boxes: NDArray[np.float32]  # (C, 4), x1 y1 x2 y2 in pixels
    box_masks: NDArray[np.bool_]  # (C, S, S)


def to_square(scene: MaskedImage, side: int) -> MaskedImage:
    """Scale an image and its masks to the longest side and pad with black, the model's input format."""
    height, width = scene.image.shape[:2]
    scale = side / max(height, width)
    size = (max(1, int(width * scale + 0.5)), max(1, int(height * scale + 0.5)))
    image = np.zeros((side, side, 3), dtype=np.uint8)
    # the same resizing as in the model's own preprocessing
    image[: size[1], : size[0]] = np.asarray(Image.fromarray(scene.image).resize(size, Image.Resampling.BILINEAR))
    masks = np.zeros((len(scene.masks), side, side), dtype=np.bool_)
    for row, mask in enumerate(scene.masks):
        cover = cv2.resize(mask.astype(np.uint8) * 255, size, interpolation=cv2.INTER_AREA)
        masks[row, : size[1], : size[0]] = cover >= 128
    return MaskedImage(image, masks[masks.any(axis=(1, 2))])


def point_in(mask: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.float32]:
    """Sample a pixel of a mask uniformly."""
    pixels = np.flatnonzero(mask)
    y, x = divmod(int(pixels[rng.integers(len(pixels))]), mask.shape[1])
    return np.array([x, y], dtype=np.float32)


def box_around(mask: NDArray[np.bool_], rng: np.random.Generator, jitter: float) -> NDArray[np.float32]:
    """Return a mask's box with each edge jittered."""
    x1, y1, x2, y2 = xyxy_from_mask(mask) or (0, 0, 0, 0)
    reach = np.minimum(np.array([x2 - x1 + 1, y2 - y1 + 1] * 2) * jitter, 20.0)
    moved = np.array([x1, y1, x2, y2]) + rng.uniform(-1.0, 1.0, 4) * reach
    limit = np.array([mask.shape[1] - 1, mask.shape[0] - 1] * 2)
    return moved.clip(0, limit).astype(np.float32)


def sample_prompts(
    scene: MaskedImage, rng: np.random.Generator, *, figures: int, off_figure: int, boxes: float
) -> PromptedImage:
    """Sample an image's training prompts, and flip it with probability 1/2."""
    image, masks = scene
    if rng.random() < 0.5:
        image, masks = image[:, ::-1], masks[:, :, ::-1]
    chosen = masks[rng.permutation(len(masks))[:figures]]
    by_box = rng.random(len(chosen)) < boxes
    background = np.logical_not(masks.any(axis=0))
    nothing = np.zeros((off_figure if background.any() else 0, *background.shape), dtype=np.bool_)
    points = [point_in(mask, rng) for mask in chosen[~by_box]] + [point_in(background, rng) for _ in nothing]
    around = [box_around(mask, rng, 0.1) for mask in chosen[by_box]]
    point_masks = np.concatenate([chosen[~by_box], nothing])
    return PromptedImage(image, _stack(points, 2), point_masks, _stack(around, 4), chosen[by_box])


def all_prompts(scene: MaskedImage, rng: np.random.Generator) -> PromptedImage:
    """Prompt every figure by one point and by its exact box, as validation does."""
    points = [point_in(mask, rng) for mask in scene.masks]
    around = [box_around(mask, rng, 0.0) for mask in scene.masks]
    return PromptedImage(scene.image, _stack(points, 2), scene.masks, _stack(around, 4), scene.masks)


def _stack(rows: list[NDArray[np.float32]], columns: int) -> NDArray[np.float32]:
    return np.array(rows, dtype=np.float32).reshape(-1, columns)


def collate(items: Sequence[PromptedImage]) -> PromptBatch | None:
    """Put images and their prompts into one batch; None of no images."""
    if not items:
        return None
    pixels = np.stack([item.image for item in items]).transpose(0, 3, 1, 2)
    counts = [len(item.points) for item in items], [len(item.boxes) for item in items]
    image = np.concatenate([np.repeat(np.arange(len(items)), count) for count in counts])
    masks = np.concatenate([item.point_masks for item in items] + [item.box_masks for item in items])
    return PromptBatch(
        torch.from_numpy(np.ascontiguousarray(pixels)),
        torch.from_numpy(image),
        torch.from_numpy(np.concatenate([item.points for item in items])),
        torch.from_numpy(np.concatenate([item.boxes for item in items])),
        torch.from_numpy(masks),
    )


_PROMPT_STREAM = 2  # keeps the prompts' random numbers apart from the order's
_VALID_STREAM = 3


class _Packed(NamedTuple):
    image: ImageArray
    bits: NDArray[np.uint8]
    masks: int


class _SquareCache:
    """Images scaled to squares, cached with bit-packed masks if ``keep`` is set."""

    def __init__(self, source: MaskSource, side: int, *, keep: bool) -> None:
        self._source = source
        self._side = side
        self._keep = keep
        self._squares: dict[int, _Packed] = {}

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, row: int) -> MaskedImage:
        if row in self._squares:
            image, bits, count = self._squares[row]
            masks = np.unpackbits(bits, count=count * self._side**2).astype(np.bool_)
            return MaskedImage(image, masks.reshape(count, self._side, self._side))
        square = to_square(self._source[row], self._side)
        if self._keep:
            self._squares[row] = _Packed(square.image, np.packbits(square.masks), len(square.masks))
        return square


class _Prompts(SampleDataset):
    """Sampled prompts for draws, all prompts for plain rows."""

    def __init__(self, squares: _SquareCache, seed: int, sample: Callable[..., PromptedImage]) -> None:
        super().__init__(squares, len(squares))
        self._seed, self._sample = seed, sample

    @override
    def _prepare(self, index: int | Draw, row: int, image: MaskedImage) -> PromptedImage:
        if isinstance(index, Draw):
            return self._sample(image, np.random.default_rng([_PROMPT_STREAM, self._seed, index.position]))
        return all_prompts(image, np.random.default_rng([_VALID_STREAM, index]))


class MaskData(SampleDataModule):
    """Prompts for training and measuring a promptable model.

    A training batch is a pure function of the seed and the step: neither the number of workers nor a restart
    changes it.

    Args:
        train: Training images.
        valid: Validation images.
        side: Side of the model's input in pixels.
        batch_size: Images per batch.
        epoch_batches: Batches per epoch and process; None goes through all images once.
        num_workers: Processes that prepare training batches; 0 prepares them in the training process.
        seed: Random seed of the order and the prompts.
        figures: Maximum number of prompted figures per image.
        off_figure: Number of background points per image.
        boxes: Probability that a figure is prompted by a box instead of a point.
        keep: Keep the scaled images in memory, about 0.22 MB each at 256 pixels.
        max_bad_fraction: Maximum fraction of unreadable images, in [0, 1]; training replaces one by the next.

    Examples:
        >>> import naruto_vision as nv
        >>> data = nv.MaskData(nv.SyntheticMasks(1, 4, 64), nv.SyntheticMasks(2, 2, 64), side=64, batch_size=2)
        >>> next(iter(data.train_dataloader())).pixels.shape
        torch.Size([2, 3, 64, 64])
    """

    def __init__(
        self,
        train: MaskSource,
        valid: MaskSource,
        *,
        side: int = 256,
        batch_size: int = 8,
        epoch_batches: int | None = None,
        num_workers: int = 0,
        seed: int = 0,
        figures: int = 3,
        off_figure: int = 1,
        boxes: float = 0.25,
        keep: bool = True,
        max_bad_fraction: float = 0.05,
    ) -> None:
        super().__init__()
        self.train, self.valid, self.seed = train, valid, seed
        self.batch_size = checked_batch_size(batch_size)
        self.epoch_batches, self.num_workers = epoch_batches, num_workers
        sample = partial(sample_prompts, figures=figures, off_figure=off_figure, boxes=boxes)
        sources = {"train": train, "valid": valid}
        self._prompts = {
            split: _Prompts(_SquareCache(source, side, keep=keep), seed, sample) for split, source in sources.items()
        }
        self.quarantines = {
            split: TableQuarantine(f"images of split {split!r}", _rows(source), max_bad_fraction)
            for split, source in sources.items()
        }

    def _loader(self, split: str, sampler: DistributedSampler[Any], num_workers: int = 0) -> TableLoader:
        prompts, quarantine = self._prompts[split], self.quarantines[split]
        return TableLoader(prompts, sampler, self.batch_size, collate, quarantine, num_workers)

    def train_dataloader(self) -> TableLoader:
        """Return the training prompts from the run's current step on."""
        return self._loader("train", self._draws(len(self.train), self.epoch_batches), self.num_workers)

    def val_dataloader(self) -> TableLoader:
        """Return every figure of every readable validation image, in order; each image in exactly one process."""
        return self._loader("valid", fixed_share(self.trainer, len(self.valid), self.batch_size))

    def test_dataloader(self) -> TableLoader:
        """Return the same prompts as validation."""
        return self.val_dataloader()


def _rows(source: MaskSource) -> list[LabelledImage]:
    names = source.names if isinstance(source, CocoMasks) else [f"image {k}" for k in range(len(source))]
    return [LabelledImage(name, "") for name in names]
