"""ONNX graphs: written from torch, checked before they are run, run by ONNX Runtime or OpenVINO on the CPU.

A graph is data, but it may name files that hold its tensors, operators of libraries, and loops. A file with any of
these is refused; no library of operators is ever registered. What is left is a straight line of standard operators.
"""

import contextlib
import importlib.metadata
import io
import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from statistics import median
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from naruto_vision.errors import FingerprintError, FormatError, InputError, MissingPathError, first_line
from naruto_vision.io.atomic import atomic_file, write_json
from naruto_vision.io.bundles import FORMAT, INFO, file_sha256, read_bundle_info
from naruto_vision.io.machine import require_package
from naruto_vision.io.typed_json import convert_json, require_regular

Runtime: TypeAlias = Literal["onnx", "openvino"]
"""What runs a graph: ONNX Runtime or OpenVINO."""

RUNTIMES: Mapping[Runtime, str] = {"onnx": "onnxruntime", "openvino": "openvino"}
"""Runtime → its package."""

Run: TypeAlias = Callable[..., list[NDArray[np.float32]]]
"""Runs a graph on arrays, in the order of its inputs, and returns its outputs in order."""

Speeds: TypeAlias = Mapping[str, float]
"""Runtime → torch's CPU time over its own, where and when a graph was written."""

EXTRA = "onnx"
_MOST_BYTES = (1 << 31) - 1  # of one protobuf message
_ROUNDS = 5  # of a comparison of speed
_MOST_ROWS = 4096  # of an axis whose length is free


class _Apart(nn.Module):
    """A function of tensors as a module, with the modules that it uses."""

    def __init__(self, parts: nn.Module, function: Callable[..., Any]) -> None:
        super().__init__()
        self.parts, self._function = parts, function

    def forward(self, *inputs: Tensor) -> Any:  # noqa: ANN401 - a tensor or several
        return self._function(*inputs)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Hide what the exporter says of its own steps."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def write_onnx(
    path: str | Path,
    parts: nn.Module,
    function: Callable[..., Any],
    inputs: Mapping[str, Tensor],
    outputs: Sequence[str],
    free: Mapping[str, Sequence[str]],
) -> None:
    """Trace a function of the modules ``parts`` and write it as an ONNX graph, with its weights inside.

    ``inputs`` are examples by name, with two rows or more where their number is free; ``free`` names the first axes of
    an input whose lengths are free. InputError if the network cannot be traced, or takes more than the 2 GiB of a file.
    """
    require_package("onnxscript", EXTRA)
    size = sum(each.nbytes for each in (*parts.parameters(), *parts.buffers()))
    if size > _MOST_BYTES:
        raise InputError(f"{path}: an ONNX file holds at most 2 GiB, these weights take {size / 2**30:.1f}")
    names = {axis for axes in free.values() for axis in axes}
    lengths = {axis: torch.export.Dim(axis, min=1, max=_MOST_ROWS) for axis in names}
    shapes = tuple({index: lengths[axis] for index, axis in enumerate(free.get(name, ()))} for name in inputs)
    try:
        with _quietly(), torch.no_grad():
            program = torch.onnx.export(
                _Apart(parts, function).eval(),
                tuple(inputs.values()),
                input_names=list(inputs),
                output_names=list(outputs),
                dynamic_shapes=(shapes,),
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
        reason = first_line(error.__cause__ or error)
        raise InputError(f"{path}: this network cannot be written as ONNX ({reason})") from None
    with atomic_file(path) as temporary:
        temporary.write_bytes(program.model_proto.SerializeToString())  # type: ignore[union-attr]  # None without dynamo


def read_onnx(path: str | Path) -> bytes:
    """Read an ONNX file; FormatError unless it is a straight line of standard operators with its tensors inside."""
    onnx, path = require_package("onnx", EXTRA), Path(path)
    require_regular(path)
    if (size := path.stat().st_size) > _MOST_BYTES:
        raise FormatError(path, "at most 2 GiB", f"{size / 2**30:.1f}")
    data = path.read_bytes()
    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:  # noqa: BLE001 - protobuf's classes differ by implementation
        raise FormatError(path, "an ONNX model", f"{type(error).__name__}") from None
    if problem := next(_problems(onnx, model), ""):
        raise FormatError(path, "an ONNX model as `naruto-vision export-model` writes it", problem)
    return data


def _problems(onnx: Any, model: Any) -> Iterator[str]:  # noqa: ANN401 - a package and a message of it, untyped
    """Yield what a model has that could reach beyond it, or run without end."""
    own = onnx.AttributeProto
    nested = (own.GRAPH, own.GRAPHS, own.SPARSE_TENSOR, own.SPARSE_TENSORS)
    if model.functions or model.training_info or model.graph.sparse_initializer:
        yield "functions, training steps or sparse tensors"
    for node in model.graph.node:
        if node.domain not in ("", "ai.onnx"):
            yield f"an operator of {node.domain}"
        if any(attribute.type in nested for attribute in node.attribute):
            yield f"the operator {node.op_type} with a graph of its own"
    attributes = [attribute for node in model.graph.node for attribute in node.attribute]
    for tensor in chain(model.graph.initializer, *([each.t, *each.tensors] for each in attributes)):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            yield f"the tensor {tensor.name} in another file"


def open_onnx(path: str | Path, runtime: Runtime) -> Run:
    """Open a graph for the CPU, with as many threads as torch uses."""
    data, threads = read_onnx(path), torch.get_num_threads()
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # it would report the import
    package = require_package(RUNTIMES[runtime], EXTRA)
    try:
        return (_open_openvino if runtime == "openvino" else _open_onnxruntime)(package, data, threads)
    except Exception as error:  # noqa: BLE001 - both raise classes of their extension modules
        raise FormatError(path, f"a graph that {runtime} can run", first_line(error)) from None


def _open_onnxruntime(onnxruntime: Any, data: bytes, threads: int) -> Run:  # noqa: ANN401 - an untyped package
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # waiting threads slow busy ones down
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]

    def run(*inputs: NDArray[Any]) -> list[NDArray[np.float32]]:
        found: list[NDArray[np.float32]] = session.run(None, dict(zip(names, inputs, strict=True)))
        return found

    return run


