"""Manifests: what ``naruto-vision data prepare`` makes of a data set, and how it is read back."""

import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from naruto_vision.data.paths import find_inside, refusal
from naruto_vision.data.roboflow import read_csv
from naruto_vision.data.rows import ReadRules, SourceRow, build_table
from naruto_vision.data.tables import ClassTable, Split
from naruto_vision.errors import FormatError, JsonError, MissingPathError
from naruto_vision.files.atomic import write_json, write_text

HEADER = ("path", "label")
CLASSES = "classes.json"


def _read_class_names(path: Path) -> tuple[str, ...]:
    try:
        names = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise JsonError(path, error) from None
    good = isinstance(names, list) and all(isinstance(name, str) and name for name in names)
    if not good or len(set(names)) != len(names):
        raise FormatError(path, "a list of different class names", repr(names)[:60])
    return tuple(names)


def _labels_by_path(path: Path) -> tuple[dict[str, list[str]], list[str]]:
    """Return path to its labels, and the paths of repeated lines."""
    lines = read_csv(path)
    header = [name.casefold() for name in next(lines, (0, []))[1]]
    if not set(HEADER) <= set(header):
        raise FormatError(path, "columns 'path' and 'label'", ", ".join(header)[:80] or "an empty file")
    place, label_place = header.index("path"), header.index("label")
    found: dict[str, list[str]] = {}
    repeats = []
    for line, values in lines:
        if len(values) != len(header):
            raise FormatError(path, f"{len(header)} values in line {line}", str(len(values)))
        label = values[label_place]
        labels = found.setdefault(values[place], [])
        if label in labels:
            repeats.append(values[place])
        elif label:
            labels.append(label)
    return found, repeats


def _base_of(path: Path, names: Sequence[str], rules: ReadRules) -> Path:
    """Find the folder that a manifest's paths are relative to: beside it, above it, or where we are."""
    candidates = (path.parent, path.parent.parent, Path())
    harmless = [name for name in names if not refusal(name)][:50]
    for folder in candidates:
        if any(find_inside(folder.resolve(), name) for name in harmless):
            return folder
    if not rules.need_files:
        return path.parent
    places = ", ".join(dict.fromkeys(str(folder.resolve()) for folder in candidates))
    hint = "run from the folder that the paths start in, or put the manifests beside it"
    raise MissingPathError(names[0] if names else path, f"picture of {path} under {places}", hint)


def read_manifest(path: str | Path, root: str | Path | None = None, rules: ReadRules | None = None) -> ClassTable:
    """Read a manifest: ``path,label`` lines, with ``classes.json`` beside it or not.

    Args:
        path: The CSV file.
        root: The folder that its paths are relative to; by default the manifest's own folder, the folder above it
            or the current one, whichever has the pictures.
        rules: What becomes of class names and of pictures with several labels.

    Returns:
        The table; its classes are those of ``classes.json``, or the labels in order of their names.

    Raises:
        MissingPathError: If there is no such file, or none of its pictures can be found.
        FormatError: If it has other columns, or a label that ``classes.json`` lacks.
    """
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
    r"""Return a table as the text of a manifest, with ``\n`` line ends.

    Args:
        table: The rows.
        base: The folder that the paths are written relative to; the table's root lies in it.
    """
    prefix = PurePosixPath(Path(os.path.relpath(table.root.absolute(), Path(base).absolute())).as_posix())
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(HEADER)
    writer.writerows(((prefix / row.path).as_posix(), row.label) for row in table.rows)
    return out.getvalue()


def statistics(table: ClassTable, note: str) -> dict[str, Any]:
    """Return what ``stats_<split>.json`` holds.

    Args:
        table: One split.
        note: One line for people.
    """
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
        "kept_per_label": table.counts(),
        "written_rows": len(table.rows),
        "note": note,
    }


def manifest_base(root: str | Path, tables: Mapping[Split, ClassTable]) -> Path:
    """Return the folder that a data set's manifests are written relative to.

    Args:
        root: The data set's folder.
        tables: What was read from it.

    Returns:
        The folder that ``root`` lies in, so that its own name stays in the paths; where the pictures lie elsewhere
        (manifests beside a data set), the folder that they share.
    """
    base = Path(os.path.normpath(Path(root).absolute())).parent  # not resolved: a folder that is a link keeps its name
    places = [Path(os.path.normpath(table.root.absolute())) for table in tables.values()]
    return base if all(place.is_relative_to(base) for place in places) else Path(os.path.commonpath(places))


def is_found_from(out: str | Path, base: str | Path) -> bool:
    """Tell whether manifests in a folder find pictures relative to another one by themselves.

    Args:
        out: The manifests' folder.
        base: The folder that their paths are relative to.
    """
    out = Path(out).resolve()
    return Path(base).resolve() in (out, out.parent, Path().resolve())


def write_manifests(
    out: str | Path, tables: Mapping[Split, ClassTable], base: str | Path, classes: Sequence[str], note: str
) -> None:
    """Write ``<split>.csv`` and ``stats_<split>.json`` for every split, and ``classes.json``.

    Args:
        out: The folder; made if need be, files of the same names are replaced.
        tables: Split name to its table.
        base: The folder that paths are written relative to, as ``manifest_base`` finds it.
        classes: Every class, in the order that all later steps use.
        note: One line for people, kept in the statistics.
    """
    out = Path(out)
    for split, table in tables.items():
        write_text(out / f"{split}.csv", manifest_text(table, base))
        write_json(out / f"stats_{split}.json", statistics(table, note))
    write_json(out / CLASSES, list(classes))
