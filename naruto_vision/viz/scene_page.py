"""``index.html``: a static page of searched scenes with their overlays and names, and a filter by name."""

import html
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

from naruto_vision.io.atomic import atomic_file
from naruto_vision.io.text import score_text
from naruto_vision.records import UNKNOWN
from naruto_vision.viz.overlay import UNLISTED, Colour, hex_colour

_NOTHING = "nothing shown"


@dataclass(frozen=True)
class SceneCard:
    """One scene of the page; files are relative to the page, and "" for none."""

    scene: str
    overlay: str
    document: str
    shown: Sequence[tuple[str, float]]  # name and score of each region of the overlay, best first
    regions: int = 0
    explained: str = ""


def write_scene_page(
    path: Path,
    title: str,
    cards: Callable[[], Iterable[SceneCard]],
    refused: Sequence[tuple[str, str]],
    colours: Mapping[str, Colour],
    links: Sequence[str] = (),
) -> None:
    """Write the page; the cards are read twice, one at a time, so that any number of scenes fits in memory."""
    names: Counter[str] = Counter()
    scenes = regions = shown = named = 0
    for card in cards():
        names.update({name for name, _ in card.shown} or {_NOTHING})
        scenes, regions, shown = scenes + 1, regions + card.regions, shown + len(card.shown)
        named += sum(name != UNKNOWN for name, _ in card.shown)
    order = sorted(names, key=lambda name: (name == _NOTHING, name == UNKNOWN, name.casefold(), name))
    number = {name: index for index, name in enumerate(order)}
    counts = f"{scenes} scenes searched, {len(refused)} could not be read; {shown} of {regions} regions shown: "
    parts = {
        "TITLE": escaped(title),
        "COUNTS": f"{counts}{named} named, {shown - named} unknown",
        "LINKS": " · ".join(f'<a href="{_url(link)}">{escaped(link)}</a>' for link in links),
        "REFUSED": _refused(refused),
        "NAMES": "".join(
            f'<button type="button" value="{number[name]}" aria-pressed="false">{_dot(name, colours)}{escaped(name)} '
            f"<small>{names[name]}</small></button>"
            for name in order
        ),
    }
    page = files(__package__).joinpath("scene_page.html").read_text(encoding="utf-8")
    before, _, after = page.partition("%CARDS%")
    for key, value in parts.items():  # the filter is in the first part, and values are not searched for later keys
        before = before.replace(f"%{key}%", value.replace("%", "&#37;"))
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8") as out:
        out.write(before)
        out.writelines(_article(card, number, colours) for card in cards())
        out.write(after)


def _article(card: SceneCard, number: Mapping[str, int], colours: Mapping[str, Colour]) -> str:
    own = " ".join(str(number[name]) for name in dict.fromkeys(name for name, _ in card.shown) or [_NOTHING])
    scene = escaped(card.scene)
    image = f'<img src="{_url(card.overlay)}" alt="{scene}" loading="lazy" decoding="async">' if card.overlay else ""
    link = f'<a href="{_url(card.overlay)}">{image}</a>' if card.overlay else ""
    items = "".join(
        f"<li>{_dot(name, colours)}{escaped(name)} <small>{score_text(score)}</small></li>"
        for name, score in card.shown
    )
    why = f' · <a href="{_url(card.explained)}">why these names</a>' if card.explained else ""
    document = f'<a href="{_url(card.document)}" aria-label="JSON of {scene}">JSON</a>'
    rest = f"<p>{len(card.shown)} of {card.regions} regions shown · {document}{why}</p>"
    return f'<article data-names="{own}">{link}<div><h2>{scene}</h2><ul>{items}</ul>{rest}</div></article>\n'


def _refused(refused: Sequence[tuple[str, str]]) -> str:
    if not refused:
        return ""
    items = "".join(
        f"<li>{escaped(reason if scene in reason else f'{scene}: {reason}')}</li>" for scene, reason in refused
    )
    return f"<details open><summary>Could not be read: {len(refused)}</summary><ul>{items}</ul></details>"


def _dot(name: str, colours: Mapping[str, Colour]) -> str:
    colour = hex_colour(colours.get(name, UNLISTED))
    return f'<span class="dot" style="--c: {colour}"></span>' if name != _NOTHING else ""


def escaped(value: str) -> str:
    """Escape a text for HTML; characters that are not printable are shown as escapes."""
    shown = (each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in value)
    return html.escape("".join(shown))


def _url(path: str) -> str:
    return quote(os.fsencode(path))
