"""``naruto-vision gallery COMMAND``: build, list, edit and check galleries.

``list`` and ``log`` read JSON files only, without torch or FAISS.
"""

import argparse
import dataclasses
import difflib
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from naruto_vision.cli.console import (
    add_json_option,
    count,
    count_progress,
    progress,
    show,
    show_json,
    warn,
    warn_left_out,
)
from naruto_vision.cli.trainer_args import GALLERY, REGIONS, gallery_place, learnt_segmenter
from naruto_vision.errors import InputError, MissingPathError
from naruto_vision.io.names import label_name
from naruto_vision.io.text import printable

if TYPE_CHECKING:
    from torch import Tensor

    from naruto_vision.encoders.base import Encoder
    from naruto_vision.gallery.content import GalleryContent, GalleryRow
    from naruto_vision.gallery.gallery import Gallery
    from naruto_vision.gallery.info import Listing
    from naruto_vision.gallery.reference_index import EncoderCheck, ReferenceIndex
    from naruto_vision.io.quarantine import Quarantine
    from naruto_vision.records import Vectors

EXIT_DIFFERS = 1
_INDEXING = "indexing vectors"
_PLACE = "gallery folder or URI of a vector store"
_CHUNK = 32  # images read and embedded at a time
_ROUNDING = 1e-3  # of a vector's values, also when it was embedded on another device


def add_encoder_options(parser: argparse.ArgumentParser, *, without: str = "the one that built the gallery") -> None:
    """Declare the encoder; ``without`` is its default in help."""
    text = f"open_clip or DINOv2 architecture, or model bundle (default: {without})"
    parser.add_argument("--encoder", default="", metavar="MODEL", help=text)
    text = "weights of an architecture: official name, file or open_clip tag (default: those in weights/)"
    parser.add_argument("--weights", metavar="FILE", help=text)


def gallery_encoder(arguments: argparse.Namespace, gallery: "Gallery | Listing") -> "Encoder":
    """Open the encoder that built a gallery, by ``--encoder`` or the gallery's note, and check its fingerprint."""
    from naruto_vision.encoders.opening import recorded_encoder

    made_by = gallery.note.get("encoder"), gallery.fingerprint
    return recorded_encoder(arguments.gallery, *made_by, arguments.encoder, arguments.weights)


def list_files(names: Sequence[str]) -> list[str]:
    """List image files; folders are expanded to their images."""
    from naruto_vision.io.images import scan_folder

    files: list[str] = []
    for name in names:
        if not Path(name).is_dir():
            files.append(name)
            continue
        listing = scan_folder(name)
        listing.refuse_empty(name)
        files += [(Path(name) / file).as_posix() for file in listing.images]
        for sentence in listing.sentences():
            warn(f"{name}: {sentence}")
    return files


def embed_files(
    encoder: "Encoder", files: Sequence[str | Path], quarantine: "Quarantine", *, mirror: bool
) -> Iterator[tuple["Vectors", list[int]]]:
    """Read and embed images in chunks; yields the vectors (n, D) of those that can be read, and their indices."""
    from naruto_vision.encoders.base import embed_pixels, prepared
    from naruto_vision.io.images import read_image

    def load(file: str | Path) -> "Tensor":
        return prepared(encoder.preprocess, read_image(file), file)

    starts = range(0, len(files), _CHUNK)
    with progress("embedding images", len(starts), hidden=len(starts) < 2) as advance:
        for start in starts:
            indices = range(start, min(start + _CHUNK, len(files)))
            read = [(index, quarantine.read(files[index], partial(load, files[index]))) for index in indices]
            good = [(index, pixels) for index, pixels in read if pixels is not None]
            if good:
                vectors = embed_pixels(encoder, [pixels for _, pixels in good], mirror=mirror).numpy()
                yield vectors, [index for index, _ in good]
            advance()


