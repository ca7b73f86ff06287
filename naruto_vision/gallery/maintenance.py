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
    """Append rows with their vectors (M, D); FingerprintError if another encoder made the gallery."""
    return edit_gallery(folder, lambda content: add_rows(content, vectors, rows), fingerprint=fingerprint)


def remove_from_gallery(folder: str | Path, ids: Iterable[int]) -> Gallery:
    """Remove rows; a rollback can restore them."""
    return edit_gallery(folder, lambda content: remove_rows(content, ids))


def relabel_in_gallery(folder: str | Path, ids: Iterable[int], label: str) -> Gallery:
    """Give rows another label."""
    return edit_gallery(folder, lambda content: relabel_rows(content, ids, label))


def roll_back_gallery(folder: str | Path, generation: int) -> Gallery:
    """Restore an older generation's rows, labels and thresholds."""
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
