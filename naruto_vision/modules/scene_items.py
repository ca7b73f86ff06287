"""Scenes as the loader gives them, through the analyzer."""

import dataclasses
import logging
from collections.abc import Iterator, Sequence

import lightning.pytorch as pl

from naruto_vision.data.scenes import SceneItem
from naruto_vision.metrics.scene_counts import SceneReport
from naruto_vision.records import ScenePrediction
from naruto_vision.scenes.analyzer import SceneAnalyzer

_LOG = logging.getLogger(__name__)


def analyse_items(
    analyzer: SceneAnalyzer, items: Sequence[SceneItem], group: int = 1
) -> Iterator[tuple[SceneItem, ScenePrediction]]:
    """Analyse scenes; one that could not be read is logged and has no regions.

    Args:
        analyzer: The path of a scene.
        items: Scenes.
        group: Scenes that are embedded and searched together.

    Yields:
        Every scene with its prediction, whose times have ``decode`` too, in order. Where a scene raises an error,
        those before it have been given.
    """
    found = analyzer.analyse([(item.picture, item.scene) for item in items if item.picture is not None], group)
    for item in items:
        if item.picture is None:
            _LOG.warning("nothing can be found in a scene that cannot be read: %s", item.error)
            yield item, ScenePrediction(item.scene, 1, 1)
        else:
            prediction = next(found)
            times = {"decode": item.milliseconds, **prediction.milliseconds}
            yield item, dataclasses.replace(prediction, milliseconds=times)


def log_rates(module: pl.LightningModule, stage: str, report: SceneReport) -> None:
    """Log the rates of a report that have a value.

    Args:
        module: Logs.
        stage: Stands in front of their names.
        report: Of scenes.
    """
    for name, rate in report.rates().items():
        if rate.value is not None:
            module.log(f"{stage}/{name}", rate.value, rank_zero_only=True)
