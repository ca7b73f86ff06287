"""Changes to a gallery on disk: locked, opened, changed, and published as the next generation.

Each returns the gallery that is on disk afterwards, and raises InputError if it cannot be changed or is locked.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from naruto_vision.errors import InputError
from naruto_vision.gallery.content import GalleryContent, GalleryRow
from naruto_vision.gallery.edits import add_rows, note_index, relabel_rows, remove_rows, roll_back
from naruto_vision.gallery.folder import write_gallery
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.gallery.index import IndexChoice, VectorIndex, choose_kind
from naruto_vision.gallery.store import writer_lock
from naruto_vision.records import Vectors


def edit_gallery(
    folder: str | Path, change: Callable[[GalleryContent], GalleryContent], *, fingerprint: str | None = None
) -> Gallery:
    """Publish what ``change`` (see ``edits``) makes of a gallery; ``fingerprint`` is the encoder of new rows."""
    with writer_lock(folder):
        opened = Gallery.open(folder, fingerprint=fingerprint)
        try:
            gallery = opened.edited(change)
        except InputError as error:
            msg = f"{folder}: {error}"
            raise InputError(msg) from None
        write_gallery(folder, gallery.content, gallery.index)
    return gallery


def add_to_gallery(folder: str | Path, vectors: Vectors, rows: Sequence[GalleryRow], *, fingerprint: str) -> Gallery:
    """Append rows to a gallery on disk.

    Args:
        folder: The gallery.
        vectors: Shape (M, D), float32, unit rows.
        rows: M rows, in the same order.
        fingerprint: Of the encoder that made the vectors.

    Returns:
        The gallery's next generation.

    Raises:
        FingerprintError: If another encoder made the gallery.
        InputError: If the rows cannot be added, or somebody else is writing.
    """
    return edit_gallery(folder, lambda content: add_rows(content, vectors, rows), fingerprint=fingerprint)


def remove_from_gallery(folder: str | Path, ids: Iterable[int]) -> Gallery:
    """Remove rows from a gallery on disk; a rollback can restore them.

    Args:
        folder: The gallery.
        ids: Of the rows.

    Returns:
        The gallery's next generation.

    Raises:
        InputError: If there is no such row, none would be left, or somebody else is writing.
    """
    return edit_gallery(folder, lambda content: remove_rows(content, ids))


def relabel_in_gallery(folder: str | Path, ids: Iterable[int], label: str) -> Gallery:
    """Give rows of a gallery on disk another label.

    Args:
        folder: The gallery.
        ids: Of the rows.
        label: The label.

    Returns:
        The gallery's next generation.

    Raises:
        InputError: If there is no such row, all have that label already, or somebody else is writing.
    """
    return edit_gallery(folder, lambda content: relabel_rows(content, ids, label))


def roll_back_gallery(folder: str | Path, generation: int) -> Gallery:
    """Restore an older generation's rows, labels and thresholds, as the next generation.

    Args:
        folder: The gallery.
        generation: The older one's number, as ``gallery log`` shows it.

    Returns:
        The gallery's next generation.

    Raises:
        InputError: If there is no such generation, or somebody else is writing.
    """
    return edit_gallery(folder, lambda content: roll_back(content, generation))


def reindex_gallery(folder: str | Path, index: IndexChoice) -> Gallery:
    """Build the index again, of the same or another kind; "auto" goes by the present size."""
    with writer_lock(folder):
        content = Gallery.open(folder, index="exact").content
        kind = choose_kind(index, len(content.rows))
        noted = note_index(content, "flat" if kind == "faiss" else kind)
        gallery = Gallery(noted, VectorIndex.build(kind, content.vectors, content.ids))
        write_gallery(folder, noted, gallery.index)
    return gallery
