"""``naruto-vision data prepare``: manifests of a data set, and what was left out of it."""

import argparse
from pathlib import Path

from naruto_vision.errors import FormatError, MissingPathError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes.

    Args:
        parser: The parser to add to.
    """
    parser.add_argument("--root", type=Path, default=Path("data"), help="the data set's folder (default: data)")
    parser.add_argument("--out", type=Path, default=Path("manifests"), help="where manifests go (default: manifests)")
    parser.add_argument("--labels", nargs="+", metavar="NAME", help="keep these classes only, in this order")
    parser.add_argument("--aliases", type=Path, metavar="FILE", help='JSON of class names to mend: {"Mira": "Myra"}')
    parser.add_argument(
        "--policy",
        choices=("single_only", "first", "all"),
        default="single_only",
        help="what becomes of pictures with several classes (default: single_only leaves them out)",
    )
    parser.add_argument(
        "--reader",
        choices=("auto", "roboflow", "manifest", "folders"),
        default="auto",
        help="how the folder is laid out (default: auto looks)",
    )


def read_aliases(path: Path | None) -> dict[str, str]:
    """Read a file of class names to mend.

    Args:
        path: JSON object: name as found, to the name that it should have. None is an empty one.

    Raises:
        MissingPathError: If there is no such file.
        FormatError: If it is not such an object.
    """
    import json

    if path is None:
        return {}
    if not path.is_file():
        raise MissingPathError(path, "alias file")
    try:
        aliases = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise FormatError(path, "JSON", str(error).partition("\n")[0]) from None
    if not isinstance(aliases, dict) or not all(isinstance(name, str) and name for name in aliases.values()):
        raise FormatError(path, 'an object of names like {"Mira": "Myra"}', repr(aliases)[:60])
    return {str(name): str(mended) for name, mended in aliases.items()}


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
    from rich.table import Table

    from naruto_vision.data.manifest import write_manifests
    from naruto_vision.data.readers import read_present
    from naruto_vision.data.rows import ReadRules

    labels = tuple(arguments.labels) if arguments.labels else None
    rules = ReadRules(read_aliases(arguments.aliases), arguments.policy, labels)
    tables = read_present(arguments.root, arguments.reader, rules)
    classes = tables["train"].classes
    note = f"policy {rules.policy}; every row seen is kept, discarded, missing, refused or a duplicate"
    write_manifests(arguments.out, tables, arguments.root, classes, note)
    shown = Table("split", "seen", "kept", "discarded", "missing", "refused", "duplicates", "written")
    for split, table in tables.items():
        report = table.report
        numbers = (report.seen, report.kept, report.discarded, len(report.missing), len(report.refused))
        shown.add_row(split, *(str(n) for n in (*numbers, len(report.duplicates), len(table.rows))))
    console = Console()
    console.print(shown)
    console.print(f"{len(classes)} classes: {', '.join(classes)}", highlight=False, markup=False)
    console.print(f"manifests are in {arguments.out}", highlight=False, markup=False)
    return 0
