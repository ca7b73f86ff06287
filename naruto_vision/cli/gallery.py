"""``naruto-vision gallery COMMAND``: build, list, edit and check galleries.

``list`` and ``log`` read JSON files only, without torch or FAISS.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from naruto_vision.cli.console import progress
from naruto_vision.cli.trainer_args import GALLERY
from naruto_vision.errors import FingerprintError, InputError, MissingPathError

if TYPE_CHECKING:
    from naruto_vision.encoders.base import Encoder
    from naruto_vision.gallery.content import GalleryContent, GalleryRow
    from naruto_vision.gallery.gallery import Gallery
    from naruto_vision.gallery.info import Listing
    from naruto_vision.gallery.legacy import EncoderCheck, ReferenceIndex
    from naruto_vision.io.quarantine import Quarantine

_CHUNK = 32  # images read and embedded at a time


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command that the parser's name ends with."""
    command = parser.prog.split()[-1]
    declare, run_it = _COMMANDS[command]
    declare(parser)
    parser.set_defaults(run_gallery=run_it)


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    return int(arguments.run_gallery(arguments))


def add_encoder_options(parser: argparse.ArgumentParser, *, without: str = "the gallery's own") -> None:
    """Declare the encoder; ``without`` says which one it is where none is given."""
    parser.add_argument("--encoder", default="", metavar="MODEL", help=f"architecture or bundle (default: {without})")
    parser.add_argument("--pretrained", metavar="FILE", help="weights of --encoder, where it is an architecture")


def gallery_encoder(arguments: argparse.Namespace, note: Mapping[str, Any], fingerprint: str) -> "Encoder":
    """Open the encoder that made a gallery, by ``--encoder`` or the gallery's note, and check that it is that one."""
    from naruto_vision.encoders.opening import open_encoder, open_recipe

    if not arguments.encoder and not note.get("encoder"):
        msg = f"{arguments.gallery}: does not say where its encoder is; give --encoder MODEL or its bundle"
        raise InputError(msg)
    if arguments.encoder:
        encoder = open_encoder(arguments.encoder, arguments.pretrained)
    else:
        try:
            encoder = open_recipe(note["encoder"])
        except InputError as error:
            msg = f"{error}; that encoder built {arguments.gallery}: give --encoder where it is now"
            raise InputError(msg) from None
    found = encoder.fingerprint
    if found != fingerprint:
        raise FingerprintError(arguments.gallery, fingerprint, found)
    return encoder


def chosen_ids(arguments: argparse.Namespace, content: "GalleryContent") -> list[int]:
    """Turn ``--id``, ``--label`` and ``--path`` into ids; each has to name a row."""
    if not (arguments.id or arguments.label or arguments.path):
        msg = "no rows chosen: give --id, --label or --path; `naruto-vision gallery list GALLERY --rows` shows them"
        raise InputError(msg)
    rows = list(zip(content.ids.tolist(), content.rows, strict=True))
    absent = [f"id {id_}" for id_ in sorted(set(arguments.id) - {known for known, _ in rows})]
    absent += [repr(name) for name in arguments.label if all(row.label != name for _, row in rows)]
    absent += [repr(name) for name in arguments.path if all(row.path != name for _, row in rows)]
    if absent:
        shows = f"`naruto-vision gallery list {arguments.gallery} --rows` shows what it has"
        msg = f"no row of {', '.join(absent)}; {shows}"
        raise InputError(msg)
    labels, paths = set(arguments.label), set(arguments.path)
    return [*arguments.id, *(id_ for id_, row in rows if row.label in labels or row.path in paths)]


def _gallery(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("gallery", type=Path, help="the gallery folder")


def _usual_gallery(parser: argparse.ArgumentParser) -> None:
    text = f"the gallery folder (default: {GALLERY})"
    parser.add_argument("gallery", type=Path, nargs="?", default=Path(GALLERY), help=text)


def add_row_options(parser: argparse.ArgumentParser) -> None:
    """Declare ``--id``, ``--label`` and ``--path``."""
    parser.add_argument("--id", nargs="+", type=int, default=[], metavar="ID", help="rows by id")
    parser.add_argument("--label", nargs="+", default=[], metavar="NAME", help="all rows of a label")
    parser.add_argument("--path", nargs="+", default=[], metavar="PATH", help="all rows of an image, as listed")


def _print(text: str) -> None:
    """Print text that may hold file names that are not valid Unicode."""
    sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))