def _open_openvino(openvino: Any, data: bytes, threads: int) -> Run:  # noqa: ANN401 - an untyped package
    options: dict[str, Any] = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    options["ENABLE_CPU_PINNING"] = False  # a thread that is bound to a busy core waits for it: 3 times the time
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(data), "CPU", options)

    def run(*inputs: NDArray[Any]) -> list[NDArray[np.float32]]:
        request = compiled.create_infer_request()  # one each, as threads may share the graph; it holds the outputs
        found = request.infer(dict(enumerate(inputs)))
        return [np.array(found[output]) for output in compiled.outputs]

    return run


@dataclass(frozen=True)
class Graph:
    """A graph of an export."""

    sha256: str
    times_as_fast: dict[str, float]


def times_as_fast(own: Callable[[], object], runs: Mapping[Runtime, Callable[[], object]]) -> Speeds:
    """Compare the CPU time of torch with that of each runtime, in turns: median ratios."""
    ratios: dict[str, list[float]] = {runtime: [] for runtime in runs}
    for round_ in range(_ROUNDS + 1):
        ours = _cpu_seconds(own)
        for runtime, run in runs.items():
            ratio = ours / max(_cpu_seconds(run), 1e-9)
            if round_:  # the first warms up
                ratios[runtime].append(ratio)
    return {runtime: round(median(found), 2) for runtime, found in ratios.items()}


def _cpu_seconds(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def record_export(
    folder: Path, kind: str, fingerprint: str, speeds: Mapping[str, Speeds], facts: Mapping[str, Any]
) -> None:
    """Write the ``model.json`` of an export: what it is of, its graphs and their speeds, versions, and ``facts``."""
    graphs = {name: {"sha256": file_sha256(folder / name), "times_as_fast": dict(own)} for name, own in speeds.items()}
    versions = {name: importlib.metadata.version(name) for name in ("torch", "onnx", *RUNTIMES.values())}
    record = {"format": FORMAT, "kind": kind, "fingerprint": fingerprint, "graphs": graphs, "versions": versions}
    write_json(folder / INFO, {**record, **facts})


def check_export(folder: str | Path, kind: str, fingerprint: str, names: Sequence[str]) -> None:
    """Check that a folder is the export of the model with this fingerprint, and its graphs as they were written."""
    folder = Path(folder)
    if not (folder / INFO).is_file():
        raise MissingPathError(folder, "export", "write one with `naruto-vision export-model`")
    info = read_bundle_info(folder, kind)
    if (found := str(info.get("fingerprint"))) != fingerprint:
        again = "export this one with `naruto-vision export-model`"
        raise FingerprintError(folder, found, fingerprint, again=again)
    graphs = convert_json(folder / INFO, info.get("graphs"), dict[str, Graph], where="graphs")
    for name in names:
        if not (folder / name).is_file():
            raise MissingPathError(folder / name, "graph of the export", "copy the folder again")
        expected, found = graphs[name].sha256[:12] if name in graphs else "none", file_sha256(folder / name)[:12]
        if found != expected:
            raise FormatError(folder / name, f"sha256 {expected}", found, "copy the folder again")
