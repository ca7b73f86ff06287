"""How often `AttributeDescriber` is right on the figures of drawn scenes, with their true masks and their true boxes.

`python -m benchmarks.describe` from a checkout, with PYTHONPATH=tests.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from naruto_vision.captioning.attributes import AttributeDescriber
from naruto_vision.geometry import shape_of_xyxy
from naruto_vision.io.bundles import config_path
from naruto_vision.metrics.stats import Rate
from naruto_vision.records import Region
from naruto_vision.synthetic.attributes import Attributes, read_cast
from naruto_vision.synthetic.scene import SyntheticObject, draw_scene

GROUPS = {"hair colour": "hair_colour", "skin": "skin", "clothes colour": "top_colour"}
"""Group of the vocabulary whose phrases begin with the value → attribute. Others are said rarely or never."""
FIRST_SEED = 910_000  # no training or validation scene; the margins were chosen on those from 900,000 on


def whole_box(figure: SyntheticObject) -> Region:
    """Return the box of a figure as a region."""
    return Region(figure.box, np.ones(shape_of_xyxy(figure.box), bool))


def cut_out(figure: SyntheticObject) -> Region:
    """Return the visible pixels of a figure as a region."""
    x1, y1, x2, y2 = figure.box
    return Region(figure.box, figure.mask[y1 : y2 + 1, x1 : x2 + 1])


def text(rate: Rate) -> str:
    """Return a rate with its counts and its interval."""
    low, high = rate.interval or (0.0, 1.0)
    return f"{rate.count}/{rate.total} ({low:.2f} to {high:.2f})"


def row(found: Sequence[Mapping[str, tuple[str, float]]], truths: Sequence[Attributes], group: str) -> str:
    """Return one row: how often a phrase is said, how often it is right, and the most frequent value's rate."""
    values = [str(getattr(truth, GROUPS[group])) for truth in truths]
    said = [(parts[group][0].split()[0], value) for parts, value in zip(found, values, strict=True) if group in parts]
    right = Rate(sum(word == value for word, value in said), len(said))
    most = Rate(Counter(values).most_common(1)[0][1], len(values))
    return f"{text(Rate(len(said), len(values)))} | {text(right)} | {text(most)}"


def main(argv: list[str] | None = None) -> int:
    """Draw, describe, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.describe", description=__doc__)
    parser.add_argument("--scenes", type=int, default=150)
    count = parser.parse_args(argv).scenes
    cast = read_cast(config_path("cast.yaml"))
    found: dict[str, list[Mapping[str, tuple[str, float]]]] = {"mask": [], "box": []}
    truths: list[Attributes] = []
    with AttributeDescriber() as describer:
        for seed in range(FIRST_SEED, FIRST_SEED + count):
            scene = draw_scene(seed, cast, unknowns_only=True)
            for kind, region in (("mask", cut_out), ("box", whole_box)):
                items = [(scene.image, region(figure)) for figure in scene.objects]
                found[kind] += [each.parts for each in describer.describe(items)]
            truths += [figure.attributes for figure in scene.objects]
    lines = ["| group | region | said | right of those | most frequent value |", "|---|---|---|---|---|"]
    lines += [f"| {group} | {kind} | {row(found[kind], truths, group)} |" for group in GROUPS for kind in found]
    others = Counter(group for parts in found["mask"] for group in parts if group not in GROUPS)
    sys.stdout.write("\n".join([*lines, f"{len(truths)} figures; other groups said: {dict(others)}"]) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
