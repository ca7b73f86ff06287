"""Weights files and checkpoints: what is read, what is refused by name, and what never runs."""

import os
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
import pytest
import torch

from naruto_vision.errors import FormatError, MissingPathError
from naruto_vision.io.checkpoints import check_checkpoint, load_state_dict

TENSOR = torch.arange(3.0)


@pytest.mark.parametrize("open_it", [load_state_dict, check_checkpoint])
def test_a_file_that_is_not_there_is_named(tmp_path: Path, open_it: Callable[[Path], object]) -> None:
    for path in (tmp_path / "none.pt", tmp_path):  # a folder is no file
        with pytest.raises(MissingPathError) as caught:
            open_it(path)
        assert str(caught.value).startswith(f"{path}: no such ")


@pytest.mark.parametrize(
    "value",
    [{}, {"weights": {}}, [1, 2], TENSOR, "text", None],
)
def test_what_holds_no_weights_is_no_checkpoint(tmp_path: Path, value: object) -> None:
    torch.save(value, tmp_path / "a.ckpt")
    with pytest.raises(FormatError, match=rf"a\.ckpt: .*a file without weights \({type(value).__name__}\)"):
        check_checkpoint(tmp_path / "a.ckpt")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_checkpoint_with_weights_passes(tmp_path: Path, zipped: bool) -> None:
    value = {"state_dict": {"a": TENSOR}, "epoch": 3}
    torch.save(value, tmp_path / "a.ckpt", _use_new_zipfile_serialization=zipped)
    check_checkpoint(tmp_path / "a.ckpt")


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"\x80\x04", b"no checkpoint at all"])
def test_a_broken_checkpoint_is_refused_in_one_line(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.ckpt").write_bytes(data)
    with pytest.raises(FormatError, match=r"a\.ckpt: expected a Lightning checkpoint") as caught:
        check_checkpoint(tmp_path / "a.ckpt")
    assert "\n" not in str(caught.value)
    with pytest.raises(FormatError, match=r"a\.ckpt: expected a PyTorch weights file"):
        load_state_dict(tmp_path / "a.ckpt")


HARMLESS = [
    np.float64(0.5),
    np.float32(0.5),
    np.int64(3),
    np.zeros(2),
    np.zeros((2, 2), np.uint8),
    np.dtype("f4"),
    Path("runs"),
    PureWindowsPath("runs"),
    Namespace(a=1),
]


@pytest.mark.parametrize("value", HARMLESS, ids=lambda value: type(value).__name__)
def test_harmless_values_beside_weights_need_trust(tmp_path: Path, value: object) -> None:
    torch.save({"model": {"a": TENSOR}, "best": value}, tmp_path / "a.pt")
    assert torch.equal(load_state_dict(tmp_path / "a.pt", trust_pickle=True)["a"], TENSOR)


def test_without_trust_a_number_of_numpy_is_named_and_refused(tmp_path: Path) -> None:
    torch.save({"model": {"a": TENSOR}, "best": np.float64(0.5)}, tmp_path / "a.pt")
    with pytest.raises(FormatError, match=r"one that would run code \(numpy\S+\), which is refused"):
        load_state_dict(tmp_path / "a.pt")


class _Code:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.getcwd, ()


def test_trust_is_no_leave_to_run_code(tmp_path: Path) -> None:
    torch.save({"model": {"a": TENSOR}, "best": _Code()}, tmp_path / "a.pt")
    with pytest.raises(FormatError, match=r"would run code \(posix\.getcwd\), which is refused"):
        load_state_dict(tmp_path / "a.pt", trust_pickle=True)


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "model_state_dict"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_weights_are_found_under_the_names_that_scripts_use(tmp_path: Path, wrapper: str, prefix: str) -> None:
    torch.save({wrapper: {f"{prefix}x.module.a": TENSOR}, "epoch": 1}, tmp_path / "a.pth")
    found = load_state_dict(tmp_path / "a.pth")
    assert list(found) == ["x.module.a"]  # only what stands in front is taken off
    assert torch.equal(found["x.module.a"], TENSOR)


@pytest.mark.parametrize("value", [[TENSOR], {"a": 1}, {"a": TENSOR, "b": "text"}, {"state_dict": {"a": None}}, None])
def test_what_is_no_mapping_of_names_to_tensors_is_refused(tmp_path: Path, value: object) -> None:
    torch.save(value, tmp_path / "a.pt")
    with pytest.raises(FormatError, match="expected a mapping of names to tensors"):
        load_state_dict(tmp_path / "a.pt")
