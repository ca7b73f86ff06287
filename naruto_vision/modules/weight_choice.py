"""``ChooseWeights``: after a fit the bundle keeps the best of untuned, tuned and interpolated weights."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from typing_extensions import override

from naruto_vision.data.class_data import ClassDataModule
from naruto_vision.data.tables import Split
from naruto_vision.encoders.backbone import LITE0, TimmEncoder
from naruto_vision.encoders.base import Encoder, evaluating
from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.encoders.prompts import text_prototypes
from naruto_vision.encoders.tiny import TINY_CLIP
from naruto_vision.errors import InputError
from naruto_vision.io.atomic import write_json
from naruto_vision.metrics.stats import Rate
from naruto_vision.modules.advice import Floors, Named, advise
from naruto_vision.modules.clip_tuner import ContrastiveTuner, label_figures
from naruto_vision.modules.head_test import HeadTest
from naruto_vision.modules.tuning import PassFigures, random_state, restore_random_state
from naruto_vision.modules.wise_ft import interpolate, own_facts, untuned_weights

_LOG = logging.getLogger(__name__)
_KEY = "weights"  # in model.json of a bundle that holds other weights than those of the best epoch


class ChooseWeights(Checkpoint):
    """Keep the weights that name the validation images best, so that a fit never makes naming worse.

    The untuned encoder is measured before training. After it the untuned weights, those of the best epoch and their
    mixtures (Wortsman et al. 2022, arXiv 2109.01903) are compared as a gallery would use them: the decision rule is
    chosen on the training images. Of equal ones, those whose class texts name more images are kept, then those nearer
    to the untuned weights. The bundle is written again if it is not the best epoch's that are kept.

    Args:
        out: Folder of ``weights.json``, which has every comparison.
        alphas: Weights of the tuned model in the mixtures, each above 0 and below 1.
        backbone: The backbone that the gallery joins with the CLIP, as ``TimmEncoder`` takes it; None takes the CLIP
            alone.
        share: Weight of the CLIP beside the backbone, between 0 and 1.

    Raises:
        InputError: If ``alphas`` or ``share`` are out of their range.
    """

    def __init__(
        self,
        out: str = "runs/clip",
        alphas: Sequence[float] = (0.25, 0.5, 0.75),
        backbone: str | None = LITE0,
        share: float = 0.5,
    ) -> None:
        if not all(0.0 < each < 1.0 for each in (*alphas, share)):
            msg = f"ChooseWeights: alphas {list(alphas)} and share {share}: expected numbers above 0 and below 1"
            raise InputError(msg)
        self.out, self.alphas, self.backbone, self.share = Path(out), sorted(alphas), backbone or None, share
        self.measured: dict[float, Named] = {}
        self.chosen: float | None = None
        self.floors: Floors | None = None
        self._start: dict[str, Tensor] = {}
        self._test: HeadTest | None = None

    @override
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Copy the untuned weights, before a checkpoint is loaded."""
        if stage == "fit":
            self._start = untuned_weights(pl_module)

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measure the untuned encoder; a resumed run does so at its end."""
        if trainer.global_step == 0 and isinstance(pl_module, ContrastiveTuner) and not pl_module.withheld:
            test = self._opened(trainer, pl_module)
            if test is not None:
                with _undisturbed(pl_module.encoder):
                    self.measured[0.0] = test.measure(pl_module.encoder, pl_module.prototypes.texts)
                _LOG.info("before fine-tuning: %s; %s", self.measured[0.0], test.floors())
        trainer.strategy.barrier("untuned")

    def _opened(self, trainer: pl.Trainer, module: ContrastiveTuner) -> HeadTest | None:
        """Read and describe the images, once; None in other processes and where nothing can be compared."""
        data: Any = getattr(trainer, "datamodule", None)
        if not trainer.is_global_zero or not isinstance(data, ClassDataModule) or not trainer.limit_val_batches:
            return None
        if self._test is None:
            with _undisturbed():
                backbone = None if self.backbone is None else TimmEncoder(self.backbone).to(module.device).eval()
                self._test = HeadTest(data, backbone, self.share)
        return self._test if self._test.usable else None

    @override
    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compare the weights, and put the best into the bundle."""
        if not isinstance(pl_module, ContrastiveTuner) or pl_module.withheld or not self._start:
            return
        test = self._opened(trainer, pl_module) if pl_module.export.epoch >= 0 else None
        if test is not None:
            self._choose(pl_module, test)
        trainer.strategy.barrier("weights")

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the floors beside the accuracy of ``validate``."""
        if trainer.state.fn == TrainerFn.VALIDATING:
            self._compare(trainer, pl_module, "valid")

    @override
    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the floors beside the accuracy of ``test``."""
        self._compare(trainer, pl_module, "test")

    def _compare(self, trainer: pl.Trainer, module: pl.LightningModule, split: Split) -> None:
        data: Any = getattr(trainer, "datamodule", None)
        if not (trainer.is_global_zero and isinstance(data, ClassDataModule) and isinstance(module, ContrastiveTuner)):
            return
        confusion = None if module.figures is None else module.figures.confusion
        test = None if confusion is None else HeadTest(data, split=split)
        if confusion is None or test is None or not test.usable or int(confusion.sum()) != test.total:
            return  # of a part of the images, or of very many
        text = f"{split}: by class texts {_share(confusion)}; without an encoder {test.floors()}"
        if module.encoder.describe()["architecture"] == TINY_CLIP:
            start = ClipEncoder(TINY_CLIP).to(module.device).eval()
            own = None if start.fingerprint == module.encoder.fingerprint else _figures(module, test, start).confusion
            text += "" if own is None else f"; by the untuned {TINY_CLIP} {_share(own)}"
        _LOG.info("%s", text)

    def _choose(self, module: ContrastiveTuner, test: HeadTest) -> None:
        encoder = ClipEncoder(module.bundle_dir).to(module.device).eval()
        if _KEY in encoder.info:
            module.export.kept = float(encoder.info[_KEY]["alpha"])
            module.export.figures = _figures(module, test, encoder)
            _LOG.info("%s: unchanged, because no epoch after the last comparison is better", module.bundle_dir)
            return
        tuned = {name: value.clone() for name, value in encoder.clip.state_dict().items()}
        for alpha in (0.0, *self.alphas, 1.0):
            if alpha not in self.measured:
                encoder.clip.load_state_dict(interpolate(self._start, tuned, alpha))
                self.measured[alpha] = test.measure(encoder, module.prototypes.texts)
        self.chosen = max(self.measured, key=lambda alpha: (*_worth(self.measured[alpha]), -alpha))
        points = [{"alpha": alpha, **_as_json(self.measured[alpha])} for alpha in sorted(self.measured)]
        write_json(self.out / "weights.json", {"chosen": self.chosen, "points": points})
        if self.chosen != 1.0:
            encoder.clip.load_state_dict(interpolate(self._start, tuned, self.chosen))
            facts = {**own_facts(encoder), _KEY: {"alpha": self.chosen, **_as_json(self.measured[self.chosen])}}
            dtype = torch.float16 if module.half_bundle else torch.float32
            encoder.save(module.bundle_dir, facts, dtype=dtype)
            module.export.kept, module.export.figures = self.chosen, _figures(module, test, encoder)
        floors = self.floors = test.floors()
        _LOG.info("%s; %s", describe_choice(module.bundle_dir, self.measured, self.chosen), floors)
        if advice := advise(self.measured[self.chosen], floors, str(module.trainer.datamodule.root), tuned=True):  # type: ignore[attr-defined]  # of a ClassDataModule
            _LOG.warning("%s", advice)


