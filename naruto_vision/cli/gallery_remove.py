"""``naruto-vision gallery remove``: take rows out of a gallery."""

import argparse

from naruto_vision.cli.gallery_options import add_gallery_argument, add_row_options, chosen_ids, tell_edit


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options.

    Args:
        parser: The parser of ``naruto-vision gallery remove``.
    """
    add_gallery_argument(parser)
    add_row_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Remove the rows; a rollback brings them back.

    Args:
        arguments: As ``add_arguments`` declares them.

    Returns:
        The exit code, 0.
    """
    from naruto_vision.gallery.edits import remove_rows
    from naruto_vision.gallery.maintenance import edit_gallery

    gallery = edit_gallery(arguments.gallery, lambda content: remove_rows(content, chosen_ids(arguments, content)))
    tell_edit(arguments.gallery, gallery)
    return 0