def chosen_ids(arguments: argparse.Namespace, content: "GalleryContent") -> list[int]:
    """Turn ``--id``, ``--label`` and ``--path`` into ids; InputError for a value that matches no entry."""
    if not (arguments.id or arguments.label or arguments.path):
        msg = "no entries chosen: give --id, --label or --path; `naruto-vision gallery list GALLERY --rows` lists them"
        raise InputError(msg)
    rows = list(zip(content.ids.tolist(), content.rows, strict=True))
    absent = [f"id {id_}" for id_ in sorted(set(arguments.id) - {known for known, _ in rows})]
    absent += [repr(name) for name in arguments.label if all(row.label != name for _, row in rows)]
    absent += [repr(name) for name in arguments.path if all(row.path != name for _, row in rows)]
    if absent:
        every = {row.label for _, row in rows}
        wrong = [name for name in arguments.label if name not in every]
        near = [close for name in wrong for close in difflib.get_close_matches(name, every, n=1)]
        where = f"`naruto-vision gallery list {arguments.gallery} --rows` lists them"
        raise InputError(f"no entry has {', '.join(absent)}; {f'did you mean {near[0]}?' if near else where}")
    labels, paths = set(arguments.label), set(arguments.path)
    return [*arguments.id, *(id_ for id_, row in rows if row.label in labels or row.path in paths)]


def _gallery_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("gallery", type=gallery_place, metavar="GALLERY", help=_PLACE)


def _default_gallery_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("gallery", type=gallery_place, metavar="GALLERY", nargs="?", default=GALLERY, help=_PLACE)


def add_row_options(parser: argparse.ArgumentParser) -> None:
    """Declare ``--id``, ``--label`` and ``--path``."""
    parser.add_argument("--id", nargs="+", type=int, default=[], metavar="ID", help="entries with these ids")
    text = "all entries of these labels"
    parser.add_argument("--label", nargs="+", type=label_name, default=[], metavar="NAME", help=text)
    text = "all entries of these images, as `gallery list` has them"
    parser.add_argument("--path", nargs="+", default=[], metavar="PATH", help=text)


def _show_edit(folder: str | Path, gallery: "Gallery") -> None:
    changed = _changes(gallery.content.ledger[-1]) or "no entry changed"
    show(f"{folder}: {changed}; {len(gallery)} entries in generation {gallery.generation}")
    if gallery.stale_since is not None:
        show(
            "its thresholds were chosen with other entries; choose them again with `naruto-vision validate` on scenes "
            "with ground truth"
        )


def _changes(line: Mapping[str, Any]) -> str:
    """Say how many entries a line of the ledger added, removed and relabelled."""
    from naruto_vision.gallery.content import line_counts

    return ", ".join(f"{number} {what}" for what, number in line_counts(line).items() if number)


def _list_options(parser: argparse.ArgumentParser) -> None:
    _default_gallery_option(parser)
    parser.add_argument("--rows", action="store_true", help="also list every entry: id, label, augmentation, path")
    add_json_option(parser)


def _list(arguments: argparse.Namespace) -> int:
    from naruto_vision.gallery.info import list_gallery

    listing = list_gallery(arguments.gallery, rows=arguments.rows)
    if arguments.json:
        show_json(listing.as_json(rows=arguments.rows))
    else:
        show(*_listed(arguments.gallery, listing, rows=arguments.rows))
    return 0


def _listed(folder: str | Path, listing: "Listing", *, rows: bool) -> list[str]:
    index = listing.index
    lines = [
        f"{folder}: generation {listing.generation}, {listing.total} entries, {len(listing.labels)} labels, "
        f"{listing.dim} dimensions, index {index.get('kind')} ({index.get('metric')}), "
        f"encoder {listing.fingerprint[:12]}"
    ]
    width = max(map(len, listing.labels), default=0)
    lines += [f"  {printable(label, one_line=True):<{width}}  {number:>6}" for label, number in listing.labels.items()]
    parameter = "efSearch" if index.get("kind") == "hnsw" else "nprobe"
    budgets = [
        f"{parameter} {budget.width} for {kind} queries (recall@10 {budget.recall:.3f} of {budget.queries})"
        for kind, budget in listing.budgets.items()
    ]
    if budgets:
        measured = max(budget.rows for budget in listing.budgets.values())
        lines.append(f"index: {' and '.join(budgets)}, measured at {measured} entries")
    lines.append(_thresholds(listing))
    lines += [f"left out at enrolment: {listing.reasons()}"] if listing.left_out else []
    if rows:
        lines += ["", f"{'ID':>8}  {'LABEL':<{width}}  {'AUG':<8} PATH"]
        lines += [f"{row['id']:>8}  {row['label']:<{width}}  {row['aug']:<8} {row['path']}" for row in listing.rows]
        lines += [f"{'-':>8}  {row['label']:<{width}}  {row['reason']}: {row['path']}" for row in listing.left_out]
    return lines


