"""``naruto-vision data prepare|audit|split|shard``, and the options of every command that reads class data."""

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from naruto_vision.cli.console import (
    add_theme_option,
    cosine,
    count,
    fraction,
    make_table,
    progress,
    show,
    warn,
    whole_number,
)
from naruto_vision.cli.gallery import add_encoder_options
from naruto_vision.cli.trainer_args import gallery_place
from naruto_vision.errors import FormatError, InputError, MissingPathError
from naruto_vision.io.locks import folder_lock
from naruto_vision.io.text import printable

if TYPE_CHECKING:
    from rich.table import Table

    from naruto_vision.data.label_check import CheckedLabel, VectorAudit
    from naruto_vision.data.leaks import Audit, AuditItem, AuditItems, ScannedImages
    from naruto_vision.data.shards import PackSource
    from naruto_vision.data.tables import ClassTable, ReadRules, Split
    from naruto_vision.encoders.base import Encoder
    from naruto_vision.metrics.stats import Rate
    from naruto_vision.viz.overlay import Colour
    from naruto_vision.viz.sheets import Tile, TileRow

EXIT_LEAK = 1
_ALIASES_HINT = "lists of texts for each class belong to --model.texts.aliases_json of `fit`"
_SHEET_PAIRS = 24
_SHEET_ROWS = 12
_SHEET_NEIGHBOURS = 5
_LISTED = 10


def add_reading_options(parser: argparse.ArgumentParser) -> None:
    """Declare how class data are read."""
    add = parser.add_argument
    add("--labels", nargs="+", metavar="NAME", help="keep only these classes, in this order")
    add("--rename", nargs="+", default=[], metavar="OLD=NEW", help="classes to rename, for example Mira=Myra")
    text = 'classes to rename, a JSON file: {"Mira": "Myra"}; texts per class are --model.texts.aliases_json of `fit`'
    add("--aliases", type=Path, metavar="FILE", help=text)
    text = "images of several classes: leave them out, keep their first class, or keep one row per class"
    add("--policy", choices=("single_only", "first", "all"), default="single_only", help=text)
    text = 'keep images without a class, in a last class "Unlabeled" (default: leave them out)'
    add("--include-unlabeled", action="store_true", help=text)
    readers = ("auto", "shards", "roboflow", "manifest", "boxes", "folders")
    add("--reader", choices=readers, default="auto", help="layout of the folder; auto detects it")


def read_aliases(path: Path | None) -> dict[str, str]:
    """Read a file of class names to rename."""
    if path is None:
        return {}
    if not path.is_file():
        raise MissingPathError(path, "alias file")
    from naruto_vision.io.typed_json import read_json

    aliases = read_json(path, object, hint=_ALIASES_HINT)
    if not isinstance(aliases, dict) or not all(isinstance(name, str) and name for name in aliases.values()):
        raise FormatError(path, 'an object of names like {"Mira": "Myra"}', repr(aliases)[:60], _ALIASES_HINT)
    return aliases


def read_renames(pairs: list[str]) -> dict[str, str]:
    """Read class names to rename from the command line."""
    renames = {}
    for pair in pairs:
        old, _, new = pair.partition("=")
        if not old or not new:
            raise InputError(f"--rename {pair}: expected OLD=NEW, the class as found and its new name")
        renames[old] = new
    return renames


def rules_of(arguments: argparse.Namespace, *, need_files: bool = True) -> "ReadRules":
    """Make the reading rules from a command's options."""
    from naruto_vision.data.tables import ReadRules

    return ReadRules(
        aliases={**read_aliases(arguments.aliases), **read_renames(arguments.rename)},
        policy=arguments.policy,
        labels=tuple(arguments.labels) if arguments.labels else None,
        include_unlabeled=arguments.include_unlabeled,
        need_files=need_files,
    )


def _read(arguments: argparse.Namespace, *, need_files: bool = True) -> "dict[Split, ClassTable]":
    """Read every split that exists."""
    from naruto_vision.data.readers import read_present

    return read_present(arguments.root, arguments.reader, rules_of(arguments, need_files=need_files))


