import torch
from torch.nn.functional import normalize

from naruto_vision.metrics.retrieval import leave_one_out_accuracy, nearest_accuracy, recall_at_1


def test_recall_counts_queries_that_find_their_own() -> None:
    items = torch.eye(4)
    assert recall_at_1(items, items) == 1.0
    assert recall_at_1(items[[1, 0, 2, 3]], items) == 0.5
    assert recall_at_1(torch.zeros(0, 4), torch.zeros(0, 4)) == 0.0


def test_leave_one_out_never_finds_itself() -> None:
    vectors = normalize(torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]]), dim=1)
    assert leave_one_out_accuracy(vectors, torch.tensor([0, 0, 1, 1])) == 1.0
    assert leave_one_out_accuracy(vectors, torch.tensor([0, 1, 2, 3])) == 0.0
    assert leave_one_out_accuracy(vectors[:1], torch.tensor([0])) == 0.0


def test_nearest_uses_the_gallery_alone() -> None:
    gallery, labels = torch.eye(2), torch.tensor([5, 9])
    queries = normalize(torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.8, 0.2]]), dim=1)
    assert nearest_accuracy(gallery, labels, queries, torch.tensor([5, 9, 9])) == torch.tensor(2 / 3).item()
    assert nearest_accuracy(torch.zeros(0, 2), labels[:0], queries, torch.tensor([5, 9, 9])) == 0.0
