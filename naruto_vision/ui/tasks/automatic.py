"""Segment an image without prompts of the user, and describe its regions."""

import copy
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import msgspec

from naruto_vision.captioning.attributes import AttributeDescriber
from naruto_vision.captioning.protocol import Describer, Description, ImageRegion
from naruto_vision.captioning.relations import Relation, relation_lines
from naruto_vision.captioning.scenes import RunScenes
from naruto_vision.captioning.writer import DESCRIPTIONS, SceneDescriber
from naruto_vision.encoders.backbone import LITE0
from naruto_vision.encoders.opening import open_encoder
from naruto_vision.encoders.tiny import TINY_CLIP
from naruto_vision.errors import InputError
from naruto_vision.geometry import mask_from_rle
from naruto_vision.io.quarantine import Quarantine
from naruto_vision.io.typed_json import read_json_lines
from naruto_vision.prompting.contours import ContourPrompter
from naruto_vision.prompting.exemplar import ExemplarMode, ExemplarPrompter
from naruto_vision.prompting.mode import SegmenterMode, SegmentMode
from naruto_vision.prompting.monitor import Monitor
from naruto_vision.prompting.presets import packaged_presets
from naruto_vision.prompting.saliency import SaliencyMode, SaliencyPrompter
from naruto_vision.prompting.sweep import SweepConfig, SweepSegmenter
from naruto_vision.prompting.sweep_mode import SweepMode
from naruto_vision.prompting.text import TextPrompter
from naruto_vision.prompting.writer import SegmentWriter, segment_file
from naruto_vision.recognition.writer import LOG, software_versions
from naruto_vision.segmentation.generator import RegionFilter, Segmenter
from naruto_vision.segmentation.prompts import GridPrompter
from naruto_vision.segmentation.protocol import MaskPredictions, PromptableModel
from naruto_vision.ui.engine import Watch
from naruto_vision.ui.models import Models
from naruto_vision.ui.settings import (
    AutomaticSettings,
    ExemplarSettings,
    GridSettings,
    SaliencySettings,
    SweepSettings,
    TextSettings,
)
from naruto_vision.ui.shapes import mask_path
from naruto_vision.viz.overlay import hex_colour, label_colours

_TOLD = 16  # regions that are described at a time: as many as a CPU embeds, so that the vectors are those of all


def segment(
    models: Models,
    step: Watch,
    *,
    path: str,
    name: str,
    weights: str,
    settings: AutomaticSettings,
    gallery: str,
    describe: bool,
    out: str,
) -> dict[str, Any]:
    """Segment an image and describe its regions; writes what ``segment`` and ``describe`` write, returns ``run.json``.

    ``step`` gets ``prompts`` (how many were answered), then ``regions`` with outlines and metrics, then ``description``
    with the ``index`` of its region, one after the other, and the ``relations`` at last. ``gallery`` is the folder of
    that of the exemplars.
    """
    asked, expected = 0, _prompts(settings)

    def pause(prompts: int) -> None:
        nonlocal asked
        asked += prompts
        step(min(asked, expected - 1), expected, {"prompts": asked})

    pause(0)
    quarantine = Quarantine("images")
    mode = _mode(models, weights, settings, gallery, pause)
    writer = SegmentWriter(out, [name], mode.identity)
    done = segment_file(mode, writer, quarantine, name, Path(path))
    writer.close()
    if done is None:
        raise InputError(quarantine.rows[0].reason)
    record, times = done
    models.note(record, times)
    monitor = Monitor()
    monitor.add(record, times)
    facts = {"versions": software_versions(), **monitor.facts()}
    run = writer.finish([], facts)
    steps = expected + len(record["regions"]) * describe
    step(expected, steps, region_news(record) | {"milliseconds": times})
    if describe and record["regions"]:

        def after(done: int, total: int, news: Any) -> None:  # noqa: ANN401 - passed on
            step(expected + done, expected + total, news)

        _describe(models, after, name, Path(path), Path(out), len(record["regions"]))
    return run


def _prompts(settings: AutomaticSettings) -> int:
    """Return about how many prompts will be answered, for the progress."""
    match settings:
        case GridSettings():
            return settings.points_per_side**2
        case SweepSettings():
            return settings.columns * settings.rows + len(settings.points)
        case _:
            return settings.num_objects or 1


def _watched(model: PromptableModel, pause: Callable[[int], None]) -> PromptableModel:
    """Return a model that calls ``pause`` with the number of prompts of each batch, so that others get a turn."""
    watched = copy.copy(model)

    def predict_masks(embedding: Any, prompts: Any, *options: Any, **more: Any) -> Iterator[MaskPredictions]:  # noqa: ANN401 - passed on
        pause(len(prompts.points))
        for some in model.predict_masks(embedding, prompts, *options, **more):
            yield some
            pause(0)

    watched.predict_masks = predict_masks  # type: ignore[method-assign]  # of this copy alone
    return watched


