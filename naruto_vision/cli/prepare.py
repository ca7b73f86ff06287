"""``naruto-vision data prepare``: manifests of a data set, and what was left out of it."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from naruto_vision.cli.data import add_reading_options, rules_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rich.table import Table

    from naruto_vision.data.tables import ClassTable, ReadRules, Split


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes.

    Args:
        parser: The parser to add to.
    """
    parser.add_argument("--root", type=Path, default=Path("data"), help="the data set's folder (default: data)")
    parser.add_argument("--out", type=Path, default=Path("manifests"), help="where manifests go (default: manifests)")
    add_reading_options(parser)


def counts_table(tables: "Mapping[Split, ClassTable]") -> "Table":
    """Lay out what became of every row of every split.

    Args:
        tables: Split name to its table.
    """
    from rich.table import Table

    shown = Table("split", "seen", "kept", "discarded", "missing", "refused", "duplicates", "written")
    for split, table in tables.items():
        report = table.report
        numbers = (report.seen, report.kept, report.discarded, len(report.missing), len(report.refused))
        shown.add_row(split, *(str(n) for n in (*numbers, len(report.duplicates), len(table.rows))))
    return shown


def place_of(out: Path, base: Path) -> str:
    """Say where manifests are, and from where they have to be read if they do not find their images themselves.

    Args:
        out: The manifests' folder.
        base: The folder that their paths are relative to.
    """
    from naruto_vision.data.readers import is_found_from

    found = is_found_from(out, base)
    return f"manifests are in {out}" + ("" if found else f"; run what reads them from {base}, or move them there")


def _renaming(rules: "ReadRules", tables: "Mapping[Split, ClassTable]") -> "Iterator[str]":
    """Say which classes were renamed, and which names to mend no class has: often a spelling mistake in them."""
    renamed = {old: new for table in tables.values() for old, new in table.report.renamed.items()}
    if renamed:
        yield f"renamed: {', '.join(f'{old} to {new}' for old, new in renamed.items())}"
    idle = [old for old, new in rules.aliases.items() if old not in renamed and old != new]
    if idle:
        yield f"not renamed, as no class has the name: {', '.join(idle)}"


def run(arguments: argparse.Namespace) -> int:
    """Read the data set, write the manifests, print what was kept.

    Args:
        arguments: What ``add_arguments`` declared.

    Returns:
        The exit code, 0.

    Raises:
        InputError: If the data set cannot be read, or ``--labels`` names a class that it lacks.
    """
    from rich.console import Console

    from naruto_vision.data.readers import manifest_base, read_present, write_manifests

    rules = rules_of(arguments)
    tables = read_present(arguments.root, arguments.reader, rules)
    classes = tables["train"].classes
    unlabeled = "kept as a class" if rules.include_unlabeled else "discarded"
    note = (
        f"policy {rules.policy}; images without a class {unlabeled}; "
        "every row seen is kept, discarded, missing, refused or a duplicate"
    )
    base = manifest_base(arguments.root, tables)
    write_manifests(arguments.out, tables, base, classes, note)
    console = Console()
    console.print(counts_table(tables))
    for line in _renaming(rules, tables):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    console.print(f"{len(classes)} classes: {', '.join(classes)}", highlight=False, markup=False)
    console.print(place_of(arguments.out, base), highlight=False, markup=False, soft_wrap=True)
    return 0
