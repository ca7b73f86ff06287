"""Read labelled images of any layout (Roboflow CSV, manifests, boxes, class folders) as one table a split."""

import logging
import math
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeAlias

from naruto_vision.data.boxes import FORMATS_READ, describe_folder, find_boxes, read_box_table
from naruto_vision.data.layouts import known_layout
from naruto_vision.data.shards import INDEX, read_shards
from naruto_vision.data.tables import (
    CLASSES_CSV,
    SPLIT_NAMES,
    ClassTable,
    FolderFiles,
    ReadRules,
    SourceRow,
    Split,
    build_table,
    hold_out,
    path_in_table,
)
from naruto_vision.errors import FormatError, InputError, MissingPathError
from naruto_vision.io.atomic import write_json, write_text
from naruto_vision.io.csv_files import read_csv
from naruto_vision.io.images import LISTED, class_folder_names, scan_folder
from naruto_vision.io.names import label_name, refusal
from naruto_vision.io.text import abbreviate, csv_text
from naruto_vision.io.typed_json import read_json

HEADER = ("path", "label")
CLASSES = "classes.json"
SPLITS: tuple[Split, ...] = ("train", "valid", "test")
ReaderName: TypeAlias = Literal["auto", "shards", "roboflow", "manifest", "boxes", "folders"]
_FILE_COLUMN = "filename"
_NOT_A_CLASS = "unlabeled"
_LOG = logging.getLogger(__name__)


def is_positive(text: str) -> bool:
    """Whether a cell of a one-hot table marks its class; ValueError if it is no number."""
    if not text:
        return False
    value = float(text)
    return not math.isnan(value) and value > 0


def _class_columns(path: Path, header: list[str]) -> tuple[int, dict[int, str]]:
    """Return the filename's column, and column to class name as found."""
    lowered = [name.casefold() for name in header]
    if _FILE_COLUMN not in lowered:
        raise FormatError(path, "a column 'filename'", f"columns {', '.join(header)[:80]}")
    filename = lowered.index(_FILE_COLUMN)
    if lowered.count(_FILE_COLUMN) > 1:
        raise FormatError(path, "one column 'filename'", "two")
    names = {k: label_name(name) for k, name in enumerate(header) if k != filename and name}
    for name, count in Counter(names.values()).items():
        if count > 1:
            raise FormatError(path, "one column per class", f"{name!r} twice")
    return filename, {k: name for k, name in names.items() if name.casefold() != _NOT_A_CLASS}


def _source_row(
    path: Path, line: int, values: list[str], width: int, filename: int, columns: Mapping[int, str]
) -> SourceRow:
    if not filename < len(values) or any(values[width:]):
        raise FormatError(path, f"{width} values in line {line}", f"{len(values)}")
    positives = []
    for i, cell in enumerate(values):  # not over all columns: a short row of a wide table is quick
        if (name := columns.get(i)) is None:
            continue
        try:
            marked = is_positive(cell)
        except ValueError:
            raise FormatError(path, f"0 or 1 in line {line}, column {name!r}", repr(cell)[:40]) from None
        if marked:
            positives.append(name)
    return SourceRow(path_in_table(values[filename]), tuple(positives))


def read_roboflow(folder: str | Path, rules: ReadRules | None = None) -> ClassTable:
    """Read one split of a Roboflow multi-class export."""
    folder = Path(folder)
    path = folder / CLASSES_CSV
    lines = read_csv(path)
    header = next(lines, (0, []))[1]
    if not header:
        raise FormatError(path, "a header with 'filename' and the classes", "an empty file")
    filename, columns = _class_columns(path, header)
    rows = [_source_row(path, line, values, len(header), filename, columns) for line, values in lines]
    return build_table(folder, rows, tuple(columns.values()), rules or ReadRules())


def read_class_folders(folder: str | Path, rules: ReadRules | None = None) -> ClassTable:
    """Read a folder of class folders."""
    folder = Path(folder)
    names = class_folder_names(folder)
    if layout := known_layout(folder):
        raise InputError(f"{folder}: {layout}")
    if not names:
        raise InputError(f"{folder}: no class folders in it; expected one folder per class with its images")
    if blank := [name for name in names if not label_name(name)]:
        raise FormatError(folder, "folders that are named after their class", f"one named {blank[0]!r}", "rename it")
    listing = scan_folder(folder)
    if links := sorted({*names}.intersection(listing.passed_over.get(LISTED, ()))):
        text = "%s: %s: a class of 0 images, because it is a link to a folder of another class; remove the link"
        _LOG.warning(text, folder, abbreviate(links))
    rows = [SourceRow(path, (path.partition("/")[0],) if "/" in path else ()) for path in listing.images]
    return build_table(folder, rows, names, rules or ReadRules(), listing=listing)


def _read_class_names(path: Path) -> tuple[str, ...]:
    names = list(map(label_name, read_json(path, list[str])))
    if not all(names) or len(set(names)) != len(names):
        raise FormatError(path, "a list of different class names", repr(names)[:60])
    return tuple(names)


