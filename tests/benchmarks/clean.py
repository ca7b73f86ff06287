"""What spoilt and mislabelled rows cost a gallery, and what its gates and suspects give back.

``python -m benchmarks.clean [--data DIR ...] [--json-out FILE]`` enrols the synthetic cast (8 characters, 40 images
each), or data sets that ``fit`` reads, with 10, 20 and 40 % of the rows spoilt (blurred, tiny, cut off or grey) or
mislabelled, and names the images of the other splits: by the rule that the clean rows choose, and by the nearest row.
Cleaned is what the gates leave of spoilt rows, and the suspects of mislabelled ones. Every image is embedded twice,
once spoilt.
"""

import argparse
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

import naruto_vision as nv
from naruto_vision.cli.console import show
from naruto_vision.data.corruptions import corrupt
from naruto_vision.data.leaks import frame_runs
from naruto_vision.data.readers import find_split, read_classes
from naruto_vision.data.tables import Split
from naruto_vision.encoders.base import Encoder
from naruto_vision.gallery.quality import failed_gates, measure_quality
from naruto_vision.io.atomic import write_json
from naruto_vision.io.bundles import config_path
from naruto_vision.recognition.decision import Rule
from naruto_vision.recognition.heads import compare_rules, name_rows
from naruto_vision.recognition.suspects import find_suspects
from naruto_vision.records import ImageArray, Vectors
from naruto_vision.synthetic.attributes import read_cast
from naruto_vision.synthetic.dataset import seed_of
from naruto_vision.synthetic.scene import draw_image

SHARES = (0.1, 0.2, 0.4)
KINDS = ("blurred", "tiny", "cut off", "grey")
TRAIN, TEST = 40, 25  # synthetic images of a character
_SHORTER = 224  # pixels: larger images are shrunk before they are spoilt

Named = tuple[ImageArray, nv.GalleryRow]


def spoil(image: ImageArray, kind: str, name: str) -> ImageArray:
    """Spoil an image (H, W, 3), uint8: blur of 5 % of the side, 10 to 16 pixels, 60 to 75 % padding, or no colour."""
    digest = hashlib.sha256(f"{kind}/{name}".encode()).digest()
    rng, (height, width) = np.random.default_rng(np.frombuffer(digest, np.uint32)), image.shape[:2]
    match kind:
        case "blurred":
            return corrupt(image, "blur", 5)
        case "tiny":
            share = float(rng.integers(10, 17)) / min(height, width)
            size = max(1, round(width * share)), max(1, round(height * share))
            small: ImageArray = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
            return small
        case "cut off":
            turns = int(rng.integers(4))
            padded = np.rot90(image, turns).copy()
            gone = round(len(padded) * rng.uniform(0.6, 0.75))
            padded[gone:], padded[:gone] = padded[: len(padded) - gone].copy(), 0
            return np.ascontiguousarray(np.rot90(padded, -turns))
        case _:
            return np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2).astype(np.uint8)


def synthetic_images(split: Split) -> Iterator[Named]:
    """Draw the cast, by its seeds of ``synth``."""
    cast = read_cast(config_path("cast.yaml"))
    for label, who in cast.members.items():
        for number in range(TRAIN if split == "train" else TEST):
            image = draw_image(who, seed_of(7, split, label, number), 192).image
            yield image, nv.GalleryRow(f"{label}-{number}.png", label)


def read_images(root: Path, split: Split) -> Iterator[Named]:
    """Yield the labelled images of a split, shrunk to 224 pixels."""
    table = read_classes(root, split)
    for row in table.rows:
        image = nv.read_image(table.root / row.path)
        share = min(1.0, _SHORTER / min(image.shape[:2]))
        size = (round(image.shape[1] * share), round(image.shape[0] * share))
        yield cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.uint8), nv.GalleryRow(row.path, row.label)


@dataclass(frozen=True)
class Embedded:
    """The rows of a gallery, clean and spoilt, with their qualities, and queries."""

    rows: list[nv.GalleryRow]
    clean: Vectors
    spoilt: Vectors
    qualities: tuple[Vectors, Vectors]
    queries: Vectors
    truth: NDArray[np.object_]


def embed(encoder: Encoder, train: Sequence[Named], test: Sequence[Named]) -> Embedded:
    """Embed the images, each of ``train`` also spoilt in one of four ways, chosen by its path."""
    images, rows = [image for image, _ in train], [row for _, row in train]
    chosen = [KINDS[hashlib.sha256(row.path.encode()).digest()[0] % len(KINDS)] for row in rows]
    bad = [spoil(image, kind, row.path) for image, kind, row in zip(images, chosen, rows, strict=True)]
    vectors = [nv.embed_images(encoder, each, mirror=True).numpy() for each in (images, bad, [one for one, _ in test])]
    qualities = tuple(np.stack([measure_quality(image) for image in each]) for each in (images, bad))
    truth = np.asarray([row.label for _, row in test], dtype=object)
    return Embedded(rows, vectors[0], vectors[1], (qualities[0], qualities[1]), vectors[2], truth)


