"""Named colours and shading."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Rgb: TypeAlias = tuple[int, int, int]
"""Red, green and blue, each 0 to 255."""


def _colours(text: str) -> dict[str, Rgb]:
    """Read "name red,green,blue" pairs."""
    words = text.split()
    values = [[int(value) for value in word.split(",")] for word in words[1::2]]
    return {name: (red, green, blue) for name, (red, green, blue) in zip(words[::2], values, strict=True)}


CLOTH = _colours(
    "black 58,56,68  white 240,238,232  gray 146,150,160  red 206,56,60  orange 238,134,44  yellow 244,208,70  "
    "green 70,160,88  blue 62,104,198  purple 132,78,176  pink 244,150,184  brown 138,92,60"
)
HAIR = _colours(
    "black 54,50,66  brown 126,80,50  blond 246,214,112  red 190,48,46  orange 240,128,50  pink 248,158,188  "
    "purple 134,92,186  blue 76,124,212  green 92,172,106  white 230,232,240"
)
EYES = _colours(
    "brown 122,74,40  blue 48,116,214  green 52,158,82  red 206,44,54  purple 142,72,190  yellow 226,176,30"
)
SKIN = _colours("pale 254,228,212  tan 238,192,152  brown 190,134,96  dark 126,84,62")
WHITE: Rgb = (252, 252, 252)
INK: Rgb = (40, 32, 42)
STEEL: Rgb = (198, 206, 216)
WOOD: Rgb = (134, 90, 54)
GOLD: Rgb = (240, 196, 64)


def mix(one: Rgb, other: Rgb, share: float) -> Rgb:
    """Blend two colours."""
    red, green, blue = (int(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return (red, green, blue)


def darker(colour: Rgb, share: float = 0.35) -> Rgb:
    """Blend a colour towards a dark purple."""
    return mix(colour, (44, 30, 74), share)


def lighter(colour: Rgb, share: float = 0.4) -> Rgb:
    """Blend a colour towards white."""
    return mix(colour, WHITE, share)


def rotate_hue(colours: NDArray[np.float64], degrees: float) -> NDArray[np.float64]:
    """Rotate colours about the grey axis, which keeps the mean of the channels."""
    angle = np.deg2rad(degrees)
    cosine, sine = round(float(np.cos(angle)), 6), round(float(np.sin(angle)), 6)
    near, up, down = (1 + 2 * cosine) / 3, (1 - cosine) / 3 - sine * 0.57735, (1 - cosine) / 3 + sine * 0.57735
    red, green, blue = colours[:, 0], colours[:, 1], colours[:, 2]
    return np.stack(
        [
            near * red + up * green + down * blue,
            down * red + near * green + up * blue,
            up * red + down * green + near * blue,
        ],
        axis=1,
    )


def between(rng: np.random.Generator, low: float, high: float) -> float:
    """Sample a number."""
    return low + (high - low) * float(rng.random())


def any_colour(rng: np.random.Generator, low: int = 60, high: int = 245) -> Rgb:
    """Sample a colour, each channel independently."""
    red, green, blue = (int(value) for value in rng.integers(low, high, 3))
    return (red, green, blue)
