"""Collect the vectors of one pass over the class data, and make a gallery of them."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from naruto_vision.gallery.content import GalleryRow
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.gallery.selection import UNCHANGED, EnrolmentPlan, select_rows
from naruto_vision.gallery.stores import IndexChoice
from naruto_vision.records import Vectors

_LOG = logging.getLogger(__name__)


class Enrolment:
    """What one process has embedded so far.

    Attributes:
        rows: Label, path and variant of each embedded picture.
        vectors: Batches of shape (B, D), float32, unit rows, in the order of ``rows``.
    """

    rows: list[tuple[str, str, str]]
    vectors: list[Vectors]

    def __init__(self) -> None:
        self.rows = []
        self.vectors = []

    def add(
        self, vectors: Tensor, labels: Sequence[str], paths: Sequence[str], augs: Sequence[str] | None = None
    ) -> None:
        """Keep one batch.

        Args:
            vectors: Shape (B, D), unit rows, any device.
            labels: B class names.
            paths: B paths relative to the data's root.
            augs: How each picture was changed; None for not at all.

        Raises:
            ValueError: If there are not as many labels, paths and variants as vectors.
        """
        augs = [UNCHANGED] * len(labels) if augs is None else augs
        if not len(vectors) == len(labels) == len(paths) == len(augs):
            msg = f"enrolment: {len(vectors)} vectors, {len(labels)} labels and {len(paths)} paths do not go together"
            raise ValueError(msg)
        self.vectors.append(vectors.float().cpu().numpy())
        self.rows.extend(zip(labels, paths, augs, strict=True))

    def build(
        self,
        fingerprint: str,
        index: IndexChoice,
        plan: EnrolmentPlan | None = None,
        note: Mapping[str, Any] | None = None,
    ) -> Gallery:
        """Make the gallery; its rows are ordered by path, so the order of batches and processes does not show.

        Args:
            fingerprint: The encoder's.
            index: Which index searches.
            plan: The cap and the duplicate rule; None keeps every row.
            note: JSON values to keep about how the vectors were made; ``enrolment`` among them are counts, which the
                counts of the plan are added to.

        Returns:
            A gallery without thresholds.
        """
        rows = [GalleryRow(label=label, path=path, aug=aug) for label, path, aug in self.rows]
        vectors = np.concatenate(self.vectors)
        selected = select_rows(vectors, rows, plan or EnrolmentPlan())
        counts, kept = selected.counts, list(selected.kept)
        if counts["kept"] < counts["pictures"]:
            words = "%d of %d pictures enrolled (%d near duplicates and %d beyond the cap a class left out)"
            _LOG.info(words, counts["kept"], counts["pictures"], counts["near_duplicates"], counts["over_cap"])
        facts = dict(note or {})
        facts["enrolment"] = {**facts.get("enrolment", {}), **counts}
        entries = [rows[place] for place in kept]
        return Gallery.build(vectors[kept], entries, fingerprint=fingerprint, index=index, note=facts)
