"""Box annotations of other tools as scene truth, and as class data of one crop a box.

Every box becomes inclusive pixels of the upright image: an edge is rounded to the nearest pixel edge, and the box is
cut at the image's border. The log says what was taken from where, and why boxes and images were left out.
"""

import logging
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from naruto_vision.data.box_formats import (
    BoxFormat,
    Edges,
    Parsed,
    Record,
    Shape,
    file_format,
    json_format,
    parse_coco,
    parse_csv,
    parse_cvat,
    parse_label_studio,
    parse_voc,
    parse_yolo,
    read_bounded,
    segmentation_edges,
    without_upload_hash,
    yolo_label_file,
    yolo_names,
)
from naruto_vision.data.tables import (
    SPLIT_WORDS,
    ClassTable,
    FolderFiles,
    ReadRules,
    SourceRow,
    Split,
    build_table,
)
from naruto_vision.errors import BadImageError, InputError, MissingPathError
from naruto_vision.geometry import MAX_PIXELS, Box, shape_of_xyxy
from naruto_vision.io.csv_files import decode_text
from naruto_vision.io.images import crop_path, image_size, scan_folder
from naruto_vision.io.inputs import images_folder
from naruto_vision.io.names import label_name, refusal
from naruto_vision.records import MAX_BOXES, UNKNOWN, LabelledBox

FORMATS_READ = "COCO, YOLO, Pascal VOC, CVAT, Label Studio or CSV boxes"
MIN_SIDE = 8
"""Smallest side in pixels of a box that becomes a labelled image; scene truth has smaller ones too."""

_NAMES_FILES = ("data.yaml", "data.yml", "dataset.yaml", "classes.txt", "obj.names", "_darknet.labels")
_SPLIT_WORDS: dict[str, Split] = {**SPLIT_WORDS, "trainval": "train"}
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class AnnotatedImage:
    """The boxes of one image, of which it says what was left out and why."""

    name: str  # path relative to the images' folder, POSIX
    width: int = 0  # of the upright image in pixels; 0 where ``problem`` is set
    height: int = 0
    boxes: tuple[LabelledBox, ...] = ()
    segmentations: tuple[Any, ...] = ()  # of each box polygons ``[[x, y, …]]`` in pixels, COCO run lengths, or None
    missing: bool = False  # the boxes are then those of the size that the annotations state
    dropped: tuple[str, ...] = ()  # why a box was left out, one each
    clipped: int = 0  # boxes that were cut at the image's border
    problem: str = ""  # why the image cannot be used


@dataclass(frozen=True)
class BoxSource:
    """Where box annotations are: a file or a folder of files, and the folder that images are named relative to."""

    format: BoxFormat
    path: Path
    images: Path
    stems: tuple[str, ...] | None = None  # Pascal VOC: those of this split; None for all
    classes: tuple[str, ...] = ()  # YOLO: by number
    keypoints: bool = False  # YOLO: keypoints follow the box


@dataclass(frozen=True)
class BoxAnnotations:
    """All images of a source, its classes in their order, images on the disk without annotations, and remarks."""

    source: BoxSource
    images: tuple[AnnotatedImage, ...]
    classes: tuple[str, ...]
    unlisted: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    def usable(self) -> list[AnnotatedImage]:
        """Return the images that can be used: those that are there or, if none is, those of a stated size."""
        found = [image for image in self.images if not image.problem]
        return [image for image in found if not image.missing] or found

    def truth(self) -> dict[str, tuple[LabelledBox, ...]]:
        """Return image to its objects, for all images that can be used."""
        return {image.name: image.boxes for image in self.usable()}

    def summary(self) -> str:
        """Return what was read from where, and what was left out and why, as one line."""
        dropped = Counter(reason for image in self.images for reason in image.dropped)
        problems = Counter(image.problem for image in self.images if image.problem)
        clipped = sum(image.clipped for image in self.images)
        lost = [f"{count} boxes {reason} left out" for reason, count in sorted(dropped.items())]
        lost += [f"{count} images {reason} left out" for reason, count in sorted(problems.items())]
        for count, what in (
            (sum(image.missing for image in self.images), "images are not there"),
            (len(self.unlisted), "images have no annotations"),
            (clipped, "boxes cut at the image's border"),
        ):
            lost += [f"{count} {what}"] if count else []
        boxes = sum(len(image.boxes) for image in self.images)
        text = f"{self.source.format} boxes of {self.source.path}: {boxes} boxes of {len(self.classes)} classes"
        return "; ".join([f"{text} in {len(self.images)} images", *lost, *self.remarks])


def _split_of(name: str) -> Split | None:
    """Detect the split from a name such as ``valid``, ``Train`` or ``instances_val2017``."""
    words = "".join(letter if letter.isalpha() else " " for letter in name.casefold()).split()
    return next((_SPLIT_WORDS[word] for word in words if word in _SPLIT_WORDS), None)


