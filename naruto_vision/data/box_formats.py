"""Parse box annotations as other tools write them: COCO, YOLO, Pascal VOC, CVAT, Label Studio, CSV.

A parser only reads: names are as the file has them, edges are in pixels or fractions of the frame that the file states.
``data/boxes.py`` finds the images and makes pixels of the upright image. Edges are continuous: a pixel covers
``[x, x + 1)``.
"""

import math
import re
from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeAlias, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree.ElementTree import Element, TreeBuilder  # only the tree: `parse_xml` refuses a document type
from xml.parsers import expat

import msgspec
import numpy as np

from naruto_vision.errors import FormatError, InputError, JsonError
from naruto_vision.geometry import (
    MAX_PIXELS,
    Mask,
    counts_from_mask,
    mask_from_rle,
    rle_from_mask,
    rle_of_cut,
    xyxy_from_mask,
)
from naruto_vision.io.csv_files import csv_header, decode_text, read_csv
from naruto_vision.io.images import SUFFIXES
from naruto_vision.io.typed_json import require_regular
from naruto_vision.io.yaml_files import read_yaml

T = TypeVar("T")
BoxFormat: TypeAlias = Literal["COCO", "YOLO", "Pascal VOC", "CVAT", "Label Studio", "CSV"]
Edges: TypeAlias = tuple[float, float, float, float]
"""Left, top, right and bottom edge; right and bottom are exclusive."""

_MAX_BYTES = 1 << 30  # one file of a whole data set
_MAX_PART = 1 << 24  # the file of one image, or a list of names
_SNIFFED = 1 << 20  # bytes in which a JSON file shows what it is
_COCO = re.compile(rb'"(images|annotations|categories)"\s*:\s*\[\s*[{\]]')
_LABEL_STUDIO = re.compile(rb'"(annotations|completions|predictions|[a-z]+labels|original_width)"\s*:')
_CVAT = re.compile(rb"<annotations[\s>]")
_NO_NUMBER = re.compile(rb'"(?:[^"\\]|\\.)*"|-?Infinity|NaN')  # or a text, which may hold such words
_UPLOAD = re.compile(r"[0-9a-f]{8}-")  # Label Studio puts a hash in front of the name of an uploaded file
_NAME_COLUMNS = ("filename", "file_name", "image", "image_path", "path", "file")
_LABEL_COLUMNS = ("class", "label", "class_name", "category", "name")
_EDGE_COLUMNS = (("xmin", "ymin", "xmax", "ymax"), ("x1", "y1", "x2", "y2"), ("x_min", "y_min", "x_max", "y_max"))


@dataclass(frozen=True)
class Shape:
    """One annotation; ``problem`` says why it has no box."""

    label: str
    edges: Edges | None = None  # None: those of the segmentation
    segmentation: Any = None  # as in COCO: polygons or run lengths; `msgspec.Raw` where they were not decoded
    problem: str = ""


@dataclass
class Record:
    """The annotations of one image; ``problem`` says why they cannot be used."""

    name: str
    size: tuple[int, int] | None = None  # width and height that the file states
    shapes: list[Shape] = field(default_factory=list)
    relative: bool = False  # edges and polygons are fractions of width and height
    problem: str = ""


@dataclass(frozen=True)
class Parsed:
    """All records of a source, its classes in their order (None: those that the boxes have), and remarks."""

    records: list[Record]
    classes: tuple[str, ...] | None = None
    remarks: tuple[str, ...] = ()


def read_bounded(path: Path, most: int = _MAX_PART) -> bytes:
    """Read a whole file; FormatError if it is larger than such files are."""
    require_regular(path)
    size = path.stat().st_size
    if size > most:
        raise FormatError(path, f"annotations of at most {most >> 20} MiB", f"{size >> 20} MiB")
    return path.read_bytes()


def json_format(path: Path) -> BoxFormat | None:
    """Detect by its first bytes which annotations a JSON file has; None for other content."""
    require_regular(path)
    with path.open("rb") as file:
        start = file.read(_SNIFFED).removeprefix(b"\xef\xbb\xbf").lstrip()
    if start.startswith(b"{") and _COCO.search(start):
        return "COCO"
    return "Label Studio" if start.startswith(b"[") and _LABEL_STUDIO.search(start) else None


