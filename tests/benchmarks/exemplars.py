"""Exemplars and texts as prompts on drawn scenes, and vectors of regions by crops or by one pass over the scene.

``python -m benchmarks.exemplars prompts`` prints the recall of figures and the prompts that each needs.
``python -m benchmarks.exemplars embedding SCENES --root DATA`` enrols the training split of DATA and names the true
boxes (or masks of ``coco.json``) of the scenes, and the regions of tiny-sam.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, get_args

import numpy as np

import naruto_vision as nv
from benchmarks.prompts import FIRST_SEED, FOUND, iou
from naruto_vision.data.ground_truth import read_gt
from naruto_vision.geometry import inclusive_iou_matrix, mask_from_rle, xyxy_from_mask
from naruto_vision.io.bundles import config_path
from naruto_vision.metrics.stats import wilson_interval
from naruto_vision.prompting.saliency import PromptType
from naruto_vision.records import Box, ImageArray, Mask
from naruto_vision.segmentation.protocol import PromptableModel
from naruto_vision.synthetic.attributes import read_cast
from naruto_vision.synthetic.captions import aliases
from naruto_vision.synthetic.scene import SyntheticScene, draw_image, draw_scene

if TYPE_CHECKING:
    from naruto_vision.segmentation.crops import Embedding

TEACHING_SEED = 9_200_000  # of the scenes and images that the exemplars come from
_EACH = {"masks": 3, "boxes": 3, "images": 10}


class Asked(NamedTuple):
    """What a way of prompting gives for a scene: regions with their labels, and the number of prompts."""

    regions: Sequence[nv.Region]
    labels: Sequence[str]
    prompts: int


Way: TypeAlias = Callable[[SyntheticScene], Asked]


def teach(kind: str, size: int) -> list[nv.Exemplar]:
    """Draw exemplars of every member of the cast: figures of scenes by mask or box, or images of one figure."""
    cast, found, number = read_cast(config_path("cast.yaml")), dict[str, list[nv.Exemplar]](), TEACHING_SEED
    if kind == "images":
        return [
            nv.Exemplar(draw_image(attributes, TEACHING_SEED + seed, size // 2).image, name)
            for name, attributes in cast.members.items()
            for seed in range(_EACH[kind])
        ]
    while any(len(found.get(name, [])) < _EACH[kind] for name in cast.members):
        scene, number = draw_scene(number, cast, size=size), number + 1
        for figure in scene.objects:
            if figure.label is not None:
                mask, box = (figure.mask, None) if kind == "masks" else (None, figure.box)
                found.setdefault(figure.label, []).append(nv.Exemplar(scene.image, figure.label, box, mask))
    return [each for own in found.values() for each in own[: _EACH[kind]]]


def by_mode(mode: nv.ExemplarMode) -> Way:
    """Ask once for everything."""

    def ask(scene: SyntheticScene) -> Asked:
        found = mode(scene.image)
        return Asked(found.regions, [facts["label"] for facts in found.region_facts], found.facts["prompts"])

    return ask


def by_description(model: PromptableModel, prompt_type: PromptType = "box") -> Way:
    """Ask for each figure by a description of its hair and clothes, and take the first region."""
    clip = nv.ClipEncoder("tiny-clip").eval()

    def ask(scene: SyntheticScene) -> Asked:
        regions, labels, prompts = list[nv.Region](), list[str](), 0
        for figure in scene.objects:
            prompter = nv.TextPrompter([aliases(figure.attributes)[0]], clip, prompt_type=prompt_type)
            found = nv.ExemplarMode(prompter, model, visualize=False)(scene.image)
            prompts += found.facts["prompts"]
            regions += found.regions[:1]
            labels += [figure.label or ""] * len(found.regions[:1])
        return Asked(regions, labels, prompts)

    return ask


def by_grid(model: nv.SamModel) -> Way:
    """Ask for everything from a grid."""
    segmenter = nv.Segmenter(nv.GridPrompter(16), model)

    def ask(scene: SyntheticScene) -> Asked:
        regions = segmenter(scene.image)
        return Asked(regions, [""] * len(regions), 256)

    return ask


def ways(model: nv.SamModel, size: int) -> Iterator[tuple[str, Way]]:
    """Yield each way of prompting with its name."""
    for kind, count in _EACH.items():
        for prompt_type in get_args(PromptType):
            prompter = nv.ExemplarPrompter(teach(kind, size), prompt_type=prompt_type)
            name = f"{count} {kind} of each, prompts: {prompt_type}"
            yield name, by_mode(nv.ExemplarMode(prompter, model, visualize=False))
    cast = read_cast(config_path("cast.yaml"))
    texts = {aliases(attributes)[0]: name for name, attributes in cast.members.items()}
    every = by_mode(nv.ExemplarMode(nv.TextPrompter(list(texts)), model, visualize=False))

    def named(scene: SyntheticScene) -> Asked:
        found = every(scene)
        return found._replace(labels=[texts[label] for label in found.labels])

    yield "texts of the cast, all at once", named
    yield "the text of each figure, first region", by_description(model)
    yield "grid of 16 x 16", by_grid(model)


def measure_prompts(scenes: int, size: int) -> Iterator[str]:
    """Yield the lines of a table in Markdown."""
    cast = read_cast(config_path("cast.yaml"))
    drawn = [draw_scene(FIRST_SEED + number, cast, size=size) for number in range(scenes)]
    figures = [len(scene.objects) for scene in drawn]
    yield f"{sum(figures)} figures of {scenes} scenes"
    heads = ("prompts from", "figures found (mask IoU 0.5)", "of cast figures found, named right")
    yield f"| {' | '.join((*heads, 'prompts a figure', 'regions a figure', 'CPU ms a scene'))} |"
    yield "|---" * 6 + "|"
    for name, ask in ways(nv.SamModel(weights="tiny-sam").eval(), size):
        found, right, cast_found, prompts, regions, start = 0, 0, 0, 0, 0, time.process_time()
        for scene in drawn:
            asked = ask(scene)
            masks = [region.full_mask(size, size) for region in asked.regions]
            prompts, regions = prompts + asked.prompts, regions + len(masks)
            for figure in scene.objects:
                overlaps = [iou(mask, figure.mask) for mask in masks]
                if max(overlaps, default=0.0) >= FOUND:
                    found += 1
                    cast_found += figure.label is not None
                    right += asked.labels[int(np.argmax(overlaps))] == figure.label
        took = (time.process_time() - start) / scenes * 1e3
        cells = [rate(found, sum(figures)), rate(right, cast_found) if "grid" not in name else "-"]
        cells += [f"{prompts / sum(figures):.1f}", f"{regions / sum(figures):.2f}", f"{took:.0f}"]
        yield f"| {name} | {' | '.join(cells)} |"


def rate(count: int, total: int) -> str:
    """Write a rate with its 95 % Wilson interval."""
    low, high = wilson_interval(count, total)
    return f"{count}/{total} = {count / total:.3f} [{low:.3f}, {high:.3f}]"


class Scene(NamedTuple):
    """A scene with its true objects, as regions, and their labels."""

    image: ImageArray
    objects: list[nv.Region]
    labels: list[str]


def read_scenes(folder: Path) -> Iterator[Scene]:
    """Read scenes with the masks of ``coco.json``, or else the boxes of ``gt.json``."""
    file = folder / "coco.json"
    if file.is_file():
        coco = json.loads(file.read_text(encoding="utf-8"))
        names = {each["id"]: each["name"] for each in coco["categories"]}
        for image in coco["images"]:
            own = [each for each in coco["annotations"] if each["image_id"] == image["id"]]
            regions = [_region(mask_from_rle(each["segmentation"])) for each in own]
            labels = [names[each["category_id"]] for each in own]
            yield Scene(nv.read_image(folder / "images" / image["file_name"]), regions, labels)
        return
    for name, boxes in sorted(read_gt(folder / "gt.json").items()):
        regions = [_full(each.box) for each in boxes]
        yield Scene(nv.read_image(folder / "images" / name), regions, [each.label for each in boxes])


def _region(mask: Mask) -> nv.Region:
    box = xyxy_from_mask(mask) or (0, 0, 0, 0)
    return nv.Region(box, np.ascontiguousarray(mask[box[1] : box[3] + 1, box[0] : box[2] + 1]))


def _full(box: Box) -> nv.Region:
    return nv.Region(box, np.ones((box[3] - box[1] + 1, box[2] - box[0] + 1), np.bool_))


def measure_embedding(folder: Path, root: Path) -> Iterator[str]:
    """Yield the lines of a table in Markdown."""
    scenes = list(read_scenes(folder))
    segmenter = nv.Segmenter(nv.GridPrompter(16), nv.SamModel(weights="tiny-sam").eval())
    segmented = [segmenter(scene.image) for scene in scenes]
    regions = sum(map(len, segmented)) / len(scenes)
    yield f"{len(scenes)} scenes, {sum(len(scene.objects) for scene in scenes)} objects, {regions:.1f} regions a scene"
    yield "| encoder | embedding | true objects named right | CPU ms a scene | regions of tiny-sam | CPU ms a scene |"
    yield "|---" * 6 + "|"
    encoders = (nv.ClipEncoder("tiny-clip"), nv.TimmEncoder(), nv.ClipEnsemble("tiny-clip"))
    with tempfile.TemporaryDirectory() as temporary:
        for number, encoder in enumerate(encoders):
            gallery = nv.enrol(root, encoder, Path(temporary) / str(number))
            ways: tuple[Embedding, ...] = ("crops",) if isinstance(encoder, nv.ClipEncoder) else ("crops", "dense")
            for embedding in ways:
                grey = [nv.CropConfig(background=128)]
                analyzer = nv.SceneAnalyzer(segmenter, encoder, gallery, more_crops=grey, embedding=embedding)
                objects, labels = [scene.objects for scene in scenes], [scene.labels for scene in scenes]
                cells = [*_named(analyzer, scenes, objects, labels), *_named(analyzer, scenes, segmented, labels)]
                yield f"| {type(encoder).__name__} | {embedding} | {' | '.join(cells)} |"


def _named(
    analyzer: nv.SceneAnalyzer,
    scenes: Sequence[Scene],
    regions: Sequence[Sequence[nv.Region]],
    labels: Sequence[Sequence[str]],
) -> tuple[str, str]:
    """Name regions, and count the known objects that the most similar region names right."""
    right, total, start = 0, 0, time.process_time()
    found = [analyzer.identify(scene.image, own) for scene, own in zip(scenes, regions, strict=True)]
    took = (time.process_time() - start) / len(scenes) * 1e3
    for scene, own, identities, names in zip(scenes, regions, found, labels, strict=True):
        overlaps = inclusive_iou_matrix([each.box for each in scene.objects], [each.box for each in own])
        for row, name in zip(overlaps, names, strict=True):
            if name in analyzer.gallery.labels:
                total += 1
                right += bool(row.size and row.max() >= FOUND and identities[int(row.argmax())].label == name)
    return rate(right, total), f"{took:.0f}"


def main(argv: Sequence[str] | None = None) -> int:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.exemplars")
    commands = parser.add_subparsers(dest="what", required=True)
    prompts = commands.add_parser("prompts")
    prompts.add_argument("--scenes", type=int, default=40)
    prompts.add_argument("--size", type=int, default=384)
    embedding = commands.add_parser("embedding")
    embedding.add_argument("scenes", type=Path)
    embedding.add_argument("--root", type=Path, required=True)
    own = parser.parse_args(argv)
    lines = measure_prompts(own.scenes, own.size) if own.what == "prompts" else measure_embedding(own.scenes, own.root)
    for line in lines:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