def _labels_by_path(path: Path) -> tuple[dict[str, list[str]], list[str]]:
    """Return path to its labels, and the paths of repeated lines."""
    lines = read_csv(path)
    header = [name.casefold() for name in next(lines, (0, []))[1]]
    if not set(HEADER) <= set(header):
        raise FormatError(path, "columns 'path' and 'label'", ", ".join(header)[:80] or "an empty file")
    path_column, label_column = header.index("path"), header.index("label")
    found: dict[str, list[str]] = {}
    repeats = []
    for line, values in lines:
        if len(values) != len(header):
            raise FormatError(path, f"{len(header)} values in line {line}", str(len(values)))
        name, label = path_in_table(values[path_column]), label_name(values[label_column])
        labels = found.setdefault(name, [])
        if label in labels:
            repeats.append(name)
        elif label:
            labels.append(label)
    return found, repeats


def _base_of(path: Path, names: Sequence[str], rules: ReadRules) -> Path:
    """Find the folder that a manifest's paths are relative to: its own, a parent, or the current one."""
    candidates = (path.parent, path.parent.parent, Path())
    harmless = [name for name in names if not refusal(name)][:50]
    for folder in candidates:
        if any(map(FolderFiles(folder).find, harmless)):
            return folder
    if not rules.need_files or (names and not harmless):  # the table has the reasons why every row is refused
        return path.parent
    searched = ", ".join(dict.fromkeys(str(folder.resolve()) for folder in candidates))
    hint = "run from the folder that the paths start in, or put the manifests beside it"
    raise MissingPathError(harmless[0] if harmless else path, f"image of {path} under {searched}", hint)


def read_manifest(path: str | Path, root: str | Path | None = None, rules: ReadRules | None = None) -> ClassTable:
    """Read a manifest: ``path,label`` lines, with or without ``classes.json`` beside it."""
    path = Path(path)
    found, repeats = _labels_by_path(path)
    labels = {label for names in found.values() for label in names}
    listed = path.parent / CLASSES
    classes = _read_class_names(listed) if listed.is_file() else tuple(sorted(labels))
    unknown = sorted(labels - set(classes))
    if unknown:
        raise FormatError(path, f"labels of {listed.name}", ", ".join(unknown)[:80])
    rules = rules or ReadRules()
    base = Path(root) if root is not None else _base_of(path, list(found), rules)
    rows = [SourceRow(name, tuple(names)) for name, names in found.items()]
    rows += [SourceRow(name, tuple(found[name])) for name in repeats]
    return build_table(base, rows, classes, rules, list_unnamed=False)


def manifest_text(table: ClassTable, base: str | Path) -> str:
    r"""Return a table as the text of a manifest, with ``\n`` line ends."""
    prefix = PurePosixPath(Path(os.path.relpath(table.root.absolute(), Path(base).absolute())).as_posix())
    return csv_text([HEADER, *(((prefix / row.path).as_posix(), row.label) for row in table.rows)])


def statistics(table: ClassTable, note: str) -> dict[str, Any]:
    """Return the content of ``stats_<split>.json``."""
    report = table.report
    return {
        "total_rows_seen": report.seen,
        "total_rows_kept": report.kept,
        "total_rows_discarded": report.seen - report.kept,
        "discarded_by_num_positives": {str(count): rows for count, rows in report.discarded_by_positives.items()},
        "missing_files": len(report.missing),
        "missing": list(report.missing),
        "refused_paths": list(report.refused),
        "duplicates": list(report.duplicates),
        "renamed": dict(report.renamed),
        "unlisted_files": len(report.unlisted),
        **({"passed_over": report.listing.as_json()} if report.listing.passed_over else {}),
        "kept_per_label": table.counts(),
        "written_rows": len(table.rows),
        "note": note,
    }


def manifest_base(root: str | Path, tables: Mapping[Split, ClassTable]) -> Path:
    """Return the folder that a data set's manifests are written relative to."""
    base = Path(os.path.normpath(Path(root).absolute())).parent  # not resolved: a folder that is a link keeps its name
    roots = [Path(os.path.normpath(table.root.absolute())) for table in tables.values()]
    return base if all(root.is_relative_to(base) for root in roots) else Path(os.path.commonpath(roots))


def is_found_from(out: str | Path, base: str | Path) -> bool:
    """Whether manifests in a folder resolve images relative to another one without options."""
    out = Path(out).resolve()
    return Path(base).resolve() in (out, out.parent, Path().resolve())


def write_manifests(
    out: str | Path, tables: Mapping[Split, ClassTable], base: str | Path, classes: Sequence[str], note: str
) -> None:
    """Write ``<split>.csv`` and ``stats_<split>.json`` for every split, and ``classes.json``."""
    out = Path(out)
    for split, table in tables.items():
        write_text(out / f"{split}.csv", manifest_text(table, base))
        write_json(out / f"stats_{split}.json", statistics(table, note))
    write_json(out / CLASSES, list(classes))