def _figures(module: ContrastiveTuner, test: HeadTest, encoder: ClipEncoder) -> PassFigures:
    """Classify the images of a test by the class texts, as validation does."""
    vectors, labels = test.embedded(encoder)
    with torch.inference_mode():
        texts = text_prototypes(encoder, module.prototypes.texts).float().cpu()
    return label_figures(vectors, labels, texts, module.scale().detach().cpu(), module.best_by)


def describe_choice(bundle: str, measured: Mapping[float, Named], chosen: float) -> str:
    """Describe in one line which weights a bundle keeps, and how many validation images each of them names."""
    kept, start, tuned = measured[chosen], measured[0.0], measured[1.0]
    others = ", ".join(f"{alpha:g}: {measured[alpha].right.count}" for alpha in sorted(measured) if 0 < alpha < 1)
    what = {
        0.0: "fine-tuning did not help; kept are the untuned weights",
        1.0: "kept are the weights of the best epoch",
    }
    name = what.get(chosen, f"kept is a mixture, {chosen:g} of it the tuned weights")
    gain = kept.right.count - start.right.count
    counts = f"untuned {start.right.count}, tuned {tuned.right.count}" + (f", mixtures {others}" if others else "")
    texts = f"by class texts {kept.by_texts}, untuned {start.by_texts}"
    return f"{bundle}: {name}: {kept} ({gain:+d}; {counts}; {texts})"


def _share(confusion: Tensor) -> str:
    rate = Rate(int(confusion.trace()), int(confusion.sum()))
    low, high = rate.interval or (0.0, 1.0)
    return f"{rate.count} of {rate.total} images are right [{low:.2f}, {high:.2f}]"


def _worth(named: Named) -> tuple[int, int]:
    return named.right.count, named.by_texts


def _as_json(named: Named) -> dict[str, Any]:
    return {"decision": named.rule, "by_texts": named.by_texts, **asdict(named.right)}


@contextmanager
def _undisturbed(encoder: Encoder | None = None) -> Iterator[None]:
    """Leave the random numbers and the training modes of an encoder's modules as they were."""
    state = random_state()
    try:
        with nullcontext() if encoder is None else evaluating(encoder):
            yield
    finally:
        restore_random_state(state)
