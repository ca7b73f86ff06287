"""Bundles: every shape and kind comes back, the same bytes each time, and packaged ones are found by name."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from naruto_vision.errors import MissingPathError
from naruto_vision.io.bundles import (
    bundle_path,
    file_sha256,
    load_bundle,
    packaged_bundles,
    read_bundle_info,
    save_bundle,
)

TENSOR = torch.arange(3.0)

STATES: list[dict[str, Tensor]] = [
    {},
    {"a": torch.zeros(())},
    {"a": torch.zeros(0, 3)},
    {"a": torch.arange(6).reshape(2, 3).T, "b": torch.ones(2, dtype=torch.bool)},
    {"a": torch.ones(2, dtype=torch.float16), "b": torch.ones(2, dtype=torch.bfloat16), "ü.名": torch.ones(1)},
]


@pytest.mark.parametrize("state", STATES, ids=len)
def test_a_bundle_keeps_shapes_kinds_and_names(tmp_path: Path, state: dict[str, Tensor]) -> None:
    save_bundle(tmp_path / "deep" / "b", state, {"kind": "sam", "note": "名", "figure": 0.1})
    back, info = load_bundle(tmp_path / "deep" / "b", "sam")
    assert back.keys() == state.keys()
    for name, value in state.items():
        assert back[name].dtype == value.dtype
        assert torch.equal(back[name], value)
    assert (info["format"], info["note"], info["figure"]) == (1, "名", 0.1)
    assert info["sha256"] == file_sha256(tmp_path / "deep" / "b" / "model.safetensors")


def test_a_bundle_is_the_same_bytes_each_time_and_readable(tmp_path: Path) -> None:
    for name in ("one", "two", "two"):
        save_bundle(tmp_path / name, STATES[3], {"kind": "clip", "name": "é"})
    for file in ("model.safetensors", "model.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    text = (tmp_path / "one" / "model.json").read_text(encoding="utf-8")
    assert '\n  "name": "é"' in text


def test_a_bundle_without_its_facts_is_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingPathError, match=r"model\.json: no such model bundle"):
        read_bundle_info(tmp_path, "clip")
    with pytest.raises(MissingPathError, match=r"model\.json: no such model bundle"):
        load_bundle(tmp_path / "nowhere", "clip")


def test_a_bundle_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    save_bundle(tmp_path / "b", {"a": TENSOR}, {"kind": "clip"})
    with pytest.raises(ValueError, match="JSON"):
        save_bundle(tmp_path / "b", {"a": TENSOR + 1}, {"kind": "clip", "loss": float("nan")})
    assert torch.equal(load_bundle(tmp_path / "b", "clip")[0]["a"], TENSOR)
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_every_packaged_bundle_is_found_by_name_only() -> None:
    assert packaged_bundles() == sorted(packaged_bundles())
    assert {"tiny-clip", "tiny-sam"} <= set(packaged_bundles())
    for name in packaged_bundles():
        assert bundle_path(name).name == name
        with pytest.raises(MissingPathError, match="give tiny-clip"):
            bundle_path(f"./x/{name}")
