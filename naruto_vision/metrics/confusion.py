"""Figures of a classifier, all from one confusion matrix."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ClassFigures:
    """How well classes were told apart.

    Args:
        accuracy: Share of right answers.
        macro_accuracy: Mean over the classes that occur of their own share of right answers.
        macro_f1: Mean over the classes that occur or were answered of their F1.
        count: How many answers there were.
    """

    accuracy: float
    macro_accuracy: float
    macro_f1: float
    count: int


def confusion_matrix(predicted: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Count what each class was taken for.

    Args:
        predicted: Shape (N,), int64, in [0, classes).
        labels: Shape (N,), int64, in [0, classes).
        classes: How many classes there are.

    Returns:
        Shape (classes, classes), int64; rows are true classes, columns the answers.
    """
    pairs = torch.bincount(labels * classes + predicted, minlength=classes * classes)
    return pairs.reshape(classes, classes)


def class_figures(confusion: Tensor) -> ClassFigures:
    """Work out the figures.

    Args:
        confusion: Shape (C, C), int64; rows are true classes, columns the answers.

    Returns:
        All figures 0 where there were no answers.
    """
    counts = confusion.double()
    right, true, answered = counts.diag(), counts.sum(dim=1), counts.sum(dim=0)
    recall = (right / true.clamp(min=1))[true > 0]
    f1 = (2 * right / (true + answered).clamp(min=1))[true + answered > 0]
    total = int(counts.sum())
    return ClassFigures(
        accuracy=float(right.sum() / max(total, 1)),
        macro_accuracy=float(recall.mean()) if len(recall) else 0.0,
        macro_f1=float(f1.mean()) if len(f1) else 0.0,
        count=total,
    )
