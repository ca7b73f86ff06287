"""What every contact sheet shares: ground, cards, tiles, captions and margins."""

import numpy as np
import pytest

from naruto_vision.records import ImageArray, Mask
from naruto_vision.viz.sheets import GAP, HEAD, THEMES, TILE, ContactSheet, Tile, TileRow, draw_caption, draw_rows

RED, BLUE = (200, 10, 10), (20, 40, 200)


def plain(height: int, width: int) -> ImageArray:
    return np.full((height, width, 3), RED, dtype=np.uint8)


def reds(sheet: ImageArray) -> Mask:
    return np.asarray((sheet == RED).all(axis=2))


def row(others: int = 2, **changes: object) -> TileRow:
    tiles = [
        Tile(plain(20, 20), "Koba", f"folder/{number}.png", BLUE, 0.5, "margin +0.100") for number in range(others)
    ]
    values = {"heading": "who", "accent": BLUE, "first": Tile(plain(20, 20), "query", "q.png"), "others": tiles}
    return TileRow(**{**values, **changes})  # type: ignore[arg-type]  # a keyword a field


@pytest.mark.parametrize(("shape", "size"), [((10, 40), (25, 100)), ((40, 10), (100, 25)), ((6, 300), (2, 100))])
def test_a_image_stands_whole_in_the_middle_of_its_tile(shape: tuple[int, int], size: tuple[int, int]) -> None:
    sheet = ContactSheet(140, 140, "", "dark")
    sheet.tile(20, 20, 100, plain(*shape))
    where = np.argwhere(reds(sheet.finished()))
    middle = (where.min(axis=0) + where.max(axis=0) + 1) / 2
    assert np.abs(middle - 70).max() <= 1
    assert np.abs(where.max(axis=0) + 1 - where.min(axis=0) - size).max() <= 1


def test_a_tile_has_round_corners_and_may_have_a_frame() -> None:
    sheet = ContactSheet(140, 140, "", "dark")
    sheet.tile(20, 20, 100, plain(10, 10), BLUE)
    drawn = sheet.finished()
    assert (drawn[20, 20] == THEMES["dark"].ground).all()
    assert (drawn[21, 70] == BLUE).all()
    assert (drawn[70, 70] == RED).all()


def test_a_image_that_is_not_there_leaves_a_note() -> None:
    sheet = ContactSheet(140, 140, "", "light")
    sheet.tile(20, 20, 100, plain(1, 3000))  # too thin to be seen, and no mistake
    sheet.tile(20, 20, 100, None)
    tile = sheet.finished()[20:120, 20:120]
    assert (tile == THEMES["light"].dim).all(axis=2).any()


def test_long_texts_stay_in_their_room() -> None:
    for words in ("a name that is far too long for its place", "folder/folder/folder/folder/name.png"):
        sheet = ContactSheet(200, 40, "", "dark")
        assert sheet.write(10, 20, words, 13, BLUE, room=60) <= 60
        columns = np.flatnonzero((sheet.finished() != THEMES["dark"].ground).any(axis=(0, 2)))
        assert columns.min() >= 8
        assert columns.max() <= 71


def test_a_path_loses_its_beginning_and_a_name_its_end() -> None:
    def drawn(text: str, room: int | None = None) -> ImageArray:
        sheet = ContactSheet(400, 40, "", "dark")
        sheet.write(10, 20, text, 13, BLUE, room=room)
        return sheet.finished()

    assert (drawn("aaaa/aaaa/aaaa/b.png", 60) == drawn("…/b.png")).mean() > 0.97
    assert (drawn("b.png", 60) == drawn("b.png")).all()


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("others", [0, 1, 3, 8])
def test_rows_of_any_length_keep_the_margins(theme: str, others: int) -> None:
    sheet = draw_rows([row(others), row()], "a title " * 40, theme)  # type: ignore[arg-type]  # one of two words
    assert (sheet[:, -GAP:] == sheet[0, 0]).all()
    assert (sheet[:, :GAP] == sheet[0, 0]).all()
    assert tuple(sheet[0, 0]) == THEMES[theme].ground  # type: ignore[index]  # one of two words
    assert tuple(sheet[HEAD + 80, GAP + 4]) == THEMES[theme].card  # type: ignore[index]  # one of two words


def test_a_row_shows_every_image_once() -> None:
    one = TILE * TILE
    assert reds(draw_rows([row(3)], "")).sum() == pytest.approx(4 * one, rel=0.05)  # less a frame and corners
    assert reds(draw_rows([row(0, quote="a boy with an orange cap")], "")).sum() == 0


@pytest.mark.parametrize(("score", "length"), [(0.5, 50), (1.0, 100), (-0.3, 5), (0.0, 5)])
def test_a_bar_is_as_long_as_its_score(score: float, length: int) -> None:
    sheet = ContactSheet(160, 120, "", "dark")
    draw_caption(sheet, 10, 10, 100, Tile(None, "", "", BLUE, score))
    bar = (sheet.finished()[43] == BLUE).all(axis=1)
    assert abs(int(bar.sum()) - length) <= 3


def test_a_tile_without_a_score_has_no_bar() -> None:
    sheet = ContactSheet(TILE + 20, 120, "", "dark")
    draw_caption(sheet, 10, 10, TILE, Tile(None, "query", "q.png"))
    assert not (sheet.finished() == THEMES["dark"].track).all(axis=2).any()
