import hashlib
import json
import os
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

from naruto_vision.errors import FormatError, MissingPathError, StateDictError
from naruto_vision.io import bundles
from naruto_vision.io.bundles import (
    file_digest,
    file_sha256,
    has_sha256,
    load_bundle,
    load_strictly,
    model_fingerprint,
    read_bundle_info,
    save_bundle,
)
from naruto_vision.io.checkpoints import load_state_dict


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_bundle(tmp_path / "b", nn.Linear(3, 2).state_dict(), {"kind": "clip", "architecture": "x"})
    return tmp_path / "b"


def test_a_bundle_comes_back_as_it_went(bundle: Path) -> None:
    torch.manual_seed(0)
    state, info = load_bundle(bundle, "clip")
    assert info["architecture"] == "x"
    assert all(torch.equal(state[name], value) for name, value in nn.Linear(3, 2).state_dict().items())


def test_other_weights_under_the_same_json_are_refused(bundle: Path) -> None:
    weights = bundle / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    with pytest.raises(FormatError, match=r"model\.safetensors: expected sha256"):
        load_bundle(bundle, "clip")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "model.json: not JSON (Expecting"),
        ("[]", "expected an object, found []"),
        ('"\\ud800"', "surrogates not allowed"),
        ('{"format": 9}', "found 9"),
        ('{"format": 1}', "'clip' bundle"),
    ],
)
def test_a_wrong_json_is_refused_by_name(bundle: Path, text: str, said: str) -> None:
    (bundle / "model.json").write_text(text)
    with pytest.raises(FormatError) as caught:
        read_bundle_info(bundle, "clip")
    assert "model.json" in str(caught.value)
    assert said in str(caught.value)


def test_another_kind_and_a_missing_file_are_refused(bundle: Path) -> None:
    with pytest.raises(FormatError, match="a 'sam' bundle"):
        load_bundle(bundle, "sam")
    (bundle / "model.safetensors").unlink()
    with pytest.raises(MissingPathError, match="weights file"):
        load_bundle(bundle, "clip")


def test_a_pickle_that_runs_code_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (Path(tmp_path / "ran"),))  # type: ignore[return-value]

    file = tmp_path / "evil.pth"
    file.write_bytes(pickle.dumps({"a": Evil()}))
    with pytest.raises(FormatError, match=r"evil\.pth: expected a PyTorch weights file"):
        load_state_dict(file)
    torch.save({"a": Evil()}, file)
    with pytest.raises(FormatError, match=r"evil\.pth: expected a PyTorch weights file"):
        load_state_dict(file)
    assert not (tmp_path / "ran").exists()


def test_wrappers_and_prefixes_of_checkpoints_are_taken_off(tmp_path: Path) -> None:
    torch.save({"state_dict": {"module.a": torch.ones(1)}}, tmp_path / "a.pt")
    assert list(load_state_dict(tmp_path / "a.pt")) == ["a"]
    torch.save({"epoch": 3, "a": torch.ones(1)}, tmp_path / "b.pt")
    with pytest.raises(FormatError, match="names to tensors"):
        load_state_dict(tmp_path / "b.pt")


def test_torchscript_archives_give_their_tensors(tmp_path: Path) -> None:
    module = nn.Linear(2, 2)
    torch.jit.save(torch.jit.script(module), str(tmp_path / "jit.pt"))  # type: ignore[no-untyped-call]
    assert torch.equal(load_state_dict(tmp_path / "jit.pt")["weight"], module.weight)


def test_a_truncated_safetensors_file_is_refused(bundle: Path) -> None:
    weights = bundle / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:40])
    with pytest.raises(FormatError, match="safetensors"):
        load_state_dict(weights)


def test_the_fingerprint_follows_facts_and_every_weight() -> None:
    state = {"a": torch.zeros(2), "b": torch.zeros(2)}
    first = model_fingerprint({"size": 1}, state)
    assert model_fingerprint({"size": 1}, dict(reversed(state.items()))) == first
    assert model_fingerprint({"size": 2}, state) != first
    assert model_fingerprint({"size": 1}, {**state, "b": torch.tensor([0.0, 1e-30])}) != first


def test_the_json_is_readable_by_people(bundle: Path) -> None:
    assert len(json.loads((bundle / "model.json").read_text())["sha256"]) == 64
    assert (bundle / "model.json").read_text().endswith("}\n")


@pytest.mark.parametrize("length", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1])
def test_a_file_is_hashed_whole(tmp_path: Path, length: int) -> None:
    data = bytes(range(256)) * (length // 256) + b"x" * (length % 256)
    file = tmp_path / "file"
    file.write_bytes(data)
    assert file_sha256(file) == hashlib.sha256(data).hexdigest()
    assert file_digest(str(file), "md5") == hashlib.md5(data, usedforsecurity=False).hexdigest()


def test_a_file_that_is_missing_or_changed_has_another_hash(tmp_path: Path) -> None:
    file = tmp_path / "file"
    digest = hashlib.sha256(b"rows").hexdigest()
    assert not has_sha256(file, digest)
    file.write_bytes(b"rows")
    assert has_sha256(file, digest)
    file.write_bytes(b"row")
    assert not has_sha256(file, digest)
    assert not has_sha256(tmp_path, digest)


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


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(value: float) -> None:
    linear = nn.Linear(2, 2)
    state = {"weight": torch.tensor([[1.0, 2.0], [value, 4.0]]).half(), "bias": torch.zeros(2)}
    with pytest.raises(FormatError, match=r"file: expected finite weights, found weight: NaN or infinity"):
        load_strictly(linear, state, "file", "a layer")


def test_half_precision_is_widened_in_strict_loading() -> None:
    model = nn.Linear(2, 1)
    load_strictly(model, {"weight": torch.full((1, 2), 0.5).half(), "bias": torch.zeros(1).half()}, "w", "Linear")
    assert model.weight.dtype == torch.float32
    assert model.weight.tolist() == [[0.5, 0.5]]


def test_packaged_configs_are_found_by_name() -> None:
    assert bundles.config_path("scenes.yaml").read_text(encoding="utf-8").startswith("# naruto-vision")


def test_a_folder_wins_over_a_packaged_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny-clip").mkdir()
    (tmp_path / "tiny-clip" / "model.json").write_text("{}")
    assert bundles.bundle_path("tiny-clip") == Path("tiny-clip")


def test_a_bundle_that_is_nowhere_is_refused_with_the_names_there_are(tmp_path: Path) -> None:
    with pytest.raises(MissingPathError, match=r"fit --config clip\.yaml"):
        bundles.bundle_path(tmp_path / "none")
    with pytest.raises(MissingPathError, match="packaged config"):
        bundles.config_path("none.yaml")


def test_a_path_never_falls_back_to_a_packaged_name(tmp_path: Path) -> None:
    with pytest.raises(MissingPathError):
        bundles.bundle_path(tmp_path / "tiny-clip")


def test_what_may_never_end_is_not_hashed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("", "pipe"):
        with pytest.raises(FormatError, match="expected a file, found a"):
            bundles.file_sha256(tmp_path / name)
