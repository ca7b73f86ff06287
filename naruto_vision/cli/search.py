"""``naruto-vision search``: ask a gallery with images or words."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from naruto_vision.cli.console import add_theme_option, check_sheet_name, cosine, progress
from naruto_vision.cli.gallery_options import add_encoder_options, gallery_encoder
from naruto_vision.errors import BadImageError, InputError, MissingPathError
from naruto_vision.gallery.info import find_image
from naruto_vision.io.images import image_or_none
from naruto_vision.recognition.lookup import Answer, Hit
from naruto_vision.records import ImageArray
from naruto_vision.viz.contact_sheet import Theme
from naruto_vision.viz.overlay import UNLISTED, Colour
from naruto_vision.viz.tile_rows import Tile, TileRow, draw_rows

if TYPE_CHECKING:
    from naruto_vision.encoders.base import Encoder
    from naruto_vision.gallery.gallery import Gallery
    from naruto_vision.io.quarantine import Quarantine
    from naruto_vision.recognition.lookup import ImageBar


class ImageFinder:
    """Finds gallery images on this machine, and counts those that are not there.

    Args:
        roots: Folders that their paths may be relative to, or whose split they may be of; the likeliest first.

    Attributes:
        lost: How many could not be found or read.
    """

    def __init__(self, roots: Sequence[Path]) -> None:
        self._roots = tuple(roots)
        self.lost = 0

    def gallery(self, path: str) -> ImageArray | None:
        """Read a gallery image.

        Args:
            path: As the gallery has it.

        Returns:
            Shape (H, W, 3), uint8, RGB; None where it is not there or cannot be read.
        """
        found = next(filter(None, (find_image(root, path) for root in self._roots)), None)
        image = None if found is None else image_or_none(found)
        self.lost += image is None
        return image


def draw_sheet(
    answers: Sequence[Answer],
    finder: ImageFinder,
    colours: Mapping[str, Colour],
    title: str,
    theme: Theme = "dark",
) -> ImageArray:
    """Draw a contact sheet: a row of tiles for each query.

    Args:
        answers: What the gallery said.
        finder: Finds the images.
        colours: Label to RGB.
        title: The sheet's heading.
        theme: Dark or light ground.

    Returns:
        Shape (H, W, 3), uint8, RGB.
    """
    return draw_rows([_row(answer, finder, colours) for answer in answers], title, theme)


def _row(answer: Answer, finder: ImageFinder, colours: Mapping[str, Colour]) -> TileRow:
    accent = colours.get(answer.identity.label) if answer.identity.known else None
    others = [_tile(hit, finder, colours) for hit in answer.hits]
    if answer.kind == "text":
        return TileRow(answer.sentence(), accent, Tile(None, "query"), others, quote=answer.query)
    return TileRow(answer.sentence(), accent, Tile(image_or_none(answer.query), "query", answer.query), others)


def _tile(hit: Hit, finder: ImageFinder, colours: Mapping[str, Colour]) -> Tile:
    row = hit.neighbour
    margin = "" if hit.margin is None else f"margin {hit.margin:+.3f}"
    image = finder.gallery(row.path)
    return Tile(image, row.label, row.path, colours.get(row.label, UNLISTED), row.score, margin)


_CHUNK = 32  # images read and embedded at a time


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options.

    Args:
        parser: The parser of ``naruto-vision search``.
    """
    parser.add_argument(
        "--gallery", type=Path, default=Path("runs/gallery"), help="the gallery (default: runs/gallery)"
    )
    parser.add_argument("--image", nargs="+", default=[], metavar="FILE", help="images, or folders of them")
    parser.add_argument("--text", nargs="+", default=[], metavar="TEXT", help="descriptions, for encoders that read")
    parser.add_argument("-k", type=int, default=5, help="how many neighbours are shown (default: 5)")
    parser.add_argument("--votes", type=int, default=20, help="how many rows vote on who it is (default: 20)")
    parser.add_argument(
        "--known-from",
        type=cosine,
        metavar="SCORE",
        help="score below which an image shows somebody unknown, -1 for nobody (default: what 19 of 20 gallery "
        "images reach when they are asked of the others)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--sheet", type=Path, metavar="FILE", help="draw queries and neighbours: .png, .jpg or .webp")
    add_theme_option(parser)
    parser.add_argument("--root", type=Path, metavar="DIR", help="where the gallery's images lie, if they were moved")
    add_encoder_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Search, then print tables or JSON and draw the sheet.

    Args:
        arguments: As ``add_arguments`` declares them.

    Returns:
        The exit code, 0.

    Raises:
        InputError: If there is no query, no gallery or no encoder, or no query can be read.
    """
    _check(arguments)
    from naruto_vision.gallery.gallery import Gallery
    from naruto_vision.io.quarantine import Quarantine

    gallery = Gallery.open(arguments.gallery)
    encoder = gallery_encoder(arguments, gallery.note, gallery.fingerprint)
    if arguments.text and not encoder.has_text:
        encoder.encode_texts(arguments.text)  # says in words that it cannot
    bar = _bar(arguments, gallery)
    quarantine = Quarantine("query images")
    answers = (
        *_ask_images(arguments, gallery, encoder, quarantine, bar.score),
        *_ask_texts(arguments, gallery, encoder),
    )
    for bad in quarantine.rows:
        sys.stderr.write(f"left out: {bad.reason}\n")
    lost = _draw(arguments, gallery, answers) if arguments.sheet else None
    if arguments.json:
        counts = {**quarantine.counts(), "texts": len(arguments.text)}
        facts = {"gallery": str(arguments.gallery), "rows": len(gallery), "counts": counts, "bar": bar.as_json()}
        bad_files = [{"path": bad.path, "reason": bad.reason} for bad in quarantine.rows]
        document = {**facts, "quarantined": bad_files, "queries": [answer.as_json() for answer in answers]}
        sys.stdout.write(json.dumps(document, ensure_ascii=False, indent=2, allow_nan=False) + "\n")
        return 0
    _print_tables(answers)
    if arguments.image:
        sys.stdout.write(f"{bar.sentence()}\n")
    if lost is not None:
        note = f", {lost} gallery images not found (give --root)" if lost else ""
        sys.stdout.write(f"sheet is in {arguments.sheet}{note}\n")
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


def _bar(arguments: argparse.Namespace, gallery: "Gallery") -> "ImageBar":
    from naruto_vision.recognition.lookup import ImageBar, measure_bar

    if arguments.known_from is not None or not arguments.image:
        return ImageBar(arguments.known_from)
    return measure_bar(gallery, arguments.votes)


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
            msg = f"{folder}: holds no images, also not in its folders; give images or a folder that has some"
            raise InputError(msg)
        files += inside
    return files


def _ask_images(
    arguments: argparse.Namespace,
    gallery: "Gallery",
    encoder: "Encoder",
    quarantine: "Quarantine",
    threshold: float | None,
) -> list["Answer"]:
    from naruto_vision.encoders.base import embed_images
    from naruto_vision.recognition.lookup import look_up

    files = _query_files(arguments.image)
    mirror = bool(gallery.note.get("mirror", True))
    answers: list[Answer] = []
    starts = range(0, len(files), _CHUNK)
    with progress("searching", len(starts), hidden=len(starts) < 2) as advance:
        for start in starts:
            good = _read(files[start : start + _CHUNK], quarantine)
            if good:
                vectors = embed_images(encoder, [image for _, image in good], mirror=mirror).numpy()
                names = [name for name, _ in good]
                how_many = {"k": arguments.k, "votes": arguments.votes}
                answers += look_up(gallery, vectors, names, "image", **how_many, threshold=threshold)
            advance()
    if quarantine.rows and not quarantine.ok:
        first = quarantine.rows[0].reason
        raise InputError(first if quarantine.seen == 1 else f"none of {quarantine.seen} can be read; first {first}")
    return answers


def _read(files: Sequence[str], quarantine: "Quarantine") -> list[tuple[str, "Image"]]:
    from naruto_vision.io.images import read_image

    good = []
    for name in files:
        try:
            good.append((name, read_image(name)))
        except (BadImageError, MissingPathError) as error:
            quarantine.refuse(name, str(error))
        else:
            quarantine.accept()
    return good


def _ask_texts(arguments: argparse.Namespace, gallery: "Gallery", encoder: "Encoder") -> tuple["Answer", ...]:
    import torch

    from naruto_vision.recognition.lookup import look_up

    if not arguments.text:
        return ()
    with torch.inference_mode():
        vectors = encoder.encode_texts(arguments.text).float().cpu().numpy()
    return look_up(gallery, vectors, arguments.text, "text", k=arguments.k, votes=arguments.votes)


def _print_tables(answers: Sequence["Answer"]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    for answer in answers:
        title = answer.query if answer.kind == "image" else f'"{answer.query}"'
        table = Table("rank", "label", "score", "margin", "path", "id", title=escape(title), title_justify="left")
        for hit in answer.hits:
            row = hit.neighbour
            margin = "-" if hit.margin is None else f"{hit.margin:+.3f}"
            table.add_row(str(hit.rank), escape(row.label), f"{row.score:.3f}", margin, escape(row.path), str(row.row))
        console.print(table)
        console.print(answer.sentence(), highlight=False, markup=False, soft_wrap=True)


def _draw(arguments: argparse.Namespace, gallery: "Gallery", answers: Sequence["Answer"]) -> int:
    """Draw the sheet and return how many gallery images were not found."""
    from naruto_vision.io.images import write_image
    from naruto_vision.viz.overlay import label_colours

    told = gallery.note.get("root")
    roots = [Path(root) for root in (arguments.root, told, arguments.gallery, ".") if root]
    finder = ImageFinder(roots)
    title = f"{arguments.gallery} · {len(gallery)} rows · {len(gallery.labels)} labels"
    write_image(arguments.sheet, draw_sheet(answers, finder, label_colours(gallery.labels), title, arguments.theme))
    return finder.lost