def _print_edit(folder: Path, gallery: "Gallery") -> None:
    from naruto_vision.gallery.content import line_counts

    counts = [f"{count} {what}" for what, count in line_counts(gallery.content.ledger[-1]).items() if count]
    changed = ", ".join(counts) or "nothing changed but the ledger"
    sys.stdout.write(f"{folder}: {changed}; {len(gallery)} rows in generation {gallery.generation}\n")
    if gallery.stale_since is not None:
        sys.stdout.write(
            "its thresholds were chosen with other rows; `naruto-vision validate` on scenes with ground truth "
            "chooses them again\n"
        )


def _list_options(parser: argparse.ArgumentParser) -> None:
    _usual_gallery(parser)
    parser.add_argument("--rows", action="store_true", help="every row: id, label, augmentation, path")
    parser.add_argument("--json", action="store_true", help="print JSON")


def _list(arguments: argparse.Namespace) -> int:
    from naruto_vision.gallery.info import list_gallery

    listing = list_gallery(arguments.gallery, rows=arguments.rows)
    if arguments.json:
        _print(json.dumps(listing.as_json(rows=arguments.rows), ensure_ascii=False, indent=2) + "\n")
    else:
        _print("\n".join(_listed(str(arguments.gallery), listing, rows=arguments.rows)) + "\n")
    return 0


def _listed(folder: str, listing: "Listing", *, rows: bool) -> list[str]:
    index = listing.index
    lines = [
        f"{folder}: generation {listing.generation}, {listing.total} rows, {len(listing.labels)} labels, "
        f"vectors of length {listing.dim}, index {index.get('kind')} ({index.get('metric')}), "
        f"encoder {listing.fingerprint[:12]}"
    ]
    width = max(map(len, listing.labels), default=0)
    lines += [f"  {label:<{width}}  {count:>6}" for label, count in listing.labels.items()]
    parameter = "efSearch" if index.get("kind") == "hnsw" else "nprobe"
    budgets = [
        f"{parameter} {budget.width} for {kind} queries (recall@10 {budget.recall:.3f} of {budget.queries})"
        for kind, budget in listing.budgets.items()
    ]
    if budgets:
        measured = max(budget.rows for budget in listing.budgets.values())
        lines.append(f"index: {' and '.join(budgets)}, measured at {measured} rows")
    lines.append(_thresholds(listing))
    if rows:
        lines += ["", f"{'ID':>8}  {'LABEL':<{width}}  {'AUG':<8} PATH"]
        lines += [f"{row['id']:>8}  {row['label']:<{width}}  {row['aug']:<8} {row['path']}" for row in listing.rows]
    return lines


def _thresholds(listing: "Listing") -> str:
    default = listing.thresholds.get("default")
    own = len(listing.thresholds.get("classes") or {})
    if default is None and not own:
        return "thresholds: none, every region counts as known"
    text = f"thresholds: {default if default is None else round(default, 4)}, {own} labels have their own"
    if listing.stale_since is None:
        return text
    return f"{text}; STALE: rows changed in generation {listing.stale_since}, choose them again with `validate`"


def _log_options(parser: argparse.ArgumentParser) -> None:
    _usual_gallery(parser)
    parser.add_argument("--json", action="store_true", help="print the lines of ledger.jsonl")


def _log(arguments: argparse.Namespace) -> int:
    from naruto_vision.gallery.info import list_gallery

    ledger = list_gallery(arguments.gallery).ledger
    lines = [json.dumps(line, ensure_ascii=False) if arguments.json else _logged(line) for line in ledger]
    _print("".join(line + "\n" for line in lines))
    return 0


def _logged(line: Mapping[str, Any]) -> str:
    from naruto_vision.gallery.content import line_counts

    counts = ", ".join(f"{count} {what}" for what, count in line_counts(line).items() if count)
    target = next((f"to {line[key]}" for key in ("to", "index") if key in line), "")
    change = "; ".join(part for part in (target, counts) if part)
    return f"{line['generation']:>6}  {line['op']:<10}  {line['rows']:>7} rows  {change}".rstrip()


