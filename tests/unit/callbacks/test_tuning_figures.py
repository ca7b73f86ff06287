import pytest
import torch

from naruto_vision.callbacks.reports import confusion_figure
from naruto_vision.callbacks.tensorboard import example_grid


def test_each_cell_that_counts_carries_its_number() -> None:
    figure = confusion_figure(torch.tensor([[5, 0, 1], [0, 0, 0], [2, 0, 7]]), ("ann", "bob", "cy"))
    axes = figure.axes[0]
    assert sorted(text.get_text() for text in axes.texts) == ["1", "2", "5", "7"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["ann", "bob", "cy"]


@pytest.mark.parametrize(("count", "numbers"), [(8, True), (40, True), (41, False), (120, False)])
def test_many_classes_make_smaller_names_and_no_larger_figure(count: int, numbers: bool) -> None:
    names = tuple(f"character {number}" for number in range(count))
    figure = confusion_figure(torch.eye(count, dtype=torch.int64), names)
    width, height = figure.get_size_inches()
    assert width == height <= 16
    assert len(figure.axes[0].texts) == (count if numbers else 0)
    labels = figure.axes[0].get_yticklabels()
    assert [label.get_text() for label in labels] == list(names)
    assert labels[0].get_fontsize() * count <= 72 * height


def test_images_fill_the_whole_range_side_by_side() -> None:
    grid = example_grid(torch.randn(20, 3, 8, 8), count=10)
    assert grid.shape[0] == 3
    assert grid.min().item() == 0.0
    assert grid.max().item() == pytest.approx(1.0)
    assert grid.shape[1] < grid.shape[2]  # three rows of four
    assert grid.shape[2] > 4 * 8  # enlarged
