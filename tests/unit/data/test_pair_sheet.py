"""The sheet of pairs that look alike."""

from pathlib import Path

import numpy as np

from naruto_vision.io.images import image_or_none, write_image
from naruto_vision.viz.sheets import SheetPair, Tile, pair_sheet, read_tile

RED, GREEN = (200, 10, 10), (10, 160, 40)
X, Y = 18 + 9, 56 + 36  # of the first image, sheet pixels


def one(file: Path, name: str = "a.png") -> Tile:
    return Tile(read_tile(file), "train: ayame", name, GREEN)


def pair_of(folder: Path) -> SheetPair:
    write_image(folder / "a.png", np.full((20, 40, 3), RED, dtype=np.uint8))
    return SheetPair(one(folder / "a.png"), one(folder / "gone.png", "x" * 80), "2 of 256 bits differ")


def test_pairs_stand_in_rows_of_three(tmp_path: Path) -> None:
    pair = pair_of(tmp_path)
    one_pair, two, four = (pair_sheet([pair] * count) for count in (1, 2, 4))
    card = two.shape[1] - one_pair.shape[1]
    assert four.shape[1] == one_pair.shape[1] + 2 * card
    assert four.shape[0] - 56 == 2 * (one_pair.shape[0] - 56)  # two rows below one heading


def test_a_image_stands_whole_in_the_middle_of_its_tile(tmp_path: Path) -> None:
    sheet = pair_sheet([pair_of(tmp_path)])
    tile = sheet[Y : Y + 168, X : X + 168]
    assert (tile[44:124] == RED).all()  # as wide as the tile, half as high
    assert not (tile[:40] == RED).all(axis=2).any()


def test_a_image_that_is_gone_leaves_its_place(tmp_path: Path) -> None:
    sheet = pair_sheet([pair_of(tmp_path)])
    tile = sheet[Y : Y + 168, X + 176 : X + 344]
    assert not (tile == RED).all(axis=2).any()
    assert len(np.unique(tile.reshape(-1, 3), axis=0)) > 2  # a note
    assert image_or_none(tmp_path / "gone.png") is None
    (tmp_path / "broken.png").write_bytes(b"x")
    assert image_or_none(tmp_path / "broken.png") is None


def test_captions_carry_the_colour_of_the_class_and_stay_inside(tmp_path: Path) -> None:
    sheet = pair_sheet([pair_of(tmp_path)], "a heading", "light")
    assert (sheet[Y + 168 :] == GREEN).all(axis=2).sum() > 2 * 100
    assert (sheet[:, -18:] == sheet[0, 0]).all()
    assert sheet[0, 0].mean() > 200
