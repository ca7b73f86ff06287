"""Write the files of scenes: JSON, overlays, crops, logs; resumable, in constant memory.

For every scene the images and JSON files are written first, each atomically; the scene's line in
``predictions.jsonl`` comes last and means "done". After a kill the next run continues behind the last line.
"""

import base64
import hashlib
import json
import math
import os
import platform
import re
import statistics
import unicodedata
from collections import Counter, deque
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, chain
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NotRequired, TypedDict

import msgspec
import numpy as np

from naruto_vision.errors import InputError
from naruto_vision.gallery.store import DRIFT
from naruto_vision.io.atomic import atomic_file, remove_leftovers, utf8, write_json
from naruto_vision.io.bundles import file_sha256
from naruto_vision.io.images import write_image
from naruto_vision.io.machine import installed_versions
from naruto_vision.io.names import longer_stems, output_name
from naruto_vision.io.tars import member_or_none
from naruto_vision.io.typed_json import read_json, read_json_lines
from naruto_vision.io.video import is_video_name
from naruto_vision.recognition.coco import CocoScene, coco_of_record, write_coco
from naruto_vision.recognition.drift import image_quality, sample_line, sampled
from naruto_vision.records import UNKNOWN, Explanation, Identity, ImageArray, Region, ScenePrediction, Vectors
from naruto_vision.segmentation.crops import CropConfig, crop_region
from naruto_vision.viz.explain_page import write_explained
from naruto_vision.viz.overlay import OverlayConfig, choose_for_overlay, draw_overlay, label_colours
from naruto_vision.viz.scene_page import SceneCard, write_scene_page

LOG = "predictions.jsonl"
TIMES = "timings.jsonl"
RUN = "run.json"
PAGE = "index.html"
COCO = "coco.json"
LOGS = (LOG, TIMES, DRIFT)
"""What each of several processes writes its own part of."""

_SHOWN = 5  # neighbours in the record; more of them may have voted
_DIGITS = 6  # a cosine of float32 vectors has about seven significant digits
_AHEAD = 2  # queued scenes; more only take memory, as writing is faster than computing

_ELSEWHERE = "the results are damaged: give another --out, or remove the folder"

_PACKAGES = (
    "naruto-vision",
    "torch",
    "lightning",
    "open-clip-torch",
    "segment-anything",
    "faiss-cpu",
    "faiss-gpu",
    "numpy",
    "pillow",
)


def output_stems(scenes: Sequence[str]) -> dict[str, str]:
    """Name the outputs of every scene so that no two share a file, ignoring case and Unicode form.

    The stem is the scene's own path without extension, or with it if another scene has the same stem, or with a hash if
    another scene has the same path but for its case. Long names are cut (``output_name``).
    """
    forms = {
        scene: [output_name(PurePosixPath(scene).with_suffix("").as_posix()), *longer_stems(scene)] for scene in scenes
    }
    while True:  # a stem with its extension may equal one without
        names = {scene: (_folded(stems[0]), _folded(f"{stems[0]}_overlay")) for scene, stems in forms.items()}
        taken = Counter(chain.from_iterable(names.values()))
        clashing = [s for s, stems in forms.items() if len(stems) > 1 and any(taken[name] > 1 for name in names[s])]
        if not clashing:
            return {scene: stems[0] for scene, stems in forms.items()}
        for scene in clashing:
            del forms[scene][0]


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


@dataclass(frozen=True)
class WriterConfig:
    """What is written for each scene."""

    crops: Literal["shown", "all", "none"] = "shown"
    images: bool = True
    coco: bool = True  # one ``coco.json`` of all scenes, at the end


class _Run(msgspec.Struct):
    identity: dict[str, Any] | None = None


class _FoundRegion(TypedDict):
    name: str
    label: str
    score: float
    shown: bool
    predicted_iou: NotRequired[float]


class _Named(TypedDict):
    scene: str
    sha256: NotRequired[str]


class _Line(_Named):
    """What is read again of a line of ``predictions.jsonl``."""

    regions: list[_FoundRegion]


class _CocoRegion(_FoundRegion):
    bbox: tuple[int, int, int, int]
    area: int
    mask: dict[str, Any]


class _CocoLine(_Named):
    width: int
    height: int
    regions: list[_CocoRegion]