def _folders(base: Path) -> list[Path]:
    return sorted(one for one in base.iterdir() if one.is_dir() and one.name[0] != ".") if base.is_dir() else []


def _files(base: Path, suffix: str) -> list[Path]:
    """List the files of a suffix directly in a folder, those of COCO instances before keypoints and captions."""
    found = [
        file
        for file in (base.iterdir() if base.is_dir() else ())
        if file.suffix.casefold() == suffix and file.is_file()
    ]
    return sorted((file for file in found if file.name[0] != "."), key=lambda file: ("instance" not in file.name, file))


def find_boxes(root: str | Path, split: Split) -> BoxSource | None:
    """Find the box annotations of a split, or of all of a data set without splits as "train"; None without any."""
    root = Path(root)
    found: dict[Split, BoxSource] = {}
    for name, source in _split_sources(root):
        part = _split_of(name)
        if part is not None and source is not None:
            found.setdefault(part, source)
    if not found and split == "train":
        return find_boxes_in(root)
    return found.get(split)


def _split_sources(root: Path) -> Iterator[tuple[str, BoxSource | None]]:
    """Yield candidates with the name that contains their split: split folders, COCO files, lists of Pascal VOC."""
    folders = [folder for folder in (*_folders(root), *_folders(root / "images")) if _split_of(folder.name)]
    for folder in folders:
        yield folder.name, find_boxes_in(folder)
    for file in (
        *_files(root / "annotations", ".json"),
        *_files(root / "Annotations", ".json"),
        *_files(root, ".json"),
    ):
        part = _split_of(file.stem)
        if part and (kind := json_format(file)):
            images = next((folder for folder in folders if _split_of(folder.name) == part), images_folder(root))
            yield file.stem, BoxSource(kind, file, images)
    for file in _files(root / "ImageSets/Main", ".txt"):
        if file.stem.casefold() in _SPLIT_WORDS:
            stems = tuple(decode_text(file, read_bounded(file)).split())
            yield file.stem, BoxSource("Pascal VOC", root / "Annotations", root, stems)


def find_boxes_in(folder: str | Path) -> BoxSource | None:
    """Find the box annotations of one folder of images (or with ``images/``); None if it has none of a known layout."""
    folder = Path(folder)
    images = images_folder(folder)
    whole = [*_files(folder, ".json"), *_files(folder / "annotations", ".json"), *_files(folder, ".csv")]
    for file in (*whole, *_files(folder, ".xml")[:1]):  # of Pascal VOC there is one an image
        if kind := file_format(file):
            return BoxSource(kind, file, images)
    for base in (folder / "Annotations", folder / "annotations", folder):
        if next(base.glob("*.xml" if base == folder else "**/*.xml"), None):
            return BoxSource("Pascal VOC", base, images)
    return _find_yolo(folder, images)


def _find_yolo(folder: Path, images: Path) -> BoxSource | None:
    beside = Path(*("labels" if part == "images" else part for part in images.parts))
    places = (folder / "labels", beside) if beside != images else (folder / "labels",)
    if not any(chain(images.glob("*.txt"), *(place.rglob("*.txt") for place in places))):
        return None
    first = next((name for name in scan_folder(images).images if yolo_label_file(images / name)), None)
    if first is None:
        return None
    bases = (folder, folder.parent, folder.parent.parent)
    file = next((base / name for base in bases for name in _NAMES_FILES if (base / name).is_file()), None)
    if file is not None:
        content, classes = yolo_names(file)
        return BoxSource("YOLO", file, images, None, classes, "kpt_shape" in content)
    labels = yolo_label_file(images / first)
    if labels is not None and labels.parent != (images / first).parent:
        raise MissingPathError(folder / "data.yaml", "list of YOLO class names", "or classes.txt, one name a line")
    return None  # texts beside images are no boxes without names


def open_boxes(path: str | Path, images: str | Path | None = None) -> BoxSource:
    """Find the box annotations of a file, or of a folder of images; InputError with what was seen if there are none."""
    path = Path(path)
    source = find_boxes_in(path) if path.is_dir() else None
    if path.is_file():
        kind = file_format(path) or ("CSV" if path.suffix.casefold() == ".csv" else None)
        source = kind and BoxSource(kind, path, images_folder(path.parent))
    if source is None:
        raise InputError(f"{path}: no ground truth; expected gt.json or {FORMATS_READ}; {describe_folder(path)}")
    return source if images is None else replace(source, images=Path(images))


