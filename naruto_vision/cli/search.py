"""``naruto-vision search``: name images or texts by a gallery, and show the nearest entries."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from naruto_vision.cli.console import (
    add_json_option,
    add_theme_option,
    cosine,
    count,
    make_table,
    page_path,
    sheet_path,
    show,
    show_json,
    warn_left_out,
)
from naruto_vision.cli.gallery import add_encoder_options, embed_files, gallery_encoder, list_files
from naruto_vision.cli.trainer_args import DECISIONS, GALLERY, check_gallery, gallery_place
from naruto_vision.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from naruto_vision.encoders.base import Encoder
    from naruto_vision.gallery.gallery import Gallery
    from naruto_vision.io.quarantine import Quarantine
    from naruto_vision.recognition.lookup import Hit, ImageThreshold, SearchResult
    from naruto_vision.records import ImageArray
    from naruto_vision.viz.overlay import Colour
    from naruto_vision.viz.sheets import Tile, TileRow


def _search_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("images", nargs="*", metavar="IMAGE", help="query images, or folders of them")
    text = "gallery folder or URI of a vector store"
    add("--gallery", type=gallery_place, default=GALLERY, metavar="GALLERY", help=text)
    add("--image", nargs="+", default=[], metavar="FILE", help="the same as IMAGE")
    add("--text", nargs="+", default=[], metavar="TEXT", help="query texts, for encoders with a text tower")
    add("-k", "--top-k", type=count, default=5, metavar="K", help="neighbours shown per query")
    text = "how an image is named; auto is the rule that the gallery records"
    add("--decision", choices=DECISIONS, default="auto", help=text)
    add("--neighbours", type=count, default=20, metavar="K", help="neighbours that vote on the label")
    text = (
        "threshold: images with a lower score are unknown; -1 makes none unknown (default: chosen on the gallery's own "
        "images, each named by the others)"
    )
    add("--known-from", type=cosine, metavar="SCORE", help=text)
    add_json_option(parser)
    add("--sheet", type=sheet_path, metavar="FILE", help="write a contact sheet: .png, .jpg or .webp")
    text = "write why each query has its name: a page, and JSON beside it"
    add("--explain", type=page_path, metavar="FILE", help=text)
    add_theme_option(parser)
    add("--root", type=Path, metavar="DIR", help="folder of the gallery's images, if they were moved")
    add_encoder_options(parser)


def search(arguments: argparse.Namespace) -> int:
    """Search, then write the sheet and the page and print tables or JSON."""
    arguments.image = [*arguments.images, *arguments.image]
    if not arguments.image and not arguments.text:
        raise InputError("search: no query; give image files or --text TEXT")
    check_gallery(arguments.gallery)  # before the slow imports
    from naruto_vision.gallery.gallery import Gallery
    from naruto_vision.io.quarantine import Quarantine

    gallery = Gallery.open(arguments.gallery)
    encoder = gallery_encoder(arguments, gallery)
    if arguments.text and not encoder.has_text:
        encoder.encode_texts(arguments.text)  # raises the specific error
    threshold = _threshold(arguments, gallery)
    quarantine = Quarantine("query images")
    results = (
        *_search_images(arguments, gallery, encoder, quarantine, threshold.score),
        *_search_texts(arguments, gallery, encoder),
    )
    warn_left_out(quarantine)
    written = _write(arguments, gallery, encoder, results)
    if arguments.json:
        show_json(
            {
                "gallery": str(arguments.gallery),
                "rows": len(gallery),
                "counts": {**quarantine.counts(), "texts": len(arguments.text)},
                "threshold": threshold.as_json(),
                "quarantined": [bad._asdict() for bad in quarantine.rows],
                "queries": [result.as_json() for result in results],
            }
        )
        return 0
    for result in results:
        show(_table(result), result.sentence())
    if arguments.image:
        show(threshold.sentence())
    for line in written:
        show(line)
    return 0


def _threshold(arguments: argparse.Namespace, gallery: "Gallery") -> "ImageThreshold":
    from naruto_vision.recognition.lookup import ImageThreshold, measure_threshold

    if arguments.known_from is not None or not arguments.image:
        return ImageThreshold(arguments.known_from)
    return measure_threshold(gallery, arguments.neighbours, arguments.decision)


def _search_images(
    arguments: argparse.Namespace,
    gallery: "Gallery",
    encoder: "Encoder",
    quarantine: "Quarantine",
    threshold: float | None,
) -> list["SearchResult"]:
    from naruto_vision.recognition.lookup import look_up

    files = list_files(arguments.image)
    numbers = {"k": arguments.top_k, "votes": arguments.neighbours, "decision": arguments.decision}
    results: list[SearchResult] = []
    for vectors, indices in embed_files(encoder, files, quarantine, mirror=gallery.mirror):
        queries = [files[index] for index in indices]
        results += look_up(gallery, vectors, queries, "image", **numbers, threshold=threshold)
    quarantine.check(1.0)
    return results


def _search_texts(arguments: argparse.Namespace, gallery: "Gallery", encoder: "Encoder") -> tuple["SearchResult", ...]:
    import torch

    from naruto_vision.recognition.lookup import look_up

    if not arguments.text:
        return ()
    with torch.inference_mode():
        vectors = encoder.encode_texts(arguments.text).float().cpu().numpy()
    return look_up(gallery, vectors, arguments.text, "text", k=arguments.top_k, votes=arguments.neighbours)


def _table(result: "SearchResult") -> "Table":
    rows = []
    for hit in result.hits:
        row, margin = hit.neighbour, "-" if hit.margin is None else f"{hit.margin:+.3f}"
        rows.append((hit.rank, row.label, f"{row.score:.3f}", margin, row.path, row.row))
    title = result.query if result.kind == "image" else f'"{result.query}"'
    return make_table(("rank", "label", "score", "margin", "path", "id"), rows, title)


def _write(
    arguments: argparse.Namespace, gallery: "Gallery", encoder: "Encoder", results: Sequence["SearchResult"]
) -> list[str]:
    """Write the page and the contact sheet that are wanted; return what to say of them."""
    if not arguments.explain and not arguments.sheet:
        return []
    from naruto_vision.io.images import read_image, write_image
    from naruto_vision.recognition.explain import explain_search
    from naruto_vision.records import Explanation
    from naruto_vision.viz.explain_page import write_explained
    from naruto_vision.viz.overlay import label_colours
    from naruto_vision.viz.sheets import draw_rows

    own, lines = gallery.note.get("root"), []
    roots = [Path(root) for root in (arguments.root, own, arguments.gallery, ".") if root]
    title = f"{arguments.gallery} · {len(gallery)} entries · {len(gallery.labels)} labels"
    colours = label_colours(gallery.labels)
    if arguments.explain:
        read, found = ImageFinder(roots).read, dict[int | str, Explanation]()
        for each in results:
            image = read_image(each.query) if each.kind == "image" else None
            found[each.query] = explain_search(each, gallery, encoder, read, image, arguments.decision)
        write_explained(arguments.explain, title, found, colours)
        lines.append(f"why: open {arguments.explain} in a browser")
    if arguments.sheet:
        finder = ImageFinder(roots)
        write_image(
            arguments.sheet, draw_rows([tile_row(each, finder, colours) for each in results], title, arguments.theme)
        )
        lost = f", {finder.lost} gallery images not found (give --root)" if finder.lost else ""
        lines.append(f"the sheet is {arguments.sheet}{lost}")
    return lines


class ImageFinder:
    """Reads gallery images from folders, tried in this order; ``lost`` counts those that cannot be found or read."""

    def __init__(self, roots: Sequence[Path]) -> None:
        self._roots = tuple(roots)
        self.lost = 0

    def read(self, path: str) -> "ImageArray | None":
        """Return the image (H, W, 3), uint8, RGB, of a gallery entry; None if it is missing."""
        from naruto_vision.gallery.info import entry_image

        image = entry_image(self._roots, path)
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


COMMANDS = {"search": (_search_options, search)}
