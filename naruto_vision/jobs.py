"""``enrol`` and ``evaluate``: what the commands do, from Python."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from naruto_vision.cli.trainer_args import model_section, read_config
from naruto_vision.errors import FormatError
from naruto_vision.io.bundles import config_path

if TYPE_CHECKING:
    from collections.abc import Iterable

    from naruto_vision.encoders.base import Encoder
    from naruto_vision.gallery.gallery import Gallery
    from naruto_vision.metrics.evaluation import Evaluation
    from naruto_vision.metrics.scene import Match
    from naruto_vision.recognition.result import SceneResult


def enrol(
    root: str | Path,
    encoder: "Encoder",
    out: str | Path,
    *,
    valid: str | Path | None = None,
    **kwargs: Any,
) -> "Gallery":
    """Build a gallery of labelled images, as ``naruto-vision fit --config gallery.yaml`` does.

    Args:
        root: The labelled images: a Roboflow export, manifests, or class folders.
        encoder: Embeds the images.
        out: The gallery folder to write; ``load`` opens it.
        valid: Scene folder with ``gt.json``, which chooses the score below which a region is unknown; None: none is.
        kwargs: Other options of ``GalleryDataModule``, such as ``plan``, ``split`` or ``aliases``.

    Returns:
        The gallery, as it is on disk.

    Raises:
        InputError: If the images or the scenes cannot be used.

    Examples:
        >>> import naruto_vision as nv
        >>> gallery = nv.enrol("data", nv.ClipEncoder("tiny-clip"), "runs/gallery")  # doctest: +SKIP
    """
    import lightning.pytorch as pl

    from naruto_vision.cli.trainer import parse_class, quiet_lightning
    from naruto_vision.data.gallery_data import GalleryDataModule
    from naruto_vision.gallery.gallery import Gallery
    from naruto_vision.modules.scene_retriever import SceneRetriever

    path = config_path("gallery.yaml")
    settings = read_config(path)
    model = model_section(settings, path, {"encoder": encoder, "gallery": str(out)})
    with quiet_lightning():
        data = GalleryDataModule(str(root), None if valid is None else str(valid), **{"num_workers": 0, **kwargs})
        plain = {"logger": False, "callbacks": None, "enable_progress_bar": False}
        trainer = pl.Trainer(**{**settings["trainer"], **plain})
        trainer.fit(parse_class(SceneRetriever, model, path), datamodule=data)
    return Gallery.open(out)


def evaluate(
    truth: str | Path,
    predictions: "str | Path | Iterable[SceneResult]",
    *,
    iou_match: float = 0.5,
    match: "Match" = "iou",
) -> "Evaluation":
    """Evaluate predictions against a ground-truth file, as ``naruto-vision evaluate`` does.

    Args:
        truth: ``gt.json``: scene to ``[{"bbox": [x1, y1, x2, y2], "label": name}]``, inclusive pixels.
        predictions: The results of scenes, from ``analyze_files``; or the folder that ``predict`` wrote.
        iou_match: Box IoU from which a prediction may match an object, in [0, 1].
        match: "iou", or "contains": also a box that is mostly inside the other may match.

    Returns:
        The outcome of every scene; ``.report.object_accuracy`` has the value, the counts and a 95 % interval.

    Raises:
        FormatError: If no result is of a scene of the ground truth, or a file is not as expected.

    Examples:
        >>> import naruto_vision as nv
        >>> nv.evaluate("scenes/gt.json", "runs/scenes").report.object_accuracy.value  # doctest: +SKIP
        0.9
    """
    from naruto_vision.data.ground_truth import read_gt, read_prediction_folder, read_shown
    from naruto_vision.metrics.evaluation import evaluate_scenes
    from naruto_vision.viz.overlay import labelled_boxes

    objects = read_gt(truth)
    if isinstance(predictions, (str, Path)):
        boxes, shown = read_prediction_folder(predictions, list(objects)).scenes, read_shown(predictions, list(objects))
        return evaluate_scenes(objects, boxes, iou_match, match=match, shown=shown)
    results = list(predictions)
    found = {one.prediction.scene: labelled_boxes(one.prediction, named=False) for one in results}
    if not objects.keys() & found.keys():
        raise FormatError(truth, "scenes of the results", f"{list(objects)[:1]}, not {list(found)[:1]}")
    drawn = {one.prediction.scene: labelled_boxes(one.prediction, one.shown, named=True) for one in results}
    return evaluate_scenes(objects, found, iou_match, match=match, shown=drawn)
