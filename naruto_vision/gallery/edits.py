"""Edits of a gallery's content: each returns the next generation and a ledger line that can undo it.

An invalid edit raises InputError.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from naruto_vision.errors import InputError
from naruto_vision.gallery.content import GalleryContent, GalleryRow, archived_ids, as_ranges, from_ranges, unit_rows
from naruto_vision.gallery.thresholds import Thresholds
from naruto_vision.records import Vectors

_ROUNDING = 1e-5
"""Largest difference of a vector's values when the same image is embedded again, in a batch of another size."""


def add_rows(content: GalleryContent, vectors: Vectors, rows: Sequence[GalleryRow]) -> GalleryContent:
    """Append rows with their vectors under ids that no row ever had.

    Args:
        content: The gallery's content.
        vectors: Shape (M, D), float32.
        rows: M rows.

    Raises:
        InputError: If there are none, or the shapes differ.
    """
    dim = content.vectors.shape[1]
    if not rows or vectors.shape != (len(rows), dim):
        msg = f"add: expected {len(rows)} vectors of length {dim}, at least one, found shape {vectors.shape}"
        raise InputError(msg)
    first = content.next_id
    ids = np.arange(first, first + len(rows), dtype=np.int64)
    changes = {"next_id": first + len(rows), "added": as_ranges(ids.tolist())}
    return _next(
        content,
        "add",
        changes,
        vectors=np.concatenate([content.vectors, unit_rows(vectors, "vectors to add")]),
        ids=np.concatenate([content.ids, ids]),
        rows=(*content.rows, *rows),
    )


def enrol_rows(
    content: GalleryContent, vectors: Vectors, rows: Sequence[GalleryRow], note: Mapping[str, Any]
) -> GalleryContent:
    """Replace the rows by those of a new enrolment; the ones that are equal to rounding stay, with their ids.

    Args:
        content: The gallery's content.
        vectors: Shape (M, D), float32, unit rows of the same encoder.
        rows: M rows.
        note: How they were made, for the ledger.

    Returns:
        The next generation, or ``content`` itself if nothing differs.
    """
    here = {row: position for position, row in enumerate(content.rows)}
    stays = {new: here[row] for new, row in enumerate(rows) if row in here}
    stays = {new: old for new, old in stays.items() if np.abs(vectors[new] - content.vectors[old]).max() <= _ROUNDING}
    fresh = [new for new in range(len(rows)) if new not in stays]
    kept = np.array(sorted(stays.values()), dtype=np.int64)
    gone = np.setdiff1d(np.arange(len(content.rows)), kept)
    if not fresh and not gone.size and note == content.note:
        return content
    ids = np.arange(content.next_id, content.next_id + len(fresh), dtype=np.int64)
    changes = {
        "next_id": content.next_id + len(fresh),
        "added": as_ranges(ids.tolist()),
        "removed": _facts(content, gone),
        "note": dict(note),
    }
    return _next(
        content,
        "enrol",
        changes,
        vectors=np.concatenate([content.vectors[kept], vectors[fresh]]),
        ids=np.concatenate([content.ids[kept], ids]),
        rows=(*(content.rows[position] for position in kept.tolist()), *(rows[new] for new in fresh)),
        removed=_archive(content, gone),
    )


def remove_rows(content: GalleryContent, ids: Iterable[int]) -> GalleryContent:
    """Remove rows; their ids are never given again, and ``roll_back`` restores them.

    Args:
        content: The gallery's content.
        ids: Ids of the rows.

    Raises:
        InputError: If an id is not there, or no row would be left.
    """
    chosen = _chosen(content, ids)
    if len(chosen) == len(content.rows):
        msg = f"remove: that is all {len(chosen)} entries; a gallery has at least one, so delete its folder instead"
        raise InputError(msg)
    kept = np.setdiff1d(np.arange(len(content.rows)), chosen)
    return _next(
        content,
        "remove",
        {"removed": _facts(content, chosen)},
        vectors=np.ascontiguousarray(content.vectors[kept]),
        ids=content.ids[kept],
        rows=tuple(content.rows[position] for position in kept.tolist()),
        removed=_archive(content, chosen),
    )


def relabel_rows(content: GalleryContent, ids: Iterable[int], label: str) -> GalleryContent:
    """Give rows another label; those that have it already do not count.

    Args:
        content: The gallery's content.
        ids: Ids of the rows.
        label: The new label.

    Raises:
        InputError: If an id is not there, or all rows have the label.
    """
    chosen = [position for position in _chosen(content, ids).tolist() if content.rows[position].label != label]
    if not chosen:
        raise InputError(f"relabel: all of these entries are {label!r} already")
    rows = list(content.rows)
    for position in chosen:
        rows[position] = replace(rows[position], label=label)
    changes = [[int(content.ids[position]), content.rows[position].label, label] for position in chosen]
    return _next(content, "relabel", {"relabelled": changes}, rows=tuple(rows))


