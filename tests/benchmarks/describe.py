"""How often `AttributeDescriber` is right on the figures of drawn scenes, with their true masks and their true boxes.

`python -m benchmarks.describe` from a checkout, with PYTHONPATH=tests.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np

from naruto_vision.captioning.attributes import AttributeDescriber
from naruto_vision.geometry import shape_of_xyxy
from naruto_vision.io.bundles import config_path
from naruto_vision.metrics.stats import Rate
from naruto_vision.records import Region
from naruto_vision.synthetic.attributes import Attributes, read_cast
from naruto_vision.synthetic.scene import SyntheticObject, draw_scene

GROUPS = {
    "hair colour": "hair_colour",
    "skin": "skin",
    "clothes colour": "top_colour",
    "hair style": "hair_style",
    "clothes": "top",
    "head wear": "head_wear",
    "held thing": "held",
}
"""Group of the vocabulary → attribute, whose value is a word of the right phrase."""
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
    return f"{rate.count}/{rate.total} ({low:.2f} to {high:.2f})" if rate.total else "never"


Parts: TypeAlias = Mapping[str, tuple[str, float]]


def right(found: Sequence[Parts], values: Sequence[str], group: str) -> Rate:
    """Return how often what is said is right, of the figures of which something is said."""
    said = [(parts[group][0], value) for parts, value in zip(found, values, strict=True) if group in parts]
    return Rate(sum(value in phrase.split() for phrase, value in said), len(said))


def row(found: Sequence[Parts], always: Sequence[Parts], truths: Sequence[Attributes], group: str) -> str:
    """Return one row, of the figures that have the attribute."""
    values = [str(getattr(truth, GROUPS[group])) for truth in truths]
    having = [index for index, value in enumerate(values) if value != "none"]
    values = [values[index] for index in having]
    rate = right([found[index] for index in having], values, group)
    whole = right([always[index] for index in having], values, group)
    most = Rate(Counter(values).most_common(1)[0][1], len(values))
    return " | ".join(map(text, (Rate(rate.total, len(values)), rate, whole, most)))


def main(argv: list[str] | None = None) -> int:
    """Draw, describe, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.describe", description=__doc__)
    parser.add_argument("--scenes", type=int, default=150)
    count = parser.parse_args(argv).scenes
    cast = read_cast(config_path("cast.yaml"))
    ways = {"mask": cut_out, "box": whole_box}
    found: dict[str, list[Parts]] = {kind: [] for kind in ways}
    always: dict[str, list[Parts]] = {kind: [] for kind in ways}
    truths: list[Attributes] = []
    with AttributeDescriber() as describer, AttributeDescriber() as bold:
        for group in bold.vocabulary.groups.values():
            group.margin = 0.0
        for seed in range(FIRST_SEED, FIRST_SEED + count):
            scene = draw_scene(seed, cast, unknowns_only=True)
            truths += [figure.attributes for figure in scene.objects]
            for kind, region in ways.items():
                items = [(scene.image, region(figure)) for figure in scene.objects]
                found[kind] += [each.parts for each in describer.describe(items)]
                always[kind] += [each.parts for each in bold.describe(items)]
    lines = [
        "| group | region | said | right of those | right if always said | most frequent value |",
        "|---" * 6 + "|",
    ]
    lines += [
        f"| {group} | {kind} | {row(found[kind], always[kind], truths, group)} |" for group in GROUPS for kind in ways
    ]
    sys.stdout.write("\n".join([*lines, f"{len(truths)} figures"]) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