def file_format(path: Path) -> BoxFormat | None:
    """Detect which annotations of a whole data set a file has; None for other content."""
    if path.suffix.casefold() == ".csv":
        return "CSV" if _csv_columns([name.casefold() for name in csv_header(path)]) else None
    if path.suffix.casefold() != ".xml":
        return json_format(path)
    require_regular(path)
    with path.open("rb") as file:
        return "CVAT" if _CVAT.search(file.read(_SNIFFED)) else None


def _decode(path: Path, kind: type[T]) -> T:
    data = read_bounded(path, _MAX_BYTES).removeprefix(b"\xef\xbb\xbf")
    try:
        try:
            return msgspec.json.decode(data, type=kind)
        except msgspec.ValidationError:
            raise
        except msgspec.DecodeError:  # Python writes NaN, which JSON does not have
            data = _NO_NUMBER.sub(lambda found: found[0] if found[0][:1] == b'"' else b"null", data)
            return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise JsonError(path, error) from None


class _CocoImage(msgspec.Struct):
    id: int | str
    file_name: str | None = None
    width: Any = None
    height: Any = None


class _CocoCategory(msgspec.Struct):
    id: int | str
    name: str | None = None
    supercategory: str | None = None


class _CocoAnnotation(msgspec.Struct):
    image_id: int | str | None = None
    category_id: int | str | None = None
    bbox: Any = None
    segmentation: msgspec.Raw = msgspec.Raw(b"null")
    iscrowd: Any = 0


class _Coco(msgspec.Struct):
    images: list[_CocoImage]
    annotations: list[_CocoAnnotation] = []
    categories: list[_CocoCategory] = []


def parse_coco(path: Path) -> Parsed:
    """Parse a COCO file of instances; without a ``bbox`` an annotation has that of its segmentation."""
    found = _decode(path, _Coco)
    names = {one.id: one.name or "" for one in found.categories}
    records = {one.id: Record(one.file_name or "", _size(one.width, one.height)) for one in found.images}
    if len(names) < len(found.categories) or len(records) < len(found.images):
        raise FormatError(path, "every id of images and categories once", "one twice")
    lost = 0
    for one in found.annotations:
        if one.image_id in records:
            records[one.image_id].shapes.append(_coco_shape(one, names))
        else:
            lost += 1
    used = {one.category_id for one in found.annotations}
    parents = {one.supercategory for one in found.categories}
    # Roboflow lists a parent of all
    kept = [one.name for one in found.categories if one.name and (one.id in used or one.name not in parents)]
    return Parsed(
        list(records.values()), tuple(dict.fromkeys(kept)), _remarks({"of an image that is not listed": lost})
    )


def _coco_shape(one: _CocoAnnotation, names: Mapping[int | str, str]) -> Shape:
    if one.category_id is None or one.category_id not in names:
        return Shape("", problem="of an unknown category")
    if one.iscrowd:
        return Shape(names[one.category_id], problem="of a crowd (iscrowd)")
    edges = None
    if one.bbox:
        try:
            x, y, width, height = map(float, one.bbox)
        except (TypeError, ValueError, OverflowError):
            return Shape(names[one.category_id], problem="whose bbox is not x, y, width, height")
        edges = (x, y, x + width, y + height)
    return Shape(names[one.category_id], edges, one.segmentation)


def _remarks(lost: Mapping[str, int]) -> tuple[str, ...]:
    return tuple(f"{count} boxes {reason}" for reason, count in lost.items() if count)


def _size(width: object, height: object) -> tuple[int, int] | None:
    """Return a stated size; None where it is none."""
    try:
        size = int(width), int(height)  # type: ignore[call-overload]  # whatever it is
    except (TypeError, ValueError, OverflowError):
        return None
    return size if min(size) > 0 else None