def _scan(items: "AuditItems") -> "ScannedImages":
    from naruto_vision.data.leaks import scan_images

    with progress("scanning images", len(items.items)) as advance:
        return scan_images(items.items, advance)


def _prepare_options(parser: argparse.ArgumentParser) -> None:
    _root_option(parser)
    parser.add_argument("--out", type=Path, default=Path("manifests"), metavar="DIR", help="output folder")
    add_reading_options(parser)


def _counts_table(tables: "Mapping[Split, ClassTable]") -> "Table":
    """Lay out the row counts of every split."""
    heads = ("split", "seen", "kept", "discarded", "missing", "refused", "duplicates", "written")
    rows = []
    for split, table in tables.items():
        report = table.report
        lost = (report.discarded, len(report.missing), len(report.refused), len(report.duplicates))
        rows.append((split, report.seen, report.kept, *lost, len(table.rows)))
    return make_table(heads, rows)


def _where(out: Path, base: Path) -> str:
    """Report where manifests are, and the folder they can be read from if their paths are relative."""
    from naruto_vision.data.readers import is_found_from

    found = is_found_from(out, base)
    return f"manifests are in {out}" + ("" if found else f"; their paths are relative to {base}: run `fit` there")


def _renamed(rules: "ReadRules", tables: "Mapping[Split, ClassTable]") -> "Iterator[str]":
    """Report renamed classes, and names in the option that match no class."""
    renamed = {old: new for table in tables.values() for old, new in table.report.renamed.items()}
    if renamed:
        yield f"renamed: {', '.join(f'{old} to {new}' for old, new in renamed.items())}"
    unused = [old for old, new in rules.aliases.items() if old not in renamed and old != new]
    if unused:
        yield f"not renamed, as no class has the name: {', '.join(unused)}"


def _remarks(tables: "Mapping[Split, ClassTable]") -> "Iterator[str]":
    """Report rows of every reason, and what was passed over."""
    for split, table in tables.items():
        yield from (f"{split}: {remark}" for remark in table.report.remarks())


def prepare(arguments: argparse.Namespace) -> int:
    """Read the data set, write the manifests, print what was kept."""
    from naruto_vision.data.readers import manifest_base, write_manifests

    rules = rules_of(arguments)
    tables = _read(arguments)
    classes = tables["train"].classes
    unlabeled = "kept as a class" if rules.include_unlabeled else "discarded"
    note = (
        f"policy {rules.policy}; images without a class {unlabeled}; "
        "every row seen is kept, discarded, missing, refused or a duplicate"
    )
    base = manifest_base(arguments.root, tables)
    with folder_lock(arguments.out, "--out"):
        write_manifests(arguments.out, tables, base, classes, note)
    show(_counts_table(tables), *_renamed(rules, tables), *_remarks(tables))
    show(printable(f"{len(classes)} classes: {', '.join(classes)}", one_line=True))
    show(_where(arguments.out, base))
    return 0


def _root_option(parser: argparse.ArgumentParser) -> None:
    text = "a Roboflow export, class folders, shards or a folder of manifests"
    parser.add_argument("root", type=_path, nargs="?", default=argparse.SUPPRESS, metavar="ROOT", help=text)
    parser.add_argument("--root", type=Path, default=Path("data"), metavar="DIR", help="the same as ROOT")


def _path(text: str) -> Path | str:
    return text if text is argparse.SUPPRESS else Path(text)  # argparse converts this default too


def _audit_options(parser: argparse.ArgumentParser) -> None:
    _root_option(parser)
    add = parser.add_argument
    add("--gallery", type=gallery_place, metavar="DIR", help="also compare valid and test with this gallery")
    add("--out", type=Path, metavar="DIR", help="write audit.json and contact sheets here (default: only print)")
    add("--json-out", type=Path, metavar="FILE", help="write the results to this file instead of DIR/audit.json")
    add_theme_option(parser)
    _add_frame_options(parser)
    add_encoder_options(parser, without="none, labels are not checked")
    add("--neighbours", type=count, default=10, metavar="K", help="with --encoder: neighbours that vote on a label")
    text = "with --encoder: images with at least this cosine are near-duplicates"
    add("--near-cosine", type=cosine, default=0.98, metavar="SCORE", help=text)
    add("--fail-on-leak", action="store_true", help=f"exit with code {EXIT_LEAK} if there is a leak")
    add_reading_options(parser)