class SceneWriter:
    """Writes scene predictions into a folder.

    Of several processes that write into one folder, each has logs of its own, and one, the ``leader``, prepares the
    folder and merges them.

    Attributes:
        done: The scenes that are finished in this folder, also by earlier runs.
        absent: Those whose image is no longer there; their results are kept, and not counted.
    """

    def __init__(
        self,
        out: str | Path,
        scenes: Sequence[str],
        labels: Sequence[str],
        identity: Mapping[str, Any],
        *,
        crop: CropConfig,
        overlay: OverlayConfig | None = None,
        settings: WriterConfig | None = None,
        rank: int = 0,
        world: int = 1,
        leader: int = 0,
    ) -> None:
        self.out = Path(out)
        self.overlay = overlay or OverlayConfig()
        self.settings = settings or WriterConfig()
        self.done: set[str] = set()
        self._order = {scene: index for index, scene in enumerate(scenes)}
        self._sampled = sampled(scenes)
        self._labels = tuple(labels)
        self._colours = label_colours(labels)
        self._identity = dict(identity)
        self._crop = crop
        self._start(rank, world, leads=rank == leader)

    def _start(self, rank: int, world: int, *, leads: bool) -> None:
        self.out.mkdir(parents=True, exist_ok=True)
        if leads:  # other processes may already be writing
            remove_leftovers(self.out)
        self.done = {record["scene"] for path in self._logs(LOG) for record in _records(path)}
        if self.done or (self.out / "json").exists():  # a run that failed before its first scene left no results
            refuse_other_results(self.out, self._identity)
        self.absent = self.done - self._order.keys()
        self._stems = output_stems([*self._order, *sorted(self.absent)])
        part = str(rank) if world > 1 else ""
        self._log = SceneLog(self.out / part_name(LOG, part))
        self._times = SceneLog(self.out / part_name(TIMES, part), self.done)
        self._drift = SceneLog(self.out / part_name(DRIFT, part), self.done)
        if leads:
            write_json(self.out / RUN, {"state": "running", "identity": self._identity})

    def _logs(self, name: str) -> list[Path]:
        return [self.out / name, *sorted(self.out.glob(part_name(name, "*")))]

    def write(self, image: ImageArray, prediction: ScenePrediction, sha256: str = "") -> None:
        """Write everything of one scene; a later run detects a changed image by the sha256 of its file.

        Of a frame of a video the log also keeps the vectors of the shown regions, by which they are linked.
        """
        stem = self._stems[prediction.scene]
        shown = choose_for_overlay(prediction, self.overlay)
        write_json(self.out / "json" / f"{stem}.json", prediction_document(prediction))
        write_json(self.out / "json" / f"{stem}_overlay.json", overlay_document(prediction, shown))
        if self.settings.images:
            overlay = draw_overlay(image, prediction, shown, self._colours)
            write_image(self.out / "overlay" / f"{stem}_overlay.jpg", overlay)
        self._write_crops(image, prediction, shown)
        times = {name: round(value, 3) for name, value in prediction.milliseconds.items()}
        self._times.append(as_line({"scene": prediction.scene, **times}))
        if prediction.scene in self._sampled:
            self._drift.append(as_line(sample_line(image_quality(image), prediction, self._identity)))
        document = record_document(prediction, shown, sha256)
        for index in shown if is_video_name(Path(prediction.scene).parent) else ():
            document["regions"][index]["vector"] = vector_text(prediction.identities[index].vector)
        self._log.append(as_line(document))
        self.done.add(prediction.scene)

    def explained(self, scene: str) -> Path:
        """Return the page that explains the names of a scene; it is written last."""
        return self.out / "explained" / f"{self._stems[scene]}.html"

    def write_explained(self, scene: str, found: Mapping[int | str, Explanation]) -> None:
        """Write the explanations of a scene's regions, by their numbers, as JSON and as that page."""
        write_explained(self.explained(scene), scene, found, self._colours)

    def _write_crops(self, image: ImageArray, prediction: ScenePrediction, shown: Sequence[int]) -> None:
        if self.settings.crops == "none":
            return
        chosen = shown if self.settings.crops == "shown" else range(len(prediction.regions))
        folder = self.out / f"{self._stems[prediction.scene]}_crops"
        for index in sorted(chosen):
            identity = prediction.identities[index]
            name = output_name(re.sub(r"[^\w.-]+", "_", identity.name).strip("._") or "label")
            file = folder / f"seg_{index:02d}_{name}_{identity.score:.2f}.jpg"
            write_image(file, crop_region(image, prediction.regions[index], self._crop))

    def close(self) -> None:
        """Close this process's logs."""
        self._log.close()
        self._times.close()
        self._drift.close()

    def merge(self) -> None:
        """Merge the processes' logs; called in one process of a folder, after all have closed."""
        for name in LOGS:
            if parts := self._logs(name)[1:]:
                merge_logs(self.out / name, parts, self._order)

    def finish(self, quarantined: Sequence[tuple[str, str]], facts: Mapping[str, Any]) -> dict[str, Any]:
        """Merge the processes' logs, write and return ``run.json``; called in one process, after all have closed."""
        self.merge()
        records = (record["regions"] for record in _records(self.out / LOG) if record["scene"] in self._order)
        found = [_tally(own) for own in records]
        done = len(found)
        if done < (searched := len(self.done - self.absent)):
            msg = f"{self.out / LOG}: has {done} of {searched} searched scenes, the others were removed; run again"
            raise InputError(msg)
        if self.settings.coco:
            write_coco(self.out / COCO, self._coco_scenes, self._labels)
        bad = [{"scene": scene, "reason": reason} for scene, reason in sorted(quarantined)]
        counts = {"seen": done + len(bad), "ok": done, "quarantined": len(bad)}
        counts |= {key: sum(one[key] for one in found) for key in ("regions", "shown", "named")}
        if self.absent:
            counts["absent"] = len(self.absent)
        times = read_json_lines(self.out / TIMES, dict[str, Any], hint=_ELSEWHERE)
        run = {
            "state": "done",
            "identity": self._identity,
            "counts": counts,
            "quarantined": bad,
            "scenes": {
                "without_regions": sum(not one["regions"] for one in found),
                "without_names": sum(not one["named"] for one in found),
                "best_iou": _mean([one["best_iou"] for one in found if one["regions"]]),
            },
            "latency_ms": latency_percentiles(row for row in times if row.get("scene") in self._order),
            **facts,
        }
        write_json(self.out / RUN, run)
        self.write_page(sorted(quarantined))
        return run

    def write_page(self, refused: Sequence[tuple[str, str]]) -> None:
        """Write ``index.html`` of the scenes in the logs, and of images that could not be used, with reasons."""
        title = " of ".join(["Scenes", *filter(None, [self._identity.get("scenes")])])
        write_scene_page(self.out / PAGE, title, self._cards, refused, self._colours, (RUN, LOG))

    def _cards(self) -> Iterator[SceneCard]:
        for record in chain.from_iterable(_records(path) for path in self._logs(LOG)):
            if record["scene"] not in self._order:
                continue
            stem, regions = self._stems[record["scene"]], record["regions"]
            shown = [(each["name"], each["score"]) for each in regions if each["shown"]]
            shown.sort(key=lambda each: (each[0] == UNKNOWN, -each[1]))
            overlay = f"overlay/{stem}_overlay.jpg" if self.settings.images else ""
            page = f"explained/{stem}.html" if self.explained(record["scene"]).is_file() else ""
            yield SceneCard(record["scene"], overlay, f"json/{stem}.json", shown, len(regions), page)

    def _coco_scenes(self) -> Iterator[CocoScene]:
        """Yield the logged scenes; an image's id is its position in the folder, from 1."""
        for record in read_json_lines(self.out / LOG, _CocoLine, hint=_ELSEWHERE):
            if record["scene"] in self._order:
                yield coco_of_record(record, self._order[record["scene"]] + 1)