def yolo_names(path: Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Read a data set's YAML file, or a list of class names; returns its content and the names by class number."""
    if path.suffix.casefold() not in {".yaml", ".yml"}:
        return {}, tuple(filter(None, map(str.strip, decode_text(path, read_bounded(path)).splitlines())))
    content = read_yaml(path)
    names = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, dict) and set(names) == set(range(len(names))):
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list) or not all(isinstance(name, str | int) for name in names):
        raise FormatError(path, "'names', the classes in the order of their numbers", type(names).__name__)
    return content, tuple(map(str, names))


def yolo_label_file(image: Path) -> Path | None:
    """Return the label file of an image: in ``labels/`` where it is in ``images/``, or beside it; None without one."""
    parts = list(image.with_suffix(".txt").parts)
    places = [index for index, part in enumerate(parts[:-1]) if part == "images"]
    if places:
        parts[places[-1]] = "labels"
    candidates = (Path(*parts), image.with_suffix(".txt"), image.parent / "labels" / image.with_suffix(".txt").name)
    return next((file for file in candidates if file.is_file()), None)


def parse_yolo(base: Path, images: Iterable[str], names: Sequence[str], *, keypoints: bool = False) -> Parsed:
    """Parse label files of ``class cx cy width height`` or ``class x y x y …``; no file: an image without boxes."""
    records, without = [], 0
    for name in images:
        record = Record(name, relative=True)
        file = yolo_label_file(base / name)
        without += file is None
        if file is not None:
            try:
                lines = read_bounded(file).decode("utf-8-sig", errors="replace").splitlines()
                record.shapes = [_yolo_shape(line.split(), names, keypoints) for line in lines if line.strip()]
            except (FormatError, OSError) as error:
                record.problem = f"whose labels cannot be read ({error})"
        records.append(record)
    return Parsed(records, tuple(dict.fromkeys(names)), (f"{without} images without a label file",) if without else ())


def _yolo_shape(values: Sequence[str], names: Sequence[str], keypoints: bool) -> Shape:
    try:
        number, *rest = map(float, values)
    except ValueError:
        return Shape("", problem="whose line is not numbers")
    if number not in range(len(names)):
        return Shape("", problem="of an unknown category")
    label = names[int(number)]
    if len(rest) in (4, 5) or (keypoints and len(rest) > 4):  # 5: with a confidence
        x, y, width, height = rest[:4]
        return Shape(label, (x - width / 2, y - height / 2, x + width / 2, y + height / 2))
    if len(rest) < 6 or len(rest) % 2:
        return Shape(label, problem="whose line is neither a box nor a polygon")
    return Shape(label, segmentation=[rest])


def parse_voc(folder: Path, images: Container[str], stems: Sequence[str] | None = None) -> Parsed:
    """Parse the XML files of a folder, or those of some stems; ``images`` has the paths and names that are there.

    Pascal VOC counts pixels from 1, both corners inclusive. A 0 in any ``xmin`` or ``ymin`` tells a writer of edges,
    counted from 0.
    """
    files = sorted(folder.rglob("*.xml")) if stems is None else [folder / f"{stem}.xml" for stem in stems]
    records = [_voc_record(file, file.parent.relative_to(folder), images) for file in files]
    edges = [shape.edges for record in records for shape in record.shapes if shape.edges is not None]
    first = 0 if any(min(left, top) < 1 for left, top, _, _ in edges) else 1
    for record in records:
        record.shapes = [_shifted(shape, first) for shape in record.shapes]
    return Parsed(records, remarks=("pixels counted from 0",) if edges and not first else ())


def _shifted(shape: Shape, first: int) -> Shape:
    if shape.edges is None:
        return shape
    left, top, right, bottom = shape.edges
    # the last pixel, counted from 1, and the edge behind it, counted from 0, are the same number
    return Shape(shape.label, (left - first, top - first, right, bottom))


