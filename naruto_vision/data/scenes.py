"""Data sets of scenes: folders of images, with or without ground truth, one item per image."""

import logging
import time
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader, Dataset
from typing_extensions import override

from naruto_vision.data.boxes import FORMATS_READ, describe_folder, find_boxes_in, read_boxes
from naruto_vision.data.frames import FPS, VideoFrames, frame_scene
from naruto_vision.data.ground_truth import read_gt
from naruto_vision.data.sampling import NOTHING, ShareSampler, checked_batch_size, process_share
from naruto_vision.data.shards import (
    INDEX,
    FolderReader,
    PackedBox,
    PackedImage,
    PackSource,
    ShardList,
    ShardReader,
    read_part,
)
from naruto_vision.data.tables import warn_ignored_images
from naruto_vision.errors import BadImageError, BadVideoError, InputError, MissingPathError
from naruto_vision.io.images import read_image
from naruto_vision.io.inputs import IMAGES, ImageNames, find_images, is_movie
from naruto_vision.io.names import label_name
from naruto_vision.io.processes import end_with_parent
from naruto_vision.io.tars import list_tar
from naruto_vision.io.text import abbreviate
from naruto_vision.recognition.analyzer import group_size
from naruto_vision.records import UNKNOWN, ImageArray, LabelledBox

_LOG = logging.getLogger(__name__)
TRUTH = "gt.json"


@dataclass(frozen=True)
class SceneItem:
    """One scene of the model's input."""

    scene: str  # path relative to the images' folder, POSIX
    image: ImageArray | None  # (H, W, 3), uint8, RGB, upright; None where it could not be read
    truth: tuple[LabelledBox, ...] | None = None  # the objects of the ground truth; None where there is none
    error: str = ""  # why the image could not be read
    milliseconds: float = 0.0  # wall time of reading and decoding


