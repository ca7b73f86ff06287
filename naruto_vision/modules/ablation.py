"""What the cells of an ablation share: masks, vectors and galleries, computed once and kept in one file."""

import hashlib
import json
import math
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
import torch
from typing_extensions import override

from naruto_vision.data.gallery_data import GalleryDataModule
from naruto_vision.data.leaks import frame_runs
from naruto_vision.data.scenes import SceneDataset, SceneItem
from naruto_vision.encoders.base import encode_images
from naruto_vision.errors import InputError
from naruto_vision.gallery.enrolment import Enrolment, EnrolmentConfig, sample_candidates
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.gallery.index import VectorIndex, choose_kind
from naruto_vision.geometry import canonical_rle, shape_of_xyxy
from naruto_vision.io.sqlite_files import check_sqlite
from naruto_vision.metrics.ablation import SceneSums
from naruto_vision.metrics.evaluation import evaluate_scenes
from naruto_vision.modules.scene_retriever import SceneRetriever, analyze_items, settled_gallery, without_suspects
from naruto_vision.recognition.analyzer import SceneAnalyzer
from naruto_vision.recognition.decision import thresholds_from
from naruto_vision.recognition.enrolment import Rows
from naruto_vision.recognition.heads import compare_rules
from naruto_vision.records import ImageArray, LabelledBox, Region, ScenePrediction, Vectors
from naruto_vision.viz.overlay import choose_for_overlay, labelled_boxes

T = TypeVar("T")


def digest(*parts: object) -> str:
    """Hash texts, bytes and arrays; anything else by its JSON values."""
    found = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes | np.ndarray) else json.dumps(part, sort_keys=True).encode()
        data = np.ascontiguousarray(data).tobytes() if isinstance(data, np.ndarray) else data
        found.update(len(data).to_bytes(8, "little") + data)
    return found.hexdigest()


_TABLE = "CREATE TABLE results (name TEXT PRIMARY KEY, value BLOB)"


