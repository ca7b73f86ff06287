"""``SceneRetriever``: build and calibrate a gallery, and name the characters of scenes."""

import dataclasses
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import nn

from naruto_vision.data.gallery_data import GalleryBatch, GalleryDataModule
from naruto_vision.data.leaks import frame_runs
from naruto_vision.data.scenes import SceneItem, scenes_together
from naruto_vision.encoders.base import Encoder, encode_images
from naruto_vision.errors import InputError
from naruto_vision.gallery.enrollment import Enrollment, EnrollmentConfig
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.gallery.index import IndexChoice
from naruto_vision.gallery.info import list_gallery
from naruto_vision.metrics.scene import SceneReport
from naruto_vision.metrics.scene_accuracy import SceneAccuracy
from naruto_vision.modules.gathering import gather_lists
from naruto_vision.recognition.analyzer import SceneAnalyzer
from naruto_vision.recognition.decision import (
    Decision,
    ScoredRegion,
    check_decision,
    score_regions,
    thresholds_from,
)
from naruto_vision.recognition.heads import compare_rules, describe_comparison
from naruto_vision.recognition.merging import MergeConfig
from naruto_vision.records import ScenePrediction
from naruto_vision.segmentation.crops import CropConfig
from naruto_vision.segmentation.generator import Segmenter
from naruto_vision.viz.overlay import OverlayConfig, choose_for_overlay, labelled_boxes

_LOG = logging.getLogger(__name__)