def part_name(log: str, rank: str) -> str:
    """Name one of several processes' own file of a log; "" names the log."""
    return log.replace(".jsonl", f".rank{rank}.jsonl") if rank else log


def refuse_other_results(out: Path, identity: Mapping[str, Any], remedy: str = "remove the folder") -> None:
    """Raise InputError if the folder's ``run.json`` has another identity, of which JSON values are compared."""
    run = out / RUN
    if not run.is_file():
        return
    other = read_json(run, _Run, hint=_ELSEWHERE).identity or {}
    changed = sorted(key for key in {*other, *identity} if other.get(key) != identity.get(key))
    if changed:
        msg = f"{out}: holds results of another run (different {', '.join(changed)}); give another --out, or {remedy}"
        raise InputError(msg)


class _Tally(TypedDict):
    regions: int
    shown: int  # in the overlay
    named: int  # of the shown ones
    best_iou: float


def _tally(regions: Sequence[_FoundRegion]) -> _Tally:
    shown = [region for region in regions if region["shown"]]
    named = sum(region["name"] == region["label"] for region in shown)
    best = max((region.get("predicted_iou", 1.0) for region in regions), default=1.0)
    return {"regions": len(regions), "shown": len(shown), "named": named, "best_iou": best}


def _mean(values: Sequence[float]) -> list[float] | None:
    """Return the mean and its 95 % interval; None for fewer than two values."""
    if len(values) < 2:
        return None
    mean, width = statistics.fmean(values), 1.96 * statistics.stdev(values) / len(values) ** 0.5
    return [round(value, _DIGITS) for value in (mean, mean - width, mean + width)]


