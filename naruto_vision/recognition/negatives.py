"""Negative rows: images that are not a label, and what they rule out.

A query that is nearer, by cosine, to a negative row of a label than to every entry of the label is not of that label:
it gets the next label by the same rule, and is unknown if every label is ruled out.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from naruto_vision.gallery.gallery import Gallery
from naruto_vision.gallery.index import QueryKind
from naruto_vision.gallery.thresholds import Thresholds
from naruto_vision.recognition.decision import Rule, decide
from naruto_vision.records import Identity, Neighbour, Vectors


@dataclass(frozen=True)
class Searched:
    """The nearest entries of a query whose label is not ruled out; of all labels if every one is."""

    neighbours: tuple[Neighbour, ...]
    ruled_out: frozenset[str] = frozenset()
    unknown: bool = False

    def decide(
        self, thresholds: Thresholds, rule: Rule, scores: Mapping[str, float], length: float = 1.0, votes: int = 0
    ) -> Identity:
        """Name the query by its first ``votes`` neighbours (0: all), or class scores, all multiplied by ``length``."""
        rows = self.neighbours[: votes or None]
        if length != 1.0:
            rows = tuple(replace(row, score=row.score * length) for row in rows)
        allowed = {label: score * length for label, score in scores.items() if label not in self.ruled_out}
        found = decide(rows, thresholds, rule, allowed)
        return replace(found, known=False) if self.unknown else found


def rule_out(gallery: Gallery, queries: Vectors) -> list[frozenset[str]]:
    """Return the labels that each query (Q, D) is not, as one of their negative rows is nearer than every entry."""
    against, names = gallery.negatives
    out: list[set[str]] = [set() for _ in queries]
    labels = np.asarray([row.label for row in gallery.rows], dtype=object) if names else np.empty(0)
    for label in sorted(set(names)):
        negative = (queries @ against[[name == label for name in names]].T).max(axis=1)
        entries = (queries @ gallery.vectors[labels == label].T).max(axis=1, initial=-1.0)
        for number in np.flatnonzero(negative > entries).tolist():
            out[number].add(label)
    return [frozenset(found) for found in out]


def search_allowed(gallery: Gallery, queries: Vectors, k: int, kind: QueryKind = "image") -> list[Searched]:
    """Search as ``Gallery.search``, without the entries of labels that negative rows rule out; texts rule out none."""
    found = gallery.search(queries, k, kind)
    if kind == "text" or not gallery.has_negatives:
        return [Searched(rows) for rows in found]
    searched, every = list[Searched](), set(gallery.labels)
    for number, (rows, out) in enumerate(zip(found, rule_out(gallery, queries), strict=True)):
        if out >= every:
            searched.append(Searched(rows, unknown=True))
            continue
        if out:
            more = sum(row.label in out for row in gallery.rows)
            deeper = gallery.search(queries[number : number + 1], k + more, kind)[0]
            rows = tuple(row for row in deeper if row.label not in out)[:k]
        searched.append(Searched(rows, out))
    return searched
