"""TensorBoard: curves, images, the gallery's vectors and one row of hyper-parameters for each run."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.trainer.states import TrainerFn
from PIL import Image, ImageDraw
from tensorboard.plugins.hparams import summary_v2 as table
from torch import Tensor
from torch.nn.functional import interpolate
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer
from torchvision.utils import make_grid
from typing_extensions import override

from naruto_vision.callbacks.reports import confusion_figure
from naruto_vision.data.gallery_data import GalleryDataModule
from naruto_vision.data.scenes import SceneItem
from naruto_vision.data.shards import image_reader
from naruto_vision.errors import NarutoVisionError
from naruto_vision.io.atomic import unicode_text
from naruto_vision.io.images import shrink
from naruto_vision.modules.clip_tuner import ContrastiveTuner, Mistake
from naruto_vision.modules.scene_retriever import SceneRetriever
from naruto_vision.modules.tuning import Tuner, log_interval
from naruto_vision.records import ImageArray, ScenePrediction
from naruto_vision.viz.fonts import text_font
from naruto_vision.viz.overlay import choose_for_overlay, draw_overlay, label_colours
from naruto_vision.viz.sheets import FINE, TILE, Tile, TileRow, draw_rows

_Found: TypeAlias = tuple[SceneItem, ScenePrediction]

_SETTINGS = (
    "batch_size", "command", "encoder", "epochs", "learning_rate", "loss", "lora_rank", "mirror", "optimizer",
    "precision", "root", "same_image", "search_decision", "search_neighbours", "segmenter", "smoothing", "steps",
    "towers", "weight_decay",
)  # fmt: skip
_BEST = ("macro_accuracy", "accuracy", "nearest_accuracy", "loss", "recall_at_1", "zero_shot", "miou")
_FIGURES = (
    "valid_best/macro_accuracy", "valid/object_accuracy", "test/object_accuracy", "test_shown/object_accuracy",
    "valid_best/accuracy", "valid_best/nearest_accuracy", "valid_best/loss", "valid_best/recall_at_1",
    "valid_best/zero_shot", "valid_best/miou", "valid/threshold", "test/recall", "test_shown/precision",
    "test/accuracy", "test/macro_accuracy", "predict/unknown_share", "predict/latency_ms_p50",
    "predict/latency_ms_p95",
)  # fmt: skip
"""Columns of the hyper-parameter table. TensorBoard takes them from one run for all, so every run names all.

It shows the first five of each at first; the settings are in alphabetical order.
"""

_EXAMPLES = 16  # training images in one grid
_EXAMPLE_SIDE = 128
_MOST_CLASSES = 40  # with a curve of their own
_SHEET = (6, 4)  # classes and images of a class on the sheet of mistakes
SHOWN_SCENES = 10
"""Images of a tag that TensorBoard shows by default."""

_SCENE_SIDE, _CAPTION = 1024, 28
_MOST_ROWS, _THUMBNAIL = 500, 48  # of a gallery in the projector
_LEAST_POINTS = 8  # of a training curve


class _LateWriter:
    """A ``SummaryWriter`` that makes its folder and file when something is written."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._made: Any = None

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - any method of the writer
        if name.startswith("__") or name in {"_make", "_made"}:  # asked for by copy and pickle
            raise AttributeError(name)
        if self._made is None:
            self._made = self._make()
        return getattr(self._made, name)

    def flush(self) -> None:
        if self._made is not None:
            self._made.flush()


