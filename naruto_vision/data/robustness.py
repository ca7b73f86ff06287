"""How much search and scene analysis lose on corrupted images: rates with intervals for each severity."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from naruto_vision.data.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from naruto_vision.encoders.base import Encoder, embed_pixels, prepared
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.metrics.evaluation import bootstrap_intervals, evaluate_scenes
from naruto_vision.metrics.stats import Rate
from naruto_vision.recognition.analyzer import SceneAnalyzer
from naruto_vision.recognition.lookup import look_up
from naruto_vision.records import ImageArray, LabelledBox
from naruto_vision.viz.overlay import labelled_boxes

CLEAN = "clean"
_CHUNK = 32


@dataclass(frozen=True)
class Measurement:
    """One rate at one severity of one corruption; severity 0 is "clean"."""

    measure: str
    corruption: str
    severity: int
    strength: float
    count: int
    total: int
    low: float | None
    high: float | None

    @property
    def value(self) -> float | None:
        """``count / total`` in [0, 1]."""
        return Rate(self.count, self.total).value

    def as_json(self) -> dict[str, Any]:
        """Return the JSON values of a row."""
        return {**asdict(self), "value": self.value}


def severities(kind: str) -> list[tuple[int, float]]:
    """Return the severities that are measured of a corruption, with their strengths; one for "clean"."""
    return [(0, 0.0)] if kind == CLEAN else list(zip(SEVERITIES, CORRUPTIONS[kind].strengths, strict=True))


def _measurement(measure: str, kind: str, severity: int, strength: float, rate: Rate) -> Measurement:
    low, high = rate.interval or (None, None)
    return Measurement(measure, kind, severity, strength, rate.count, rate.total, low, high)


def name_images(
    gallery: Gallery, encoder: Encoder, images: Iterable[tuple[str, ImageArray]], kind: str, seed: int
) -> Iterator[tuple[str, list[str]]]:
    """Name corrupted images by the gallery, in batches.

    Yields:
        The image's name, and its nearest label at each severity of the corruption.
    """
    waiting = iter(images)
    while chunk := list(islice(waiting, _CHUNK)):
        names, labels = [name for name, _ in chunk], []
        for severity, _ in severities(kind):
            changed = [corrupt(image, kind, severity, name=name, seed=seed) for name, image in chunk]
            pixels = [prepared(encoder.preprocess, image, name) for name, image in zip(names, changed, strict=True)]
            vectors = embed_pixels(encoder, pixels, mirror=gallery.mirror).numpy()
            labels.append([found.identity.label for found in look_up(gallery, vectors, names, "image")])
        yield from zip(names, map(list, zip(*labels, strict=True)), strict=True)


def measure_search(
    answers: Iterable[tuple[str, list[str]]], truth: dict[str, str], kind: str, measure: str = "top-1 accuracy"
) -> list[Measurement]:
    """Count the answers of ``name_images`` that are the true label; the intervals are Wilson's."""
    right = [[label == truth[name] for label in labels] for name, labels in answers]
    steps = severities(kind)
    counts = [sum(row[column] for row in right) for column in range(len(steps))]
    rates = [Rate(count, len(right)) for count in counts]
    return [_measurement(measure, kind, *step, rate) for step, rate in zip(steps, rates, strict=True)]


def measure_scenes(
    analyzer: SceneAnalyzer,
    scenes: Callable[[], Iterable[tuple[str, ImageArray]]],
    truth: dict[str, tuple[LabelledBox, ...]],
    kind: str,
    seed: int,
) -> list[Measurement]:
    """Measure recall and object accuracy of scenes, as ``evaluate`` does.

    Objects of one scene are not independent: the intervals are those of the bootstrap over scenes.
    """
    rows = []
    for severity, strength in severities(kind):
        changed = ((corrupt(image, kind, severity, name=name, seed=seed), name) for name, image in scenes())
        found = {one.scene: labelled_boxes(one, named=False) for one in analyzer.analyze_many(changed)}
        evaluation = evaluate_scenes({name: truth[name] for name in found}, found)
        intervals = bootstrap_intervals(evaluation)
        report = evaluation.report
        named = {"object_accuracy": report.object_accuracy, "recall": report.recall}
        for measure, (figure, rate) in zip(("object accuracy", "recall"), named.items(), strict=True):
            interval = intervals.get(figure)
            low, high = (interval.low, interval.high) if interval else (None, None)
            rows.append(Measurement(measure, kind, severity, strength, rate.count, rate.total, low, high))
    return rows
