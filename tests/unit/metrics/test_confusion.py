import pytest
import torch
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_f1_score

from naruto_vision.metrics.classification import class_figures, confusion_matrix


def test_it_counts_truth_in_rows_and_answers_in_columns() -> None:
    found = confusion_matrix(torch.tensor([0, 1, 1, 2]), torch.tensor([0, 0, 1, 1]), 3)
    assert found.tolist() == [[1, 1, 0], [0, 1, 1], [0, 0, 0]]


def test_figures_equal_torchmetrics_where_every_class_occurs() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        labels = torch.cat([torch.arange(4), torch.randint(4, (20,), generator=generator)])
        predicted = torch.randint(4, (24,), generator=generator)
        figures = class_figures(confusion_matrix(predicted, labels, 4))
        assert figures.count == 24
        assert figures.accuracy == pytest.approx(float((predicted == labels).float().mean()), abs=1e-6)
        assert figures.macro_accuracy == pytest.approx(
            float(multiclass_accuracy(predicted, labels, 4, average="macro")), abs=1e-6
        )
        assert figures.macro_f1 == pytest.approx(
            float(multiclass_f1_score(predicted, labels, 4, average="macro")), abs=1e-6
        )


def test_classes_that_do_not_occur_do_not_lower_the_macro_accuracy() -> None:
    figures = class_figures(confusion_matrix(torch.tensor([0, 2]), torch.tensor([0, 0]), 3))
    assert figures.macro_accuracy == 0.5
    assert figures.macro_f1 == pytest.approx((2 / 3 + 0) / 2)


def test_nothing_gives_zeros() -> None:
    figures = class_figures(torch.zeros(3, 3, dtype=torch.int64))
    assert (figures.accuracy, figures.macro_accuracy, figures.macro_f1, figures.count) == (0.0, 0.0, 0.0, 0)
