"""Describe a gallery from its JSON files alone, without NumPy or torch."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

from naruto_vision.errors import FormatError
from naruto_vision.gallery.store import (
    AGAIN,
    INDEX_META,
    LEDGER,
    NEGATIVE,
    ROWS,
    STATS,
    THRESHOLDS,
    RowRecord,
    located_note,
    parse_json,
    parse_lines,
    read_files,
    read_ledger,
)
from naruto_vision.io.typed_json import convert_json

if TYPE_CHECKING:
    from naruto_vision.gallery.index import Budgets
    from naruto_vision.records import ImageArray

_SPLITS = ("train", "valid", "val", "validation", "test")
_ENCODERS = {
    "clip": "naruto_vision.ClipEncoder",
    "clip_ensemble": "naruto_vision.ClipEnsemble",
    "dino": "naruto_vision.DinoEncoder",
    "ensemble": "naruto_vision.EnsembleEncoder",
    "timm": "naruto_vision.TimmEncoder",
}
_RECIPE = {
    "model": str,
    "pretrained": str,
    "weights": str,
    "image_size": int,
    "pooling": str,
    "backbone": str,
    "share": float,
}


class LeftOut(TypedDict):
    """An image that a gate or its suspect label left out."""

    path: str
    label: str
    reason: str


class _Stats(TypedDict):
    counts: dict[str, int]
    aug: NotRequired[dict[str, int]]


@dataclass(frozen=True)
class Listing:
    """A gallery without its vectors; ``rows`` are read on request."""

    generation: int
    fingerprint: str
    dim: int
    index: Mapping[str, Any]
    budgets: "Budgets"
    thresholds: Mapping[str, Any]
    total: int
    labels: Mapping[str, int]
    rows: tuple[Mapping[str, Any], ...]
    ledger: tuple[Mapping[str, Any], ...]
    stale_since: int | None
    left_out: tuple[LeftOut, ...]
    folder: Path

    @property
    def note(self) -> Mapping[str, Any]:
        """How the gallery was built or last enrolled."""
        from naruto_vision.gallery.content import note_of

        return located_note(note_of(self.ledger), self.folder)

    @property
    def entries(self) -> list[Mapping[str, Any]]:
        """The rows without negative ones."""
        return [row for row in self.rows if row["aug"] != NEGATIVE]

    def reasons(self) -> str:
        """Count the images that were left out of the last enrolment, by reason."""
        counts = Counter(image["reason"] for image in self.left_out)
        return ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items()))

    def as_json(self, *, rows: bool) -> dict[str, Any]:
        """Return the JSON values of ``gallery list --json``."""
        found: dict[str, Any] = {
            "generation": self.generation,
            "rows": self.total,
            "labels": dict(self.labels),
            "dim": self.dim,
            "fingerprint": self.fingerprint,
            "index": dict(self.index),
            "threshold": self.thresholds.get("default"),
            "thresholds_stale_since": self.stale_since,
        }
        found |= {"left_out": list(self.left_out)} if self.left_out else {}
        return {**found, "meta": [dict(row) for row in self.rows]} if rows else found


def list_gallery(folder: str | Path, *, rows: bool = False) -> Listing:
    """Read a gallery's JSON files, with ``meta.jsonl`` if ``rows``; the vectors are not read."""
    root = Path(folder)
    names = (STATS, LEDGER, THRESHOLDS, INDEX_META, *((ROWS,) if rows else ()))
    manifest, data = read_files(root, names)
    from naruto_vision.gallery.content import note_of, stale_since
    from naruto_vision.gallery.index import IndexMeta
    from naruto_vision.gallery.thresholds import Thresholds

    index = parse_json(root / INDEX_META, data[INDEX_META], dict[str, Any])
    thresholds = parse_json(root / THRESHOLDS, data[THRESHOLDS], Thresholds)
    ledger = read_ledger(root / LEDGER, data[LEDGER], manifest["generation"])
    return Listing(
        generation=manifest["generation"],
        fingerprint=manifest["fingerprint"],
        dim=manifest["dim"],
        index=index,
        budgets=convert_json(root / INDEX_META, index, IndexMeta, hint=AGAIN).budgets,
        thresholds=thresholds.as_json(),
        total=manifest["rows"],
        labels=_counts(root / STATS, data[STATS], manifest["rows"]),
        rows=tuple(parse_lines(root / ROWS, data[ROWS], RowRecord)) if rows else (),
        ledger=ledger,
        stale_since=stale_since(ledger, thresholds),
        left_out=convert_json(root / LEDGER, note_of(ledger).get("left_out", ()), tuple[LeftOut, ...], hint=AGAIN),
        folder=root,
    )


