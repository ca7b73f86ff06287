"""One question for class data of any layout: the table of a split."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeAlias

from naruto_vision.data.class_folders import class_folder_names, read_class_folders
from naruto_vision.data.manifest import read_manifest
from naruto_vision.data.roboflow import CLASSES_CSV, read_roboflow
from naruto_vision.data.rows import ReadRules
from naruto_vision.data.shards import INDEX, read_shards
from naruto_vision.data.tables import ClassTable, Split, hold_out, merge_classes
from naruto_vision.errors import InputError, MissingPathError

_LOG = logging.getLogger(__name__)
ReaderName: TypeAlias = Literal["auto", "shards", "roboflow", "manifest", "folders"]
SPLITS: tuple[Split, ...] = ("train", "valid", "test")

_NAMES: dict[Split, tuple[str, ...]] = {
    "train": ("train", "training"),
    "valid": ("valid", "val", "validation"),
    "test": ("test", "testing"),
}


def _looked_for(root: Path, split: str) -> str:
    return (
        f"{root}: no class data of split {split!r}; expected {split}/{CLASSES_CSV} (Roboflow export), "
        f"{split}.csv (manifest), {split}/<class>/ folders or {split}/{INDEX} (shards)"
    )


def find_split(root: str | Path, split: Split, reader: ReaderName = "auto") -> tuple[ReaderName, Path] | None:
    """Find where a split's class data lies and how it is laid out.

    Args:
        root: The data set's folder. A folder without any split folders counts as its own training split.
        split: Which split; "val" and "validation" are also found as "valid".
        reader: Look for one layout only.

    Returns:
        The layout, and the folder or file to read; None where there is nothing.

    Raises:
        MissingPathError: If ``root`` is not there.
    """
    root = Path(root)
    if not root.is_dir():
        raise MissingPathError(root, "folder of class data")
    folders = [root / name for name in _NAMES[split]]
    if split == "train" and not any((root / name).is_dir() for names in _NAMES.values() for name in names):
        folders.append(root)
    manifests = [root / f"{name}.csv" for name in _NAMES[split]]
    found: list[tuple[ReaderName, Path]] = [
        *(("shards", folder) for folder in folders if (folder / INDEX).is_file()),
        *(("roboflow", folder) for folder in folders if (folder / CLASSES_CSV).is_file()),
        *(("manifest", path) for path in manifests if path.is_file()),
        *(("folders", folder) for folder in folders if folder.is_dir() and class_folder_names(folder)),
    ]
    fitting = [place for place in found if reader in ("auto", place[0])]
    return fitting[0] if fitting else None


def read_classes(
    root: str | Path,
    split: Split = "train",
    reader: ReaderName = "auto",
    rules: ReadRules | None = None,
) -> ClassTable:
    """Read one split of a data set.

    Args:
        root: The data set's folder.
        split: Which split.
        reader: How it is laid out; "auto" looks, in the order shards, Roboflow export, manifest, class folders.
        rules: What becomes of class names and of pictures with several classes.

    Returns:
        The table of the split.

    Raises:
        MissingPathError: If ``root`` is not there.
        InputError: If the split is not there, is malformed, or has not one usable picture.
    """
    place = find_split(root, split, reader)
    if place is None:
        raise InputError(_looked_for(Path(root), split))
    layout, path = place
    match layout:
        case "shards":
            table = read_shards(path, rules)
        case "manifest":
            table = read_manifest(path, rules=rules)
        case "folders":
            table = read_class_folders(path, rules)
        case _:
            table = read_roboflow(path, rules)
    if not table.rows:
        reasons = [*table.report.refused[:1], *(f"{name} is not there" for name in table.report.missing[:1])]
        msg = f"{path}: no usable picture, {table.report.summary()}" + "".join(f"; {reason}" for reason in reasons)
        raise InputError(msg)
    return table


def read_present(
    root: str | Path, reader: ReaderName = "auto", rules: ReadRules | None = None
) -> dict[Split, ClassTable]:
    """Read every split that a data set has, under one list of classes.

    Args:
        root: The data set's folder; it has to have a training split.
        reader: How it is laid out.
        rules: What becomes of class names and of pictures with several classes.

    Returns:
        "train", and "valid" and "test" where they are; classes in the order of the rules' labels, or else in the
        training split's order, then those that only other splits have.

    Raises:
        MissingPathError: If ``root`` is not there.
        InputError: If there is no training split, a split is malformed or without a usable picture, or the rules
            name a label that the data set lacks.
    """
    rules = rules or ReadRules()
    wanted = [split for split in SPLITS if split == "train" or find_split(root, split, reader) is not None]
    if rules.labels is not None:
        everything = read_present(root, reader, replace(rules, policy="all", labels=None))["train"].classes
        unknown = [name for name in rules.labels if name not in everything]
        if unknown:
            msg = f"{root}: no class {', '.join(unknown)}; there are {', '.join(everything)}"
            raise InputError(msg)
    found = {split: read_classes(root, split, reader, rules) for split in wanted}
    classes = rules.in_order(rules.labels or merge_classes(list(found.values())))
    return {split: table.relabelled(classes) for split, table in found.items()}


def read_splits(
    root: str | Path, hold_out_fraction: float, reader: ReaderName = "auto", rules: ReadRules | None = None
) -> dict[Split, ClassTable]:
    """Read a data set to train on: like ``read_present``, but there always is a validation split.

    Args:
        root: The data set's folder; it has to have a training split.
        hold_out_fraction: Share of each class's training pictures that validates where there is no valid split.
        reader: How it is laid out.
        rules: What becomes of class names and of pictures with several classes.

    Returns:
        "train" and "valid", and "test" where there is one.

    Raises:
        MissingPathError: If ``root`` is not there.
        InputError: As ``read_present``.
    """
    found = read_present(root, reader, rules)
    for split, table in found.items():
        _LOG.info("%s split of %s: %s", split, root, table.report.summary())
    if "valid" not in found:
        found["train"], found["valid"] = hold_out(found["train"], hold_out_fraction)
        held, left = len(found["valid"]), len(found["train"])
        _LOG.warning("%s has no valid split: %d of %d training pictures are held out", root, held, held + left)
        if not held:
            _LOG.warning("%s: too few pictures of every class to hold any out: nothing is validated", root)
    return found
