"""How far a search of an approximate index looks, and what share of the true neighbours that finds."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

QueryKind: TypeAlias = Literal["image", "text"]
"""Texts lie apart from pictures, so that an index has to look further to find their neighbours."""


@dataclass(frozen=True)
class Effort:
    """What was measured when an index was built.

    Args:
        width: Cells (``nprobe``) or candidates (``efSearch``) that a query looks at.
        recall: Share of the true ten neighbours that are found so.
        queries: How many queries that was measured with.
        rows: How many rows the index had.

    Raises:
        ValueError: If a number is out of range.
    """

    width: int
    recall: float
    queries: int
    rows: int

    def __post_init__(self) -> None:
        counts = (self.width, self.queries, self.rows)
        whole = all(type(count) is int and count >= 1 for count in counts)
        if not whole or not isinstance(self.recall, int | float) or not 0.0 <= self.recall <= 1.0:
            msg = f"effort: expected counts from 1 and a recall from 0 to 1, found {self}"
            raise ValueError(msg)

    def as_json(self) -> dict[str, Any]:
        """Return the JSON values of ``faiss_meta.json``."""
        return {"width": self.width, "recall": round(self.recall, 4), "queries": self.queries, "rows": self.rows}


Efforts: TypeAlias = Mapping[QueryKind, Effort]
NO_EFFORTS: Efforts = MappingProxyType({})
"""Of an index that compares all rows, or of which nothing was measured."""


def efforts_from_json(value: object) -> Efforts:
    """Read what ``Effort.as_json`` wrote, by kind of query.

    Args:
        value: The JSON value; None is of an index that nothing was measured of.

    Returns:
        Kind of query to effort.

    Raises:
        ValueError: If it is anything else.
    """
    match value:
        case None:
            return NO_EFFORTS
        case {"image": dict(image), "text": dict(text)}:
            try:
                return {"image": Effort(**image), "text": Effort(**text)}
            except TypeError as error:
                raise ValueError(str(error)) from None
    msg = f"expected what was measured for image and text queries, found {value!r}"
    raise ValueError(msg)
