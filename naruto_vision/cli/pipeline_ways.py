"""What ``naruto-vision bench pipeline`` times: ``predict`` itself, and the same job written the usual way."""

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pycocotools import mask as coco
from torch import Tensor
from torch.nn.functional import normalize

from naruto_vision.callbacks.scenes import SceneWriterCallback
from naruto_vision.cli.train_loops import silence
from naruto_vision.cli.trainer import NarutoCLI
from naruto_vision.data.gallery_data import GalleryDataModule
from naruto_vision.errors import InputError
from naruto_vision.io.images import read_image
from naruto_vision.modules.scene_retriever import SceneRetriever
from naruto_vision.recognition.analyzer import SceneAnalyzer
from naruto_vision.recognition.decision import decide
from naruto_vision.recognition.writer import LOG, TIMES, SceneWriter, read_log
from naruto_vision.records import Identity, ImageArray, Neighbour, Region, ScenePrediction
from naruto_vision.segmentation.crops import crop_region
from naruto_vision.segmentation.stock import StockSegmenter

STEPS = ("segment", "embed", "search")
_MATCH = 0.99  # mask IoU from which two regions are the same one
_DECISIONS = frozenset({"vote", "top1", "max"})


class OneByOne:
    """A scene the way it is usually written: the stock mask generator, then region by region and crop by crop.

    Args:
        analyzer: Whose weights, settings and gallery are used, so that the answers can be compared.

    Raises:
        InputError: If the analyzer decides by class means or merges parts, which this way does not know.
    """

    def __init__(self, analyzer: SceneAnalyzer) -> None:
        if analyzer.decision not in _DECISIONS or analyzer.merge is not None:
            msg = f"bench pipeline: expected one of {', '.join(sorted(_DECISIONS))}, and no merging of parts"
            raise InputError(msg)
        ours = analyzer.segmenter
        self.analyzer = analyzer
        self.encoder = copy.copy(analyzer.encoder)  # the same layers, run by the library's own forward pass
        self.encoder.stock = True
        self.segmenter = StockSegmenter(
            ours.prompter,
            ours.model,
            predicted_iou=ours.thresholds.predicted_iou,
            stability=ours.thresholds.stability,
            stability_offset=ours.thresholds.stability_offset,
            box_nms=ours.thresholds.box_nms,
            keep=ours.keep,
            crops=ours.crops,
        )

    @torch.inference_mode()
    def __call__(self, image: ImageArray, scene: str) -> ScenePrediction:
        """Analyse one scene.

        Args:
            image: Shape (H, W, 3), uint8, RGB, upright.
            scene: The name that the prediction carries.

        Returns:
            Regions with their identities, and the milliseconds of each step.
        """
        times = dict.fromkeys(STEPS, 0.0)
        begun = time.perf_counter()
        regions = tuple(self.segmenter(image))
        times["segment"] = (time.perf_counter() - begun) * 1e3
        identities = []
        for region in regions:
            begun = time.perf_counter()
            query = self._embed(image, region)
            between = time.perf_counter()
            identities.append(self._search(query))
            times["embed"] += (between - begun) * 1e3
            times["search"] += (time.perf_counter() - between) * 1e3
        height, width = image.shape[:2]
        return ScenePrediction(scene, width, height, regions, tuple(identities), times)

    def _embed(self, image: ImageArray, region: Region) -> Tensor:
        """Return the region's vector (D,), float32, of length 1 unless averages are left as they are."""
        own, encoder = self.analyzer, self.encoder
        device = next(encoder.parameters()).device
        views = []
        for settings in own.crops:
            pixels = encoder.preprocess(crop_region(image, region, settings))[None].to(device)
            vector = encoder.encode_images(pixels)[0]
            if own.mirror:
                vector = (vector + encoder.encode_images(pixels.flip(-1))[0]) / 2
                vector = normalize(vector, dim=0) if own.renormalise else vector
            views.append(vector)
        query = torch.stack(views).mean(dim=0)
        return (normalize(query, dim=0) if own.renormalise else query).float().cpu()

    def _search(self, query: Tensor) -> Identity:
        own, gallery = self.analyzer, self.analyzer.gallery
        scores = gallery.vectors @ query.numpy()
        best = np.argsort(-scores, kind="stable")[: own.neighbours]
        ids, rows = gallery.content.ids, gallery.rows
        found = [Neighbour(int(ids[i]), rows[i].label, float(scores[i]), rows[i].path) for i in best.tolist()]
        return decide(found, gallery.thresholds, own.decision)


