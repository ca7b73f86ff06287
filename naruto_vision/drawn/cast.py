"""A cast: named characters, each a fixed choice of attributes, read from a YAML file."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from naruto_vision.drawn.attributes import CHOICES, Attributes
from naruto_vision.errors import FormatError, MissingPathError


@dataclass(frozen=True)
class Cast:
    """Named characters.

    Args:
        members: Name to attributes, in the order of the file.

    Raises:
        ValueError: If nobody is in it, or two members are the same character.

    Example:
        >>> from naruto_vision.files.share import config_path
        >>> len(read_cast(config_path("cast.yaml")))
        8
    """

    members: Mapping[str, Attributes]

    def __post_init__(self) -> None:
        if not self.members:
            msg = "cast: expected at least one member, found none"
            raise ValueError(msg)
        if len(set(self.members.values())) < len(self.members):
            msg = "cast: expected distinct members, found two with equal attributes"
            raise ValueError(msg)

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
    if not isinstance(values, Mapping):
        raise FormatError(path, f"attributes of {name}", repr(values), "give it one line an attribute")
    missing = [key for key in CHOICES if key not in values]
    extra = [str(key) for key in values if key not in CHOICES]
    if missing or extra:
        found = "; ".join(f"{kind} {', '.join(keys)}" for kind, keys in (("no", missing), ("also", extra)) if keys)
        raise FormatError(
            path, f"every attribute of {name} once", found, f"an attribute is one of {', '.join(CHOICES)}"
        )
    try:
        return Attributes(**values)
    except ValueError as error:
        raise FormatError(path, f"attributes of {name}", str(error)) from None


def read_cast(path: str | Path) -> Cast:
    """Read a cast.

    Args:
        path: A YAML file: name to a mapping of attribute to value.

    Raises:
        MissingPathError: If there is no such file.
        FormatError: If it is not YAML, or an attribute is missing, unknown or of another value than its list has.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingPathError(path, "cast file")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise FormatError(path, "YAML", str(error).replace("\n", " ")[:160]) from None
    if not isinstance(content, Mapping) or not content:
        raise FormatError(path, "a mapping of names to attributes", type(content).__name__)
    members = {str(name): _member(path, str(name), values) for name, values in content.items()}
    try:
        return Cast(members)
    except ValueError as error:
        raise FormatError(path, "a cast", str(error)) from None
