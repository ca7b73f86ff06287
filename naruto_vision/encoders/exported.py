"""Image towers as ONNX graphs, which ONNX Runtime and OpenVINO run on a CPU in less time than torch."""

from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from naruto_vision.encoders.base import Encoder, WrappedEncoder, require_cpu
from naruto_vision.errors import FormatError, InputError, first_line
from naruto_vision.io.atomic import atomic_folder
from naruto_vision.io.onnx_files import (
    RUNTIMES,
    Run,
    Runtime,
    Speeds,
    check_export,
    open_onnx,
    record_export,
    times_as_fast,
    write_onnx,
)

KIND = "exported-encoder"
GRAPH = "encoder.onnx"
LEAST_COSINE = 0.9999
"""Least cosine between the vectors of an export and torch's."""

_BATCH = 16  # crops of a forward pass of `predict`


def export_encoder(encoder: Encoder, folder: str | Path, pixels: Tensor) -> Speeds:
    """Write the image tower of an encoder as an ONNX graph, checked against torch on images.

    Args:
        encoder: The encoder, on the CPU, in evaluation mode.
        folder: Folder of the export; an older one is replaced.
        pixels: Two or more preprocessed images, (B, ...), float32.

    Returns:
        Runtime → how many times as fast as torch it was, in CPU time.

    Raises:
        MissingPackageError: Without the extra ``onnx``.
        InputError: If the tower cannot be traced, or its vectors differ from torch's.
    """
    with atomic_folder(folder) as temporary:
        graph = temporary / GRAPH
        write_onnx(graph, encoder, encoder.encode_images, {"pixels": pixels[:2]}, ["vectors"], {"pixels": ["rows"]})
        runs = {runtime: open_onnx(graph, runtime) for runtime in RUNTIMES}
        cosines = {runtime: lowest_cosine(encoder, run, pixels) for runtime, run in runs.items()}
        if (lowest := min(cosines.values())) < LEAST_COSINE:
            raise InputError(f"{folder}: expected a graph with torch's vectors, found cosines of {lowest:.5f}")
        full = pixels.repeat(-(-_BATCH // len(pixels)), *[1] * (pixels.ndim - 1))[:_BATCH]
        timed = {runtime: partial(run, full.numpy()) for runtime, run in runs.items()}
        speeds = times_as_fast(partial(_embed, encoder, full), timed)
        facts = {"dim": encoder.dim, "shape": list(pixels.shape[1:]), "lowest_cosine": round(lowest, 7)}
        record_export(temporary, KIND, encoder.fingerprint, {GRAPH: speeds}, facts)
    return speeds


@torch.inference_mode()
def _embed(encoder: Encoder, pixels: Tensor) -> Tensor:
    return encoder.encode_images(pixels)


def lowest_cosine(encoder: Encoder, run: Run, pixels: Tensor) -> float:
    """Return the lowest cosine between a graph's vectors of images (B, ...) and torch's, together and one alone."""
    expected = _embed(encoder, pixels)
    found = [torch.from_numpy(run(part.numpy())[0]) for part in (pixels, pixels[:1])]
    return min(float(cosine_similarity(each, expected[: len(each)], dim=-1).min()) for each in found)


class ExportedEncoder(WrappedEncoder):
    """Wraps an encoder, with its images embedded by a graph that `naruto-vision export-model` wrote.

    It has the encoder's fingerprint, so a gallery of the encoder can be searched with it: whether the graph gives the
    vectors of these weights is checked when it is opened. Texts and preprocessing are the encoder's own.

    Args:
        encoder: The encoder that was exported.
        folder: Folder of the export.
        runtime: What runs the graph, on the CPU: ``onnx`` (ONNX Runtime) or ``openvino``.

    Raises:
        MissingPathError: If the folder has no export.
        FingerprintError: If another encoder was exported.
        FormatError: If a file is damaged, or gives other vectors.
        MissingPackageError: Without the extra ``onnx``.

    Examples:
        >>> import naruto_vision as nv
        >>> encoder = nv.ExportedEncoder(nv.ClipEnsemble(), "runs/exported")  # doctest: +SKIP
    """

    def __init__(self, encoder: Encoder, folder: str | Path, runtime: Runtime = "onnx") -> None:
        super().__init__(encoder.eval())
        check_export(folder, KIND, encoder.fingerprint, [GRAPH])
        graph = Path(folder) / GRAPH
        self.arithmetic = runtime
        self._run = open_onnx(graph, runtime)
        noise = torch.randint(0, 256, (2, 48, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        pixels = torch.stack([encoder.preprocess(each.numpy()) for each in noise])
        try:
            lowest = lowest_cosine(encoder, self._run, pixels)
        except Exception as error:  # noqa: BLE001 - the runtimes raise classes of their extension modules
            expected = f"a graph for images of {tuple(pixels.shape[1:])}"
            raise FormatError(graph, expected, first_line(error)) from None
        if not lowest >= LEAST_COSINE:
            raise FormatError(graph, "the vectors of its encoder", f"cosines of {lowest:.5f}", "export it again")

    def encode_images(self, pixels: Tensor) -> Tensor:
        """Embed a batch of preprocessed images, without gradients."""
        require_cpu(pixels, self.arithmetic)
        return torch.from_numpy(self._run(pixels.numpy())[0])
