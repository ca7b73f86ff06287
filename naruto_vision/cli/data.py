"""``naruto-vision data prepare|audit|split|shard``, and the options of every command that reads class data."""

import argparse
import csv
import io
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from naruto_vision.cli.console import add_theme_option, cosine, progress, share, whole_number
from naruto_vision.cli.gallery import add_encoder_options
from naruto_vision.errors import FormatError, InputError, JsonError, MissingPathError

if TYPE_CHECKING:
    from rich.table import Table

    from naruto_vision.data.label_check import CheckedLabel, VectorAudit
    from naruto_vision.data.leaks import Audit, AuditItem
    from naruto_vision.data.tables import ClassTable, ReadRules, Split
    from naruto_vision.encoders.base import Encoder
    from naruto_vision.metrics.stats import Rate
    from naruto_vision.records import LabelledBox
    from naruto_vision.viz.overlay import Colour
    from naruto_vision.viz.sheets import Theme, Tile, TileRow

_TEXTS_HINT = "lists of texts for each class belong to --model.texts.aliases_json of `fit`"
EXIT_LEAK = 1
_SHEET_PAIRS = 24
_SHEET_ROWS = 12
_SHEET_NEIGHBOURS = 5
_LISTED = 10


def read_label_map(text: str) -> dict[str, str]:
    """Read the spellings that are to be mended."""
    names: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(";"))):
        found, colon, right = (word.strip() for word in part.partition(":"))
        if not (found and colon and right):
            msg = f"--label-map: expected pairs like 'Mira:Myra;Bo:Boh', found {part!r}"
            raise InputError(msg)
        if names.setdefault(found, right) != right:
            msg = f"--label-map: {found!r} is to become both {names[found]!r} and {right!r}"
            raise InputError(msg)
    return names


def tell_idle_names(names: Mapping[str, str], sides: Sequence[Mapping[str, Sequence["LabelledBox"]]]) -> None:
    """Name the labels to mend that nothing carries: often a spelling mistake in themselves."""
    carried = {box.label for side in sides for boxes in side.values() for box in boxes}
    idle = [name for name, right in names.items() if name not in carried and name != right]
    if idle:
        sys.stderr.write(f"--label-map: no object and no prediction is called {', '.join(idle)}\n")


def add_reading_options(parser: argparse.ArgumentParser) -> None:
    """Declare how class data are read."""
    parser.add_argument("--labels", nargs="+", metavar="NAME", help="keep these classes only, in this order")
    parser.add_argument(
        "--rename", nargs="+", metavar="OLD=NEW", help="class names to mend, as found = as they should be: Mira=Myra"
    )
    parser.add_argument(
        "--aliases",
        type=Path,
        metavar="FILE",
        help='the same as a JSON file: {"Mira": "Myra"}; not the texts that `fit` takes (--model.texts.aliases_json)',
    )
    parser.add_argument(
        "--policy",
        choices=("single_only", "first", "all"),
        default="single_only",
        help="what becomes of images with several classes: left out, only the first class, or a row for each "
        "(default: single_only)",
    )
    parser.add_argument(
        "--include-unlabeled",
        action="store_true",
        help='keep images without any class, under the placeholder "Unlabeled", the last class (default: left out)',
    )
    parser.add_argument(
        "--reader",
        choices=("auto", "shards", "roboflow", "manifest", "folders"),
        default="auto",
        help="how the folder is laid out (default: auto looks)",
    )


def read_aliases(path: Path | None) -> dict[str, str]:
    """Read a file of class names to mend."""
    if path is None:
        return {}
    if not path.is_file():
        raise MissingPathError(path, "alias file")
    try:
        aliases = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise JsonError(path, error) from None
    if not isinstance(aliases, dict) or not all(isinstance(name, str) and name for name in aliases.values()):
        raise FormatError(path, 'an object of names like {"Mira": "Myra"}', repr(aliases)[:60], _TEXTS_HINT)
    return {str(name): str(mended) for name, mended in aliases.items()}


def read_renames(words: list[str] | None) -> dict[str, str]:
    """Read class names to mend from the command line."""
    renames = {}
    for word in words or []:
        old, _, new = word.partition("=")
        if not old or not new:
            msg = f"--rename {word}: expected OLD=NEW, the class as found and as it should be"
            raise InputError(msg)
        renames[old] = new
    return renames


