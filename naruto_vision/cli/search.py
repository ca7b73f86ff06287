"""``naruto-vision search``: name images or texts by a gallery, and show the nearest rows."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from naruto_vision.cli.console import add_theme_option, check_sheet_name, cosine, progress
from naruto_vision.cli.gallery import add_encoder_options, gallery_encoder
from naruto_vision.errors import InputError

if TYPE_CHECKING:
    from naruto_vision.encoders.base import Encoder
    from naruto_vision.gallery.gallery import Gallery
    from naruto_vision.io.quarantine import Quarantine
    from naruto_vision.recognition.lookup import Hit, ImageThreshold, SearchResult
    from naruto_vision.records import ImageArray
    from naruto_vision.viz.overlay import Colour
    from naruto_vision.viz.sheets import Tile, TileRow

_CHUNK = 32  # images read and embedded at a time


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("--gallery", type=Path, default=Path("runs/gallery"), help="folder (default: runs/gallery)")
    parser.add_argument("--image", nargs="+", default=[], metavar="FILE", help="query images, or folders of them")
    parser.add_argument(
        "--text", nargs="+", default=[], metavar="TEXT", help="query texts, for encoders with a text tower"
    )
    parser.add_argument("-k", type=int, default=5, help="neighbours shown for each query (default: 5)")
    parser.add_argument("--votes", type=int, default=20, help="nearest rows that vote on the label (default: 20)")
    parser.add_argument(
        "--known-from",
        type=cosine,
        metavar="SCORE",
        help="cosine threshold: an image that scores less is unknown; -1 makes none unknown (default: the 5%% quantile "
        "of the scores of the gallery's own images, each searched among the others)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument(
        "--sheet",
        type=Path,
        metavar="FILE",
        help="write a contact sheet: .png, .jpg or .webp",
    )
    add_theme_option(parser)
    parser.add_argument("--root", type=Path, metavar="DIR", help="folder of the gallery's images, if they were moved")
    add_encoder_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Search, then print tables or JSON and write the sheet."""
    _check(arguments)
    from naruto_vision.gallery.gallery import Gallery
    from naruto_vision.io.quarantine import Quarantine

    gallery = Gallery.open(arguments.gallery)
    encoder = gallery_encoder(arguments, gallery.note, gallery.fingerprint)
    if arguments.text and not encoder.has_text:
        encoder.encode_texts(arguments.text)  # raises the error that says so
    threshold = _threshold(arguments, gallery)
    quarantine = Quarantine("query images")
    results = (
        *_search_images(arguments, gallery, encoder, quarantine, threshold.score),
        *_search_texts(arguments, gallery, encoder),
    )
    for bad in quarantine.rows:
        sys.stderr.write(f"left out: {bad.reason}\n")
    lost = _draw(arguments, gallery, results) if arguments.sheet else None
    if arguments.json:
        counts = {**quarantine.counts(), "texts": len(arguments.text)}
        facts = {"gallery": str(arguments.gallery), "rows": len(gallery), "counts": counts, "bar": threshold.as_json()}
        bad_files = [{"path": bad.path, "reason": bad.reason} for bad in quarantine.rows]
        document = {**facts, "quarantined": bad_files, "queries": [result.as_json() for result in results]}
        sys.stdout.write(json.dumps(document, ensure_ascii=False, indent=2, allow_nan=False) + "\n")
        return 0
    _print_tables(results)
    if arguments.image:
        sys.stdout.write(f"{threshold.sentence()}\n")
    if lost is not None:
        note = f", {lost} gallery images not found (give --root)" if lost else ""
        sys.stdout.write(f"the sheet is {arguments.sheet}{note}\n")
    return 0


def _check(arguments: argparse.Namespace) -> None:
    if not arguments.image and not arguments.text:
        msg = "search: nothing to search for; give --image FILE or --text TEXT"
        raise InputError(msg)
    if arguments.k < 1 or arguments.votes < 1:
        msg = f"search: expected -k and --votes of 1 or more, found {arguments.k} and {arguments.votes}"
        raise InputError(msg)
    if arguments.sheet:
        check_sheet_name(arguments.sheet)


def _threshold(arguments: argparse.Namespace, gallery: "Gallery") -> "ImageThreshold":
    from naruto_vision.recognition.lookup import ImageThreshold, measure_threshold

    if arguments.known_from is not None or not arguments.image:
        return ImageThreshold(arguments.known_from)
    return measure_threshold(gallery, arguments.votes)


def _query_files(names: Sequence[str]) -> list[str]:
    from naruto_vision.io.images import list_images

    files: list[str] = []
    for name in names:
        folder = Path(name)
        if not folder.is_dir():
            files.append(name)
            continue
        inside = [(folder / file).as_posix() for file in list_images(folder)]
        if not inside:
            msg = f"{folder}: has no images, nor have its subfolders; give images or a folder that has some"
            raise InputError(msg)
        files += inside
    return files


