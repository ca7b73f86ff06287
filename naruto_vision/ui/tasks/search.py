"""Name whole images and texts by a gallery."""

from typing import Any

from naruto_vision.ui.models import Models
from naruto_vision.ui.tasks.scenes import entry_thumbnail


def search(models: Models, *, preset: str, text: str, path: str, k: int) -> dict[str, Any]:
    """Search a gallery by a text or an image: returns JSON values, a sentence, and thumbnails of the neighbours."""
    analyzer = models.analyzer(preset)
    found = analyzer.search(path or None, text=text, k=k)
    gallery = analyzer.gallery
    thumbnails = [entry_thumbnail(gallery.folder, gallery.note, hit.neighbour.path) for hit in found.hits]
    values = found.as_json() | {"query": text or "image"}
    return {**values, "sentence": found.sentence(), "thumbnails": thumbnails}