def _add_frame_options(parser: argparse.ArgumentParser) -> None:
    """Declare how numbers in file names are interpreted."""
    text = "frames whose numbers differ by at most N are near-duplicates"
    parser.add_argument("--window", type=whole_number, default=3, metavar="N", help=text)
    text = (
        "numbers in file names: frame numbers of a video, or ignored; auto takes them for frame numbers unless both "
        "splits count from the start, or neighbouring numbers look no more alike than others"
    )
    parser.add_argument("--numbers", choices=("auto", "frames", "ignore"), default="auto", help=text)


def _rate_cell(rate: "Rate") -> str:
    if not rate.interval:
        return "-"
    return f"{rate.count}/{rate.total} {rate.value:.3f}\n[{rate.interval[0]:.2f}, {rate.interval[1]:.2f}]"


def _audit_table(found: "Audit") -> "Table":
    """Lay out an audit, one column per comparison."""
    from naruto_vision.metrics.stats import Rate

    heads = ("", *(f"{one.held} against {one.against}" for one in found.comparisons))
    rows: dict[str, list[Rate]] = {
        "identical pixels": [Rate(one.exact, one.compared) for one in found.comparisons],
        "near-duplicates": [Rate(one.near, one.compared) for one in found.comparisons],
        f"a frame within {found.window}": [one.frames.within for one in found.comparisons],
        "  of these with the same class": [one.frames.agreeing for one in found.comparisons],
        "any of the three": [Rate(one.leaking, one.frames.images) for one in found.comparisons],
        "right by file name alone": [one.frames.by_name_alone for one in found.comparisons],
        "right by the majority class": [one.frames.by_majority for one in found.comparisons],
    }
    return make_table(heads, ([title, *map(_rate_cell, rates)] for title, rates in rows.items()))


def _notes(found: "Audit") -> Iterator[str]:
    counts = found.scanned.quarantine.counts()
    if found.scanned.absent:
        absent, listed = found.scanned.absent, len(found.items.items)
        yield f"{absent} of {listed} images are not on the disk: only their names were compared"
    if counts["quarantined"]:
        first = found.scanned.quarantine.rows[0].reason
        yield f"{counts['quarantined']} of {counts['seen']} images cannot be read, so only names count; first {first}"
    families = sorted({name for one in found.comparisons for name in one.frames.counted})
    if families:
        yield f"numbers of {', '.join(families[:3])} look like counters, not frames (--numbers frames uses them)"
    for part in found.items.parts:
        if found.repeats(part):
            yield f"{found.repeats(part)} images of {part} are duplicates or near-duplicates of another one of {part}"
    if found.conflicts():
        yield f"{found.conflicts()} pairs of identical images have two different classes"
    if not found.comparisons:
        yield "nothing to compare: no valid or test split; `naruto-vision data split` makes them"


def _tile(item: "AuditItem", colours: Mapping[str, "Colour"], cosine: float | None = None) -> "Tile":
    from naruto_vision.viz.overlay import UNLISTED
    from naruto_vision.viz.sheets import Tile, read_tile

    label = item.row.label
    return Tile(read_tile(item.file), f"{item.part}: {label}", item.row.path, colours.get(label, UNLISTED), cosine)


