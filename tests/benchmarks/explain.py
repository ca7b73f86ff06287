"""Whether the maps of explained names show what scores are due to, and whether margins tell wrong names better.

``python -m benchmarks.explain RUNS SCENES`` names the true objects of scenes (masks of ``coco.json``, or else the boxes
of ``gt.json``); ``python -m benchmarks.explain RUNS --images DATA`` names the held-out images of a labelled data set,
as ``search`` does. RUNS is what ``naruto_vision.load`` opens. Two figures, each with a 95 % bootstrap interval:

- deletion: what the score loses without the tenth of the patches that a map has hottest, over what it loses without as
  many random ones of the same region, painted over with the region's mean colour or with grey.
- errors: the area under the ROC curve (AUROC) with which score and margin tell right names from wrong ones.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torchmetrics.functional.classification import binary_auroc

import naruto_vision as nv
from benchmarks.exemplars import read_scenes
from benchmarks.real import SPLITS, read_images
from naruto_vision.errors import InputError
from naruto_vision.io.atomic import write_json
from naruto_vision.recognition.explain import (
    covered_patches,
    explain_search,
    hide_patches,
    label_scores,
    patch_slices,
    row_image,
)
from naruto_vision.records import Explanation, Identity, ImageArray, Mask, ScenePrediction, Vectors

SHARE = 0.1  # of the patches that are hidden
RANDOM = 2  # draws of as many random ones
REPLICATES, SEED = 2000, 0
GREY = (128.0, 128.0, 128.0)


class Query(NamedTuple):
    """A named region or image: what was embedded of it, what counts, and how variants are embedded in full."""

    group: str
    identity: Identity
    right: bool
    known: bool
    image: ImageArray
    mask: Mask
    explain: Callable[[], Explanation]
    embed: Callable[[Sequence[ImageArray]], Vectors]


def regions(analyzer: nv.SceneAnalyzer, folder: Path) -> Iterator[Query]:
    """Yield the true objects of scenes."""
    for number, scene in enumerate(read_scenes(folder)):
        height, width = scene.image.shape[:2]
        objects = tuple(scene.objects)
        named = ScenePrediction(str(number), width, height, objects, analyzer.identify(scene.image, objects))
        for index, label in enumerate(scene.labels):
            yield _region(analyzer, scene.image, named, index, label)


def _region(analyzer: nv.SceneAnalyzer, image: ImageArray, named: ScenePrediction, index: int, label: str) -> Query:
    region, who = named.regions[index], named.identities[index]
    x1, y1, x2, y2 = region.box

    def embed(variants: Sequence[ImageArray]) -> Vectors:
        vectors = []
        for variant in variants:
            scene = image.copy()
            scene[y1 : y2 + 1, x1 : x2 + 1] = variant
            vectors.append(analyzer.identify(scene, [region])[0].vector)
        return np.stack([vector for vector in vectors if vector is not None])

    window = np.ascontiguousarray(image[y1 : y2 + 1, x1 : x2 + 1])
    right, known = who.label == label, label in analyzer.gallery.labels
    return Query(
        named.scene, who, right, known, window, region.mask, partial(analyzer.explain, named, index, image), embed
    )


def images(analyzer: nv.SceneAnalyzer, root: Path) -> Iterator[Query]:
    """Yield the held-out images of a data set, each named as ``search`` does."""
    gallery, encoder = analyzer.gallery, analyzer.encoder
    read = partial(row_image, gallery.folder, gallery.note)

    def embed(variants: Sequence[ImageArray]) -> Vectors:
        vectors: Vectors = nv.embed_images(encoder, variants, mirror=gallery.mirror).numpy()
        return vectors

    for split in SPLITS:
        for image, row in read_images(root, split):
            (found,) = nv.look_up(gallery, embed([image]), [row.path], "image", decision=analyzer.decision)
            explain = partial(explain_search, found, gallery, encoder, read, image, analyzer.decision)
            who = found.identity
            mask = np.ones(image.shape[:2], np.bool_)
            known = row.label in gallery.labels
            yield Query(row.path, who, who.label == row.label, known, image, mask, explain, embed)


def similarity(encoder: Any, found: Explanation, mask: Mask) -> NDArray[np.float32] | None:
    """Return the best cosine of each patch of a query with the patches of the matched row's image; None without."""
    other = found.images[found.matched]
    if found.image is None or found.heat is None or other is None:
        return None
    cut = np.where(mask[..., None], found.image, 0).astype(np.uint8)
    own, theirs = (nv.dense_map(encoder, each, 1.0) for each in (cut, other))
    best = (own.flatten(0, 1) @ theirs.flatten(0, 1).T).max(dim=1).values.view(1, 1, *own.shape[:2])
    scaled = torch.nn.functional.interpolate(best, found.heat.values.shape, mode="bilinear")
    values: NDArray[np.float32] = scaled[0, 0].cpu().numpy()
    return values


