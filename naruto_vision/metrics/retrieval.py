"""How well vectors find each other: recall at 1 between texts and pictures, leave-one-out nearest neighbours."""

import torch
from torch import Tensor


def recall_at_1(queries: Tensor, items: Tensor) -> float:
    """Share of queries whose nearest item is their own; a tie counts as a miss unless the own item comes first.

    Args:
        queries: Shape (N, D), float32, unit rows.
        items: Shape (N, D), float32, unit rows; item i belongs to query i.

    Returns:
        In [0, 1]; 0 where there are none.
    """
    if len(queries) == 0:
        return 0.0
    nearest = (queries @ items.T).argmax(dim=1)
    return float((nearest == torch.arange(len(queries), device=nearest.device)).float().mean())


def leave_one_out_accuracy(vectors: Tensor, labels: Tensor) -> float:
    """Share of vectors whose nearest other vector has their label.

    Args:
        vectors: Shape (N, D), float32, unit rows.
        labels: Shape (N,), int64.

    Returns:
        In [0, 1]; 0 where there are fewer than two.
    """
    if len(vectors) < 2:
        return 0.0
    similarity = (vectors @ vectors.T).fill_diagonal_(-2.0)  # below any cosine
    return float((labels[similarity.argmax(dim=1)] == labels).float().mean())