def _write_pairs(found: "Audit", arguments: argparse.Namespace) -> str:
    from naruto_vision.io.images import write_image
    from naruto_vision.viz.overlay import label_colours
    from naruto_vision.viz.sheets import SheetPair, pair_sheet

    path = arguments.out / "near_pairs.png"
    colours, pairs = label_colours(found.items.classes), []
    for pair in found.crossing()[:_SHEET_PAIRS]:
        first, second = found.items.items[pair.first], found.items.items[pair.second]
        if first.file is not None and second.file is not None:
            how = "identical" if pair.exact else f"{pair.distance} of 256 bits differ" + ", mirrored" * pair.mirrored
            pairs.append(SheetPair(_tile(first, colours), _tile(second, colours), how))
    if not pairs:
        path.unlink(missing_ok=True)  # of an earlier audit
        if not found.scanned.signatures:
            return "no image could be read, so there is no contact sheet"
        return "no images of different splits are similar, so there is no contact sheet"
    title = f"the {len(pairs)} most similar pairs of different splits"
    write_image(path, pair_sheet(pairs, title, arguments.theme))
    return f"the {len(pairs)} most similar pairs are in {path}"


def audit(arguments: argparse.Namespace) -> int:
    """Audit a data set, print the findings, write them if requested."""
    from naruto_vision.data import leaks
    from naruto_vision.io.atomic import write_json

    tables = _read(arguments, need_files=False)
    items = leaks.collect_items(tables, arguments.gallery)
    encoder = None
    if arguments.encoder:
        from naruto_vision.encoders.opening import open_encoder

        encoder = open_encoder(arguments.encoder, arguments.weights)
    found = leaks.audit(items, _scan(items), window=arguments.window, numbers=arguments.numbers)
    lines, document = [*_notes(found), *_remarks(tables)], found.as_json()
    if arguments.out is not None:
        lines.append(_write_pairs(found, arguments))
    if encoder is not None:
        checked = _check_labels(arguments, encoder, found)
        lines += _label_notes(found, checked)
        document["encoder"] = {"model": arguments.encoder, **checked.as_json()}
        if arguments.out is not None:
            lines += _write_suspects(found, checked, arguments)
    target = arguments.json_out or (arguments.out and arguments.out / "audit.json")
    if target is not None:
        write_json(target, document)
        lines.append(f"the results are in {target}")
    if found.comparisons:
        show(_audit_table(found))
    show(*lines)
    return EXIT_LEAK if arguments.fail_on_leak and found.leaking else 0


def _check_labels(arguments: argparse.Namespace, encoder: "Encoder", found: "Audit") -> "VectorAudit":
    """Embed the images and compare the class of each with those of its neighbours."""
    from naruto_vision.data.label_check import audit_vectors, embed_items

    items = found.items.items
    with progress("embedding images", len({items[index].file for index in found.scanned.signatures})) as advance:
        indices, vectors = embed_items(items, found.scanned, encoder, advance)
    return audit_vectors(items, indices, vectors, neighbours=arguments.neighbours, near_cosine=arguments.near_cosine)


def _label_notes(found: "Audit", checked: "VectorAudit") -> Iterator[str]:
    """List the findings, most likely label errors first."""
    suspects, known = checked.suspects, {frozenset((pair.first, pair.second)) for pair in found.alike}
    yield (
        f"{len(suspects)} of {len(checked.checked)} images may have a wrong label: most of their {checked.neighbours} "
        "nearest neighbours are of another class" + (", the most likely label errors first:" if suspects else "")
    )
    for one in suspects[:_LISTED]:
        item = checked.items[one.index]
        yield f"  {item.part} {item.row.path}: {item.row.label}, but {one.votes[one.rival]} are {one.rival}"
    if len(suspects) > _LISTED:
        yield f"  and {len(suspects) - _LISTED} more"
    new = sum(frozenset((first, other.index)) not in known for first, other in checked.near)
    yield (
        f"{len(checked.near)} pairs of different splits have a cosine of {checked.near_cosine:g} or more"
        + f", {new} of which are no near-duplicates by pixels" * bool(checked.near)
    )