def deletion(analyzer: nv.SceneAnalyzer, query: Query, random: np.random.Generator) -> Mapping[str, float] | None:
    """Return what a query's score loses without the hottest patches of each map, and without random ones."""
    cells, _ = patch_slices(query.image.shape[:2])
    inside = np.array(covered_patches(cells, query.mask))
    count = round(SHARE * len(inside))
    found = query.explain()
    if count < 1 or found.heat is None:
        return None
    maps = {"occlusion": found.heat.values}
    if (alike := similarity(analyzer.encoder, found, query.mask)) is not None:
        maps["patch to patch"] = alike
    chosen = {name: inside[np.argsort(-values.ravel()[inside], kind="stable")[:count]] for name, values in maps.items()}
    chosen |= {f"random {draw}": random.choice(inside, count, replace=False) for draw in range(RANDOM)}
    fills = {"mean": query.image[query.mask].mean(axis=0), "grey": np.array(GREY)}
    hidden = {
        (name, fill): hide_patches(query.image, [cells[at] for at in own], colour)
        for name, own in chosen.items()
        for fill, colour in fills.items()
    }
    vectors = query.embed([query.image, *hidden.values()])
    scores = label_scores(analyzer.gallery, analyzer.decision, query.identity, vectors)
    lost = dict(zip(hidden, (scores[0] - scores[1:]).tolist(), strict=True))
    facts = {f"{name}, {fill}": lost[name, fill] for name in maps for fill in fills}
    return facts | {
        f"random, {fill}": float(np.mean([lost[f"random {draw}", fill] for draw in range(RANDOM)])) for fill in fills
    }


def summarize_deletion(rows: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Return the mean losses, and their ratios to those of random patches, with bootstrap intervals over queries."""
    facts: dict[str, Any] = {"n": len(rows)}
    draws = np.random.default_rng(SEED).integers(0, len(rows), (REPLICATES, len(rows)))
    for name in rows[0]:
        what, fill = name.split(", ")
        own, base = (np.array([row[key] for row in rows]) for key in (name, f"random, {fill}"))
        ratios = own[draws].mean(axis=1) / base[draws].mean(axis=1)
        facts[name] = {"lost": float(own.mean())}
        if what != "random":
            interval = np.percentile(ratios, (2.5, 97.5)).tolist()
            facts[name] |= {"ratio": float(own.mean() / base.mean()), "interval": interval}
    return facts


def summarize_errors(queries: Sequence[Query]) -> dict[str, Any]:
    """Return the AUROC of score and margin for right names, and of their difference, drawn by scene or image."""
    kept = [query for query in queries if query.identity.margin is not None]
    groups: dict[str, list[int]] = {}
    for at, query in enumerate(kept):
        groups.setdefault(query.group, []).append(at)
    right = np.array([query.right for query in kept])
    values = {"score": np.array([query.identity.score for query in kept])}
    values["margin"] = np.array([query.identity.margin for query in kept], np.float64)
    facts: dict[str, Any] = {"n": len(kept), "wrong": int((~right).sum())}
    if right.all() or not right.any():
        return facts
    random, found = np.random.default_rng(SEED), []
    members = list(groups.values())
    for _ in range(REPLICATES):
        drawn = np.concatenate([members[number] for number in random.integers(0, len(members), len(members))])
        if 0 < right[drawn].sum() < len(drawn):
            found.append([_auroc(own[drawn], right[drawn]) for own in values.values()])
    draws = np.array(found)
    for name, own, column in zip(values, values.values(), draws.T, strict=True):
        facts[name] = {"auroc": _auroc(own, right), "interval": np.percentile(column, (2.5, 97.5)).tolist()}
    difference = np.percentile(draws[:, 1] - draws[:, 0], (2.5, 97.5)).tolist()
    facts["difference"] = {"auroc": facts["margin"]["auroc"] - facts["score"]["auroc"], "interval": difference}
    return facts


def _auroc(values: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    scaled = (values - values.min()) / max(float(np.ptp(values)), 1e-12)  # else it takes a sigmoid, which rounds
    return float(binary_auroc(torch.from_numpy(scaled), torch.from_numpy(right).long()))


def measure(analyzer: nv.SceneAnalyzer, queries: Sequence[Query], most: int) -> dict[str, Any]:
    """Return both figures; of ``most`` queries, at even steps, the first."""
    if not queries:
        raise InputError("benchmarks.explain: found no objects")
    random = np.random.default_rng(SEED)
    steps = np.unique(np.linspace(0, len(queries) - 1, min(most, len(queries))).round().astype(int)).tolist()
    rows: list[Mapping[str, float] | None] = []
    with suppress(KeyboardInterrupt):  # Ctrl-C ends it earlier, with what is measured so far
        for at in track(steps, "explaining"):
            rows.append(deletion(analyzer, queries[at], random))  # noqa: PERF401 - kept when it is interrupted
    known = [query for query in queries if query.known]
    return {
        "decision": analyzer.decision,
        "gallery": len(analyzer.gallery),
        "deletion": summarize_deletion([row for row in rows if row is not None]),
        "errors, characters of the gallery": summarize_errors(known),
        "errors, with unknown ones": summarize_errors(queries),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Print the figures, and write them as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.explain")
    parser.add_argument("runs", type=Path)
    parser.add_argument("scenes", type=Path, nargs="?")
    parser.add_argument("--images", type=Path)
    parser.add_argument("--decision", default="auto")
    parser.add_argument("--limit", type=int, default=250, help="explained objects")
    parser.add_argument("--json-out", type=Path, default=Path("runs/explain.json"))
    own = parser.parse_args(argv)
    analyzer = nv.load(own.runs).replaced(decision=own.decision)
    source = images(analyzer, own.images) if own.images else regions(analyzer, own.scenes)
    found = measure(analyzer, list(source), own.limit)
    write_json(own.json_out, found)
    for name, facts in found.items():
        sys.stdout.write(f"{name}: {facts}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
