"""Where pictures with masks come from: drawn as they are needed, or a folder with COCO truth."""

import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from naruto_vision.drawn.cast import read_cast
from naruto_vision.drawn.scenes import draw_scene
from naruto_vision.errors import FormatError, MissingPathError
from naruto_vision.files.images import read_image
from naruto_vision.files.rle import decode_rle
from naruto_vision.files.share import config_path
from naruto_vision.records import Picture

_SEEDS_APART = 1_000_003  # a prime: scene seeds of two nearby source seeds meet only after so many scenes


class MaskedPicture(NamedTuple):
    """A picture and the masks of the figures in it.

    Attributes:
        picture: Shape (H, W, 3), uint8, RGB.
        masks: Shape (K, H, W), bool, whole figures as far as they can be seen.
    """

    picture: Picture
    masks: NDArray[np.bool_]


class MaskSource(ABC):
    """Pictures with masks, by number."""

    @abstractmethod
    def __len__(self) -> int:
        """Return how many pictures there are."""

    @abstractmethod
    def __getitem__(self, index: int) -> MaskedPicture:
        """Return one picture.

        Args:
            index: From 0 to the length minus one.

        Returns:
            The picture, shape (H, W, 3), and its masks, shape (K, H, W).
        """


class DrawnMasks(MaskSource):
    """Scenes of strangers, drawn when they are asked for.

    Args:
        seed: Decides every scene.
        count: How many there are.
        size: Side of a scene in pixels.

    Example:
        >>> scene = DrawnMasks(seed=3, count=2, size=64)[1]
        >>> scene.picture.shape, scene.masks.shape[1:]
        ((64, 64, 3), (64, 64))
    """

    def __init__(self, seed: int = 0, count: int = 1000, size: int = 384) -> None:
        self.seed = seed
        self.count = count
        self.size = size
        self._cast = read_cast(config_path("cast.yaml"))  # whom the strangers must not resemble

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> MaskedPicture:
        """Draw one scene.

        Args:
            index: From 0 to the length minus one.

        Returns:
            The picture, shape (size, size, 3), and its masks, shape (K, size, size).

        Raises:
            IndexError: If there is no such scene.
        """
        if not 0 <= index < self.count:
            raise IndexError(index)
        scene = draw_scene(self.seed * _SEEDS_APART + index, self._cast, size=self.size, strangers_only=True)
        masks = [figure.mask for figure in scene.objects]
        return MaskedPicture(scene.picture, np.stack(masks) if masks else np.zeros((0, self.size, self.size), bool))


def read_coco_masks(path: str | Path) -> dict[str, list[Any]]:
    """Read which masks the pictures of a COCO file have, without unpacking them.

    Args:
        path: COCO instance truth with run-length masks, as ``naruto-vision draw`` writes its ``coco.json``.

    Returns:
        File name of each picture, to its annotations' ``segmentation``, which ``decode_rle`` checks and unpacks.

    Raises:
        FormatError: If it is anything else, or has a picture twice.
    """
    path = Path(path)
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        names = {image["id"]: str(image["file_name"]) for image in record["images"]}
        found = [(names.get(one["image_id"]), one["image_id"], one["segmentation"]) for one in record["annotations"]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        reason = f"{type(error).__name__} {error}"
        raise FormatError(path, "COCO images and annotations with run-length masks", reason) from None
    masks: dict[str, list[Any]] = {name: [] for name in names.values()}
    if len(masks) != len(record["images"]):
        raise FormatError(path, "every id and every file_name once", f"{len(masks)} of {len(record['images'])}")
    for name, image, segmentation in found:
        if name is None:
            raise FormatError(path, "annotations of its images", f"image_id {image!r}")
        masks[name].append(segmentation)
    return masks


class CocoMasks(MaskSource):
    """A folder as ``naruto-vision draw`` writes its scenes: ``images/`` and ``coco.json`` with run-length masks.

    Args:
        folder: The folder.

    Raises:
        MissingPathError: If ``coco.json`` is not there.
        FormatError: If it is not COCO instance truth with run-length masks.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.path = self.folder / "coco.json"
        if not self.path.is_file():
            raise MissingPathError(self.path, "COCO truth", "give a folder with images/ and coco.json")
        masks = read_coco_masks(self.path)
        self.names = list(masks)
        self.records = list(masks.values())

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> MaskedPicture:
        """Read one picture.

        Args:
            index: From 0 to the length minus one.

        Returns:
            The picture, shape (H, W, 3), and its masks, shape (K, H, W).

        Raises:
            FormatError: If a mask is broken or not of the picture's size.
        """
        picture = read_image(self.folder / "images" / self.names[index])
        shape = picture.shape[:2]
        masks = np.zeros((len(self.records[index]), *shape), dtype=np.bool_)
        for row, record in enumerate(self.records[index]):
            try:
                mask = decode_rle(record if isinstance(record, dict) else {"counts": record})
            except ValueError as error:
                raise FormatError(self.path, f"masks of {self.names[index]}", str(error)) from None
            if mask.shape != shape:
                raise FormatError(self.path, f"a mask of {shape} for {self.names[index]}", f"one of {mask.shape}")
            masks[row] = mask
        return MaskedPicture(picture, masks)
