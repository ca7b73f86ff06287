"""WiSE-FT after a fit: the best interpolation of untuned and tuned weights (Wortsman et al. 2022, arXiv 2109.01903)."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from typing_extensions import override

from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.encoders.lora import plain_state
from naruto_vision.encoders.prompts import text_prototypes
from naruto_vision.errors import InputError
from naruto_vision.io.atomic import write_json
from naruto_vision.modules.clip_tuner import ContrastiveTuner, label_figures
from naruto_vision.modules.gathering import gather_columns
from naruto_vision.modules.tuning import PassFigures
from naruto_vision.modules.zero_shot import kept_share, make_probe
from naruto_vision.viz.figures import line_figure, save_figure

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class WisePoint:
    """The metrics of one mixture of weights."""

    alpha: float  # weight of the tuned model, in [0, 1]
    score: float
    named: Mapping[str, float]
    retention: float  # fraction of the untuned model's zero-shot accuracy, 0 or above


def untuned_weights(module: pl.LightningModule) -> dict[str, Tensor]:
    """Copy the weights of a CLIP before it is tuned; empty for other modules."""
    state = plain_state(module.encoder.clip) if isinstance(module, ContrastiveTuner) else {}
    return {name: value.detach().cpu().clone() for name, value in state.items()}


def interpolate(start: Mapping[str, Tensor], tuned: Mapping[str, Tensor], alpha: float) -> dict[str, Tensor]:
    """Mix two sets of weights: (1 - alpha) * start + alpha * tuned; integers are those of ``tuned``."""
    if start.keys() != tuned.keys() or not 0.0 <= alpha <= 1.0:
        differing = sorted(start.keys() ^ tuned.keys())[:3]
        msg = f"weights cannot be mixed: alpha {alpha} (0 to 1 expected), names in one only: {differing or 'none'}"
        raise InputError(msg)
    mixed = {}
    for name, value in tuned.items():
        first = start[name].to(value.device)
        mixed[name] = first.float().lerp(value.float(), alpha) if value.is_floating_point() else value
    return mixed


def choose_point(points: Sequence[WisePoint], least_retention: float) -> WisePoint:
    """Choose the mixture with the best score that retains enough; ties go to the smallest alpha."""
    allowed = [point for point in points if point.retention >= least_retention]
    if not allowed:
        raise InputError(f"no mixture keeps {least_retention:.0%} of the zero-shot accuracy; lower least_retention")
    return max(allowed, key=lambda point: (point.score, -point.alpha))


class WiseSweep(Callback):
    """Interpolate the untuned and the best tuned weights, and keep the mixture that validates best.

    Writes ``wise.json`` (every alpha with its metrics), ``wise.png`` and the bundle ``wise``. The tuned bundle is kept.

    Args:
        out: Output folder.
        steps: Number of steps of alpha from 0 (untuned) to 1 (tuned), at least 1.
        least_retention: Least fraction of the untuned zero-shot accuracy that the mixture retains, in [0, 1].
        root: Folder of held-out class data for that accuracy; None takes synthetic characters and their captions.
        count: Number of synthetic characters.

    Raises:
        InputError: If ``steps`` or ``least_retention`` is out of its range.
    """

    def __init__(
        self,
        out: str = "runs/clip",
        steps: int = 10,
        least_retention: float = 0.9,
        root: str | None = None,
        count: int = 64,
    ) -> None:
        if steps < 1 or not 0.0 <= least_retention <= 1.0:
            msg = f"WiseSweep: steps {steps} (1 or more) and least_retention {least_retention} (0 to 1) expected"
            raise InputError(msg)
        self.out, self.steps, self.least_retention = Path(out), steps, least_retention
        self.root, self.count = root, count
        self.points: list[WisePoint] = []
        self.chosen: WisePoint | None = None
        self._start: dict[str, Tensor] = {}

    @override
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Copy the untuned weights, before a checkpoint is loaded."""
        if stage == "fit":
            self._start = untuned_weights(pl_module)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Evaluate all mixtures, choose one and write it."""
        if not isinstance(pl_module, ContrastiveTuner) or not self._start or pl_module.export.withheld:
            return
        if pl_module.export.epoch < 0 or not pl_module.classes:
            _LOG.warning("WiseSweep: skipped, because this run validated on no classes")
            return
        trainer.strategy.barrier("bundle")  # the first process wrote it
        encoder = ClipEncoder(pl_module.bundle_dir).to(pl_module.device).eval()
        tuned = {name: value.clone() for name, value in encoder.clip.state_dict().items()}
        probe = make_probe(encoder, self.root, self.count)
        self.points, start = [], 0.0
        for step in range(self.steps + 1):
            alpha = step / self.steps
            encoder.clip.load_state_dict(interpolate(self._start, tuned, alpha))
            figures, zero_shot = _validate(trainer, pl_module, encoder), probe.accuracy(encoder)
            start = zero_shot if step == 0 else start
            named = {**figures.named, "zero_shot": zero_shot}
            self.points.append(WisePoint(alpha, figures.score, named, kept_share(zero_shot, start)))
        self.chosen = choose_point(self.points, self.least_retention)
        if trainer.is_global_zero:
            encoder.clip.load_state_dict(interpolate(self._start, tuned, self.chosen.alpha))
            self._write(encoder, self.chosen, pl_module.best_by)

    def _write(self, encoder: ClipEncoder, chosen: WisePoint, best_by: str) -> None:
        document = {"least_retention": self.least_retention, "chosen": _as_json(chosen)}
        write_json(self.out / "wise.json", {**document, "points": [_as_json(point) for point in self.points]})
        encoder.save(self.out / "wise", {**own_facts(encoder), "wise": _as_json(chosen)})
        lines = {
            f"validation, {best_by}": [(point.alpha, point.named[best_by]) for point in self.points],
            "zero-shot accuracy": [(point.alpha, point.named["zero_shot"]) for point in self.points],
        }
        across = "weight of the tuned model (alpha)"
        figure = line_figure(lines, across, "accuracy", mark=chosen.alpha, note="chosen")
        save_figure(figure, self.out / "wise.png")
        _LOG.info("%s: alpha %.2f keeps %.0f%% of zero-shot", self.out / "wise", chosen.alpha, 100 * chosen.retention)


def _validate(trainer: pl.Trainer, module: ContrastiveTuner, encoder: ClipEncoder) -> PassFigures:
    """Classify the validation images of all processes."""
    data: Any = getattr(trainer, "datamodule", None)
    outputs: list[tuple[Tensor, ...]]
    with torch.no_grad():
        prototypes = text_prototypes(encoder, module.prototypes.texts).cpu()
        outputs = [
            (encoder.encode_images(batch.pixels.to(module.device)).cpu(), batch.labels.cpu())
            for batch in data.val_dataloader()
            if batch is not None
        ]
        scale = encoder.logit_scale.exp().clamp(max=module.loss.max_logit_scale).cpu()
    vectors, labels = gather_columns(trainer, outputs)
    return label_figures(vectors, labels, prototypes, scale, module.best_by)


def own_facts(encoder: ClipEncoder) -> dict[str, Any]:
    """Return the facts of the tuned bundle; its metrics are not those of the mixture."""
    own = {*encoder.describe(), "format", "kind", "sha256", "figures"}
    return {name: value for name, value in encoder.info.items() if name not in own}


def _as_json(point: WisePoint) -> dict[str, float]:
    named = {name: round(value, 6) for name, value in point.named.items()}
    return {"alpha": point.alpha, **named, "retention": round(point.retention, 6)}
