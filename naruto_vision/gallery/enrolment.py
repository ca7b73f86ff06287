"""Collect the vectors of one pass over the class data, and make a gallery of them."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from naruto_vision.gallery.content import GalleryRow
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.gallery.stores import IndexChoice
from naruto_vision.records import Vectors


class Enrolment:
    """What one process has embedded so far.

    Attributes:
        rows: Label and path of each embedded picture.
        vectors: Batches of shape (B, D), float32, unit rows, in the order of ``rows``.
    """

    rows: list[tuple[str, str]]
    vectors: list[Vectors]

    def __init__(self) -> None:
        self.rows = []
        self.vectors = []

    def add(self, vectors: Tensor, labels: Sequence[str], paths: Sequence[str]) -> None:
        """Keep one batch.

        Args:
            vectors: Shape (B, D), unit rows, any device.
            labels: B class names.
            paths: B paths relative to the data's root.

        Raises:
            ValueError: If there are not as many labels and paths as vectors.
        """
        if not len(vectors) == len(labels) == len(paths):
            msg = f"enrolment: {len(vectors)} vectors, {len(labels)} labels and {len(paths)} paths do not go together"
            raise ValueError(msg)
        self.vectors.append(vectors.float().cpu().numpy())
        self.rows.extend(zip(labels, paths, strict=True))

    def build(self, fingerprint: str, index: IndexChoice) -> Gallery:
        """Make the gallery; its rows are ordered by path, so the order of batches and processes does not show.

        Args:
            fingerprint: The encoder's.
            index: Which index searches.

        Returns:
            A gallery without thresholds.
        """
        order = sorted(range(len(self.rows)), key=lambda i: (self.rows[i][1], self.rows[i][0]))
        entries = [GalleryRow(label=self.rows[i][0], path=self.rows[i][1]) for i in order]
        return Gallery.build(np.concatenate(self.vectors)[order], entries, fingerprint=fingerprint, index=index)
