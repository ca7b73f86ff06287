"""``naruto-vision gallery log``: what was done to a gallery, generation by generation."""

import argparse
import json
import sys
from collections.abc import Mapping
from typing import Any

from naruto_vision.cli.gallery_options import add_gallery_argument
from naruto_vision.cli.trainer_args import GALLERY
from naruto_vision.gallery.content import line_counts
from naruto_vision.gallery.info import list_gallery


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options.

    Args:
        parser: The parser of ``naruto-vision gallery log``.
    """
    add_gallery_argument(parser, default=GALLERY)
    parser.add_argument("--json", action="store_true", help="print the ledger's own lines")


def run(arguments: argparse.Namespace) -> int:
    """Print the ledger, oldest first.

    Args:
        arguments: As ``add_arguments`` declares them.

    Returns:
        The exit code, 0.
    """
    ledger = list_gallery(arguments.gallery).ledger
    lines = [json.dumps(line, ensure_ascii=False) if arguments.json else _line(line) for line in ledger]
    sys.stdout.buffer.write("".join(line + "\n" for line in lines).encode("utf-8", "surrogateescape"))
    return 0


def _line(line: Mapping[str, Any]) -> str:
    counts = ", ".join(f"{count} {what}" for what, count in line_counts(line).items() if count)
    target = next((f"to {line[key]}" for key in ("to", "index") if key in line), "")
    told = "; ".join(part for part in (target, counts) if part)
    return f"{line['generation']:>6}  {line['op']:<10}  {line['rows']:>7} rows  {told}".rstrip()
