"""Export a run, or scenes that people have labelled, for other tools."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from naruto_vision.data.box_formats import json_format
from naruto_vision.data.boxes import AnnotatedImage, open_boxes, read_boxes
from naruto_vision.data.ground_truth import read_gt
from naruto_vision.errors import FormatError, InputError
from naruto_vision.export.source import PREDICTIONS, Regions, SceneSource, read_run
from naruto_vision.export.writers import Target, write_scenes
from naruto_vision.geometry import area_of_counts, canonical_rle
from naruto_vision.io.images import image_size
from naruto_vision.io.inputs import images_folder
from naruto_vision.recognition.coco import CocoObject, CocoScene


def export_scenes(
    source: str | Path,
    to: Target,
    out: str | Path,
    *,
    regions: Regions = "shown",
    images: str | Path | None = None,
    url: str | None = None,
    advance: Callable[[], None] = lambda: None,
) -> Path:
    """Write the regions of a run, or labelled scenes, for another tool, as ``naruto-vision export`` does.

    Args:
        source: The folder of a run of ``predict`` or ``segment``; or ``gt.json``, a COCO, CVAT, Label Studio or CSV
            file, or a folder with one of them, YOLO or Pascal VOC.
        to: The format to write.
        out: Output folder, missing or empty; it appears as a whole.
        regions: Of a run: "shown" for the named regions on the overlays, "all" for every region.
        images: The folder that scenes are relative to; by default that of the run, or ``images`` beside the labels.
        url: What the addresses of images in Label Studio start with; by default those of its local storage.
        advance: Called after each scene, for a progress bar; twice for COCO.

    Returns:
        The file that was written or, of Pascal VOC, the folder.

    Raises:
        FormatError: If a file is not as expected.
        InputError: If there is nothing to export, or ``out`` has files already.

    Examples:
        >>> import naruto_vision as nv
        >>> nv.export_scenes("runs/scenes", "cvat", "for_cvat")  # doctest: +SKIP
        PosixPath('for_cvat/annotations.xml')
    """
    return write_scenes(open_scenes(source, images, regions), to, out, url=url, advance=advance)


def open_scenes(path: str | Path, images: str | Path | None = None, regions: Regions = "shown") -> SceneSource:
    """Open the run of a folder, or ``gt.json``, or what ``open_boxes`` understands."""
    path, images = Path(path), None if images is None else Path(images)
    if (path / PREDICTIONS).is_file():
        return read_run(path, regions, images)
    path = path / "gt.json" if (path / "gt.json").is_file() else path
    if path.suffix.casefold() == ".json" and path.is_file() and json_format(path) is None:
        truth, images = read_gt(path), images or images_folder(path.parent)
        labels = sorted({box.label for boxes in truth.values() for box in boxes})
        sizes = {name: image_size(images / name) for name in sorted(truth)}
        found = [AnnotatedImage(name, *size, truth[name], (None,) * len(truth[name])) for name, size in sizes.items()]
    else:
        annotations = read_boxes(open_boxes(path, images))
        found, labels = sorted(annotations.usable(), key=lambda image: image.name), list(annotations.classes)
        images = annotations.source.images
        if not found:
            raise InputError(f"{path}: no image that can be used; {annotations.summary()}")
    count = sum(len(image.boxes) for image in found)
    return SceneSource(lambda: _scenes(path, found), [one.name for one in found], tuple(labels), count, images)


def _scenes(path: Path, found: Iterable[AnnotatedImage]) -> Iterator[CocoScene]:
    for number, image in enumerate(found, start=1):
        objects = []
        for box, segmentation in zip(image.boxes, image.segmentations, strict=True):
            area = None
            if isinstance(segmentation, Mapping):
                try:
                    segmentation = canonical_rle(segmentation)
                except ValueError as error:
                    raise FormatError(path, f"masks of {image.name}", str(error)) from None
                area = None if segmentation is None else area_of_counts(segmentation["counts"].encode())
            objects.append(CocoObject(box.label, box.box, segmentation, area))
        yield CocoScene(number, image.name, image.width, image.height, objects)
