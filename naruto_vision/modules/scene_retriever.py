"""``SceneRetriever``: build and calibrate a gallery, and name the characters of scenes."""

import dataclasses
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import nn

from naruto_vision.data.gallery_data import GalleryBatch, GalleryDataModule, describe_colours
from naruto_vision.data.leaks import frame_runs
from naruto_vision.data.scenes import SceneDataModule, SceneItem, check_names, scenes_together
from naruto_vision.encoders.base import Encoder, embed_images, encode_images
from naruto_vision.encoders.exported import ExportedEncoder
from naruto_vision.encoders.tiny import TINY_CLIP
from naruto_vision.errors import InputError, first_line
from naruto_vision.gallery.content import GalleryRow
from naruto_vision.gallery.edits import change_thresholds
from naruto_vision.gallery.enrolment import UNCHANGED, Enrolment, EnrolmentConfig, note_left_out
from naruto_vision.gallery.gallery import Gallery, check_enrolment, edit_gallery, enrol_gallery
from naruto_vision.gallery.index import IndexChoice
from naruto_vision.gallery.info import list_gallery
from naruto_vision.gallery.store import DRIFT, store_uri
from naruto_vision.gallery.thresholds import DEFAULT_AIM, Aim, Thresholds, why_none
from naruto_vision.io.atomic import lines_bytes, write_bytes
from naruto_vision.io.images import IMAGE_FAULTS, crop_path, split_crop
from naruto_vision.metrics.evaluation import SceneVerdict, judge_scene
from naruto_vision.metrics.scene import SceneReport
from naruto_vision.metrics.scene_accuracy import SceneAccuracy
from naruto_vision.metrics.slices import Reliability, Slice, find_slices, reliability
from naruto_vision.modules.advice import advise_gallery
from naruto_vision.modules.gathering import check_same, check_shared, gather_items, gather_lists
from naruto_vision.modules.trial import withheld
from naruto_vision.recognition.analyzer import SceneAnalyzer
from naruto_vision.recognition.decision import (
    Decision,
    ScoredRegion,
    check_decision,
    score_names,
    score_regions,
    thresholds_from,
)
from naruto_vision.recognition.drift import image_quality, sample_line, sampled
from naruto_vision.recognition.enrolment import Enrol, Rows, choose_enrolment, describe_enrolment, only_crop
from naruto_vision.recognition.heads import compare_rules, describe_comparison
from naruto_vision.recognition.merging import MergeConfig
from naruto_vision.recognition.open_set import gallery_thresholds
from naruto_vision.recognition.suspects import SUSPECT, find_suspects
from naruto_vision.records import ImageArray, LabelledBox, ScenePrediction
from naruto_vision.segmentation.crops import CropConfig, Embedding
from naruto_vision.segmentation.detector import DetectorPrompter
from naruto_vision.segmentation.generator import Segmenter
from naruto_vision.viz.overlay import OverlayConfig, choose_for_overlay, labelled_boxes

