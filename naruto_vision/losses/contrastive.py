"""Contrastive losses with several positives per row, and losses against class prototypes."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, log_softmax


def _directed(logits: Tensor, positives: Tensor, smoothing: float, row_weights: Tensor | None = None) -> Tensor:
    """Weighted mean of each row's (R, K) cross-entropy against its positives; rows without positives are left out."""
    counts = positives.sum(dim=1)
    targets = positives / counts.clamp(min=1).unsqueeze(1)
    targets = targets * (1.0 - smoothing) + smoothing / logits.shape[1]
    rows = -(targets * log_softmax(logits, dim=1)).sum(dim=1)
    valid = (counts > 0).to(rows.dtype)
    if row_weights is None:
        return (rows * valid).sum() / valid.sum().clamp(min=1)
    weighted = valid * row_weights
    return (rows * weighted).sum() / weighted.sum().clamp(min=torch.finfo(rows.dtype).tiny)


def cosines(left: Tensor, right: Tensor) -> Tensor:
    """Multiply unit rows in float32 even under autocast: at a scale of 100, bfloat16 rounding is a third of a nat.

    Shapes: left (R, D); right (K, D); returns (R, K), float32.
    """
    with torch.autocast(left.device.type, enabled=False):
        return left.float() @ right.float().T


def multi_positive_contrastive(
    images: Tensor,
    texts: Tensor,
    positives: Tensor,
    scale: Tensor,
    *,
    smoothing: float = 0.0,
    weights: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Symmetric contrastive loss with several positives per image and per text.

    The mean of the two directions of a cross-entropy whose target spreads evenly over the positives. With the
    identity as ``positives`` it is CLIP's loss (Radford et al. 2021, arXiv 2103.00020); with equal labels as
    positives it is UniCL's (Yang et al. 2022, arXiv 2204.03610). An image or text without a positive in the
    batch is only a negative.

    Shapes: images (B, D), float32; texts (T, D), float32; positives (B, T), bool; scale (), float32; weights (B,);
    returns (), float32.
    """
    logits = scale * cosines(images, texts)  # (B, T)
    targets = positives.to(logits.dtype)
    image_weights, text_weights = weights or (None, None)
    forward = _directed(logits, targets, smoothing, image_weights)
    backward = _directed(logits.T, targets.T, smoothing, text_weights)
    return (forward + backward) / 2


def grouped_contrastive(images: Tensor, texts: Tensor, positives: Tensor, groups: Tensor, scale: Tensor) -> Tensor:
    """Contrastive loss with a softmax over the texts of each group, and over all images for each text.

    With groups of alternatives (hair colours, hats), a softmax over all texts makes hair colours compete with hats,
    though both can apply. Here each group has its own softmax, as in a classifier with several heads; the direction
    over images is that of ``multi_positive_contrastive``.

    Shapes: images (B, D), float32; texts (T, D), float32; positives (B, T), bool; groups (T,), int64; scale (),
    float32; returns (), float32.
    """
    logits = scale * cosines(images, texts)  # (B, T)
    targets = positives.to(logits.dtype)
    columns = [groups == group for group in sorted(set(groups.tolist()))]
    forward = torch.stack([_directed(logits[:, own], targets[:, own], 0.0) for own in columns]).mean()
    return (forward + _directed(logits.T, targets.T, 0.0)) / 2


def supervised_contrastive(vectors: Tensor, labels: Tensor, *, temperature: float = 0.1) -> Tensor:
    """Supervised contrastive loss of vectors (B, D) with labels (B,) (Khosla et al. 2020, arXiv 2004.11362, L_out)."""
    self_pairs = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    logits = (cosines(vectors, vectors) / temperature).masked_fill(self_pairs, torch.finfo(vectors.dtype).min)
    positives = (labels.unsqueeze(0) == labels.unsqueeze(1)) & ~self_pairs
    return _directed(logits, positives.to(logits.dtype), 0.0)


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

    Unlike in ``multi_positive_contrastive`` there is no softmax over images.

    Shapes: images (B, D), float32; prototypes (C, D), float32; labels (B,), int64; scale (), float32; class_weights
    (C,), float32; returns (), float32.
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
    """Binary cross-entropy of each pair of image and text.

    SigLIP's loss (Zhai et al. 2023, arXiv 2303.15343), with several positives: a sum over the texts of an
    image, averaged over the images.

    Shapes: images (B, D), float32; texts (T, D), float32; positives (B, T), bool; scale (), float32; bias (),
    float32; row_weights (B,), float32; returns (), float32.
    """
    logits = scale * cosines(images, texts) + bias  # (B, T)
    targets = positives.to(logits.dtype) * (1.0 - smoothing) + smoothing / 2
    rows = binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(dim=1)
    if row_weights is None:
        return rows.mean()
    return (rows * row_weights).sum() / row_weights.sum()


def starting_bias(images: Tensor, texts: Tensor, positives: Tensor, scale: Tensor) -> Tensor:
    """Compute the bias at which the initial sigmoid predicts the true rate of positives: shape (), float32.

    It is the log odds of a positive, minus the mean scaled cosine. SigLIP starts at -10 with a scale of 10;
    a pretrained CLIP has a scale near 100 and cosines far from 0, so with -10 it predicts every pair as positive and
    spends the first epochs on correcting that.
    """
    with torch.no_grad():
        share = min(max(float(positives.float().mean()), 1e-4), 1 - 1e-4)
        return math.log(share / (1 - share)) - (scale * cosines(images, texts)).mean()


def inverse_frequency(counts: Sequence[int]) -> Tensor:
    """Weight classes by inverse frequency, so that each has the same total weight: returns (C,), float32."""
    numbers = torch.tensor(counts, dtype=torch.float32)
    weights = numbers.sum() / (len(counts) * numbers.clamp(min=1))
    return torch.where(numbers > 0, weights, torch.ones(()))
