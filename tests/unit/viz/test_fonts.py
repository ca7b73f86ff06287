"""Which font a name is drawn with, and how it is spelt where no font has its letters."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen

from naruto_vision.viz import fonts
from naruto_vision.viz.fonts import font_folders, has_glyphs, letter, packaged_font, spell, system_fonts, text_font

NAME = "ナミ"
OWN = packaged_font(bold=True)


def write_font(path: Path, characters: str) -> Path:
    """Write a font that has some characters and nothing else, each a square."""
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, 600), (600, 600), (600, 0)):
        pen.lineTo(corner)
    pen.closePath()
    names = [".notdef", *(f"u{ord(character):04x}" for character in characters)]
    square = pen.glyph()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(character): f"u{ord(character):04x}" for character in characters})
    builder.setupGlyf(dict.fromkeys(names, square))
    builder.setupHorizontalMetrics(dict.fromkeys(names, (700, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Drawn", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    path.parent.mkdir(parents=True, exist_ok=True)
    builder.save(str(path))
    return path


def forget() -> None:
    for cached in (fonts.system_fonts, fonts.letter, fonts._font_with, fonts._opened):
        cached.cache_clear()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(fonts, "font_folders", lambda: [tmp_path, tmp_path / "absent"])
    forget()
    yield tmp_path
    forget()


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("text", ["Odran 0.91", "Zoë Müller", "Иван", "Ελένη", ""])
def test_what_the_packaged_font_has_is_drawn_with_it(text: str) -> None:
    assert letter(text, bold=True) == fonts.Lettering(text, OWN)
    assert letter(text).file == packaged_font(bold=False) != OWN


def test_a_system_font_helps_out(folder: Path) -> None:
    file = write_font(folder / "deep" / "Drawn.ttf", NAME + " 0.91")
    assert letter(f"{NAME} 0.91", bold=True) == fonts.Lettering(f"{NAME} 0.91", file)
    text, font = text_font(NAME, 20)
    assert text == NAME
    assert font.getmask(text).getbbox() is not None


def test_of_several_fonts_the_one_of_that_weight_is_taken(folder: Path) -> None:
    for name in ("Mincho-Regular.ttf", "Mincho-Bold.ttf", "SansCJK-Bold.otf", "SansCJK-Regular.otf"):
        write_font(folder / name, NAME)
    assert letter(NAME, bold=True).file.name == "SansCJK-Bold.otf"
    assert letter(NAME, bold=False).file.name == "SansCJK-Regular.otf"
    assert [file.name for file in system_fonts(bold=True)][:2] == ["SansCJK-Bold.otf", "Mincho-Bold.ttf"]


def test_a_font_without_all_of_a_name_does_not_count(folder: Path) -> None:
    write_font(folder / "Half.ttf", "ナ")
    write_font(folder / "NoDigits.ttf", NAME)
    assert letter(f"{NAME} 0.91", bold=True) == fonts.Lettering("nami 0.91", OWN)


def test_broken_fonts_and_fonts_of_boxes_are_passed_over(folder: Path) -> None:
    (folder / "Broken.ttf").write_bytes(b"no font")
    (folder / "readme.txt").write_text("no font either")
    write_font(folder / "LastResort.otf", NAME)
    assert [file.name for file in system_fonts(bold=False)] == ["Broken.ttf"]
    assert not has_glyphs(folder / "Broken.ttf", "a")
    assert letter(NAME, bold=True).text == "nami"


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("text", "spelt"),
    [
        ("ナミ", "nami"),
        ("さくら・ミ", "sakura·mi"),
        ("ガーラ", "ga-ra"),
        ("나미", "nami"),
        ("\uff21\uff42\uff11", "Ab1"),
        ("「ナ」、ミ。", "“na”, mi."),
        ("疾風", "\\u75be\\u98a8"),
        ("𠮷", "\\U00020bb7"),
        ("Bo ナ 7", "Bo na 7"),
    ],
)
def test_without_a_font_a_name_is_spelt(text: str, spelt: str) -> None:
    assert letter(text, bold=True) == fonts.Lettering(spelt, OWN)
    assert spell(text, OWN) == spelt


@pytest.mark.usefixtures("folder")
def test_control_characters_become_blanks() -> None:
    assert letter("a\nb\tc\x00", bold=True).text == "a b c "


def test_a_search_through_all_fonts_is_made_once_a_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_font(folder / "Drawn.ttf", NAME + " 0.123456789")
    asked: list[Path] = []

    def counted(path: Path, text: str) -> bool:
        asked.append(path)
        return has_glyphs(path, text)

    for number in range(20):
        write_font(folder / f"A{number:02}.ttf", "a")
    monkeypatch.setattr(fonts, "has_glyphs", counted)
    for score in range(10, 60):
        assert letter(f"{NAME} 0.{score}", bold=True).file == file
    assert sum(path.name.startswith("A") for path in asked) == 20


def test_fonts_are_looked_for_where_systems_keep_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "/mine")
    monkeypatch.setenv("XDG_DATA_DIRS", "/ours:/theirs")
    monkeypatch.setenv("WINDIR", "/win")
    folders = font_folders()
    assert [Path("/mine/fonts"), Path("/ours/fonts"), Path("/theirs/fonts")] == folders[4:7]
    assert Path("/win/Fonts") in folders
    assert Path("/System/Library/Fonts") in folders