_LOG = logging.getLogger(__name__)
_NOT_DONE = "no pass over the images was made (see trainer.max_epochs)"


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
        replace: Whether ``fit`` replaces an older gallery with its history; otherwise it adds a generation to it.
        aim: What the thresholds for "unknown" are chosen for: names of which at least 0.9 are right, or another
            ``precision``, ``coverage`` or ``false_accept``.
        enrol: How ``fit`` enrols an image of one label: whole ("image"), by the crop of its region where the segmenter
            finds exactly one ("region"), or "both". "auto" takes what names such crops best if the segmenter has a
            learnt detector, and "image" otherwise. Labelled boxes are enrolled as they are.
        embedding: ``crops`` embeds each region as a cut-out; ``dense`` takes the mean over its mask from one forward
            pass over the scene, for encoders that pool by the mean. Thresholds of scenes are valid for one.
        runtime: What embeds images: ``torch``, or on a CPU the encoder's export by ``onnx`` or ``openvino``.
        exported: Folder of that export, which `naruto-vision export-model` writes.

    Attributes:
        reports: The last of each stage: "valid", "test" (all regions, best label), "test_shown" (the overlay).
        built: The gallery that ``fit`` built; None in other processes than the first.
        scored: The regions of the last validation, on which the thresholds were chosen.
        thresholds: The thresholds that the last validation chose; None if it had no regions to choose by.
        slices: Of the last test: objects by label, size, overlap and crowd, and how many are found under their name.
        reliability: Of the last test: how many best labels are right, by score.
        answered: Predictions of an unfinished batch, which the writer saves if the run stops.
        withheld: Why this run writes nothing (a trial run); empty if it does.

    Raises:
        InputError: If ``runtime`` is to embed densely, or the export cannot be used.

    Examples:
        >>> import naruto_vision as nv
        >>> segmenter = nv.Segmenter(nv.GridPrompter(16), nv.SamModel(weights="tiny-sam"))
        >>> retriever = nv.SceneRetriever(nv.ClipEncoder("tiny-clip"), segmenter, gallery="runs/gallery")
        >>> retriever.analyzer.analyze("scene.jpg").save("named.jpg")  # doctest: +SKIP
    """

    reports: dict[str, SceneReport]
    thresholds: Thresholds | None

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
        replace: bool = False,
        aim: Aim = DEFAULT_AIM,
        enrol: Enrol = "auto",
        embedding: Embedding = "crops",
        runtime: Literal["torch", "onnx", "openvino"] = "torch",
        exported: str = "runs/exported",
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        if runtime != "torch":
            if embedding == "dense":
                msg = f"runtime {runtime}: an export embeds crops, found embedding dense; use runtime torch, or crops"
                raise InputError(msg)
            encoder = ExportedEncoder(encoder, exported, runtime)
        self.encoder = encoder.eval()
        self.segmenter = segmenter
        if segmenter is not None and isinstance(segmenter.model, nn.Module):
            self.promptable = segmenter.model.eval()  # registered here so that it moves with the module
        parts = getattr(getattr(segmenter, "prompter", None), "__dict__", {}).values()
        self.prompter_parts = nn.ModuleList(part.eval() for part in parts if isinstance(part, nn.Module))
        self.gallery = gallery
        self.crop = crop or CropConfig()
        self.more_crops = tuple(more_crops)
        self.overlay = overlay or OverlayConfig()
        self.neighbours = neighbours
        self.mirror = mirror
        self.renormalise = renormalise
        self.decision: Decision = decision
        self.merge = merge
        self.embedding: Embedding = embedding
        self.index, self.at_once, self.replace, self.aim = index, at_once, replace, aim
        self.searched, self.shown = SceneAccuracy(), SceneAccuracy()
        self.reports = {}
        self.answered: list[tuple[SceneItem, ScenePrediction]] = []
        self._analyzer: SceneAnalyzer | None = None
        self._enrolment, self._regions, self._enrolling = Enrolment(), Enrolment(), False
        learnt = isinstance(getattr(segmenter, "prompter", None), DetectorPrompter)
        self.enrol: Enrol = "image" if enrol == "auto" and not learnt else enrol
        self.built: Gallery | None = None
        self.scored: list[ScoredRegion] = []
        self.slices: list[Slice] = []
        self.reliability: list[Reliability] = []
        self._verdicts: list[list[SceneVerdict]] = []  # of each batch
        self._scores: list[list[ScoredRegion]] = []  # of each batch
        self._names: list[list[ScoredRegion]] = []
        self._sampled = frozenset[str]()  # validation scenes that later runs are compared with
        self._samples: list[list[tuple[dict[str, float], ScenePrediction]]] = []
        self.thresholds = None
        model = getattr(segmenter, "model", None)
        named = {"encoder": encoder.short_name, "segmenter": getattr(model, "architecture", ""), "mirror": mirror}
        self.save_hyperparameters(named | {"search_decision": decision, "search_neighbours": neighbours})
        self.withheld = ""
        self._trial: Gallery | None = None  # the gallery of a trial run, which is not on disk

    def configure_optimizers(self) -> None:
        """Return None: building a gallery trains no parameters."""

    def on_fit_start(self) -> None:
        """Find out whether the run is a trial; refuse to replace the edits of a gallery of another encoder."""
        reason = self.trainer.strategy.broadcast(withheld(self.trainer, self.gallery))
        self.withheld = reason or _NOT_DONE
        data: Any = getattr(self.trainer, "datamodule", None)
        searches = isinstance(data, SceneDataModule) and data.folders["valid"] is not None
        if searches and store_uri(self.gallery) is None:
            check_shared(self.trainer, Path(self.gallery).parent, "--gallery", "so only one would have the gallery")
        if not reason and not self.replace:
            check_enrolment(self.gallery, self.encoder.fingerprint)

    def on_fit_end(self) -> None:
        """Log the size and the threshold of the gallery, or why none was written."""
        if self.trainer.is_global_zero and self.withheld:
            _LOG.info("nothing was written: %s", self.withheld)
        elif self.trainer.is_global_zero:
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
            # The analyzer checks the encoder's fingerprint.
            gallery = self._trial or Gallery.open(self.gallery, index=self.index)
            self._analyzer = self.analyzer_over(gallery)
        return self._analyzer

    def analyzer_over(self, gallery: Gallery, make: Callable[..., SceneAnalyzer] = SceneAnalyzer) -> SceneAnalyzer:
        """Return an analyzer with the module's settings over a gallery; ``make`` is a subclass."""
        return make(
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
            aim=self.aim,
            embedding=self.embedding,
        )

    @torch.inference_mode()
    def training_step(self, batch: GalleryBatch) -> None:
        """Embed one batch of gallery images."""
        if not batch.labels:
            return
        vectors = encode_images(self.encoder, batch.pixels, mirror=self.mirror)
        self._enrolment.add(vectors, batch.labels, batch.paths, batch.augs)
        self._enrolment.colours.append(batch.colours.cpu().numpy())
        self._enrolment.qualities.append(batch.qualities.cpu().numpy())
        data: Any = getattr(self.trainer, "datamodule", None)
        if self.enrol != "image" and isinstance(data, GalleryDataModule):
            self._add_regions(batch, data)

    def _add_regions(self, batch: GalleryBatch, data: GalleryDataModule) -> None:
        """Embed the crop of each whole image's one region, as that of a labelled box is."""
        if self.segmenter is None:
            raise InputError(f"model.enrol {self.enrol}: expected a segmenter that finds the regions, found none")
        for label, path, aug in zip(batch.labels, batch.paths, batch.augs, strict=True):
            if aug == UNCHANGED and split_crop(path)[1] is None:
                box, crop = only_crop(self.segmenter, data.read(path))
                if box is not None:
                    vectors = embed_images(self.encoder, [crop], mirror=self.mirror)
                    self._regions.add(vectors, [label], [crop_path(path, box)])
                    self._regions.colours.append(describe_colours(crop)[None].numpy())

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
        own, self._enrolment = self._enrolment, Enrolment()
        data: Any = getattr(self.trainer, "datamodule", None)
        if isinstance(data, GalleryDataModule):
            data.settle()
        crops, self._regions = self._gathered(self._regions), Enrolment()
        whole = self._gathered(own)
        self.withheld = self.withheld.removeprefix(_NOT_DONE)
        if self.trainer.is_global_zero or self.withheld:
            note: Mapping[str, Any] = {"encoder": dict(self.encoder.recipe), "mirror": self.mirror}
            plan = EnrolmentConfig()
            if isinstance(data, GalleryDataModule):
                plan = data.plan
                note = {**note, "enrolment": data.counts(), "root": _relative_to_here(data.images_root)}
            built = whole.build(self.encoder.fingerprint, self.index, plan, note)
            rows = Rows(list(built.rows), built.vectors, whole.colours_of(built.rows))
            rows, note = without_suspects(rows, built.note) if plan.suspects else (rows, built.note)
            found, facts = self._compared(rows, crops)
            self.built = built = settled_gallery(built, found, {**note, **facts}, self.aim, self.index)
            chosen = built.thresholds
            if self.withheld:
                self._trial = built
            elif self.replace:
                built.save(self.gallery)
            else:
                after = enrol_gallery(self.gallery, built, self.index)
                if (after.thresholds.source or not after.thresholds.chosen) and after.thresholds != chosen:
                    edit_gallery(self.gallery, change_thresholds, chosen, fingerprint=after.fingerprint)
        self.trainer.strategy.barrier("gallery")
        self._analyzer = None

    def _gathered(self, own: Enrolment) -> Enrolment:
        whole = Enrolment()
        whole.rows = gather_lists(self.trainer, own.rows)
        whole.vectors = gather_lists(self.trainer, own.vectors)
        whole.colours = gather_lists(self.trainer, own.colours)
        whole.qualities = gather_lists(self.trainer, own.qualities)
        return whole

    def _compared(self, whole: Rows, crops: Enrolment) -> tuple[Rows, dict[str, Any]]:
        """Choose the decision rule, and whether regions are enrolled; return the rows and what the note says."""
        runs = frame_runs(whole.rows, whole.colours)
        if not crops.rows:
            heads, facts = compare_rules(whole.vectors, whole.rows, runs, whole.colours), dict[str, Any]()
        else:
            rows = [GalleryRow(label=label, path=path, aug=aug) for label, path, aug in crops.rows]
            regions = Rows(rows, np.concatenate(crops.vectors), np.concatenate(crops.colours))
            whole, heads, enrolled = choose_enrolment(whole, regions, runs, self.enrol)
            facts = {"enrol": {**enrolled, "detector": getattr(self.segmenter, "fingerprint", "")}}
            _LOG.info("%s", describe_enrolment(enrolled))
        _LOG.info("%s", describe_comparison(heads))
        root = str(getattr(getattr(self.trainer, "datamodule", None), "root", None) or "DIR")
        tuned = self.encoder.recipe.get("model") != TINY_CLIP
        if advice := advise_gallery(heads, [row.label for row in whole.rows], root, tuned=tuned):
            _LOG.warning("%s", advice)
        return whole, {"heads": heads, **facts}

    def on_validation_epoch_start(self) -> None:
        """Write the gallery before scenes are searched, and drop the scores of the previous pass."""
        self._write_gallery()
        self.scored, self._scores, self._names, self.thresholds = [], [], [], None
        data: Any = getattr(self.trainer, "datamodule", None)
        self._samples, searches = [], isinstance(data, SceneDataModule) and data.folders["valid"] is not None
        self._sampled = sampled(data.dataset("valid").scenes) if searches else frozenset()
        if self.trainer.state.fn == "validate":  # fit has checked them before it embedded anything
            self._check_names("valid")

    def validation_step(self, batch: Sequence[SceneItem]) -> dict[str, list[tuple[SceneItem, ScenePrediction]]]:
        """Search scenes with ground truth and collect the scores."""
        if self.trainer.sanity_checking:  # before there is a gallery
            return {"predictions": []}
        found, scores, names = list(self._analyzed(batch)), list[ScoredRegion](), list[ScoredRegion]()
        for item, prediction in found:
            truth = item.truth or ()
            self.searched.update([labelled_boxes(prediction, named=False)], [truth], [item.scene])
            for known, new in zip((scores, names), self.scores_of(prediction, truth), strict=True):
                known.extend(new)
        self._scores.append(scores)
        self._names.append(names)
        own = [(item.image, one) for item, one in found if item.scene in self._sampled]
        self._samples.append([(image_quality(image), one) for image, one in own if image is not None])
        return {"predictions": found}

    def scores_of(
        self, prediction: ScenePrediction, truth: Sequence[LabelledBox]
    ) -> tuple[list[ScoredRegion], list[ScoredRegion]]:
        """Score the regions and the names of a validation scene, as ``thresholds_from`` takes them."""
        shown = choose_for_overlay(_all_known(prediction), self.overlay)  # a threshold only takes from these
        return score_regions(prediction, truth), score_names(prediction, truth, shown)

    def on_validation_epoch_end(self) -> None:
        """Choose the thresholds and write them into the gallery folder, unless they are the same or the run a trial."""
        if self.trainer.sanity_checking:
            return
        self._log_report("valid", self.searched)
        self.scored, names = gather_items(self.trainer, self._scores), gather_items(self.trainer, self._names)
        samples = gather_items(self.trainer, self._samples)
        gallery = self.analyzer.gallery
        if self.trainer.is_global_zero and self.scored:
            self.thresholds = thresholds = thresholds_from(
                names, self.analyzer.decision, self.aim, self.scored, self.embedding
            )
            if self.trainer.state.fn == TrainerFn.VALIDATING:
                self.withheld = withheld(self.trainer, self.gallery)
                _LOG.info("thresholds: %s", thresholds.rule)
                if self.withheld:
                    _LOG.info("nothing was written: %s", self.withheld)
            if not self.withheld and (thresholds != gallery.thresholds or gallery.stale_since is not None):
                edit_gallery(self.gallery, change_thresholds, thresholds, fingerprint=gallery.fingerprint)
                self._analyzer = None
            if not self.withheld and store_uri(self.gallery) is None:
                named, facts = self.analyzer.thresholds, self.analyzer.facts()
                lines = [sample_line(quality, found, facts, named) for quality, found in samples]
                write_bytes(Path(self.gallery) / DRIFT, lines_bytes(lines))
        self.trainer.strategy.barrier("thresholds")
        self._analyzer = None

    def test_step(self, batch: Sequence[SceneItem]) -> dict[str, list[tuple[SceneItem, ScenePrediction]]]:
        """Search scenes and compare them with their ground truth; an unreadable one counts as without predictions."""
        found, scores, verdicts = list(self._analyzed(batch)), list[ScoredRegion](), list[SceneVerdict]()
        for item, prediction in found:
            truth = item.truth or ()
            self.searched.update([labelled_boxes(prediction, named=False)], [truth])
            shown = labelled_boxes(prediction, choose_for_overlay(prediction, self.overlay), named=True)
            self.shown.update([shown], [truth])
            scores.extend(score_regions(prediction, truth))
            verdicts.append(judge_scene(shown, truth))
        self._scores.append(scores)
        self._verdicts.append(verdicts)
        return {"predictions": found}

    def on_test_epoch_end(self) -> None:
        """Log both reports: of all regions, and of those in the overlay."""
        self._log_report("test", self.searched)
        self._log_report("test_shown", self.shown)
        scores, self._scores = gather_items(self.trainer, self._scores), []
        verdicts, self._verdicts = gather_items(self.trainer, self._verdicts), []
        self.slices = find_slices(verdicts)
        self.reliability = reliability([one.score for one in scores], [one.right for one in scores])

    def checked_analyzer(self) -> SceneAnalyzer:
        """Return ``analyzer``; InputError if the gallery's thresholds were chosen for another decision or embedding."""
        check_decision(self.analyzer.gallery.thresholds, self.analyzer.decision, self.embedding)
        return self.analyzer

    def on_test_start(self) -> None:
        """Refuse thresholds of another decision, and ground truth of which the gallery has no name."""
        self._scores, self._verdicts = [], []
        digest = self.checked_analyzer().gallery.digest
        check_same(self.trainer, self.gallery, [f"gallery {digest}"], "every host needs the same one")
        self._check_names("test")

    def _check_names(self, stage: str) -> None:
        data: Any = getattr(self.trainer, "datamodule", None)
        if isinstance(data, SceneDataModule) and data.folders[stage] is not None:
            check_names(data.dataset(stage).labels, self.analyzer.gallery.labels, str(data.folders[stage]))

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
        for name, rate in self.reports[stage].names().items():
            if stage == "test_shown" and rate.value is not None:
                self.log(f"test/{name}", rate.value, rank_zero_only=True)
        metric.reset()

    def run_identity(self) -> dict[str, Any]:
        """Return the JSON values that determine the output of ``predict``; resuming compares them."""
        return {**self.analyzer.facts(), "overlay": repr(self.overlay)}


