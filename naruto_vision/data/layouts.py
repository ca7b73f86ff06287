"""Detect layouts of labelled images that are not read as class data."""

import os
from collections.abc import Iterator
from pathlib import Path

from naruto_vision.data.tables import SPLIT_WORDS

_UNDERSTOOD = (
    "understood are one folder per class, a Roboflow multi-class export (_classes.csv), manifests (path,label) and "
    "shards: export it as multi-class classification or as folders"
)
_COCO = "_annotations.coco.json"


def known_layout(root: Path) -> str:
    """Describe a folder whose labels belong to boxes, or that has a data set one folder below; empty for others."""
    folders = {path.name.casefold(): path for path in sorted(root.iterdir()) if path.is_dir()}
    places = [root, *(folders[name] for name in sorted(SPLIT_WORDS.keys() & folders))]
    kinds = [kind for place in places for kind in _kinds(place)]
    if kinds:
        return f"labels of boxes, not of whole images ({kinds[0]}); {_UNDERSTOOD}"
    inner = [path for name, path in folders.items() if name not in SPLIT_WORDS and _has_parts(path)]
    if inner and len(places) == 1:
        return f"has a data set in {inner[0].name}; give {inner[0]}"
    return ""


def _kinds(folder: Path) -> Iterator[str]:
    """Yield what a folder has of a layout with boxes; images of classes beside it are not looked at."""
    names = {name.casefold(): folder / name for name in os.listdir(folder)}  # noqa: PTH208 - names only
    if {"images", "labels"} <= names.keys():
        yield f"YOLO: {names['images']} and {names['labels']}"
    if {"jpegimages", "annotations"} <= names.keys():
        yield f"Pascal VOC: {names['jpegimages']} and {names['annotations']}"
    if any(path.is_dir() for name, path in names.items() if not name.startswith(".")):
        return
    if _COCO in names:
        yield f"COCO: {names[_COCO]}"
    stems = {os.path.splitext(name)[0] for name in names if not name.endswith((".xml", ".txt"))}  # noqa: PTH122 - names only
    for suffix, kind in ((".xml", "Pascal VOC"), (".txt", "YOLO")):
        beside = sorted(name for name in names if name.endswith(suffix) and name.removesuffix(suffix) in stems)
        if beside:
            yield f"{kind}: {names[beside[0]]} beside its image"


def _has_parts(folder: Path) -> bool:
    try:
        inside = [path for path in folder.iterdir() if path.is_dir()]
    except OSError:
        return False
    return any(path.name.casefold() in SPLIT_WORDS for path in inside)
