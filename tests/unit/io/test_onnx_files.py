"""ONNX graphs: what is refused of a file from somebody else, and that both runtimes compute what torch does."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from naruto_vision.errors import FingerprintError, FormatError, InputError, MissingPackageError, MissingPathError
from naruto_vision.io import machine
from naruto_vision.io.bundles import INFO
from naruto_vision.io.onnx_files import (
    RUNTIMES,
    Runtime,
    check_export,
    open_onnx,
    read_onnx,
    record_export,
    times_as_fast,
    write_onnx,
)

onnx = pytest.importorskip("onnx")
helper, FLOAT = onnx.helper, onnx.TensorProto.FLOAT


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nn.Linear]:
    torch.manual_seed(0)
    layer, path = nn.Linear(3, 2), tmp_path_factory.mktemp("graph") / "layer.onnx"
    write_onnx(path, layer, lambda rows: layer(rows).relu(), {"rows": torch.ones(2, 3)}, ["sums"], {"rows": ["count"]})
    return path, layer


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_runtime_computes_what_torch_does_for_any_number_of_rows(
    graph: tuple[Path, nn.Linear], runtime: Runtime
) -> None:
    path, layer = graph
    run = open_onnx(path, runtime)
    for count in (1, 2, 7):
        rows = torch.randn(count, 3)
        with torch.no_grad():
            assert np.allclose(run(rows.numpy())[0], layer(rows).relu().numpy(), atol=1e-6)
    first = run(np.ones((1, 3), np.float32))[0]
    kept = first.copy()
    run(np.zeros((1, 3), np.float32))
    assert np.array_equal(first, kept)  # the next call does not overwrite it
    assert sys.modules.get("openvino_telemetry") is None  # which tells its maker over the network


def _model(*nodes: Any, initializers: tuple[Any, ...] = (), functions: tuple[Any, ...] = ()) -> bytes:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(nodes, "g", [value("x", FLOAT, [1])], [value("y", FLOAT, [1])], list(initializers))
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("somebodys", 1)]
    own = {"opset_imports": imports, "functions": list(functions)}
    data: bytes = helper.make_model(graph, **own).SerializeToString()
    return data


def _outside(name: str = "w", where: str = "../../secret.bin") -> Any:
    tensor = onnx.TensorProto(name=name, data_type=FLOAT, dims=[1], data_location=onnx.TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=where)
    return tensor


def _branch() -> Any:
    return helper.make_graph([], "b", [], [helper.make_tensor_value_info("x", FLOAT, [1])])


ADD = helper.make_node("Add", ["x", "w"], ["y"])
FUNCTION = helper.make_function("somebodys", "F", ["x"], ["y"], [helper.make_node("Relu", ["x"], ["y"])], [])
BAD = {
    "the tensor w in another file": _model(ADD, initializers=(_outside(),)),
    "the tensor c in another file": _model(
        helper.make_node("Constant", [], ["w"], value=_outside("c", "/etc/passwd")), ADD
    ),
    "an operator of somebodys": _model(helper.make_node("Mine", ["x"], ["y"], domain="somebodys")),
    "the operator If with a graph of its own": _model(
        helper.make_node("If", ["x"], ["y"], then_branch=_branch(), else_branch=_branch())
    ),
    "functions, training steps or sparse tensors": _model(
        helper.make_node("F", ["x"], ["y"], domain="somebodys"), functions=(FUNCTION,)
    ),
}


@pytest.mark.parametrize("problem", BAD)
def test_a_graph_that_reaches_beyond_its_file_is_refused(problem: str, tmp_path: Path) -> None:
    path = tmp_path / "graph.onnx"
    path.write_bytes(BAD[problem])
    with pytest.raises(FormatError, match=f"graph.onnx: expected an ONNX model as .*, found {problem}"):
        read_onnx(path)


def test_what_is_no_graph_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "graph.onnx"
    path.write_bytes(b"\xff" * 100)
    with pytest.raises(FormatError, match="expected an ONNX model"):
        read_onnx(path)
    path.write_bytes(_model(helper.make_node("Add", ["x", "nothing"], ["y"])))
    for runtime in RUNTIMES:
        with pytest.raises(FormatError, match=f"expected a graph that {runtime} can run"):
            open_onnx(path, runtime)
    monkeypatch.setattr("naruto_vision.io.onnx_files._MOST_BYTES", 50)
    with pytest.raises(FormatError, match="expected at most 2 GiB"):
        read_onnx(path)
    with pytest.raises(InputError, match="an ONNX file holds at most 2 GiB"):
        write_onnx(path, nn.Linear(8, 8), lambda x: x, {"x": torch.ones(1)}, ["y"], {})


def test_a_network_that_cannot_be_traced_is_an_error_of_one_line(tmp_path: Path) -> None:
    def odd(rows: torch.Tensor) -> torch.Tensor:
        return rows if float(rows.sum()) > 0 else -rows

    with pytest.raises(InputError, match="this network cannot be written as ONNX") as error:
        write_onnx(tmp_path / "odd.onnx", nn.Linear(1, 1), odd, {"x": torch.ones(2)}, ["y"], {})
    assert "\n" not in str(error.value)
    assert not [*tmp_path.iterdir()]


def test_without_the_extra_the_error_names_it(
    graph: tuple[Path, nn.Linear], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "has_package", lambda _name: False)
    with pytest.raises(MissingPackageError, match=r"pip install 'naruto-vision\[onnx\]'"):
        open_onnx(graph[0], "onnx")
    with pytest.raises(MissingPackageError, match=r"naruto-vision\[onnx\]"):
        write_onnx(tmp_path / "x.onnx", nn.Linear(1, 1), lambda x: x, {"x": torch.ones(1)}, ["y"], {})


def test_an_export_is_checked_against_its_record(graph: tuple[Path, nn.Linear], tmp_path: Path) -> None:
    with pytest.raises(MissingPathError, match="no such export; write one with `naruto-vision export-model`"):
        check_export(tmp_path, "kind", "f" * 64, ["a.onnx"])
    (tmp_path / "a.onnx").write_bytes(graph[0].read_bytes())
    record_export(tmp_path, "kind", "f" * 64, {"a.onnx": {"onnx": 1.5}}, {"dim": 2})
    check_export(tmp_path, "kind", "f" * 64, ["a.onnx"])
    with pytest.raises(FingerprintError, match=r"built by encoder ffff.*export this one with"):
        check_export(tmp_path, "kind", "0" * 64, ["a.onnx"])
    with pytest.raises(FormatError, match="expected a 'other' bundle"):
        check_export(tmp_path, "other", "f" * 64, ["a.onnx"])
    with pytest.raises(MissingPathError, match=r"b\.onnx: no such graph of the export"):
        check_export(tmp_path, "kind", "f" * 64, ["b.onnx"])
    (tmp_path / "a.onnx").write_bytes(b"other")
    with pytest.raises(FormatError, match=r"a\.onnx: expected sha256 .*copy the folder again"):
        check_export(tmp_path, "kind", "f" * 64, ["a.onnx"])
    (tmp_path / INFO).write_text('{"format": 1, "kind": "kind", "fingerprint": "' + "f" * 64 + '", "graphs": 3}')
    with pytest.raises(FormatError, match="graphs"):
        check_export(tmp_path, "kind", "f" * 64, ["a.onnx"])


def test_speeds_are_ratios_of_cpu_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, steps = [0.0], {"torch": 6.0, "onnx": 2.0, "openvino": 12.0}
    monkeypatch.setattr("naruto_vision.io.onnx_files.time.process_time", lambda: clock[0])

    def takes(name: str) -> Any:
        return lambda: clock.__setitem__(0, clock[0] + steps[name])

    runs = {runtime: takes(runtime) for runtime in RUNTIMES}
    assert times_as_fast(takes("torch"), runs) == {"onnx": 3.0, "openvino": 0.5}
