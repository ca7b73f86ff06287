"""``naruto-vision data shard``: images scaled down once and packed, so that no epoch decodes large files again."""

import argparse
import sys
from pathlib import Path

from naruto_vision.cli.console import progress, share, whole_number
from naruto_vision.cli.data import add_reading_options, rules_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes.

    Args:
        parser: The parser to add to.
    """
    parser.add_argument("root", type=Path, metavar="ROOT", help="the data set's folder")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the shards go")
    parser.add_argument(
        "--size", type=whole_number, default=256, help="longest side in pixels, 0 as it is (default: 256, as fit keeps)"
    )
    parser.add_argument(
        "--shard-size", type=whole_number, default=1000, metavar="N", help="images a shard (default: 1000)"
    )
    parser.add_argument(
        "--quality", type=whole_number, default=0, help="pack JPEG of this quality, not PNG (default: 0, lose nothing)"
    )
    parser.add_argument(
        "--max-bad", type=share, default=0.05, metavar="SHARE", help="unreadable images put up with (default: 0.05)"
    )
    add_reading_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Read the data set, write the shards, say what was packed.

    Args:
        arguments: What ``add_arguments`` declared.

    Returns:
        The exit code, 0.

    Raises:
        InputError: If the data set cannot be read, a number is out of range, ``--out`` holds something else, or too
            many images are bad.
    """
    from naruto_vision.data.readers import read_present
    from naruto_vision.data.shard_writer import ShardPlan, check_out, write_split
    from naruto_vision.io.quarantine import Quarantine

    plan = ShardPlan(arguments.size, arguments.shard_size, arguments.quality, arguments.max_bad)
    tables = read_present(arguments.root, arguments.reader, rules_of(arguments))
    check_out(arguments.out)
    quarantine = Quarantine("pictures")
    count = sum(len({row.path for row in table.rows}) for table in tables.values())
    kept = 0
    try:
        with progress("packing images", count) as advance:
            for split, table in tables.items():
                kept += write_split(arguments.out, split, table, plan, quarantine, advance)
    finally:
        quarantine.write(arguments.out / "quarantine.jsonl")
    counts = quarantine.counts()
    sys.stdout.write(
        f"{counts['ok']} of {counts['seen']} images are in {arguments.out}"
        + (f"; {counts['quarantined']} could not be read, see quarantine.jsonl" if counts["quarantined"] else "")
        + (f"; {kept} shards were there already" if kept else "")
        + f"\nuse them as any other data set: naruto-vision fit --config clip.yaml --data.root {arguments.out}\n"
    )
    return 0
