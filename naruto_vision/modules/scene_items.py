"""Scenes as the loader gives them, through the analyzer."""

import dataclasses
import logging
from collections.abc import Sequence

from naruto_vision.data.scenes import SceneItem
from naruto_vision.records import ScenePrediction
from naruto_vision.scenes.analyzer import SceneAnalyzer

_LOG = logging.getLogger(__name__)


def analyse_items(analyzer: SceneAnalyzer, items: Sequence[SceneItem]) -> list[tuple[SceneItem, ScenePrediction]]:
    """Analyse scenes; one that could not be read is logged and has no regions.

    Args:
        analyzer: The path of one scene.
        items: Scenes.

    Returns:
        Every scene with its prediction, whose times have ``decode`` too.
    """
    answers = []
    for item in items:
        if item.picture is None:
            _LOG.warning("nothing can be found in a scene that cannot be read: %s", item.error)
            answers.append((item, ScenePrediction(item.scene, 1, 1)))
            continue
        found = analyzer(item.picture, item.scene)
        times = {"decode": item.milliseconds, **found.milliseconds}
        answers.append((item, dataclasses.replace(found, milliseconds=times)))
    return answers
