"""One object of an image by points and a box, step by step."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from naruto_vision.errors import InputError
from naruto_vision.io.bundles import file_sha256
from naruto_vision.io.images import read_image
from naruto_vision.prompting.mode import STEM
from naruto_vision.prompting.session import Prediction, PromptSession
from naruto_vision.prompting.user import segment_sessions
from naruto_vision.prompting.writer import SegmentWriter
from naruto_vision.recognition.writer import software_versions
from naruto_vision.ui.engine import Watch
from naruto_vision.ui.models import Models
from naruto_vision.ui.shapes import svg_path
from naruto_vision.ui.tasks.gallery import enrol_images
from naruto_vision.ui.tasks.scenes import identity_news

Operation: TypeAlias = tuple[str, tuple[Any, ...]]
"""Name and arguments of a method of ``PromptSession`` that the page may call."""

OPERATIONS: Mapping[str, Callable[..., Any]] = {
    "point": PromptSession.add_point,
    "move": PromptSession.move_point,
    "remove": PromptSession.remove_point,
    "box": PromptSession.set_box,
    "remove_box": PromptSession.remove_box,
    "choose": PromptSession.choose,
    "undo": PromptSession.undo,
    "redo": PromptSession.redo,
    "reset": PromptSession.reset,
    "refine": PromptSession.refine,
    "accept": PromptSession.accept,
}


class _Applied:
    """A prompt session, and how many operations it has had."""

    def __init__(self, session: PromptSession, weights: str) -> None:
        self.session, self.weights, self.count = session, weights, 0


def _session(models: Models, key: str, path: str, weights: str, operations: Sequence[Operation]) -> PromptSession:
    """Return the session of a key with all operations applied, or InputError; one that was dropped is made again."""
    held: _Applied | None = models.prompts.get(key)
    if held is None or held.weights != weights:
        session = PromptSession(read_image(path), models.promptable(weights))
        models.prompts.pop(key, None)
        held = models.prompts.get_or(key, lambda: _Applied(session, weights))
    elif held.count > len(operations):
        forget(models, key=key)
    for name, arguments in operations[held.count :]:
        if name not in OPERATIONS:
            raise InputError(f"prompts: expected one of {', '.join(OPERATIONS)}, found {name!r}")
        try:
            OPERATIONS[name](held.session, *arguments)
        except (TypeError, IndexError, ValueError):
            raise InputError(f"prompts: {name} does not take {list(arguments)}") from None
        held.count += 1
    return held.session


def apply(
    models: Models, *, key: str, path: str, weights: str, operations: Sequence[Operation], preset: str = ""
) -> dict[str, Any]:
    """Apply operations to the prompts of an image, and predict its masks.

    ``operations`` are all of this session, of which those at the end are new; the gallery of ``preset`` names the
    masks. Returns points, box, the masks with outlines and metrics, which one is chosen, warnings and times.
    """
    session = _session(models, key, path, weights, operations)
    state, found = session.state, None
    if not state.empty:
        found = session.predict()
        if preset:
            named = found.named(session.image, models.analyzer(preset).identify)
            found = named if state.choice is None else dataclasses.replace(named, chosen=state.choice)
    return {
        "width": session.size[1],
        "height": session.size[0],
        "points": [list(point) for point in state.points],
        "box": state.box,
        "refined": state.previous is not None,
        "warnings": list(session.warnings()),
        "use": dataclasses.asdict(session.use),
        **({} if found is None else _masks(models, found, preset)),
    }


def forget(models: Models, *, key: str) -> None:
    """Drop the prompts of a key, but not the embedding of its image."""
    held = models.prompts.get(key)
    if held is not None:
        held.count = 0
        held.session = PromptSession(held.session.image, held.session.model, embedding=held.session.embedding)


def _masks(models: Models, found: Prediction, preset: str) -> dict[str, Any]:
    thresholds = models.analyzer(preset).thresholds if preset else None
    masks = []
    for mask in found.masks:
        row = {**found.metrics(mask.index), "path": "" if mask.region is None else svg_path(mask.region)}
        if thresholds is not None and (who := found.identities[mask.index]) is not None:
            row["who"] = identity_news(who, thresholds.threshold(who.label))
        masks.append(row)
    return {
        "masks": masks,
        "chosen": found.chosen,
        "ambiguity": found.ambiguity,
        "milliseconds": found.milliseconds,
    }


def hover(
    models: Models,
    *,
    key: str,
    path: str,
    weights: str,
    operations: Sequence[Operation],
    point: tuple[float, float, bool],
) -> dict[str, Any]:
    """Return the outline of the mask that one more point would give; the session does not change."""
    held = _session(models, key, path, weights, operations)
    session = PromptSession(held.image, held.model, embedding=held.embedding)
    state = held.state
    if state.box is not None:
        session.set_box(*state.box)
    for each in (*state.points, point):
        session.add_point(*each)
    found = session.predict()
    held.embedding = session.embedding
    mask = found.mask
    return {"path": "" if mask.region is None else svg_path(mask.region), "milliseconds": found.milliseconds}


def save(
    models: Models,
    step: Watch,
    *,
    key: str,
    path: str,
    name: str,
    weights: str,
    operations: Sequence[Operation],
    out: str,
) -> dict[str, Any]:
    """Accept the mask and write it as an image, beside the files of ``naruto-vision segment``; returns ``run.json``."""
    session = _session(models, key, path, weights, operations)
    found, state = session.accept(), session.state
    segmented = segment_sessions([session], [found], state.choice, state.points)
    if (region := found.mask.region) is not None:
        white = np.where(region.full_mask(*session.size)[..., None], np.uint8(255), np.uint8(0)).repeat(3, axis=2)
        segmented = dataclasses.replace(segmented, images={**segmented.images, f"mask_{STEM}.png": white})
    writer = SegmentWriter(out, [name], {"model": session.model.fingerprint, "prompts": session.points_json()})
    times = {"segment": found.milliseconds}
    models.note(writer.write(name, session.image, segmented, file_sha256(path), times), times)
    writer.close()
    step(1, 1, None)
    return writer.finish([], {"versions": software_versions()})


def enrol(
    models: Models,
    *,
    key: str,
    path: str,
    name: str,
    weights: str,
    operations: Sequence[Operation],
    preset: str,
    label: str,
) -> dict[str, Any]:
    """Add the box of the mask to the gallery under a name; returns the facts of the ledger's new line."""
    session = _session(models, key, path, weights, operations)
    region = session.accept().mask.region
    if region is None:
        raise InputError("enrol: the chosen mask is empty")
    x1, y1, x2, y2 = region.box
    return enrol_images(models, preset, [(session.image[y1 : y2 + 1, x1 : x2 + 1], Path(name).stem)], label)
