"""The gallery: labelled unit vectors to search, bound to the encoder that made them."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from naruto_vision.errors import FormatError, InputError
from naruto_vision.gallery.content import (
    GalleryContent,
    GalleryHead,
    GalleryRow,
    build_content,
    edits_since_enrolment,
    line_counts,
    read_gallery,
    stored_index,
    unit_rows,
    write_gallery,
)
from naruto_vision.gallery.edits import change_thresholds, enrol_rows, note_index
from naruto_vision.gallery.index import IndexChoice, QueryKind, VectorIndex, choose_kind
from naruto_vision.gallery.store import (
    DRIFT,
    INDEX,
    MANIFEST,
    connected,
    located_note,
    read_manifest,
    store_uri,
    writer_lock,
)
from naruto_vision.gallery.thresholds import Thresholds
from naruto_vision.io.atomic import write_bytes
from naruto_vision.records import Neighbour, Vectors

_LOG = logging.getLogger(__name__)
_STALE = (
    "%s: its entries changed in generation %d, after its thresholds were chosen; choose them again with "
    "`naruto-vision validate` on scenes with ground truth"
)


class Gallery:
    """An immutable gallery in memory; edits return a new one.

    Use ``Gallery.build`` or ``Gallery.open``; ``edit_gallery`` changes a gallery on disk.

    Args:
        content: Its vectors, entries, thresholds and ledger.
        index: An index of its vectors.
        folder: Its folder, for messages; None if it was made in memory.

    Examples:
        >>> import naruto_vision as nv
        >>> import numpy as np
        >>> rows = [nv.GalleryRow("ayame/1.png", "ayame"), nv.GalleryRow("kenta/1.png", "kenta")]
        >>> gallery = nv.Gallery.build(np.eye(2, dtype=np.float32), rows, fingerprint="0" * 64)
        >>> gallery.search(np.array([[0.6, 0.8]], dtype=np.float32), k=1)[0][0].label
        'kenta'
    """

    content: GalleryContent
    index: VectorIndex
    folder: str | Path | None

    def __init__(self, content: GalleryContent, index: VectorIndex, folder: Path | None = None) -> None:
        self.content = content
        self.index = index
        self.folder = folder

    @property
    def head(self) -> GalleryHead:
        """The gallery without its rows."""
        return self.content

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
        advance: Callable[[int, int], None] | None = None,
    ) -> "Gallery":
        """Make a gallery.

        Args:
            vectors: Shape (N, D), float32, unit rows.
            rows: Source of each vector; row i gets the id i.
            fingerprint: The encoder that made the vectors.
            index: Kind of index; "auto" is flat up to 100,000 rows, IVF up to a million and PQ above, or exact NumPy
                search (logged) if FAISS is not installed.
            thresholds: The scores below which a region is unknown; None counts every region as known.
            note: JSON values of how the vectors were made (encoder, mirrored, enrolment counts).
            advance: Called with the rows that are indexed so far, and all rows.

        Returns:
            The gallery, not yet on disk.

        Raises:
            InputError: If there is no row, the lengths differ, or a vector is not a unit row.
            MissingPackageError: If "faiss" is wanted and not installed.
        """
        content = build_content(vectors, rows, fingerprint, thresholds or Thresholds(), note)
        kind = choose_kind(index, len(rows))
        return cls(content, VectorIndex.build(kind, content.vectors, content.ids, advance))

    @classmethod
    def open(cls, folder: str | Path, *, fingerprint: str | None = None, index: IndexChoice = "auto") -> "Gallery":
        """Read a gallery folder, or open a gallery in a vector store.

        Args:
            folder: The gallery: a folder, or ``chroma:DIR``, ``chroma+http://host:port``, ``milvus:FILE.db`` or
                ``milvus+http://host:port``.
            fingerprint: The encoder of the queries; None takes any, for tools that embed nothing.
            index: Kind of index; see ``build``. A vector store has its own.

        Returns:
            The gallery.

        Raises:
            MissingPathError: If the folder or one of its files is missing.
            FingerprintError: If another encoder made the gallery.
            FormatError: If a file does not match its hash.
            MissingPackageError: If "faiss" is wanted and not installed.
        """
        gallery = cls._read(folder, fingerprint, index)
        if gallery.stale_since is not None:
            _LOG.warning(_STALE, folder, gallery.stale_since)
        return gallery

    @classmethod
    def _read(cls, folder: str | Path, fingerprint: str | None, index: IndexChoice = "auto") -> "Gallery":
        if uri := store_uri(folder):
            opened: Gallery = connected(uri).open(fingerprint)
            return opened
        content, stored = read_gallery(folder, fingerprint)
        kind = choose_kind(index, len(content.rows), stored.kind)
        if stored.data is None or kind != stored.kind:
            return cls(content, VectorIndex.build(kind, content.vectors, content.ids), Path(folder))
        try:
            index_read = stored_index(stored, content)
        except ValueError as error:
            hint = f"run `naruto-vision gallery reindex {folder}`"
            raise FormatError(Path(folder) / INDEX, "an index of the gallery's vectors", str(error), hint) from None
        return cls(content, index_read, Path(folder))

    def save(self, folder: str | Path) -> None:
        """Write the gallery; an older one is replaced atomically.

        Args:
            folder: Output folder.

        Raises:
            InputError: If another process is changing the gallery in that folder.
        """
        with writer_lock(folder):
            _publish(folder, self)

    def search(self, queries: Vectors, k: int, kind: QueryKind = "image") -> tuple[tuple[Neighbour, ...], ...]:
        """Find the nearest rows.

        The result depends on a query and the gallery alone: not on the other queries, the index that searches, or
        ``k`` (the top 5 are the first five of the top 10).

        Args:
            queries: Shape (Q, D), float32, unit rows.
            k: Neighbours per query, at least 1; a smaller gallery returns all its rows.
            kind: What was embedded; an approximate index has a larger search budget for texts.

        Returns:
            For each query its neighbours, highest score first, and of equal scores the lower id first.

        Raises:
            InputError: If the queries differ in dimension from the gallery's vectors, or are not unit rows.
            ValueError: If ``k`` is below 1.
        """
        if k < 1:
            raise ValueError(f"search: expected k >= 1, found {k}")
        if queries.ndim != 2 or queries.shape[1] != self.dim:
            raise InputError(
                f"search: expected queries of shape (Q, {self.dim}), found {queries.shape}; "
                "use the encoder that built the gallery"
            )
        units = unit_rows(queries, "search queries")
        return tuple(self._nearest(units, k, kind))

    def _nearest(self, queries: Vectors, k: int, kind: QueryKind) -> "list[tuple[Neighbour, ...]]":
        negative = self.content.negative
        return [
            tuple(
                self._neighbour(row, score)
                for score, row in zip(scores.tolist(), rows.tolist(), strict=True)
                if not negative[row]
            )[:k]
            for scores, rows in self.index.search(queries, k + int(negative.sum()), kind)
        ]

    def _neighbour(self, number: int, score: float) -> Neighbour:
        row = self.content.rows[number]
        return Neighbour(int(self.content.ids[number]), row.label, score, row.path)

    def with_thresholds(self, thresholds: Thresholds) -> "Gallery":
        """Return the next generation with other thresholds; it shares this one's vectors and index."""
        return self.edited(change_thresholds, thresholds)

    def noted(self, facts: Mapping[str, Any]) -> "Gallery":
        """Return a new gallery, not yet changed, with more JSON values in its note."""
        (line,) = self.content.ledger
        note = {**self.note, **facts}
        return Gallery(replace(self.content, ledger=({**line, "note": note},)), self.index)

    def edited(self, change: Callable[..., GalleryContent], *args: Any) -> "Gallery":
        """Return the next generation by a function of ``edits``: ``gallery.edited(remove_rows, [3, 4])``."""
        content = change(self.content, *args)
        same = content.vectors is self.content.vectors
        return Gallery(content, self.index if same else self.index.updated(content.vectors, content.ids))

    def __len__(self) -> int:
        return self.content.size - int(self.content.negative.sum())

    @cached_property
    def _entries(self) -> tuple[Sequence[GalleryRow], Vectors, NDArray[np.int64]]:
        content = self.content
        if not self.has_negatives:
            return content.rows, content.vectors, content.ids
        kept = np.flatnonzero(~content.negative)
        return tuple(content.rows[number] for number in kept.tolist()), content.vectors[kept], content.ids[kept]

    @property
    def has_negatives(self) -> bool:
        """Whether there are negative rows."""
        return bool(self.content.negative.any())

    @cached_property
    def negatives(self) -> tuple[Vectors, list[str]]:
        """The negative rows: vectors (M, D), float32, unit rows, and the label that each is not."""
        numbers = np.flatnonzero(self.content.negative)
        return self.content.vectors[numbers], [self.content.rows[number].label for number in numbers.tolist()]

    @property
    def dim(self) -> int:
        """Length D of the vectors."""
        return self.content.dim

    @property
    def vectors(self) -> Vectors:
        """The entries' vectors: shape (N, D), float32, unit rows. Do not modify."""
        return self._entries[1]

    def vector_of(self, row: int) -> Vectors:
        """Return the vector of the row with an id: shape (D,), float32, unit length."""
        vector: Vectors = self.content.vectors[int(self.content.ids.searchsorted(row))]
        return vector

    @property
    def rows(self) -> Sequence[GalleryRow]:
        """Source of each vector, in order of their ids, without negative rows."""
        return self._entries[0]

    @property
    def ids(self) -> tuple[int, ...]:
        """The entries' stable ids, rising."""
        return tuple(self._entries[2].tolist())

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels, each once, sorted."""
        return self.content.labels

    @property
    def thresholds(self) -> Thresholds:
        """The scores below which a region is unknown."""
        return self.head.thresholds

    @property
    def fingerprint(self) -> str:
        """The encoder that made the vectors."""
        return self.head.fingerprint

    @cached_property
    def note(self) -> Mapping[str, Any]:
        """How the gallery was built: encoder, whether mirrored views were averaged, and counts; may be empty."""
        return located_note(self.head.note, self.folder)

    @property
    def mirror(self) -> bool:
        """Whether vectors of whole images are averaged with those of the mirrored ones."""
        return bool(self.note.get("mirror", True))

    @property
    def generation(self) -> int:
        """Number of changes, counted from 1 at the build."""
        return self.head.generation

    @property
    def stale_since(self) -> int | None:
        """The generation in which rows changed after the thresholds were chosen, if any."""
        return self.head.stale_since

    @property
    def index_kind(self) -> str:
        """The kind of index: "faiss" (flat), "exact" (flat, none stored), "hnsw", "ivf", "sq", "pq", or the store's."""
        return self.index.kind

    @cached_property
    def digest(self) -> str:
        """64 hexadecimal digits that change with anything that can change a result."""
        return self.content.digest()


