import numpy as np
import pytest
import torch

from naruto_vision.errors import InputError
from naruto_vision.gallery.enrolment import Enrolment


def test_rows_are_ordered_by_path_whatever_the_order_of_batches() -> None:
    vectors = torch.eye(4)
    forward, backward = Enrolment(), Enrolment()
    for start in (0, 2):
        forward.add(vectors[start : start + 2], ["a", "b"], [f"{start}.png", f"{start + 1}.png"])
    for start in (2, 0):
        backward.add(vectors[start : start + 2], ["a", "b"], [f"{start}.png", f"{start + 1}.png"])
    one, other = forward.build("f" * 64, "exact"), backward.build("f" * 64, "exact")
    assert [row.path for row in one.rows] == ["0.png", "1.png", "2.png", "3.png"]
    assert np.array_equal(one.vectors, other.vectors)
    assert one.digest == other.digest


def test_half_precision_vectors_are_kept_as_float32() -> None:
    enrolment = Enrolment()
    enrolment.add(torch.eye(2, dtype=torch.bfloat16), ["a", "b"], ["0.png", "1.png"])
    assert enrolment.vectors[0].dtype == np.float32


def test_labels_and_vectors_of_different_number_are_refused() -> None:
    enrolment = Enrolment()
    with pytest.raises(ValueError, match="3 vectors, 2 labels"):
        enrolment.add(torch.eye(3), ["a", "b"], ["0.png", "1.png"])
    assert enrolment.rows == []


def test_nobody_can_be_enrolled_as_unknown() -> None:
    enrolment = Enrolment()
    enrolment.add(torch.eye(2), ["a", "unknown"], ["0.png", "1.png"])
    with pytest.raises(InputError, match=r"1\.png: 'unknown'"):
        enrolment.build("f" * 64, "exact")