def _search_images(
    arguments: argparse.Namespace,
    gallery: "Gallery",
    encoder: "Encoder",
    quarantine: "Quarantine",
    threshold: float | None,
) -> list["SearchResult"]:
    from naruto_vision.encoders.base import embed_images
    from naruto_vision.recognition.lookup import look_up

    files = _query_files(arguments.image)
    mirror = bool(gallery.note.get("mirror", True))
    results: list[SearchResult] = []
    starts = range(0, len(files), _CHUNK)
    with progress("searching", len(starts), hidden=len(starts) < 2) as advance:
        for start in starts:
            good = _read(files[start : start + _CHUNK], quarantine)
            if good:
                vectors = embed_images(encoder, [image for _, image in good], mirror=mirror).numpy()
                names = [name for name, _ in good]
                how_many = {"k": arguments.k, "votes": arguments.votes}
                results += look_up(gallery, vectors, names, "image", **how_many, threshold=threshold)
            advance()
    if quarantine.rows and not quarantine.ok:
        first = quarantine.rows[0].reason
        raise InputError(first if quarantine.seen == 1 else f"none of {quarantine.seen} can be read; first {first}")
    return results


def _read(files: Sequence[str], quarantine: "Quarantine") -> list[tuple[str, "ImageArray"]]:
    from naruto_vision.io.images import read_image

    found = ((name, quarantine.read(name, partial(read_image, name))) for name in files)
    return [(name, image) for name, image in found if image is not None]


def _search_texts(arguments: argparse.Namespace, gallery: "Gallery", encoder: "Encoder") -> tuple["SearchResult", ...]:
    import torch

    from naruto_vision.recognition.lookup import look_up

    if not arguments.text:
        return ()
    with torch.inference_mode():
        vectors = encoder.encode_texts(arguments.text).float().cpu().numpy()
    return look_up(gallery, vectors, arguments.text, "text", k=arguments.k, votes=arguments.votes)


def _print_tables(results: Sequence["SearchResult"]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    for result in results:
        title = result.query if result.kind == "image" else f'"{result.query}"'
        table = Table("rank", "label", "score", "margin", "path", "id", title=escape(title), title_justify="left")
        for hit in result.hits:
            row = hit.neighbour
            margin = "-" if hit.margin is None else f"{hit.margin:+.3f}"
            table.add_row(str(hit.rank), escape(row.label), f"{row.score:.3f}", margin, escape(row.path), str(row.row))
        console.print(table)
        console.print(result.sentence(), highlight=False, markup=False, soft_wrap=True)


def _draw(arguments: argparse.Namespace, gallery: "Gallery", results: Sequence["SearchResult"]) -> int:
    """Write the contact sheet and return how many gallery images were not found."""
    from naruto_vision.io.images import write_image
    from naruto_vision.viz.overlay import label_colours
    from naruto_vision.viz.sheets import draw_rows

    own = gallery.note.get("root")
    finder = ImageFinder([Path(root) for root in (arguments.root, own, arguments.gallery, ".") if root])
    title = f"{arguments.gallery} · {len(gallery)} rows · {len(gallery.labels)} labels"
    colours = label_colours(gallery.labels)
    rows = [tile_row(result, finder, colours) for result in results]
    write_image(arguments.sheet, draw_rows(rows, title, arguments.theme))
    return finder.lost


class ImageFinder:
    """Reads gallery images below folders, the likeliest first; ``lost`` counts those that cannot be found or read."""

    def __init__(self, roots: Sequence[Path]) -> None:
        self._roots = tuple(roots)
        self.lost = 0

    def read(self, path: str) -> "ImageArray | None":
        """Return the image (H, W, 3), uint8, RGB, of a gallery row; None where it is not there."""
        from naruto_vision.gallery.info import find_image
        from naruto_vision.io.images import image_or_none

        found = next(filter(None, (find_image(root, path) for root in self._roots)), None)
        image = None if found is None else image_or_none(found)
        self.lost += image is None
        return image


def tile_row(result: "SearchResult", finder: ImageFinder, colours: "Mapping[str, Colour]") -> "TileRow":
    """Lay out a query and its neighbours as a row of the contact sheet."""
    from naruto_vision.io.images import image_or_none
    from naruto_vision.viz.sheets import Tile, TileRow

    accent = colours.get(result.identity.label) if result.identity.known else None
    others = [_tile(hit, finder, colours) for hit in result.hits]
    if result.kind == "text":
        return TileRow(result.sentence(), accent, Tile(None, "query"), others, quote=result.query)
    return TileRow(result.sentence(), accent, Tile(image_or_none(result.query), "query", result.query), others)


def _tile(hit: "Hit", finder: ImageFinder, colours: "Mapping[str, Colour]") -> "Tile":
    from naruto_vision.viz.overlay import UNLISTED
    from naruto_vision.viz.sheets import Tile

    row = hit.neighbour
    margin = "" if hit.margin is None else f"margin {hit.margin:+.3f}"
    return Tile(finder.read(row.path), row.label, row.path, colours.get(row.label, UNLISTED), row.score, margin)
