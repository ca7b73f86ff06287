"""``SceneAccuracy``, the torchmetrics twin of ``scene.count_scene``."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from naruto_vision.metrics.scene import SceneCounts, SceneReport, add_counts, count_scene
from naruto_vision.records import LabelledBox


class SceneAccuracy(Metric):
    """Object accuracy, recalls, precision and per-class figures over scenes.

    Each scene is one line of JSON in a byte tensor. Bytes are concatenated, so the result is exact in any number of
    processes; a scene that a distributed sampler gave to two of them counts once, by its name.

    Args:
        iou_match: Smallest inclusive IoU of a match, in [0, 1].
        kwargs: Passed on to ``torchmetrics.Metric``.

    Raises:
        ValueError: If ``iou_match`` is outside [0, 1].

    Examples:
        >>> import naruto_vision as nv
        >>> metric = nv.SceneAccuracy()
        >>> truth = nv.LabelledBox((0, 0, 9, 9), "ayame")
        >>> metric.update([[nv.LabelledBox((0, 0, 9, 8), "ayame", 0.9)]], [[truth]], ["a.png"])
        >>> metric.report().object_accuracy.value
        1.0
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = True

    records: list[Tensor]

    def __init__(self, iou_match: float = 0.5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 0.0 <= iou_match <= 1.0:
            raise ValueError(f"SceneAccuracy: expected iou_match in [0, 1], found {iou_match}")
        self.iou_match = iou_match
        self.add_state("records", default=[], dist_reduce_fx="cat")
        self._keep_byte_type()

    def _keep_byte_type(self) -> None:
        """Start with an empty byte tensor: torchmetrics would gather a float one from a process without scenes."""
        self.records = [torch.zeros(0, dtype=torch.uint8, device=self.device)]

    def reset(self) -> None:
        """Remove all scenes."""
        super().reset()
        self._keep_byte_type()

    def update(
        self,
        predictions: Sequence[Sequence[LabelledBox]],
        truths: Sequence[Sequence[LabelledBox]],
        names: Sequence[str] | None = None,
    ) -> None:
        """Add scenes.

        Args:
            predictions: Predicted boxes of S scenes, inclusive pixels.
            truths: The true objects of the same S scenes, inclusive pixels.
            names: Names of the S scenes; a repeated name counts once. Without names every scene counts.

        Raises:
            ValueError: If the lengths differ.
        """
        known: Sequence[str | None] = [None] * len(truths) if names is None else names
        if not len(predictions) == len(truths) == len(known):
            msg = f"SceneAccuracy: {len(predictions)} predicted scenes, {len(truths)} true ones, {len(known)} names"
            raise ValueError(msg)
        scenes = [count_scene(guess, truth, self.iou_match) for guess, truth in zip(predictions, truths, strict=True)]
        lines = [json.dumps([name, asdict(scene)]) + "\n" for name, scene in zip(known, scenes, strict=True)]
        data = "".join(lines).encode("ascii")
        self.records.append(torch.tensor(list(data), dtype=torch.uint8, device=self.device))

    def counts(self) -> SceneCounts:
        """Return the counts of this process's scenes."""
        joined = torch.cat(self.records) if isinstance(self.records, list) else self.records
        scenes: dict[object, SceneCounts] = {}
        for number, line in enumerate(joined.cpu().numpy().tobytes().splitlines()):
            name, values = json.loads(line)
            values["classes"] = {label: (right, total) for label, (right, total) in values["classes"].items()}
            scenes.setdefault(number if name is None else name, SceneCounts(**values))
        return add_counts(scenes.values())

    def compute(self) -> dict[str, Tensor]:
        """Return the five figures for a logger; NaN where the denominator is 0.

        Returns:
            Name to a scalar float32 tensor: ``object_accuracy``, ``recall``, ``reference_recall``,
            ``class_given_matched``, ``precision``.
        """
        rates = SceneReport(self.counts(), self.iou_match).rates()
        return {
            name: torch.tensor(float("nan") if rate.value is None else rate.value, device=self.device)
            for name, rate in rates.items()
        }

    def report(self) -> SceneReport:
        """Return the figures with their counts and intervals, gathered from all processes.

        In a distributed run every process has to call it.
        """
        with self.sync_context(should_sync=self.sync_on_compute):
            return SceneReport(self.counts(), self.iou_match)
