"""What a gallery says about itself, read from its JSON files alone: neither NumPy nor FAISS nor torch is loaded."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from naruto_vision.errors import FormatError
from naruto_vision.gallery.content import stale_since
from naruto_vision.gallery.index import Efforts, efforts_from_json
from naruto_vision.gallery.store import (
    AGAIN,
    INDEX_META,
    LEDGER,
    ROWS,
    STATS,
    THRESHOLDS,
    parse_json,
    parse_lines,
    read_files,
)

_CLASSES = {"clip": "naruto_vision.encoders.clip.ClipEncoder", "dino": "naruto_vision.encoders.dino.DinoEncoder"}


def encoder_options(note: Mapping[str, Any]) -> list[str]:
    """Say which options of ``predict`` and ``test`` open the encoder that made a gallery.

    Args:
        note: The gallery's note; its ``encoder`` is what ``Encoder.recipe`` returned.

    Returns:
        The options, each with its value behind "="; none where the note does not say.

    Example:
        >>> encoder_options({"encoder": {"kind": "clip", "model": "tiny-clip", "pretrained": None}})
        ['--model.encoder.init_args.model=tiny-clip']
    """
    recipe = note.get("encoder")
    if not isinstance(recipe, Mapping) or recipe.get("kind") not in _CLASSES:
        return []
    chosen = [] if recipe["kind"] == "clip" else [f"--model.encoder={_CLASSES[recipe['kind']]}"]
    values = {key: value for key, value in recipe.items() if key != "kind" and value is not None}
    return [*chosen, *(f"--model.encoder.init_args.{key}={value}" for key, value in values.items())]


_SPLITS = ("train", "valid", "val", "validation", "test")


def find_image(root: Path, path: str) -> Path | None:
    """Find a row's image below a folder.

    Rows of a data set with a folder a split are stored relative to that split's folder; people know the data set's
    own, because that is the one that they enrolled from.

    Args:
        root: The folder that the path is relative to, or the one that the split's folder lies in.
        path: As the gallery has it; an absolute one is looked for where it says.

    Returns:
        The file; None where it is not there.
    """
    places = (root / path, *(root / split / path for split in _SPLITS))
    return next((place for place in places if place.is_file()), None)


@dataclass(frozen=True)
class Listing:
    """A gallery without its vectors.

    Args:
        generation: How many changes it has seen.
        fingerprint: The encoder's.
        dim: Length of the vectors.
        index: ``faiss_meta.json``.
        efforts: How far searches of an approximate index look.
        thresholds: ``thresholds.json``.
        total: How many rows there are.
        labels: Label to its number of rows, by label.
        rows: ``meta.jsonl``: id, path, label and aug of each; none where they were not asked for.
        ledger: ``ledger.jsonl``, oldest first.
        stale_since: The generation since which the rows are not those that the thresholds were chosen with.
    """

    generation: int
    fingerprint: str
    dim: int
    index: Mapping[str, Any]
    efforts: Efforts
    thresholds: Mapping[str, Any]
    total: int
    labels: Mapping[str, int]
    rows: tuple[Mapping[str, Any], ...]
    ledger: tuple[Mapping[str, Any], ...]
    stale_since: int | None

    def as_json(self, *, rows: bool) -> dict[str, Any]:
        """Return the JSON values.

        Args:
            rows: Whether every row is among them, as far as they were read.
        """
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
        return {**found, "meta": [dict(row) for row in self.rows]} if rows else found


def list_gallery(folder: str | Path, *, rows: bool = False) -> Listing:
    """Read a gallery's JSON files.

    Args:
        folder: The gallery.
        rows: Whether every row is read too, which takes as long as there are rows.

    Returns:
        What they say; the vectors are not looked at.

    Raises:
        InputError: If there is no gallery there.
        FormatError: If one of the files is not the one that was written.
    """
    root = Path(folder)
    names = (STATS, LEDGER, THRESHOLDS, INDEX_META, *((ROWS,) if rows else ()))
    manifest, data = read_files(root, names)
    index, thresholds = (parse_json(root / name, data[name]) for name in (INDEX_META, THRESHOLDS))
    ledger = tuple(parse_lines(root / LEDGER, data[LEDGER]))
    facts = dict(index) if isinstance(index, dict) else {}
    try:
        efforts = efforts_from_json(facts.get("efforts"))
    except ValueError as error:
        raise FormatError(root / INDEX_META, "efforts", str(error), AGAIN) from None
    chosen = dict(thresholds) if isinstance(thresholds, dict) else {}
    has_any = chosen.get("default") is not None or bool(chosen.get("classes"))
    return Listing(
        generation=manifest["generation"],
        fingerprint=manifest["fingerprint"],
        dim=manifest["dim"],
        index=facts,
        efforts=efforts,
        thresholds=chosen,
        total=manifest["rows"],
        labels=_counts(root / STATS, data[STATS], manifest["rows"]),
        rows=tuple(parse_lines(root / ROWS, data[ROWS])) if rows else (),
        ledger=ledger,
        stale_since=stale_since(ledger) if has_any else None,
    )


def _counts(path: Path, data: bytes, rows: int) -> dict[str, int]:
    match parse_json(path, data):
        case {"counts": dict(counts)} if all(isinstance(one, int) for one in counts.values()):
            if sum(counts.values()) == rows:
                return dict(sorted(counts.items()))
    raise FormatError(path, f"labels with counts that add up to {rows}", "others", AGAIN)
