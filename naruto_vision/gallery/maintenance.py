"""Changes to a gallery on the disk: opened, changed and published with other writers kept out all the while."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from naruto_vision.errors import InputError
from naruto_vision.gallery.content import GalleryContent, GalleryRow
from naruto_vision.gallery.edits import add_rows, note_index, relabel_rows, remove_rows, roll_back
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.gallery.index import IndexChoice, choose_kind, make_index
from naruto_vision.gallery.store import write_gallery, writer_lock
from naruto_vision.records import Vectors


def edit_gallery(
    folder: str | Path, change: Callable[[GalleryContent], GalleryContent], *, fingerprint: str | None = None
) -> Gallery:
    """Open a gallery, change it and publish the next generation.

    Args:
        folder: The gallery.
        change: From what it holds to what it shall hold; see ``edits``.
        fingerprint: The encoder that new rows were embedded with; None where nothing was embedded.

    Returns:
        The gallery that is on the disk now.

    Raises:
        InputError: If the gallery cannot be opened or changed, or another process is changing it.
    """
    with writer_lock(folder):
        opened = Gallery.open(folder, fingerprint=fingerprint)
        try:
            gallery = opened.edited(change)
        except InputError as error:  # what is changed has no name of its own
            msg = f"{folder}: {error}"
            raise InputError(msg) from None
        write_gallery(folder, gallery.content, gallery.index)
    return gallery


def add_to_gallery(folder: str | Path, vectors: Vectors, rows: Sequence[GalleryRow], *, fingerprint: str) -> Gallery:
    """Append rows under ids that were never given; the rows that are there are not touched.

    Args:
        folder: The gallery.
        vectors: Shape (M, D), float32, unit rows.
        rows: M rows.
        fingerprint: The encoder that made the vectors.

    Returns:
        The gallery that is on the disk now.

    Raises:
        FingerprintError: If another encoder made the gallery.
        InputError: If vectors and rows do not go together, or another process is changing the gallery.
    """
    return edit_gallery(folder, lambda content: add_rows(content, vectors, rows), fingerprint=fingerprint)


def remove_from_gallery(folder: str | Path, ids: Iterable[int]) -> Gallery:
    """Take rows out; a rollback can bring them back.

    Args:
        folder: The gallery.
        ids: Which rows.

    Returns:
        The gallery that is on the disk now.

    Raises:
        InputError: If there is no such row, none would be left, or another process is changing the gallery.
    """
    return edit_gallery(folder, lambda content: remove_rows(content, ids))


def relabel_in_gallery(folder: str | Path, ids: Iterable[int], label: str) -> Gallery:
    """Give rows another name.

    Args:
        folder: The gallery.
        ids: Which rows.
        label: The name.

    Returns:
        The gallery that is on the disk now.

    Raises:
        InputError: If there is no such row, none would change, or another process is changing the gallery.
    """
    return edit_gallery(folder, lambda content: relabel_rows(content, ids, label))


def roll_back_gallery(folder: str | Path, generation: int) -> Gallery:
    """Bring back an older generation's rows, names and thresholds, as a change like any other.

    Args:
        folder: The gallery.
        generation: Which.

    Returns:
        The gallery that is on the disk now.

    Raises:
        InputError: If there is no such generation, or another process is changing the gallery.
    """
    return edit_gallery(folder, lambda content: roll_back(content, generation))


def reindex_gallery(folder: str | Path, index: IndexChoice) -> Gallery:
    """Make a gallery's index anew, of the same or another kind, one generation on; its rows stay.

    Args:
        folder: The gallery.
        index: What searches; "auto" goes by the present size.

    Returns:
        The gallery that is on the disk now.

    Raises:
        InputError: If the gallery cannot be opened, or another process is changing it.
        MissingPackageError: If a kind of FAISS's is wanted and FAISS is not installed.
    """
    with writer_lock(folder):
        content = Gallery.open(folder, index="exact").content
        kind = choose_kind(index, len(content.rows))
        noted = note_index(content, "flat" if kind == "faiss" else kind)
        gallery = Gallery(noted, make_index(content.vectors, kind, content.ids))
        write_gallery(folder, noted, gallery.index)
    return gallery
