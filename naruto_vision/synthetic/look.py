"""Pose, expression, proportions and drawing style of one drawing."""

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, get_args

import numpy as np

from naruto_vision.synthetic.palette import between
from naruto_vision.synthetic.raster import Shading

Expression: TypeAlias = Literal["calm", "happy", "laughing", "angry", "sad", "surprised"]

_SHADINGS: tuple[Shading, ...] = ("cel", "cel", "cel", "soft", "soft", "flat", "tone")


@dataclass(frozen=True)
class Look:
    """Pose, expression and style of one drawing; angles are in degrees, lengths in head units."""

    height: float = 0.5  # 0 is a chibi of two and a half heads, 1 a figure of four
    lean: float = 0.0  # of the whole figure
    tilt: float = 0.0  # of the head
    facing: float = 0.0  # how far the face looks aside, in [-1, 1]
    flip: bool = False
    arms: tuple[float, float, float, float] = (20.0, 10.0, 20.0, 10.0)  # back upper and lower, front upper and lower
    legs: tuple[float, float] = (6.0, 6.0)
    expression: Expression = "calm"
    line: float = 0.02  # line width as a fraction of the head's width; 0 draws no lines
    line_share: float = 1.0  # how dark the lines are, in [0, 1]
    shading: Shading = "cel"
    light: tuple[float, float] = (-0.06, -0.09)  # direction towards the light (x, y), y down
    hue: float = 0.0  # rotation of all colours
    sway: float = 0.0  # how far loose hair and cloth swing, in [-1, 1]


def in_style(look: Look, style: Look) -> Look:
    """Return a look drawn by the same hand as another."""
    same = {name: getattr(style, name) for name in ("line", "line_share", "shading", "light", "hue")}
    return replace(look, **same)


def _arm(rng: np.random.Generator) -> tuple[float, float]:
    match int(rng.integers(5)):
        case 0 | 1:
            return (between(rng, 8, 35), between(rng, -25, 20))
        case 2:
            return (between(rng, 40, 80), between(rng, 20, 100))
        case 3:
            return (between(rng, 25, 50), between(rng, -125, -70))
        case _:
            return (between(rng, 100, 150), between(rng, -30, 40))


def random_look(rng: np.random.Generator, *, hue: float = 8.0) -> Look:
    """Sample a look."""
    expressions = get_args(Expression)
    back, front = _arm(rng), _arm(rng)
    return Look(
        height=between(rng, 0.0, 1.0),
        lean=between(rng, -9, 9),
        tilt=between(rng, -11, 11),
        facing=between(rng, -1, 1),
        flip=bool(rng.integers(2)),
        arms=(*back, *front),
        legs=(between(rng, 0, 22), between(rng, 0, 22)),
        expression=expressions[int(rng.integers(len(expressions)))],
        line=between(rng, 0.014, 0.032),
        line_share=between(rng, 0.55, 1.0),
        shading=_SHADINGS[int(rng.integers(len(_SHADINGS)))],
        light=(between(rng, -0.09, 0.09), between(rng, -0.11, -0.05)),
        hue=between(rng, -hue, hue),
        sway=between(rng, -1, 1),
    )
