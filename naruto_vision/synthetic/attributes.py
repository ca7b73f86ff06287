"""Attributes of synthetic characters: closed lists, each value a word of the captions."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import numpy as np

from naruto_vision.errors import FormatError, MissingPathError
from naruto_vision.io.yaml_files import read_yaml

Person: TypeAlias = Literal["girl", "boy"]
HairColour: TypeAlias = Literal["black", "brown", "blond", "red", "orange", "pink", "purple", "blue", "green", "white"]
HairStyle: TypeAlias = Literal[
    "short", "spiky", "bob", "long", "ponytail", "pigtails", "bun", "curly", "braid", "mohawk"
]
EyeColour: TypeAlias = Literal["brown", "blue", "green", "red", "purple", "yellow"]
Skin: TypeAlias = Literal["pale", "tan", "brown", "dark"]
FaceMark: TypeAlias = Literal["none", "whiskers", "scar", "freckles", "diamond", "glasses", "eyepatch", "stripes"]
HeadWear: TypeAlias = Literal["none", "headband", "cap", "bow", "horns", "ears", "crown", "flower", "hat"]
Top: TypeAlias = Literal["shirt", "jacket", "hoodie", "vest", "sweater", "armor", "dress", "robe"]
Colour: TypeAlias = Literal[
    "black", "white", "gray", "red", "orange", "yellow", "green", "blue", "purple", "pink", "brown"
]
Pattern: TypeAlias = Literal["plain", "striped", "dotted", "star"]
Sleeves: TypeAlias = Literal["none", "short", "long"]
Bottom: TypeAlias = Literal["none", "pants", "shorts", "skirt"]
Held: TypeAlias = Literal["none", "sword", "staff", "book", "balloon", "ball", "flag", "umbrella"]
Extra: TypeAlias = Literal["none", "scarf", "cape", "wings", "tail"]

WHOLE = ("dress", "robe")
"""Tops that cover the legs, so that there is no bottom."""

_SAME_ENOUGH = 3
_NONE = {"face_mark": 0.4, "head_wear": 0.4, "held": 0.5, "extra": 0.55, "sleeves": 0.2}
_PLAIN = 0.4


@dataclass(frozen=True)
class Attributes:
    """The identity of a synthetic character, without pose, expression and drawing style."""

    person: Person
    hair_colour: HairColour  # of the brows too
    hair_style: HairStyle
    eye_colour: EyeColour
    skin: Skin
    face_mark: FaceMark
    head_wear: HeadWear
    top: Top  # a dress or robe covers the legs too
    top_colour: Colour
    pattern: Pattern  # printed on the top
    sleeves: Sleeves
    bottom: Bottom  # none under a dress or robe
    bottom_colour: Colour  # colour of the shoes without a bottom
    accent: Colour  # of head wear, prints, belts, held things and extras
    held: Held
    extra: Extra  # at neck or back

    def __post_init__(self) -> None:
        for name, allowed in CHOICES.items():
            value = getattr(self, name)
            if value not in allowed:
                raise ValueError(f"{name}: expected one of {', '.join(allowed)}, found {value!r}")
        if (self.bottom == "none") != (self.top in WHOLE):
            msg = f"bottom: expected none with a dress or robe and something else otherwise, found {self.bottom!r}"
            raise ValueError(msg)

    @property
    def signature(self) -> tuple[str, str, str, str]:
        """The four most visible attributes: hair colour, hair style, top, top colour."""
        return (self.hair_colour, self.hair_style, self.top, self.top_colour)

    def resembles(self, other: "Attributes") -> bool:
        """Return whether two characters are confusable: at least three of the four signature attributes are equal."""
        return sum(a == b for a, b in zip(self.signature, other.signature, strict=True)) >= _SAME_ENOUGH


CHOICES: dict[str, tuple[str, ...]] = {field.name: get_args(field.type) for field in fields(Attributes)}
"""Attribute name to the values that it can take, in the order of the fields."""


def _pick(rng: np.random.Generator, alias: object, none: float = 0.0) -> str:
    """Choose uniformly, or ``none`` with the given probability if the list has it."""
    values = get_args(alias)
    if values[0] != "none":
        return str(values[int(rng.integers(len(values)))])
    if float(rng.random()) < none:
        return "none"
    return str(values[1 + int(rng.integers(len(values) - 1))])


def _random(rng: np.random.Generator) -> Attributes:
    chosen = {field.name: _pick(rng, field.type, _NONE.get(field.name, 0.0)) for field in fields(Attributes)}
    if float(rng.random()) < _PLAIN:
        chosen["pattern"] = "plain"
    if chosen["person"] == "boy":
        chosen["top"] = "robe" if chosen["top"] == "dress" else chosen["top"]
        chosen["bottom"] = "pants" if chosen["bottom"] == "skirt" else chosen["bottom"]
    if chosen["top"] in WHOLE:
        chosen["bottom"] = "none"
    return Attributes(**chosen)  # type: ignore[arg-type]  # __post_init__ checks each against its list


def random_attributes(rng: np.random.Generator, *, avoid: Collection[Attributes] = ()) -> Attributes:
    """Sample a character that resembles none of those to avoid."""
    while True:
        sampled = _random(rng)
        if not any(sampled.resembles(other) for other in avoid):
            return sampled


@dataclass(frozen=True)
class Cast:
    """Named characters, in the order of the file: at least one, and no two with equal attributes.

    Examples:
        >>> from naruto_vision.io.bundles import config_path
        >>> len(read_cast(config_path("cast.yaml")))
        8
    """

    members: Mapping[str, Attributes]

    def __post_init__(self) -> None:
        if not self.members:
            raise ValueError("cast: expected at least one member, found none")
        if len(set(self.members.values())) < len(self.members):
            raise ValueError("cast: expected distinct members, found two with equal attributes")

    def __len__(self) -> int:
        return len(self.members)

    @property
    def names(self) -> tuple[str, ...]:
        """The names, in the order of the file."""
        return tuple(self.members)

    @property
    def attributes(self) -> tuple[Attributes, ...]:
        """The members' attributes, in the order of the file."""
        return tuple(self.members.values())


def _member(path: Path, name: str, values: object) -> Attributes:
    given = values if isinstance(values, Mapping) else {}
    missing = [key for key in CHOICES if key not in given]
    extra = [str(key) for key in given if key not in CHOICES]
    if missing or extra:
        found = "; ".join(f"{kind} {', '.join(keys)}" for kind, keys in (("no", missing), ("also", extra)) if keys)
        hint = f"an attribute is one of {', '.join(CHOICES)}"
        raise FormatError(path, f"every attribute of {name} once", found, hint)
    try:
        return Attributes(**given)
    except ValueError as error:
        raise FormatError(path, f"attributes of {name}", str(error)) from None


def read_cast(path: str | Path) -> Cast:
    """Read a cast from a YAML file: name to a mapping of attribute to value."""
    path = Path(path)
    if not path.is_file():
        raise MissingPathError(path, "cast file")
    content = read_yaml(path)
    if not isinstance(content, Mapping) or not content:
        raise FormatError(path, "a mapping of names to attributes", type(content).__name__)
    members = {str(name): _member(path, str(name), values) for name, values in content.items()}
    try:
        return Cast(members)
    except ValueError as error:
        raise FormatError(path, "a cast", str(error)) from None