def _add_options(parser: argparse.ArgumentParser) -> None:
    _gallery(parser)
    parser.add_argument("images", nargs="*", metavar="IMAGE", help="images of --label, or folders of them")
    parser.add_argument("--label", default="", metavar="NAME", help="who the images show")
    parser.add_argument("--root", type=Path, metavar="DIR", help="instead: a folder with one subfolder a label")
    parser.add_argument(
        "--publish-every",
        type=int,
        default=2000,
        metavar="N",
        help="save the gallery after every N images; an interrupted run continues from there (default: 2000)",
    )
    add_encoder_options(parser)


def _add(arguments: argparse.Namespace) -> int:
    from naruto_vision.gallery.gallery import Gallery
    from naruto_vision.io.quarantine import Quarantine

    wanted = _wanted(arguments)
    if arguments.publish_every < 1:
        msg = f"--publish-every {arguments.publish_every}: expected 1 or more"
        raise InputError(msg)
    gallery = Gallery.open(arguments.gallery, index="exact")
    known = {row.path for row in gallery.rows}
    root = str(gallery.note.get("root", ""))
    rows = [(file, _row(file, label, root)) for file, label in wanted]
    fresh = [(file, row) for file, row in rows if row.path not in known]
    quarantine = Quarantine("images to add")
    if fresh:
        encoder = gallery_encoder(arguments, gallery.note, gallery.fingerprint)
        after = _embed_and_publish(arguments, gallery, encoder, fresh, quarantine)
        for bad in quarantine.rows:
            sys.stderr.write(f"left out: {bad.reason}\n")
        quarantine.check(1.0)
        _print_edit(arguments.gallery, after)
    sys.stdout.write(
        f"{len(wanted)} images seen = {quarantine.ok} added + {len(wanted) - len(fresh)} there before + "
        f"{quarantine.quarantined} unreadable\n"
    )
    return 0


def _wanted(arguments: argparse.Namespace) -> list[tuple[Path, str]]:
    """List the images with their labels, each file once."""
    from naruto_vision.io.images import list_images

    if bool(arguments.images) == bool(arguments.root) or bool(arguments.images) != bool(arguments.label):
        msg = "gallery add: give images and their --label, or --root DIR with one subfolder a label"
        raise InputError(msg)
    if arguments.root:
        from naruto_vision.data.readers import read_class_folders

        return [(arguments.root / row.path, row.label) for row in read_class_folders(arguments.root).rows]
    files: list[Path] = []
    for name in map(Path, arguments.images):
        files += [name / inside for inside in list_images(name)] if name.is_dir() else [name]
    missing = [file for file in files if not file.is_file()]
    if missing or not files:
        raise MissingPathError(missing[0] if missing else arguments.images[0], "image")
    return [(file, arguments.label) for file in dict.fromkeys(files)]


def _row(file: Path, label: str, root: str) -> "GalleryRow":
    """Name an image as the enrolment does: relative to its root where it is in there, absolute elsewhere."""
    from naruto_vision.gallery.content import GalleryRow

    whole, base = file.absolute(), Path(root).absolute()
    return GalleryRow((whole.relative_to(base) if root and whole.is_relative_to(base) else whole).as_posix(), label)


def _embed_and_publish(
    arguments: argparse.Namespace,
    gallery: "Gallery",
    encoder: "Encoder",
    fresh: Sequence[tuple[Path, "GalleryRow"]],
    quarantine: "Quarantine",
) -> "Gallery":
    import numpy as np

    from naruto_vision.encoders.base import embed_images
    from naruto_vision.gallery.edits import add_rows
    from naruto_vision.gallery.gallery import edit_gallery

    mirror = bool(gallery.note.get("mirror", True))
    vectors: list[Any] = []
    rows: list[GalleryRow] = []
    starts = range(0, len(fresh), _CHUNK)
    with progress("embedding", len(starts), hidden=len(starts) < 2) as advance:
        for start in starts:
            images, own = _read(fresh[start : start + _CHUNK], quarantine)
            if images:
                vectors.append(embed_images(encoder, images, mirror=mirror).float().numpy())
                rows += own
            if rows and (len(rows) >= arguments.publish_every or start == starts[-1]):
                new, fingerprint = np.concatenate(vectors), gallery.fingerprint
                gallery = edit_gallery(arguments.gallery, add_rows, new, rows, fingerprint=fingerprint)
                vectors, rows = [], []
            advance()
    return gallery