def cleaned(kind: str, vectors: Vectors, rows: Sequence[nv.GalleryRow], qualities: Vectors) -> NDArray[np.bool_]:
    """Return which rows stay, (N,): the gates leave out spoilt ones, the suspects mislabelled ones."""
    if kind == "spoilt":
        return np.array([not why for why in failed_gates(qualities, [row.label for row in rows])])
    kept = np.ones(len(rows), dtype=np.bool_)
    kept[[one.number for one in find_suspects(vectors, rows)]] = False
    return kept


def right(rules: Sequence[Rule], vectors: Vectors, rows: Sequence[nv.GalleryRow], data: Embedded) -> list[int]:
    """Count the queries that each rule names correctly."""
    labels = [row.label for row in rows]
    return [int((name_rows(rule, None, vectors, labels, data.queries)[0] == data.truth).sum()) for rule in rules]


def measure(data: Embedded, seeds: int) -> dict[str, Any]:
    """Print and return the counts of one set."""
    rule: Rule = compare_rules(data.clean, data.rows, frame_runs(data.rows))["decision"]
    rules: list[Rule] = [rule, "top1"]
    whole = right(rules, data.clean, data.rows, data)
    found: dict[str, Any] = {"rules": rules, "queries": len(data.truth), "rows": len(data.rows), "right": whole}
    show(f"clean: {dict(zip(rules, whole, strict=True))} of {len(data.truth)}")
    for kind in ("spoilt", "mislabelled"):
        kept = cleaned(kind, data.clean, data.rows, data.qualities[0])
        own = [row for row, stays in zip(data.rows, kept, strict=True) if stays]
        found[f"clean, as if {kind}"] = after = {"right": right(rules, data.clean[kept], own, data)}
        after["gone"] = int((~kept).sum())
        show(f"clean rows cleaned as if {kind}: {after['right']} right, {after['gone']} of {len(kept)} rows gone")
    found["damaged"] = []
    show("| rows | share | rule | clean | damaged | cleaned | lost that comes back | damaged found | clean rows gone |")
    for kind in ("spoilt", "mislabelled"):
        for share in SHARES:
            runs = [damaged(data, kind, share, seed, rules) for seed in range(seeds)]
            sums = {key: np.sum([run[key] for run in runs], axis=0).tolist() for key in runs[0]}
            found["damaged"].append({"kind": kind, "share": share, "seeds": seeds, **sums})
            for number, name in enumerate(rules):
                before, bad, good = whole[number] * seeds, sums["damaged"][number], sums["cleaned"][number]
                back = f"{good - bad}/{before - bad}" if before > bad else "nothing lost"
                rows = f"{sums['found']}/{sums['bad']} | {sums['gone']}/{sums['good']}"
                show(f"| {kind} | {share:g} | {name} | {before} | {bad} | {good} | {back} | {rows} |")
    return found


def damaged(data: Embedded, kind: str, share: float, seed: int, rules: Sequence[Rule]) -> dict[str, Any]:
    """Damage a share of the rows, and count right names before and after cleaning, and the rows that go."""
    rng = np.random.default_rng([seed, round(100 * share)])
    bad = np.zeros(len(data.rows), dtype=np.bool_)
    bad[rng.permutation(len(bad))[: round(share * len(bad))]] = True
    vectors, qualities, rows = data.clean, data.qualities[0], list(data.rows)
    if kind == "spoilt":
        vectors = np.where(bad[:, None], data.spoilt, data.clean)
        qualities = np.where(bad[:, None], *data.qualities[::-1])
    else:
        names = sorted({row.label for row in rows})
        for number in np.flatnonzero(bad).tolist():
            others = [name for name in names if name != rows[number].label]
            rows[number] = nv.GalleryRow(rows[number].path, others[int(rng.integers(len(others)))])
    kept = cleaned(kind, vectors, rows, qualities)
    some = [row for row, stays in zip(rows, kept, strict=True) if stays]
    counts = {"bad": int(bad.sum()), "good": int((~bad).sum())}
    counts |= {"found": int((bad & ~kept).sum()), "gone": int((~bad & ~kept).sum())}
    return {
        **counts,
        "damaged": right(rules, vectors, rows, data),
        "cleaned": right(rules, vectors[kept], some, data),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Measure the synthetic cast, or each data set."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.clean")
    parser.add_argument("--data", type=Path, nargs="*", default=[], help="data sets (default: the synthetic cast)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json-out", type=Path)
    options = parser.parse_args(argv)
    torch.set_num_threads(int(os.environ.setdefault("OMP_NUM_THREADS", "1")))
    encoder, document = nv.ClipEnsemble().eval(), dict[str, Any]()
    for root in options.data or [None]:
        if root is None:
            images = list(synthetic_images("train")), list(synthetic_images("test"))
        else:
            others: tuple[Split, ...] = ("valid", "test")
            splits = [split for split in others if find_split(root, split) is not None]
            images = list(read_images(root, "train")), [pair for split in splits for pair in read_images(root, split)]
        show(f"{root or 'synthetic cast'}: {len(images[0])} rows, {len(images[1])} queries")
        document["synthetic" if root is None else root.name] = measure(embed(encoder, *images), options.seeds)
    if options.json_out:
        write_json(options.json_out, document)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
