"""``gt.json``: the objects of every scene, checked through and through on reading."""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from naruto_vision.data.paths import refusal
from naruto_vision.errors import FormatError, JsonError, MissingPathError
from naruto_vision.files.atomic import write_json
from naruto_vision.records import Box, LabelledBox


def without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a JSON object that has a key twice, of which a plain reader would keep the last.

    Args:
        pairs: The object's keys and values, as ``json.loads(…, object_pairs_hook=…)`` gives them.

    Returns:
        The object.

    Raises:
        ValueError: If a key comes twice; the message names it.
    """
    value = dict(pairs)
    if len(value) != len(pairs):
        name, count = Counter(name for name, _ in pairs).most_common(1)[0]
        msg = f"{name!r} {count} times in one object"
        raise ValueError(msg)
    return value


def _read_box(path: Path, where: str, value: object) -> Box:
    numbers: list[Any] = value if isinstance(value, list) else []
    whole = [int(v) for v in numbers if type(v) in (int, float) and math.isfinite(v) and v == int(v)]
    if len(whole) != 4 or len(numbers) != 4:
        raise FormatError(path, f"in {where} a 'bbox' of four whole numbers [x1, y1, x2, y2]", repr(value)[:60])
    x1, y1, x2, y2 = whole
    if not (0 <= x1 <= x2 and 0 <= y1 <= y2):
        raise FormatError(path, f"in {where} 0 <= x1 <= x2 and 0 <= y1 <= y2 (inclusive corners)", repr(value)[:60])
    return x1, y1, x2, y2


def read_object(path: Path, where: str, value: object) -> LabelledBox:
    """Check one object of a scene file.

    Args:
        path: The file, for messages.
        where: The place in it, for messages.
        value: What stands there: ``{"bbox": [x1, y1, x2, y2], "label": text}``, inclusive pixels; other keys are
            passed over.

    Returns:
        The box, without a score.

    Raises:
        FormatError: If it is anything else.
    """
    if not isinstance(value, dict) or not {"bbox", "label"} <= value.keys():
        raise FormatError(path, f"in {where} an object with 'bbox' and 'label'", repr(value)[:60])
    label = value["label"]
    if not isinstance(label, str) or not label.strip():
        raise FormatError(path, f"in {where} a 'label' that is a non-empty text", repr(label)[:60])
    return LabelledBox(_read_box(path, where, value["bbox"]), label.strip())


def read_gt(path: str | Path) -> dict[str, tuple[LabelledBox, ...]]:
    """Read the ground truth of a scene folder.

    Args:
        path: A JSON object: scene path relative to the pictures' folder, to a list of
            ``{"bbox": [x1, y1, x2, y2], "label": text}`` in inclusive pixels of the upright picture.

    Returns:
        Scene to its objects, in the file's order; a scene in which nobody is known has none.

    Raises:
        MissingPathError: If there is no such file.
        FormatError: If anything in it is not as described; the message names the scene.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingPathError(path, "ground truth file")
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=without_repeats)
    except (ValueError, RecursionError) as error:  # both kinds of decode error are ValueErrors
        raise JsonError(path, error) from None
    if not isinstance(found, dict):
        raise FormatError(path, "an object of scenes", type(found).__name__)
    truth: dict[str, tuple[LabelledBox, ...]] = {}
    for scene, objects in found.items():
        reason = refusal(scene)
        if reason:
            raise FormatError(path, "scene names relative to the pictures' folder", f"{scene!r}, which {reason}")
        if not isinstance(objects, list):
            raise FormatError(path, f"in scene {scene!r} a list of objects", repr(objects)[:60])
        where = f"scene {scene!r} object"
        truth[scene] = tuple(read_object(path, f"{where} {i}", value) for i, value in enumerate(objects))
    return truth


def write_gt(path: str | Path, truth: Mapping[str, Sequence[LabelledBox]]) -> None:
    """Write a ground truth file, scenes in order of their names.

    Args:
        path: The file.
        truth: Scene path relative to the pictures' folder, to its objects.
    """
    document = {
        scene: [{"bbox": list(item.box), "label": item.label} for item in truth[scene]] for scene in sorted(truth)
    }
    write_json(path, document)
