"""Write the files of each predicted scene, and the report of a test run."""

import logging
import shlex
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import BasePredictionWriter, Callback
from rich.console import Console
from rich.progress import Progress
from typing_extensions import override

from naruto_vision.callbacks.card import scene_card
from naruto_vision.callbacks.tensorboard import SHOWN_SCENES, log_scalars, summary_writer
from naruto_vision.data.frames import VideoFrames, frame_scene
from naruto_vision.data.gallery_data import GalleryDataModule
from naruto_vision.data.scenes import SceneItem
from naruto_vision.errors import InputError
from naruto_vision.gallery.store import DRIFT
from naruto_vision.io.atomic import write_json
from naruto_vision.io.images import Listing
from naruto_vision.metrics.report import report_table
from naruto_vision.modules.advice import advise_run
from naruto_vision.modules.gathering import check_same, folder_leaders, gather_file, gather_lists
from naruto_vision.modules.scene_retriever import SceneRetriever
from naruto_vision.modules.trial import withheld
from naruto_vision.prompting.monitor import Monitor
from naruto_vision.prompting.writer import read_results
from naruto_vision.recognition.drift import DriftSample, compare_samples, drift_sentences, read_sample
from naruto_vision.recognition.writer import (
    LOG,
    LOGS,
    PAGE,
    RUN,
    BackgroundWriter,
    SceneWriter,
    WriterConfig,
    forget_changed,
    part_name,
    software_versions,
)
from naruto_vision.records import Explanation, ScenePrediction
from naruto_vision.segmentation.sam2_video import Sam2Memory
from naruto_vision.video.track_files import (
    TRACKS,
    VIDEOS,
    ScreenTime,
    SearchedVideo,
    frames_to_read,
    screen_time_table,
    write_tracks,
)
from naruto_vision.video.tracks import TrackConfig, similarity_of_labels
from naruto_vision.viz.explain_page import explained_sheet
from naruto_vision.viz.overlay import choose_for_overlay, label_colours

_LOG = logging.getLogger(__name__)
_REASONS = 5  # unreadable images that are named at the end; run.json and index.html have all


