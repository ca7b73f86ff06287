"""The part of ``data audit`` that looks through an encoder: ``--encoder``."""

import argparse
import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from naruto_vision.cli.console import cosine, progress, whole_number
from naruto_vision.cli.gallery import add_encoder_options

if TYPE_CHECKING:
    from naruto_vision.data.label_check import CheckedLabel, VectorAudit
    from naruto_vision.data.leaks import Audit
    from naruto_vision.encoders.base import Encoder
    from naruto_vision.viz.contact_sheet import Theme
    from naruto_vision.viz.overlay import Colour
    from naruto_vision.viz.tile_rows import TileRow

_SHEET_ROWS = 12
_SHEET_NEIGHBOURS = 5
_LISTED = 10


def add_vector_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options.

    Args:
        parser: The parser of ``data audit``.
    """
    add_encoder_options(parser, without="none, only pixels and names are compared")
    parser.add_argument(
        "--neighbours", type=whole_number, default=10, help="nearest images that vote on a class (default: 10)"
    )
    parser.add_argument(
        "--near-cosine", type=cosine, default=0.98, help="cosine from which two are near copies (default: 0.98)"
    )


def open_vector_encoder(arguments: argparse.Namespace) -> "Encoder | None":
    """Open the encoder before anything else is done; None where none was named.

    Args:
        arguments: What ``add_vector_options`` declared.

    Raises:
        InputError: If it cannot be opened.
    """
    if not arguments.encoder:
        return None
    from naruto_vision.encoders.opening import open_encoder

    return open_encoder(arguments.encoder, arguments.pretrained)


def look_through(arguments: argparse.Namespace, encoder: "Encoder", found: "Audit") -> "VectorAudit":
    """Embed the images and hold each against its neighbours.

    Args:
        arguments: What ``add_vector_options`` declared.
        encoder: The encoder.
        found: The audit of pixels and names.

    Raises:
        InputError: If there are no two images.
    """
    from naruto_vision.data.label_check import audit_vectors, embed_items

    items = found.items.items
    with progress("embedding images", len({items[place].file for place in found.seen.looks})) as advance:
        places, vectors = embed_items(items, found.seen, encoder, advance)
    return audit_vectors(
        items, places, vectors, neighbours=max(1, arguments.neighbours), near_cosine=arguments.near_cosine
    )


def vector_notes(found: "Audit", seen: "VectorAudit") -> Iterator[str]:
    """Say what was found, the likeliest mistakes one by one.

    Args:
        found: The audit of pixels and names.
        seen: What the encoder sees.

    Yields:
        Plain text lines.
    """
    suspects, known = seen.suspects, {frozenset((pair.first, pair.second)) for pair in found.alike}
    yield (
        f"{len(suspects)} of {len(seen.checked)} images lie among images of another class; "
        f"{seen.neighbours} nearest asked" + (", the likeliest mistakes first:" if suspects else "")
    )
    for one in suspects[:_LISTED]:
        item = seen.items[one.place]
        yield f"  {item.part} {item.row.path}: {item.row.label}, but {one.votes[one.rival]} are {one.rival}"
    if len(suspects) > _LISTED:
        yield f"  and {len(suspects) - _LISTED} more"
    new = sum(frozenset((first, other.place)) not in known for first, other in seen.near)
    yield (
        f"{len(seen.near)} pairs of different parts have a cosine of {seen.near_cosine:g} or more"
        + f", {new} of which pixels do not show" * bool(seen.near)
    )


def write_vector_files(found: "Audit", seen: "VectorAudit", folder: Path, theme: "Theme") -> Iterator[str]:
    """Write ``neighbours.csv``, a line an image, and ``suspects.png``.

    Args:
        found: The audit of pixels and names.
        seen: What the encoder sees.
        folder: Where they go.
        theme: Dark or light ground.

    Yields:
        A sentence about each.
    """
    from naruto_vision.io.atomic import write_text
    from naruto_vision.io.images import write_image
    from naruto_vision.viz.overlay import label_colours
    from naruto_vision.viz.tile_rows import draw_rows

    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(seen.rows())
    write_text(folder / "neighbours.csv", text.getvalue())
    yield f"every image with its neighbours' classes is in {folder / 'neighbours.csv'}"
    sheet, suspects = folder / "suspects.png", seen.suspects[:_SHEET_ROWS]
    if not suspects:
        sheet.unlink(missing_ok=True)  # one of an earlier audit would tell of mistakes that are mended
        return
    colours = label_colours(found.items.classes)
    of_all = f" of {len(seen.suspects)}" if len(suspects) < len(seen.suspects) else ""
    title = f"{len(suspects)}{of_all} images that lie among those of another class"
    write_image(sheet, draw_rows([_row(seen, one, colours) for one in suspects], title, theme))
    yield f"the {len(suspects)} likeliest mistakes are drawn in {sheet}"


def _row(seen: "VectorAudit", one: "CheckedLabel", colours: Mapping[str, "Colour"]) -> "TileRow":
    from naruto_vision.io.images import image_or_none
    from naruto_vision.viz.overlay import UNLISTED
    from naruto_vision.viz.tile_rows import Tile, TileRow

    def tile(place: int, cosine: float | None = None) -> Tile:
        item = seen.items[place]
        image = None if item.file is None else image_or_none(item.file)
        label = item.row.label
        return Tile(image, f"{item.part}: {label}", item.row.path, colours.get(label, UNLISTED), cosine)

    own = seen.items[one.place].row.label
    heading = f"{own}, or {one.rival}? {one.votes[one.rival]} of the {len(one.nearest)} nearest are {one.rival}"
    others = [tile(near.place, near.cosine) for near in one.nearest[:_SHEET_NEIGHBOURS]]
    return TileRow(heading, colours.get(own), tile(one.place), others)