def _voc_record(file: Path, below: Path, images: Container[str]) -> Record:
    beside = [name for suffix in sorted(SUFFIXES) for name in (file.stem + suffix, file.stem + suffix.upper())]
    paths = ((below / name).as_posix() for name in beside)
    record = Record(next((name for name in (*paths, *beside) if name in images), file.stem))
    try:
        root = parse_xml(read_bounded(file))
    except (expat.ExpatError, ValueError, LookupError, InputError, OSError) as error:
        record.problem = f"whose annotations cannot be read ({str(error).removeprefix(f'{file}: ')})"
        return record
    named = (root.findtext("filename") or "").strip()
    if named and ((below / named).as_posix() in images or record.name not in images):
        record.name = (below / named).as_posix()
    record.size = _size(root.findtext("size/width"), root.findtext("size/height"))
    for item in root.findall("object"):
        label, corners = item.findtext("name") or "", [item.findtext(f"bndbox/{side}") for side in _EDGE_COLUMNS[0]]
        record.shapes.append(_corner_shape(label, corners))
    return record


def _corner_shape(label: str, corners: Sequence[str | None]) -> Shape:
    try:
        left, top, right, bottom = (float(corner or "") for corner in corners)
    except ValueError:
        return Shape(label, problem="whose corners are not numbers")
    return Shape(label, (left, top, right, bottom))


def parse_xml(data: bytes) -> Element:
    """Parse XML without a document type, so that no entity is expanded and nothing is fetched."""

    def refuse(*_: object) -> None:
        raise ValueError("a document type is refused")

    builder, parser = TreeBuilder(), expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler, parser.EndElementHandler = builder.start, builder.end
    parser.CharacterDataHandler = builder.data
    parser.Parse(data, True)
    return builder.close()


def parse_cvat(path: Path) -> Parsed:
    """Parse CVAT for images 1.1: boxes, polygons and masks, whose runs are along the rows of their own box."""
    try:
        root = parse_xml(read_bounded(path, _MAX_BYTES))
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise FormatError(path, "XML of CVAT for images 1.1", str(error)) from None
    records = []
    for image in root.iter("image"):
        record = Record(image.get("name", ""), _size(image.get("width"), image.get("height")))
        record.shapes = [_cvat_shape(one, record.size) for one in image if one.tag != "tag"]
        records.append(record)
    named = [one.text or "" for one in root.iterfind("meta//label/name")]
    used = sorted({shape.label for record in records for shape in record.shapes})
    tracks = len(root.findall("track"))
    return Parsed(
        records, tuple(dict.fromkeys([*named, *used])), (f"{tracks} tracks of videos are not read",) if tracks else ()
    )


def _cvat_shape(one: Element, size: tuple[int, int] | None) -> Shape:
    label = one.get("label", "")
    try:
        if one.tag == "mask":
            return Shape(label, segmentation=_cvat_mask(one, size))
        if one.tag == "polygon":
            points = one.get("points", "").replace(";", ",").split(",")
            return Shape(label, segmentation=[[float(value) for value in points]])
        if one.tag == "box":
            left, top, right, bottom = (float(one.get(side, "")) for side in ("xtl", "ytl", "xbr", "ybr"))
            return Shape(label, _turned(left, top, right, bottom, math.radians(float(one.get("rotation", 0)))))
    except (ValueError, OverflowError) as error:
        return Shape(label, problem=f"that is damaged ({str(error)[:60]})")
    return Shape(label, problem="of a kind that is not read (boxes, polygons and masks are)")


def _cvat_mask(one: Element, size: tuple[int, int] | None) -> dict[str, Any]:
    left, top, width, height = (int(one.get(name, "")) for name in ("left", "top", "width", "height"))
    runs = [int(run) for run in one.get("rle", "").split(",")]
    if size is None or min(left, top, width - 1, height - 1) < 0 or left + width > size[0] or top + height > size[1]:
        raise ValueError("a mask that leaves the image")
    rows = mask_from_rle({"size": [width, height], "counts": runs}).T  # COCO's runs are down the columns
    box = (left, top, left + width - 1, top + height - 1)
    return rle_of_cut(counts_from_mask(rows), box, size[1], size[0])