def _read(chunk: Sequence[tuple[Path, "GalleryRow"]], quarantine: "Quarantine") -> tuple[list[Any], list["GalleryRow"]]:
    from naruto_vision.io.images import read_image

    found = [(quarantine.read(file, partial(read_image, file)), row) for file, row in chunk]
    return [image for image, _ in found if image is not None], [row for image, row in found if image is not None]


def _remove_options(parser: argparse.ArgumentParser) -> None:
    _gallery(parser)
    add_row_options(parser)


def _remove(arguments: argparse.Namespace) -> int:
    from naruto_vision.gallery.edits import remove_rows
    from naruto_vision.gallery.gallery import edit_gallery

    gallery = edit_gallery(arguments.gallery, lambda content: remove_rows(content, chosen_ids(arguments, content)))
    _print_edit(arguments.gallery, gallery)
    return 0


def _relabel_options(parser: argparse.ArgumentParser) -> None:
    _gallery(parser)
    add_row_options(parser)
    parser.add_argument("--to", required=True, metavar="NAME", help="the rows' new label")


def _relabel(arguments: argparse.Namespace) -> int:
    from naruto_vision.gallery.edits import relabel_rows
    from naruto_vision.gallery.gallery import edit_gallery

    gallery = edit_gallery(
        arguments.gallery, lambda content: relabel_rows(content, chosen_ids(arguments, content), arguments.to)
    )
    _print_edit(arguments.gallery, gallery)
    return 0


def _rollback_options(parser: argparse.ArgumentParser) -> None:
    _gallery(parser)
    shown = "the generation to restore; `gallery log GALLERY` lists them"
    parser.add_argument("--to", type=int, required=True, metavar="GENERATION", help=shown)


def _rollback(arguments: argparse.Namespace) -> int:
    from naruto_vision.gallery.edits import roll_back
    from naruto_vision.gallery.gallery import edit_gallery

    _print_edit(arguments.gallery, edit_gallery(arguments.gallery, roll_back, arguments.to))
    return 0


def _reindex_options(parser: argparse.ArgumentParser) -> None:
    _gallery(parser)
    parser.add_argument(
        "--index",
        choices=("auto", "flat", "hnsw", "ivf", "sq", "exact"),
        default="auto",
        help="flat compares every row; hnsw, ivf and sq (ivf of 8-bit vectors) miss a few neighbours and are faster in "
        "large galleries; exact is flat without a stored index (default: auto, flat up to 100,000 rows, then ivf)",
    )


def _reindex(arguments: argparse.Namespace) -> int:
    from naruto_vision.gallery.gallery import reindex_gallery

    gallery = reindex_gallery(arguments.gallery, arguments.index)
    kind = "flat" if gallery.index_kind == "faiss" else gallery.index_kind
    sys.stdout.write(f"{arguments.gallery}: index {kind} of {len(gallery)} rows\n")
    return 0