def _write_suspects(found: "Audit", checked: "VectorAudit", arguments: argparse.Namespace) -> Iterator[str]:
    """Write ``neighbours.csv``, one line per image, and ``suspects.png``."""
    from naruto_vision.io.atomic import write_text
    from naruto_vision.io.images import write_image
    from naruto_vision.io.text import csv_text
    from naruto_vision.viz.overlay import label_colours
    from naruto_vision.viz.sheets import draw_rows

    table, sheet = arguments.out / "neighbours.csv", arguments.out / "suspects.png"
    write_text(table, csv_text(checked.rows()))
    yield f"the neighbours' classes of every image are in {table}"
    suspects = checked.suspects[:_SHEET_ROWS]
    if not suspects:
        sheet.unlink(missing_ok=True)  # of an earlier audit
        return
    colours = label_colours(found.items.classes)
    of_all = f" of {len(checked.suspects)}" if len(suspects) < len(checked.suspects) else ""
    title = f"{len(suspects)}{of_all} images whose neighbours are of another class"
    write_image(sheet, draw_rows([_suspect_row(checked, one, colours) for one in suspects], title, arguments.theme))
    yield f"the {len(suspects)} most likely label errors are drawn in {sheet}"


def _suspect_row(checked: "VectorAudit", one: "CheckedLabel", colours: Mapping[str, "Colour"]) -> "TileRow":
    from naruto_vision.viz.sheets import TileRow

    own = checked.items[one.index].row.label
    heading = f"{own}, or {one.rival}? {one.votes[one.rival]} of the {len(one.nearest)} nearest are {one.rival}"
    others = [_tile(checked.items[near.index], colours, near.cosine) for near in one.nearest[:_SHEET_NEIGHBOURS]]
    return TileRow(heading, colours.get(own), _tile(checked.items[one.index], colours), others)


def _split_options(parser: argparse.ArgumentParser) -> None:
    _root_option(parser)
    add = parser.add_argument
    add("--out", type=Path, required=True, metavar="DIR", help="output folder of the manifests")
    add("--valid", type=fraction, default=0.15, metavar="FRACTION", help="fraction of images in the valid split")
    add("--test", type=fraction, default=0.15, metavar="FRACTION", help="fraction of images in the test split")
    add("--seed", type=whole_number, default=42, metavar="N", help="random seed, for choices between equal splits")
    _add_frame_options(parser)
    add_reading_options(parser)


def split_table(tables: "Mapping[Split, ClassTable]") -> "Table":
    """Lay out the images of each class and split."""
    counts = {split: table.counts() for split, table in tables.items()}
    classes = next(iter(tables.values())).classes
    table = make_table(("class", *tables), ([name, *(counts[split][name] for split in tables)] for name in classes))
    table.add_section()
    table.add_row("all", *(str(len(table)) for table in tables.values()))
    return table


def split(arguments: argparse.Namespace) -> int:
    """Split a data set, write the manifests, print the result."""
    from naruto_vision.data.leaks import collect_items
    from naruto_vision.data.readers import manifest_base, write_manifests
    from naruto_vision.data.split import SplitPlan, split_items
    from naruto_vision.io.atomic import write_json

    plan = SplitPlan(arguments.valid, arguments.test, arguments.seed, arguments.window, arguments.numbers)
    tables = _read(arguments)
    items = collect_items(tables)
    scanned = _scan(items)
    scanned.quarantine.check(1.0)
    base = manifest_base(arguments.root, tables)
    found = split_items(tables, items, scanned, plan)
    with folder_lock(arguments.out, "--out"):
        write_manifests(arguments.out, found.tables, base, found.tables["train"].classes, found.note())
        write_json(arguments.out / "split.json", found.as_json())
        scanned.quarantine.write(arguments.out / "quarantine.jsonl")
    show(split_table(found.tables))
    reports = {split: table.report for split, table in tables.items()}
    show(*(f"{split}: {report.summary()}" for split, report in reports.items() if report.kept < report.seen))
    show(*_remarks(tables))
    show(found.note(), f"audit of the result: {found.leaking} held-out images leak")
    for held, names in found.without().items():
        if names:
            advice = (
                "their images form too few groups that stay apart; add images, or --numbers ignore if none are frames"
            )
            warn(f"{held} has no image of {len(names)} classes: {', '.join(names)}; {advice}")
    if scanned.quarantine.quarantined:
        show(f"{scanned.quarantine.quarantined} images cannot be read and were left out: quarantine.jsonl")
    show(_where(arguments.out, base))
    return 0


