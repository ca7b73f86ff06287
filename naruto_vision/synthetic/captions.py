"""Plain words for attributes, so that texts and pictures can be matched."""

import re

import numpy as np
from numpy.typing import NDArray

from naruto_vision.synthetic.attributes import CHOICES, Attributes

_MARKS = {
    "whiskers": "whiskers", "scar": "a scar", "freckles": "freckles", "diamond": "a diamond mark",
    "glasses": "glasses", "eyepatch": "an eyepatch", "stripes": "face stripes",
}  # fmt: skip
_WEAR = {
    "headband": "a {} headband", "cap": "a {} cap", "bow": "a {} bow", "horns": "horns", "ears": "cat ears",
    "crown": "a crown", "flower": "a flower", "hat": "a {} witch hat",
}  # fmt: skip
_PATTERNS = {"plain": "", "striped": "striped ", "dotted": "dotted ", "star": "star "}
_SLEEVES = {"none": "sleeveless", "short": "short sleeves", "long": "long sleeves"}
_OPENINGS = ("", "a drawing of ", "a picture of ", "a cartoon of ")


def _article(words: str) -> str:
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"


def hair_words(attributes: Attributes) -> str:
    """Say the hair: "short pink hair", "a blue ponytail"."""
    colour = attributes.hair_colour
    match attributes.hair_style:
        case "short" | "spiky" | "long" | "curly":
            return f"{attributes.hair_style} {colour} hair"
        case "bob":
            return f"{colour} bob hair"
        case "bun":
            return f"{colour} hair in a bun"
        case "braid":
            return f"{colour} braid hair"
        case "mohawk":
            return f"{colour} mohawk hair"
        case "pigtails":
            return f"{colour} hair in pigtails"
        case "ponytail":
            return f"{colour} hair in a ponytail"


def top_words(attributes: Attributes) -> str:
    """Say the top: "a red dress", "an orange striped hoodie"."""
    return _article(f"{attributes.top_colour} {_PATTERNS[attributes.pattern]}{attributes.top}")


def bottom_words(attributes: Attributes) -> str:
    """Say what the legs wear, or nothing under a dress or robe."""
    if attributes.bottom == "none":
        return ""
    words = f"{attributes.bottom_colour} {attributes.bottom}"
    return _article(words) if attributes.bottom == "skirt" else words


def _wear_words(attributes: Attributes) -> str:
    words = _WEAR.get(attributes.head_wear, "").format(attributes.accent)
    return words.replace("a orange", "an orange")


def _extra_words(attributes: Attributes) -> str:
    if attributes.extra in {"none", "tail", "wings"}:
        return {"none": "", "tail": "a tail", "wings": "wings"}[attributes.extra]
    return _article(f"{attributes.accent} {attributes.extra}")


def _details(attributes: Attributes) -> list[str]:
    """Everything that can follow "with": hair first, the rest where there is any."""
    held = f"a {attributes.held}".replace("a umbrella", "an umbrella")
    words = [
        f"{attributes.eye_colour} eyes",
        f"{attributes.skin} skin",
        _MARKS.get(attributes.face_mark, ""),
        _wear_words(attributes),
        _extra_words(attributes),
        held if attributes.held != "none" else "",
        _SLEEVES[attributes.sleeves] if attributes.sleeves != "none" else "",
    ]
    return [word for word in words if word]


def full_caption(attributes: Attributes) -> str:
    """Say everything."""
    clothes = " and ".join(word for word in (top_words(attributes), bottom_words(attributes)) if word)
    return f"a {attributes.person} with {hair_words(attributes)} in {clothes} with {' and '.join(_details(attributes))}"


def caption(attributes: Attributes, rng: np.random.Generator) -> str:
    """Say some of it, in one of several ways."""
    details = [str(word) for word in rng.permutation(np.array(_details(attributes)))]
    person, hair, top, bottom = (
        attributes.person,
        hair_words(attributes),
        top_words(attributes),
        bottom_words(attributes),
    )
    opening = _OPENINGS[int(rng.integers(len(_OPENINGS)))]
    clothes = f"{top} and {bottom}" if bottom else top
    some = " and ".join(details[: 1 + int(rng.integers(3))])
    kind = int(rng.integers(9))
    if kind == 7:
        return top if int(rng.integers(2)) else some
    texts = {
        0: f"{opening}a {person} with {hair} in {top}",
        1: f"{opening}a {person} with {hair} and {some} in {clothes}",
        2: hair,
        3: f"{opening}a {person} in {clothes}",
        4: f"{opening}a {person} with {some}",
        5: f"{hair} and {some}",
        6: f"{opening}a {person} wearing {clothes} with {hair} and {some}",
    }
    return texts.get(kind) or full_caption(attributes)


def _vocabulary() -> tuple[str, ...]:
    texts = [*_MARKS.values(), *_WEAR.values(), *_PATTERNS.values(), *_SLEEVES.values(), *_OPENINGS]
    texts += [value for values in CHOICES.values() for value in values if value != "none"]
    texts += ["a an and in with wearing hair eyes skin tail wings"]
    return tuple(sorted({word for text in texts for word in re.findall("[a-z]+", text)}))


VOCABULARY: tuple[str, ...] = _vocabulary()
"""Every word that a caption can use, sorted."""


def aliases(attributes: Attributes) -> tuple[str, ...]:
    """Texts that describe a character without its name, from short to full."""
    person, hair, top, bottom = (
        attributes.person,
        hair_words(attributes),
        top_words(attributes),
        bottom_words(attributes),
    )
    clothes = f"{top} and {bottom}" if bottom else top
    details = " and ".join(_details(attributes))
    texts = (
        f"a {person} with {hair} in {top}",
        f"a {person} with {hair} in {clothes}",
        f"a {person} with {hair} and {details}",
        full_caption(attributes),
    )
    return tuple(dict.fromkeys(texts))  # without a bottom the first two are one


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
    """Tell which phrases are true of a character: shape (P,), bool, in the order of ``PHRASES``."""
    return np.array([getattr(attributes, name) == value for name, value, _ in _TABLE], dtype=np.bool_)
