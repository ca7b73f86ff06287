"""The encoder that a gallery remembers, as options of the commands that search it. No NumPy and no torch here."""

from collections.abc import Mapping
from typing import Any

_CLASSES = {"clip": "naruto_vision.encoders.clip.ClipEncoder", "dino": "naruto_vision.encoders.dino.DinoEncoder"}


def encoder_options(note: Mapping[str, Any]) -> list[str]:
    """Say which options of ``predict`` and ``test`` open the encoder that made a gallery.

    Args:
        note: The gallery's note; its ``encoder`` is what ``Encoder.recipe`` returned.

    Returns:
        The options, each with its value behind "="; none where the note does not say.

    Example:
        >>> encoder_options({"encoder": {"kind": "clip", "model": "tiny-clip", "pretrained": None}})
        ['--model.encoder.init_args.model=tiny-clip']
    """
    recipe = note.get("encoder")
    if not isinstance(recipe, Mapping) or recipe.get("kind") not in _CLASSES:
        return []
    chosen = [] if recipe["kind"] == "clip" else [f"--model.encoder={_CLASSES[recipe['kind']]}"]
    values = {key: value for key, value in recipe.items() if key != "kind" and value is not None}
    return [*chosen, *(f"--model.encoder.init_args.{key}={value}" for key, value in values.items())]
