"""Losses that set pictures against one text vector a class: the softmax of a classifier, and a sigmoid a pair."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from naruto_vision.losses.contrastive import cosines


def prototype_cross_entropy(
    images: Tensor,
    prototypes: Tensor,
    labels: Tensor,
    scale: Tensor,
    *,
    smoothing: float = 0.0,
    class_weights: Tensor | None = None,
) -> Tensor:
    """Cross-entropy of a classifier whose weights are the classes' text vectors: logits = scale * image . prototype.

    Only pictures choose among classes; unlike ``multi_positive_contrastive`` no class chooses among pictures.

    Args:
        images: Shape (B, D), float32, unit rows.
        prototypes: Shape (C, D), float32, unit rows.
        labels: Shape (B,), int64, in [0, C).
        scale: Shape (), float32, the factor in front of the cosines, above 0.
        smoothing: How much of each target is spread over all classes, in [0, 1).
        class_weights: Shape (C,), float32: how much each class counts.

    Returns:
        Shape (), float32, 0 or above.
    """
    logits = scale * cosines(images, prototypes)  # (B, C)
    return cross_entropy(logits, labels, weight=class_weights, label_smoothing=smoothing)


def sigmoid_contrastive(
    images: Tensor,
    texts: Tensor,
    positives: Tensor,
    scale: Tensor,
    bias: Tensor,
    *,
    smoothing: float = 0.0,
    row_weights: Tensor | None = None,
) -> Tensor:
    """Decide for each pair of picture and text by itself whether they belong together.

    SigLIP's loss (Zhai et al. 2023, arXiv 2303.15343), where several texts may be right: a sum over the texts of a
    picture, averaged over the pictures.

    Args:
        images: Shape (B, D), float32, unit rows.
        texts: Shape (T, D), float32, unit rows.
        positives: Shape (B, T), bool, True where the text is true of the picture.
        scale: Shape (), float32, the factor in front of the cosines, above 0.
        bias: Shape (), float32, what is added to the scaled cosines.
        smoothing: How far each target is moved towards one half, in [0, 1).
        row_weights: Shape (B,), float32: how much each picture counts.

    Returns:
        Shape (), float32, 0 or above.
    """
    logits = scale * cosines(images, texts) + bias  # (B, T)
    targets = positives.to(logits.dtype) * (1.0 - smoothing) + smoothing / 2
    rows = binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(dim=1)
    if row_weights is None:
        return rows.mean()
    return (rows * row_weights).sum() / row_weights.sum()


def starting_bias(images: Tensor, texts: Tensor, positives: Tensor, scale: Tensor) -> Tensor:
    """Choose the bias with which an untrained sigmoid calls as many pairs right as there are.

    SigLIP starts from -10 because its scale starts at 10; a pretrained CLIP's is near 100 and its cosines lie far
    from 0, so that -10 would call every pair right and spend the first epochs on pushing everything apart.

    Args:
        images: Shape (B, D), float32, unit rows.
        texts: Shape (T, D), float32, unit rows.
        positives: Shape (B, T), bool.
        scale: Shape (), float32, the factor in front of the cosines.

    Returns:
        Shape (), float32: the log odds of a positive, minus the mean scaled cosine; no gradient flows.
    """
    with torch.no_grad():
        share = min(max(float(positives.float().mean()), 1e-4), 1 - 1e-4)
        return math.log(share / (1 - share)) - (scale * cosines(images, texts)).mean()


def inverse_frequency(counts: Sequence[int]) -> Tensor:
    """Weigh classes so that each counts the same in all, however many pictures it has.

    Args:
        counts: Pictures of each of the C classes.

    Returns:
        Shape (C,), float32: all pictures / (C * pictures of the class); 1 for a class that has none.
    """
    numbers = torch.tensor(counts, dtype=torch.float32)
    weights = numbers.sum() / (len(counts) * numbers.clamp(min=1))
    return torch.where(numbers > 0, weights, torch.ones(()))
