"""``naruto-vision evaluate counts``: what published counts say, and what they do not."""

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from naruto_vision.errors import InputError

if TYPE_CHECKING:
    from naruto_vision.metrics.stats import Rate

_RUN = re.compile(r"(?P<name>[^=]+)=(?P<counts>\d+(/\d+){3})")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="NAME=RIGHT/MATCHED/SEEN/ALL",
        help="objects with the right label, objects matched, objects of scenes with predictions, all objects: "
        "CLIP=45/50/56/62",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON")


def read_runs(words: list[str]) -> "dict[str, dict[str, Rate]]":
    """Read the counts of runs."""
    from naruto_vision.metrics.stats import Rate

    runs: dict[str, dict[str, Rate]] = {}
    for word in words:
        found = _RUN.fullmatch(word)
        if found is None:
            msg = f"{word}: expected NAME=RIGHT/MATCHED/SEEN/ALL, such as CLIP=45/50/56/62"
            raise InputError(msg)
        right, matched, seen, objects = (int(number) for number in found["counts"].split("/"))
        if not right <= matched <= seen <= objects:
            msg = f"{word}: expected counts that do not fall, found {right}, {matched}, {seen}, {objects}"
            raise InputError(msg)
        if found["name"] in runs:
            msg = f"{found['name']}: a name for two runs; give each its own"
            raise InputError(msg)
        runs[found["name"]] = {
            "object_accuracy": Rate(right, objects),
            "honest_recall": Rate(matched, objects),
            "reference_recall": Rate(matched, seen),
            "class_given_matched": Rate(right, matched),
        }
    if len({rates["object_accuracy"].total for rates in runs.values()}) > 1:
        msg = "runs over different objects cannot be compared; give runs with the same number of all objects"
        raise InputError(msg)
    return runs


def run(arguments: argparse.Namespace) -> int:
    """Print rates, intervals and whether the runs can be told apart."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from naruto_vision.io.atomic import write_json
    from naruto_vision.metrics.report import TITLES, comparison_documents, comparison_table, format_rate
    from naruto_vision.metrics.stats import compare_totals

    runs = read_runs(arguments.runs)
    table = Table("figure", *(escape(name) for name in runs), title="count/total  value [95 % interval]")
    for figure in next(iter(runs.values())):
        table.add_row(TITLES[figure], *(format_rate(rates[figure], digits=4) for rates in runs.values()))
    console = Console()
    console.print(table)
    compared = comparison_documents(compare_totals(list(runs), [rates["object_accuracy"] for rates in runs.values()]))
    if compared:
        console.print(comparison_table(compared))
    if arguments.json:
        values = {name: {figure: rate.as_json() for figure, rate in rates.items()} for name, rates in runs.items()}
        write_json(arguments.json, {"runs": values, "comparisons": compared})
    return 0
