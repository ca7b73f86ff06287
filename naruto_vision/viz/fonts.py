"""Fonts for labels of any script, or a transliteration.

Names of characters are often Japanese, Chinese or Korean, for which DejaVu has no glyphs; it draws empty boxes.
"""

import importlib.util
import os
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from PIL import ImageFont

if TYPE_CHECKING:
    from matplotlib.ft2font import FT2Font

_PLAIN_SIGNS = {"ー": "-", "・": "·", "、": ", ", "。": ".", "「": "“", "」": "”", "〜": "~"}
_SOUNDS = ("HIRAGANA LETTER ", "KATAKANA LETTER ", "HANGUL SYLLABLE ")
_SUFFIXES = frozenset({".ttf", ".ttc", ".otf"})
_CLEAR = ("sans", "gothic", "hei", "han", "fallback", "msyh", "meiryo", "malgun", "unicode")
"""Parts of the file names of legible fonts with many scripts, which are tried first."""


class Lettering(NamedTuple):
    """A text with missing glyphs transliterated, and a font that has all of its glyphs."""

    text: str
    file: Path


def font_folders() -> list[Path]:
    """Return the font folders of the operating system, the user's own first."""
    home = Path.home()
    shares = [os.environ.get("XDG_DATA_HOME") or str(home / ".local/share")]
    shares += (os.environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share").split(":")
    folders = [home / ".fonts", home / "Library/Fonts", Path("/Library/Fonts"), Path("/System/Library/Fonts")]
    windows = [(os.environ.get("LOCALAPPDATA"), "Microsoft/Windows/Fonts"), (os.environ.get("WINDIR"), "Fonts")]
    folders += [Path(share) / "fonts" for share in shares if share]
    return folders + [Path(base) / rest for base, rest in windows if base]


@lru_cache(maxsize=2)
def system_fonts(*, bold: bool) -> tuple[Path, ...]:
    """List the fonts of this system."""

    def order(path: Path) -> tuple[bool, bool, str]:
        name = path.name.lower()
        return ("bold" in name) != bold, not any(word in name for word in _CLEAR), str(path)

    return tuple(sorted(_font_files(), key=order))


def _font_files() -> Iterator[Path]:
    for folder in font_folders():
        for path in folder.rglob("*") if folder.is_dir() else ():
            if path.suffix.lower() in _SUFFIXES and not path.name.startswith("LastResort"):  # its glyphs are all boxes
                yield path


def packaged_font(*, bold: bool) -> Path:
    """Return the font that Matplotlib ships, which every installation has."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return _matplotlib_folder() / "mpl-data" / "fonts" / "ttf" / name


@lru_cache(maxsize=1)
def _matplotlib_folder() -> Path:
    """Find Matplotlib without importing it, which takes longer than drawing a scene's names."""
    spec = importlib.util.find_spec("matplotlib")
    return Path((spec.origin if spec else None) or "matplotlib").parent


@lru_cache(maxsize=32)
def _opened(file: Path) -> "FT2Font | None":
    from matplotlib.ft2font import FT2Font

    try:
        return FT2Font(str(file))
    except (OSError, RuntimeError):  # a broken or unreadable font is skipped
        return None


def has_glyphs(file: Path, text: str) -> bool:
    """Return whether a font has a glyph for every character of a text."""
    font = _opened(file)
    return font is not None and all(character.isspace() or font.get_char_index(ord(character)) for character in text)


@lru_cache(maxsize=512)
def letter(text: str, *, bold: bool = False) -> Lettering:
    """Find a font for a text; without one, transliterate the text."""
    shown = "".join(character if character.isprintable() else " " for character in text)
    own = packaged_font(bold=bold)
    if shown.isascii():
        return Lettering(shown, own)  # it has all of ASCII and need not be opened
    lacking = "".join(sorted({character for character in shown if not has_glyphs(own, character)}))
    file = _font_with(lacking, bold=bold) if lacking else own
    if file is not None and has_glyphs(file, shown):
        return Lettering(shown, file)
    return Lettering(spell(shown, own), own)


@lru_cache(maxsize=512)
def _font_with(characters: str, *, bold: bool) -> Path | None:
    """Find a font that has all given characters; the cache key leaves out scores, which always differ."""
    return next((file for file in system_fonts(bold=bold) if has_glyphs(file, characters)), None)


def spell(text: str, file: Path) -> str:
    """Transliterate the characters that a font lacks."""
    return "".join(character if has_glyphs(file, character) else _spelt(character, file) for character in text)


def _spelt(character: str, file: Path) -> str:
    simple = unicodedata.normalize("NFKD", character)
    name = unicodedata.name(character, "")
    if character in _PLAIN_SIGNS:
        return _PLAIN_SIGNS[character]
    if name.startswith(_SOUNDS):
        return name.rpartition(" ")[2].lower()
    if simple != character and has_glyphs(file, simple):
        return simple
    return character.encode("ascii", "backslashreplace").decode("ascii")


@lru_cache(maxsize=64)
def _font(file: Path, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(file), size)


def text_font(text: str, size: int, *, bold: bool = True) -> tuple[str, ImageFont.FreeTypeFont]:
    """Return a text with missing glyphs transliterated, and its font."""
    found = letter(text, bold=bold)
    return found.text, _font(found.file, size)
