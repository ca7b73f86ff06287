"""The whole path of one scene: segment, crop, embed, search, name."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from torch import nn

from naruto_vision.encoders.base import Encoder, embed_pictures
from naruto_vision.errors import FingerprintError
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.records import Identity, Picture, Region, ScenePrediction
from naruto_vision.scenes.decision import decide
from naruto_vision.segmentation.automatic import Segmenter
from naruto_vision.segmentation.crops import CropSettings, crop_region


class SceneAnalyzer:
    """Find every region of a scene and say who it is.

    Args:
        segmenter: Cuts a picture into regions.
        encoder: Embeds the crops; it has to be the encoder that the gallery was built with.
        gallery: Whom to look for.
        crop: How a region becomes the picture that is embedded.
        more_crops: Further ways; their vectors are averaged with the first's.
        neighbours: How many gallery rows vote on each region; 1 takes the nearest.
        mirror: Average each crop's vector with its mirror image's.
        batch_size: Crops a forward pass.

    Raises:
        FingerprintError: If the gallery was built with another encoder.

    Example:
        >>> from naruto_vision.encoders.clip import ClipEncoder
        >>> from naruto_vision.gallery.content import GalleryRow
        >>> from naruto_vision.segmentation.prompters import GridPrompter
        >>> from naruto_vision.segmentation.sam import SamModel
        >>> encoder = ClipEncoder("tiny-clip")
        >>> picture = np.full((64, 64, 3), 255, dtype=np.uint8)
        >>> vectors = embed_pictures(encoder, [picture]).numpy()
        >>> gallery = Gallery.build(vectors, [GalleryRow("a.png", "ayame")], fingerprint=encoder.fingerprint)
        >>> analyzer = SceneAnalyzer(Segmenter(GridPrompter(4), SamModel(weights="tiny-sam")), encoder, gallery)
        >>> {identity.name for identity in analyzer(picture).identities} <= {"ayame"}
        True
    """

    def __init__(
        self,
        segmenter: Segmenter,
        encoder: Encoder,
        gallery: Gallery,
        *,
        crop: CropSettings | None = None,
        more_crops: Sequence[CropSettings] = (),
        neighbours: int = 20,
        mirror: bool = True,
        batch_size: int = 32,
    ) -> None:
        if gallery.fingerprint != encoder.fingerprint:
            raise FingerprintError("gallery", gallery.fingerprint, encoder.fingerprint)
        self.segmenter = segmenter
        self.encoder = encoder
        self.gallery = gallery
        self.crops = (crop or CropSettings(), *more_crops)
        self.neighbours = neighbours
        self.mirror = mirror
        self.batch_size = batch_size

    def __call__(self, picture: Picture, scene: str = "") -> ScenePrediction:
        """Analyse one scene.

        Args:
            picture: Shape (H, W, 3), uint8, RGB, upright.
            scene: The name that the prediction carries.

        Returns:
            Regions with their identities, largest region first, and the milliseconds of each step.
        """
        times: dict[str, float] = {}
        with _timed(times, "segment"):
            regions = tuple(self.segmenter(picture))
        identities = self._identify(picture, regions, times)
        height, width = picture.shape[:2]
        return ScenePrediction(scene, width, height, regions, identities, times)

    def _identify(self, picture: Picture, regions: tuple[Region, ...], times: dict[str, float]) -> tuple[Identity, ...]:
        with _timed(times, "embed"):
            crops = [crop_region(picture, region, crop) for crop in self.crops for region in regions]
            views = embed_pictures(self.encoder, crops, batch_size=self.batch_size, mirror=self.mirror)
            by_crop = views.view(len(self.crops), len(regions), self.encoder.dim)  # (crops, regions, D)
            vectors = nn.functional.normalize(by_crop.sum(dim=0), dim=-1)
        with _timed(times, "search"):
            rows = self.gallery.search(vectors.numpy().astype(np.float32, copy=False), self.neighbours)
        return tuple(decide(found, self.gallery.thresholds) for found in rows)


@contextmanager
def _timed(times: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    times[name] = (time.perf_counter() - start) * 1000.0
