"""Scenes as the loader gives them, through the analyzer."""

import dataclasses
import logging
from collections.abc import Iterator, Sequence

from naruto_vision.data.scenes import SceneItem
from naruto_vision.records import ScenePrediction
from naruto_vision.scenes.analyzer import SceneAnalyzer

_LOG = logging.getLogger(__name__)


def analyse_items(
    analyzer: SceneAnalyzer, items: Sequence[SceneItem], *, together: bool = False
) -> Iterator[tuple[SceneItem, ScenePrediction]]:
    """Analyse scenes; one that could not be read is logged and has no regions.

    Args:
        analyzer: The path of a scene.
        items: Scenes.
        together: Embed and search all of them at once, and segment some side by side.

    Yields:
        Every scene with its prediction, whose times have ``decode`` too, in order. Where a scene raises an error,
        those before it have been given.
    """
    readable = [(item.picture, item.scene) for item in items if item.picture is not None]
    if together:
        found = analyzer.analyse(readable, max(1, len(readable)))
    else:
        found = (analyzer(picture, scene) for picture, scene in readable)
    for item in items:
        if item.picture is None:
            _LOG.warning("nothing can be found in a scene that cannot be read: %s", item.error)
            yield item, ScenePrediction(item.scene, 1, 1)
        else:
            prediction = next(found)
            times = {"decode": item.milliseconds, **prediction.milliseconds}
            yield item, dataclasses.replace(prediction, milliseconds=times)
