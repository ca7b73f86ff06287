"""Edits of a gallery, its suspect labels, and the unknown regions of past runs."""

import hashlib
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from naruto_vision.encoders.base import embed_images
from naruto_vision.errors import InputError
from naruto_vision.gallery.content import GalleryContent, GalleryRow, line_counts
from naruto_vision.gallery.edits import add_rows, relabel_rows, remove_rows, roll_back
from naruto_vision.gallery.gallery import Gallery, edit_gallery
from naruto_vision.gallery.store import store_uri
from naruto_vision.gallery.thresholds import Aim, aimed_threshold
from naruto_vision.io.atomic import write_bytes
from naruto_vision.io.images import encode_image, image_or_none, read_image
from naruto_vision.io.names import folder_name, label_name
from naruto_vision.recognition.analyzer import SceneAnalyzer
from naruto_vision.recognition.enrolment import only_crop
from naruto_vision.recognition.suspects import find_suspects
from naruto_vision.records import ImageArray, Vectors
from naruto_vision.ui.engine import Watch
from naruto_vision.ui.models import Models
from naruto_vision.ui.tasks.scenes import entry_thumbnail, thumbnail

ADDED = "added"
"""Folder in a gallery for the images that are enrolled from the page."""

MOST_UNKNOWN = 1000
"""Unknown regions that are grouped at a time: those of the newest results."""

_SUSPECTS = 60  # that are shown
_COMPARED = 300  # rows of the gallery whose pairs say what is alike
_LONGEST = 200  # characters of a name
_CHUNK = 32  # crops embedded at a time
_UNKNOWN = re.compile(r"seg_(\d+)_unknown_(-?\d\.\d\d)\.jpg")
_MARK = re.compile(r"_([0-9a-f]{12})\.png$")


def remove(models: Models, *, preset: str, ids: Sequence[int]) -> dict[str, Any]:
    """Remove entries by their ids; returns the facts of the ledger's new line."""
    return _edit(models, preset, remove_rows, ids)


def relabel(models: Models, *, preset: str, ids: Sequence[int], label: str) -> dict[str, Any]:
    """Give entries another label; returns the facts of the ledger's new line."""
    return _edit(models, preset, relabel_rows, ids, _name(label))


def rollback(models: Models, *, preset: str, generation: int) -> dict[str, Any]:
    """Restore the entries of an older generation; returns the facts of the ledger's new line."""
    return _edit(models, preset, roll_back, generation)


def _edit(models: Models, preset: str, change: Any, *arguments: Any) -> dict[str, Any]:  # noqa: ANN401 - of edit_gallery
    gallery = edit_gallery(_folder(models, preset), change, *arguments)
    models.analyzer(preset)
    return edit_facts(gallery)


def _folder(models: Models, preset: str) -> str | Path:
    return models.analyzer(preset).gallery.folder or models.folder(preset)


def edit_facts(gallery: Gallery) -> dict[str, Any]:
    """Return what the last edit of a gallery did: counts, and since when its thresholds are stale (None: not)."""
    line = gallery.content.ledger[-1]
    counts = {"rows": len(gallery), **line_counts(line)}
    return {"generation": gallery.generation, "op": line["op"], **counts, "stale_since": gallery.stale_since}


def _name(label: str) -> str:
    found = label_name(label)
    if not 0 < len(found) <= _LONGEST:
        raise InputError(f"name: expected 1 to {_LONGEST} characters, found {len(found)}")
    return found


def add(
    models: Models, *, preset: str, files: Sequence[tuple[str, str]], label: str, crops: bool = False
) -> dict[str, Any]:
    """Add images, each a name and a path, under a label, as the gallery's were enrolled, or as they are (``crops``)."""
    analyzer = models.analyzer(preset)
    read = [(name, read_image(path)) for name, path in files]
    if not crops:
        read = [(name, each) for name, image in read for each in _as_enrolled(analyzer, image)]
    images = [(image, Path(name).stem) for name, image in read]
    return enrol_images(models, preset, images, label)


