"""What the ``gallery`` commands share: which rows, which encoder, and what is told after an edit."""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from naruto_vision.errors import FingerprintError, InputError

if TYPE_CHECKING:
    from naruto_vision.encoders.base import Encoder
    from naruto_vision.gallery.content import GalleryContent
    from naruto_vision.gallery.gallery import Gallery


def add_gallery_argument(parser: argparse.ArgumentParser, *, default: str = "") -> None:
    """Declare the gallery.

    Args:
        parser: The parser of a ``gallery`` command.
        default: The folder that is meant where none is named; without it one has to be, as for whatever changes rows.
    """
    if default:
        told = f"the gallery's folder (default: {default})"
        parser.add_argument("gallery", type=Path, nargs="?", default=Path(default), help=told)
    else:
        parser.add_argument("gallery", type=Path, help="the gallery's folder")


def add_row_options(parser: argparse.ArgumentParser) -> None:
    """Declare which rows are meant.

    Args:
        parser: The parser of a ``gallery`` command.
    """
    parser.add_argument("--id", nargs="+", type=int, default=[], metavar="ID", help="rows by id")
    parser.add_argument("--label", nargs="+", default=[], metavar="NAME", help="all rows of a label")
    parser.add_argument("--path", nargs="+", default=[], metavar="PATH", help="all rows of an image, as listed")


def add_encoder_options(
    parser: argparse.ArgumentParser, *, without: str = "the one that the gallery remembers"
) -> None:
    """Declare the encoder.

    Args:
        parser: The parser of a ``gallery`` command.
        without: Which one it is where none is given, in words.
    """
    parser.add_argument("--encoder", default="", metavar="MODEL", help=f"the encoder (default: {without})")
    parser.add_argument("--pretrained", metavar="FILE", help="weights of --encoder, where it is an architecture")


def chosen_ids(arguments: argparse.Namespace, content: "GalleryContent") -> list[int]:
    """Turn ids, labels and paths into ids.

    Args:
        arguments: What ``add_row_options`` declared.
        content: The gallery's.

    Returns:
        The ids of all rows that were named in any way.

    Raises:
        InputError: If nothing was named, or an id, a label or a path has no rows; ``edit_gallery`` adds the folder.
    """
    if not (arguments.id or arguments.label or arguments.path):
        msg = "which rows: give --id, --label or --path; `naruto-vision gallery list GALLERY --rows` shows them"
        raise InputError(msg)
    rows = list(zip(content.ids.tolist(), content.rows, strict=True))
    absent = [f"id {id_}" for id_ in sorted(set(arguments.id) - {known for known, _ in rows})]
    absent += [repr(name) for name in arguments.label if all(row.label != name for _, row in rows)]
    absent += [repr(name) for name in arguments.path if all(row.path != name for _, row in rows)]
    if absent:
        shows = f"`naruto-vision gallery list {arguments.gallery} --rows` shows what it has"
        msg = f"no row of {', '.join(absent)}; {shows}"
        raise InputError(msg)
    labels, paths = set(arguments.label), set(arguments.path)
    return [*arguments.id, *(id_ for id_, row in rows if row.label in labels or row.path in paths)]


def gallery_encoder(arguments: argparse.Namespace, note: Mapping[str, Any], fingerprint: str) -> "Encoder":
    """Open the encoder that made a gallery.

    Args:
        arguments: What ``add_encoder_options`` declared, and ``gallery``.
        note: The gallery's note, which says how the encoder was opened.
        fingerprint: The gallery's.

    Returns:
        The encoder.

    Raises:
        FingerprintError: If it is another one.
        InputError: If it cannot be opened, or nothing says which it is.
    """
    from naruto_vision.encoders.opening import open_encoder, open_recipe

    if not arguments.encoder and not note.get("encoder"):
        msg = f"{arguments.gallery}: does not say where its encoder is; give --encoder MODEL or its bundle"
        raise InputError(msg)
    if arguments.encoder:
        encoder = open_encoder(arguments.encoder, arguments.pretrained)
    else:
        try:
            encoder = open_recipe(note["encoder"])
        except InputError as error:
            msg = f"{error}; that encoder built {arguments.gallery}: give --encoder where it is now"
            raise InputError(msg) from None
    found = encoder.fingerprint
    if found != fingerprint:
        raise FingerprintError(arguments.gallery, fingerprint, found)
    return encoder


def tell_edit(folder: Path, gallery: "Gallery") -> None:
    """Print what an edit came to.

    Args:
        folder: The gallery's folder.
        gallery: As it is now.
    """
    from naruto_vision.gallery.content import line_counts

    counts = [f"{count} {what}" for what, count in line_counts(gallery.content.ledger[-1]).items() if count]
    told = ", ".join(counts) or "nothing changed but the ledger"
    sys.stdout.write(f"{folder}: {told}; {len(gallery)} rows in generation {gallery.generation}\n")
    if gallery.stale_since is not None:
        sys.stdout.write(
            "its thresholds were chosen with other rows; `naruto-vision validate` on scenes with ground truth "
            "chooses them again\n"
        )
