"""Weights and checkpoints from others: their code never runs, and what they state is bounded by their size."""

import json
import pickle
import zipfile
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.demos.boring_classes import BoringModel
from torch import Tensor, nn

from naruto_vision.cli.main import main
from naruto_vision.cli.trainer import SaveConfig
from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.encoders.tiny import TinySizes
from naruto_vision.errors import FormatError, InputError
from naruto_vision.io.checkpoints import check_callback_states, load_state_dict

WRITER = """
import torch
class Writer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.zeros(2))
        self.training = False
    @torch.jit.export
    def __getstate__(self):
        return (self.w, self.training)
    @torch.jit.export
    def __setstate__(self, state: tuple[torch.Tensor, bool]):
        torch.from_file("@PATH", True, 8, dtype=torch.uint8).fill_(65)
        self.w, self.training = state
    def forward(self, x): return x + self.w
"""


class _Parts(nn.Module):
    """Everything that a TorchScript archive may have beside parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.ModuleList([nn.Linear(3, 2), nn.Linear(2, 2).half()])
        self.register_buffer("steps", torch.arange(3))
        self.mask, self.sizes, self.names, self.extra = torch.ones(2), [1, 2], {"a": 1.5}, [torch.zeros(1)]

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mask.sum() + self.steps.sum() + self.sizes[0] + self.names["a"] + self.extra[0]


def test_a_torchscript_archive_that_writes_a_file_as_it_loads_writes_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    victim, source = tmp_path / "victim", tmp_path / "writer.py"
    source.write_text(WRITER.replace("@PATH", str(victim)), encoding="utf-8")
    module = SourceFileLoader("writer", str(source)).load_module()  # TorchScript reads the source
    torch.jit.save(torch.jit.script(module.Writer()), str(tmp_path / "evil.pt"))  # type: ignore[no-untyped-call]
    victim.unlink(missing_ok=True)
    with pytest.raises(FormatError, match="only its own code can restore"):
        load_state_dict(tmp_path / "evil.pt")
    assert main(["weights", "import", str(tmp_path / "evil.pt"), "--out", str(tmp_path / "out")]) == 2
    assert "evil.pt: expected a PyTorch weights file" in capsys.readouterr().err
    assert not victim.exists()


@pytest.mark.parametrize("traced", [False, True])
def test_a_torchscript_archive_gives_the_same_state_dict_as_torch(traced: bool, tmp_path: Path) -> None:
    module = _Parts()
    made = torch.jit.trace(module, torch.zeros(2)) if traced else torch.jit.script(module)  # type: ignore[no-untyped-call]
    torch.jit.save(made, str(tmp_path / "parts.pt"))  # type: ignore[no-untyped-call]
    found, expected = load_state_dict(tmp_path / "parts.pt"), made.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())


class _Call:
    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call[0], self.call[1:]


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda: {"a": _Call(bytearray, 10**10)}, "bytearray"),
        (lambda: {"a": _Call(exec, "open('ran', 'w')")}, "would run code"),
        (lambda: {str(n): one for n, one in enumerate(torch.zeros(31_000).unbind())}, "20000 tensors"),
    ],
    ids=["allocates", "runs", "many"],
)
def test_a_pickle_that_takes_more_than_its_size_is_refused(
    zipped: bool, content: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(content(), "a.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(FormatError, match=rf"a\.pt: [^\n]*{message}"):
        load_state_dict("a.pt")
    assert not Path("ran").exists()


def test_a_compressed_checkpoint_and_a_header_of_many_tensors_are_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(100_000)}, tmp_path / "a.pt")
    with (
        zipfile.ZipFile(tmp_path / "a.pt") as plain,
        zipfile.ZipFile(tmp_path / "b.pt", "w", zipfile.ZIP_DEFLATED) as small,
    ):
        for name in plain.namelist():
            small.writestr(name, plain.read(name))
    with pytest.raises(FormatError, match="compressed"):
        load_state_dict(tmp_path / "b.pt")
    one = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    header = json.dumps({f"t{n}": one for n in range(100_000)}).encode()
    (tmp_path / "c.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\0")
    with pytest.raises(FormatError, match="at most 20000 tensors"):
        load_state_dict(tmp_path / "c.safetensors")
    (tmp_path / "d.pt").write_bytes(pickle.dumps(tuple(range(5))))
    with pytest.raises(FormatError, match=r"d\.pt"):
        load_state_dict(tmp_path / "d.pt")


@pytest.mark.parametrize(
    ("tensor", "kind"), [(torch.eye(3).to_sparse(), "sparse_coo"), (torch.empty(3, 3, device="meta"), "without values")]
)
def test_tensors_that_no_parameter_can_take_are_refused(tensor: Tensor, kind: str, tmp_path: Path) -> None:
    torch.save({"a": torch.eye(3), "b": tensor}, tmp_path / "a.pt")
    with pytest.raises(FormatError, match=rf"a\.pt: expected dense tensors, found b: .*{kind}"):
        load_state_dict(tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sizes": {"vision_layers": 10**7}}, "vision_layers from 1 to 128"),
        ({"sizes": {"vision_width": 8192, "vision_layers": 128}}, "not weights of tiny-clip"),
        ({"sizes": {"context_length": 8000}}, "not weights of tiny-clip"),
        ({"sizes": {"buckets": "many"}}, "the record of a CLIP bundle"),
        ({"preprocessing": {"size": 100_000}}, "preprocessing of the model's size"),
        ({"architecture": "ViT-bigG-14"}, "not weights of ViT-bigG-14"),
    ],
)
def test_a_bundle_that_states_other_sizes_than_its_weights_takes_no_memory(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    sizes = TinySizes(embed_dim=16, image_size=24, vision_width=32, vision_layers=1, text_width=32, text_layers=1)
    ClipEncoder("tiny-clip", "random", sizes=sizes).save(tmp_path / "b")
    info = json.loads((tmp_path / "b" / "model.json").read_text(encoding="utf-8"))
    for key, value in changes.items():
        info[key] = {**info[key], **value} if isinstance(value, dict) else value
    (tmp_path / "b" / "model.json").write_text(json.dumps(info), encoding="utf-8")
    with pytest.raises(InputError, match=rf"{tmp_path}/b[^\n]*{message}"):
        ClipEncoder(str(tmp_path / "b"))


@pytest.mark.parametrize(
    "state",
    [
        {"best_k_models": {"/victim": torch.zeros(1)}},
        {"kth_best_model_path": "/runs/checkpoints/../../victim"},
        {"last_model_path": "local:///runs/checkpoints/victim"},
        {"best_model_path": "/runs/checkpoints"},
        {"best_model_path": 7},
        {"dirpath": None, "best_model_path": "/victim"},
        {"dirpath": "/", "best_model_path": "/runs/../victim"},
    ],
)
def test_a_checkpoint_whose_callbacks_name_files_elsewhere_is_refused(state: dict[str, Any]) -> None:
    own = {"dirpath": "/runs/checkpoints", "best_model_path": "/runs/checkpoints/a.ckpt"}
    check_callback_states("a.ckpt", {"ModelCheckpoint": own, "Other": {"epoch": 1}})
    with pytest.raises(FormatError, match=r"a\.ckpt: expected a checkpoint whose callbacks name files in their folder"):
        check_callback_states("a.ckpt", {"ModelCheckpoint": {**own, **state}})


@pytest.mark.parametrize("field", ["best_k_models", "last_model_path"])
def test_resuming_from_a_foreign_checkpoint_deletes_nothing(field: str, tmp_path: Path) -> None:
    def trainer(epochs: int) -> tuple[pl.Trainer, ModelCheckpoint]:
        keep = ModelCheckpoint(tmp_path / "runs", monitor="x", save_last=True, save_top_k=1)
        quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
        callbacks = [keep, SaveConfig(None, None)]  # type: ignore[arg-type]  # neither is used without a logger
        return pl.Trainer(max_epochs=epochs, limit_train_batches=1, callbacks=callbacks, **quiet), keep  # type: ignore[arg-type]

    class Logs(BoringModel):
        def on_train_epoch_end(self) -> None:
            self.log("x", -float(self.current_epoch))

    first, keep = trainer(1)
    first.fit(Logs())
    found = torch.load(keep.last_model_path, weights_only=True)
    victim = tmp_path / "victim"
    victim.write_text("mine", encoding="utf-8")
    name = f"{keep.dirpath}/../victim"
    state = next(state for state in found["callbacks"].values() if "dirpath" in state)
    state.update(
        {"best_k_models": {name: torch.tensor(9.0)}, "kth_best_model_path": name} if "k" in field else {field: name}
    )
    torch.save(found, tmp_path / "foreign.ckpt")
    second, _ = trainer(2)
    with pytest.raises(FormatError, match=r"foreign\.ckpt"):
        second.fit(Logs(), ckpt_path=tmp_path / "foreign.ckpt", weights_only=True)
    assert victim.exists()
    third, _ = trainer(2)
    third.fit(Logs(), ckpt_path=keep.last_model_path, weights_only=True)  # a run's own checkpoint resumes