def _as_enrolled(analyzer: SceneAnalyzer, image: ImageArray) -> list[ImageArray]:
    """Return an image whole, its one region, or both, as the gallery's own images were enrolled."""
    noted = analyzer.gallery.note.get("enrol") or {}
    by = noted.get("by", "image")
    if by == "image" or analyzer.segmenter.fingerprint != noted.get("detector"):
        return [image]
    box, crop = only_crop(analyzer.segmenter, image)
    return [image] if box is None else [crop] if by == "region" else [image, crop]


def add_region(models: Models, *, preset: str, path: str, name: str, box: Sequence[int], label: str) -> dict[str, Any]:
    """Add the box (x1, y1, x2, y2), inclusive, of an image to the gallery under a label; as ``add``."""
    x1, y1, x2, y2 = box
    return enrol_images(models, preset, [(read_image(path)[y1 : y2 + 1, x1 : x2 + 1], Path(name).stem)], label)


def enrol_images(models: Models, preset: str, images: Sequence[tuple[ImageArray, str]], label: str) -> dict[str, Any]:
    """Write images (H, W, 3), uint8, with their stems into a gallery's folder, and add them under a label.

    Returns the facts of the ledger's new line, the ``label``, and how many were in the gallery ``already``. InputError
    if an image is in the gallery under another label, nothing is new, or the gallery has no folder.
    """
    label = _name(label)
    analyzer = models.analyzer(preset)
    folder = Path(_folder(models, preset))
    if uri := store_uri(folder):
        raise InputError(f"{uri}: a vector store keeps no images; add files with `naruto-vision gallery add {uri}`")
    files: dict[str, tuple[str, bytes, ImageArray]] = {}
    for image, stem in images:
        data = encode_image(image, ".png")
        mark = hashlib.sha256(data).hexdigest()[:12]
        files.setdefault(mark, (f"{ADDED}/{folder_name(label)}/{folder_name(stem)}_{mark}.png", data, image))
    pixels = [image for *_, image in files.values()]
    vectors = embed_images(analyzer.encoder, pixels, mirror=analyzer.gallery.mirror).numpy()

    def change(content: GalleryContent) -> GalleryContent:
        known = {found[1]: row.label for row in content.rows if (found := _MARK.search(row.path))}
        if other := next((known[mark] for mark in files if known.get(mark, label) != label), ""):
            raise InputError(f"an image to add is in the gallery as {other}; relabel it there instead")
        fresh = [number for number, mark in enumerate(files) if mark not in known]
        if not fresh:
            raise InputError(f"nothing to add: the gallery has it as {label} already")
        chosen = [list(files.values())[number] for number in fresh]
        for row, data, _ in chosen:
            write_bytes(folder / row, data)
        rows = [GalleryRow(row, label) for row, *_ in chosen]
        return add_rows(content, vectors[fresh].astype(np.float32), rows)

    gallery = edit_gallery(folder, change, fingerprint=analyzer.encoder.fingerprint)
    models.analyzer(preset)
    facts = edit_facts(gallery)
    return {**facts, "label": label, "already": len(images) - facts["added"]}


def suspects(models: Models, step: Watch, *, preset: str, out: str) -> dict[str, Any]:  # noqa: ARG001 - every job has out
    """Find entries whose label the other entries contradict, as ``naruto-vision gallery suspects`` does.

    Returns how many entries were compared, and the suspects, the likeliest first: id, path, label and ``rival`` with
    the probability of each, the ``nearest`` entry of the rival with its cosine, and both thumbnails.
    """
    gallery = models.analyzer(preset).gallery
    step(0, 2, None)
    found = find_suspects(gallery.vectors, gallery.rows)
    step(1, 2, None)
    thumbnail_of = partial(entry_thumbnail, gallery.folder, gallery.note)
    labels, rows = np.array([row.label for row in gallery.rows]), []
    for one in found[:_SUSPECTS]:
        row = gallery.rows[one.number]
        cosines = np.where(labels == one.rival, gallery.vectors @ gallery.vectors[one.number], -2.0)
        other = gallery.rows[int(cosines.argmax())]
        rows.append(
            {
                "id": gallery.ids[one.number], "path": row.path, "label": row.label, "rival": one.rival,
                "own": one.own, "chance": one.chance, "nearest": other.path, "cosine": float(cosines.max()),
                "thumbnails": (thumbnail_of(row.path), thumbnail_of(other.path)),
            }
        )  # fmt: skip
    step(2, 2, None)
    return {"compared": len(gallery), "found": len(found), "suspects": rows}


