"""Read YAML of bounded size: neither aliases nor nesting make more of a file than its bytes warrant."""

import re
from pathlib import Path
from typing import Any

import yaml

from naruto_vision.errors import FormatError, YamlError, first_line
from naruto_vision.io.typed_json import require_regular

MAX_BYTES = 500_000
_MAX_NODES = 100_000
_MAX_DEPTH = 100
_MAX_DIGITS = 1000  # of more, Python's whole numbers take seconds or are refused
_NUMBER = re.compile(r"[-+]?[\da-fA-FxX_:.]+")
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # C, where PyYAML has it
UNUSABLE = (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)
"""What PyYAML raises on values that do not fit their tag, beside its own errors."""


def check_yaml(text: str) -> None:
    """Raise YAMLError if a text is too large, too deep or too large with its aliases replaced; it is not loaded.

    The events are counted one by one, because PyYAML's recursion over deep nesting can end the process.
    """
    if len(text) > MAX_BYTES:
        msg = f"more than {MAX_BYTES} characters"
        raise yaml.YAMLError(msg)
    known: dict[str, tuple[int, int]] = {}  # anchor → nodes and depth of its content
    stack: list[tuple[str | None, int, int]] = [(None, 0, 0)]  # anchor, nodes and depth so far of each open node
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.CollectionStartEvent):
            stack.append((event.anchor, 1, 1))
        nodes, depth = _closed_by(event, stack, known)
        anchor, count, height = stack[-1]
        stack[-1] = anchor, count + nodes, max(height, depth + 1)
        if len(stack) + depth > _MAX_DEPTH or count + nodes > _MAX_NODES:
            msg = f"nested deeper than {_MAX_DEPTH}, or more than {_MAX_NODES} values with its aliases replaced"
            raise yaml.YAMLError(msg)


def _closed_by(
    event: yaml.Event, stack: list[tuple[str | None, int, int]], known: dict[str, tuple[int, int]]
) -> tuple[int, int]:
    """Return how many nodes, how deep, an event completes; none for the start of a node."""
    anchor, nodes, depth = None, 0, 0
    if isinstance(event, yaml.AliasEvent):
        return known.get(str(event.anchor), (_MAX_NODES, 0))  # an alias inside its own anchor never ends
    if isinstance(event, yaml.ScalarEvent):
        anchor, nodes, depth = event.anchor, 1, 1
        if len(event.value) > _MAX_DIGITS and _NUMBER.fullmatch(event.value):
            msg = f"a number of {len(event.value)} digits"
            raise yaml.YAMLError(msg)
    elif isinstance(event, yaml.CollectionEndEvent):
        anchor, nodes, depth = stack.pop()
    if anchor:
        known[anchor] = nodes, depth
    return nodes, depth


def read_yaml(path: Path) -> Any:  # noqa: ANN401 - plain values, which its callers check
    """Read a YAML file as plain values; FormatError if it is no YAML, or larger or deeper than settings are."""
    require_regular(path)
    if path.stat().st_size > MAX_BYTES:
        raise FormatError(path, f"a YAML file of at most {MAX_BYTES} bytes", f"{path.stat().st_size}")
    try:
        text = path.read_text(encoding="utf-8")
        check_yaml(text)
        return yaml.load(text, Loader=_LOADER)  # noqa: S506 - the safe loader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise YamlError(path, f"{where}{error.problem or error.context}") from None
    except UNUSABLE as error:
        raise YamlError(path, first_line(error)) from None
