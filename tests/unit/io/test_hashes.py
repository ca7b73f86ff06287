"""Hashes of files, fingerprints of models, and weights that fit key for key or not at all."""

import hashlib
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from naruto_vision.errors import StateDictError
from naruto_vision.io.bundles import file_digest, file_sha256, load_strictly, model_fingerprint


@settings(max_examples=20, deadline=None)
@given(st.binary(max_size=300))
def test_a_hash_of_a_file_is_that_of_its_bytes(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("hash") / "x"
    path.write_bytes(data)
    assert file_sha256(path) == hashlib.sha256(data).hexdigest()
    assert file_digest(path, "md5") == hashlib.md5(data, usedforsecurity=False).hexdigest()


def test_a_file_of_several_blocks_is_hashed_whole(tmp_path: Path) -> None:
    data = bytes(range(256)) * 5000  # more than one block of 1 MiB
    (tmp_path / "x").write_bytes(data)
    assert file_sha256(tmp_path / "x") == hashlib.sha256(data).hexdigest()


def test_a_fingerprint_is_blind_to_order_and_layout_and_sees_names() -> None:
    state = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.zeros(1)}
    first = model_fingerprint({"x": 1, "y": 2}, state)
    assert model_fingerprint({"y": 2, "x": 1}, {"b": state["b"], "a": state["a"].T.contiguous().T}) == first
    assert model_fingerprint({"x": 1, "y": 2}, {"c": state["a"], "b": state["b"]}) != first
    assert model_fingerprint({"x": 1, "y": 3}, state) != first
    assert len(first) == 64


def test_strict_loading_is_all_or_nothing() -> None:
    model = nn.Linear(2, 1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    wrong = {"weight": torch.ones(1, 3), "extra": torch.ones(1)}
    with pytest.raises(StateDictError) as caught:
        load_strictly(model, wrong, "w.pt", "Linear")
    message = str(caught.value)
    assert message.startswith("w.pt: not weights of Linear: 1 missing (bias); 1 unexpected (extra)")
    assert "1 of another shape (weight ((1, 3), (1, 2)))" in message
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_half_precision_is_widened_in_strict_loading() -> None:
    model = nn.Linear(2, 1)
    load_strictly(model, {"weight": torch.full((1, 2), 0.5).half(), "bias": torch.zeros(1).half()}, "w", "Linear")
    assert model.weight.dtype == torch.float32
    assert model.weight.tolist() == [[0.5, 0.5]]
