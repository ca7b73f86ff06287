"""Name the characters of scenes, and explain the name of a region."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from naruto_vision.geometry import mask_from_rle
from naruto_vision.io.bundles import file_sha256
from naruto_vision.io.images import IMAGE_FAULTS, encode_image, read_image, shrink
from naruto_vision.io.quarantine import Quarantine
from naruto_vision.prompting.monitor import Monitor
from naruto_vision.prompting.writer import read_results
from naruto_vision.recognition.analyzer import SceneAnalyzer
from naruto_vision.recognition.explain import row_image, why_named
from naruto_vision.recognition.writer import SceneWriter, software_versions
from naruto_vision.records import Identity, ImageArray, Region, ScenePrediction
from naruto_vision.ui.engine import Watch
from naruto_vision.ui.models import Models
from naruto_vision.ui.settings import VIEW, SceneSettings
from naruto_vision.ui.shapes import svg_path
from naruto_vision.viz.explain_page import over
from naruto_vision.viz.overlay import choose_for_overlay, hex_colour, label_colours

_THUMBNAIL = 192
_GREY = (128, 128, 128)  # of unknown regions


def view(models: Models, path: str, to: str) -> tuple[int, int]:  # noqa: ARG001 - every task takes the models
    """Write an image as a browser shows it, at most 1600 pixels a side; returns its own width and height."""
    image = read_image(path)
    Path(to).write_bytes(encode_image(shrink(image, VIEW), Path(to).suffix))
    return image.shape[1], image.shape[0]


def controls(models: Models, *, preset: str) -> SceneSettings:
    """Return the controls of a scene as a preset has them."""
    return models.controls(preset)


def analyze(
    models: Models, step: Watch, *, preset: str, files: Sequence[tuple[str, str]], out: str, settings: SceneSettings
) -> dict[str, Any]:
    """Name the characters of scenes, given by name and path; writes what ``predict`` writes, and returns ``run.json``.

    ``step`` gets each scene: its regions with outlines, names and evidence, or why it cannot be used.
    """
    analyzer = models.analyzer(preset, settings)
    names = [name for name, _ in files]
    writer = SceneWriter(
        out, names, analyzer.gallery.labels, analyzer.facts(), crop=analyzer.crops[0], overlay=analyzer.overlay
    )
    quarantine = Quarantine("scenes")
    for number, (name, path) in enumerate(files, start=1):
        image = quarantine.read(name, partial(read_image, path))
        news: dict[str, Any] = {"scene": name}
        if image is not None and name not in writer.done:
            try:
                prediction = analyzer(image, name)
            except IMAGE_FAULTS as error:
                quarantine.refuse(name, f"{name}: fails in the search ({type(error).__name__})")
            else:
                writer.write(image, prediction, file_sha256(path))
                news |= scene_news(analyzer, prediction)
        if quarantine.rows and quarantine.rows[-1].path == name:
            news["error"] = quarantine.rows[-1].reason
        step(number, len(files), news)
    writer.close()
    monitor = Monitor()
    for record, times in read_results(out):
        monitor.add(record, times)
        models.note(record, times)
    facts = {"versions": software_versions(), **monitor.facts()}
    return writer.finish(quarantine.rows, facts)


def scene_news(analyzer: SceneAnalyzer, prediction: ScenePrediction) -> dict[str, Any]:
    """Return what the page shows of a scene: size, times, and each region with outline, name, scores and reasons."""
    shown = choose_for_overlay(prediction, analyzer.overlay)
    colours = label_colours(analyzer.gallery.labels)
    regions = []
    for index, (region, who) in enumerate(zip(prediction.regions, prediction.identities, strict=True)):
        regions.append(
            {
                "index": index,
                "path": svg_path(region),
                "box": region.box,
                "area": region.area,
                "shown": index in shown,
                "colour": hex_colour(colours.get(who.name, _GREY)),
                "predicted_iou": region.predicted_iou,
                "stability": region.stability,
                **identity_news(who, analyzer.thresholds.threshold(who.label)),
            }
        )
    return {
        "width": prediction.width,
        "height": prediction.height,
        "milliseconds": {name: round(value, 1) for name, value in prediction.milliseconds.items()},
        "regions": regions,
    }


def identity_news(who: Identity, threshold: float | None) -> dict[str, Any]:
    """Return the name of a region or an image, its evidence, and why it is known or unknown."""
    return {
        "name": who.name,
        "label": who.label,
        "score": who.score,
        "margin": who.margin,
        "p_value": who.p_value,
        "threshold": threshold,
        "why": why_named(who, threshold),
        "neighbours": [
            {"id": each.row, "label": each.label, "score": each.score, "path": each.path} for each in who.neighbours[:5]
        ],
    }


def explain(models: Models, *, preset: str, path: str, box: Sequence[int], rows: Sequence[str]) -> dict[str, Any]:
    """Return thumbnails of a region: its crop, and its nearest gallery images (None where one is missing), as JPEG."""
    image, (x1, y1, x2, y2) = read_image(path), box
    return {
        "crop": thumbnail(image[y1 : y2 + 1, x1 : x2 + 1]),
        "neighbours": thumbnails(models, preset=preset, rows=rows),
    }


def heat_maps(
    models: Models, *, preset: str, settings: SceneSettings, path: str, out: str, scene: str, index: int
) -> list[bytes]:
    """Return small JPEG images of a region and of its best entry, with heat maps of the patches behind the score."""
    analyzer, image = models.analyzer(preset, settings), read_image(path)
    row = next(record for record, _ in read_results(out) if record["scene"] == scene)["regions"][index]
    x1, y1, x2, y2 = box = tuple(row["bbox"])
    region = Region(box, np.ascontiguousarray(mask_from_rle(row["mask"])[y1 : y2 + 1, x1 : x2 + 1]))
    named = ScenePrediction("", image.shape[1], image.shape[0], (region,), analyzer.identify(image, [region]))
    found = analyzer.explain(named, 0, image)
    pairs = ((found.image, found.heat), (found.images[found.matched], found.matched_heat))
    return [thumbnail(over(image, heat)) for image, heat in pairs if image is not None]


def thumbnails(models: Models, *, preset: str, rows: Sequence[str]) -> list[bytes | None]:
    """Return thumbnails of gallery entries by their paths, as JPEG; None where one is missing or no image."""
    gallery = models.analyzer(preset).gallery
    return [entry_thumbnail(gallery.folder, gallery.note, row) for row in rows]


def entry_thumbnail(folder: str | Path | None, note: Mapping[str, Any], row: str) -> bytes | None:
    """Return a thumbnail of a gallery entry as JPEG; None where ``row_image`` finds none."""
    image = row_image(folder, note, row)
    return None if image is None else thumbnail(image)


def thumbnail(image: ImageArray) -> bytes:
    """Return an image (H, W, 3), uint8, as a small JPEG."""
    return encode_image(shrink(image, _THUMBNAIL), ".jpg", 85)
