"""The whole path of one scene: segment, crop, embed, search, name."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn

from naruto_vision.encoders.base import Encoder
from naruto_vision.errors import FingerprintError
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.gallery.remembered import encoder_options
from naruto_vision.records import Identity, Neighbour, Picture, Region, ScenePrediction, Vectors
from naruto_vision.scenes.centres import ClassCentres
from naruto_vision.scenes.decision import Decision, decide
from naruto_vision.scenes.merging import MergeSettings, merge_parts
from naruto_vision.segmentation.automatic import Segmenter
from naruto_vision.segmentation.crop_batches import embed_regions
from naruto_vision.segmentation.crops import CropSettings


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
        renormalise: Bring the average of several vectors back to length 1. Without it every score is smaller by the
            length of the average, as the reference system's scores are.
        decision: How gallery rows become a name.
        merge: How parts of a figure are put together; None leaves them apart.
        batch_size: Crops a forward pass; None takes 16 on a CPU and 256 elsewhere.

    Raises:
        FingerprintError: If the gallery was built with another encoder.

    Example:
        >>> from naruto_vision.encoders.base import embed_pictures
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
        renormalise: bool = True,
        decision: Decision = "vote",
        merge: MergeSettings | None = None,
        batch_size: int | None = None,
    ) -> None:
        fingerprint = encoder.fingerprint  # hashes all weights, so once
        if gallery.fingerprint != fingerprint:
            options = encoder_options(gallery.note)
            raise FingerprintError(gallery.folder or "gallery", gallery.fingerprint, fingerprint, " ".join(options))
        self.segmenter = segmenter
        self.encoder = encoder
        self.gallery = gallery
        self.crops = (crop or CropSettings(), *more_crops)
        self.neighbours = neighbours
        self.mirror = mirror
        self.renormalise = renormalise
        self.decision: Decision = decision
        self.merge = merge
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
        identities = self.identify(picture, regions, times)
        if self.merge is not None:
            with _timed(times, "merge"):
                regions, identities = merge_parts(
                    regions, identities, lambda unions: self.identify(picture, unions, {}), self.merge
                )
        height, width = picture.shape[:2]
        return ScenePrediction(scene, width, height, regions, identities, times)

    def identify(
        self, picture: Picture, regions: Sequence[Region], times: dict[str, float] | None = None
    ) -> tuple[Identity, ...]:
        """Name regions of a picture that come from anywhere.

        Args:
            picture: Shape (H, W, 3), uint8, RGB, upright.
            regions: Regions of this picture.
            times: Where the milliseconds of ``embed`` and ``search`` go.

        Returns:
            Who each region is.
        """
        times = {} if times is None else times
        with _timed(times, "embed"):
            vectors, lengths = self._embed(picture, regions)
        with _timed(times, "search"):
            rows = self.gallery.search(vectors, self.neighbours)
            scores = self._class_scores(vectors)
        thresholds = self.gallery.thresholds
        return tuple(
            decide(_shortened(found, length), thresholds, self.decision, {k: v * length for k, v in classes.items()})
            for found, classes, length in zip(rows, scores, lengths.tolist(), strict=True)
        )

    def _embed(self, picture: Picture, regions: Sequence[Region]) -> tuple[Vectors, Vectors]:
        """Embed R regions.

        Returns:
            Unit rows (R, D), and lengths (R,) that scores are multiplied with: 1 where averages are renormalised.
        """
        views = embed_regions(
            self.encoder,
            picture,
            regions,
            self.crops,
            mirror=self.mirror,
            renormalise=self.renormalise,
            batch_size=self.batch_size,
        )
        average = views.mean(dim=0)  # (ways to crop, R, D) -> (R, D)
        lengths = torch.ones(len(average)) if self.renormalise else average.norm(dim=-1)
        unit = nn.functional.normalize(average, dim=-1)
        return unit.numpy().astype(np.float32, copy=False), lengths.numpy().astype(np.float32, copy=False)

    def facts(self) -> dict[str, Any]:
        """Return the JSON values that decide what is found and how it is named."""
        return {
            "encoder": self.gallery.fingerprint,  # the encoder's, or the gallery would not have been taken
            "gallery": self.gallery.digest,
            "segmenter": self.segmenter.fingerprint,
            "crop": repr(self.crops),
            "neighbours": self.neighbours,
            "mirror": self.mirror,
            "renormalise": self.renormalise,
            "decision": self.decision,
            "merge": repr(self.merge),
        }

    @cached_property
    def _centres(self) -> ClassCentres:
        return ClassCentres.of_gallery(self.gallery)

    def _class_scores(self, vectors: Vectors) -> Sequence[dict[str, float]]:
        match self.decision:
            case "mean" | "prototype":
                return self._centres.scores(vectors, unit=self.decision == "prototype")
            case "vote" | "top1" | "max":
                return [{} for _ in vectors]


def _shortened(neighbours: Sequence[Neighbour], length: float) -> Sequence[Neighbour]:
    return neighbours if length == 1.0 else [replace(row, score=row.score * length) for row in neighbours]


@contextmanager
def _timed(times: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    times[name] = (time.perf_counter() - start) * 1000.0
