"""Rows whose label the other rows contradict, by cross-validated class probabilities."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from naruto_vision.gallery.content import GalleryRow
from naruto_vision.recognition.heads import LARGEST, STRENGTHS, class_chances
from naruto_vision.records import Vectors

SUSPECT = "suspect label"
"""Why such a row is left out of a gallery."""

_UNUSUAL = 0.5  # of the average probability of a label
_FEWEST = 3  # rows that a class keeps


@dataclass(frozen=True)
class Suspect:
    """A row that the others give another label: ``number`` is its index, and both labels have a probability."""

    number: int
    label: str
    rival: str
    own: float
    chance: float


def find_suspects(vectors: Vectors, rows: Sequence[GalleryRow]) -> list[Suspect]:
    """Find rows whose label is likely wrong, the likeliest first.

    Logistic regression fitted to the other images, in folds, gives each row a probability of every class. A row is
    suspected if that of its own label is less than half of what rows of the label have on average, and less than that
    of another label (after Northcutt et al., "Confident learning", 2021). A label keeps at least three rows, the least
    likely suspects. Only the variants of one image share a fold: near duplicates under one wrong label support each
    other, but without them a label of few scenes has too few rows to fit.

    Args:
        vectors: Shape (N, D), float32, unit rows.
        rows: Source of each vector.

    Returns:
        The suspects; none with one class, or with more than 10,000 rows.
    """
    labels = np.asarray([row.label for row in rows], dtype=object)
    names, index = np.unique(labels, return_inverse=True)
    if len(names) < 2 or len(rows) > LARGEST:
        return []
    images = np.asarray([f"{row.label}\n{row.path}" for row in rows], dtype=object)
    chances = class_chances(vectors, labels, np.unique(images, return_inverse=True)[1], STRENGTHS[1])
    usual = np.array([chances[index == number, number].mean() for number in range(len(names))])
    every = np.arange(len(rows))
    own = chances[every, index]
    others = chances.copy()
    others[every, index] = -1.0
    rival = others.argmax(axis=1)
    best = others[every, rival]
    suspected = (own < _UNUSUAL * usual[index]) & (own < best)
    left, found = Counter(labels.tolist()), list[Suspect]()
    for number in sorted(np.flatnonzero(suspected).tolist(), key=lambda row: float(own[row] - best[row])):
        label = str(labels[number])
        if left[label] > _FEWEST:
            left[label] -= 1
            found.append(Suspect(number, label, str(names[rival[number]]), float(own[number]), float(best[number])))
    return found
