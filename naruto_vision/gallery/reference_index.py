"""Import of the reference system's index folders."""

import json
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, NotRequired, TypedDict

import msgspec
import numpy as np

from naruto_vision.encoders.base import Encoder, embed_images
from naruto_vision.errors import FormatError, MissingPathError
from naruto_vision.gallery.content import MAPPED_BYTES, GalleryRow, map_unit_rows, unit_rows
from naruto_vision.gallery.enrolment import UNCHANGED
from naruto_vision.io.arrays import map_npy
from naruto_vision.io.images import image_or_none
from naruto_vision.io.typed_json import read_json
from naruto_vision.records import ImageArray, Vectors

SAME_ENCODER = 0.99
"""Minimum cosine of an image embedded again with its row; other decoders and CPUs differ by far less."""

_CHECKED = 8
_WHOLE = "copy the folder again, all files of one build"


class _Row(TypedDict):
    path: str
    label: str
    aug: NotRequired[object]


class ReferenceIndex(NamedTuple):
    """The unit vectors (N, D) and the rows of an index folder."""

    vectors: Vectors
    rows: tuple[GalleryRow, ...]


def read_reference_index(folder: str | Path, temporary: str | Path) -> ReferenceIndex:
    """Read ``embeddings.npy`` and ``meta.jsonl``; ``stats.json`` and ``faiss_meta.json``, if present, have to agree.

    ``faiss.index`` is not opened: it has the same vectors, and an index is built from those. Vectors of a gibibyte
    and more are normalised in a file in the folder ``temporary``, which stays mapped.
    """
    root = Path(folder)
    if not root.is_dir():
        raise MissingPathError(root, "index folder")
    vectors = _read_vectors(root / "embeddings.npy", Path(temporary))
    rows = _read_rows(root / "meta.jsonl")
    if len(rows) != len(vectors):
        raise FormatError(root / "meta.jsonl", f"{len(vectors)} rows, as embeddings.npy has", str(len(rows)), _WHOLE)
    _check(root / "stats.json", total=(len(rows),), counts=(dict(Counter(row.label for row in rows)),))
    _check(root / "faiss_meta.json", size=(len(vectors),), dim=(vectors.shape[1],), metric=("ip", "l2"))
    return ReferenceIndex(vectors, rows)


def _read_vectors(path: Path, temporary: Path) -> Vectors:
    if not path.is_file():
        raise MissingPathError(path, "file of the index", _WHOLE)
    values = map_npy(path, _WHOLE)
    if values.ndim != 2 or values.dtype.kind != "f" or not values.size:
        raise FormatError(path, "floats of shape (N, D), both of 1 or more", f"{values.dtype} {values.shape}")
    if values.size * 4 >= MAPPED_BYTES:
        return map_unit_rows(values, str(path), temporary / path.name)
    return unit_rows(np.array(values, dtype=np.float32), str(path))


def _read_rows(path: Path) -> tuple[GalleryRow, ...]:
    if not path.is_file():
        raise MissingPathError(path, "file of the index", _WHOLE)
    with path.open("rb") as lines:
        return tuple(_read_row(path, number, line) for number, line in enumerate(lines, start=1) if line.strip())


def _read_row(path: Path, number: int, line: bytes) -> GalleryRow:
    try:
        record = msgspec.convert(json.loads(line.decode("utf-8-sig")), _Row)
    except (ValueError, RecursionError):
        expected = "JSON with path, label and aug in each line"
        raise FormatError(path, expected, f"something else in line {number}", _WHOLE) from None
    aug = record.get("aug")
    known = sys.intern(aug) if aug and isinstance(aug, str) else UNCHANGED
    return GalleryRow(record["path"].replace("\\", "/"), sys.intern(record["label"]), known)


def _check(path: Path, **allowed: tuple[object, ...]) -> None:
    """Check that a JSON file, if present, has allowed values or none."""
    stated = read_json(path, dict[str, Any], hint=_WHOLE) if path.is_file() else {}
    if any(stated.get(key, values[0]) not in values for key, values in allowed.items()):
        expected = ", ".join(f"{key} {' or '.join(map(str, values))}" for key, values in allowed.items())
        raise FormatError(path, expected, f"{stated}"[:200], _WHOLE)


@dataclass(frozen=True)
class EncoderCheck:
    """Images embedded again, the lowest cosine with their rows, and whether views were mirrored."""

    checked: int
    lowest: float | None
    mirror: bool

    @property
    def agrees(self) -> bool:
        """Whether every cosine reached 0.99."""
        return self.lowest is not None and self.lowest >= SAME_ENCODER


def check_encoder(index: ReferenceIndex, encoder: Encoder, find: Callable[[str], Path | None]) -> EncoderCheck:
    """Embed up to eight of the images again, with and without the mirrored view, and keep the better comparison."""
    positions, images = _sample(index, find)
    best = EncoderCheck(0, None, mirror=True)
    for mirror in (True, False) if images else ():
        vectors = embed_images(encoder, images, mirror=mirror).numpy()
        lowest = float((vectors * index.vectors[positions]).sum(axis=1).min())
        if best.lowest is None or lowest > best.lowest:
            best = EncoderCheck(len(positions), lowest, mirror)
    return best


def _sample(index: ReferenceIndex, find: Callable[[str], Path | None]) -> tuple[list[int], list[ImageArray]]:
    """Read up to eight unchanged images, spread over the index."""
    plain = [position for position, row in enumerate(index.rows) if row.aug == UNCHANGED]
    order = np.random.default_rng(0).permutation(len(plain)).tolist()
    positions: list[int] = []
    images: list[ImageArray] = []
    for position in (plain[number] for number in order):
        file = find(index.rows[position].path)
        if file is None or (image := image_or_none(file)) is None:
            continue
        images.append(image)
        positions.append(position)
        if len(positions) == _CHECKED:
            break
    return positions, images
