"""Rows whose label the other rows contradict, by cross-validated class probabilities."""

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from naruto_vision.gallery.content import GalleryRow
from naruto_vision.recognition.heads import LARGEST, STRENGTHS, class_chances, group_rows
from naruto_vision.records import Vectors

SUSPECT = "suspect label"
"""Why such a row is left out of a gallery."""

_FEWEST = 3  # rows that a class keeps


@dataclass(frozen=True)
class Suspect:
    """A row that the others give another label: ``number`` is its index, and both labels have a probability."""

    number: int
    label: str
    rival: str
    own: float
    chance: float


def find_suspects(
    vectors: Vectors, rows: Sequence[GalleryRow], runs: Sequence[Hashable] | None = None
) -> list[Suspect]:
    """Find rows whose label is likely wrong, the likeliest first.

    Logistic regression fitted to the rows of other groups gives each row a probability of every class. A row is
    suspected if that of another class reaches what the rows of that class have on average, and that of its own label
    is lower, and below the average of its label's rows (after Northcutt et al., "Confident learning", 2021). A class
    keeps at least three rows, the least likely suspects. Near duplicates under one label do not vouch for each other,
    unless they are most of the label's rows.

    Args:
        vectors: Shape (N, D), float32, unit rows.
        rows: Source of each vector.
        runs: A key for each row, equal for the frames of one shot; see ``heads.group_rows``.

    Returns:
        The suspects; none with one class, or with more than 10,000 rows.
    """
    labels = np.asarray([row.label for row in rows], dtype=object)
    names, index = np.unique(labels, return_inverse=True)
    if len(names) < 2 or len(rows) > LARGEST:
        return []
    pairs = np.stack([group_rows(vectors, rows, runs), index])  # a near duplicate of another label is evidence
    groups = np.unique(pairs, axis=1, return_inverse=True)[1].ravel()
    images = np.unique(np.asarray([row.path for row in rows], dtype=object), return_inverse=True)[1]
    for number in range(len(names)):  # without a group of most of its rows, a class would be learnt from its errors
        mine = index == number
        if 2 * np.bincount(groups[mine]).max() > mine.sum():
            groups[mine] = groups.max() + 1 + images[mine]
    chances = class_chances(vectors, labels, groups, STRENGTHS[0])
    usual = np.array([chances[index == number, number].mean() for number in range(len(names))])
    every = np.arange(len(rows))
    own = chances[every, index]
    others = chances.copy()
    others[every, index] = -1.0
    rival = others.argmax(axis=1)
    best = others[every, rival]
    suspected = (best >= usual[rival]) & (best > own) & (own < usual[index])
    left, found = Counter(labels.tolist()), list[Suspect]()
    for number in sorted(np.flatnonzero(suspected).tolist(), key=lambda row: float(own[row] - best[row])):
        label = str(labels[number])
        if left[label] > _FEWEST:
            left[label] -= 1
            found.append(Suspect(number, label, str(names[rival[number]]), float(own[number]), float(best[number])))
    return found