def _counts(path: Path, data: bytes, rows: int) -> dict[str, int]:
    stats = parse_json(path, data, _Stats)
    counts = stats["counts"]
    entries = rows - stats.get("aug", {}).get(NEGATIVE, 0)
    if sum(counts.values()) != entries:
        raise FormatError(path, f"labels with counts that add up to {entries}", str(sum(counts.values())), AGAIN)
    return dict(sorted(counts.items()))


def find_image(root: Path, path: str, *, inside: bool = False) -> Path | None:
    """Find a row's image below a folder, or below its split folders; None where it is missing.

    Rows of a data set with split folders are stored relative to the split's folder, but users give the data set's.

    Args:
        root: The folder.
        path: Of the row.
        inside: Find nothing outside of the folder, by an absolute path, ".." or a link.
    """
    from naruto_vision.io.images import split_crop  # with NumPy, which listing a gallery does not need

    candidates = (root / path, *(root / split / path for split in _SPLITS))
    files = ((candidate, Path(split_crop(candidate)[0])) for candidate in candidates)
    return next((each for each, file in files if file.is_file() and (not inside or _is_inside(file, root))), None)


def entry_image(roots: Iterable[Path], path: str, *, inside: bool = False) -> "ImageArray | None":
    """Read an entry's image below the first of several folders that has it; None where it is missing or no image."""
    from naruto_vision.io.images import image_or_none

    found = next(filter(None, (find_image(root, path, inside=inside) for root in roots)), None)
    return None if found is None else image_or_none(found)


def _is_inside(file: Path, root: Path) -> bool:
    return file.resolve().is_relative_to(root.resolve())


def encoder_config(note: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the encoder of a gallery's note as a config has it; None if the note names none.

    A gallery may come from others, so its note chooses among the encoders and their weights, and sets nothing else.
    """
    recipe = note.get("encoder")
    if not isinstance(recipe, Mapping) or recipe.get("kind") not in _ENCODERS:
        return None
    values = {key: value for key, value in recipe.items() if key != "kind" and value is not None}
    if recipe["kind"] == "ensemble":
        members, weights = recipe.get("members"), recipe.get("weights")
        found = [encoder_config({"encoder": member}) for member in members] if isinstance(members, list) else []
        if not all(found) or not isinstance(weights, list) or not all(type(weight) is float for weight in weights):
            return None
        values = {"members": found, "weights": weights}
    elif not all(type(value) is _RECIPE.get(key) and value != "random" for key, value in values.items()):
        return None
    return {"class_path": _ENCODERS[recipe["kind"]], "init_args": values}


def encoder_options(note: Mapping[str, Any]) -> list[str]:
    """Return the options of ``predict`` and ``test`` that open the encoder of a gallery's note; none if it names none.

    Examples:
        >>> encoder_options({"encoder": {"kind": "clip", "model": "tiny-clip", "pretrained": None}})
        ['--model.encoder=naruto_vision.ClipEncoder', '--model.encoder.init_args.model=tiny-clip']
    """
    config = encoder_config(note)
    if config is None or not config["init_args"]:
        return []
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in config["init_args"].items()}
    first = f"--model.encoder={config['class_path']}"
    return [first, *(f"--model.encoder.init_args.{key}={text}" for key, text in texts.items())]