def change_thresholds(content: GalleryContent, thresholds: Thresholds) -> GalleryContent:
    """Replace the thresholds."""
    before = {"before": content.thresholds.as_json()}
    return _next(content, "thresholds", before, thresholds=thresholds)


def note_index(content: GalleryContent, index: str) -> GalleryContent:
    """Record that the index was rebuilt, as a kind of ``faiss_meta.json`` or "exact"."""
    return _next(content, "reindex", {"index": index})


def roll_back(content: GalleryContent, generation: int) -> GalleryContent:
    """Restore the rows, labels and thresholds of an older generation, as a change that can itself be undone.

    Args:
        content: The gallery's content.
        generation: Which one, from 1.

    Raises:
        InputError: If there is no such generation, or the ledger is damaged.
    """
    if not 1 <= generation < content.generation:
        last = content.generation - 1
        known = f"a generation from 1 to {last}" if last else "an earlier generation, of which there is none yet"
        raise InputError(f"rollback: expected {known}, found {generation}")
    now = dict(zip(content.ids.tolist(), content.rows, strict=True))
    try:
        then, thresholds = _state(content, dict(now), generation)
    except (KeyError, ValueError, TypeError) as error:
        raise InputError(f"rollback: the ledger does not say what was in generation {generation} ({error!r})") from None
    gone = np.array([position for position, id_ in enumerate(content.ids.tolist()) if id_ not in then], dtype=np.int64)
    changes = {
        "to": generation,
        "added": as_ranges(sorted(then.keys() - now.keys())),
        "removed": _facts(content, gone),
        "relabelled": [
            [id_, now[id_].label, row.label]
            for id_, row in sorted(then.items())
            if now.get(id_, row).label != row.label
        ],
        "before": content.thresholds.as_json(),
    }
    ids = np.array(sorted(then), dtype=np.int64)
    return _next(
        content,
        "rollback",
        changes,
        vectors=_vectors_of(content, ids),
        ids=ids,
        rows=tuple(then[id_] for id_ in ids.tolist()),
        thresholds=thresholds,
        removed=_archive(content, gone),
    )


def _next(content: GalleryContent, op: str, changes: Mapping[str, Any], **parts: Any) -> GalleryContent:
    """Replace parts, and append the ledger line of the change."""
    counts = {"rows": len(parts.get("rows", content.rows)), "next_id": content.next_id}
    line = {"generation": content.generation + 1, "op": op, **counts, **changes}
    return replace(content, ledger=(*content.ledger, line), checksum="", **parts)


def _chosen(content: GalleryContent, ids: Iterable[int]) -> NDArray[np.int64]:
    """Turn ids into row numbers (M,), rising."""
    wanted = np.array(sorted(set(ids)), dtype=np.int64)
    missing = np.setdiff1d(wanted, content.ids)
    if missing.size or not wanted.size:
        found = f"no entry with id {missing[0]}" if missing.size else "no entry chosen"
        raise InputError(f"{found}; `naruto-vision gallery list --rows` shows the ids")
    return np.searchsorted(content.ids, wanted).astype(np.int64)


def _facts(content: GalleryContent, positions: NDArray[np.int64]) -> list[list[Any]]:
    """Return id, path, label and aug of rows (M,)."""
    rows = [(int(content.ids[position]), content.rows[position]) for position in positions.tolist()]
    return [[id_, row.path, row.label, row.aug] for id_, row in rows]


def _archive(content: GalleryContent, positions: NDArray[np.int64]) -> Vectors:
    """Append the vectors of rows (M,) to ``removed`` (R, D), where they are not in it yet."""
    known = set(archived_ids(content.ledger))
    fresh = [position for position in positions.tolist() if int(content.ids[position]) not in known]
    return np.concatenate([content.removed, content.vectors[fresh]])


def _vectors_of(content: GalleryContent, ids: NDArray[np.int64]) -> Vectors:
    """Look up the vectors (M, D) of ids (M,), in the gallery or among the removed."""
    archive = {id_: position for position, id_ in enumerate(archived_ids(content.ledger))}
    here = {id_: position for position, id_ in enumerate(content.ids.tolist())}
    found = [content.vectors[here[i]] if i in here else content.removed[archive[i]] for i in ids.tolist()]
    return np.stack(found)


def _state(
    content: GalleryContent, rows: dict[int, GalleryRow], generation: int
) -> tuple[dict[int, GalleryRow], Thresholds]:
    """Undo the ledger's lines, newest first, down to a generation."""
    thresholds = content.thresholds
    for line in reversed(content.ledger[generation:]):
        for id_ in from_ranges(line.get("added", ())):
            del rows[id_]
        for id_, path, label, aug in line.get("removed", ()):
            rows[id_] = GalleryRow(path, label, aug)
        for id_, before, _ in line.get("relabelled", ()):
            rows[id_] = replace(rows[id_], label=before)
        if line["op"] in {"thresholds", "rollback"}:
            thresholds = msgspec.convert(line["before"], Thresholds)
    return rows, thresholds
