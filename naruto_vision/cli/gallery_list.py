"""``naruto-vision gallery list``: who is in a gallery. Answers from its JSON files, without NumPy or torch."""

import argparse
import json
import sys

from naruto_vision.cli.gallery_options import add_gallery_argument
from naruto_vision.cli.trainer_args import GALLERY
from naruto_vision.gallery.info import Listing, list_gallery


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options.

    Args:
        parser: The parser of ``naruto-vision gallery list``.
    """
    add_gallery_argument(parser, default=GALLERY)
    parser.add_argument("--rows", action="store_true", help="every row: id, label, path, how it was changed")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Print labels and counts.

    Args:
        arguments: As ``add_arguments`` declares them.

    Returns:
        The exit code, 0.
    """
    listing = list_gallery(arguments.gallery, rows=arguments.rows)
    if arguments.json:
        text = json.dumps(listing.as_json(rows=arguments.rows), ensure_ascii=False, indent=2)
    else:
        text = "\n".join(_lines(str(arguments.gallery), listing, rows=arguments.rows))
    sys.stdout.buffer.write((text + "\n").encode("utf-8", "surrogateescape"))
    return 0


def _lines(folder: str, listing: Listing, *, rows: bool) -> list[str]:
    index = listing.index
    lines = [
        f"{folder}: generation {listing.generation}, {listing.total} rows, {len(listing.labels)} labels, "
        f"vectors of {listing.dim}, index {index.get('kind')} ({index.get('metric')}), "
        f"encoder {listing.fingerprint[:12]}"
    ]
    width = max(map(len, listing.labels), default=0)
    lines += [f"  {label:<{width}}  {count:>6}" for label, count in listing.labels.items()]
    lines += [_efforts(listing), _thresholds(listing)]
    lines = [line for line in lines if line]
    if rows:
        lines += ["", f"{'ID':>8}  {'LABEL':<{width}}  {'CHANGED':<8} PATH"]
        lines += [f"{row['id']:>8}  {row['label']:<{width}}  {row['aug']:<8} {row['path']}" for row in listing.rows]
    return lines


def _efforts(listing: Listing) -> str:
    """Say how far searches of an approximate index look; nothing of one that compares all rows."""
    what = "candidates" if listing.index.get("kind") == "hnsw" else "cells"
    told = [
        f"{effort.width} {what} for {kind} queries (recall@10 {effort.recall:.3f} of {effort.queries})"
        for kind, effort in listing.efforts.items()
    ]
    rows = max((effort.rows for effort in listing.efforts.values()), default=0)
    return f"index: looks at {' and '.join(told)}, measured at {rows} rows" if told else ""


def _thresholds(listing: Listing) -> str:
    default = listing.thresholds.get("default")
    own = len(listing.thresholds.get("classes") or {})
    if default is None and not own:
        return "thresholds: none, every region counts as known"
    text = f"thresholds: {default if default is None else round(default, 4)}, {own} labels have their own"
    if listing.stale_since is None:
        return text
    return f"{text}; STALE: rows changed in generation {listing.stale_since}, choose them again with `validate`"
