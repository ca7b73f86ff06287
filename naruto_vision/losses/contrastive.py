"""Contrastive losses with several positives a row, and losses against class prototypes."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, log_softmax


def _directed(logits: Tensor, positives: Tensor, smoothing: float, row_weights: Tensor | None = None) -> Tensor:
    """Weighted mean of each row's (R, K) cross-entropy against its positives; rows without any are left out."""
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
    """Multiply unit rows in full precision, also under autocast: times 100, a bfloat16 rounding is a third of a nat.

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
    """Pull each image to all its texts and each text to all its images.

    The mean of the two directions of a cross-entropy whose target spreads evenly over the positives. With the
    identity as ``positives`` it is CLIP's loss (Radford et al. 2021, arXiv 2103.00020); with equal labels as
    positives it is UniCL's (Yang et al. 2022, arXiv 2204.03610). An image or text without a positive in the
    batch only serves as a negative.

    Shapes: images (B, D), float32; texts (T, D), float32; positives (B, T), bool; scale (), float32; weights (B,);
    returns (), float32.
    """
    logits = scale * cosines(images, texts)  # (B, T)
    wanted = positives.to(logits.dtype)
    image_weights, text_weights = weights or (None, None)
    forward = _directed(logits, wanted, smoothing, image_weights)
    backward = _directed(logits.T, wanted.T, smoothing, text_weights)
    return (forward + backward) / 2


def grouped_contrastive(images: Tensor, texts: Tensor, positives: Tensor, groups: Tensor, scale: Tensor) -> Tensor:
    """Choose the right text within each group of alternatives, and the right images for each text.

    Where texts come as alternatives (the hair colours, the hats), a softmax over all of them would set hair colours
    against hats, though both are true. Here each group has its own softmax, as in a classifier with several heads; the
    other direction, over the images, is that of ``multi_positive_contrastive``.

    Shapes: images (B, D), float32; texts (T, D), float32; positives (B, T), bool; groups (T,), int64; scale (),
    float32; returns (), float32.
    """
    logits = scale * cosines(images, texts)  # (B, T)
    wanted = positives.to(logits.dtype)
    columns = [groups == group for group in sorted(set(groups.tolist()))]
    forward = torch.stack([_directed(logits[:, own], wanted[:, own], 0.0) for own in columns]).mean()
    return (forward + _directed(logits.T, wanted.T, 0.0)) / 2


def supervised_contrastive(vectors: Tensor, labels: Tensor, *, temperature: float = 0.1) -> Tensor:
    """Pull vectors of equal labels together, away from all others (Khosla et al. 2020, arXiv 2004.11362, L_out)."""
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

    Only images choose among classes; unlike ``multi_positive_contrastive`` no class chooses among images.

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
    """Decide for each pair of image and text by itself whether they belong together.

    SigLIP's loss (Zhai et al. 2023, arXiv 2303.15343), where several texts may be right: a sum over the texts of an
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
    """Choose the bias with which an untrained sigmoid predicts as many positive pairs as there are: shape (), float32.

    It is the log odds of a positive, minus the mean scaled cosine. SigLIP starts from -10 because its scale starts at
    10; a pretrained CLIP's is near 100 and its cosines lie far from 0, so that -10 would call every pair right and
    spend the first epochs on pushing everything apart.
    """
    with torch.no_grad():
        share = min(max(float(positives.float().mean()), 1e-4), 1 - 1e-4)
        return math.log(share / (1 - share)) - (scale * cosines(images, texts)).mean()


def inverse_frequency(counts: Sequence[int]) -> Tensor:
    """Weigh classes so that each counts the same in all, however many images it has: returns (C,), float32."""
    numbers = torch.tensor(counts, dtype=torch.float32)
    weights = numbers.sum() / (len(counts) * numbers.clamp(min=1))
    return torch.where(numbers > 0, weights, torch.ones(()))