class LateTensorBoardLogger(TensorBoardLogger):
    """Lightning's ``TensorBoardLogger``, but a run that is refused, or has nothing to do, leaves no folder.

    Args:
        save_dir: Folder of all runs.
        name: Folder of the runs of one kind.
        version: Folder of this run; None takes the next free ``version_N``.
        default_hp_metric: Log the placeholder ``hp_metric`` at the start.
        kwargs: Further arguments of Lightning's logger.
    """

    def __init__(
        self,
        save_dir: str,
        name: str | None = "lightning_logs",
        version: int | str | None = None,
        default_hp_metric: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(save_dir, name, version, default_hp_metric=default_hp_metric, **kwargs)
        self._late = _LateWriter(self._open)

    @property
    @override
    def experiment(self) -> Any:
        """The ``SummaryWriter``, which makes the folder at the first value."""
        return self._late

    def _open(self) -> Any:  # noqa: ANN401 - torch's SummaryWriter
        return super().experiment

    @override
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log scalars, without the epoch that Lightning adds to all of them."""
        super().log_metrics({name: value for name, value in metrics.items() if name != "epoch"}, step)


def summary_writer(trainer: pl.Trainer) -> Any | None:  # noqa: ANN401 - torch's SummaryWriter or what stands for it
    """Return the writer of the first TensorBoard logger; None without one and in all processes but the first."""
    found = (logger.experiment for logger in trainer.loggers if isinstance(logger, TensorBoardLogger))
    return next(found, None) if trainer.is_global_zero else None


def log_scalars(trainer: pl.Trainer, values: Mapping[str, float], step: int) -> None:
    """Log values to every logger."""
    for logger in trainer.loggers:
        logger.log_metrics(dict(values), step)


def log_settings(trainer: pl.Trainer, module: pl.LightningModule) -> None:
    """Log what the run was made with to every logger, and as a row of TensorBoard's hyper-parameter table."""
    data, fn = getattr(trainer, "datamodule", None), trainer.state.fn
    found: dict[str, Any] = {**module.hparams, "command": fn.value if fn else ""}
    if isinstance(module, Tuner):
        found["batch_size"] = getattr(data, "batch_size", 0) * trainer.accumulate_grad_batches * trainer.world_size
    if isinstance(module, Tuner) and trainer.optimizers:
        optimizer = trainer.optimizers[0]
        found |= {"optimizer": type(optimizer).__name__, "learning_rate": optimizer.defaults.get("lr")}
        found |= {"weight_decay": optimizer.defaults.get("weight_decay"), "epochs": trainer.max_epochs}
        found["steps"] = trainer.estimated_stepping_batches
    found |= {"precision": trainer.precision, "root": str(getattr(data, "root", None) or "")}
    plain = {
        name: value if isinstance(value, int | float) else unicode_text(str(value)) for name, value in found.items()
    }
    for logger in trainer.loggers:
        logger.log_hyperparams(plain)
        if isinstance(logger, TensorBoardLogger) and trainer.is_global_zero:
            columns = [table.HParam(name) for name in _SETTINGS], [table.Metric(name) for name in _FIGURES]
            logger.experiment.file_writer.add_summary(table.hparams_config_pb(*columns))
            row = {name: plain[name] for name in _SETTINGS if name in plain}
            name = f"{logger.name}/{Path(logger.log_dir).name}"
            logger.experiment.file_writer.add_summary(table.hparams_pb(row, trial_id=name))


def write_settings(folder: Path, settings: Mapping[str, str], figures: Mapping[str, float]) -> None:
    """Write a run of its own, with a row of the hyper-parameter table and its figures."""
    from torch.utils.tensorboard import SummaryWriter

    columns = [table.HParam(name) for name in settings], [table.Metric(name) for name in figures]
    with SummaryWriter(str(folder)) as writer:
        row = {name: unicode_text(value) for name, value in settings.items()}
        writer.file_writer.add_summary(table.hparams_config_pb(*columns))
        writer.file_writer.add_summary(table.hparams_pb(row, trial_id=folder.name))
        for name, value in figures.items():
            writer.add_scalar(name, value)


def example_grid(pixels: Tensor, count: int) -> Tensor:
    """Tile the first ``count`` of preprocessed images (B, 3, S, S), each scaled to [0, 1] and enlarged: (3, H, W)."""
    images = pixels[:count].detach().cpu().float()
    if images.shape[-1] < _EXAMPLE_SIDE:
        images = interpolate(images, (_EXAMPLE_SIDE, _EXAMPLE_SIDE), mode="nearest")
    grid: Tensor = make_grid(images, nrow=4, normalize=True, scale_each=True)
    return grid


class _Figures(Callback):
    """A callback that logs the settings of a run with its first values, so that a refused run leaves nothing."""

    def __init__(self) -> None:
        self._begun = False

    @override
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._begun = False

    def _begin(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if not self._begun:
            log_settings(trainer, module)
        self._begun = True


class TuningFigures(_Figures):
    """Log a tuning run to TensorBoard, and its numbers to any other logger too.

    While training: gradient norm before clipping, learning rate and images per second, every ``log_every_n_steps``
    steps, or more often so that a run has eight points. After a validation that is the best so far, and after
    ``validate`` and ``test``: the accuracy of each class, the confusion matrix and a sheet of mistakes. The settings of
    the run and its best validation are a row of the hyper-parameter table.
    """

    def __init__(self) -> None:
        super().__init__()
        self._arranged = False
        self._images, self._seconds, self._mark = 0, 0.0, 0.0

    @override
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log a short run more often."""
        self._arranged = False
        steps = trainer.estimated_stepping_batches
        if steps < log_interval(trainer) * _LEAST_POINTS:
            trainer.log_every_n_steps = max(1, int(steps) // _LEAST_POINTS)  # type: ignore[attr-defined]  # it has it

    @override
    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock of the training steps."""
        self._mark = time.perf_counter()

    @override
    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Log the gradient's norm before it is clipped, and the learning rate of this step."""
        if isinstance(pl_module, Tuner) and pl_module.logs_next_step:
            groups = optimizer.param_groups
            gradients = [weight.grad for group in groups for weight in group["params"] if weight.grad is not None]
            rate = float(groups[0]["lr"])
            pl_module.log_dict({"train/gradient_norm": get_total_norm(gradients), "train/learning_rate": rate})

    @override
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log images per second, and the first training batch of a run."""
        pixels, now = getattr(batch, "pixels", None), time.perf_counter()
        if not torch.is_tensor(pixels):
            return
        self._images, self._seconds, self._mark = self._images + len(pixels), self._seconds + now - self._mark, now
        every = log_interval(trainer)
        if every and trainer.global_step % every == 0:
            pl_module.log("train/images_per_second", self._images * trainer.world_size / max(self._seconds, 1e-9))
            self._images, self._seconds = 0, 0.0
        if not self._begun and (writer := summary_writer(trainer)):
            writer.add_image("train/images", example_grid(pixels, _EXAMPLES), trainer.global_step)
        self._begin(trainer, pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the figures; in a fit only of a new best, as plotting takes as long as a step."""
        self._show(trainer, pl_module, "valid")
        self._mark = time.perf_counter()  # validation is no time of training

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the figures."""
        self._show(trainer, pl_module, "test")

    def _show(self, trainer: pl.Trainer, module: pl.LightningModule, stage: str) -> None:
        if not isinstance(module, Tuner) or module.figures is None or trainer.sanity_checking:
            return
        self._begin(trainer, module)
        fitting, writer = trainer.state.fn == TrainerFn.FITTING, summary_writer(trainer)
        confusion, tables = module.figures.confusion, getattr(getattr(trainer, "datamodule", None), "tables", {})
        step = max(trainer.global_step - 1, 0)  # that of Lightning's own curves
        if isinstance(module, ContrastiveTuner) and confusion is not None and len(module.classes) <= _MOST_CLASSES:
            log_scalars(trainer, _class_rates(confusion, module.classes, stage), step)
        if fitting and writer is not None and not self._arranged:
            writer.add_custom_scalars(_layout(module))
            self._arranged = True
        # This callback may run before or after the one that keeps the best metrics.
        if fitting and module.figures.score < module.export.best.score:
            return
        if fitting:
            values = trainer.callback_metrics
            best = {f"valid_best/{name}": float(values[f"valid/{name}"]) for name in _BEST if f"valid/{name}" in values}
            log_scalars(trainer, best, step)
        if writer is not None and isinstance(module, ContrastiveTuner) and confusion is not None:
            writer.add_figure(f"{stage}/confusion", confusion_figure(confusion, module.classes), step)
            if module.mistakes and stage in tables:
                sheet = mistake_sheet(module.mistakes, tables[stage].root)
                writer.add_image(f"{stage}/mistakes", sheet, step, dataformats="HWC")


def _class_rates(confusion: Tensor, classes: Sequence[str], stage: str) -> dict[str, float]:
    """Return the accuracy of each class that has images."""
    counts = zip(classes, confusion.diag().tolist(), confusion.sum(dim=1).tolist(), strict=True)
    return {unicode_text(f"{stage}_class/{name}"): right / total for name, right, total in counts if total}


def _layout(module: Tuner) -> dict[str, dict[str, list[Any]]]:
    """Put the training and validation curve of each part of the loss into one chart, and all classes into another."""
    named = module.figures.named if module.figures is not None else {}
    losses = [name for name in named if name.startswith("loss")]
    charts: dict[str, list[Any]] = {name: ["Multiline", [f"train/{name}$", f"valid/{name}$"]] for name in losses}
    rates = [
        f"valid/{name}$" for name in ("accuracy", "macro_accuracy", "nearest_accuracy", "zero_shot") if name in named
    ]
    if rates:
        charts |= {"accuracy": ["Multiline", rates], "accuracy of each class": ["Multiline", ["valid_class/.*"]]}
    return {"training and validation": charts}


def mistake_sheet(mistakes: Sequence[Mistake], root: Any) -> ImageArray:  # noqa: ANN401 - a folder or shards
    """Draw wrongly classified images by their true class, which is the heading, under the name they were given."""
    reader = image_reader(root)
    groups: dict[str, list[Mistake]] = {}
    for mistake in mistakes:
        groups.setdefault(mistake.truth, []).append(mistake)
    colours = label_colours(sorted({name for mistake in mistakes for name in (mistake.truth, mistake.answer)}))
    rows = []
    for truth, own in sorted(groups.items(), key=lambda group: -len(group[1]))[: _SHEET[0]]:
        tiles = []
        for wrong in own[: _SHEET[1]]:
            image = _read_or_none(reader, wrong.path, TILE * FINE)
            note = f"{truth} {wrong.own:.3f}"
            tiles.append(Tile(image, wrong.answer, wrong.path, colours[wrong.answer], wrong.score, note))
        rows.append(TileRow(f"{truth}: {len(own)} named otherwise", colours[truth], tiles[0], tiles[1:]))
    return draw_rows(rows, "Under each image: the name it was given, its cosine with it and with its own name", "light")


def _read_or_none(reader: Any, path: str, side: int) -> ImageArray | None:  # noqa: ANN401 - a folder or shards
    try:
        return shrink(reader.read(path), side)
    except NarutoVisionError:
        return None


class SceneFigures(_Figures):
    """Log building a gallery, and searching scenes, to TensorBoard, and the numbers to any other logger too.

    ``fit`` and ``validate``: scene accuracy, the precision-recall curve of "unknown", and the gallery's vectors with
    thumbnails. ``test`` and ``predict``: regions, unknown regions and milliseconds of each scene, with percentiles. All
    of them: the overlays of the first scenes under one tag, whose slider is the number of the scene, and a row of the
    hyper-parameter table.

    Args:
        scenes: Number of overlays; TensorBoard shows at most 10 of a tag without ``--samples_per_plugin``.
    """

    def __init__(self, scenes: int = SHOWN_SCENES) -> None:
        super().__init__()
        self.scenes = scenes
        self._seen = self._regions = self._unknown = 0
        self._times: list[float] = []

    @override
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Begin a run."""
        super().setup(trainer, pl_module, stage)
        self._seen = self._regions = self._unknown = 0
        self._times = []

    @override
    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any, **__: Any) -> None:
        """Log the settings of a run that builds a gallery."""
        self._begin(trainer, pl_module)

    @override
    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *_: Any, **__: Any
    ) -> None:
        """Log the scenes of a batch."""
        found = outputs["predictions"] if isinstance(outputs, dict) else outputs
        if isinstance(pl_module, SceneRetriever) and trainer.state.fn is not None:
            command = trainer.state.fn.value
            self._log_batch(trainer, pl_module, found or (), command if command in {"test", "predict"} else "valid")

    on_test_batch_end = on_predict_batch_end = on_validation_batch_end

    def _log_batch(self, trainer: pl.Trainer, module: SceneRetriever, found: Sequence[_Found], stage: str) -> None:
        writer = summary_writer(trainer)
        for item, prediction in found:
            if item.image is None:
                continue
            self._begin(trainer, module)
            if writer is not None and self._seen < self.scenes:
                colours = label_colours(module.analyzer.gallery.labels)
                overlay = draw_overlay(item.image, prediction, choose_for_overlay(prediction, module.overlay), colours)
                image = _captioned(shrink(overlay, _SCENE_SIDE), item.scene)
                writer.add_image(f"{stage}/scenes", image, self._seen, dataformats="HWC")
            if stage != "valid":  # a gallery that is being built has no threshold yet
                unknown = sum(not identity.known for identity in prediction.identities)
                self._times.append(sum(prediction.milliseconds.values()))
                self._regions, self._unknown = self._regions + len(prediction.regions), self._unknown + unknown
                values = {"regions": len(prediction.regions), "unknown_regions": unknown, "latency_ms": self._times[-1]}
                log_scalars(trainer, {f"{stage}/{name}": float(value) for name, value in values.items()}, self._seen)
            self._seen += 1

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the threshold, and how well any threshold finds the regions whose best label is wrong."""
        if not isinstance(pl_module, SceneRetriever) or not pl_module.scored or pl_module.thresholds is None:
            return
        if pl_module.thresholds.default is not None:
            log_scalars(trainer, {"valid/threshold": pl_module.thresholds.default}, trainer.global_step)
        wrong = np.array([not one.right for one in pl_module.scored])
        if (writer := summary_writer(trainer)) and wrong.any():
            scores = np.array([one.score for one in pl_module.scored])
            low = (scores.max() - scores) / max(float(np.ptp(scores)), 1e-9)  # 1 is the lowest score, the least known
            writer.add_pr_curve("valid/unknown", wrong, low, trainer.global_step)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the gallery's vectors, with label, path and a thumbnail of each, at most 500."""
        writer, data = summary_writer(trainer), getattr(trainer, "datamodule", None)
        built = pl_module.built if isinstance(pl_module, SceneRetriever) else None
        if writer is None or built is None or not isinstance(data, GalleryDataModule):
            return
        content, reader = built.content, image_reader(data.images_root)
        chosen = np.unique(np.linspace(0, len(content.rows) - 1, _MOST_ROWS).round().astype(int)).tolist()
        rows = [content.rows[index] for index in chosen]
        thumbnails = torch.stack([_thumbnail(_read_or_none(reader, row.path, _THUMBNAIL)) for row in rows])
        names = [[unicode_text(" ".join(text.split())) for text in (row.label, row.path, row.aug)] for row in rows]
        header = ["label", "path", "variant"]
        writer.add_embedding(content.vectors[chosen], names, thumbnails, tag="gallery", metadata_header=header)

    @override
    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log latency percentiles, regions per scene and the share of unknown regions."""
        if self._times and trainer.state.fn is not None:
            points = np.percentile(self._times, (50, 95, 99)).tolist()
            named = {f"latency_ms_p{percent}": point for percent, point in zip((50, 95, 99), points, strict=True)}
            named["regions_per_scene"] = self._regions / len(self._times)
            named["unknown_share"] = self._unknown / max(self._regions, 1)
            named = {f"{trainer.state.fn.value}/{name}": value for name, value in named.items()}
            log_scalars(trainer, named, self._seen)

    on_predict_end = on_test_end


def _thumbnail(image: ImageArray | None) -> Tensor:
    """Centre an image, whose longer side fits, on a square: (3, 48, 48), float32, in [0, 1]."""
    square = torch.full((3, _THUMBNAIL, _THUMBNAIL), 0.9)
    if image is not None:
        height, width = image.shape[:2]
        top, left = (_THUMBNAIL - height) // 2, (_THUMBNAIL - width) // 2
        square[:, top : top + height, left : left + width] = torch.from_numpy(image).permute(2, 0, 1) / 255
    return square


def _captioned(image: ImageArray, caption: str) -> ImageArray:
    """Write a scene's name above it, as TensorBoard shows only its number."""
    height, width = image.shape[:2]
    whole = Image.new("RGB", (width, height + _CAPTION), "white")
    whole.paste(Image.fromarray(image), (0, _CAPTION))
    text, font = text_font(caption, 15, bold=False)
    ImageDraw.Draw(whole).text((6, _CAPTION // 2), text, font=font, fill="black", anchor="lm")
    return np.array(whole)