def _turned(left: float, top: float, right: float, bottom: float, angle: float) -> Edges:
    """Return the box around a rectangle that is turned around its centre."""
    if not angle:
        return left, top, right, bottom
    x, y, across, down = (left + right) / 2, (top + bottom) / 2, (right - left) / 2, (bottom - top) / 2
    cos, sin = abs(math.cos(angle)), abs(math.sin(angle))
    wide, tall = across * cos + down * sin, across * sin + down * cos
    return x - wide, y - tall, x + wide, y + tall


def parse_label_studio(path: Path) -> Parsed:
    """Parse a JSON or JSON-MIN export: of each task the first annotation that was not cancelled.

    Of a task that has predictions only, as before its import, it is the first prediction.
    """
    records, skipped, more, guessed = [], 0, 0, 0
    for task in _decode(path, list[dict[str, Any]]):
        regions: Any = None
        given = task.get("annotations", task.get("completions"))
        if given is None and isinstance(task.get("predictions"), list):
            given = task["predictions"]
            guessed += 1
        data = task.get("data", task)
        done = [one for one in given or () if isinstance(one, dict) and not one.get("was_cancelled")]
        if given is None:  # JSON-MIN: the regions are beside the image
            regions = [one for part in task.values() if isinstance(part, list) for one in part]
        else:
            regions = done[0].get("result") if done else None
        name = _task_image(data)
        if not name or not isinstance(regions, list):
            skipped += 1
            continue
        more += len(done) > 1
        records.append(_task_record(name, [one for one in regions if isinstance(one, dict)]))
    remarks = {
        "tasks without a finished annotation": skipped,
        "tasks with several annotations, the first is read": more,
        "tasks without annotations, the first prediction is read": guessed,
    }
    return Parsed(records, remarks=tuple(f"{count} {what}" for what, count in remarks.items() if count))


def _task_image(data: object) -> str:
    """Return the path of a task's image: of an upload or an address the path, of a local file the one it names."""
    for value in data.values() if isinstance(data, dict) else ():
        if isinstance(value, str):
            parts = urlsplit(value)
            name = parse_qs(parts.query).get("d", [unquote(parts.path)])[0]
            if PurePosixPath(name).suffix.casefold() in SUFFIXES:
                return name
    return ""


def without_upload_hash(name: str) -> str:
    """Return a file name without the hash that Label Studio puts in front of an upload."""
    return _UPLOAD.sub("", name, count=1) if _UPLOAD.match(name) else name


def _task_record(name: str, regions: Sequence[Mapping[str, Any]]) -> Record:
    record = Record(name, relative=True)
    labels = {one.get("id"): _region_labels(one) for one in regions if _region_labels(one)}
    for region in regions:
        value = region.get("value", region)
        size = _size(region.get("original_width"), region.get("original_height"))
        shaped = isinstance(value, dict) and bool({"x", "points", "rle", "keypointlabels"} & set(value))
        own = _region_labels(region) or labels.get(region.get("id"), [])
        if not shaped or (not _region_labels(region) and own):
            continue  # a choice or a text about the whole image, or the outline of a region that has labels
        record.size = record.size or size
        edges, segmentation, problem = _region_shape(value, size)
        record.shapes += [Shape(label, edges, segmentation, problem) for label in own or [""]]
    return record


def _region_labels(region: Mapping[str, Any]) -> list[str]:
    value = region.get("value", region)
    found = [v for k, v in value.items() if k.endswith("labels")] if isinstance(value, dict) else []
    return [str(name) for names in found if isinstance(names, list) for name in names]


def _region_shape(value: Mapping[str, Any], size: tuple[int, int] | None) -> tuple[Edges | None, Any, str]:
    """Return edges and segmentation of a region, in fractions of the image, and why it has none."""
    try:
        if "rle" in value:
            if size is None:
                return None, None, "without the size of the image"
            mask = mask_from_brush(value["rle"], size[1], size[0])
            return None, rle_from_mask(mask), ""
        if isinstance(value.get("points"), list):
            return None, [[float(v) / 100 for point in value["points"] for v in point]], ""
        if "width" in value and "height" in value:
            return _turned_edges(value, size), None, ""
    except (TypeError, ValueError, OverflowError) as error:
        return None, None, f"that is damaged ({str(error)[:60]})"
    return None, None, "of a kind that is not read (boxes, polygons and brushes are)"