def _thresholds(listing: "Listing") -> str:
    default = listing.thresholds.get("default")
    own = len(listing.thresholds.get("classes") or {})
    if default is None and not own:
        return "thresholds: none, so no region is unknown"
    text = f"thresholds: {default if default is None else round(default, 4)}, {own} labels have their own"
    if listing.stale_since is None:
        return text
    return f"{text}; STALE: entries changed in generation {listing.stale_since}, choose them again with `validate`"


def _suspects_options(parser: argparse.ArgumentParser) -> None:
    _default_gallery_option(parser)
    add_json_option(parser)


def _suspects(arguments: argparse.Namespace) -> int:
    """List the entries whose label the others contradict."""
    from naruto_vision.gallery.gallery import Gallery
    from naruto_vision.recognition.suspects import find_suspects

    folder = arguments.gallery
    gallery = Gallery.open(folder, index="exact")
    found = find_suspects(gallery.vectors, gallery.rows)
    if arguments.json:
        rows = ({"id": gallery.ids[one.number], "path": gallery.rows[one.number].path} for one in found)
        facts = [{**row, **dataclasses.asdict(one)} for row, one in zip(rows, found, strict=True)]
        show_json({"gallery": str(folder), "rows": len(gallery), "suspects": facts})
        return 0
    show(f"{folder}: {len(found)} of {len(gallery)} entries may have a wrong label, as the others give it another one")
    for one in found:
        chances = f"{one.label} {one.own:.2f}, {one.rival} {one.chance:.2f}"
        show(f"{gallery.ids[one.number]:>8}  {chances}: {gallery.rows[one.number].path}")
    if found:
        show(
            f"`naruto-vision gallery relabel {folder} --id ID --to NAME` or `gallery remove {folder} --id ID` fixes one"
        )
    return 0


def _log_options(parser: argparse.ArgumentParser) -> None:
    _default_gallery_option(parser)
    parser.add_argument("--json", action="store_true", help="print the lines of ledger.jsonl")


def _log(arguments: argparse.Namespace) -> int:
    from naruto_vision.gallery.info import list_gallery

    ledger = list_gallery(arguments.gallery).ledger
    show(*(json.dumps(line, ensure_ascii=False) if arguments.json else _logged(line) for line in ledger))
    return 0


def _logged(line: Mapping[str, Any]) -> str:
    target = next((f"to {line[key]}" for key in ("to", "index") if key in line), "")
    change = "; ".join(part for part in (target, _changes(line)) if part)
    return f"{line['generation']:>6}  {line['op']:<10}  {line['rows']:>7} entries  {change}".rstrip()


def _add_options(parser: argparse.ArgumentParser) -> None:
    _gallery_option(parser)
    parser.add_argument("images", nargs="*", metavar="IMAGE", help="images of --label, or folders of them")
    parser.add_argument("--label", type=label_name, default="", metavar="NAME", help="label of the images")
    parser.add_argument("--root", type=Path, metavar="DIR", help="add a folder with one subfolder per label instead")
    text = "the images are not NAME: what is nearer to one of them than to every entry of NAME is not named NAME"
    parser.add_argument("--not", dest="negative", type=label_name, default="", metavar="NAME", help=text)
    text = "also add images that are blurred, tiny, cut off or grey among those of the gallery"
    parser.add_argument("--force", action="store_true", help=text)
    text = "save the gallery after every N images; an interrupted run continues from there"
    parser.add_argument("--publish-every", type=count, default=2000, metavar="N", help=text)
    add_encoder_options(parser)