def describe_folder(path: Path) -> str:
    """Return what a folder has, in a few words, for a message that its layout is not understood."""
    if not path.is_dir():
        return "it is another kind of file" if path.exists() else "it is not there"
    entries = sorted(entry for entry in path.iterdir() if entry.name[0] != ".")
    kinds = Counter(entry.suffix.casefold() or "file without suffix" for entry in entries if entry.is_file())
    folders = [f"{entry.name}/" for entry in entries if entry.is_dir()]
    seen = folders[:5] + [f"{len(folders) - 5} more folders"] * (len(folders) > 5)
    return f"seen: {', '.join(seen + [f'{count} {kind}' for kind, count in kinds.most_common(5)]) or 'nothing'}"


def _parse(source: BoxSource) -> Parsed:
    match source.format:
        case "COCO":
            return parse_coco(source.path)
        case "CVAT":
            return parse_cvat(source.path)
        case "Label Studio":
            return parse_label_studio(source.path)
        case "CSV":
            return parse_csv(source.path)
        case "Pascal VOC":
            listed = scan_folder(source.images).images
            return parse_voc(source.path, {*listed, *(PurePosixPath(path).name for path in listed)}, source.stems)
        case "YOLO":
            listed = scan_folder(source.images).images
            return parse_yolo(source.images, listed, source.classes, keypoints=source.keypoints)


class _Images:
    """Finds images by the names that annotations have for them."""

    def __init__(self, root: Path) -> None:
        self._root, self._files = root, FolderFiles(root)

    @cached_property
    def listed(self) -> Sequence[str]:
        """All images of the folder."""
        return scan_folder(self._root).images if self._root.is_dir() else ()

    @cached_property
    def _by_name(self) -> Mapping[str, str]:
        often = Counter(PurePosixPath(path).name for path in self.listed)
        return {name: path for path in self.listed if often[name := PurePosixPath(path).name] == 1}

    def find(self, name: str) -> str:
        """Return the path in the folder: of the name, of its end, or of the only file that is called so; else ""."""
        parts = _parts(name)
        tails = ["/".join(parts[k:]) for k in range(len(parts))]
        bare = without_upload_hash(parts[-1]) if parts else ""
        found = (self._files.find(tail) for tail in [*tails, bare] if not refusal(tail))
        return next(filter(None, found), "") or (
            self._by_name.get(parts[-1]) or self._by_name.get(bare, "") if parts else ""
        )


def _parts(name: str) -> list[str]:
    return [part for part in name.replace("\\", "/").split("/") if part.strip(".")][-8:]


def read_boxes(source: BoxSource) -> BoxAnnotations:
    """Read box annotations, and log what was left out; images are opened only for their size and orientation."""
    parsed, images = _parse(source), _Images(source.images)
    records: dict[str, Record] = {}
    for record in parsed.records:
        found = images.find(record.name)
        earlier = records.setdefault(found or "\0" + record.name, record)
        if earlier is not record:
            same = earlier.name == record.name
            earlier.shapes += record.shapes
            earlier.problem = earlier.problem or ("" if same else "whose file has several names")
    done = tuple(_annotated(record, source.images, key) for key, record in records.items())
    labels = sorted({box.label for image in done for box in image.boxes})
    classes = tuple(map(label_name, parsed.classes or ())) or tuple(labels)
    unlisted = tuple(name for name in images.listed if name not in records)
    annotations = BoxAnnotations(source, done, tuple(dict.fromkeys(classes)), unlisted, parsed.remarks)
    _LOG.info("%s", annotations.summary())
    return annotations


def _annotated(record: Record, root: Path, key: str) -> AnnotatedImage:
    """Bring the annotations of one image into its pixels; a key that starts with a NUL is that of a missing image."""
    missing, name = key.startswith("\0"), key
    if missing:
        parts = _parts(record.name) or [record.name]
        name = without_upload_hash(parts[-1]) if record.name.startswith("/") else "/".join(parts)
    size = record.problem or _size_of(record, None if missing else root / name)
    size = f"of more than {MAX_BOXES} boxes" if len(record.shapes) > MAX_BOXES else size
    if isinstance(size, tuple) and (size[0] * size[1] > MAX_PIXELS or not name):
        size = f"of more than {MAX_PIXELS // 1_000_000} megapixels" if name else "without a name"
    if isinstance(size, str):
        return AnnotatedImage(name, missing=missing, problem=size)
    boxes, segmentations, dropped, clipped = [], [], [], 0
    for shape in record.shapes:
        label = label_name(shape.label)
        edges, segmentation, reason = _edges_in(shape, record, size)
        box, reason, cut = box_from_edges(edges, *size) if edges is not None else (None, reason, False)
        if box is None or not label:
            dropped.append(reason or "without a class")
            continue
        boxes.append(LabelledBox(box, label))
        segmentations.append(segmentation)
        clipped += cut
    return AnnotatedImage(name, *size, tuple(boxes), tuple(segmentations), missing, tuple(dropped), clipped)