class SceneDataset(Dataset[SceneItem | None]):
    """The images of a scene folder in the order of their names, or several files and folders.

    The folder either has ``images/`` or has the images itself, also in sub-folders. The truth is in ``gt.json`` or
    box annotations of another tool (``data/boxes.py``). Without required truth, videos give ``fps`` frames per second.
    """

    def __init__(self, folder: ImageNames, *, need_truth: bool = False, fps: float = FPS) -> None:
        if need_truth and not (isinstance(folder, (str, Path)) and Path(folder).is_dir()):
            raise MissingPathError(str(folder), "scene folder")
        files = find_images(folder, videos=not need_truth)
        self.folder, self.images = files.folder, files.root  # the folder that was named alone, and the images' one
        self._refused = dict(files.refused)
        self.videos: dict[str, VideoFrames] = {}
        self._reading: VideoFrames | None = None
        self._frames: dict[str, tuple[str, int]] = {}  # of a scene: its video and index
        self.scenes = self._with_frames(files.names, fps) if not need_truth else files.names
        if files.folder is not None and files.folder != files.root:
            warn_ignored_images(files.folder, IMAGES)
        gt_path = (files.folder or files.root) / TRUTH
        self.listing = files.listing
        found = None
        if isinstance(folder, (str, Path)) and (Path(folder) / INDEX).is_file():
            gt_path, found = Path(folder) / INDEX, _packed_truth(Path(folder), files.root)
        elif need_truth and not gt_path.is_file():
            gt_path, found = self._find_boxes(files.folder or files.root)
        elif need_truth or (files.folder is not None and gt_path.is_file()):
            found = read_gt(gt_path)
        on_disk = {label_name(scene): scene for scene in self.scenes}  # a Mac writes other forms than most tables have
        self._truth = found and {on_disk.get(label_name(scene), scene): boxes for scene, boxes in found.items()}
        self._check_truth(gt_path, need_truth=need_truth)
        self._skipped: frozenset[str] = frozenset()

    def _with_frames(self, names: Sequence[str], fps: float) -> tuple[str, ...]:
        """Replace videos by their frames; one that cannot be read stays, with the reason."""
        for name in names:
            if not is_movie(name) or name in self._refused:
                continue
            try:
                self.videos[name] = VideoFrames(self.images / name, fps)
            except (BadVideoError, MissingPathError) as error:
                self._refused[name] = str(error)
            else:
                self._frames |= {frame_scene(name, index): (name, index) for index in self.videos[name].indices}
        scenes: list[str] = []
        for name in names:
            frames = self.videos.get(name)
            scenes += [name] if frames is None else [frame_scene(name, index) for index in frames.indices]
        return tuple(scenes)

    def pack_source(self) -> PackSource:
        """Return what ``data shard`` packs: the images that are files, with their ground truth if there is one."""
        images = []
        for scene in filter(lambda scene: scene not in self._frames, self.scenes):
            truth = None if self._truth is None else self._truth.get(scene, ())
            boxes = None if truth is None else tuple(PackedBox(box.box, box.label) for box in truth)
            images.append(PackedImage(scene, (), 0, 0, boxes=boxes))
        return PackSource("scenes", images, FolderReader(self.images))

    def _find_boxes(self, root: Path) -> tuple[Path, dict[str, tuple[LabelledBox, ...]]]:
        """Read box annotations; the log counts what they name beyond the images of the folder."""
        source = find_boxes_in(root)
        if source is None:
            raise MissingPathError(root / TRUTH, "ground truth file", f"or {FORMATS_READ}; {describe_folder(root)}")
        found = read_boxes(replace(source, images=self.images)).truth()
        return source.path, {scene: found[scene] for scene in self.scenes if scene in found}

    def _check_truth(self, gt_path: Path, *, need_truth: bool) -> None:
        if self._truth is None:
            return
        absent = sorted(set(self._truth) - set(self.scenes))
        if absent:
            raise InputError(f"{gt_path}: has {len(absent)} scenes that are not in {self.images}: {abbreviate(absent)}")
        unnamed = [scene for scene in self.scenes if scene not in self._truth]
        if need_truth and unnamed:
            raise InputError(
                f"{gt_path}: has no entry for {len(unnamed)} of {len(self.scenes)} images: {abbreviate(unnamed)}; "
                "give a scene without known characters an empty list"
            )

    @property
    def labels(self) -> set[str]:
        """The names in the ground truth; none where there is no ground truth."""
        return {box.label for boxes in (self._truth or {}).values() for box in boxes}

    @property
    def truth_path(self) -> Path:
        """Where the ground truth is or would be: among the images, or beside their folder ``images/`` or tar file."""
        among, beside = self.images / TRUTH, self.images.parent / TRUTH
        is_own = self.images.is_dir() and self.images.name != IMAGES
        return among if is_own or among.is_file() else beside

    def __len__(self) -> int:
        return len(self.scenes)

    def __iter__(self) -> Iterator[SceneItem]:
        return (self.read(index) for index in range(len(self)))

    def __getitem__(self, index: int) -> SceneItem | None:
        return None if index == NOTHING else self.read(index)

    def read(self, index: int) -> SceneItem:
        """Read the scene of an index; an unreadable image gives an item with the reason."""
        scene = self.scenes[index]
        truth = None if self._truth is None else self._truth.get(scene)
        start = time.perf_counter()
        try:
            error = self._refused.get(scene, "")
            image = None if error else self._image(scene)
        except (BadImageError, BadVideoError, MissingPathError) as problem:
            image, error = None, str(problem)
        return SceneItem(scene, image, truth, error, (time.perf_counter() - start) * 1e3)

    def _image(self, scene: str) -> ImageArray:
        if scene not in self._frames:
            return read_image(self.images / scene)
        video, index = self._frames[scene]
        if self._reading is not None and self._reading is not self.videos[video]:
            self._reading.close()  # one decoder at a time
        self._reading = self.videos[video]
        return self._reading.read(index)

    def skip(self, scenes: Collection[str]) -> None:
        """Make the loader skip scenes from now on; ``scenes`` and the indices are unchanged."""
        self._skipped = frozenset(scenes)

    def is_skipped(self, index: int) -> bool:
        """Whether the loader skips the scene with an index in ``scenes``."""
        return self.scenes[index] in self._skipped


def _packed_truth(folder: Path, root: Path) -> dict[str, tuple[LabelledBox, ...]] | None:
    """Return the ground truth in shards of scenes, by the scenes' paths below ``root``; None if they have none."""
    truth: dict[str, tuple[LabelledBox, ...]] = {}
    images = ShardReader(folder, "scenes").images
    for tar in sorted(folder.absolute().glob("*.tar")):
        names = {first: name for name, (first, _) in list_tar(tar).files.items()}
        for image in read_part(tar.with_suffix(".json"), ShardList).images:
            if images[image.path].boxes is None:
                return None
            name = (tar / names[image.offset]).relative_to(root).as_posix()
            truth[name] = tuple(LabelledBox(box.bbox, label_name(box.label)) for box in image.boxes or ())
    return truth


def check_names(truth: Collection[str], known: Collection[str], where: str) -> None:
    """Warn of names in ground truth that the gallery does not have; InputError if it has none of them."""
    names = set(truth) - {UNKNOWN}
    if not (absent := sorted(names - set(known))):
        return
    gallery = f"the gallery has {abbreviate(sorted(known), 8)}"
    if len(absent) == len(names):
        msg = f"{where}: the gallery has none of the names in the ground truth ({abbreviate(absent, 8)}); {gallery}"
        raise InputError(msg)
    _LOG.warning("%s: not in the gallery: %s; %s", where, abbreviate(absent, 8), gallery)