def _add(arguments: argparse.Namespace) -> int:
    from naruto_vision.gallery.gallery import Gallery, published_at
    from naruto_vision.gallery.store import writer_lock
    from naruto_vision.io.images import split_crop
    from naruto_vision.io.quarantine import Quarantine

    wanted = _wanted(arguments)
    with writer_lock(arguments.gallery):  # an interrupted run may have added all of them
        pass
    gallery = Gallery.open(arguments.gallery, index="exact")
    root = str(gallery.note.get("root", ""))
    rows = [(file, _row(file, label, root)) for file, label in wanted]
    by_region = (gallery.note.get("enrol") or {}).get("by", "image") != "image"
    if arguments.negative:
        return _add_negatives(arguments, gallery, rows)
    known: dict[str, dict[str, int]] = {}  # path → label → position of the entry
    for position, own in enumerate(gallery.rows):
        path = split_crop(own.path)[0] if by_region else own.path
        if own.aug == "none" or own.label not in known.get(path, {}):
            known.setdefault(path, {})[own.label] = position
    fresh = [(file, row) for file, row in rows if row.path not in known]
    quarantine = Quarantine("images to add")
    differing = [
        f"{row.path}: is in the gallery as {', '.join(known[row.path])}, not {row.label}; change its label with "
        f"`naruto-vision gallery relabel {arguments.gallery} --path {row.path} --to {row.label}`"
        for _, row in rows
        if row.path in known and row.label not in known[row.path]
    ]
    positions = {file: known[row.path][row.label] for file, row in rows if row.label in known.get(row.path, {})}
    published = published_at(arguments.gallery)
    newer = {file: position for file, position in positions.items() if _is_newer(file, published)}
    already = len(wanted) - len(fresh)
    fresh = list(_passed(arguments, gallery, fresh))
    gated = len(wanted) - already - len(fresh)
    if fresh or newer:
        encoder = gallery_encoder(arguments, gallery)
        differing += _changed(encoder, gallery, newer, arguments.gallery)
    beside = 0
    if fresh:
        rows = _with_regions(gallery, fresh, arguments.gallery) if by_region else fresh
        beside = len(rows) - len(fresh)
        _embed_and_publish(arguments, gallery, encoder, rows, quarantine)
    counts = f"{quarantine.ok - beside} added + {already} already in the gallery"
    counts += f" + {gated} left out by the gates (--force adds them)" * bool(gated)
    show(f"{len(wanted)} images seen = {counts} + {quarantine.quarantined} unreadable")
    show(*differing)
    return EXIT_DIFFERS if differing else 0


def _passed(
    arguments: argparse.Namespace, gallery: "Gallery", fresh: "Sequence[tuple[Path, GalleryRow]]"
) -> "Iterator[tuple[Path, GalleryRow]]":
    """Yield the images that pass the gates of the gallery, and report the others."""
    noted = gallery.note.get("gates")
    if not fresh or noted is None or arguments.force:
        yield from fresh
        return
    import numpy as np

    from naruto_vision.gallery.quality import find_flaws, measure_quality, reasons_of
    from naruto_vision.io.images import image_or_none
    from naruto_vision.io.typed_json import convert_json

    given = convert_json(arguments.gallery, noted, tuple[float, float, float, float])
    limits = np.array(given, dtype=np.float32)
    for file, row in fresh:
        if (image := image_or_none(file)) is not None:
            (why,) = reasons_of(find_flaws(measure_quality(image)[None], limits))
            if why:
                warn(f"left out: {file}: {why}")
                continue
        yield file, row


def _add_negatives(arguments: argparse.Namespace, gallery: "Gallery", rows: "Sequence[tuple[Path, GalleryRow]]") -> int:
    """Add images as negative rows of a label."""
    from naruto_vision.gallery.store import NEGATIVE
    from naruto_vision.io.quarantine import Quarantine

    name = arguments.negative
    if name not in gallery.labels:
        near = difflib.get_close_matches(name, gallery.labels, n=1)
        raise InputError(f"--not {name}: the gallery has no such label{f'; did you mean {near[0]}?' if near else ''}")
    paths = {row.path for _, row in rows}
    if own := next((row.path for row in gallery.rows if row.label == name and row.path in paths), ""):
        where = f"`naruto-vision gallery remove {arguments.gallery} --path {own}`"
        raise InputError(f"{own}: is in the gallery as {name}; remove it first with {where}")
    there = {row for row in gallery.content.rows if row.aug == NEGATIVE}
    negative = [(file, dataclasses.replace(row, aug=NEGATIVE)) for file, row in rows]
    fresh = [(file, row) for file, row in negative if row not in there]
    quarantine = Quarantine("images to add")
    if fresh:
        encoder = gallery_encoder(arguments, gallery)
        _embed_and_publish(arguments, gallery, encoder, fresh, quarantine)
    show(f"negative rows of {name}: {quarantine.ok} added, {len(negative) - len(fresh)} were there")
    return 0