def unknown(
    models: Models, step: Watch, *, preset: str, folders: Sequence[tuple[str, str]], alike: float | None, out: str
) -> dict[str, Any]:  # fmt: skip
    """Group the unknown regions of past runs, given by name and folder, the newest last, by their likeness.

    The crops that the runs have written are embedded with the gallery's encoder. Those that the gallery names by now
    are left out. The others are clustered by average linkage: two groups are joined while the mean cosine of their
    crops is at least ``alike``; None takes ``alike_from`` of the gallery. ``step`` gets how many crops are embedded.

    Returns ``seen`` crops, those ``named`` by now, ``alike``, and the groups, the largest first: for each crop its
    path, a caption, the label that is most like it with the score, and its thumbnail.
    """
    del out
    analyzer = models.analyzer(preset)
    crops = [
        (name, path) for name, folder in reversed(folders) for path in sorted(Path(folder).rglob("*_crops/seg_*.jpg"))
    ]
    crops = [(name, path) for name, path in crops if _UNKNOWN.fullmatch(path.name)][:MOST_UNKNOWN]
    step(0, len(crops), None)
    kept: list[dict[str, Any]] = []
    vectors: list[Vectors] = []
    for start in range(0, len(crops), _CHUNK):
        some = [(name, path, image_or_none(path)) for name, path in crops[start : start + _CHUNK]]
        good = [(name, path, image) for name, path, image in some if image is not None]
        if good:
            found = embed_images(analyzer.encoder, [image for *_, image in good], mirror=analyzer.mirror).numpy()
            for vector, who, (name, path, image) in zip(found, analyzer.name_vectors(found), good, strict=True):
                if not who.known:
                    kept.append({**_crop_facts(name, path, image), "label": who.label, "score": who.score})
                    vectors.append(vector)
        step(min(start + _CHUNK, len(crops)), len(crops), None)
    cosine = alike_from(analyzer.gallery) if alike is None else alike
    groups = grouped(np.stack(vectors), cosine) if vectors else []
    return {
        "seen": len(crops),
        "named": len(crops) - len(kept),
        "alike": cosine,
        "groups": [[kept[number] for number in group] for group in groups],
    }


def _crop_facts(name: str, path: Path, image: ImageArray) -> dict[str, Any]:
    found = _UNKNOWN.fullmatch(path.name)
    index = 0 if found is None else int(found[1])
    scene = path.parent.name.removesuffix("_crops")
    return {
        "path": str(path),
        "name": f"{scene}_{index}.jpg",
        "caption": f"{name}: {scene}, region {index + 1}",
        "thumbnail": thumbnail(image),
    }


def alike_from(gallery: Gallery) -> float:
    """Return the cosine from which nineteen in twenty pairs of the gallery's own entries show the same label.

    At most 300 entries are compared; without pairs of both kinds it is 0.9.
    """
    plain = [number for number, row in enumerate(gallery.rows) if row.aug == "none"]
    chosen = [plain[round(number)] for number in np.linspace(0, len(plain) - 1, min(len(plain), _COMPARED))]
    labels = np.array([gallery.rows[number].label for number in chosen])
    first, second = np.triu_indices(len(chosen), 1)
    vectors = gallery.vectors[chosen]
    same = labels[first] == labels[second]
    if not same.any() or same.all():
        return 0.9
    cosines = (vectors @ vectors.T)[first, second].astype(np.float64)
    return aimed_threshold(cosines, same, Aim("precision", 0.95))[0]


def grouped(vectors: Vectors, alike: float) -> list[list[int]]:
    """Cluster unit rows (N, D) by average linkage, down to a mean cosine; returns row numbers, large groups first."""
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    if len(vectors) == 1:
        return [[0]]
    distances = np.clip(1.0 - vectors.astype(np.float64) @ vectors.T.astype(np.float64), 0.0, 2.0)
    np.fill_diagonal(distances, 0.0)
    found = fcluster(linkage(squareform(distances, checks=False), "average"), 1.0 - alike, "distance")
    groups: dict[int, list[int]] = {}
    for row, number in enumerate(found.tolist()):
        groups.setdefault(number, []).append(row)
    return sorted(groups.values(), key=lambda group: (-len(group), group[0]))
