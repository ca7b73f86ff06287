import torch
from torch.nn.functional import normalize

from naruto_vision.metrics.classification import leave_one_out_accuracy, recall_at_1


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
