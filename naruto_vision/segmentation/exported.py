"""SAM as two ONNX graphs, for programs without torch: the features of an image, and the masks of points and boxes.

`predict` does not run them: with both halves in OpenVINO, masks ran 1.05 to 1.13 times as fast as in torch, in CPU time
(docs/performance.md).
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from naruto_vision.errors import InputError
from naruto_vision.io.atomic import atomic_folder
from naruto_vision.io.onnx_files import RUNTIMES, Speeds, open_onnx, record_export, times_as_fast, write_onnx
from naruto_vision.records import ImageArray
from naruto_vision.segmentation.postprocess import resize_longest
from naruto_vision.segmentation.sam import DecodedMasks, SamModel, decode_each

KIND = "exported-sam"
IMAGE, MASKS = "image.onnx", "masks.onnx"
LEAST_EQUAL = 0.9999
"""Least cosine of features and IoUs, and least fraction of equal mask pixels."""

_SIDE = 4  # points of a row of the check


def export_sam(model: SamModel, folder: str | Path, image: ImageArray) -> dict[str, Speeds]:
    """Write the two halves of a SAM, on the CPU, as ONNX graphs, checked against torch on an image (H, W, 3), RGB.

    ``image.onnx`` takes ``pixels`` (1, 3, S, S), float32: the image resized so that its longest side is S, normalised,
    and padded with zeros on the right and at the bottom. It returns ``features``. ``masks.onnx`` takes these with
    ``points`` (P, K, 2), float32, x and y in pixels of the resized image, and their ``labels`` (P, K), int64: 1 on the
    object, 0 on the background, 2 and 3 the corners of a box, -1 padding, which points without a box need once. It
    returns ``logits`` (P, 3, S / 4, S / 4) and ``ious`` (P, 3).

    Returns for each graph and runtime how many times as fast as torch it was, in CPU time. MissingPackageError without
    the extra ``onnx``, InputError if a half cannot be traced, or its outputs differ from torch's.
    """
    sam = model.eval().sam
    with atomic_folder(folder) as temporary, torch.no_grad():
        resized = torch.from_numpy(resize_longest(image, model.image_size)).permute(2, 0, 1)
        pixels = sam.preprocess(resized.float())[None]
        features = sam.image_encoder(pixels)
        points, labels, tokens = _prompts(model, resized.shape[1:])
        inputs = {"features": features, "points": points, "labels": labels}
        decode = partial(_masks_of, sam)
        write_onnx(temporary / IMAGE, sam, sam.image_encoder, {"pixels": pixels}, ["features"], {})
        free = dict.fromkeys(("points", "labels"), ("prompts", "points"))
        write_onnx(temporary / MASKS, sam, decode, inputs, DecodedMasks._fields, free)
        speeds = {
            IMAGE: _compare(temporary / IMAGE, lambda: [model.passes.encode(pixels)], [pixels]),
            MASKS: _compare(temporary / MASKS, lambda: decode_each(sam, features, tokens), list(inputs.values())),
        }
        steps = {name: value.flatten().tolist() for name, value in (("mean", sam.pixel_mean), ("std", sam.pixel_std))}
        facts = {"architecture": model.architecture, "preprocessing": {"image_size": model.image_size, **steps}}
        record_export(temporary, KIND, model.fingerprint, speeds, facts)
    return speeds


def _prompts(model: SamModel, size: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Return a grid of points and boxes on a resized image, their labels, and torch's tokens of them."""
    height, width = size
    steps = (torch.arange(_SIDE) + 0.5) / _SIDE
    grid = torch.cartesian_prod(steps * width, steps * height)[:, None]  # (P, 1, 2)
    corners = torch.cat([grid - height / 8, grid + height / 8], dim=1)
    ones = torch.ones(len(grid), 1, dtype=torch.int64)
    points = torch.cat([torch.cat([grid, torch.zeros_like(grid)], dim=1), corners])
    labels = torch.cat([torch.cat([ones, -ones], dim=1), torch.cat([2 * ones, 3 * ones], dim=1)])
    by_box = model.encode_prompts(grid[:, :0], ones[:, :0], corners.flatten(1))
    return points, labels, torch.cat([model.encode_prompts(grid, ones, None), by_box])


def _masks_of(sam: nn.Module, features: Tensor, points: Tensor, labels: Tensor) -> DecodedMasks:
    """Decode points and corners, as the prompt encoder embeds them, without its assignments to chosen rows."""
    prompts: Any = sam.prompt_encoder
    kinds = torch.cat([prompts.not_a_point_embed.weight, *(each.weight for each in prompts.point_embeddings)])
    placed = prompts.pe_layer.forward_with_coords(points + 0.5, prompts.input_image_size)
    return decode_each(sam, features, placed * (labels >= 0)[..., None] + kinds[labels + 1])


def _compare(graph: Path, own: Callable[[], Sequence[Tensor]], given: Sequence[Tensor]) -> Speeds:
    """Compare a graph with torch on the same inputs."""
    runs = {runtime: partial(open_onnx(graph, runtime), *(each.numpy() for each in given)) for runtime in RUNTIMES}
    expected = [each.numpy() for each in own()]
    for runtime, run in runs.items():
        pairs = list(zip(run(), expected, strict=True))
        flat = [(torch.from_numpy(found).flatten(), torch.from_numpy(true).flatten()) for found, true in pairs]
        alike = [float(cosine_similarity(found, true, dim=0)) for found, true in flat]
        alike += [float(np.mean((found > 0) == (true > 0))) for found, true in pairs if graph.name == MASKS]
        if not min(alike) >= LEAST_EQUAL:
            msg = f"{graph.name} by {runtime}: expected the outputs of torch, found them equal to {min(alike):.5f}"
            raise InputError(msg)
    return times_as_fast(own, runs)