def _size_of(record: Record, file: Path | None) -> tuple[int, int] | str:
    """Return width and height of the upright image, or why its boxes cannot be used."""
    if file is None:
        return record.size or "without a file and a stated size"
    try:
        size = image_size(file)
    except (BadImageError, MissingPathError) as error:
        return record.size or f"that cannot be read ({str(error).removeprefix(f'{file}: ')})"
    if record.relative and record.size != size[::-1]:  # fractions do not depend on scaling
        return size
    return size if record.size in (None, size) else "of another size than stated"


def _edges_in(shape: Shape, record: Record, frame: tuple[int, int]) -> tuple[Edges | None, Any, str]:
    """Return edges and segmentation in pixels of the frame that was annotated, or why there are none."""
    if shape.problem:
        return None, None, shape.problem
    width, height = frame if record.relative else (1, 1)
    segmentation = shape.segmentation
    try:
        if isinstance(segmentation, msgspec.Raw):
            segmentation = msgspec.json.decode(segmentation)
        if isinstance(segmentation, Mapping):
            if list(segmentation.get("size", ())) != [frame[1], frame[0]]:
                return None, None, "whose mask has another size than the image"
            return shape.edges or segmentation_edges(segmentation), segmentation, ""
        edges = shape.edges or segmentation_edges(segmentation)
        if segmentation and record.relative:
            segmentation = [[v * (height if k % 2 else width) for k, v in enumerate(one)] for one in segmentation]
    except (TypeError, ValueError, RecursionError):
        return None, None, "whose mask is damaged"
    if edges is None:
        return None, None, "that are empty"
    left, top, right, bottom = edges
    return (left * width, top * height, right * width, bottom * height), segmentation or None, ""


def box_from_edges(edges: Edges, width: int, height: int) -> tuple[Box | None, str, bool]:
    """Round edges in pixels to the nearest pixel edges and cut the box at the border of an image of this size.

    Returns the box in inclusive pixels, or None and why there is none, and whether it was cut.

    Examples:
        >>> box_from_edges((1.0, 2.0, 4.0, 6.4), 8, 8)
        ((1, 2, 3, 5), '', False)
    """
    if not all(map(math.isfinite, edges)):
        return None, "whose corners are not finite", False
    left, top, right, bottom = (math.floor(edge + 0.5) for edge in edges)
    if left >= right or top >= bottom:
        return None, "that are empty", False
    cut = (max(left, 0), max(top, 0), min(right, width), min(bottom, height))
    if cut[0] >= cut[2] or cut[1] >= cut[3]:
        return None, "outside the image", False
    return (cut[0], cut[1], cut[2] - 1, cut[3] - 1), "", cut != (left, top, right, bottom)


def read_box_table(root: str | Path, split: Split, rules: ReadRules | None = None) -> ClassTable:
    """Read the boxes of a split as labelled images: one crop a box, named by ``crop_path``.

    Boxes below ``MIN_SIDE`` pixels a side are refused, and so are boxes called "unknown", which is no character. Boxes
    with the same pixels are one row of all their classes.
    """
    source = find_boxes(root, split)
    if source is None:
        msg = f"{root}: no box annotations of split {split!r}; expected {FORMATS_READ}; {describe_folder(Path(root))}"
        raise InputError(msg)
    found, rules = read_boxes(source), rules or ReadRules()
    known = [name for name in found.classes if name != UNKNOWN or UNKNOWN in rules.aliases]
    rows: dict[str, list[str]] = {}
    refused: list[str] = []
    for image in found.images:
        refused += [f"{image.name!r}: a box {reason}" for reason in image.dropped]
        if image.problem and not image.missing:
            refused.append(f"{image.name!r}: an image {image.problem}")
        elif not image.boxes:
            rows[image.name] = []
        for box in image.boxes:
            name, small = crop_path(image.name, box.box), min(shape_of_xyxy(box.box)) < MIN_SIDE
            if small or box.label not in known:
                reason = f"below {MIN_SIDE} pixels a side" if small else f"called {box.label!r}"
                refused.append(f"{name!r}: a box {reason}")
            else:
                rows.setdefault(name, []).append(box.label)
    pairs = [SourceRow(name, tuple(labels)) for name, labels in rows.items()]
    table = build_table(source.images, pairs, known, rules, list_unnamed=False)
    if refused:
        reasons = Counter(text.rpartition(": ")[2] for text in refused)
        texts = (f"{count} times {reason}" for reason, count in reasons.items())
        _LOG.info("%s: left out as labelled images: %s", source.path, ", ".join(texts))
    refused = [*table.report.refused, *refused]
    seen = table.report.seen - len(table.report.refused) + len(refused)
    report = replace(table.report, seen=seen, refused=tuple(refused), unlisted=found.unlisted)
    return replace(table, report=report)