def edit_gallery(
    folder: str | Path, change: Callable[..., GalleryContent], *args: Any, fingerprint: str | None = None
) -> Gallery:
    """Change a gallery on disk and return it: lock, open, change, and publish the next generation.

    Args:
        folder: The gallery.
        change: A function of ``edits``, or another from content to content.
        *args: Its further arguments: ``edit_gallery(folder, remove_rows, [3, 4])``.
        fingerprint: The encoder of rows to add; None takes any.

    Raises:
        InputError: If another process is changing the gallery, or the change cannot be made.
        FingerprintError: If another encoder made the gallery.
    """
    with writer_lock(folder):
        opened = Gallery._read(folder, fingerprint)
        try:
            gallery = opened.edited(change, *args)
        except InputError as error:
            raise InputError(f"{folder}: {error}") from None
        _publish(folder, gallery, opened)
    return gallery


def _publish(folder: str | Path, gallery: Gallery, before: Gallery | None = None) -> None:
    """Write the generation that follows ``before``; None replaces what is there."""
    uri = store_uri(folder)
    if uri is None:
        write_gallery(folder, gallery.content, gallery.index)
        return
    connected(uri).publish(gallery.content, None if before is None else before.head)


def enrol_gallery(folder: str | Path, built: Gallery, index: IndexChoice = "auto") -> Gallery:
    """Publish a new enrolment, and return the gallery on disk.

    If the folder has a gallery of the same encoder, this becomes its next generation: its edits are undone, and
    ``roll_back`` restores them. Equal rows keep their ids, and the thresholds stay. Anything else there is replaced.

    Args:
        folder: The gallery.
        built: The gallery of the new rows.
        index: Kind of index; "auto" keeps the kind that is stored.

    Raises:
        InputError: If another process is changing the gallery.
    """
    with writer_lock(folder):
        try:
            old = Gallery._read(folder, built.fingerprint, index)
        except InputError:  # no gallery, a damaged one, or one of another encoder
            gallery, before = built, None
        else:
            before, gallery = old, old.edited(enrol_rows, built.vectors, built.rows, built.note)
            if gallery.content is old.content:
                _LOG.info("%s: enrolled again, and all %d entries are as they were", folder, len(old))
                return old
            counts = line_counts(gallery.content.ledger[-1])
            text = (
                "%s: enrolled again: %d entries kept, %d added, %d removed; `gallery rollback %s --to %d` undoes this"
            )
            kept = len(gallery) - counts["added"]
            _LOG.info(text, folder, kept, counts["added"], counts["removed"], folder, old.generation)
        _publish(folder, gallery, before)
    return gallery


