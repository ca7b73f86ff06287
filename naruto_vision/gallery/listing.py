"""What a gallery says about itself, read from its JSON files alone: neither NumPy nor FAISS nor torch is loaded."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from naruto_vision.gallery.layout import INDEX_META, LEDGER, ROWS, THRESHOLDS, parse_json, parse_lines, read_files
from naruto_vision.gallery.ledger import stale_since


@dataclass(frozen=True)
class Listing:
    """A gallery without its vectors.

    Args:
        generation: How many changes it has seen.
        fingerprint: The encoder's.
        dim: Length of the vectors.
        index: ``faiss_meta.json``.
        thresholds: ``thresholds.json``.
        rows: ``meta.jsonl``: id, path, label and aug of each.
        ledger: ``ledger.jsonl``, oldest first.
        stale_since: The generation since which the rows are not those that the thresholds were chosen with.
    """

    generation: int
    fingerprint: str
    dim: int
    index: Mapping[str, Any]
    thresholds: Mapping[str, Any]
    rows: tuple[Mapping[str, Any], ...]
    ledger: tuple[Mapping[str, Any], ...]
    stale_since: int | None

    @property
    def labels(self) -> dict[str, int]:
        """Label to its number of rows, by label."""
        return dict(sorted(Counter(str(row["label"]) for row in self.rows).items()))

    def as_json(self, *, rows: bool) -> dict[str, Any]:
        """Return the JSON values.

        Args:
            rows: Whether every row is among them.
        """
        found: dict[str, Any] = {
            "generation": self.generation,
            "rows": len(self.rows),
            "labels": self.labels,
            "dim": self.dim,
            "fingerprint": self.fingerprint,
            "index": dict(self.index),
            "threshold": self.thresholds.get("default"),
            "thresholds_stale_since": self.stale_since,
        }
        return {**found, "meta": [dict(row) for row in self.rows]} if rows else found


def list_gallery(folder: str | Path) -> Listing:
    """Read a gallery's JSON files.

    Args:
        folder: The gallery.

    Returns:
        What they say; the vectors are not looked at.

    Raises:
        MissingPathError: If there is no gallery there.
        FormatError: If one of the files is not the one that was written.
    """
    root = Path(folder)
    manifest, data = read_files(root, (ROWS, LEDGER, THRESHOLDS, INDEX_META))
    index, thresholds = (parse_json(root / name, data[name]) for name in (INDEX_META, THRESHOLDS))
    ledger = tuple(parse_lines(root / LEDGER, data[LEDGER]))
    chosen = dict(thresholds) if isinstance(thresholds, dict) else {}
    has_any = chosen.get("default") is not None or bool(chosen.get("classes"))
    return Listing(
        generation=manifest["generation"],
        fingerprint=manifest["fingerprint"],
        dim=manifest["dim"],
        index=dict(index) if isinstance(index, dict) else {},
        thresholds=chosen,
        rows=tuple(parse_lines(root / ROWS, data[ROWS])),
        ledger=ledger,
        stale_since=stale_since(ledger) if has_any else None,
    )
