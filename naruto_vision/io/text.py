"""Text for a terminal and for CSV files: labels and paths of unknown origin, numbers and times."""

import re
from collections.abc import Iterable, Sequence

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udc7f\udd00-\udfff]")
_CLOCK = re.compile(r"(?:(?:(\d{1,6}):)?(\d{1,6}):)?(\d{1,9}(?:\.\d{1,9})?)")
_QUOTED = re.compile(r'[=+\-@\t]|.*[",\r\n]', re.DOTALL)


def printable(text: str, *, one_line: bool = False) -> str:
    r"""Replace control characters, other than tabs and line feeds, by their escapes, which JSON has too.

    A label or a path can thereby not move the cursor, change the title of a terminal, or reverse the text behind it.
    ``one_line`` escapes line feeds too, of names. Lone surrogates, which JSON may have, are escaped; not those that
    stand for the bytes of a file's name.

    Examples:
        >>> printable("red \x1b[31mhat\ud800")
        'red \\u001b[31mhat\\ud800'
    """
    text = text.replace("\n", "\\n") if one_line else text
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def csv_text(rows: Iterable[Iterable[object]]) -> str:
    r"""Return rows as CSV with line feeds: every text is kept as it is, so that programs read the same names again.

    Text that a spreadsheet would take for a formula is quoted, as is text with commas, quotes or line ends.

    Examples:
        >>> csv_text([["label", "count"], ["=1+1", -2]])
        'label,count\n"=1+1",-2\n'
    """
    return "".join(",".join(map(_cell, row)) + "\n" for row in rows)


def _cell(value: object) -> str:
    if not isinstance(value, str):
        return "" if value is None else str(value)
    return '"' + value.replace('"', '""') + '"' if _QUOTED.match(value) else value


def score_text(score: float) -> str:
    """Write a score with two decimals, or two significant digits below 0.1, as whitened cosines of few images are.

    Examples:
        >>> score_text(0.876), score_text(0.00632), score_text(-0.004)
        ('0.88', '0.0063', '-0.004')
    """
    return f"{score:.2f}" if abs(score) >= 0.1 or score == 0 else f"{score:.2g}"


def quantity(number: int, noun: str) -> str:
    """Write a number and what it counts, in the singular or plural.

    Examples:
        >>> quantity(1, "video"), quantity(0, "entry")
        ('1 video', '0 entries')
    """
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number} {noun if number == 1 else plural}"


def abbreviate(names: Sequence[str], most: int = 3) -> str:
    """Return the first names of a list, and how many more there are.

    Examples:
        >>> abbreviate(["a", "b", "c"], 2)
        'a, b and 1 more'
    """
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def time_code(seconds: float, fps: float | None = None) -> str:
    """Write seconds as HH:MM:SS.mmm, or as HH:MM:SS:FF of a frame rate, as edit lists do.

    Examples:
        >>> time_code(3725.5), time_code(3725.5, 24)
        ('01:02:05.500', '01:02:05:12')
    """
    unit = 1000 if fps is None else max(1, round(fps))
    whole, part = divmod(round(seconds * unit), unit)
    clock = f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}"
    return f"{clock}.{part:03}" if fps is None else f"{clock}:{part:02}"


def clock_seconds(text: str) -> float | None:
    """Read a time, "90.5", "1:30.5" or "0:01:30.5"; None for other text."""
    found = _CLOCK.fullmatch(text)
    return None if found is None else int(found[1] or 0) * 3600 + int(found[2] or 0) * 60 + float(found[3])