class ResultCache:
    """Results under the hash of everything that determines them, in one SQLite file; a killed run loses none.

    The file may come from others: it has one table, without views and triggers, and a value of another type or size is
    made again.

    Raises:
        InputError: If the file is no such cache, or cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        check_sqlite(path)
        self._path = path
        try:
            self._file = sqlite3.connect(path, isolation_level=None)
        except sqlite3.Error as error:
            raise self._refused(error) from None
        self._rows("PRAGMA synchronous = NORMAL")
        if not (found := self._rows("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")):
            self._rows(_TABLE)
        elif found != [(_TABLE,)]:
            raise self._refused("tables of another program")

    def get(self, name: str, kind: type[T], make: Callable[[], T], *, fits: Callable[[T], bool] | None = None) -> T:
        """Return what is kept under a name, or make and keep it; a damaged value is made again."""
        for (value,) in self._rows("SELECT value FROM results WHERE name = ?", name):
            if isinstance(value, bytes) and value[:4] == _checksum(value[4:]):
                with suppress(msgspec.MsgspecError, RecursionError):
                    kept = msgspec.msgpack.decode(value[4:], type=kind)
                    if fits is None or fits(kept):
                        return kept
        made = make()
        data = msgspec.msgpack.encode(made)
        self._rows("INSERT OR REPLACE INTO results VALUES (?, ?)", name, _checksum(data) + data)
        return made

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _rows(self, command: str, *values: str | bytes) -> list[tuple[Any, ...]]:
        try:
            return self._file.execute(command, values).fetchall()
        except sqlite3.Error as error:
            raise self._refused(error) from None

    def _refused(self, why: object) -> InputError:
        return InputError(f"{self._path}: expected kept masks and vectors, found {why}; free some space, or remove it")


def _checksum(value: bytes) -> bytes:
    return zlib.crc32(value).to_bytes(4, "little")


class _Regions(msgspec.Struct):
    """The regions of an image."""

    regions: tuple[Region, ...]

    def fit(self, height: int, width: int) -> bool:
        """Return whether all are inside an image, and their masks as large as their boxes."""
        boxes = [region.box for region in self.regions]
        try:
            if not all(0 <= x1 <= x2 < width and 0 <= y1 <= y2 < height for x1, y1, x2, y2 in boxes):
                return False
            return all(canonical_rle({"size": shape_of_xyxy(r.box), "counts": r.counts}) for r in self.regions)
        except ValueError:
            return False


class _Arrays(msgspec.Struct):
    """Arrays of float32 as shapes and bytes."""

    shapes: list[list[int]]
    data: list[bytes]

    @classmethod
    def of(cls, *arrays: Vectors) -> "_Arrays":
        return cls([list(array.shape) for array in arrays], [array.astype("<f4").tobytes() for array in arrays])

    def arrays(self) -> list[Vectors]:
        flat = [np.frombuffer(data, dtype="<f4").astype(np.float32) for data in self.data]
        return [array.reshape(shape) for array, shape in zip(flat, self.shapes, strict=True)]


def _has_shapes(kept: _Arrays, shapes: Sequence[list[int]]) -> bool:
    """Return whether these are finite arrays of these shapes."""
    fit = kept.shapes == [*shapes] and [*map(len, kept.data)] == [4 * math.prod(shape) for shape in shapes]
    return fit and all(np.isfinite(array).all() for array in kept.arrays())


class CachedAnalyzer(SceneAnalyzer):
    """An analyzer that segments an image, and embeds regions of it, once for all analyzers of one cache."""

    def __init__(self, cache: ResultCache, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        facts = self.facts()
        embedding = ("encoder", "arithmetic", "crop", "mirror", "renormalise")
        self._cache, self._segmented = cache, ["regions", facts["segmenter"]]
        self._embedded = ["vectors", self.embedding, *(facts[name] for name in embedding)]

    @override
    def segment(self, image: ImageArray) -> tuple[Region, ...]:
        make, name = super().segment, digest(self._segmented, list(image.shape), image)
        fits = partial(_Regions.fit, height=image.shape[0], width=image.shape[1])
        return self._cache.get(name, _Regions, lambda: _Regions(make(image)), fits=fits).regions

    @override
    def embed(self, scenes: Sequence[tuple[ImageArray, Sequence[Region]]]) -> tuple[Vectors, Vectors]:
        parts: list[object] = [self._embedded]
        for image, regions in scenes:
            parts += [image, list(image.shape), [(one.box, one.counts.decode("ascii")) for one in regions]]
        make, rows = super().embed, sum(len(regions) for _, regions in scenes)

        fits = partial(_has_shapes, shapes=([rows, self.gallery.dim], [rows]))
        kept = self._cache.get(digest(*parts), _Arrays, lambda: _Arrays.of(*make(scenes)), fits=fits)
        vectors, lengths = kept.arrays()
        return vectors, lengths


def embed_gallery(retriever: SceneRetriever, data: GalleryDataModule, cache: ResultCache) -> Enrolment:
    """Embed all images of the data's split, batch by batch as ``fit`` does; InputError if too many are unreadable."""
    enrolment, encoder = Enrolment(), retriever.encoder
    own = ["gallery", encoder.fingerprint, encoder.arithmetic, retriever.mirror]

    @torch.inference_mode()
    def embed(pixels: torch.Tensor) -> _Arrays:
        vectors = encode_images(encoder, pixels.to(retriever.device), mirror=retriever.mirror)
        return _Arrays.of(vectors.float().cpu().numpy())

    for batch in data.gallery_loader(encoder.preprocess):
        if batch.labels:
            name = digest(own, list(batch.pixels.shape), batch.pixels.numpy())
            fits = partial(_has_shapes, shapes=([len(batch.pixels), encoder.dim],))
            kept = cache.get(name, _Arrays, partial(embed, batch.pixels), fits=fits)
            (vectors,) = kept.arrays()
            enrolment.add(torch.from_numpy(vectors), batch.labels, batch.paths, batch.augs)
            enrolment.colours.append(batch.colours.numpy())
    data.settle()
    return enrolment