def _with_regions(
    gallery: "Gallery", fresh: "Sequence[tuple[Path, GalleryRow]]", folder: str | Path
) -> "list[tuple[Path, GalleryRow]]":
    """Replace images by the crop of their one region, or add it, as the gallery was enrolled."""
    from naruto_vision.cli.trainer import parse_class
    from naruto_vision.io.images import crop_path, image_or_none
    from naruto_vision.recognition.enrolment import only_crop
    from naruto_vision.segmentation.generator import Segmenter

    noted, section = gallery.note["enrol"], learnt_segmenter(REGIONS)
    segmenter = None if section is None else parse_class(Segmenter, section, Path(REGIONS))
    if segmenter is None or segmenter.fingerprint != noted.get("detector"):
        warn(f"images are added whole: {folder} was enrolled by regions of a detector that is not in {REGIONS}")
        return list(fresh)
    rows = []
    for file, row in fresh:
        image = image_or_none(file)
        box = None if image is None else only_crop(segmenter, image)[0]
        rows += [(file, row)] if box is None or noted["by"] == "both" else []
        if box is not None:
            rows.append((Path(crop_path(str(file), box)), dataclasses.replace(row, path=crop_path(row.path, box))))
    return rows


def _is_newer(file: Path, published: float) -> bool:
    """Whether a file was written, copied or moved here after a time, in seconds since 1970."""
    state = file.stat()
    return max(state.st_mtime, state.st_ctime) > published


def _changed(encoder: "Encoder", gallery: "Gallery", newer: Mapping[Path, int], folder: str | Path) -> Iterator[str]:
    """Embed newer files of entries again, and report those whose vector is another one."""
    from naruto_vision.io.images import crop_path, split_crop
    from naruto_vision.io.quarantine import Quarantine

    files = list(newer)
    boxes = (split_crop(gallery.rows[position].path)[1] for position in newer.values())
    crops = [file if box is None else crop_path(str(file), box) for file, box in zip(files, boxes, strict=True)]
    for vectors, indices in embed_files(encoder, crops, Quarantine(), mirror=gallery.mirror):
        for vector, index in zip(vectors, indices, strict=True):
            row = gallery.rows[newer[files[index]]]
            if row.aug == "none" and abs(vector - gallery.vectors[newer[files[index]]]).max() > _ROUNDING:
                yield (
                    f"{row.path}: has changed since it was added, and its entry is the old image; replace it with "
                    f"`naruto-vision gallery remove {folder} --path {row.path}`, then add it again"
                )


def _wanted(arguments: argparse.Namespace) -> list[tuple[Path, str]]:
    """List the images with their labels, each file once."""
    labels = [name for name in (arguments.label, arguments.negative) if name]
    if bool(arguments.images) == bool(arguments.root) or len(labels) != bool(arguments.images):
        msg = "gallery add: give images and their --label, or --not NAME, or --root DIR with one subfolder per label"
        raise InputError(msg)
    if arguments.root:
        from naruto_vision.data.readers import read_class_folders

        table = read_class_folders(arguments.root)
        for remark in table.report.remarks():
            warn(f"{arguments.root}: {remark}")
        return [(arguments.root / row.path, row.label) for row in table.rows]
    missing = next((name for name in arguments.images if not Path(name).exists()), None)
    if missing:
        raise MissingPathError(missing, "image")
    return [(Path(file), labels[0]) for file in dict.fromkeys(list_files(arguments.images))]


def _row(file: Path, label: str, root: str) -> "GalleryRow":
    """Name an image as `fit` does: relative to the gallery's root if it is inside, otherwise absolute."""
    from naruto_vision.gallery.content import GalleryRow

    whole, base = file.absolute(), Path(root).absolute()
    return GalleryRow((whole.relative_to(base) if root and whole.is_relative_to(base) else whole).as_posix(), label)