def _mode(
    models: Models, weights: str, settings: AutomaticSettings, gallery: str, pause: Callable[[int], None]
) -> SegmentMode:
    """Build the mode that the commands build."""
    model = _watched(models.promptable(weights), pause)
    name = weights or models.weights[0]
    match settings:
        case SaliencySettings():
            return SaliencyMode(_saliency(models, _preset_values(settings)), model)
        case SweepSettings():
            config = SweepConfig(
                mode=settings.rule,
                min_area=settings.min_area,
                predicted_iou=settings.predicted_iou,
                order=settings.order,
            )
            points = ContourPrompter((settings.columns, settings.rows))
            before = [_saliency(models, {})] if settings.saliency else []
            return SweepMode(SweepSegmenter(model, points, config, before), settings.points, model=name)
        case GridSettings():
            keep = RegionFilter(min_area=settings.min_area, max_masks=None)
            return SegmenterMode(Segmenter(GridPrompter(settings.points_per_side), model, keep=keep))
        case TextSettings():
            words = TextPrompter(
                settings.texts,
                _encoder(models, TINY_CLIP),
                similarity=settings.similarity,
                num_objects=settings.num_objects,
            )
            return ExemplarMode(words, model)
        case ExemplarSettings():
            looks = ExemplarPrompter(
                (),
                gallery,
                settings.labels,
                _encoder(models, LITE0),
                similarity=settings.similarity,
                num_objects=settings.num_objects,
            )
            return ExemplarMode(looks, model)


def _preset_values(settings: SaliencySettings) -> dict[str, Any]:
    """Return the settings of ``SaliencyPrompter``: those of the preset, changed by what is given."""
    presets = packaged_presets()
    if settings.preset not in presets:
        raise InputError(f"preset: expected one of {', '.join(presets)}, found {settings.preset!r}")
    own = {name: getattr(settings, name) for name in ("num_objects", "prompt_type", "threshold", "min_area")}
    rows = (*msgspec.structs.asdict(presets[settings.preset]).items(), *own.items())
    return {name: value for name, value in rows if value is not None}


def _saliency(models: Models, values: Mapping[str, Any]) -> SaliencyPrompter:
    """Return a prompter with these settings; its network is opened once."""
    network = {name: values[name] for name in ("model", "weights", "map", "image_size", "split") if name in values}

    def make() -> SaliencyPrompter:
        opened = SaliencyPrompter(**network)
        opened.encoder.to(models.device)
        return opened

    prompter = copy.copy(cast("SaliencyPrompter", models.kept.get_or(("saliency", repr(network)), make)))
    for name, value in values.items():
        if name not in network:
            setattr(prompter, name, value)
    return prompter


def _encoder(models: Models, name: str) -> Any:  # noqa: ANN401 - an encoder
    return models.kept.get_or(("encoder", name), lambda: open_encoder(name).to(models.device))


def region_news(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the page shows of a line of ``predictions.jsonl``: each region with outline, colour and metrics."""
    tags = [str(row.get("name") or row.get("label") or number) for number, row in enumerate(record["regions"], start=1)]
    colours = label_colours(tags)
    rows = [
        {
            **{name: value for name, value in row.items() if name != "mask"},
            "index": index,
            "tag": tags[index],
            "colour": hex_colour(colours[tags[index]]),
            "path": mask_path(mask_from_rle(row["mask"])),
        }
        for index, row in enumerate(record["regions"])
    ]
    return {"width": record["width"], "height": record["height"], "note": record.get("note", ""), "regions": rows}


class _Telling(Describer):
    """A describer that reports each description of the first round, a few at a time."""

    def __init__(self, inner: Describer, tell: Callable[[Description], None]) -> None:
        self._inner, self._tell = inner, tell
        self.batch_size = inner.batch_size

    @property
    def name(self) -> str:
        """That of the inner one."""
        return self._inner.name

    @property
    def identity(self) -> Mapping[str, Any]:
        """That of the inner one."""
        return self._inner.identity

    def load(self) -> None:
        """Load the inner one."""
        self._inner.load()

    def unload(self) -> None:
        """Keep the inner one, which the next job uses."""

    def describe(self, items: Sequence[ImageRegion], *, again: bool = False) -> list[Description]:
        """Describe regions a few at a time."""
        found: list[Description] = []
        for start in range(0, len(items), _TOLD):
            some = self._inner.describe(items[start : start + _TOLD], again=again)
            found += some
            for each in () if again else some:
                self._tell(each)
        return found


def _describe(models: Models, step: Watch, name: str, path: Path, out: Path, steps: int) -> None:
    """Describe the regions of the results in a folder, as ``describe`` does."""
    told = 0

    def tell(description: Description) -> None:
        nonlocal told
        step(told, steps, {"index": told, "description": description.text})
        told += 1

    describer = models.kept.get_or(("describer",), lambda: AttributeDescriber(_encoder(models, TINY_CLIP)))
    with tempfile.TemporaryDirectory() as images:  # where the results find the image by its name
        (Path(images) / name).symlink_to(path.resolve())
        source = RunScenes(out / LOG, Path(images))
        SceneDescriber(source, _Telling(describer, tell), out).run()
    (line,) = read_json_lines(out / DESCRIPTIONS, dict[str, Any])
    for index, row in enumerate(line["regions"]):
        step(steps, steps, {"index": index, "description": row["description"]})
    relations = [Relation(each["a"], each["b"], tuple(each["relations"])) for each in line["relations"]]
    step(steps, steps, {"relations": relation_lines(relations)})
