"""Captions of synthetic characters: whole sentences, and one short phrase for each value of each attribute."""

import re

import numpy as np
from numpy.typing import NDArray

from naruto_vision.synthetic.attributes import CHOICES, Attributes

_HAIR = {
    "bob": "{} bob hair", "bun": "{} hair in a bun", "braid": "{} braid hair", "mohawk": "{} mohawk hair",
    "pigtails": "{} hair in pigtails", "ponytail": "{} hair in a ponytail",
}  # fmt: skip
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
_EXTRAS = {"scarf": "a {} scarf", "cape": "a {} cape", "wings": "wings", "tail": "a tail"}
_OPENINGS = ("", "a drawing of ", "a picture of ", "a cartoon of ")


def _articles(text: str) -> str:
    return re.sub(r"\ba (?=[aeiou])", "an ", text)


def hair_words(attributes: Attributes) -> str:
    """Name the hair: "short pink hair", "blue hair in a ponytail"."""
    return _HAIR.get(attributes.hair_style, f"{attributes.hair_style} {{}} hair").format(attributes.hair_colour)


def top_words(attributes: Attributes) -> str:
    """Name the top: "a red dress", "an orange striped hoodie"."""
    return _articles(f"a {attributes.top_colour} {_PATTERNS[attributes.pattern]}{attributes.top}")


def bottom_words(attributes: Attributes) -> str:
    """Name the legwear; empty under a dress or robe."""
    if attributes.bottom == "none":
        return ""
    article = "a " if attributes.bottom == "skirt" else ""
    return _articles(f"{article}{attributes.bottom_colour} {attributes.bottom}")


def _clothes(attributes: Attributes) -> str:
    return " and ".join(filter(None, (top_words(attributes), bottom_words(attributes))))


def _details(attributes: Attributes) -> list[str]:
    """Every detail that can follow "with", except the hair."""
    words = [
        f"{attributes.eye_colour} eyes",
        f"{attributes.skin} skin",
        _MARKS.get(attributes.face_mark, ""),
        _articles(_WEAR.get(attributes.head_wear, "").format(attributes.accent)),
        _articles(_EXTRAS.get(attributes.extra, "").format(attributes.accent)),
        _articles(f"a {attributes.held}") if attributes.held != "none" else "",
        _SLEEVES[attributes.sleeves] if attributes.sleeves != "none" else "",
    ]
    return [word for word in words if word]


def full_caption(attributes: Attributes) -> str:
    """Name every attribute, always in the same words."""
    who, details = f"a {attributes.person} with {hair_words(attributes)}", " and ".join(_details(attributes))
    return f"{who} in {_clothes(attributes)} with {details}"


def caption(attributes: Attributes, rng: np.random.Generator) -> str:
    """Name some attributes, in one of several forms; every word is in ``VOCABULARY``."""
    details = [str(word) for word in rng.permutation(np.array(_details(attributes)))]
    who, hair, top = f"a {attributes.person}", hair_words(attributes), top_words(attributes)
    who, clothes = _OPENINGS[int(rng.integers(len(_OPENINGS)))] + who, _clothes(attributes)
    some = " and ".join(details[: 1 + int(rng.integers(3))])
    form = int(rng.integers(9))
    if form == 7:
        return top if int(rng.integers(2)) else some
    texts = (
        f"{who} with {hair} in {top}",
        f"{who} with {hair} and {some} in {clothes}",
        hair,
        f"{who} in {clothes}",
        f"{who} with {some}",
        f"{hair} and {some}",
        f"{who} wearing {clothes} with {hair} and {some}",
    )
    return texts[form] if form < len(texts) else full_caption(attributes)


def _vocabulary() -> tuple[str, ...]:
    texts = [*_MARKS.values(), *_WEAR.values(), *_PATTERNS.values(), *_SLEEVES.values(), *_OPENINGS]
    texts += [value for values in CHOICES.values() for value in values if value != "none"]
    texts += ["a an and in with wearing hair eyes skin tail wings"]
    return tuple(sorted({word for text in texts for word in re.findall("[a-z]+", text)}))


VOCABULARY: tuple[str, ...] = _vocabulary()
"""Every word that a caption can use, sorted."""


def aliases(attributes: Attributes) -> tuple[str, ...]:
    """Texts that describe a character without its name, from short to full."""
    who, clothes = f"a {attributes.person} with {hair_words(attributes)}", _clothes(attributes)
    texts = (
        f"{who} in {top_words(attributes)}",
        f"{who} in {clothes}",
        f"{who} and {' and '.join(_details(attributes))}",
        full_caption(attributes),
    )
    return tuple(dict.fromkeys(texts))  # without a bottom the first two are one


_FORMS = {
    "person": "a {}", "hair_colour": "{} hair", "hair_style": "{} hair", "eye_colour": "{} eyes", "skin": "{} skin",
    "head_wear": "a {}", "top": "a {}", "top_colour": "{} clothes", "pattern": "{} clothes", "held": "a {}",
    "extra": "a {}",
}  # fmt: skip
_PHRASES = {
    ("hair_style", "bun"): "hair in a bun", ("hair_style", "pigtails"): "hair in pigtails",
    ("hair_style", "ponytail"): "hair in a ponytail", ("hair_style", "braid"): "braid hair",
    ("face_mark", "scar"): "a scar", ("face_mark", "diamond"): "a diamond mark",
    ("face_mark", "eyepatch"): "an eyepatch", ("face_mark", "stripes"): "face stripes",
    ("head_wear", "horns"): "horns", ("head_wear", "ears"): "cat ears", ("head_wear", "hat"): "a witch hat",
    ("sleeves", "none"): "sleeveless", ("sleeves", "short"): "short sleeves", ("sleeves", "long"): "long sleeves",
    ("top", "armor"): "armor", ("bottom", "skirt"): "a skirt", ("held", "umbrella"): "an umbrella",
    ("extra", "wings"): "wings",
}  # fmt: skip
_UNSAID = {"none", "plain"}
_LEFT_OUT = {"bottom_colour", "accent"}  # a colour is uninformative without its item


def _phrase(name: str, value: str) -> str:
    unsaid = value in _UNSAID or name in _LEFT_OUT
    return _PHRASES.get((name, value), "" if unsaid else _FORMS.get(name, "{}").format(value))


_TABLE = tuple(
    (name, value, phrase) for name, values in CHOICES.items() for value in values if (phrase := _phrase(name, value))
)

PHRASES: tuple[str, ...] = tuple(phrase for _, _, phrase in _TABLE)
"""All phrases, grouped by attribute."""

PHRASE_ATTRIBUTES: tuple[str, ...] = tuple(name for name, _, _ in _TABLE)
"""The attribute that each phrase is about."""


def phrase_truths(attributes: Attributes) -> NDArray[np.bool_]:
    """Which of the ``PHRASES`` are true of a character: shape (P,), bool."""
    return np.array([getattr(attributes, name) == value for name, value, _ in _TABLE], dtype=np.bool_)
