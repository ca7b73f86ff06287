"""The describer protocol, and asking again where an answer is empty or a mask is poor."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Protocol, Self, TypeAlias

import numpy as np

from naruto_vision.errors import InputError
from naruto_vision.geometry import expand_xyxy, shape_of_xyxy
from naruto_vision.records import ImageArray, Region

QUESTION = (
    "Describe the character or object that is cut out in this image in one English sentence: what it is, hair, "
    "clothes, colours, and what it holds. Say nothing about the background."
)
"""What models that answer questions are asked about a cut-out."""
SHORTER = " Answer in one short sentence."
"""Added to a question that is asked again."""

ImageRegion: TypeAlias = tuple[ImageArray, Region]
"""An image (H, W, 3), uint8, RGB, upright, and a region of it."""


@dataclass(frozen=True)
class Description:
    """What a describer says of one region.

    Args:
        text: English; empty if there is nothing to say.
        score: How sure the describer is, in [0, 1]; None if it does not say.
        parts: Group of the vocabulary → (phrase, its probability in the group), of describers that choose phrases.
        error: Why there is no text, if the describer failed.

    Examples:
        >>> import naruto_vision as nv
        >>> nv.Description("a girl with pink hair", 0.9).text
        'a girl with pink hair'
    """

    text: str = ""
    score: float | None = None
    parts: Mapping[str, tuple[str, float]] = field(default_factory=dict)
    error: str = ""


class Describer(Protocol):
    """Describes regions in batches. A model is loaded when it is needed, and ``unload`` or ``with`` frees it."""

    batch_size: int  # regions that are described together without waste

    @property
    def name(self) -> str:
        """The model in words, for reports; of a loaded describer."""
        ...

    @property
    def identity(self) -> Mapping[str, Any]:
        """The JSON values that determine the descriptions; of a loaded describer."""
        ...

    def load(self) -> None:
        """Load the model, or check that it can be reached; nothing if it is loaded."""
        ...

    def unload(self) -> None:
        """Free the memory of the model; it is loaded again when it is needed."""
        ...

    def describe(self, items: Sequence[ImageRegion], *, again: bool = False) -> list[Description]:
        """Describe regions, in order; ``again`` if an earlier answer was of no use, so that another question helps."""
        ...

    def __enter__(self) -> Self:
        """Load the model."""
        self.load()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Free the model."""
        self.unload()


@dataclass(frozen=True)
class AskingRule:
    """When a region is shown with its surroundings instead of cut out, and when a describer is asked again.

    Args:
        quality: A mask whose ``predicted_iou`` or ``stability`` is lower is poor: its whole box is shown, not the
            cut-out, because parts are missing or too much.
        score: An answer with a lower score is asked for again, as is an empty one; the better one is kept.
        attempts: Questions per region at most; 1 never asks again.
        grow: Fraction by which the box grows each time that it is shown.

    Raises:
        InputError: If there are less than 1 or more than 10 attempts, or a number is negative.

    Examples:
        >>> import naruto_vision as nv
        >>> nv.AskingRule(attempts=1).quality
        0.7
    """

    quality: float = 0.7
    score: float = 0.0
    attempts: int = 2
    grow: float = 0.25

    def __post_init__(self) -> None:
        if not 1 <= self.attempts <= 10 or min(self.quality, self.score, self.grow) < 0:
            raise InputError(f"asking rule: expected attempts from 1 to 10 and no negative number, found {self}")

    def is_poor(self, region: Region) -> bool:
        """Whether a mask is too poor to cut the region out."""
        return min(region.predicted_iou, region.stability) < self.quality

    def is_weak(self, description: Description) -> bool:
        """Whether an answer is worth another request; a failure is not, as the describer has tried again itself."""
        low = description.score is not None and description.score < self.score
        return not description.error and (not description.text or low)


@dataclass(frozen=True)
class Described:
    """The description of a region, and how it was asked for.

    Args:
        description: The best answer.
        asked: How many requests it took.
        box_shown: Whether the region's box with its surroundings was shown, instead of the cut-out.
    """

    description: Description
    asked: int = 1
    box_shown: bool = False


def describe_regions(
    describer: Describer, items: Sequence[ImageRegion], rule: AskingRule | None = None
) -> list[Described]:
    """Describe regions, and ask again where that is of use.

    Args:
        describer: What describes them.
        items: Images (H, W, 3), uint8, RGB, upright, each with a region of it.
        rule: When to ask again.

    Returns:
        One description for each region, in order.

    Examples:
        >>> import naruto_vision as nv
        >>> import numpy as np
        >>> region = nv.Region((2, 2, 9, 9), np.ones((8, 8), bool))
        >>> red = np.full((12, 12, 3), (220, 30, 30), np.uint8)
        >>> [found] = nv.describe_regions(nv.AttributeDescriber(), [(red, region)])
        >>> found.asked
        1
    """
    rule = rule or AskingRule()
    shown = [_boxed(item, rule.grow) if rule.is_poor(item[1]) else item for item in items]
    found = [
        Described(answer, box_shown=view is not item)
        for answer, view, item in zip(describer.describe(shown), shown, items, strict=True)
    ]
    for attempt in range(2, rule.attempts + 1):
        weak = [index for index, each in enumerate(found) if rule.is_weak(each.description)]
        if not weak:
            break
        views = [_boxed(items[index], attempt * rule.grow) for index in weak]
        for index, answer in zip(weak, describer.describe(views, again=True), strict=True):
            old = found[index]
            better = bool(answer.text) and (answer.score or 0.0) >= (old.description.score or 0.0)
            found[index] = Described(answer, attempt, box_shown=True) if better else replace(old, asked=attempt)
    return found


def _boxed(item: ImageRegion, ratio: float) -> ImageRegion:
    """Replace a region by its whole box, which grows by a fraction."""
    image, region = item
    box = expand_xyxy(region.box, ratio, image.shape[1], image.shape[0])
    whole = np.ones(shape_of_xyxy(box), dtype=np.bool_)
    return image, Region(box, whole, region.predicted_iou, region.stability, region.prompt)
