"""The canvas of every contact sheet: one ground, one kind of card, tile, caption and margin, dark or light."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from PIL import Image, ImageDraw

from naruto_vision.records import ImageArray
from naruto_vision.viz.fonts import text_font
from naruto_vision.viz.overlay import Colour

Theme: TypeAlias = Literal["dark", "light"]

FINE = 2
"""Everything is drawn so many times as large and scaled down, which rounds corners and letters smoothly."""
GAP = 18
"""Sheet pixels between cards, and from a card's edge to what is in it."""
HEAD = 56
"""Height of the heading in sheet pixels."""
RADIUS = 12
"""Of the corners of cards and tiles, in sheet pixels."""


@dataclass(frozen=True)
class SheetColours:
    """What a theme consists of, each RGB.

    Args:
        ground: Behind everything.
        card: Of a card.
        ink: Of what matters.
        dim: Of what is there to be looked up.
        track: Behind bars, and where an image leaves room.
    """

    ground: Colour
    card: Colour
    ink: Colour
    dim: Colour
    track: Colour


THEMES: Mapping[Theme, SheetColours] = {
    "dark": SheetColours((22, 24, 29), (34, 37, 44), (240, 242, 245), (150, 156, 168), (58, 62, 72)),
    "light": SheetColours((246, 247, 249), (255, 255, 255), (28, 30, 36), (112, 118, 130), (224, 227, 233)),
}


class ContactSheet:
    """A canvas with a heading; every place and length is in sheet pixels.

    Args:
        width: Of the sheet.
        height: Of the sheet.
        title: The heading; "" for none.
        theme: Dark or light ground.
    """

    def __init__(self, width: int, height: int, title: str, theme: Theme) -> None:
        self.size = (width, height)
        self.colours = THEMES[theme]
        self._image = Image.new("RGB", (width * FINE, height * FINE), self.colours.ground)
        self._pen = ImageDraw.Draw(self._image)
        self.write(GAP + 4, HEAD // 2, title, 16, self.colours.dim, room=width - 2 * GAP - 4)

    def card(self, x: int, y: int, width: int, height: int, fill: Colour, *, radius: int = RADIUS) -> None:
        """Draw a filled box with round corners.

        Args:
            x: Its left edge.
            y: Its top edge.
            width: Its width.
            height: Its height.
            fill: RGB.
            radius: Of its corners.
        """
        box = tuple(value * FINE for value in (x, y, x + width, y + height))
        self._pen.rounded_rectangle((box[0], box[1], box[2] - 1, box[3] - 1), radius * FINE, fill=fill)

    def write(
        self, x: int, y: int, text: str, size: int, ink: Colour, *, bold: bool = False, room: int | None = None
    ) -> int:
        """Write one line.

        Args:
            x: Where it begins.
            y: Where its middle lies.
            text: Any text; what no font has is spelt out.
            size: Height of the letters.
            ink: RGB.
            bold: Heavy strokes.
            room: Longest length; a longer text loses its end, and a path its beginning.

        Returns:
            How long it became.
        """
        text, font = text_font(text, size * FINE, bold=bold)
        while room is not None and len(text) > 2 and self._pen.textlength(text, font=font) > room * FINE:
            text = "…" + text[2:] if "/" in text and " " not in text else text[:-2] + "…"
        self._pen.text((x * FINE, y * FINE), text, font=font, fill=ink, anchor="lm")
        return round(self._pen.textlength(text, font=font) / FINE)

    def tile(self, x: int, y: int, side: int, image: ImageArray | None, frame: Colour | None = None) -> None:
        """Put an image into a square, whole and with round corners.

        Args:
            x: Its left edge.
            y: Its top edge.
            side: Of the square.
            image: Shape (H, W, 3), uint8, RGB; None leaves a note that it is not there.
            frame: RGB of a line around it; None for none.
        """
        fine = side * FINE
        square = Image.new("RGB", (fine, fine), self.colours.track)
        if image is not None:
            front = Image.fromarray(image)
            scale = fine / max(front.size)
            size = (max(1, round(front.width * scale)), max(1, round(front.height * scale)))
            resized = front if size == front.size else front.resize(size, Image.Resampling.LANCZOS)
            square.paste(resized, ((fine - size[0]) // 2, (fine - size[1]) // 2))
        mask = Image.new("L", square.size)
        ImageDraw.Draw(mask).rounded_rectangle((0, 0, fine - 1, fine - 1), RADIUS * FINE, fill=255)
        self._image.paste(square, (x * FINE, y * FINE), mask)
        if image is None:
            self._note_absence(x * FINE + fine / 2, y * FINE + fine / 2)
        if frame is not None:
            box = (x * FINE, y * FINE, x * FINE + fine - 1, y * FINE + fine - 1)
            self._pen.rounded_rectangle(box, RADIUS * FINE, outline=frame, width=3 * FINE)

    def _note_absence(self, x: float, y: float) -> None:
        words, font = text_font("image", 13 * FINE, bold=False)
        for line, step in ((words, -10), ("not found", 10)):
            self._pen.text((x, y + step * FINE), line, font=font, fill=self.colours.dim, anchor="mm")

    def finished(self) -> ImageArray:
        """Return the sheet: shape (height, width, 3), uint8, RGB."""
        return np.array(self._image.reduce(FINE))
