"""``naruto-vision gallery add``: enrol more images; those that are there are not embedded again."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from naruto_vision.cli.console import progress
from naruto_vision.cli.gallery_options import (
    add_encoder_options,
    add_gallery_argument,
    gallery_encoder,
    tell_edit,
)
from naruto_vision.errors import BadImageError, InputError, MissingPathError

if TYPE_CHECKING:
    from naruto_vision.encoders.base import Encoder
    from naruto_vision.gallery.content import GalleryRow
    from naruto_vision.gallery.gallery import Gallery
    from naruto_vision.io.quarantine import Quarantine

_CHUNK = 32  # images read and embedded at a time


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options.

    Args:
        parser: The parser of ``naruto-vision gallery add``.
    """
    add_gallery_argument(parser)
    parser.add_argument("pictures", nargs="*", metavar="IMAGE", help="images of --label, or folders of them")
    parser.add_argument("--label", default="", metavar="NAME", help="who the images show")
    parser.add_argument("--root", type=Path, metavar="DIR", help="instead: class folders, one folder a label")
    parser.add_argument(
        "--publish-every",
        type=int,
        default=2000,
        metavar="N",
        help="images a generation; an interrupted run goes on after the last one (default: 2000)",
    )
    add_encoder_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Embed the images and add them.

    Args:
        arguments: As ``add_arguments`` declares them.

    Returns:
        The exit code, 0.

    Raises:
        InputError: If there is nothing to add, no gallery or another encoder.
    """
    from naruto_vision.gallery.gallery import Gallery
    from naruto_vision.io.quarantine import Quarantine

    wanted = _wanted(arguments)
    if arguments.publish_every < 1:
        msg = f"--publish-every {arguments.publish_every}: expected 1 or more"
        raise InputError(msg)
    gallery = Gallery.open(arguments.gallery, index="exact")
    known = {row.path for row in gallery.rows}
    root = str(gallery.note.get("root", ""))
    fresh = [(file, row) for file, row in ((file, _row(file, label, root)) for file, label in wanted)]
    fresh = [(file, row) for file, row in fresh if row.path not in known]
    quarantine = Quarantine("images to add")
    if fresh:
        encoder = gallery_encoder(arguments, gallery.note, gallery.fingerprint)
        after = _add(arguments, gallery, encoder, fresh, quarantine)
        for bad in quarantine.rows:
            sys.stderr.write(f"left out: {bad.reason}\n")
        quarantine.check(1.0)
        tell_edit(arguments.gallery, after)
    skipped = len(wanted) - len(fresh)
    sys.stdout.write(
        f"{len(wanted)} images seen = {quarantine.ok} added + {skipped} there before + "
        f"{quarantine.quarantined} unreadable\n"
    )
    return 0


def _wanted(arguments: argparse.Namespace) -> list[tuple[Path, str]]:
    """List the images with their labels, each file once."""
    from naruto_vision.io.images import list_images

    if bool(arguments.images) == bool(arguments.root) or bool(arguments.images) != bool(arguments.label):
        msg = "gallery add: give images and their --label, or --root DIR with one folder a label"
        raise InputError(msg)
    if arguments.root:
        from naruto_vision.data.readers import read_class_folders

        return [(arguments.root / row.path, row.label) for row in read_class_folders(arguments.root).rows]
    files: list[Path] = []
    for name in map(Path, arguments.images):
        files += [name / inside for inside in list_images(name)] if name.is_dir() else [name]
    missing = [file for file in files if not file.is_file()]
    if missing or not files:
        raise MissingPathError(missing[0] if missing else arguments.images[0], "image")
    return [(file, arguments.label) for file in dict.fromkeys(files)]


def _row(file: Path, label: str, root: str) -> "GalleryRow":
    """Name an image as the enrolment does: relative to its root where it lies in there, whole elsewhere."""
    from naruto_vision.gallery.content import GalleryRow

    whole, base = file.absolute(), Path(root).absolute()
    return GalleryRow((whole.relative_to(base) if root and whole.is_relative_to(base) else whole).as_posix(), label)


def _add(
    arguments: argparse.Namespace,
    gallery: "Gallery",
    encoder: "Encoder",
    fresh: Sequence[tuple[Path, "GalleryRow"]],
    quarantine: "Quarantine",
) -> "Gallery":
    mirror = bool(gallery.note.get("mirror", True))
    starts = range(0, len(fresh), _CHUNK)
    done: list[tuple[object, GalleryRow]] = []
    with progress("embedding", len(starts), hidden=len(starts) < 2) as advance:
        for start in starts:
            done += _embedded(encoder, fresh[start : start + _CHUNK], quarantine, mirror=mirror)
            if done and (len(done) >= arguments.publish_every or start + _CHUNK >= len(fresh)):
                gallery = _publish(arguments.gallery, done, gallery.fingerprint)
                done = []
            advance()
    return gallery


def _embedded(
    encoder: "Encoder", chunk: Sequence[tuple[Path, "GalleryRow"]], quarantine: "Quarantine", *, mirror: bool
) -> list[tuple[object, "GalleryRow"]]:
    from naruto_vision.encoders.base import embed_images
    from naruto_vision.io.images import read_image

    images, rows = [], []
    for file, row in chunk:
        try:
            images.append(read_image(file))
        except (BadImageError, MissingPathError) as error:
            quarantine.refuse(file, str(error))
        else:
            rows.append(row)
            quarantine.accept()
    return list(zip(embed_images(encoder, images, mirror=mirror).numpy(), rows, strict=True)) if rows else []


def _publish(folder: Path, done: Sequence[tuple[object, "GalleryRow"]], fingerprint: str) -> "Gallery":
    import numpy as np

    from naruto_vision.gallery.maintenance import add_to_gallery

    vectors = np.stack([np.asarray(vector, dtype=np.float32) for vector, _ in done])
    return add_to_gallery(folder, vectors, [row for _, row in done], fingerprint=fingerprint)
