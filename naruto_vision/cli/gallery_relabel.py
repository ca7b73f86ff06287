"""``naruto-vision gallery relabel``: give rows of a gallery another name."""

import argparse

from naruto_vision.cli.gallery_options import add_gallery_argument, add_row_options, chosen_ids, tell_edit


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options.

    Args:
        parser: The parser of ``naruto-vision gallery relabel``.
    """
    add_gallery_argument(parser)
    add_row_options(parser)
    parser.add_argument("--to", required=True, metavar="NAME", help="the name that the rows get")


def run(arguments: argparse.Namespace) -> int:
    """Relabel the rows.

    Args:
        arguments: As ``add_arguments`` declares them.

    Returns:
        The exit code, 0.
    """
    from naruto_vision.gallery.edits import relabel_rows
    from naruto_vision.gallery.maintenance import edit_gallery

    gallery = edit_gallery(
        arguments.gallery, lambda content: relabel_rows(content, chosen_ids(arguments, content), arguments.to)
    )
    tell_edit(arguments.gallery, gallery)
    return 0