def settled_gallery(
    built: Gallery, rows: Rows, facts: Mapping[str, Any], aim: Aim, index: IndexChoice = "auto"
) -> Gallery:
    """Return a gallery of these rows with more facts in its note, and with thresholds from its own images."""
    make = partial(Gallery.build, rows.vectors, rows.rows, fingerprint=built.fingerprint, index=index)
    noted = make(note={**built.note, **facts})
    chosen = gallery_thresholds(noted, facts["heads"]["decision"], aim, runs=frame_runs(noted.rows))
    return make(note=noted.note, thresholds=chosen)


def analyze_items(
    analyzer: SceneAnalyzer, items: Sequence[SceneItem], group: int = 1
) -> Iterator[tuple[SceneItem, ScenePrediction]]:
    """Yield every scene with its prediction, in order; one that cannot be used is logged and has no regions.

    ``group`` scenes are embedded and searched together. A scene that fails in that has an error instead of its image.
    """
    answers = _predictions(analyzer, [(item.image, item.scene) for item in items if item.image is not None], group)
    for item in items:
        answer = item.error if item.image is None else next(answers)
        if isinstance(answer, str):
            _LOG.warning("a scene cannot be searched and has no regions: %s", answer)
            yield dataclasses.replace(item, image=None, error=answer), ScenePrediction(item.scene, 1, 1)
        else:
            times = {"decode": item.milliseconds, **answer.milliseconds}
            yield item, dataclasses.replace(answer, milliseconds=times)


