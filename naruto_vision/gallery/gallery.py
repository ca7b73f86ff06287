"""The searchable memory of who is who: unit vectors with labels, bound to the encoder that made them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from naruto_vision.errors import FormatError, InputError
from naruto_vision.gallery.content import GalleryContent, GalleryRow, build_content, ledger_line, unit_rows
from naruto_vision.gallery.folder import INDEX, read_gallery, write_gallery
from naruto_vision.gallery.nearest import nearest_rows
from naruto_vision.gallery.stores import FaissIndex, IndexChoice, IndexKind, VectorIndex, choose_kind, make_index
from naruto_vision.gallery.thresholds import Thresholds
from naruto_vision.records import Neighbour, Vectors


class Gallery:
    """A gallery in memory. It never changes: what would change it returns another one.

    Use ``Gallery.build`` or ``Gallery.open``.

    Args:
        content: What it holds.
        index: An index of its vectors.

    Example:
        >>> import numpy as np
        >>> rows = [GalleryRow("ayame/1.png", "ayame"), GalleryRow("kenta/1.png", "kenta")]
        >>> gallery = Gallery.build(np.eye(2, dtype=np.float32), rows, fingerprint="0" * 64)
        >>> gallery.search(np.array([[0.6, 0.8]], dtype=np.float32), k=1)[0][0].label
        'kenta'
    """

    def __init__(self, content: GalleryContent, index: VectorIndex) -> None:
        self._content = content
        self._index = index

    @classmethod
    def build(
        cls,
        vectors: Vectors,
        rows: Sequence[GalleryRow],
        *,
        fingerprint: str,
        index: IndexChoice = "auto",
        thresholds: Thresholds | None = None,
        note: Mapping[str, Any] | None = None,
    ) -> "Gallery":
        """Make a gallery.

        Args:
            vectors: Shape (N, D), float32, unit rows.
            rows: Where each vector came from; row i gets the id i.
            fingerprint: The encoder that made the vectors.
            index: What searches: "auto" is FAISS where it is installed, and exact NumPy, logged, where it is not.
            thresholds: Below which score a region is nobody in here; None counts everything as known.
            note: JSON values that say how the vectors were made (encoder, mirrored, enrolment counts).

        Returns:
            The gallery, not yet on disk.

        Raises:
            InputError: If there is no row, the lengths differ, or a vector is not a unit row.
            MissingPackageError: If "faiss" is wanted and not installed.
        """
        content = build_content(vectors, rows, fingerprint, thresholds or Thresholds(), note)
        return cls(content, make_index(content.vectors, choose_kind(index)))

    @classmethod
    def open(cls, folder: str | Path, *, fingerprint: str | None = None, index: IndexChoice = "auto") -> "Gallery":
        """Read a gallery folder.

        Args:
            folder: The gallery.
            fingerprint: The encoder that will be searched with; None takes any and is for tools that embed nothing.
            index: What searches; see ``build``.

        Returns:
            The gallery.

        Raises:
            MissingPathError: If the folder or one of its files is missing.
            FingerprintError: If another encoder made the gallery.
            FormatError: If a file is not the one that was written.
            MissingPackageError: If "faiss" is wanted and not installed.
        """
        content, stored = read_gallery(folder, fingerprint)
        kind = choose_kind(index)
        if kind != "faiss" or stored is None:
            return cls(content, make_index(content.vectors, kind))
        try:
            return cls(content, FaissIndex.from_bytes(stored, content.vectors))
        except ValueError as error:
            raise FormatError(Path(folder) / INDEX, "an index of the gallery's vectors", str(error)) from None

    def save(self, folder: str | Path) -> None:
        """Write the gallery; an older one in its place is replaced as a whole, or not at all.

        Args:
            folder: Where the gallery goes.
        """
        write_gallery(folder, self._content, self._index)

    def search(self, queries: Vectors, k: int) -> tuple[tuple[Neighbour, ...], ...]:
        """Find the nearest rows.

        The answer depends on a query and the gallery alone: not on the other queries, the index that searches, or
        ``k`` (the first five of ten are the five).

        Args:
            queries: Shape (Q, D), float32, unit rows.
            k: How many neighbours a query wants, at least 1; a smaller gallery gives all its rows.

        Returns:
            For each query its neighbours, highest score first, and of equal scores the lower id first.

        Raises:
            InputError: If the queries have another length than the gallery's vectors, or are not unit rows.
            ValueError: If ``k`` is below 1.
        """
        if k < 1:
            msg = f"search: expected k >= 1, found {k}"
            raise ValueError(msg)
        if queries.ndim != 2 or queries.shape[1] != self.dim:
            msg = (
                f"search: expected queries of shape (Q, {self.dim}), found {queries.shape}; "
                "use the encoder that built the gallery"
            )
            raise InputError(msg)
        units = unit_rows(queries, "search queries")
        found = nearest_rows(self._index, self._content.vectors, units, k)
        return tuple(
            tuple(self._neighbour(place, score) for score, place in zip(scores.tolist(), places.tolist(), strict=True))
            for scores, places in found
        )

    def _neighbour(self, place: int, score: float) -> Neighbour:
        row = self._content.rows[place]
        return Neighbour(int(self._content.ids[place]), row.label, score, row.path)

    def with_thresholds(self, thresholds: Thresholds) -> "Gallery":
        """Return the same gallery with other thresholds, one generation on.

        Args:
            thresholds: Below which score a region is nobody in here.

        Returns:
            A gallery that shares this one's vectors and index.
        """
        content = self._content
        counts = {"rows": len(content.rows), "next_id": content.next_id}
        line = ledger_line("thresholds", counts, content.generation + 1)
        return Gallery(replace(content, thresholds=thresholds, ledger=(*content.ledger, line)), self._index)

    def __len__(self) -> int:
        return len(self._content.rows)

    @property
    def dim(self) -> int:
        """Length D of the vectors."""
        return int(self._content.vectors.shape[1])

    @property
    def vectors(self) -> Vectors:
        """The rows' vectors: shape (N, D), float32, unit rows. Not to be written to."""
        return self._content.vectors

    @property
    def rows(self) -> tuple[GalleryRow, ...]:
        """Where each vector came from, in order of their ids."""
        return self._content.rows

    @property
    def ids(self) -> tuple[int, ...]:
        """The rows' stable ids, rising."""
        return tuple(self._content.ids.tolist())

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Who is in here: the labels, each once, sorted."""
        return tuple(sorted({row.label for row in self._content.rows}))

    @property
    def thresholds(self) -> Thresholds:
        """Below which score a region is nobody in here."""
        return self._content.thresholds

    @property
    def fingerprint(self) -> str:
        """The encoder that made the vectors."""
        return self._content.fingerprint

    @property
    def note(self) -> Mapping[str, Any]:
        """How the gallery was built: encoder, whether mirrored views were averaged, and counts; may be empty."""
        return self._content.note

    @property
    def generation(self) -> int:
        """How many changes the gallery has seen; 1 after it was built."""
        return self._content.generation

    @property
    def index_kind(self) -> IndexKind:
        """What searches: "faiss" or "exact"."""
        return self._index.kind

    @cached_property
    def digest(self) -> str:
        """64 hexadecimal digits that change with anything that can change an answer."""
        return self._content.digest()