class BackgroundWriter:
    """Runs a ``SceneWriter`` in a background thread, in the order of the scenes."""

    def __init__(self, writer: SceneWriter, images: str | Path) -> None:
        self._writer = writer
        self._images = Path(images)
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="scene-writer")
        self._waiting: deque[Future[None]] = deque()
        self._failed = False

    def write(self, image: ImageArray, prediction: ScenePrediction) -> None:
        """Queue one scene, or wait while two are queued; raise OSError if an earlier scene could not be written."""
        while len(self._waiting) >= _AHEAD or (self._waiting and self._waiting[0].done()):
            self._waiting.popleft().result()
        self._waiting.append(self._pool.submit(self._write, image, prediction))

    def _write(self, image: ImageArray, prediction: ScenePrediction) -> None:
        if self._failed:  # later scenes must not be logged, or resuming would change the order
            return
        self._failed = True
        self._writer.write(image, prediction, source_digest(self._images, prediction.scene))
        self._failed = False

    def close(self) -> None:
        """Wait for the queue; raise OSError if a scene could not be written, after which none is."""
        try:
            while self._waiting:
                self._waiting.popleft().result()
        finally:
            for scene in self._waiting:
                scene.cancel()
            self._pool.shutdown()


def prediction_document(prediction: ScenePrediction) -> dict[str, Any]:
    """Return every region with its best label, unfiltered, as ``{scene, preds: [{bbox, label, score}]}``."""
    rows = zip(prediction.regions, prediction.identities, strict=True)
    preds = [_pred(region, identity, identity.label) for region, identity in rows]
    return {"scene": prediction.scene, "preds": preds}


def overlay_document(prediction: ScenePrediction, shown: Sequence[int]) -> dict[str, Any]:
    """Return the shown regions in the same form, named "unknown" if the score is below the threshold."""
    rows = ((prediction.regions[i], prediction.identities[i]) for i in shown)
    preds = [_pred(region, identity, identity.name) for region, identity in rows]
    return {"scene": prediction.scene, "preds": preds}


def _pred(region: Region, identity: Identity, label: str) -> dict[str, Any]:
    return {"bbox": list(region.box), "label": label, "score": round(identity.score, _DIGITS)}


def record_document(prediction: ScenePrediction, shown: Sequence[int], sha256: str = "") -> dict[str, Any]:
    """Return the line of ``predictions.jsonl``: a scene without its times, which differ between runs."""
    regions = []
    for index, (region, identity) in enumerate(zip(prediction.regions, prediction.identities, strict=True)):
        regions.append(
            {
                "bbox": list(region.box),
                "area": region.area,
                "mask": region.rle(prediction.height, prediction.width),
                "prompt": region.prompt.name,
                "predicted_iou": round(region.predicted_iou, _DIGITS),
                "stability": round(region.stability, _DIGITS),
                "label": identity.label,
                "name": identity.name,
                "score": round(identity.score, _DIGITS),
                "margin": None if identity.margin is None else round(identity.margin, _DIGITS),
                "p_value": None if identity.p_value is None else round(identity.p_value, _DIGITS),
                "shown": index in shown,
                "neighbours": [
                    {"id": n.row, "label": n.label, "score": round(n.score, _DIGITS), "path": n.path}
                    for n in identity.neighbours[:_SHOWN]
                ],
            }
        )
    source = {"scene": prediction.scene, **({"sha256": sha256} if sha256 else {})}
    names = sorted({prediction.identities[index].name for index in shown} - {UNKNOWN})
    return {**source, "width": prediction.width, "height": prediction.height, "names": names, "regions": regions}