def _turned_edges(value: Mapping[str, Any], size: tuple[int, int] | None) -> Edges:
    """Return the box around a rectangle that is turned clockwise around its top left corner."""
    x, y, width, height = (float(value[side]) / 100 for side in ("x", "y", "width", "height"))
    angle = math.radians(float(value.get("rotation") or 0))
    if not angle:
        return x, y, x + width, y + height
    if size is None:
        raise ValueError("turned, without the size of the image")
    aspect = size[0] / size[1]
    corners = [(u, v) for u in (0.0, width) for v in (0.0, height)]
    across = [x + u * math.cos(angle) - v * math.sin(angle) / aspect for u, v in corners]
    down = [y + u * math.sin(angle) * aspect + v * math.cos(angle) for u, v in corners]
    return min(across), min(down), max(across), max(down)


def mask_from_brush(values: object, height: int, width: int) -> Mask:
    """Decode Label Studio's run lengths of RGBA values: returns its alpha as a mask (H, W), bool."""
    if not isinstance(values, list) or width * height > MAX_PIXELS:
        raise ValueError("a brush of no list, or of an image that is too large")
    bits, at = "".join(f"{value:08b}" for value in bytes(values)), 0

    def take(count: int) -> int:
        nonlocal at
        at += count
        return int(bits[at - count : at], 2)  # a ValueError behind the end

    total = take(32)
    if total != 4 * height * width:
        raise ValueError(f"a brush of {total} values, expected {4 * height * width}")
    word, sizes = take(5) + 1, [take(4) + 1 for _ in range(4)]
    out, done = np.zeros(total, np.uint8), 0
    while done < total:
        repeated = take(1)
        length = min(take(sizes[take(2)]) + 1, total - done)
        out[done : done + length] = take(word) if repeated else [take(word) for _ in range(length)]
        done += length
    return np.asarray(out[3::4].reshape(height, width) > 0)


def _csv_columns(header: Sequence[str]) -> tuple[str, str, tuple[str, ...]] | None:
    """Return the columns of a CSV file, in lower case, for image, class and corners; None if it has no boxes."""
    name = next((column for column in _NAME_COLUMNS if column in header), None)
    label = next((column for column in _LABEL_COLUMNS if column in header), None)
    edges = next((columns for columns in _EDGE_COLUMNS if set(columns) <= set(header)), None)
    return (name, label, edges) if name and label and edges else None


def parse_csv(path: Path) -> Parsed:
    """Parse rows of image, class and corners, one a box; a row with blank corners is an image without boxes."""
    lines = read_csv(path)
    header = [name.casefold() for name in next(lines, (0, []))[1]]
    columns = _csv_columns(header)
    if columns is None:
        raise FormatError(path, "columns such as filename, class, xmin, ymin, xmax, ymax", "others")
    name, label, edges = columns
    records: dict[str, Record] = {}
    for _, values in lines:
        row = defaultdict(str, zip(header, values, strict=False))  # a row may be too short
        record = records.setdefault(row[name], Record(row[name], _size(row["width"], row["height"])))
        if any(row[column] for column in edges):
            record.shapes.append(_corner_shape(row[label], [row[column] for column in edges]))
    return Parsed(list(records.values()))


def segmentation_edges(segmentation: object) -> Edges | None:
    """Return the edges of a COCO segmentation, polygons or run lengths; None if it has none, ValueError if damaged."""
    if isinstance(segmentation, Mapping):
        box = xyxy_from_mask(mask_from_rle(segmentation))
        return None if box is None else (box[0], box[1], box[2] + 1, box[3] + 1)
    polygons = segmentation if isinstance(segmentation, list) else []
    points = [float(value) for polygon in polygons for value in polygon]
    if not points or len(points) % 2:
        return None
    return min(points[::2]), min(points[1::2]), max(points[::2]), max(points[1::2])
