"""The middle of every class of a gallery, for the decision rules that look at whole classes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from naruto_vision.gallery.gallery import Gallery
from naruto_vision.records import Vectors


@dataclass(frozen=True)
class ClassCentres:
    """The mean vector of every class.

    Args:
        labels: C labels, sorted.
        means: Shape (C, D), float32: means of unit rows, so shorter than 1 where a class is spread out.

    Raises:
        ValueError: If there are not as many means as labels.

    Example:
        >>> rows = np.array([[1, 0], [0, 1]], dtype=np.float32)
        >>> centres = ClassCentres.of(rows, ["ayame", "ayame"])
        >>> centres.scores(rows[:1], unit=False)
        [{'ayame': 0.5}]
    """

    labels: tuple[str, ...]
    means: Vectors

    def __post_init__(self) -> None:
        if len(self.labels) != len(self.means):
            msg = f"class centres: {len(self.labels)} labels but {len(self.means)} means"
            raise ValueError(msg)

    @classmethod
    def of(cls, vectors: Vectors, labels: Sequence[str]) -> "ClassCentres":
        """Compute the means.

        Args:
            vectors: Shape (N, D), float32, unit rows.
            labels: The class of each of the N rows.

        Returns:
            The centres.
        """
        names, place, counts = np.unique(np.asarray(labels, dtype=object), return_inverse=True, return_counts=True)
        sums = np.zeros((len(names), vectors.shape[1]), dtype=np.float64)
        np.add.at(sums, place, vectors)
        return cls(tuple(names.tolist()), (sums / counts[:, None]).astype(np.float32))

    @classmethod
    def of_gallery(cls, gallery: Gallery) -> "ClassCentres":
        """Compute the means of a gallery's classes.

        Args:
            gallery: Any gallery.

        Returns:
            The centres.
        """
        return cls.of(gallery.vectors, [row.label for row in gallery.rows])

    def scores(self, queries: Vectors, *, unit: bool) -> list[dict[str, float]]:
        """Score every class for every query.

        Args:
            queries: Shape (Q, D), float32, unit rows.
            unit: Take the cosine with the mean's direction; False takes the mean of the cosines with the rows.

        Returns:
            For each query its score with each class, in [-1, 1].
        """
        means = self.means.astype(np.float64)
        if unit:
            lengths = np.linalg.norm(means, axis=1, keepdims=True)
            means /= np.where(lengths > 0, lengths, 1.0)  # rows that cancel out have no direction
        return [dict(zip(self.labels, row, strict=True)) for row in (queries @ means.T).tolist()]
