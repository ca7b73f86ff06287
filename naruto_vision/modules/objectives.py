"""Training losses of one batch, in plain torch."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from naruto_vision.data.caption_data import CaptionBatch
from naruto_vision.data.class_data import ClassBatch
from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.encoders.prompts import text_prototypes
from naruto_vision.errors import InputError
from naruto_vision.losses.contrastive import (
    grouped_contrastive,
    multi_positive_contrastive,
    prototype_cross_entropy,
    sigmoid_contrastive,
    starting_bias,
    supervised_contrastive,
)
from naruto_vision.modules.freezing import weights_stamp
from naruto_vision.modules.gathering import take_from_first

LossKind: TypeAlias = Literal["contrastive", "sigmoid", "prototype"]
ClassWeights: TypeAlias = Literal["none", "inverse_frequency"]
TextsPerStep: TypeAlias = Literal["one", "all"]

_TEXT_STREAM = 3  # separates the random choice of texts from the data's random numbers
_TEMPERATURE = 0.1  # divides the cosines between images


@dataclass(frozen=True)
class LossConfig:
    """The training loss and its weights."""

    kind: LossKind = "contrastive"
    smoothing: float = 0.0
    same_image: float = 0.0
    phrases: float = 1.0
    class_weights: ClassWeights = "none"
    max_logit_scale: float = 100.0


@contextmanager
def fast_attention(device: torch.device) -> Iterator[None]:
    """Use unfused attention for bfloat16 on a CPU: a step on 65 tokens takes half the time of fused attention."""
    if device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        with sdpa_kernel(SDPBackend.MATH):
            yield
    else:
        yield


class ClassPrototypes:
    """Text vectors of classes during training, from all their texts or from one per step."""

    def __init__(self, encoder: ClipEncoder, texts: Sequence[Sequence[str]], per_step: TextsPerStep = "one") -> None:
        self._encoder = encoder
        self.texts = texts
        self._per_step = per_step
        self._kept: Tensor | None = None
        self._stamp: list[tuple[int, int]] = []

    def forget(self) -> None:
        """Drop the cached average, unless the text tower is frozen."""
        if self._encoder.trains_text:
            self._kept = None

    def averaged(self) -> Tensor:
        """Average every text of each class: (C, D), float32, unit rows, without gradient.

        The average is cached until ``forget`` or until weights are loaded.
        """
        stamp = weights_stamp(self._encoder.text_parameters())
        if self._kept is None or stamp != self._stamp:
            # Validation runs in inference mode, whose tensors cannot be used by the next training step.
            with torch.inference_mode(False), torch.no_grad():
                self._kept, self._stamp = text_prototypes(self._encoder, self.texts), stamp
        return self._kept

    def for_step(self, step: int) -> Tensor:
        """Embed one text per class, or average all (always if frozen): (C, D), unit rows; gradients flow."""
        if not self._encoder.trains_text:
            return self.averaged()
        if self._per_step == "all":
            return text_prototypes(self._encoder, self.texts)
        return self._encoder.encode_texts(self.chosen(step))

    def chosen(self, step: int) -> list[str]:
        """Choose one text per class, seeded by the optimiser step."""
        rng = np.random.default_rng([_TEXT_STREAM, 0, step])
        return [own[int(rng.integers(len(own)))] for own in self.texts]


@dataclass(frozen=True)
class Objective:
    """The loss of one step."""

    scale: Tensor
    weights: LossConfig
    bias: Tensor | None = None
    class_weights: Tensor | None = None

    def match(self, images: Tensor, texts: Tensor, positives: Tensor, labels: Tensor | None = None) -> Tensor:
        """Compute the loss of images (B, D) and texts (T, D), unit rows, with their ``positives`` (B, T).

        ``labels`` (B,) are the index of each image's only positive; None if there may be several.
        """
        smoothing, own = self.weights.smoothing, self.class_weights
        rows = own[labels] if own is not None and labels is not None else None
        match self.weights.kind:
            case "contrastive":
                pair = (rows, own) if rows is not None and own is not None else None
                return multi_positive_contrastive(
                    images, texts, positives, self.scale, smoothing=smoothing, weights=pair
                )
            case "sigmoid":
                bias = self._started_bias(images, texts, positives)
                return sigmoid_contrastive(
                    images, texts, positives, self.scale, bias, smoothing=smoothing, row_weights=rows
                )
            case "prototype":
                if labels is None:
                    raise InputError("loss.kind=prototype needs class data; for captions use contrastive or sigmoid")
                return prototype_cross_entropy(
                    images, texts, labels, self.scale, smoothing=smoothing, class_weights=own
                )

    def _started_bias(self, images: Tensor, texts: Tensor, positives: Tensor) -> Tensor:
        bias = self.bias if self.bias is not None else self.scale.new_zeros(())
        if torch.isnan(bias):
            with torch.no_grad():
                bias.copy_(take_from_first(starting_bias(images, texts, positives, self.scale)))
        return bias


def batch_losses(
    encoder: ClipEncoder,
    batch: ClassBatch | CaptionBatch,
    prototypes: ClassPrototypes,
    step: int,
    objective: Objective,
    images: Tensor | None = None,
) -> dict[str, Tensor]:
    """Compute the parts of the loss, whose sum is the loss: each of shape (), float32, already weighted.

    ``images`` are the batch's cached vectors (B, D), if any.
    """
    with fast_attention(batch.pixels.device):
        if isinstance(batch, CaptionBatch):
            images = encoder.encode_images(batch.pixels)
            return caption_losses(images, encoder.encode_texts([*batch.captions, *batch.phrases]), batch, objective)
        texts = prototypes.for_step(step)
        images = encoder.encode_images(batch.pixels) if images is None else images
    return class_losses(images, batch.labels, texts, objective)


def caption_losses(images: Tensor, texts: Tensor, batch: CaptionBatch, objective: Objective) -> dict[str, Tensor]:
    """Match images (B, D) with their captions and all phrases of the batch that apply: texts (B + P, D), unit rows."""
    captions, phrases = texts[: len(batch.captions)], texts[len(batch.captions) :]
    shared = batch.subjects.unsqueeze(1) == batch.subjects.unsqueeze(0)  # (B, B)
    parts = {"match": objective.match(images, captions, shared)}
    if batch.phrases:
        pieces = grouped_contrastive(images, phrases, batch.truths, batch.phrase_groups, objective.scale)
        parts["phrases"] = objective.weights.phrases * pieces
    return parts | _same_image(images, batch.subjects, objective.weights)


def class_losses(images: Tensor, labels: Tensor, prototypes: Tensor, objective: Objective) -> dict[str, Tensor]:
    """Match images (B, D) of classes (B,) with a text vector for each class (C, D), all unit rows."""
    positives = labels.unsqueeze(1) == torch.arange(len(prototypes), device=labels.device)  # (B, C)
    matched = objective.match(images, prototypes, positives, labels)
    return {"match": matched} | _same_image(images, labels, objective.weights)


def split_losses(
    images: Tensor, labels: Tensor, prototypes: Tensor, objective: Objective, size: int
) -> dict[str, float]:
    """Average ``class_losses`` over N images in random batches of ``size``, as a loss depends on the batch size."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    totals: dict[str, float] = {}
    for rows in torch.split(order, size):
        for name, part in class_losses(images[rows], labels[rows], prototypes, objective).items():
            totals[name] = totals.get(name, 0.0) + float(part) * len(rows) / len(labels)
    return totals


def _same_image(images: Tensor, labels: Tensor, weights: LossConfig) -> dict[str, Tensor]:
    if weights.same_image == 0.0:
        return {}
    return {"same_image": weights.same_image * supervised_contrastive(images, labels, temperature=_TEMPERATURE)}