@dataclass(frozen=True)
class Parts:
    """What a ``predict`` is made of.

    Args:
        setup: Model, data and Trainer.
        module: The model.
        data: The data.
        writer: The callback that writes.
    """

    setup: NarutoCLI
    module: SceneRetriever
    data: GalleryDataModule
    writer: SceneWriterCallback


def find_parts(setup: NarutoCLI) -> Parts:
    """Take a ``predict`` apart.

    Args:
        setup: Model, data and Trainer of a scene config.

    Raises:
        InputError: If they are of another kind.
    """
    writers = [one for one in vars(setup.trainer)["callbacks"] if isinstance(one, SceneWriterCallback)]
    module, data = setup.model, setup.datamodule
    if not isinstance(module, SceneRetriever) or not isinstance(data, GalleryDataModule) or not writers:
        msg = "bench pipeline: expected a scene config as scenes.yaml, with a SceneRetriever and a SceneWriterCallback"
        raise InputError(msg)
    return Parts(setup, module, data, writers[0])


def predict_all(parts: Parts, out: Path) -> None:
    """Do what ``naruto-vision predict`` does, from the first image to ``run.json``.

    Args:
        parts: Model, data and Trainer.
        out: A folder that is not there yet.
    """
    parts.writer.out = out
    with silence():
        parts.setup.trainer.predict(parts.module, parts.data, return_predictions=False)


def one_by_one(parts: Parts, out: Path) -> None:
    """Do the same job in the usual way; the same files are written.

    Args:
        parts: Model, data and Trainer.
        out: A folder that is not there yet.
    """
    dataset = parts.data.dataset("predict")
    parts.module.to(parts.setup.trainer.strategy.root_device)
    way, labels = OneByOne(parts.module.analyzer), parts.module.analyzer.gallery.labels
    module, settings = parts.module, parts.writer.settings
    writer = SceneWriter(out, dataset.scenes, labels, {}, crop=module.crop, overlay=module.overlay, settings=settings)
    for scene in dataset.scenes:
        image = read_image(dataset.images / scene)
        writer.write(image, way(image, scene))
    writer.close()
    writer.finish([], {})


@dataclass(frozen=True)
class Parity:
    """How far two folders of results agree.

    Args:
        reference: Regions that the usual way found.
        ours: Regions that ``predict`` found.
        matched: Regions of both at a mask IoU of 0.99 or more.
        same: Those of them that have the same name and the same best label.
    """

    reference: int
    ours: int
    matched: int
    same: int

    @property
    def share(self) -> float:
        """Regions on which both agree, of all that either found."""
        every = self.reference + self.ours - self.matched
        return self.same / every if every else 1.0


def compare(ours: Path, reference: Path) -> Parity:
    """Compare the logs of two folders, region by region.

    Args:
        ours: Written by ``predict``.
        reference: Written in the usual way.
    """
    found = {record["scene"]: record["regions"] for record in read_log(ours / LOG)}
    counts = [0, 0, 0, 0]
    for record in read_log(reference / LOG):
        theirs, own = record["regions"], found.pop(record["scene"], [])
        pairs = _pairs(theirs, own)
        same = sum(_named(theirs[i]) == _named(own[j]) for i, j in pairs)
        for place, count in enumerate((len(theirs), len(own), len(pairs), same)):
            counts[place] += count
    counts[1] += sum(map(len, found.values()))
    return Parity(*counts)


def _named(region: dict[str, Any]) -> tuple[str, str]:
    return region["label"], region["name"]


def _pairs(first: Sequence[dict[str, Any]], second: Sequence[dict[str, Any]]) -> list[tuple[int, int]]:
    """Match regions one to one, best overlap first."""
    if not first or not second:
        return []
    overlap = np.asarray(coco.iou([r["mask"] for r in first], [r["mask"] for r in second], [0] * len(second)))
    pairs = []
    while overlap.max() >= _MATCH:
        i, j = (int(place) for place in np.unravel_index(overlap.argmax(), overlap.shape))
        pairs.append((i, j))
        overlap[i], overlap[:, j] = -1.0, -1.0
    return pairs


def step_means(out: Path) -> dict[str, float]:
    """Average the steps' times over the scenes of a folder.

    Args:
        out: A folder of results.

    Returns:
        Step to milliseconds a scene.
    """
    rows = list(read_log(out / TIMES))
    return {step: sum(row.get(step, 0.0) for row in rows) / max(1, len(rows)) for step in STEPS}
