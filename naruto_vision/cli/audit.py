"""``naruto-vision data audit``: does what a split holds out stand on the other side too?"""

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from naruto_vision.cli.audit_vectors import (
    add_vector_options,
    look_through,
    open_vector_encoder,
    vector_notes,
    write_vector_files,
)
from naruto_vision.cli.console import add_theme_option, progress, whole_number
from naruto_vision.cli.data import add_reading_options, rules_of

if TYPE_CHECKING:
    from rich.table import Table

    from naruto_vision.data.leaks import Audit, AuditItem
    from naruto_vision.metrics.stats import Rate
    from naruto_vision.viz.overlay import Colour
    from naruto_vision.viz.sheets import Theme, Tile

EXIT_LEAK = 1
_SHEET_PAIRS = 24


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes.

    Args:
        parser: The parser to add to.
    """
    parser.add_argument("root", type=Path, metavar="ROOT", help="an export, class folders, or a folder of manifests")
    parser.add_argument("--gallery", type=Path, metavar="DIR", help="a gallery folder, held against valid and test")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where audit.json, near_pairs.png and suspects.png go")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the figures go, if not DIR/audit.json")
    add_theme_option(parser)
    add_numbers_options(parser)
    add_vector_options(parser)
    parser.add_argument("--fail-on-leak", action="store_true", help=f"exit with {EXIT_LEAK} where anything leaks")
    add_reading_options(parser)


def add_numbers_options(parser: argparse.ArgumentParser) -> None:
    """Declare how numbers in file names are understood.

    Args:
        parser: The parser to add to.
    """
    parser.add_argument(
        "--window", type=whole_number, default=3, help="frame numbers up to this far apart are neighbours (default: 3)"
    )
    parser.add_argument(
        "--numbers",
        choices=("auto", "frames", "ignore"),
        default="auto",
        help="numbers in file names are frames, or to be ignored (default: auto takes them for frames unless both "
        "sides were numbered from the start)",
    )


def _shown(rate: "Rate") -> str:
    if not rate.interval:
        return "-"
    return f"{rate.count}/{rate.total} {rate.value:.3f}\n[{rate.interval[0]:.2f}, {rate.interval[1]:.2f}]"


def audit_table(found: "Audit") -> "Table":
    """Lay out an audit, one column a comparison.

    Args:
        found: The audit.
    """
    from rich.table import Table

    from naruto_vision.metrics.stats import Rate

    shown = Table("", *(f"{one.held} against {one.against}" for one in found.comparisons))
    rows: dict[str, list[Rate]] = {
        "same pixels": [Rate(one.exact, one.compared) for one in found.comparisons],
        "nearly the same": [Rate(one.near, one.compared) for one in found.comparisons],
        f"a frame within {found.window}": [one.frames.within for one in found.comparisons],
        "  of these with its class": [one.frames.agreeing for one in found.comparisons],
        "any of the three": [Rate(one.leaking, one.frames.images) for one in found.comparisons],
        "named right by file name alone": [one.frames.by_name_alone for one in found.comparisons],
        "named right as the commonest class": [one.frames.by_majority for one in found.comparisons],
    }
    for title, rates in rows.items():
        shown.add_row(title, *map(_shown, rates))
    return shown


def _notes(found: "Audit") -> Iterator[str]:
    counts = found.scanned.quarantine.counts()
    if found.scanned.absent:
        absent, listed = found.scanned.absent, len(found.items.items)
        yield f"{absent} of {listed} images are not on the disk: their names were compared, not their pixels"
    if counts["quarantined"]:
        first = found.scanned.quarantine.rows[0].reason
        yield f"{counts['quarantined']} of {counts['seen']} images cannot be read, so only names count; first {first}"
    families = sorted({name for one in found.comparisons for name in one.frames.counted})
    if families:
        yield f"numbers of {', '.join(families[:3])} look like counters, not frames (--numbers frames counts them)"
    for part in found.items.parts:
        if found.repeats(part):
            yield f"{found.repeats(part)} images of {part} repeat another one of {part}, exactly or nearly"
    if found.conflicts():
        yield f"{found.conflicts()} pairs of the same pixels stand under two classes"
    if not found.comparisons:
        yield "there is nothing to compare: no valid or test split; `naruto-vision data split` makes them"


def _shown_image(item: "AuditItem", colours: Mapping[str, "Colour"]) -> "Tile | None":
    from naruto_vision.viz.overlay import UNLISTED
    from naruto_vision.viz.sheets import Tile, read_tile

    if item.file is None:
        return None
    label, name = item.row.label, PurePosixPath(item.row.path).name
    return Tile(read_tile(item.file), f"{item.part}: {label}", name, colours.get(label, UNLISTED))


def _write_sheet(found: "Audit", path: Path, theme: "Theme") -> str:
    from naruto_vision.io.images import write_image
    from naruto_vision.viz.overlay import label_colours
    from naruto_vision.viz.sheets import SheetPair, pair_sheet

    colours, pairs = label_colours(found.items.classes), []
    for pair in found.crossing()[:_SHEET_PAIRS]:
        first, second = (_shown_image(found.items.items[place], colours) for place in (pair.first, pair.second))
        if first is not None and second is not None:
            how = "same pixels" if pair.exact else f"{pair.distance} of 256 bits differ" + ", mirrored" * pair.mirrored
            pairs.append(SheetPair(first, second, how))
    if not pairs:
        path.unlink(missing_ok=True)  # one of an earlier audit would tell of pairs that are gone
        if not found.scanned.signatures:
            return "no image could be looked at, so there is no contact sheet"
        return "no pair of images is alike across the splits, so there is no contact sheet"
    write_image(path, pair_sheet(pairs, f"the {len(pairs)} pairs most alike across the splits", theme))
    return f"the {len(pairs)} pairs most alike are in {path}"


def run(arguments: argparse.Namespace) -> int:
    """Audit a data set, print what was found, write it where that is asked for.

    Args:
        arguments: What ``add_arguments`` declared.

    Returns:
        0; with ``--fail-on-leak`` 1 where a held-out image leaks.

    Raises:
        InputError: If the data set, the gallery or the encoder cannot be read.
    """
    from rich.console import Console

    from naruto_vision.data.leaks import audit, collect_items, scan_images
    from naruto_vision.data.readers import read_present
    from naruto_vision.io.atomic import write_json

    encoder = open_vector_encoder(arguments)
    tables = read_present(arguments.root, arguments.reader, rules_of(arguments, need_files=False))
    items = collect_items(tables, arguments.gallery)
    with progress("looking at images", len(items.items)) as advance:
        seen = scan_images(items.items, advance)
    found = audit(items, seen, window=arguments.window, numbers=arguments.numbers)
    lines, document = list(_notes(found)), found.as_json()
    if arguments.out is not None:
        lines.append(_write_sheet(found, arguments.out / "near_pairs.png", arguments.theme))
    if encoder is not None:
        through = look_through(arguments, encoder, found)
        lines += vector_notes(found, through)
        document["encoder"] = {"model": arguments.encoder, **through.as_json()}
        if arguments.out is not None:
            lines += write_vector_files(found, through, arguments.out, arguments.theme)
    target = arguments.json or (arguments.out and arguments.out / "audit.json")
    if target is not None:
        write_json(target, document)
        lines.append(f"the figures are in {target}")
    console = Console()
    if found.comparisons:
        console.print(audit_table(found))
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    return EXIT_LEAK if arguments.fail_on_leak and found.leaking else 0
