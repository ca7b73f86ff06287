"""``naruto-vision gallery import``: an index folder of the reference system becomes a gallery."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from naruto_vision.errors import InputError

if TYPE_CHECKING:
    from naruto_vision.encoders.base import Encoder
    from naruto_vision.gallery.legacy import EncoderCheck, ReferenceIndex


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options.

    Args:
        parser: The parser of ``naruto-vision gallery import``.
    """
    parser.add_argument("folder", type=Path, help="folder with embeddings.npy and meta.jsonl")
    parser.add_argument("--out", type=Path, required=True, help="where the gallery goes; must not exist yet")
    parser.add_argument("--encoder", required=True, metavar="MODEL", help="what made it: an architecture or a bundle")
    parser.add_argument("--pretrained", metavar="FILE", help="the encoder's weights, where it is an architecture")
    parser.add_argument("--root", type=Path, metavar="DIR", help="folder that the rows' paths are relative to")
    parser.add_argument(
        "--assert-encoder", action="store_true", help="you vouch for the encoder where no image is here to check it"
    )


def run(arguments: argparse.Namespace) -> int:
    """Read the folder, check the encoder against its images, write the gallery.

    Args:
        arguments: As ``add_arguments`` declares them.

    Returns:
        The exit code, 0.

    Raises:
        InputError: If the folder is no index, the encoder did not make it or cannot be checked, or ``--out`` is in use.
    """
    out: Path = arguments.out
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        msg = f"{out}: is not empty; give another --out"
        raise InputError(msg)
    from naruto_vision.encoders.opening import open_encoder
    from naruto_vision.gallery.gallery import Gallery
    from naruto_vision.gallery.legacy import check_encoder, read_reference_index

    index = read_reference_index(arguments.folder)
    encoder = open_encoder(arguments.encoder, arguments.pretrained)
    roots = [root for root in (arguments.root, Path(), arguments.folder, arguments.folder.parent) if root is not None]

    def find(path: str) -> Path | None:
        return next((root / path for root in roots if (root / path).is_file()), None)

    check = None
    if encoder.dim == index.vectors.shape[1]:
        check = check_encoder(index, encoder, find)
    _refuse_another(arguments, index, encoder, check)
    checked = 0 if check is None else check.checked
    note = {
        "encoder": dict(encoder.recipe),
        "mirror": check is None or check.mirror,
        "imported": {"rows": len(index.rows), "checked": checked},
        **({"root": arguments.root.as_posix()} if arguments.root else {}),
    }
    gallery = Gallery.build(index.vectors, index.rows, fingerprint=encoder.fingerprint, note=note)
    gallery.save(out)
    told = f"{checked} images embedded anew agree" if checked else "no image was here to check the encoder with"
    sys.stdout.write(f"{len(gallery)} rows of {len(gallery.labels)} labels are in {out}; {told}\n")
    return 0


def _refuse_another(
    arguments: argparse.Namespace, index: "ReferenceIndex", encoder: "Encoder", check: "EncoderCheck | None"
) -> None:
    """Stop where the encoder did not make the vectors, or nobody knows.

    Raises:
        InputError: Then.
    """
    folder = arguments.folder
    if check is None:
        msg = f"{folder}: its vectors have {index.vectors.shape[1]} numbers, those of {arguments.encoder} {encoder.dim}"
        raise InputError(f"{msg}; give the encoder that made it")
    if check.lowest is None and not arguments.assert_encoder:
        msg = f"{folder}: none of its {len(index.rows)} images is here to check the encoder with"
        raise InputError(f"{msg}; give --root DIR, or --assert-encoder if you are sure")
    if check.lowest is not None and not check.agrees:
        msg = f"{folder}: not made by {arguments.encoder}: of {check.checked} images embedded anew, one has a cosine of"
        raise InputError(f"{msg} only {check.lowest:.3f} with its row; give the encoder and the weights that made it")
