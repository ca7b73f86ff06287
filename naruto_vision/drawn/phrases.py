"""One short phrase for each value of each attribute: what is true of a character, piece by piece."""

import numpy as np
from numpy.typing import NDArray

from naruto_vision.drawn.attributes import CHOICES, Attributes

_FORMS = {
    "person": "a {}",
    "hair_colour": "{} hair",
    "eye_colour": "{} eyes",
    "skin": "{} skin",
    "top": "a {}",
    "top_colour": "{} clothes",
    "pattern": "{} clothes",
    "held": "a {}",
}
_WORDS = {
    ("hair_style", "bun"): "hair in a bun",
    ("hair_style", "pigtails"): "hair in pigtails",
    ("hair_style", "ponytail"): "hair in a ponytail",
    ("hair_style", "braid"): "braid hair",
    ("face_mark", "scar"): "a scar",
    ("face_mark", "diamond"): "a diamond mark",
    ("face_mark", "eyepatch"): "an eyepatch",
    ("face_mark", "stripes"): "face stripes",
    ("head_wear", "horns"): "horns",
    ("head_wear", "ears"): "cat ears",
    ("head_wear", "hat"): "a witch hat",
    ("sleeves", "none"): "sleeveless",
    ("sleeves", "short"): "short sleeves",
    ("sleeves", "long"): "long sleeves",
    ("top", "armor"): "armor",
    ("bottom", "skirt"): "a skirt",
    ("held", "umbrella"): "an umbrella",
    ("extra", "wings"): "wings",
}
_UNSAID = {"none", "plain"}
_LEFT_OUT = {"bottom_colour", "accent"}  # without the thing that has it, a colour says nothing


def _phrase(name: str, value: str) -> str:
    if (name, value) in _WORDS:
        return _WORDS[name, value]
    if value in _UNSAID or name in _LEFT_OUT:
        return ""
    match name:
        case "hair_style":
            return f"{value} hair"
        case "head_wear" | "extra":
            return f"a {value}"
        case _:
            return _FORMS.get(name, "{}").format(value)


_TABLE = tuple(
    (name, value, phrase) for name, values in CHOICES.items() for value in values if (phrase := _phrase(name, value))
)

PHRASES: tuple[str, ...] = tuple(phrase for _, _, phrase in _TABLE)
"""All phrases, grouped by attribute."""

PHRASE_ATTRIBUTES: tuple[str, ...] = tuple(name for name, _, _ in _TABLE)
"""The attribute that each phrase is about."""


def phrase_truths(attributes: Attributes) -> NDArray[np.bool_]:
    """Tell which phrases are true of a character.

    Args:
        attributes: Who it is.

    Returns:
        Shape (P,), bool, in the order of ``PHRASES``.
    """
    return np.array([getattr(attributes, name) == value for name, value, _ in _TABLE], dtype=np.bool_)
