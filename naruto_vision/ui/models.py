"""``Models``: what is opened once in the process with the models, for all sessions."""

import copy
import dataclasses
import json
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from naruto_vision.errors import InputError
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.gallery.store import read_manifest
from naruto_vision.recognition.analyzer import SceneAnalyzer
from naruto_vision.segmentation.crops import CropConfig
from naruto_vision.segmentation.generator import RegionFilter, Segmenter
from naruto_vision.segmentation.opening import open_promptable_model
from naruto_vision.ui.settings import BACKGROUNDS, SceneSettings
from naruto_vision.viz.overlay import OverlayConfig

if TYPE_CHECKING:
    from naruto_vision.segmentation.sam import SamModel
    from naruto_vision.segmentation.sam2 import Sam2Model

T = TypeVar("T")
D = TypeVar("D", RegionFilter, CropConfig, OverlayConfig)
_SESSIONS = 64  # of prompts; each holds an image and its embedding
_ROOM = 1 << 29  # bytes of their images together
_OPEN = 4  # of any other kind


class Recent(OrderedDict[Any, T]):
    """The values that were used last: at most ``most``, whose sizes have ``room`` together; the newest in any case."""

    def __init__(self, most: int, size: Callable[[T], int] = lambda _: 0, room: int = 0) -> None:
        super().__init__()
        self._most, self._size, self._room = most, size, room

    def get_or(self, key: object, make: Callable[[], T]) -> T:
        """Return the value of a key, made if there is none."""
        if key not in self:
            self[key] = make()
            while len(self) > self._most or (len(self) > 1 and sum(map(self._size, self.values())) > self._room):
                self.popitem(last=False)
        self.move_to_end(key)
        return self[key]


class Models:
    """The analyzers, promptable models and prompt sessions of the web application.

    ``presets``, ``weights`` and ``store`` are those of ``UiConfig``; ``notes`` is a file of numbers for monitoring, or
    "".
    """

    def __init__(self, presets: Mapping[str, str], weights: tuple[str, ...], store: str, notes: str = "") -> None:
        self.presets, self.weights, self.store, self.notes = dict(presets), weights, store, notes
        self.prompts: Recent[Any] = Recent(_SESSIONS, lambda held: held.session.image.nbytes, _ROOM)
        self.kept: Recent[Any] = Recent(2 * _OPEN)
        """Whatever else tasks open, such as the network of a saliency map, by a key of their own."""
        self._analyzers: Recent[SceneAnalyzer] = Recent(_OPEN)
        self._changed: Recent[SceneAnalyzer] = Recent(_OPEN)

    @property
    def device(self) -> str:
        """Where models compute: a GPU if there is one."""
        return "cuda" if torch.cuda.is_available() else "cpu"

    def note(self, record: Mapping[str, Any], milliseconds: Mapping[str, float]) -> None:
        """Note the numbers of a segmented image, a line of ``predictions.jsonl``, and of its steps; no names."""
        if not self.notes:
            return
        keys = ("area", "predicted_iou", "points", "components", "perimeter")
        rows = [{key: row[key] for key in keys if key in row} for row in record["regions"]]
        line = {"width": record["width"], "height": record["height"], "regions": rows, "ms": dict(milliseconds)}
        with Path(self.notes).open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(line) + "\n")

    def folder(self, preset: str) -> Path:
        """Return the folder of a preset; InputError if there is none of that name."""
        if preset not in self.presets:
            expected = ", ".join(self.presets) or "none, as there is no gallery: see `naruto-vision ui --help`"
            raise InputError(f"preset {preset!r}: expected one of {expected}")
        return Path(self.presets[preset])

    def promptable(self, weights: str = "") -> "SamModel | Sam2Model":
        """Open a promptable model; one of an open analyzer with the same weights is shared."""
        name = weights or self.weights[0]
        if name not in self.weights:
            raise InputError(f"weights {name!r}: expected one of {', '.join(self.weights)}")

        def make() -> Any:  # noqa: ANN401 - of either class
            opened = open_promptable_model(name)
            same = (each.segmenter.model for each in self._analyzers.values())
            mark = opened.fingerprint
            shared = next((model for model in same if model.fingerprint == mark), None)
            return shared or opened.to(self.device)

        return self.kept.get_or(("promptable", name), make)  # type: ignore[no-any-return]  # made above

    def analyzer(self, preset: str, settings: SceneSettings | None = None) -> SceneAnalyzer:
        """Return the analyzer of a preset with its gallery as it is now, and with the controls of a scene."""
        import naruto_vision as nv

        folder = self.folder(preset)
        analyzer = self._analyzers.get_or(preset, lambda: nv.load(folder))
        place = analyzer.gallery.folder
        if place is not None and read_manifest(place)["generation"] != analyzer.gallery.generation:
            analyzer = self._analyzers[preset] = analyzer.replaced(gallery=Gallery.open(place))
        if settings is None:
            return analyzer
        key = (preset, analyzer.gallery.generation, settings)
        return self._changed.get_or(key, lambda: self._with_settings(analyzer, settings))

    def controls(self, preset: str) -> SceneSettings:
        """Return the controls of a scene as a preset has them."""
        analyzer = self.analyzer(preset)
        keep, crop, overlay = analyzer.segmenter.keep, analyzer.crops[0], analyzer.overlay
        return SceneSettings(
            top_k=min(overlay.top_k or 0, 5),
            prefer_different_label=overlay.prefer_different_label,
            min_area=keep.min_area,
            max_masks=min(keep.max_masks or 16, 16),
            expand=crop.expand,
            background=next((name for name, grey in BACKGROUNDS.items() if grey == crop.background), None),
            min_ratio=keep.min_box_ratio,
            max_ratio=keep.max_box_ratio,
            backend="auto",
        )

    def _with_settings(self, analyzer: SceneAnalyzer, settings: SceneSettings) -> SceneAnalyzer:
        segmenter = copy.copy(analyzer.segmenter)
        if settings.weights:
            segmenter = Segmenter(segmenter.prompter, self.promptable(settings.weights), crops=segmenter.crops)
        filters = {"min_area": "min_area", "max_masks": "max_masks"}
        filters |= {"min_box_ratio": "min_ratio", "max_box_ratio": "max_ratio"}
        segmenter.keep = _changed(analyzer.segmenter.keep, settings, filters)
        crop = _changed(analyzer.crops[0], settings, {"expand": "expand"})
        if settings.background is not None:
            crop = dataclasses.replace(crop, background=BACKGROUNDS[settings.background])
        overlay = _changed(analyzer.overlay, settings, {"prefer_different_label": "prefer_different_label"})
        if settings.top_k is not None:
            overlay = dataclasses.replace(overlay, top_k=settings.top_k or None)
        changes: dict[str, Any] = {"segmenter": segmenter, "crop": crop, "overlay": overlay}
        place = analyzer.gallery.folder
        if settings.backend not in {None, "auto"} and place is not None:
            changes["gallery"] = Gallery.open(place, index=settings.backend)
        return analyzer.replaced(**changes)


def _changed(config: D, settings: SceneSettings, names: Mapping[str, str]) -> D:
    """Return a config with those values of the settings that are not None; ``names`` maps its fields to theirs."""
    values = {field: getattr(settings, name) for field, name in names.items()}
    return dataclasses.replace(config, **{field: value for field, value in values.items() if value is not None})