def _verify_options(parser: argparse.ArgumentParser) -> None:
    _usual_gallery(parser)
    add_encoder_options(parser, without="none, the encoder is not checked")
    parser.add_argument(
        "--root",
        type=Path,
        metavar="DIR",
        help="check that the images are in this folder or its train/, valid/, …",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def _verify(arguments: argparse.Namespace) -> int:
    """Print what each check found; 1 if something is wrong."""
    from naruto_vision.gallery.verify import verify_gallery, worst

    fingerprint = None
    if arguments.encoder:
        from naruto_vision.encoders.opening import open_encoder

        fingerprint = open_encoder(arguments.encoder, arguments.pretrained).fingerprint
    findings = verify_gallery(arguments.gallery, fingerprint=fingerprint, images=arguments.root)
    verdict = worst(findings)
    if arguments.json:
        found = {"verdict": verdict, "findings": [dataclasses.asdict(finding) for finding in findings]}
        _print(json.dumps(found, ensure_ascii=False, indent=2) + "\n")
    else:
        _print("".join(f"{finding.verdict:<8}{finding.check:<12}{finding.text}\n" for finding in findings))
    return 1 if verdict == "wrong" else 0


def _import_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="folder with embeddings.npy and meta.jsonl")
    parser.add_argument("--out", type=Path, required=True, help="the new gallery folder; new or empty")
    parser.add_argument("--encoder", required=True, metavar="MODEL", help="what made it: an architecture or a bundle")
    parser.add_argument("--pretrained", metavar="FILE", help="weights of --encoder, where it is an architecture")
    parser.add_argument("--root", type=Path, metavar="DIR", help="folder that the rows' paths are relative to")
    parser.add_argument(
        "--assert-encoder",
        action="store_true",
        help="trust --encoder where none of the images is here to check it with",
    )


def _import(arguments: argparse.Namespace) -> int:
    """Read an index folder of the reference system, check the encoder with its images, write the gallery."""
    out: Path = arguments.out
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        msg = f"{out}: is not empty; give another --out"
        raise InputError(msg)
    from naruto_vision.encoders.opening import open_encoder
    from naruto_vision.gallery.gallery import Gallery
    from naruto_vision.gallery.legacy import check_encoder, read_reference_index

    index = read_reference_index(arguments.folder)
    encoder = open_encoder(arguments.encoder, arguments.pretrained)
    roots = [root for root in (arguments.root, Path(), arguments.folder, arguments.folder.parent) if root is not None]

    def find(path: str) -> Path | None:
        return next((root / path for root in roots if (root / path).is_file()), None)

    check = check_encoder(index, encoder, find) if encoder.dim == index.vectors.shape[1] else None
    _refuse_other_encoder(arguments, index, encoder, check)
    checked = 0 if check is None else check.checked
    note = {
        "encoder": dict(encoder.recipe),
        "mirror": check is None or check.mirror,
        "imported": {"rows": len(index.rows), "checked": checked},
        **({"root": arguments.root.as_posix()} if arguments.root else {}),
    }
    gallery = Gallery.build(index.vectors, index.rows, fingerprint=encoder.fingerprint, note=note)
    gallery.save(out)
    evidence = f"{checked} images embedded again agree" if checked else "no image was here to check the encoder with"
    sys.stdout.write(f"{len(gallery)} rows of {len(gallery.labels)} labels are in {out}; {evidence}\n")
    return 0


def _refuse_other_encoder(
    arguments: argparse.Namespace, index: "ReferenceIndex", encoder: "Encoder", check: "EncoderCheck | None"
) -> None:
    folder = arguments.folder
    if check is None:
        msg = f"{folder}: vectors of length {index.vectors.shape[1]}, those of {arguments.encoder} have {encoder.dim}"
        raise InputError(f"{msg}; give the encoder that made it")
    if check.lowest is None and not arguments.assert_encoder:
        msg = f"{folder}: none of its {len(index.rows)} images is here to check the encoder with"
        raise InputError(f"{msg}; give --root DIR, or --assert-encoder if you are sure")
    if check.lowest is not None and not check.agrees:
        msg = f"{folder}: not made by {arguments.encoder}: of {check.checked} images embedded again, one has cosine"
        raise InputError(f"{msg} {check.lowest:.3f} with its row; give the encoder and the weights that made it")


_Declare = Callable[[argparse.ArgumentParser], None]
_COMMANDS: Mapping[str, tuple[_Declare, Callable[[argparse.Namespace], int]]] = {
    "import": (_import_options, _import),
    "list": (_list_options, _list),
    "add": (_add_options, _add),
    "remove": (_remove_options, _remove),
    "relabel": (_relabel_options, _relabel),
    "verify": (_verify_options, _verify),
    "log": (_log_options, _log),
    "rollback": (_rollback_options, _rollback),
    "reindex": (_reindex_options, _reindex),
}
