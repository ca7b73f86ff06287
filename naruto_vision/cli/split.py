"""``naruto-vision data split``: manifests of a split in which nothing held out stands on the other side too."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from naruto_vision.cli.audit import add_numbers_options
from naruto_vision.cli.console import progress, share, whole_number
from naruto_vision.cli.data import add_reading_options, rules_of
from naruto_vision.cli.prepare import place_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.table import Table

    from naruto_vision.data.tables import ClassTable, Split


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes.

    Args:
        parser: The parser to add to.
    """
    parser.add_argument("root", type=Path, metavar="ROOT", help="an export, class folders, or a folder of manifests")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the manifests go")
    parser.add_argument("--valid", type=share, default=0.15, help="share that validates (default: 0.15)")
    parser.add_argument("--test", type=share, default=0.15, help="share that tests (default: 0.15)")
    parser.add_argument("--seed", type=whole_number, default=42, help="decides between equal choices (default: 42)")
    add_numbers_options(parser)
    add_reading_options(parser)


def split_table(tables: "Mapping[Split, ClassTable]") -> "Table":
    """Lay out how the images of each class were shared out.

    Args:
        tables: Split name to its table.
    """
    from rich.table import Table

    shown = Table("class", *tables)
    counts = {split: table.counts() for split, table in tables.items()}
    for name in next(iter(tables.values())).classes:
        shown.add_row(name, *(str(counts[split][name]) for split in tables))
    shown.add_section()
    shown.add_row("all", *(str(len(table)) for table in tables.values()))
    return shown


def _left_out(tables: "Mapping[Split, ClassTable]") -> list[str]:
    """Say how many rows of the data set were not shared out, and why."""
    reports = {split: table.report for split, table in tables.items()}
    return [f"{split}: {report.summary()}" for split, report in reports.items() if report.kept < report.seen]


def run(arguments: argparse.Namespace) -> int:
    """Split a data set, write the manifests, print how it went.

    Args:
        arguments: What ``add_arguments`` declared.

    Returns:
        The exit code, 0.

    Raises:
        InputError: If the data set cannot be read, or nothing can be held out of it.
    """
    from rich.console import Console

    from naruto_vision.data.leaks import collect_items, scan_images
    from naruto_vision.data.readers import manifest_base, read_present, write_manifests
    from naruto_vision.data.split import SplitPlan, split_items
    from naruto_vision.io.atomic import write_json

    plan = SplitPlan(arguments.valid, arguments.test, arguments.seed, arguments.window, arguments.numbers)
    tables = read_present(arguments.root, arguments.reader, rules_of(arguments))
    items = collect_items(tables)
    with progress("looking at images", len(items.items)) as advance:
        seen = scan_images(items.items, advance)
    seen.quarantine.check(1.0)
    base = manifest_base(arguments.root, tables)
    found = split_items(tables, items, seen, plan)
    write_manifests(arguments.out, found.tables, base, found.tables["train"].classes, found.note())
    write_json(arguments.out / "split.json", found.as_json())
    seen.quarantine.write(arguments.out / "quarantine.jsonl")
    console = Console()
    console.print(split_table(found.tables))
    lines = [*_left_out(tables), found.note(), f"the audit of the result: {found.leaking} held-out images leak"]
    if seen.quarantine.quarantined:
        lines.append(f"{seen.quarantine.quarantined} images cannot be read and were left out: quarantine.jsonl")
    for line in (*lines, place_of(arguments.out, base)):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    return 0
