"""mIoU of masks against the drawn figures of scenes, by what the model is asked with: boxes, points, refined, a grid.

Run ``PYTHONPATH=tests python -m benchmarks.prompts --scenes 64``. A kind of prompt is a function of ``Question`` in
``KINDS``; one that asks once for a whole scene returns what ``best_of`` makes of its regions.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple, TypeAlias, get_args

import numpy as np
import torch
from numpy.typing import NDArray

import naruto_vision as nv
from naruto_vision.data.masks import box_around, point_in
from naruto_vision.io.bundles import config_path
from naruto_vision.metrics.stats import Rate, bootstrap_ratios
from naruto_vision.prompting.saliency import SaliencyMode, SaliencyPrompter
from naruto_vision.prompting.session import PromptSession
from naruto_vision.prompting.sweep import SweepConfig, SweepSegmenter
from naruto_vision.records import Mask
from naruto_vision.segmentation.generator import RegionFilter, Segmenter
from naruto_vision.segmentation.protocol import PromptableModel, SceneEmbedding
from naruto_vision.segmentation.training import correcting_clicks
from naruto_vision.synthetic.attributes import read_cast
from naruto_vision.synthetic.scene import Difficulty, SyntheticScene, draw_scene

FIRST_SEED = 9_100_000  # of the scenes; neither training nor thresholds have seen them
FOUND = 0.5  # IoU from which on a figure counts as found
_POINTS = 3
_REPLICATES = 2000


class Question(NamedTuple):
    """A scene with its embedding, three points on each figure, and random numbers."""

    scene: SyntheticScene
    model: PromptableModel
    embedding: SceneEmbedding
    points: list[list[tuple[float, float]]]
    seed: int

    def session(self) -> PromptSession:
        return PromptSession(self.scene.image, self.model, embedding=self.embedding)


class Answer(NamedTuple):
    """The mask (H, W), bool, of each figure, None where there is none, and how many regions there were in all."""

    masks: list[Mask | None]
    regions: int


Kind: TypeAlias = Callable[[Question], Answer]


def _each(question: Question, ask: Callable[[PromptSession, int], None], *, refine: bool = False) -> Answer:
    """Ask for each figure apart, by what ``ask`` adds to its session."""
    masks: list[Mask | None] = []
    for index in range(len(question.scene.objects)):
        session = question.session()
        ask(session, index)
        region = (session.refine() if refine else session.predict()).mask.region
        masks.append(None if region is None else region.full_mask(*session.size))
    return Answer(masks, len(masks))


def by_points(count: int, *, refine: bool = False) -> Kind:
    """Ask with the first points of each figure."""

    def ask(question: Question) -> Answer:
        def add(session: PromptSession, index: int) -> None:
            for point in question.points[index][:count]:
                session.add_point(*point)

        return _each(question, add, refine=refine)

    return ask


def by_correction(count: int = 1, *, previous: bool) -> Kind:
    """Ask with one point, then also click where the mask is wrong, with or without the mask itself as a prompt."""

    def ask(question: Question) -> Answer:
        masks: list[Mask | None] = []
        for figure, points in zip(question.scene.objects, question.points, strict=True):
            session = question.session()
            session.add_point(*points[0])
            for _ in range(count):
                mask = _full(session.predict().mask.region, session.size)
                clicks, kinds = correcting_clicks(*(torch.from_numpy(each)[None] for each in (mask, figure.mask)))
                if previous:
                    session.refine()
                if kinds.item() >= 0:
                    session.add_point(*clicks[0, 0].tolist(), bool(kinds.item()))
            masks.append(_full(session.predict().mask.region, session.size))
        return Answer(masks, len(masks))

    return ask


def _full(region: nv.Region | None, size: tuple[int, int]) -> Mask:
    return np.zeros(size, np.bool_) if region is None else region.full_mask(*size)


def by_box(*, grow: float = 0.0, jitter: float = 0.0, refine: bool = False) -> Kind:
    """Ask with the box of each figure, larger by a fraction of its sides, and each edge moved by up to another one."""

    def ask(question: Question) -> Answer:
        rng = np.random.default_rng(question.seed)

        def add(session: PromptSession, index: int) -> None:
            height, width = session.size
            x1, y1, x2, y2 = box_around(question.scene.objects[index].mask, rng, jitter).tolist()
            dx, dy = (x2 - x1) * grow / 2, (y2 - y1) * grow / 2
            session.set_box(max(0, x1 - dx), max(0, y1 - dy), min(width, x2 + dx), min(height, y2 + dy))

        return _each(question, add, refine=refine)

    return ask


def by_grid(points_per_side: int = 16) -> Kind:
    """Ask for everything from a grid."""

    def ask(question: Question) -> Answer:
        keep = RegionFilter(min_area=0, max_masks=None)
        segmenter = Segmenter(nv.GridPrompter(points_per_side), question.model, keep=keep)
        return best_of(segmenter(question.scene.image, question.embedding), question.scene)

    return ask


def by_sweep(config: SweepConfig | None = None) -> Kind:
    """Ask point after point, ignoring what is covered."""

    def ask(question: Question) -> Answer:
        segmenter = SweepSegmenter(question.model, sweep=config)
        return best_of(segmenter.sweep(question.scene.image, question.embedding).regions, question.scene)

    return ask


def by_saliency(**settings: Any) -> Kind:
    """Ask for the salient objects of the scene."""

    def ask(question: Question) -> Answer:
        mode = SaliencyMode(SaliencyPrompter(**settings), question.model, visualize=False)
        return best_of(mode(question.scene.image).regions, question.scene)

    return ask


def by_example(kind: str) -> Kind:
    """Ask with the patches of other drawings of the cast (``benchmarks.exemplars``), or with a text of each figure."""

    def ask(question: Question) -> Answer:
        scene = question.scene
        return best_of(_example_way(kind, question.model, len(scene.image))(scene).regions, scene)

    return ask


@cache
def _example_way(kind: str, model: PromptableModel, size: int) -> Callable[[SyntheticScene], Any]:
    from benchmarks import exemplars  # it imports this module

    if kind == "text":
        return exemplars.by_description(model)
    prompter = nv.ExemplarPrompter(exemplars.teach(kind, size), prompt_type="point")
    return exemplars.by_mode(nv.ExemplarMode(prompter, model, visualize=False))


def best_of(regions: Sequence[nv.Region], scene: SyntheticScene) -> Answer:
    """Give each figure the region that is most like it."""
    height, width = scene.image.shape[:2]
    whole = [region.full_mask(height, width) for region in regions]
    masks = [max(whole, key=lambda mask: iou(mask, figure.mask), default=None) for figure in scene.objects]
    return Answer(masks, len(regions))


KINDS: dict[str, Kind] = {
    "box": by_box(),
    "1 point": by_points(1),
    "3 points": by_points(3),
    "box, refined": by_box(refine=True),
    "1 point, refined": by_points(1, refine=True),
    "1 point, 1 correction": by_correction(previous=False),
    "1 point, 1 correction, with the mask": by_correction(previous=True),
    "1 point, 3 corrections, with the mask": by_correction(3, previous=True),
    "box, edges moved by up to 10 %": by_box(jitter=0.1),
    "box, 10 % larger": by_box(grow=0.1),
    "box, 20 % larger": by_box(grow=0.2),
    "box, 10 % smaller": by_box(grow=-0.1),
    "box, 20 % smaller": by_box(grow=-0.2),
    "saliency": by_saliency(),
    "saliency, points": by_saliency(prompt_type="point"),
    "exemplars: 3 masks of each, points": by_example("masks"),
    "text: hair and clothes of each figure": by_example("text"),
    "sweep": by_sweep(),
    "grid of 16 x 16": by_grid(),
}

PAIRS = (
    ("box", "1 point"),
    ("3 points", "1 point"),
    ("box, refined", "box"),
    ("1 point, refined", "1 point"),
    ("1 point, 1 correction, with the mask", "1 point"),
    ("1 point, 1 correction, with the mask", "1 point, 1 correction"),
    ("1 point, 3 corrections, with the mask", "1 point, 1 correction, with the mask"),
)
"""Kinds whose difference is printed."""


def iou(first: Mask, second: Mask) -> float:
    """IoU of two masks (H, W), bool; 0 if both are empty."""
    union = np.count_nonzero(first | second)
    return np.count_nonzero(first & second) / union if union else 0.0


class Measured(NamedTuple):
    """The IoU of every figure of the scenes, one array for each scene, its difficulty, and the regions asked for."""

    ious: list[NDArray[np.float64]]
    regions: int
    seconds: float


class Study(NamedTuple):
    """What all kinds were measured on, and what they gave."""

    difficulties: list[Difficulty]
    kinds: dict[str, Measured]


def measure(model: PromptableModel, kinds: Sequence[str], scenes: int, size: int = 384) -> Study:
    """Ask about the figures of drawn scenes with every kind; all kinds see the same points and boxes."""
    cast = read_cast(config_path("cast.yaml"))
    found = {kind: Measured([], 0, 0.0) for kind in kinds}
    difficulties: list[Difficulty] = []
    for number in range(scenes):
        scene = draw_scene(FIRST_SEED + number, cast, size=size)
        rng, embedding = np.random.default_rng(number), model.embed(scene.image)
        points = [[_position(one.mask, rng) for _ in range(_POINTS)] for one in scene.objects]
        question = Question(scene, model, embedding, points, number)
        difficulties.append(scene.difficulty)
        for kind in kinds:
            start = time.process_time()
            answer = KINDS[kind](question)
            seconds = found[kind].seconds + time.process_time() - start
            pairs = zip(answer.masks, scene.objects, strict=True)
            ious = [0.0 if mask is None else iou(mask, figure.mask) for mask, figure in pairs]
            found[kind].ious.append(np.array(ious))
            found[kind] = found[kind]._replace(regions=found[kind].regions + answer.regions, seconds=seconds)
    return Study(difficulties, found)


def _position(mask: Mask, rng: np.random.Generator) -> tuple[float, float]:
    x, y = point_in(mask, rng).tolist()
    return x, y


def mean_and_interval(values: Sequence[NDArray[np.float64]]) -> tuple[float, float, float]:
    """Return the mean over all figures, and its 95 % interval by a bootstrap over scenes."""
    table = np.array([[[one.sum()], [len(one)]] for one in values], dtype=np.float64)
    (interval,) = bootstrap_ratios(table, _REPLICATES, 0)
    mean = float(np.concatenate(values).mean())
    return (mean, interval.low, interval.high) if interval else (mean, mean, mean)


def difference(study: Study, better: str, worse: str) -> tuple[float, float, float]:
    """Return the mean difference of the IoU of two kinds, figure by figure, and its interval."""
    pairs = zip(study.kinds[better].ious, study.kinds[worse].ious, strict=True)
    return mean_and_interval([first - second for first, second in pairs])


def main(argv: list[str] | None = None) -> int:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.prompts", description="mIoU by kind of prompt.")
    parser.add_argument("--scenes", type=int, default=64, help="(default: 64)")
    parser.add_argument("--weights", default="tiny-sam", help="promptable model (default: tiny-sam)")
    names = list(KINDS)
    parser.add_argument("--kinds", nargs="+", default=names, choices=names, metavar="KIND", help="(default: all)")
    arguments = parser.parse_args(argv)
    study = measure(nv.SamModel(weights=arguments.weights).eval(), arguments.kinds, arguments.scenes)
    figures = sum(map(len, next(iter(study.kinds.values())).ious))
    levels = get_args(Difficulty)
    lines = [f"{arguments.weights}, {figures} figures of {arguments.scenes} scenes", ""]
    heads = ["prompt", "mIoU", f"found (IoU >= {FOUND:g})", "regions a scene", "CPU ms a scene", *levels]
    lines.append(f"| {' | '.join(heads)} |")
    lines.append("|---" * len(heads) + "|")
    for kind, one in study.kinds.items():
        mean, low, high = mean_and_interval(one.ious)
        right = int((np.concatenate(one.ious) >= FOUND).sum())
        share = Rate(right, figures).interval or (0.0, 0.0)
        cells = [f"{mean:.3f} [{low:.3f}, {high:.3f}]", f"{right}/{figures} [{share[0]:.3f}, {share[1]:.3f}]"]
        cells += [f"{one.regions / arguments.scenes:.1f}", f"{one.seconds / arguments.scenes * 1e3:.0f}"]
        for level in levels:
            pairs = zip(one.ious, study.difficulties, strict=True)
            own = np.concatenate([np.zeros(0), *(ious for ious, other in pairs if other == level)])
            cells.append(f"{own.mean():.3f} ({len(own)})" if len(own) else "-")
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    for pair in PAIRS:
        if study.kinds.keys() >= set(pair):
            mean, low, high = difference(study, *pair)
            lines.append(f"{pair[0]} minus {pair[1]}: {mean:+.3f} [{low:+.3f}, {high:+.3f}]")
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