def as_line(value: dict[str, Any]) -> str:
    """Return one line of JSON Lines, with its line feed."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"


def _records(log: Path) -> Iterator[_Line]:
    return read_json_lines(log, _Line, hint=_ELSEWHERE)


def _names(log: Path) -> Iterator[_Named]:
    return read_json_lines(log, _Named, hint=_ELSEWHERE)


class SceneLog:
    """One writer's append-only log; opening it removes an incomplete last line.

    A log that is written before the one that says which scenes are ``done`` also loses its last lines of other scenes.
    """

    def __init__(self, path: str | Path, done: Container[str] | None = None) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._handle = self.path.open("a+b")
        self._handle.seek(0)
        ends = list(accumulate(len(line) for line in self._handle if line.endswith(b"\n")))
        if done is not None:
            kept = [number for number, one in enumerate(_names(self.path), start=1) if one["scene"] in done]
            del ends[max(kept, default=0) :]
        self._handle.truncate(ends[-1] if ends else 0)
        self._handle.seek(0, os.SEEK_END)

    def append(self, line: str) -> None:
        """Append one line, with its line feed, and flush it to the disk; InputError if the file is no longer there."""
        if not (self.path.exists() and os.path.samestat(os.fstat(self._handle.fileno()), self.path.stat())):
            raise InputError(f"{self.path}: was removed or replaced during the run; start it again")
        self._handle.write(utf8(line))
        self._handle.flush()
        os.fsync(self._handle.fileno())

    def close(self) -> None:
        """Close the file."""
        self._handle.close()


def merge_logs(target: Path, parts: list[Path], order: dict[str, int]) -> None:
    """Merge the logs of several processes in scene order, each scene once; the parts are removed."""
    found: dict[str, tuple[Path, int]] = {}
    for log in [target, *parts]:
        offset = 0
        records = _names(log)
        for line in log.open("rb") if log.is_file() else []:
            if line.endswith(b"\n"):
                found.setdefault(next(records)["scene"], (log, offset))
            offset += len(line)
    with atomic_file(target) as temporary, temporary.open("wb") as out:
        for scene in sorted(found, key=lambda name: (order.get(name, len(order)), name)):
            log, offset = found[scene]
            with log.open("rb") as handle:
                handle.seek(offset)
                out.write(handle.readline())
    for part in parts:
        part.unlink(missing_ok=True)


def source_digest(images: str | Path, scene: str) -> str:
    """Return the sha256 of a scene's file, of the video that it is a frame of, or of its bytes in a tar file.

    FileNotFoundError if it is not there.
    """
    path = Path(images) / scene
    if not path.is_file():
        if is_video_name(path.parent) and path.parent.is_file():  # ``clip.mp4/frame_000123``
            path = path.parent
        elif (data := member_or_none(path)) is not None:
            return hashlib.sha256(data).hexdigest()
    return _sha256(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=4)
def _sha256(path: Path, _time: int) -> str:
    return file_sha256(path)  # once for the frames of a video


def vector_text(vector: Vectors | None) -> str:
    """Return a vector (D,) as the base64 text of float16 numbers; "" for none."""
    return "" if vector is None else base64.b64encode(vector.astype("<f2").tobytes()).decode()


def vector_from_text(text: str) -> Vectors:
    """Read a vector that ``vector_text`` wrote: shape (D,), float32, unit length."""
    vector = np.frombuffer(base64.b64decode(text, validate=True), "<f2").astype(np.float32)
    return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-12), np.float32)


def forget_changed(out: str | Path, images: str | Path, log: str) -> list[str]:
    """Remove scenes whose image has changed since they were searched from the logs; return them, sorted.

    One process calls it before any opens the folder for writing. Scenes whose image is missing are kept, see
    ``SceneWriter.absent``.
    """
    logs = sorted(Path(out).glob(log.replace(".jsonl", "*.jsonl")))
    digests = {record["scene"]: record.get("sha256", "") for path in logs for record in _names(path)}
    changed = set()
    for scene, digest in digests.items():
        with suppress(FileNotFoundError, NotADirectoryError, ValueError):  # a ValueError where no file has such a name
            if source_digest(images, scene) != digest:
                changed.add(scene)
    for path in logs if changed else []:
        with atomic_file(path) as temporary, temporary.open("wb") as kept, path.open("rb") as lines:
            named = zip(lines, _names(path), strict=False)  # a torn last line has no record
            kept.writelines(line for line, record in named if record["scene"] not in changed)
    return sorted(changed)


def latency_percentiles(times: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Return the 50th, 95th and 99th percentile in milliseconds of each step, and the count of scenes."""
    columns: dict[str, list[float]] = {}
    for record in times:
        for name, value in record.items():
            if isinstance(value, int | float) and math.isfinite(value):
                columns.setdefault(name, []).append(float(value))
    summary = {}
    for name, values in columns.items():
        p50, p95, p99 = (round(float(p), 3) for p in np.percentile(values, (50, 95, 99)))
        summary[name] = {"p50": p50, "p95": p95, "p99": p99, "scenes": len(values)}
    return summary


def software_versions() -> dict[str, str]:
    """Return the versions that can change results: of Python and of the numerical packages."""
    return {"python": platform.python_version(), **installed_versions(_PACKAGES)}