def _as_list(items: list[SceneItem | None]) -> list[SceneItem]:
    return [item for item in items if item is not None]


def scene_loader(
    dataset: SceneDataset, *, batch_size: int = 1, num_workers: int = 1, rank: int = 0, world: int = 1
) -> "SceneLoader":
    """Load scenes as lists of ``SceneItem``, in order, each in exactly one process.

    A process without a scene gets one empty list, so that it takes part in collective calls. A list is
    skipped if all of its scenes are, else it is complete: the batches, and so the scores to the last bit, are then
    the same in a resumed and an uninterrupted run.
    """

    def skipped(index: int) -> bool:
        first = index - index % batch_size
        return all(map(dataset.is_skipped, range(first, min(first + batch_size, len(dataset)))))

    return SceneLoader(
        dataset,
        batch_size=batch_size,
        sampler=ShareSampler(len(dataset), rank, world, skipped, batch_size=batch_size, never_empty=True),
        num_workers=num_workers,
        collate_fn=_as_list,
        worker_init_fn=end_with_parent,
    )


class SceneLoader(DataLoader[Any]):
    """A loader that, without worker processes, decodes one list ahead in a thread."""

    @override
    def __iter__(self) -> Any:
        lists = super().__iter__()
        return lists if self.num_workers else _one_ahead(lists)


def _one_ahead(lists: Iterator[list[SceneItem]]) -> Iterator[list[SceneItem]]:
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="scene-reader") as reader:
        coming = reader.submit(next, lists, None)
        while (scenes := coming.result()) is not None:
            coming = reader.submit(next, lists, None)
            yield scenes


class SceneDataModule(pl.LightningDataModule):
    """Scenes for ``validate``, ``test`` and ``predict``."""

    def __init__(
        self,
        valid: str | None = None,
        test: str | None = None,
        predict: list[str] | str | None = None,
        batch_size: int | None = None,
        num_workers: int = 1,
        fps: float = FPS,
    ) -> None:
        super().__init__()
        self.allow_zero_length_dataloader_with_multiple_devices = True  # fewer scenes than processes are valid
        self.folders = {"valid": valid, "test": test, "predict": predict}
        self._batch_size = None if batch_size is None else checked_batch_size(batch_size)
        self.scene_workers, self.fps = num_workers, fps
        self._datasets: dict[str, SceneDataset] = {}

    def dataset(self, stage: str) -> SceneDataset:
        """Return the scenes of one stage; the same object every time."""
        if stage not in self._datasets:
            folder = self.folders[stage]
            if folder is None:
                raise InputError(f"no {stage} scenes: give their folder, --data.{stage} DIR")
            self._datasets[stage] = SceneDataset(folder, need_truth=stage != "predict", fps=self.fps)
        return self._datasets[stage]

    def setup(self, stage: str) -> None:
        """Open the scene folders of a stage, so that a wrong one is reported at once."""
        if stage != "fit" or self.folders["valid"] is not None:
            self.dataset({"validate": "valid", "fit": "valid", "test": "test"}.get(stage, "predict"))

    @property
    def scene_batch_size(self) -> int:
        """Scenes per search batch."""
        device = torch.device("cpu") if self.trainer is None else self.trainer.strategy.root_device
        return self._batch_size or group_size(device)

    def _scene_loader(self, stage: str) -> DataLoader[Any]:
        rank, world = process_share(self.trainer)
        size, workers = self.scene_batch_size, self.scene_workers
        return scene_loader(self.dataset(stage), batch_size=size, num_workers=workers, rank=rank, world=world)

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """Return the scenes for choosing thresholds, or nothing if no folder was given."""
        return [] if self.folders["valid"] is None else self._scene_loader("valid")

    def test_dataloader(self) -> DataLoader[Any]:
        """Return the scenes of ``test``."""
        return self._scene_loader("test")

    def predict_dataloader(self) -> DataLoader[Any]:
        """Return the scenes of ``predict``."""
        return self._scene_loader("predict")

    @override
    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Leave scenes where they are; move tensors of other batches."""
        if isinstance(batch, list):
            return batch
        return super().transfer_batch_to_device(batch, device, dataloader_idx)


def scenes_together(trainer: pl.Trainer) -> int:
    """Return how many scenes a full batch of a run has."""
    data = getattr(trainer, "datamodule", None)
    return data.scene_batch_size if isinstance(data, SceneDataModule) else 1