class SceneRetriever(pl.LightningModule):
    """Builds the gallery and searches scenes.

    ``fit`` has no optimiser: its one epoch embeds every image of the training split and writes the gallery;
    its validation pass over scenes with ground truth chooses the threshold below which a region is "unknown".

    Args:
        encoder: Embeds gallery images and crops.
        segmenter: Segments scenes into regions; None suffices for ``fit`` without validation scenes.
        gallery: The gallery folder, written by ``fit`` and read by the other commands.
        crop: How a region is cropped for the encoder.
        more_crops: Further crops, whose vectors are averaged with the first.
        overlay: Which regions the overlay shows.
        neighbours: How many nearest gallery rows vote on each region.
        mirror: Average every vector with that of the horizontally flipped image.
        renormalise: Normalise averaged vectors of regions; off gives the reference system's scores.
        decision: Rule that turns gallery rows into a name; thresholds are valid for one rule. "auto" takes the one
            that named the gallery's own images best when they were enrolled.
        merge: When parts are merged into one character; None never merges.
        index: Which index is searched; "auto" is FAISS if it is installed.
        at_once: Scenes of a batch that are segmented in parallel; above 1 needs more memory and is meant for a GPU.

    Attributes:
        reports: The last of each stage: "valid", "test" (all regions, best label), "test_shown" (the overlay).
        answered: Predictions of an unfinished batch, which the writer saves if the run stops.

    Example:
        >>> import naruto_vision as nv
        >>> segmenter = nv.Segmenter(nv.GridPrompter(16), nv.SamModel(weights="tiny-sam"))
        >>> retriever = nv.SceneRetriever(nv.ClipEncoder("tiny-clip"), segmenter, gallery="runs/gallery")
        >>> retriever.analyzer.analyze("scene.jpg").save("named.jpg")  # doctest: +SKIP
    """

    reports: dict[str, SceneReport]

    def __init__(
        self,
        encoder: Encoder,
        segmenter: Segmenter | None = None,
        gallery: str = "runs/gallery",
        crop: CropConfig | None = None,
        more_crops: Sequence[CropConfig] = (),
        overlay: OverlayConfig | None = None,
        neighbours: int = 20,
        mirror: bool = True,
        renormalise: bool = True,
        decision: Decision = "auto",
        merge: MergeConfig | None = None,
        index: IndexChoice = "auto",
        at_once: int = 1,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.encoder = encoder.eval()
        self.segmenter = segmenter
        if segmenter is not None and isinstance(segmenter.model, nn.Module):
            self.promptable = segmenter.model.eval()  # registered here so that it moves with the module
        self.gallery = gallery
        self.crop = crop or CropConfig()
        self.more_crops = tuple(more_crops)
        self.overlay = overlay or OverlayConfig()
        self.neighbours = neighbours
        self.mirror = mirror
        self.renormalise = renormalise
        self.decision: Decision = decision
        self.merge = merge
        self.index, self.at_once = index, at_once
        self.searched, self.shown = SceneAccuracy(), SceneAccuracy()
        self.reports = {}
        self.answered: list[tuple[SceneItem, ScenePrediction]] = []
        self._analyzer: SceneAnalyzer | None = None
        self._enrolment, self._enrolling = Enrollment(), False
        self._scored: list[ScoredRegion] = []

    def configure_optimizers(self) -> None:
        """Return None: building a gallery trains no parameters."""

    def on_fit_end(self) -> None:
        """Log the size and the threshold of the gallery."""
        if self.trainer.is_global_zero:
            _LOG.info("%s", describe_gallery(self.gallery))

    @property
    def analyzer(self) -> SceneAnalyzer:
        """The analyzer over the gallery on disk.

        Raises:
            InputError: If the module has no segmenter, or there is no gallery.
        """
        if self._analyzer is None:
            if self.segmenter is None:
                msg = "model.segmenter: expected a segmenter for scenes, found none; use configs/scenes.yaml"
                raise InputError(msg)
            gallery = Gallery.open(self.gallery, index=self.index)  # the analyzer checks the encoder's fingerprint
            self._analyzer = SceneAnalyzer(
                self.segmenter,
                self.encoder,
                gallery,
                crop=self.crop,
                more_crops=self.more_crops,
                neighbours=self.neighbours,
                mirror=self.mirror,
                renormalise=self.renormalise,
                decision=self.decision,
                merge=self.merge,
                overlay=self.overlay,
                at_once=self.at_once,
            )
        return self._analyzer

    @torch.inference_mode()
    def training_step(self, batch: GalleryBatch) -> None:
        """Embed one batch of gallery images."""
        if not batch.labels:
            return
        vectors = encode_images(self.encoder, batch.pixels, mirror=self.mirror)
        self._enrolment.add(vectors, batch.labels, batch.paths, batch.augs)
        self._enrolment.colours.append(batch.colours.cpu().numpy())

    def on_train_epoch_start(self) -> None:
        """Set the encoder to evaluation mode, and mark the gallery as not yet written."""
        self.eval()
        self._enrolling = True

    def on_train_epoch_end(self) -> None:
        """Write the gallery, if the validation pass has not done so."""
        self._write_gallery()

    def _write_gallery(self) -> None:
        if not self._enrolling:
            return
        self._enrolling = False
        own, self._enrolment = self._enrolment, Enrollment()
        data: Any = getattr(self.trainer, "datamodule", None)
        if isinstance(data, GalleryDataModule):
            data.settle()
        whole = Enrollment()
        whole.rows = gather_lists(self.trainer, own.rows)
        whole.vectors = gather_lists(self.trainer, own.vectors)
        whole.colours = gather_lists(self.trainer, own.colours)
        if self.trainer.is_global_zero:
            note = {"encoder": dict(self.encoder.recipe), "mirror": self.mirror}
            plan = EnrollmentConfig()
            if isinstance(data, GalleryDataModule):
                plan = data.plan
                note.update(enrolment=data.counts(), root=_relative_to_here(data.images_root))
            gallery = whole.build(self.encoder.fingerprint, self.index, plan, note)
            heads = compare_rules(
                gallery.vectors, gallery.rows, frame_runs(gallery.rows), whole.colours_of(gallery.rows)
            )
            _LOG.info("%s", describe_comparison(heads))
            gallery.noted({"heads": heads}).save(self.gallery)
        self.trainer.strategy.barrier("gallery")
        self._analyzer = None

    def on_validation_epoch_start(self) -> None:
        """Write the gallery before scenes are searched, and drop the scores of the previous pass."""
        self._write_gallery()
        self._scored = []

    def validation_step(self, batch: Sequence[SceneItem]) -> None:
        """Search scenes with ground truth and collect the scores."""
        for item, prediction in self._analyzed(batch):
            truth = item.truth or ()
            self.searched.update([labelled_boxes(prediction, named=False)], [truth], [item.scene])
            self._scored.extend(score_regions(prediction, truth))

    def on_validation_epoch_end(self) -> None:
        """Choose the thresholds and write them into the gallery folder."""
        self._log_report("valid", self.searched)
        scored = gather_lists(self.trainer, self._scored)
        if self.trainer.is_global_zero and scored:
            thresholds = thresholds_from(scored, self.analyzer.decision)
            self.analyzer.gallery.with_thresholds(thresholds).save(self.gallery)
        self.trainer.strategy.barrier("thresholds")
        self._analyzer = None

    def test_step(self, batch: Sequence[SceneItem]) -> dict[str, list[tuple[SceneItem, ScenePrediction]]]:
        """Search scenes and compare them with their ground truth; an unreadable one counts as without predictions."""
        found = list(self._analyzed(batch))
        for item, prediction in found:
            truth = item.truth or ()
            self.searched.update([labelled_boxes(prediction, named=False)], [truth])
            everything = labelled_boxes(prediction, named=True)
            self.shown.update([[everything[i] for i in choose_for_overlay(prediction, self.overlay)]], [truth])
        return {"predictions": found}

    def on_test_epoch_end(self) -> None:
        """Log both reports: of all regions, and of those in the overlay."""
        self._log_report("test", self.searched)
        self._log_report("test_shown", self.shown)

    def checked_analyzer(self) -> SceneAnalyzer:
        """Return ``analyzer``; InputError if the gallery's thresholds were chosen for another decision."""
        check_decision(self.analyzer.gallery.thresholds, self.analyzer.decision)
        return self.analyzer

    def on_test_start(self) -> None:
        """Refuse thresholds of another decision."""
        self.checked_analyzer()

    def on_predict_start(self) -> None:
        """Refuse thresholds of another decision, and turn off Lightning's list of all predictions."""
        self.checked_analyzer()
        self.trainer.predict_loop.return_predictions = False

    def predict_step(self, batch: Sequence[SceneItem]) -> list[tuple[SceneItem, ScenePrediction]]:
        """Search scenes; the prediction of one that could not be read is empty."""
        self.answered = []
        self.answered.extend(self._analyzed(batch))  # if a scene raises, those before it are in the list
        found, self.answered = self.answered, []
        return found

    def _analyzed(self, batch: Sequence[SceneItem]) -> Iterator[tuple[SceneItem, ScenePrediction]]:
        return analyze_items(self.analyzer, batch, scenes_together(self.trainer))

    def _log_report(self, stage: str, metric: SceneAccuracy) -> None:
        self.reports[stage] = metric.report()
        for name, rate in self.reports[stage].rates().items():
            if rate.value is not None:
                self.log(f"{stage}/{name}", rate.value, rank_zero_only=True)
        metric.reset()

    def run_identity(self) -> dict[str, Any]:
        """Return the JSON values that determine the output of ``predict``; resuming compares them."""
        return {**self.analyzer.facts(), "overlay": repr(self.overlay)}


def analyze_items(
    analyzer: SceneAnalyzer, items: Sequence[SceneItem], group: int = 1
) -> Iterator[tuple[SceneItem, ScenePrediction]]:
    """Yield every scene with its prediction, in order; one that could not be read is logged and has no regions.

    ``group`` scenes are embedded and searched together. Scenes before one that raises are still yielded.
    """
    found = analyzer.analyze_many([(item.image, item.scene) for item in items if item.image is not None], group)
    for item in items:
        if item.image is None:
            _LOG.warning("a scene cannot be read and has no regions: %s", item.error)
            yield item, ScenePrediction(item.scene, 1, 1)
        else:
            prediction = next(found)
            times = {"decode": item.milliseconds, **prediction.milliseconds}
            yield item, dataclasses.replace(prediction, milliseconds=times)


def describe_gallery(folder: str) -> str:
    """Describe a gallery in one line: folder, size and open-set threshold."""
    found = list_gallery(folder)
    default, own = found.thresholds.get("default"), len(found.thresholds.get("classes") or {})
    unknown = f'a score below {default:.3f} is "unknown"' if default is not None else f"{own} labels have a threshold"
    if default is None and not own:
        unknown = "no thresholds: no open-set rejection; --data.valid DIR with ground truth chooses them"
    return f"gallery {folder}: {found.total} rows, {len(found.labels)} labels; {unknown}"


def _relative_to_here(folder: Path) -> str:
    """Return a path relative to the working directory, so that outputs do not depend on where it is."""
    whole, here = folder.absolute(), Path.cwd()
    return (whole.relative_to(here) if whole.is_relative_to(here) else whole).as_posix()
