"""``naruto-vision gallery rollback``: bring back an older generation of a gallery."""

import argparse

from naruto_vision.cli.gallery_options import add_gallery_argument, tell_edit


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options.

    Args:
        parser: The parser of ``naruto-vision gallery rollback``.
    """
    add_gallery_argument(parser)
    parser.add_argument(
        "--to", type=int, required=True, metavar="GENERATION", help="which; `gallery log GALLERY` shows them"
    )


def run(arguments: argparse.Namespace) -> int:
    """Bring back rows, names and thresholds; this too is a change that can be rolled back.

    Args:
        arguments: As ``add_arguments`` declares them.

    Returns:
        The exit code, 0.
    """
    from naruto_vision.gallery.maintenance import roll_back_gallery

    tell_edit(arguments.gallery, roll_back_gallery(arguments.gallery, arguments.to))
    return 0
