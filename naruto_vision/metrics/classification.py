"""Metrics of classifiers, of retrieval, and of predicted IoUs."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torchmetrics.functional.classification import multiclass_confusion_matrix


@dataclass(frozen=True)
class ClassFigures:
    """Accuracy; its mean over the classes that occur; the mean F1 over those that occur or are predicted; a count."""

    accuracy: float
    macro_accuracy: float
    macro_f1: float
    count: int


def confusion_matrix(predicted: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Count predictions by true class: int64 (N,) twice to int64 (C, C), rows are true classes."""
    return multiclass_confusion_matrix(predicted, labels, classes)


def class_figures(confusion: Tensor) -> ClassFigures:
    """Compute accuracy and F1 in float64 from a confusion matrix (C, C); all 0 where it is empty."""
    counts = confusion.double()
    right, true, predicted = counts.diag(), counts.sum(dim=1), counts.sum(dim=0)
    recall = (right / true.clamp(min=1))[true > 0]
    f1 = (2 * right / (true + predicted).clamp(min=1))[true + predicted > 0]
    total = int(counts.sum())
    return ClassFigures(
        accuracy=float(right.sum() / max(total, 1)),
        macro_accuracy=float(recall.mean()) if len(recall) else 0.0,
        macro_f1=float(f1.mean()) if len(f1) else 0.0,
        count=total,
    )


def recall_at_1(queries: Tensor, items: Tensor) -> float:
    """Fraction of queries whose nearest item is the matching one; a tie is a miss unless the match comes first."""
    if len(queries) == 0:
        return 0.0
    nearest = (queries @ items.T).argmax(dim=1)
    return float((nearest == torch.arange(len(queries), device=nearest.device)).float().mean())


def leave_one_out_accuracy(vectors: Tensor, labels: Tensor) -> float:
    """Fraction of vectors whose nearest other vector has their label."""
    if len(vectors) < 2:
        return 0.0
    similarity = (vectors @ vectors.T).fill_diagonal_(-2.0)  # below any cosine
    return float((labels[similarity.argmax(dim=1)] == labels).float().mean())


@dataclass(frozen=True)
class CalibrationBin:
    """The masks whose predicted IoU is in [low, high): count, mean predicted IoU (not clipped), mean true IoU."""

    low: float
    high: float
    count: int
    predicted: float
    actual: float


@dataclass(frozen=True)
class IouCalibration:
    """Agreement of predicted and true IoU; the errors are None without masks."""

    count: int
    calibration_error: float | None
    absolute_error: float | None
    bias: float | None
    bins: tuple[CalibrationBin, ...]


def iou_calibration(predicted: Tensor, actual: Tensor, bins: int = 10) -> IouCalibration:
    """Compare predicted with true IoUs, both (N,), overall and in ``bins`` equal ranges of [0, 1].

    A model whose estimates spread evenly around the truth has a large absolute error and no calibration error; one
    that is always 0.1 over-confident has both at 0.1. Estimates outside [0, 1] go to the first or last bin.
    """
    if predicted.shape != actual.shape or predicted.ndim != 1 or bins < 1:
        msg = f"iou_calibration: expected two (N,) tensors, found {tuple(predicted.shape)} and {tuple(actual.shape)}"
        raise ValueError(msg + f", and at least one bin, found {bins}")
    guess, truth = predicted.detach().cpu().double(), actual.detach().cpu().double()
    if not (guess.isfinite().all() and truth.isfinite().all()):
        raise ValueError("iou_calibration: expected finite values, found others")
    count = guess.numel()
    if count == 0:
        return IouCalibration(0, None, None, None, ())
    bucket = (guess.clamp(0.0, 1.0) * bins).long().clamp(max=bins - 1)
    filled = tuple(
        _bin(guess[bucket == index], truth[bucket == index], index, bins) for index in torch.unique(bucket).tolist()
    )
    gaps = sum(one.count * abs(one.predicted - one.actual) for one in filled)
    error = guess - truth
    return IouCalibration(count, gaps / count, float(error.abs().mean()), float(error.mean()), filled)


def _bin(guess: Tensor, truth: Tensor, index: int, bins: int) -> CalibrationBin:
    """Summarise one bin's estimates (n,) and true IoUs (n,)."""
    return CalibrationBin(index / bins, (index + 1) / bins, guess.numel(), float(guess.mean()), float(truth.mean()))
