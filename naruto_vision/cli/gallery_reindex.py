"""``naruto-vision gallery reindex``: make a gallery's index anew, of the same or another kind."""

import argparse
import sys

from naruto_vision.cli.gallery_options import add_gallery_argument


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options.

    Args:
        parser: The parser of ``naruto-vision gallery reindex``.
    """
    add_gallery_argument(parser)
    parser.add_argument(
        "--index",
        choices=("auto", "flat", "hnsw", "ivf", "exact"),
        default="auto",
        help="flat compares with every row; hnsw and ivf trade a few neighbours for speed; exact stores none and "
        "searches by NumPy (default: auto goes by size)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Make the index.

    Args:
        arguments: As ``add_arguments`` declares them.

    Returns:
        The exit code, 0.
    """
    from naruto_vision.gallery.maintenance import reindex_gallery

    gallery = reindex_gallery(arguments.gallery, arguments.index)
    kind = "flat" if gallery.index_kind == "faiss" else gallery.index_kind
    sys.stdout.write(f"{arguments.gallery}: index {kind} of {len(gallery)} rows\n")
    return 0
