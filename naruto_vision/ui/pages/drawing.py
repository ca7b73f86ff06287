"""SVG over images: outlines of regions with their names, and how large an image is shown."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from naruto_vision.ui.service import StoredFile

GREEN = "#1fa34a"  # of points on an object


def stage_style(file: StoredFile, beside: int = 170) -> str:
    """Return the style of an element that shows a whole image; ``beside`` is the height of what is above it."""
    return f"max-width: min(1000px, calc((100vh - {beside}px) * {file.width / file.height:.4f}))"


def screen_pixel(file: StoredFile) -> float:
    """Return about how many pixels of an image a pixel of the screen shows."""
    return max(file.width, file.height) / 900


def outlines(regions: Sequence[Mapping[str, Any]], chosen: int | None, kind: str = "nv-region") -> str:
    """Draw regions with index, area, path and colour, the smallest on top; the id of each is ``region-<index>``."""
    parts = []
    for each in sorted(regions, key=lambda each: -each["area"]):
        on = " nv-on" if each["index"] == chosen else ""
        parts.append(
            f'<path id="region-{each["index"]}" class="{kind}{on}" d="{each["path"]}" '
            f'fill="{each["colour"]}" stroke="{each["colour"]}"/>'
        )
    return "".join(parts)


def layer(file: StoredFile, shapes: str) -> str:
    """Place shapes, in pixels of an image, over its copy for a browser."""
    return f'<g transform="scale({1 / file.zoom})" style="--nv-unit:{screen_pixel(file):.3f}px">{shapes}</g>'


def point_mark(x: float, y: float, unit: float, colour: str = GREEN) -> str:
    """Mark a point; ``unit`` is the size of a pixel of the screen."""
    place = f'cx="{x}" cy="{y}" r="{6 * unit:.2f}" stroke-width="{2 * unit:.2f}"'
    return f'<circle class="nv-point" {place} fill="{colour}" stroke="#fff"/>'


def name_tag(text: str, x: float, y: float) -> str:
    """Write a name at a point."""
    return f'<text class="nv-label" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'


def outlined_image(address: str, size: tuple[int, int], shapes: Sequence[tuple[str, str]]) -> str:
    """Return an image with the paths and colours of shapes over it, as HTML; ``size`` is its width and height."""
    paths = "".join(
        f'<path d="{path}" fill="{colour}" fill-opacity=".4" stroke="{colour}" stroke-width="3" fill-rule="evenodd"/>'
        for path, colour in shapes
    )
    box = f'viewBox="0 0 {size[0]} {size[1]}" preserveAspectRatio="xMidYMid meet"'
    svg = f'<svg {box} style="position:absolute;inset:0;width:100%;height:100%">{paths}</svg>'
    return f'<div style="position:relative"><img alt="" src="{address}">{svg}</div>'
