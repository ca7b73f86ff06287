"""The contact sheet of a search: each query with its neighbours, their labels, scores and margins."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from naruto_vision.files.images import picture_or_none
from naruto_vision.gallery.pictures import find_picture
from naruto_vision.records import Picture
from naruto_vision.scenes.contact_sheet import Theme
from naruto_vision.scenes.lookup import Answer, Hit
from naruto_vision.scenes.overlay import UNLISTED, Colour
from naruto_vision.scenes.tile_rows import Tile, TileRow, draw_rows


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
        picture = None if found is None else picture_or_none(found)
        self.lost += picture is None
        return picture


def draw_sheet(
    answers: Sequence[Answer],
    finder: PictureFinder,
    colours: Mapping[str, Colour],
    title: str,
    theme: Theme = "dark",
) -> Picture:
    """Draw a contact sheet: a row of tiles for each query.

    Args:
        answers: What the gallery said.
        finder: Finds the pictures.
        colours: Label to RGB.
        title: The sheet's heading.
        theme: Dark or light ground.

    Returns:
        Shape (H, W, 3), uint8, RGB.
    """
    return draw_rows([_row(answer, finder, colours) for answer in answers], title, theme)


def _row(answer: Answer, finder: PictureFinder, colours: Mapping[str, Colour]) -> TileRow:
    accent = colours.get(answer.identity.label) if answer.identity.known else None
    others = [_tile(hit, finder, colours) for hit in answer.hits]
    if answer.kind == "text":
        return TileRow(answer.sentence(), accent, Tile(None, "query"), others, quote=answer.query)
    return TileRow(answer.sentence(), accent, Tile(picture_or_none(answer.query), "query", answer.query), others)


def _tile(hit: Hit, finder: PictureFinder, colours: Mapping[str, Colour]) -> Tile:
    row = hit.neighbour
    margin = "" if hit.margin is None else f"margin {hit.margin:+.3f}"
    picture = finder.gallery(row.path)
    return Tile(picture, row.label, row.path, colours.get(row.label, UNLISTED), row.score, margin)