def gallery_of(retriever: SceneRetriever, enrolment: Enrolment, plan: EnrolmentConfig) -> Gallery:
    """Make the gallery that ``fit`` builds of whole images, or labelled boxes, by this plan."""
    images = list(dict.fromkeys((label, path) for label, path, _ in enrolment.rows))
    sampled = {images[number] for number in sample_candidates(images, plan)}
    kept = [number for number, (label, path, _) in enumerate(enrolment.rows) if (label, path) in sampled]
    some = Enrolment()
    some.rows = [enrolment.rows[number] for number in kept]
    some.vectors = [np.concatenate(enrolment.vectors)[kept]]
    some.colours = [np.concatenate(enrolment.colours)[kept]]
    note = {"encoder": dict(retriever.encoder.recipe), "mirror": retriever.mirror}
    built = some.build(retriever.encoder.fingerprint, "exact", plan, note)
    rows = Rows(list(built.rows), built.vectors, some.colours_of(built.rows))
    rows, noted = without_suspects(rows, built.note) if plan.suspects else (rows, built.note)
    heads = compare_rules(rows.vectors, rows.rows, frame_runs(rows.rows, rows.colours), rows.colours)
    return settled_gallery(built, rows, {**noted, "heads": heads}, retriever.aim, "exact")


def analyzer_of(
    retriever: SceneRetriever, gallery: Gallery, cache: ResultCache, valid: SceneDataset | None
) -> SceneAnalyzer:
    """Return the analyzer of a cell; validation scenes, if any, choose its thresholds as ``validate`` does."""

    def over(found: Gallery) -> SceneAnalyzer:
        return retriever.analyzer_over(found, lambda *args, **kwargs: CachedAnalyzer(cache, *args, **kwargs))

    kind = choose_kind(retriever.index, len(gallery))
    indexed = Gallery(gallery.content, VectorIndex.build(kind, gallery.vectors, gallery.content.ids))
    analyzer = over(indexed)
    pairs = (
        [] if valid is None else [retriever.scores_of(one, item.truth or ()) for item, one in _named(analyzer, valid)]
    )
    regions, names = ([score for pair in pairs for score in pair[side]] for side in (0, 1))
    if not regions:
        return analyzer
    chosen = thresholds_from(names, analyzer.decision, retriever.aim, regions, retriever.embedding)
    return over(indexed.with_thresholds(chosen))


def _named(analyzer: SceneAnalyzer, scenes: SceneDataset) -> Iterable[tuple[SceneItem, ScenePrediction]]:
    return (pair for item in scenes for pair in analyze_items(analyzer, [item]))


def scenes_digest(scenes: SceneDataset) -> str:
    """Hash the images and the ground truth of scenes."""
    parts: list[object] = []
    for item in scenes:
        truth = [(one.box, one.label) for one in item.truth or ()]
        parts += [item.scene, truth, item.error if item.image is None else digest(item.image)]
    return digest(*parts)


def measure_cell(analyzer: SceneAnalyzer, scenes: SceneDataset) -> dict[str, SceneSums]:
    """Name the scenes, and return what each contributes to the figures of ``evaluate`` and of the overlays."""
    truth: dict[str, Sequence[LabelledBox]] = {}
    found: dict[str, Sequence[LabelledBox]] = {}
    shown: dict[str, Sequence[LabelledBox]] = {}
    for item, prediction in _named(analyzer, scenes):
        truth[item.scene], found[item.scene] = item.truth or (), labelled_boxes(prediction, named=False)
        drawn = choose_for_overlay(prediction, analyzer.overlay)
        shown[item.scene] = labelled_boxes(prediction, drawn, named=True)
    everything, overlays = evaluate_scenes(truth, found, shown=shown), evaluate_scenes(truth, shown)
    sums: dict[str, SceneSums] = {}
    for one, overlay in zip(everything.scenes, overlays.scenes, strict=True):
        counts = one.counts
        sums[one.scene] = {
            **one.sums(),
            "names_precision": (counts.names_right, counts.names_given),
            "names_recall": (counts.names_right, counts.names_there),
            "shown_accuracy": overlay.sums()["object_accuracy"],
            "shown_precision": overlay.sums()["precision"],
        }
    return sums
