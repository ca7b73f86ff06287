"""Segment images by the points and boxes of a user, given once for all images or for each by its name."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

import msgspec

from naruto_vision.errors import BadImageError, FormatError, InputError, MissingPathError
from naruto_vision.io.bundles import model_fingerprint
from naruto_vision.io.typed_json import read_json
from naruto_vision.prompting.mode import STEM, Segmented, SegmentMode
from naruto_vision.prompting.session import (
    Identify,
    Prediction,
    PromptBox,
    PromptPoint,
    PromptSession,
    draw_prompts,
    prompts_json,
)
from naruto_vision.records import Identity, ImageArray
from naruto_vision.segmentation.protocol import PromptableModel

AMBIGUOUS = 0.5
"""The masks of one prompt that disagree more than this are named to the user."""

_DIGITS = 6


@dataclass(frozen=True)
class UserPrompts:
    """Points and boxes of one image: several boxes are an object each; points belong to the only box, or to none.

    Examples:
        >>> UserPrompts(points=((20, 30, True),)).as_json()["n_points"]
        1
    """

    points: tuple[PromptPoint, ...] = ()
    boxes: tuple[PromptBox, ...] = ()

    def __post_init__(self) -> None:
        if not self.points and not self.boxes:
            raise InputError("prompts: expected a box or a point, found none; give --box x1,y1,x2,y2 or --point x,y,1")
        if self.points and len(self.boxes) > 1:
            raise InputError(f"prompts: points belong to one box, found {len(self.boxes)}; give one box, or no points")

    def as_json(self) -> dict[str, Any]:
        """Return them as ``read_prompts`` reads them."""
        return prompts_json(self.points, self.boxes)


class _Point(msgspec.Struct):
    x: float
    y: float
    label: int = 1


class _Prompts(msgspec.Struct):
    points: list[_Point] = []
    boxes: list[PromptBox] = []
    n_points: int | None = None


PromptsOf: TypeAlias = UserPrompts | Mapping[str, UserPrompts]
"""The same prompts for every image, or those of each by its name."""


def read_prompts(path: str | Path) -> PromptsOf:
    """Read prompts from JSON: ``{"points": [{"x", "y", "label"}], "boxes"}``, or such a value for each file name."""
    where = Path(path)
    if not where.exists():
        raise MissingPathError(where, "file of prompts")
    found = read_json(where, dict[str, Any])
    if found.keys() & {"points", "boxes"}:
        return _checked(where, read_json(where, _Prompts), "")
    return {name: _checked(where, one, f"{name}: ") for name, one in read_json(where, dict[str, _Prompts]).items()}


def _checked(path: Path, found: _Prompts, name: str) -> UserPrompts:
    if found.n_points is not None and found.n_points != len(found.points):
        raise FormatError(path, f"{name}n_points points", f"n_points {found.n_points} and {len(found.points)} points")
    if wrong := [point.label for point in found.points if point.label not in {0, 1}]:
        raise FormatError(path, f"{name}labels 1 (object) and 0 (background)", str(wrong[0]))
    try:
        return UserPrompts(tuple((p.x, p.y, bool(p.label)) for p in found.points), tuple(found.boxes))
    except InputError as error:
        raise InputError(f"{path}: {name}{error}") from None


@dataclass(frozen=True)
class UserSettings:
    """How the masks of user prompts are chosen and refined; see ``PromptSession``."""

    mask: int | None = None  # index of the mask to take; None takes the one with the highest estimated IoU
    refine: int = 0  # how often the model is prompted again with its own mask
    clean: bool = False  # remove reflections and holes from the masks
    min_side: float = 0  # shortest side of a box in pixels
    max_side: float | None = None  # longest side; None sets no limit


class UserMode(SegmentMode):
    """Segments one object for each box, or one by points.

    ``prompts`` are the same for all images, or by the name of the image: its path, or the last part of it. ``identify``
    names the masks, so that the one with the largest margin is chosen; ``gallery`` identifies the gallery.
    """

    def __init__(
        self,
        model: PromptableModel,
        prompts: PromptsOf,
        settings: UserSettings | None = None,
        *,
        identify: Identify | None = None,
        gallery: str = "",
    ) -> None:
        self.model, self.prompts, self.settings = model, prompts, settings or UserSettings()
        self.identify, self.gallery = identify, gallery

    @property
    def identity(self) -> Mapping[str, Any]:
        """The model, the prompts and the settings."""
        own = self.prompts
        if isinstance(own, UserPrompts):
            prompts: Any = own.as_json()
        else:
            prompts = model_fingerprint({name: json.dumps(one.as_json()) for name, one in own.items()}, {})
        settings = {"settings": repr(self.settings), "gallery": self.gallery}
        return {"model": self.model.fingerprint, "prompts": prompts, **settings}

    def _prompts_of(self, name: str) -> UserPrompts:
        if isinstance(self.prompts, UserPrompts):
            return self.prompts
        found = self.prompts.get(name) or self.prompts.get(PurePosixPath(name).name)
        if found is None:
            raise BadImageError(name, "has no prompts in the file of --prompts")
        return found

    def _session(self, image: ImageArray, box: PromptBox | None, points: Sequence[PromptPoint]) -> PromptSession:
        own = self.settings
        session = PromptSession(image, self.model, min_side=own.min_side, max_side=own.max_side, clean=own.clean)
        if box is not None:
            session.set_box(*box)
        for point in points:
            session.add_point(*point)
        return session

    def _predict(self, session: PromptSession) -> Prediction:
        for _ in range(self.settings.refine):
            session.refine()
        session.choose(self.settings.mask)
        found = session.accept()
        if self.identify is None:
            return found
        named = found.named(session.image, self.identify)
        return named if self.settings.mask is None else replace(named, chosen=self.settings.mask)

    def __call__(self, image: ImageArray, name: str = "") -> Segmented:
        """Segment the objects of an image (H, W, 3), uint8, RGB, upright."""
        prompts = self._prompts_of(name)
        found: list[Prediction] = []
        try:
            sessions = [self._session(image, box, prompts.points) for box in prompts.boxes or (None,)]
            for session in sessions:
                session.embedding = sessions[0].embedding  # of the first one's prediction
                found.append(self._predict(session))
        except InputError as error:
            raise BadImageError(name, str(error)) from None
        return segment_sessions(sessions, found, self.settings.mask, prompts.points)


def segment_sessions(
    sessions: Sequence[PromptSession],
    found: Sequence[Prediction],
    mask: int | None = None,
    points: Sequence[PromptPoint] = (),
) -> Segmented:
    """Return what is written for the objects of one image, each with its session and its masks.

    ``mask`` is the index of the mask that was chosen, which is in the overlay's name; ``points`` are all that were
    given.
    """
    rows = [(region, one) for one in found if (region := one.mask.region) is not None]
    regions = tuple(region for region, _ in rows)
    boxes = tuple(session.state.box for session in sessions if session.state.box is not None)
    drawn = draw_prompts(sessions[0].image, regions, boxes or [region.box for region in regions])
    chosen = "" if mask is None else f"_m{mask}"
    return Segmented(
        regions,
        images={f"overlay_{STEM}{chosen}.png": drawn},
        texts={
            "_points.json": _json(prompts_json(points, boxes)),
            "_metrics.json": _json([_metrics(one) for one in found]),
        },
        region_facts=tuple(_facts(one) for _, one in rows),
        note="; ".join(dict.fromkeys(chain.from_iterable(map(_notes, sessions, found)))),
    )


def _json(value: object) -> str:
    return json.dumps(value, indent=2) + "\n"


def _metrics(found: Prediction) -> dict[str, Any]:
    masks = [found.metrics(index) for index in range(len(found.masks))]
    return {"chosen": found.chosen, "ambiguity": found.ambiguity, "masks": masks}


def _facts(found: Prediction) -> dict[str, Any]:
    facts = {
        "mask_index": found.chosen,
        "scores": [round(mask.score, _DIGITS) for mask in found.masks],
        "ambiguity": round(found.ambiguity, _DIGITS),
    }
    if not found.identities:
        return facts
    named = [None if one is None else _identity(one) for one in found.identities]
    return {**facts, **(named[found.chosen] or {}), "identities": named}


def _identity(found: Identity) -> dict[str, Any]:
    margin = None if found.margin is None else round(found.margin, _DIGITS)
    return {"label": found.label, "name": found.name, "score": round(found.score, _DIGITS), "margin": margin}


def _notes(session: PromptSession, found: Prediction) -> Iterator[str]:
    yield from session.warnings()
    if found.mask.region is None:
        yield "the chosen mask is empty: move the point or the box, or choose another --mask"
    elif found.ambiguity > AMBIGUOUS:
        yield f"the masks disagree by more than {AMBIGUOUS:g}: compare --mask 0, 1 and 2, or add a point"