def rules_of(arguments: argparse.Namespace, *, need_files: bool = True) -> "ReadRules":
    """Make the reading rules that a command's options ask for."""
    from naruto_vision.data.tables import ReadRules

    return ReadRules(
        aliases={**read_aliases(arguments.aliases), **read_renames(arguments.rename)},
        policy=arguments.policy,
        labels=tuple(arguments.labels) if arguments.labels else None,
        include_unlabeled=arguments.include_unlabeled,
        need_files=need_files,
    )


def _add_prepare_options(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("--root", type=Path, default=Path("data"), help="the data set's folder (default: data)")
    parser.add_argument("--out", type=Path, default=Path("manifests"), help="where manifests go (default: manifests)")
    add_reading_options(parser)


def counts_table(tables: "Mapping[Split, ClassTable]") -> "Table":
    """Lay out what became of every row of every split."""
    from rich.table import Table

    shown = Table("split", "seen", "kept", "discarded", "missing", "refused", "duplicates", "written")
    for split, table in tables.items():
        report = table.report
        numbers = (report.seen, report.kept, report.discarded, len(report.missing), len(report.refused))
        shown.add_row(split, *(str(n) for n in (*numbers, len(report.duplicates), len(table.rows))))
    return shown


def place_of(out: Path, base: Path) -> str:
    """Say where manifests are, and from where they have to be read if they do not find their images themselves."""
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


def prepare(arguments: argparse.Namespace) -> int:
    """Read the data set, write the manifests, print what was kept."""
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


def _add_audit_options(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
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
    """Declare how numbers in file names are understood."""
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
    """Lay out an audit, one column a comparison."""
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


def audit_command(arguments: argparse.Namespace) -> int:
    """Audit a data set, print what was found, write it where that is asked for."""
    from rich.console import Console

    from naruto_vision.data.leaks import audit, collect_items, scan_images
    from naruto_vision.data.readers import read_present
    from naruto_vision.io.atomic import write_json

    encoder = open_vector_encoder(arguments)
    tables = read_present(arguments.root, arguments.reader, rules_of(arguments, need_files=False))
    items = collect_items(tables, arguments.gallery)
    with progress("scanning images", len(items.items)) as advance:
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


def add_vector_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_encoder_options(parser, without="none, only pixels and names are compared")
    parser.add_argument(
        "--neighbours", type=whole_number, default=10, help="nearest images that vote on a class (default: 10)"
    )
    parser.add_argument(
        "--near-cosine", type=cosine, default=0.98, help="cosine from which two are near copies (default: 0.98)"
    )


def open_vector_encoder(arguments: argparse.Namespace) -> "Encoder | None":
    """Open the encoder before anything else is done; None where none was named."""
    if not arguments.encoder:
        return None
    from naruto_vision.encoders.opening import open_encoder

    return open_encoder(arguments.encoder, arguments.pretrained)


def look_through(arguments: argparse.Namespace, encoder: "Encoder", found: "Audit") -> "VectorAudit":
    """Embed the images and hold each against its neighbours."""
    from naruto_vision.data.label_check import audit_vectors, embed_items

    items = found.items.items
    with progress("embedding images", len({items[place].file for place in found.scanned.signatures})) as advance:
        places, vectors = embed_items(items, found.scanned, encoder, advance)
    return audit_vectors(
        items, places, vectors, neighbours=max(1, arguments.neighbours), near_cosine=arguments.near_cosine
    )


def vector_notes(found: "Audit", seen: "VectorAudit") -> Iterator[str]:
    """Say what was found, the likeliest mistakes one by one."""
    suspects, known = seen.suspects, {frozenset((pair.first, pair.second)) for pair in found.alike}
    yield (
        f"{len(suspects)} of {len(seen.checked)} images lie among images of another class; "
        f"{seen.neighbours} nearest asked" + (", the likeliest mistakes first:" if suspects else "")
    )
    for one in suspects[:_LISTED]:
        item = seen.items[one.index]
        yield f"  {item.part} {item.row.path}: {item.row.label}, but {one.votes[one.rival]} are {one.rival}"
    if len(suspects) > _LISTED:
        yield f"  and {len(suspects) - _LISTED} more"
    new = sum(frozenset((first, other.index)) not in known for first, other in seen.near)
    yield (
        f"{len(seen.near)} pairs of different parts have a cosine of {seen.near_cosine:g} or more"
        + f", {new} of which pixels do not show" * bool(seen.near)
    )


def write_vector_files(found: "Audit", seen: "VectorAudit", folder: Path, theme: "Theme") -> Iterator[str]:
    """Write ``neighbours.csv``, a line an image, and ``suspects.png``."""
    from naruto_vision.io.atomic import write_text
    from naruto_vision.io.images import write_image
    from naruto_vision.viz.overlay import label_colours
    from naruto_vision.viz.sheets import draw_rows

    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(seen.rows())
    write_text(folder / "neighbours.csv", text.getvalue())
    yield f"every image with its neighbours' classes is in {folder / 'neighbours.csv'}"
    sheet, suspects = folder / "suspects.png", seen.suspects[:_SHEET_ROWS]
    if not suspects:
        sheet.unlink(missing_ok=True)  # one of an earlier audit would tell of mistakes that are mended
        return
    colours = label_colours(found.items.classes)
    of_all = f" of {len(seen.suspects)}" if len(suspects) < len(seen.suspects) else ""
    title = f"{len(suspects)}{of_all} images that lie among those of another class"
    write_image(sheet, draw_rows([_row(seen, one, colours) for one in suspects], title, theme))
    yield f"the {len(suspects)} likeliest mistakes are drawn in {sheet}"


def _row(seen: "VectorAudit", one: "CheckedLabel", colours: Mapping[str, "Colour"]) -> "TileRow":
    from naruto_vision.viz.overlay import UNLISTED
    from naruto_vision.viz.sheets import Tile, TileRow, read_tile

    def tile(place: int, cosine: float | None = None) -> Tile:
        item = seen.items[place]
        label = item.row.label
        return Tile(read_tile(item.file), f"{item.part}: {label}", item.row.path, colours.get(label, UNLISTED), cosine)

    own = seen.items[one.index].row.label
    heading = f"{own}, or {one.rival}? {one.votes[one.rival]} of the {len(one.nearest)} nearest are {one.rival}"
    others = [tile(near.index, near.cosine) for near in one.nearest[:_SHEET_NEIGHBOURS]]
    return TileRow(heading, colours.get(own), tile(one.index), others)


def _add_split_options(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("root", type=Path, metavar="ROOT", help="an export, class folders, or a folder of manifests")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the manifests go")
    parser.add_argument("--valid", type=share, default=0.15, help="share that validates (default: 0.15)")
    parser.add_argument("--test", type=share, default=0.15, help="share that tests (default: 0.15)")
    parser.add_argument("--seed", type=whole_number, default=42, help="decides between equal choices (default: 42)")
    add_numbers_options(parser)
    add_reading_options(parser)


def split_table(tables: "Mapping[Split, ClassTable]") -> "Table":
    """Lay out how the images of each class were shared out."""
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


def split(arguments: argparse.Namespace) -> int:
    """Split a data set, write the manifests, print how it went."""
    from rich.console import Console

    from naruto_vision.data.leaks import collect_items, scan_images
    from naruto_vision.data.readers import manifest_base, read_present, write_manifests
    from naruto_vision.data.split import SplitPlan, split_items
    from naruto_vision.io.atomic import write_json

    plan = SplitPlan(arguments.valid, arguments.test, arguments.seed, arguments.window, arguments.numbers)
    tables = read_present(arguments.root, arguments.reader, rules_of(arguments))
    items = collect_items(tables)
    with progress("scanning images", len(items.items)) as advance:
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


def _add_shard_options(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
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


def shard(arguments: argparse.Namespace) -> int:
    """Read the data set, write the shards, say what was packed."""
    from naruto_vision.data.readers import read_present
    from naruto_vision.data.shards import ShardPlan, check_out, write_split
    from naruto_vision.io.quarantine import Quarantine

    plan = ShardPlan(arguments.size, arguments.shard_size, arguments.quality, arguments.max_bad)
    tables = read_present(arguments.root, arguments.reader, rules_of(arguments))
    check_out(arguments.out)
    quarantine = Quarantine("images")
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


_COMMANDS = {
    "prepare": (_add_prepare_options, prepare),
    "audit": (_add_audit_options, audit_command),
    "split": (_add_split_options, split),
    "shard": (_add_shard_options, shard),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command that the parser's ``prog`` ends with."""
    add_options, command = _COMMANDS[parser.prog.rpartition(" ")[2]]
    add_options(parser)
    parser.set_defaults(command=command)


def run(arguments: argparse.Namespace) -> int:
    """Run the command that the arguments were read for."""
    return int(arguments.command(arguments))
