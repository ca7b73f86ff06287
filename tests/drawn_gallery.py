"""A small gallery of two names, for tests of what opens and edits galleries."""

from pathlib import Path

import numpy as np

from naruto_vision.encoders.base import Encoder, embed_images
from naruto_vision.gallery.content import GalleryRow
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.gallery.thresholds import Thresholds
from naruto_vision.io.images import write_image
from naruto_vision.records import ImageArray

COLOURS = {"ayame": (220, 60, 60), "kenta": (60, 60, 220)}


def noisy(colour: tuple[int, int, int], seed: int) -> ImageArray:
    """Draw an image (32, 32, 3) of a colour with noise."""
    noise = np.random.default_rng(seed).integers(-30, 30, (32, 32, 3))
    return np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)


def build(folder: Path, encoder: Encoder, each: int = 4) -> None:
    """Write the images to ``data`` and the gallery to ``runs/gallery`` below a folder."""
    rows, images = [], []
    for label, colour in COLOURS.items():
        for number in range(each):
            images.append(noisy(colour, len(images)))
            rows.append(GalleryRow(f"{label}/{number}.png", label))
            write_image(folder / "data" / rows[-1].path, images[-1])
    vectors = embed_images(encoder, images, mirror=True).numpy()
    note = {"encoder": dict(encoder.recipe), "mirror": True, "root": str(folder / "data")}
    thresholds = Thresholds(0.9, {}, "by hand", decision="vote")
    gallery = Gallery.build(vectors, rows, fingerprint=encoder.fingerprint, note=note, thresholds=thresholds)
    gallery.save(folder / "runs" / "gallery")
