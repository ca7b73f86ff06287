import pytest
import torch

from naruto_vision.cli import segment_stages
from naruto_vision.cli.segment_parts import OURS, STOCK


@pytest.mark.parametrize(("threads", "ours", "told"), [(1, 2, [0, 1]), (1, 1, [1]), (2, 1, [0])])
def test_what_differs_on_one_thread_is_compared_with_stock_on_two(threads: int, ours: int, told: list[int]) -> None:
    found = {OURS: [[ours]], STOCK: [[threads]]}

    def stock() -> None:
        found[STOCK] = [[torch.get_num_threads()]]

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        parity = segment_stages._identical(found, stock)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert list(parity.values()) == told
    assert list(parity) == ["identical run lengths", "identical to stock on two threads"][: len(told)]