def _embed_and_publish(
    arguments: argparse.Namespace,
    gallery: "Gallery",
    encoder: "Encoder",
    fresh: Sequence[tuple[Path, "GalleryRow"]],
    quarantine: "Quarantine",
) -> None:
    """Add the images that can be read, warn of the others, and say what has changed; InputError if none can."""
    import numpy as np

    from naruto_vision.gallery.edits import add_rows
    from naruto_vision.gallery.gallery import edit_gallery

    vectors: list[Vectors] = []
    rows: list[GalleryRow] = []
    absent = {row for _, row in fresh}.difference(gallery.content.rows)

    def add(content: "GalleryContent", found: "Vectors") -> "GalleryContent":
        if row := next((row for row in content.rows if row in absent), None):
            raise InputError(f"another process has added {row.path} meanwhile; run the same command again")
        absent.difference_update(rows)
        return add_rows(content, found, rows)

    def publish() -> "Gallery":
        return edit_gallery(arguments.gallery, add, np.concatenate(vectors), fingerprint=gallery.fingerprint)

    for embedded, indices in embed_files(encoder, [file for file, _ in fresh], quarantine, mirror=gallery.mirror):
        vectors.append(embedded)
        rows += [fresh[index][1] for index in indices]
        if len(rows) >= arguments.publish_every:
            gallery = publish()
            vectors, rows = [], []
    if rows:
        gallery = publish()
    warn_left_out(quarantine)
    quarantine.check(1.0)
    _show_edit(arguments.gallery, gallery)


def _remove_options(parser: argparse.ArgumentParser) -> None:
    _gallery_option(parser)
    add_row_options(parser)


def _remove(arguments: argparse.Namespace) -> int:
    from naruto_vision.gallery.edits import remove_rows
    from naruto_vision.gallery.gallery import edit_gallery

    folder = arguments.gallery
    _show_edit(folder, edit_gallery(folder, lambda content: remove_rows(content, chosen_ids(arguments, content))))
    return 0


def _relabel_options(parser: argparse.ArgumentParser) -> None:
    _gallery_option(parser)
    add_row_options(parser)
    parser.add_argument("--to", type=label_name, required=True, metavar="NAME", help="new label of these entries")


def _relabel(arguments: argparse.Namespace) -> int:
    from naruto_vision.gallery.edits import relabel_rows
    from naruto_vision.gallery.gallery import edit_gallery

    def relabel(content: "GalleryContent") -> "GalleryContent":
        return relabel_rows(content, chosen_ids(arguments, content), arguments.to)

    _show_edit(arguments.gallery, edit_gallery(arguments.gallery, relabel))
    return 0


def _rollback_options(parser: argparse.ArgumentParser) -> None:
    _gallery_option(parser)
    text = "generation to restore, as `gallery log` lists them"
    parser.add_argument("--to", type=int, required=True, metavar="GENERATION", help=text)


def _rollback(arguments: argparse.Namespace) -> int:
    from naruto_vision.gallery.edits import roll_back
    from naruto_vision.gallery.gallery import edit_gallery

    _show_edit(arguments.gallery, edit_gallery(arguments.gallery, roll_back, arguments.to))
    return 0


def _reindex_options(parser: argparse.ArgumentParser) -> None:
    _gallery_option(parser)
    kinds = ("auto", "flat", "hnsw", "ivf", "sq", "pq", "exact")
    text = (
        "flat compares every entry; hnsw, ivf, sq (IVF of 8-bit numbers) and pq (IVF of product-quantised vectors) "
        "miss some neighbours and are faster with many entries; exact is flat without a stored index; auto is flat up "
        "to 100,000 entries, ivf up to a million, then pq"
    )
    parser.add_argument("--index", choices=kinds, default="auto", help=text)


def _reindex(arguments: argparse.Namespace) -> int:
    from naruto_vision.gallery.gallery import reindex_gallery

    with count_progress() as update:
        gallery = reindex_gallery(arguments.gallery, arguments.index, partial(update, _INDEXING))
    kind = "flat" if gallery.index_kind == "faiss" else gallery.index_kind
    show(f"{arguments.gallery}: index {kind} of {len(gallery)} entries")
    return 0


def _verify_options(parser: argparse.ArgumentParser) -> None:
    _default_gallery_option(parser)
    add_encoder_options(parser, without="none, the encoder is not checked")
    text = "check that the images are in this folder or its split folders (train, valid, test)"
    parser.add_argument("--root", type=Path, metavar="DIR", help=text)
    add_json_option(parser)


def _verify(arguments: argparse.Namespace) -> int:
    """Print the result of each check; 1 if something is wrong."""
    from naruto_vision.gallery.verify import verify_gallery, worst

    fingerprint = None
    if arguments.encoder:
        from naruto_vision.encoders.opening import open_encoder

        fingerprint = open_encoder(arguments.encoder, arguments.weights).fingerprint
    findings = verify_gallery(arguments.gallery, fingerprint=fingerprint, images=arguments.root)
    verdict = worst(findings)
    if arguments.json:
        show_json({"verdict": verdict, "findings": [dataclasses.asdict(finding) for finding in findings]})
    else:
        show(*(f"{finding.verdict:<8}{finding.check:<12}{finding.text}" for finding in findings))
    return 1 if verdict == "wrong" else 0