def _shard_options(parser: argparse.ArgumentParser) -> None:
    _root_option(parser)
    add = parser.add_argument
    add("--out", type=Path, required=True, metavar="DIR", help="output folder of the shards")
    text = "what the images come with: classes, captions.csv, masks of coco.json, or scenes with or without gt.json"
    add("--kind", choices=("classes", "captions", "masks", "scenes"), default="classes", help=text)
    text = "resize the longest side to this (default: 256, as `fit` does; masks and scenes keep their size, as 0 does)"
    add("--size", type=whole_number, metavar="PIXELS", help=text)
    add("--shard-size", type=whole_number, default=1000, metavar="N", help="images per shard")
    text = "JPEG quality, 1 to 100; 0 stores lossless PNG, or the file itself if its size is kept"
    add("--quality", type=whole_number, default=0, metavar="Q", help=text)
    text = "maximum fraction of unreadable images"
    add("--max-bad-fraction", type=fraction, default=0.05, metavar="FRACTION", help=text)
    add_reading_options(parser)


def _pack_sources(arguments: argparse.Namespace) -> "tuple[dict[str, PackSource], list[str]]":
    """Return what is packed, by the name of its folder, and remarks on what is not."""
    match arguments.kind:
        case "captions":
            from naruto_vision.data.caption_data import CaptionDataModule, caption_source

            found = CaptionDataModule(str(arguments.root), hold_out_fraction=0).tables
            return {split: caption_source(table) for split, table in found.items() if table.rows}, []
        case "masks":
            from naruto_vision.data.masks import CocoMasks

            return {"masks": CocoMasks(str(arguments.root)).pack_source()}, []
        case "scenes":
            from naruto_vision.data.scenes import SceneDataset

            scenes = SceneDataset(arguments.root)
            return {"scenes": scenes.pack_source()}, scenes.listing.sentences()
    from naruto_vision.data.shards import class_source

    tables = _read(arguments)
    return {split: class_source(table) for split, table in tables.items()}, list(_remarks(tables))


_PACKED_USE = {
    "classes": "fit --config clip.yaml --data.root {out}",
    "captions": "fit --config captions.yaml --data.root {out}",
    "masks": "fit --config sam.yaml --data.train CocoMasks --data.train.init_args.folder {out}/masks",
    "scenes": "predict {out}/scenes",
}


def shard(arguments: argparse.Namespace) -> int:
    """Read the data set, write the shards, report the counts."""
    from naruto_vision.data.shards import ShardPlan, check_out, write_split
    from naruto_vision.io.quarantine import Quarantine

    own_size = arguments.kind in ("masks", "scenes")
    if own_size and (arguments.size or arguments.quality):
        raise InputError(f"--size, --quality: {arguments.kind} are packed as they are; leave these options out")
    side = (0 if own_size else 256) if arguments.size is None else arguments.size
    plan = ShardPlan(side, arguments.shard_size, arguments.quality, arguments.max_bad_fraction)
    sources, remarks = _pack_sources(arguments)
    quarantine = Quarantine("images")
    kept = 0
    with folder_lock(arguments.out, "--out"):
        check_out(arguments.out)
        try:
            with progress("packing images", sum(len(source.images) for source in sources.values())) as advance:
                for split, source in sources.items():
                    kept += write_split(arguments.out, split, source, plan, quarantine, advance)
        finally:
            quarantine.write(arguments.out / "quarantine.jsonl")
    counts = quarantine.counts()
    show(
        *remarks,
        f"{counts['ok']} of {counts['seen']} images are in {arguments.out}"
        + (f"; {counts['quarantined']} could not be read, see quarantine.jsonl" if counts["quarantined"] else "")
        + (f"; {kept} shards were kept" if kept else ""),
        f"use them as any other data set: naruto-vision {_PACKED_USE[arguments.kind].format(out=arguments.out)}",
    )
    return 0


COMMANDS = {
    "data prepare": (_prepare_options, prepare),
    "data audit": (_audit_options, audit),
    "data split": (_split_options, split),
    "data shard": (_shard_options, shard),
}
