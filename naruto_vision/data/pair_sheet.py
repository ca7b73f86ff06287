"""A contact sheet of pairs of pictures, for eyes to judge."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from naruto_vision.errors import BadImageError, MissingPathError
from naruto_vision.files.images import read_image
from naruto_vision.records import Picture

CELL = 160
_TEXT = 14  # pixels a line
_GAP = 8
_COLUMNS = 3
_LETTERS = 26  # that a cell's width holds


class SheetPair(NamedTuple):
    """Two pictures and what is written under them.

    Args:
        files: The two picture files.
        captions: What is written under each.
        note: What is written under both.
    """

    files: tuple[Path, Path]
    captions: tuple[str, str]
    note: str


def fit_cell(picture: Picture, side: int = CELL) -> Picture:
    """Scale a picture into a square, on grey.

    Args:
        picture: Shape (H, W, 3), uint8, RGB.
        side: The square's side in pixels.

    Returns:
        Shape (side, side, 3), uint8, RGB.
    """
    height, width = picture.shape[:2]
    scale = side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    cell = np.full((side, side, 3), 224, dtype=np.uint8)
    left, top = (side - size[0]) // 2, (side - size[1]) // 2
    cell[top : top + size[1], left : left + size[0]] = small
    return cell


def _cell_of(file: Path) -> Picture:
    try:
        return fit_cell(read_image(file))
    except (BadImageError, MissingPathError):  # it was there a moment ago; the caption says which one it is
        return np.full((CELL, CELL, 3), 224, dtype=np.uint8)


def _short(text: str) -> str:
    return text if len(text) <= _LETTERS else f"{text[: _LETTERS - 9]}…{text[-8:]}"


def pair_sheet(pairs: Sequence[SheetPair]) -> Picture:
    """Draw pairs of pictures in rows of three.

    Args:
        pairs: At least one.

    Returns:
        Shape (H, W, 3), uint8, RGB.
    """
    width, height = 2 * CELL + _GAP, CELL + 2 * _TEXT + _GAP
    columns = min(_COLUMNS, len(pairs))
    rows = -(-len(pairs) // columns)
    sheet = Image.new("RGB", (columns * (width + _GAP) + _GAP, rows * (height + _GAP) + _GAP), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=11)
    for number, pair in enumerate(pairs):
        top = _GAP + number // columns * (height + _GAP)
        left = _GAP + number % columns * (width + _GAP)
        for place, (file, caption) in enumerate(zip(pair.files, pair.captions, strict=True)):
            x = left + place * (CELL + 2)
            sheet.paste(Image.fromarray(_cell_of(file)), (x, top))
            draw.text((x, top + CELL), _short(caption), fill="black", font=font)
        draw.text((left, top + CELL + _TEXT), pair.note, fill="firebrick", font=font)
    return np.asarray(sheet, dtype=np.uint8)
