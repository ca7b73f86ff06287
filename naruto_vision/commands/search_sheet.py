"""The contact sheet of a search: each query with its neighbours, their labels, scores and margins."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from PIL import Image, ImageDraw

from naruto_vision.errors import BadImageError, MissingPathError
from naruto_vision.files.images import read_image
from naruto_vision.gallery.pictures import find_picture
from naruto_vision.records import Picture
from naruto_vision.scenes.lookup import Answer, Hit
from naruto_vision.scenes.overlay import Colour, label_font

Theme: TypeAlias = Literal["dark", "light"]

_FINE = 2  # everything is drawn twice as large and scaled down, which rounds corners smoothly
_TILE = 168
_GAP = 18
_CAPTION = 82
_HEAD = 56
_ANSWER = 40
_RADIUS = 12
_COLUMNS = 4  # a sheet is at least so wide, for the answer's sentence to fit


@dataclass(frozen=True)
class _Colours:
    ground: Colour
    card: Colour
    ink: Colour
    dim: Colour
    track: Colour


_THEMES: Mapping[str, _Colours] = {
    "dark": _Colours((22, 24, 29), (34, 37, 44), (240, 242, 245), (150, 156, 168), (58, 62, 72)),
    "light": _Colours((246, 247, 249), (255, 255, 255), (28, 30, 36), (112, 118, 130), (224, 227, 233)),
}


class PictureFinder:
    """Finds gallery pictures on this machine, and counts those that are not there.

    Args:
        roots: Folders that their paths may be relative to, or whose split they may be of; the likeliest first.

    Attributes:
        lost: How many could not be found or read.
    """

    def __init__(self, roots: Sequence[Path]) -> None:
        self._roots = tuple(roots)
        self.lost = 0

    def gallery(self, path: str) -> Picture | None:
        """Read a gallery picture.

        Args:
            path: As the gallery has it.

        Returns:
            Shape (H, W, 3), uint8, RGB; None where it is not there or cannot be read.
        """
        found = next(filter(None, (find_picture(root, path) for root in self._roots)), None)
        picture = None if found is None else self.query(str(found))
        self.lost += picture is None
        return picture

    def query(self, path: str) -> Picture | None:
        """Read a query picture.

        Args:
            path: The file.

        Returns:
            Shape (H, W, 3), uint8, RGB; None where it cannot be read.
        """
        try:
            return read_image(path)
        except (BadImageError, MissingPathError):
            return None


class _Sheet:
    """A canvas in sheet pixels, drawn finer."""

    def __init__(self, width: int, height: int, colours: _Colours) -> None:
        self.size = (width, height)
        self.colours = colours
        self.image = Image.new("RGB", (width * _FINE, height * _FINE), colours.ground)
        self.pen = ImageDraw.Draw(self.image)

    def card(self, x: int, y: int, width: int, height: int, fill: Colour, *, radius: int = _RADIUS) -> None:
        box = tuple(value * _FINE for value in (x, y, x + width, y + height))
        self.pen.rounded_rectangle((box[0], box[1], box[2] - 1, box[3] - 1), radius * _FINE, fill=fill)

    def write(
        self, x: int, y: int, text: str, size: int, ink: Colour, *, bold: bool = False, room: int | None = None
    ) -> None:
        """Write one line with its middle at ``y``, cut to ``room`` pixels: a path loses its beginning."""
        font = label_font(size * _FINE, bold=bold)
        while room is not None and len(text) > 2 and self.pen.textlength(text, font=font) > room * _FINE:
            text = "…" + text[2:] if "/" in text and " " not in text else text[:-2] + "…"
        self.pen.text((x * _FINE, y * _FINE), text, font=font, fill=ink, anchor="lm")

    def picture(self, x: int, y: int, picture: Picture | None, frame: Colour | None = None) -> None:
        """Put a picture into a square tile, whole, in rounded corners; None leaves a note that it is not there."""
        side = _TILE * _FINE
        tile = Image.new("RGB", (side, side), self.colours.track)
        if picture is not None:
            front = Image.fromarray(picture)
            scale = side / max(front.size)
            size = (max(1, round(front.width * scale)), max(1, round(front.height * scale)))
            tile.paste(front.resize(size, Image.Resampling.LANCZOS), ((side - size[0]) // 2, (side - size[1]) // 2))
        mask = Image.new("L", tile.size)
        ImageDraw.Draw(mask).rounded_rectangle((0, 0, side - 1, side - 1), _RADIUS * _FINE, fill=255)
        self.image.paste(tile, (x * _FINE, y * _FINE), mask)
        if picture is None:
            self.pen.text(
                (x * _FINE + side / 2, y * _FINE + side / 2),
                "picture\nnot found",
                font=label_font(13 * _FINE, bold=False),
                fill=self.colours.dim,
                anchor="mm",
                align="center",
            )
        if frame is not None:
            box = (x * _FINE, y * _FINE, x * _FINE + side - 1, y * _FINE + side - 1)
            self.pen.rounded_rectangle(box, _RADIUS * _FINE, outline=frame, width=3 * _FINE)

    def finished(self) -> Picture:
        return np.array(self.image.reduce(_FINE))


def draw_sheet(
    answers: Sequence[Answer],
    finder: PictureFinder,
    colours: Mapping[str, Colour],
    title: str,
    theme: Theme = "dark",
) -> Picture:
    """Draw a contact sheet: a line of tiles for each query.

    Args:
        answers: What the gallery said.
        finder: Finds the pictures.
        colours: Label to RGB.
        title: The sheet's heading.
        theme: Light or dark ground.

    Returns:
        Shape (H, W, 3), uint8, RGB.
    """
    columns = max(1 + max((len(answer.hits) for answer in answers), default=0), _COLUMNS)
    line = _ANSWER + _TILE + _CAPTION + _GAP
    width = columns * (_TILE + _GAP) + 4 * _GAP - 8  # the query stands one gap apart from its neighbours
    sheet = _Sheet(width, _HEAD + line * len(answers) + _GAP, _THEMES[theme])
    sheet.write(_GAP + 4, _HEAD // 2, title, 16, sheet.colours.dim, room=width - 2 * _GAP)
    for number, answer in enumerate(answers):
        _draw_line(sheet, _HEAD + number * line, answer, finder, colours)
    return sheet.finished()


def _draw_line(sheet: _Sheet, top: int, answer: Answer, finder: PictureFinder, colours: Mapping[str, Colour]) -> None:
    ink = sheet.colours
    sheet.card(_GAP, top, sheet.size[0] - 2 * _GAP, _ANSWER + _TILE + _CAPTION, ink.card)
    accent = colours.get(answer.identity.label, ink.dim) if answer.identity.known else ink.dim
    sheet.card(_GAP + 14, top + 14, 12, 12, accent, radius=6)
    sheet.write(_GAP + 34, top + 20, answer.sentence(), 14, ink.ink, bold=True, room=sheet.size[0] - 4 * _GAP - 20)
    left, tiles = 2 * _GAP - 4, top + _ANSWER
    if answer.kind == "text":
        sheet.card(left, tiles, _TILE, _TILE, ink.track)
        lines = textwrap.wrap(f"“{answer.query}”", 17, max_lines=7, placeholder=" …")
        for number, words in enumerate(lines):
            y = tiles + _TILE // 2 + round((number - (len(lines) - 1) / 2) * 21)
            sheet.write(left + 12, y, words, 14, ink.ink, room=_TILE - 20)
    else:
        sheet.picture(left, tiles, finder.query(answer.query), accent)
    sheet.write(left, tiles + _TILE + 18, "query", 13, ink.dim, bold=True)
    if answer.kind == "image":
        sheet.write(left, tiles + _TILE + 40, answer.query, 10, ink.dim, room=_TILE)
    for place, hit in enumerate(answer.hits, start=1):
        x = left + _GAP + place * (_TILE + _GAP)
        sheet.picture(x, tiles, finder.gallery(hit.neighbour.path))
        _caption(sheet, x, tiles + _TILE, hit, colours.get(hit.neighbour.label, ink.dim))


def _caption(sheet: _Sheet, x: int, top: int, hit: Hit, colour: Colour) -> None:
    """Write a neighbour's label, score as a bar and a number, margin and path below its tile."""
    ink, row = sheet.colours, hit.neighbour
    sheet.card(x, top + 12, 12, 12, colour, radius=3)
    sheet.write(x + 19, top + 18, row.label, 13, ink.ink, bold=True, room=_TILE - 20)
    share = min(max(row.score, 0.0), 1.0)
    sheet.card(x, top + 31, _TILE, 5, ink.track, radius=2)
    sheet.card(x, top + 31, max(5, round(_TILE * share)), 5, colour, radius=2)
    margin = "" if hit.margin is None else f"   margin {hit.margin:+.3f}"
    sheet.write(x, top + 46, f"{row.score:.3f}{margin}", 11, ink.ink)
    sheet.write(x, top + 64, row.path, 10, ink.dim, room=_TILE)
