"""Cards of explained names: a static page, and a sheet for TensorBoard."""

import base64
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from string import Template

import cv2

from naruto_vision.io.atomic import write_json, write_text
from naruto_vision.io.images import encode_image, shrink
from naruto_vision.io.text import score_text
from naruto_vision.records import Explanation, Heat, ImageArray
from naruto_vision.viz.overlay import UNLISTED, Colour, hex_colour
from naruto_vision.viz.panels import heat
from naruto_vision.viz.scene_page import escaped
from naruto_vision.viz.sheets import Tile, TileRow, draw_rows

_SIDE = 224  # pixels of an inlined image
_MOST = 6  # labels of a table


def over(image: ImageArray, found: Heat | None) -> ImageArray:
    """Lay a map over an image (H, W, 3), uint8, scaled down to at most 224 pixels a side."""
    small = shrink(image, _SIDE)
    if found is None:
        return small
    return heat(small, cv2.resize(found.values, small.shape[1::-1], interpolation=cv2.INTER_LINEAR))


def write_explained(
    path: Path, title: str, found: Mapping[int | str, Explanation], colours: Mapping[str, Colour]
) -> None:
    """Write the explanations of regions, by their numbers, or of queries: one line of JSON beside a page.

    The page is one HTML file that loads nothing. It is written last.
    """
    names = [{"of": what, **each.as_json()} for what, each in found.items()]
    write_json(path.with_suffix(".json"), {"source": title, "names": names}, indent=None)
    articles = "\n".join(_article(what, each, colours) for what, each in found.items())
    page = Template(files(__package__).joinpath("explain_page.html").read_text(encoding="utf-8"))
    nothing = "<p>No region of this scene is shown.</p>"
    write_text(path, page.substitute(title=escaped(title), articles=articles or nothing))


def _heading(what: int | str) -> str:
    return f"region {what}" if isinstance(what, int) else what


def _article(what: int | str, found: Explanation, colours: Mapping[str, Colour]) -> str:
    who = found.identity
    figures = []
    if found.image is not None:
        figures = [_figure(found.image, None, "searched"), _figure(found.image, found.heat, _caption(found.heat))]
    for place, (row, image) in enumerate(zip(who.neighbours, found.images, strict=True)):
        named = f"{row.label} {score_text(row.score)} {row.path}"
        figures.append(_figure(image, None, named))
        if place == found.matched and found.matched_heat is not None:
            figures.append(_figure(image, found.matched_heat, _caption(found.matched_heat)))
    facts = {"score": who.score, "threshold": found.threshold, "margin": who.margin, "p-value": who.p_value}
    tables = [_table("evidence", {key: value for key, value in facts.items() if value is not None})]
    tables += [_table(name, own) for name, own in (("votes", found.votes), ("classifier", found.classes)) if own]
    colour = hex_colour(colours.get(who.name, UNLISTED))
    return (
        f'<article style="--c: {colour}"><h2>{escaped(f"{_heading(what)}: {who.name}")}</h2><p>{escaped(found.why)}</p>'
        f"<div>{''.join(figures)}</div><div>{''.join(tables)}</div></article>"
    )


def _caption(found: Heat | None) -> str:
    return f"red: the score falls by up to {found.largest:.3f} without this patch" if found else ""


def _figure(image: ImageArray | None, found: Heat | None, caption: str) -> str:
    shown = "<p>image not found</p>"
    if image is not None:
        data = base64.b64encode(encode_image(over(image, found), ".jpg", 85)).decode("ascii")
        shown = f'<img src="data:image/jpeg;base64,{data}" alt="">'
    return f"<figure>{shown}<figcaption>{escaped(caption)}</figcaption></figure>"


def _table(name: str, values: Mapping[str, float]) -> str:
    rows = "".join(
        f"<tr><td>{escaped(key)}</td><td>{score_text(value)}</td></tr>" for key, value in [*values.items()][:_MOST]
    )
    return f"<table><tr><th colspan=2><b>{name}</b></th></tr>{rows}</table>"


def explained_sheet(
    title: str, explained: Mapping[int | str, Explanation], colours: Mapping[str, Colour]
) -> ImageArray:
    """Draw the same as a contact sheet, the maps over the images: (H, W, 3), uint8."""
    rows = []
    for what, found in explained.items():
        others = [
            Tile(
                None if image is None else over(image, found.matched_heat if place == found.matched else None),
                row.label,
                row.path,
                colours.get(row.label, UNLISTED),
                row.score,
            )
            for place, (row, image) in enumerate(zip(found.identity.neighbours, found.images, strict=True))
        ]
        first = Tile(None if found.image is None else over(found.image, found.heat), "searched")
        rows.append(TileRow(f"{_heading(what)}: {found.why}", colours.get(found.identity.name), first, others))
    return draw_rows(rows, title, "light")