def _predictions(
    analyzer: SceneAnalyzer, scenes: Sequence[tuple[ImageArray, str]], group: int
) -> Iterator[ScenePrediction | str]:
    """Yield each scene's prediction, or why it has none; a group that fails is searched again one by one."""
    done = 0
    while done < len(scenes):
        try:
            for prediction in analyzer.analyze_many(scenes[done:], group):
                done += 1
                yield prediction
        except torch.AcceleratorError:  # the device is unusable from now on
            raise
        except IMAGE_FAULTS as error:
            if group == 1:
                reason = first_line(error)
                yield f"{scenes[done][1]}: fails in the search ({type(error).__name__}: {reason})"
                done += 1
            group = 1


def _all_known(prediction: ScenePrediction) -> ScenePrediction:
    known = tuple(dataclasses.replace(identity, known=True) for identity in prediction.identities)
    return dataclasses.replace(prediction, identities=known)


def without_suspects(rows: Rows, note: Mapping[str, Any]) -> tuple[Rows, dict[str, Any]]:
    """Leave out the images whose label is suspected, with their variants; returns the note that lists them."""
    suspects = find_suspects(rows.vectors, rows.rows)
    images = {(rows.rows[one.number].label, rows.rows[one.number].path) for one in suspects}
    kept = rows.take([number for number, row in enumerate(rows.rows) if (row.label, row.path) not in images])
    counts = note["enrolment"]
    counts = {**counts, SUSPECT: len(images), "kept": counts["kept"] - len(images)}
    listed = note_left_out(note, [(label, path, SUSPECT) for label, path in sorted(images)])
    _LOG.info("%d of %d images left out, whose label the others contradict", len(images), note["enrolment"]["kept"])
    return kept, {**note, **listed, "enrolment": counts}


def describe_gallery(folder: str) -> str:
    """Describe a gallery in one line: folder, size and open-set threshold."""
    found = list_gallery(folder)
    default, own = found.thresholds.get("default"), len(found.thresholds.get("classes") or {})
    unknown = f'a score below {default:.3f} is "unknown"' if default is not None else f"{own} labels have a threshold"
    unknown += f" ({found.thresholds['rule']})"
    if default is None and not own:
        unknown = f"no threshold, so no region is unknown ({why_none(found.thresholds['rule'])}); "
        unknown += "--data.valid DIR with ground truth chooses one"
    left_out = f"; left out are {found.reasons()} (`naruto-vision gallery list {folder} --rows`)"
    left_out *= bool(found.left_out)
    return f"gallery {folder}: {found.total} entries, {len(found.labels)} labels; {unknown}{left_out}"


def _relative_to_here(folder: Path) -> str:
    """Return a path relative to the working directory, so that outputs do not depend on where it is."""
    whole, here = folder.absolute(), Path.cwd()
    return (whole.relative_to(here) if whole.is_relative_to(here) else whole).as_posix()