def _import_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("folder", type=Path, metavar="INDEX", help="folder with embeddings.npy and meta.jsonl")
    add("--out", type=Path, required=True, metavar="DIR", help="gallery folder; must be empty or new")
    add("--encoder", required=True, metavar="MODEL", help="encoder that built the index: an architecture or a bundle")
    text = "weights of an architecture: official name, file or open_clip tag (default: those in weights/)"
    add("--weights", metavar="FILE", help=text)
    add("--root", type=Path, metavar="DIR", help="folder that the paths in meta.jsonl are relative to")
    text = "accept --encoder unchecked if none of the images can be found (default: refuse)"
    add("--assert-encoder", action="store_true", help=text)


def _import(arguments: argparse.Namespace) -> int:
    """Read an index folder of the reference system, check the encoder with its images, write the gallery."""
    from naruto_vision.gallery.reference_index import read_reference_index
    from naruto_vision.io.atomic import TEMPORARY_PREFIX, check_empty

    out: Path = arguments.out
    check_empty(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=TEMPORARY_PREFIX, dir=out.parent) as temporary:
        _import_index(arguments, read_reference_index(arguments.folder, temporary))
    return 0


def _import_index(arguments: argparse.Namespace, index: "ReferenceIndex") -> None:
    from naruto_vision.encoders.opening import open_encoder
    from naruto_vision.gallery.gallery import Gallery
    from naruto_vision.gallery.reference_index import check_encoder

    out: Path = arguments.out
    encoder = open_encoder(arguments.encoder, arguments.weights)
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
    with count_progress() as update:
        gallery = Gallery.build(
            index.vectors, index.rows, fingerprint=encoder.fingerprint, note=note, advance=partial(update, _INDEXING)
        )
    gallery.save(out)
    evidence = f"{checked} images embedded again agree" if checked else "no image was found to check the encoder with"
    show(f"{len(gallery)} entries of {len(gallery.labels)} labels are in {out}; {evidence}")


def _refuse_other_encoder(
    arguments: argparse.Namespace, index: "ReferenceIndex", encoder: "Encoder", check: "EncoderCheck | None"
) -> None:
    folder = arguments.folder
    if check is None:
        dims = f"{index.vectors.shape[1]} dimensions, {arguments.encoder} gives {encoder.dim}"
        raise InputError(f"{folder}: its vectors have {dims}; give the encoder that built it")
    if check.lowest is None and not arguments.assert_encoder:
        msg = f"{folder}: none of its {len(index.rows)} images was found to check the encoder with"
        raise InputError(f"{msg}; give --root DIR, or --assert-encoder if you are sure")
    if check.lowest is not None and not check.agrees:
        msg = f"{folder}: not built by {arguments.encoder}: of {check.checked} images embedded again, one has cosine"
        raise InputError(f"{msg} {check.lowest:.3f} with its vector; give the encoder and the weights that built it")


def _copy_options(parser: argparse.ArgumentParser) -> None:
    _gallery_option(parser)
    text = "new gallery: a folder, chroma:DIR, chroma+http://HOST:PORT, milvus:FILE.db or milvus+http://HOST:PORT"
    parser.add_argument("target", type=gallery_place, metavar="TARGET", help=text)


def _copy(arguments: argparse.Namespace) -> int:
    from naruto_vision.gallery.gallery import copy_gallery

    gallery = copy_gallery(arguments.gallery, arguments.target)
    show(f"{arguments.target}: {len(gallery)} entries in generation {gallery.generation}")
    return 0


COMMANDS = {
    "gallery copy": (_copy_options, _copy),
    "gallery import": (_import_options, _import),
    "gallery list": (_list_options, _list),
    "gallery add": (_add_options, _add),
    "gallery remove": (_remove_options, _remove),
    "gallery relabel": (_relabel_options, _relabel),
    "gallery suspects": (_suspects_options, _suspects),
    "gallery verify": (_verify_options, _verify),
    "gallery log": (_log_options, _log),
    "gallery rollback": (_rollback_options, _rollback),
    "gallery reindex": (_reindex_options, _reindex),
}