class SceneWriterCallback(BasePredictionWriter):
    """Write the files of every predicted scene; a second run resumes where the first one stopped.

    Args:
        out: Output folder.
        settings: What is written for each scene.
        fail_fast: Stop at the first unreadable image instead of counting it.
        tracks: How regions of a video's frames are linked.
        annotate: Whether a copy of each video with the names of its tracks is written.
        explain: Whether each shown region is explained, in ``explained/<stem>.html`` and ``.json``.
        track_memory: SAM 2 that follows the regions of videos by their masks: an official name such as
            ``sam2.1_hiera_tiny``, or an official file. None links them by boxes and vectors alone.
        drift_reference: Folder of a run, or of a gallery, whose scenes those of this run are compared with; None takes
            the validation scenes of the run's gallery.
        fail_on_drift: Whether the command exits with 1 if they differ.
    """

    stage = "predict"

    def __init__(
        self,
        out: str = "runs/scenes",
        settings: WriterConfig | None = None,
        fail_fast: bool = False,
        tracks: TrackConfig | None = None,
        annotate: bool = True,
        track_memory: str | None = None,
        drift_reference: str | None = None,
        fail_on_drift: bool = False,
        explain: bool = False,
    ) -> None:
        super().__init__(write_interval="batch")
        self.out = Path(out)
        self.settings = settings or WriterConfig()
        self.fail_fast = fail_fast
        self.tracks, self.annotate = tracks or TrackConfig(), annotate
        self.drift_reference, self.fail_on_drift = drift_reference, fail_on_drift
        self._reference: DriftSample | None = None
        self.track_memory, self.explain = track_memory, explain
        self._memory: Sam2Memory | None = None
        self.screen_time: list[ScreenTime] = []
        self._videos: dict[str, SearchedVideo] = {}
        self.run: dict[str, Any] = {}
        self.allowed_imports: Sequence[str] = ()  # packages that the command opened for configs; none opens itself
        self._writer: SceneWriter | None = None
        self._behind: BackgroundWriter | None = None
        self._bad: list[tuple[str, str]] = []
        self._done: set[str] = set()  # before this run, also in folders of other hosts
        self._leaders = [0]  # of each rank: the first one with the same folder
        self._index, self._explained = "", 0
        self._scenes: Sequence[str] = ()
        self._listing = Listing()
        self._truth, self._whole = Path(), True

    @override
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Open the folder before scenes are loaded, so that finished scenes are skipped."""
        if stage != "predict":
            return
        if getattr(trainer, "fast_dev_run", False):
            _LOG.info("nothing is written: %s", withheld(trainer, self.out))
            return
        data = getattr(trainer, "datamodule", None)
        if not isinstance(pl_module, SceneRetriever) or not isinstance(data, GalleryDataModule):
            msg = "SceneWriterCallback: expected SceneRetriever and GalleryDataModule; use configs/scenes.yaml"
            raise InputError(msg)
        dataset = data.dataset("predict")
        self._bad = []
        gallery = pl_module.analyzer.gallery
        self._index = gallery.index_kind
        check_same(trainer, str(dataset.images), dataset.scenes, "every host needs the same images")
        self._leaders = folder_leaders(trainer, self.out)
        leader = self._leaders[trainer.global_rank]
        if trainer.global_rank == leader and (changed := forget_changed(self.out, dataset.images, LOG)):
            _LOG.info("%d scenes have changed since they were searched and are searched again", len(changed))
        trainer.strategy.barrier("changed scenes")
        identity = {"scenes": str(dataset.images.resolve()), **pl_module.run_identity(), "precision": trainer.precision}
        lines = [f"{key} {value}" for key, value in identity.items() if key != "scenes"]
        check_same(trainer, "settings of predict", lines, "every host needs the same gallery and weights")
        self._writer = SceneWriter(
            self.out,
            dataset.scenes,
            gallery.labels,
            identity,
            crop=pl_module.crop,
            overlay=pl_module.overlay,
            settings=self.settings,
            rank=trainer.global_rank,
            world=trainer.world_size,
            leader=leader,
        )
        self._behind = BackgroundWriter(self._writer, dataset.images)
        trainer.strategy.barrier("scene folder")  # all processes wait until leftovers are removed
        own = sorted(self._writer.done) if trainer.global_rank == leader else []
        self._done = set(gather_lists(trainer, own)) | self._writer.done
        bare: list[object] = [scene for scene in own if self.explain and not self._writer.explained(scene).is_file()]
        dataset.skip(self._done.difference(gather_lists(trainer, bare)))
        self._listing = dataset.listing
        self._scenes, self._truth, self._whole = dataset.scenes, dataset.truth_path, dataset.folder is not None
        self._videos = {name: _searched(name, video) for name, video in dataset.videos.items()}
        if self.track_memory and self._videos and trainer.is_global_zero:  # now, as a wrong file would cost the run
            self._memory = Sam2Memory(self.track_memory, trainer.strategy.root_device)
        if trainer.is_global_zero and (absent := len(self._writer.absent)):
            text = "%d other scenes in %s are not in %s: their results are kept, and not counted"
            _LOG.info(text, absent, self.out, dataset.images)
        if trainer.is_global_zero and (done := self._count_done()):
            again = "use another --out to search them again" if done == len(self._scenes) else "the others are searched"
            _LOG.info("%d of %d scenes were already done (in %s); %s", done, len(self._scenes), self.out, again)

    @override
    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Read what the scenes are compared with, as a damaged file would cost the run at its end."""
        gallery = Path(pl_module.gallery) if isinstance(pl_module, SceneRetriever) else Path()
        named = self.drift_reference or (gallery if self.fail_on_drift or (gallery / DRIFT).is_file() else None)
        self._reference = read_sample(named) if named and trainer.is_global_zero else None

    @override
    def write_on_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        prediction: Sequence[tuple[SceneItem, ScenePrediction]],
        batch_indices: Sequence[int] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Write the scenes of one batch in the background, while the next one is searched; explain them if asked to."""
        self._write(prediction)
        if self.explain and isinstance(pl_module, SceneRetriever):
            self._explain(trainer, pl_module, prediction)

    def _explain(
        self, trainer: pl.Trainer, module: SceneRetriever, found: Sequence[tuple[SceneItem, ScenePrediction]]
    ) -> None:
        """Write the explanations that scenes do not have yet; TensorBoard shows the first ones."""
        colours, board = label_colours(module.analyzer.gallery.labels), summary_writer(trainer)
        for item, prediction in found:
            if item.image is None or self._writer is None or self._writer.explained(item.scene).is_file():
                continue
            shown = choose_for_overlay(prediction, module.overlay)
            why: dict[int | str, Explanation] = {
                index: module.analyzer.explain(prediction, index, item.image) for index in shown
            }
            self._writer.write_explained(item.scene, why)
            if board is not None and why and self._explained < SHOWN_SCENES:
                sheet = explained_sheet(item.scene, why, colours)
                board.add_image("predict/explained", sheet, self._explained, dataformats="HWC")
                self._explained += 1

    def _write(self, found: Sequence[tuple[SceneItem, ScenePrediction]]) -> None:
        if self._writer is None or self._behind is None:
            return
        for item, prediction in found:
            if item.image is None and self.fail_fast:
                raise InputError(f"{item.error}; stopped at the first bad image, because of fail_fast")
            if item.image is None:
                self._bad.append((item.scene, item.error))
            elif item.scene not in self._done:
                self._writer.explained(item.scene).unlink(missing_ok=True)  # of an image that has changed
                self._behind.write(item.image, prediction)

    @override
    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Gather from all processes and write ``run.json``."""
        if self._writer is None:
            return
        self._finish_writing()
        found = gather_lists(trainer, [self._bad])
        bad = [each for own in found for each in own]
        self._gather_logs(trainer, self._writer)
        if trainer.is_global_zero:
            self._finish_run(self._writer, pl_module, bad)
            tested = {name: one for name, one in self.run.get("drift", {}).get("figures", {}).items() if "p" in one}
            for key in ("statistic", "adjusted_p") if tested else ():
                log_scalars(trainer, {f"drift/{name}_{key}": tested[name][key] for name in tested}, len(self._scenes))
        elif trainer.global_rank in self._leaders:  # a host with a folder of its own
            mine = zip(self._leaders, found, strict=True)
            here = [each for leader, own in mine if leader == trainer.global_rank for each in own]
            self._writer.finish(here, self._facts())
        trainer.strategy.barrier("scene files")
        if len(bad) == len(self._scenes):
            raise InputError(f"none of {len(bad)} scenes could be searched; first {min(bad)[1]}")

    def _gather_logs(self, trainer: pl.Trainer, writer: SceneWriter) -> None:
        """Copy the logs of hosts with folders of their own into the folder of the first process."""
        others = {*self._leaders} - {0}
        if not others:
            return
        if trainer.global_rank in others:
            writer.merge()
        for name in LOGS:
            own = self.out / name if trainer.global_rank in others else None
            with ExitStack() as files:
                copies = {
                    other: files.enter_context(self.out.joinpath(part_name(name, f"{other}.copy")).open("wb"))
                    for other in (others if trainer.is_global_zero else ())
                }
                for sender, part in gather_file(trainer, own):
                    if sender in copies:
                        copies[sender].write(part)
        hosts = gather_lists(trainer, [socket.gethostname()])
        if trainer.is_global_zero:
            names = ", ".join(dict.fromkeys(hosts[other] for other in sorted(others)))
            text = "%s has images and JSON files in its own folder: rsync -a --ignore-existing HOST:%s/ %s/"
            _LOG.info(text, names, self.out.absolute(), self.out)

    def _facts(self) -> dict[str, Any]:
        return {
            "versions": software_versions(),
            "index": self._index,
            "allowed_imports": list(self.allowed_imports),
            "passed_over": self._listing.as_json(),
        }

    def _finish_run(self, writer: SceneWriter, pl_module: pl.LightningModule, bad: Sequence[tuple[str, str]]) -> None:
        """Write ``run.json`` and the files of videos, and say what was found."""
        self.run = writer.finish(bad, self._facts())
        monitor, scenes = Monitor(), set(self._scenes)
        for record, times in read_results(self.out):
            if record["scene"] in scenes:
                monitor.add(record, times)
        self.run |= monitor.facts()
        if self._reference is not None:
            where = "at enrolment" if self.drift_reference is None else f"in {self.drift_reference}"
            self.run["drift"] = compare_samples(self._reference, read_sample(self.out, scenes), where)
        write_json(self.out / RUN, self.run)
        if self._videos:
            self._write_tracks(pl_module)
        measured = _measure_videos(self.out, self._videos) if self._videos else None
        found = _summary(self.out, self.run, self._truth, whole=self._whole, measured=measured)
        drift = drift_sentences(self.run["drift"]) if "drift" in self.run else ()
        for line in [*self._listing.sentences(), *drift, *found]:
            _LOG.info("%s", line)
        masks = bool(getattr(getattr(getattr(pl_module, "segmenter", None), "model", None), "architecture", ""))
        if advice := advise_run(self.run, str(self._truth.parent) if self._whole else "DIR", masks=masks):
            _LOG.warning("%s", advice)

    def _write_tracks(self, pl_module: pl.LightningModule) -> None:
        """Link the regions of videos, and print who is on screen how long."""
        gallery = pl_module.analyzer.gallery if isinstance(pl_module, SceneRetriever) else None
        if gallery is None:
            return
        console = Console(stderr=True)
        with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
            passes = {"annotate": self.annotate, "follow": self._memory is not None}
            task = bar.add_task("tracks", total=frames_to_read(self._videos, **passes))
            self.screen_time = write_tracks(
                self.out,
                self._videos,
                label_colours(gallery.labels),
                config=self.tracks,
                unlike=similarity_of_labels(gallery),
                memory=self._memory,
                annotate=self.annotate,
                advance=lambda: bar.advance(task),
            )
        Console().print(screen_time_table(self.screen_time, title="Who is on screen"))
        _LOG.info("%s: tracks in %s, timelines and annotated videos in %s", self.out, TRACKS, self.out / VIDEOS)

    @override
    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Write the scenes that are already searched, so that the next run resumes after them."""
        try:
            if isinstance(pl_module, SceneRetriever):
                self._write([found for found in pl_module.answered if found[0].image is not None])
            self._finish_writing()
            if trainer.is_global_zero and self._writer is not None:
                self._writer.write_page(self._bad)
        except OSError as error:  # the run already stops, most likely for this reason
            _LOG.warning("a scene could not be written: %s", error)
        stopped = not isinstance(exception, Exception)  # Ctrl-C or a signal, not an error
        if stopped and trainer.is_global_zero and self._writer is not None:
            message = "stopped with %d of %d scenes done (in %s); the same command again continues from there"
            _LOG.info(message, self._count_done(), len(self._scenes), self.out)

    def _count_done(self) -> int:
        return 0 if self._writer is None else len((self._done | self._writer.done).intersection(self._scenes))

    def _finish_writing(self) -> None:
        behind, self._behind = self._behind, None
        if behind is not None:
            behind.close()
        if self._writer is not None:
            self._writer.close()


def _searched(name: str, video: VideoFrames) -> SearchedVideo:
    scenes = {frame_scene(name, index): index for index in video.indices}
    return SearchedVideo(video.path, scenes, video.fps, video.frames)


def _measure_videos(out: Path, videos: Mapping[str, SearchedVideo]) -> list[str]:
    """Return how to measure the tracks, if a video has its truth beside it."""
    truth = next((video.path.parent for video in videos.values() if video.path.with_suffix(".json").is_file()), None)
    command = ["naruto-vision", "evaluate", "tracks", "--gt", str(truth), "--preds-dir", str(out)]
    return [] if truth is None else [f"measure: {shlex.join(command)}"]


def _summary(
    out: Path, run: Mapping[str, Any], truth: Path, *, whole: bool, measured: Iterable[str] | None = None
) -> Iterator[str]:
    """Yield what was found, why images are left out, where to look, and how to measure (None: against ``truth``)."""
    counts, bad = run["counts"], run["quarantined"]
    unknown = counts["shown"] - counts["named"]
    shown = f"{counts['shown']} of {counts['regions']} regions shown"
    found = f"{shown}: {counts['named']} named, {unknown} unknown"
    searched = f"{counts['ok']} of {counts['seen']} scenes searched, {counts['quarantined']} could not be read"
    yield f"{out}: {searched}; {found}"
    yield from (f"  {each['reason']}" for each in bad[:_REASONS])
    if len(bad) > _REASONS:
        yield f"  and {len(bad) - _REASONS} more, listed in {out / RUN}"
    yield f"look at the scenes: open {out / PAGE} in a browser"
    if measured is not None:
        yield from measured
        return
    evaluate = shlex.join(["naruto-vision", "evaluate", "--gt", str(truth), "--preds-dir", str(out)])
    form = '{"scene.jpg": [{"bbox": [x1, y1, x2, y2], "label": "name"}]}'
    if not whole:
        evaluate += "  # its scenes that were not searched count as missed"
    yield f"measure: {evaluate}" if truth.is_file() else f"measure: write {truth} as {form}, then {evaluate}"


class SceneReportCallback(Callback):
    """Print scene accuracy, and write ``results.json`` and ``card.md``.

    ``results.json`` scores all regions under their best label and, in ``shown``, the regions of the overlay.

    Args:
        out: The folder of both.
    """

    stage = "test"

    def __init__(self, out: str = "runs/scenes") -> None:
        self.out = Path(out)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the report of the test that just ended."""
        if not isinstance(pl_module, SceneRetriever) or not trainer.is_global_zero:
            return
        searched, shown = pl_module.reports["test"], pl_module.reports["test_shown"]
        if reason := withheld(trainer, self.out / "results.json"):
            _LOG.info("nothing was written: %s", reason)
        else:
            weak = [one.as_json() for one in pl_module.slices]
            scores = [one.as_json() for one in pl_module.reliability]
            results = {**searched.as_json(), "shown": {**shown.as_json(), "slices": weak}, "reliability": scores}
            write_json(self.out / "results.json", results)
            scene_card(self.out, pl_module, trainer)
        Console().print(report_table(searched, title="Scenes: every region under its best label"))
        Console().print(report_table(shown, title="Scenes: what people are shown (NMS, threshold, unknown)"))