def check_enrolment(folder: str | Path, fingerprint: str) -> None:
    """Refuse to enrol into a gallery of another encoder that was edited: its edits could not be kept."""
    try:
        head = Gallery._read(folder, None).head
    except InputError:  # no gallery, or a damaged one
        return
    count = edits_since_enrolment(head.ledger)
    if count and head.fingerprint != fingerprint:
        raise InputError(
            f"{folder}: has {count} edits (`naruto-vision gallery log {folder}`) that would be lost, as it was built "
            "with another encoder; give another --model.gallery, or --model.replace true"
        )


def reindex_gallery(
    folder: str | Path, index: IndexChoice, advance: Callable[[int, int], None] | None = None
) -> Gallery:
    """Rebuild the index of a gallery on disk, of the same or another kind; "auto" goes by its size.

    ``advance`` is called with the rows that are indexed so far, and all rows.
    """
    if store_uri(folder):
        raise InputError(f"{folder}: a vector store has its own index, which it keeps itself")
    with writer_lock(folder):
        content = Gallery.open(folder, index="exact").content
        kind = choose_kind(index, len(content.rows))
        noted = note_index(content, "flat" if kind == "faiss" else kind)
        gallery = Gallery(noted, VectorIndex.build(kind, content.vectors, content.ids, advance))
        write_gallery(folder, noted, gallery.index)
    return gallery


def published_at(folder: str | Path) -> float:
    """Return when the gallery's last generation was published, in seconds since 1970."""
    if uri := store_uri(folder):
        return float(connected(uri).head().published)
    return (Path(folder) / MANIFEST).stat().st_mtime


def copy_gallery(source: str | Path, target: str | Path) -> Gallery:
    """Copy a gallery with its whole history from a folder or vector store to another, which has none yet.

    Raises InputError if there is a gallery in ``target``, also a damaged one. The sample of scenes that runs are
    compared with is copied from folder to folder; a vector store has none.
    """
    content = Gallery._read(source, None, "exact").content
    try:
        read_manifest(target)
    except FormatError:  # a damaged one
        raise
    except InputError:
        kind = choose_kind("exact" if store_uri(target) else "auto", len(content.rows))
        gallery = Gallery(content, VectorIndex.build(kind, content.vectors, content.ids))
        gallery.save(target)
        if not (store_uri(source) or store_uri(target)) and (Path(source) / DRIFT).is_file():
            write_bytes(Path(target) / DRIFT, (Path(source) / DRIFT).read_bytes())
        return gallery
    raise InputError(f"{target}: there is a gallery; name another folder or vector store")