def _named(root: Path, split: Split, kind: Callable[[Path], bool], suffix: str = "") -> list[Path]:
    """Return the folders or files of a split in upper or lower case, the usual name and the exact case first."""
    names = [name + suffix for name in SPLIT_NAMES[split]]
    found = [path for path in root.iterdir() if path.name.casefold() in names and kind(path)]
    return sorted(found, key=lambda path: (names.index(path.name.casefold()), path.name not in names, path.name))


def find_split(root: str | Path, split: Split, reader: ReaderName = "auto") -> tuple[ReaderName, Path] | None:
    """Find a split's class data and its layout."""
    root = Path(root)
    if not root.is_dir():
        raise MissingPathError(root, "folder of class data")
    folders = _named(root, split, Path.is_dir)
    if split == "train" and not any(_named(root, other, Path.is_dir) for other in SPLITS):
        folders.append(root)
    found: list[tuple[ReaderName, Path]] = [
        *(("shards", folder) for folder in folders if (folder / INDEX).is_file()),
        *(("roboflow", folder) for folder in folders if (folder / CLASSES_CSV).is_file()),
        *(("manifest", path) for path in _named(root, split, Path.is_file, ".csv")),
    ]
    if reader == "boxes" or (reader == "auto" and not found):  # opens files to see what they are
        boxes = find_boxes(root, split)
        found += [("boxes", boxes.path)] if boxes is not None else []
    found += [("folders", folder) for folder in folders if class_folder_names(folder)]
    return next((layout for layout in found if reader in ("auto", layout[0])), None)


def require_split(root: str | Path, split: Split = "train", reader: ReaderName = "auto") -> tuple[ReaderName, Path]:
    """Find a split's class data and its layout; InputError says what was expected."""
    found = find_split(root, split, reader)
    if found is None:
        expected = (
            f"expected {split}/{CLASSES_CSV} (Roboflow export), {split}.csv (manifest), <class>/ or {split}/<class>/ "
            f"folders, {split}/{INDEX} (shards), or {FORMATS_READ}; {describe_folder(Path(root))}"
        )
        raise InputError(f"{Path(root)}: {known_layout(Path(root)) or f'no class data of split {split!r}; {expected}'}")
    return found


def read_classes(
    root: str | Path,
    split: Split = "train",
    reader: ReaderName = "auto",
    rules: ReadRules | None = None,
) -> ClassTable:
    """Read one split of a data set."""
    layout, path = require_split(root, split, reader)
    if others := [folder.name for folder in _named(Path(root), split, Path.is_dir) if path.is_dir() and folder != path]:
        _LOG.warning("%s: split %r is read from %s; not from %s", root, split, path.name, ", ".join(others))
    match layout:
        case "shards":
            table = read_shards(path, rules)
        case "manifest":
            table = read_manifest(path, rules=rules)
        case "boxes":
            table = read_box_table(root, split, rules)
        case "folders":
            table = read_class_folders(path, rules)
        case _:
            table = read_roboflow(path, rules)
    if not table.rows:
        reasons = [*table.report.refused[:1], *(f"{name} is not there" for name in table.report.missing[:1])]
        reasons += table.report.listing.sentences()
        msg = f"{path}: no usable image, {table.report.summary()}" + "".join(f"; {reason}" for reason in reasons)
        raise InputError(msg)
    return table


def read_present(
    root: str | Path, reader: ReaderName = "auto", rules: ReadRules | None = None
) -> dict[Split, ClassTable]:
    """Read every split that a data set has, under one list of classes."""
    rules = rules or ReadRules()
    wanted = [split for split in SPLITS if split == "train" or find_split(root, split, reader) is not None]
    if rules.labels is not None:
        everything = read_present(root, reader, replace(rules, policy="all", labels=None))["train"].classes
        unknown = [name for name in rules.labels if name not in everything]
        if unknown:
            raise InputError(f"{root}: no class {', '.join(unknown)}; there are {', '.join(everything)}")
    found = {split: read_classes(root, split, reader, rules) for split in wanted}
    every = dict.fromkeys(name for table in found.values() for name in table.classes)
    classes = rules.in_order(rules.labels or every)
    return {split: replace(table, classes=classes) for split, table in found.items()}


def read_splits(
    root: str | Path, hold_out_fraction: float, reader: ReaderName = "auto", rules: ReadRules | None = None
) -> dict[Split, ClassTable]:
    """Read a data set for training: like ``read_present``, but with a validation split held out if absent."""
    found = read_present(root, reader, rules)
    for split, table in found.items():
        _LOG.info("%s split of %s: %s", split, root, "; ".join([table.report.summary(), *table.report.remarks()]))
    if "valid" not in found:
        found["train"], found["valid"] = hold_out(found["train"], hold_out_fraction)
        held, left = len(found["valid"]), len(found["train"])
        _LOG.warning("%s has no valid split: %d of %d training images are held out", root, held, held + left)
        if not held:
            _LOG.warning("%s: too few images of every class to hold any out: no validation", root)
    return found
