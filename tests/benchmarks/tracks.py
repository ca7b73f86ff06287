"""Names by track against names by frame, on drawn clips with cuts.

``python -m benchmarks.tracks RUNS`` draws 40 clips, names their figures with the gallery and encoder of RUNS, links
them, and prints IDF1, switches, links across cuts, and both accuracies. The regions are the true masks, moved, shrunk
or grown by some pixels; one in ten is missing. With ``--found`` the regions are those that the segmenter finds.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

import naruto_vision as nv
from naruto_vision.cli.console import show, show_json
from naruto_vision.geometry import xyxy_from_mask
from naruto_vision.io.atomic import write_json
from naruto_vision.io.bundles import config_path
from naruto_vision.io.video import VideoFrame
from naruto_vision.metrics.tracks import FoundBox, TrackCounts, TrueBox, track_counts, track_report
from naruto_vision.records import Mask, Region
from naruto_vision.synthetic.attributes import read_cast
from naruto_vision.synthetic.videos import SyntheticFrame, SyntheticVideo, VideoConfig
from naruto_vision.video.shots import find_shots
from naruto_vision.video.track_files import link_frames
from naruto_vision.video.tracks import SearchedFrame, Sighting, similarity_of_labels
from naruto_vision.viz.overlay import choose_for_overlay

FIRST_SEED = 8_400_000  # the settings were chosen on other seeds
_MISSED = 0.1


def roughened(mask: Mask, rng: np.random.Generator) -> Region | None:
    """A region as a segmenter might find it: None if it is missed."""
    if rng.random() < _MISSED:
        return None
    kernel = np.ones((int(rng.integers(1, 6)),) * 2, np.uint8)
    changed = (cv2.erode if rng.random() < 0.5 else cv2.dilate)(mask.astype(np.uint8), kernel)
    moved = np.roll(changed, tuple(rng.integers(-3, 4, 2)), (0, 1)).astype(np.bool_)
    box = xyxy_from_mask(moved)
    return None if box is None else Region(box, moved[box[1] : box[3] + 1, box[0] : box[2] + 1])


def sightings(
    analyzer: nv.SceneAnalyzer, frame: SyntheticFrame, place: tuple[int, float], rng: np.random.Generator | None
) -> list[Sighting]:
    """Name the true figures of a frame, roughened, or without a generator what the segmenter finds."""
    if rng is None:
        found = analyzer(frame.image)
        shown = choose_for_overlay(found, analyzer.overlay)
        return [Sighting(*place, found.regions[k].box, found.identities[k]) for k in shown]
    regions = [roughened(frame.owners == figure.owner, rng) for figure in frame.figures]
    kept = [region for region in regions if region is not None]
    names = analyzer.identify(frame.image, kept) if kept else ()
    return [Sighting(*place, region.box, name) for region, name in zip(kept, names, strict=True)]


def clip_counts(analyzer: nv.SceneAnalyzer, video: SyntheticVideo, fps: float, *, found: bool) -> TrackCounts:
    """Draw, name and link one clip; cuts are found in its frames, and judged by the true ones."""
    step, rate = max(1, round(video.config.fps / fps)), video.config.fps
    frames = list(video)
    shots = find_shots(VideoFrame(k, k / rate, frame.image) for k, frame in enumerate(frames))
    rng = None if found else np.random.default_rng(video.seed)

    def searched() -> Iterator[SearchedFrame]:
        for k in range(0, len(frames), step):
            yield SearchedFrame(k, k / rate, sightings(analyzer, frames[k], (k, k / rate), rng))

    tracks = link_frames(searched(), shots, unlike=similarity_of_labels(analyzer.gallery))
    ours = [
        FoundBox(each.frame, track.id, track.name, each.identity.name, each.box)
        for track in tracks
        for each in track.sightings
    ]
    truth = [
        TrueBox(k, figure.track, figure.label, figure.box)
        for k in range(0, len(frames), step)
        for figure in frames[k].figures
    ]
    return track_counts(truth, ours, video.cuts)


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark and print its report as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tracks")
    parser.add_argument("runs", type=Path, help="folder of a gallery, as nv.load takes it")
    parser.add_argument("--clips", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--fps", type=float, default=3.0, help="searched frames per second")
    parser.add_argument("--first", type=int, default=0, help="first clip; the seeds of clips are fixed")
    parser.add_argument("--found", action="store_true", help="use the segmenter's regions")
    parser.add_argument("--json-out", type=Path)
    options = parser.parse_args(argv)
    analyzer, cast = nv.load(options.runs), read_cast(config_path("cast.yaml"))
    counts = []
    for number in range(options.first, options.first + options.clips):
        video = SyntheticVideo(FIRST_SEED + number, cast, VideoConfig(options.seconds))
        counts.append(clip_counts(analyzer, video, options.fps, found=options.found))
        show(f"clip {number}: {counts[-1]}")
    document = track_report(counts).as_json()
    show_json(document)
    if options.json_out:
        write_json(options.json_out, document)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
