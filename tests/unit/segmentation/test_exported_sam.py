"""SAM as two ONNX graphs: their masks are torch's."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from naruto_vision.errors import InputError
from naruto_vision.io.bundles import INFO
from naruto_vision.io.onnx_files import RUNTIMES, open_onnx
from naruto_vision.segmentation import exported, sam
from naruto_vision.segmentation.exported import IMAGE, MASKS, export_sam
from naruto_vision.segmentation.sam import DecodedMasks, SamModel, SamSize

pytest.importorskip("onnxscript")
PIXELS = np.random.default_rng(0).integers(0, 256, (40, 64, 3), np.uint8)


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> SamModel:
    small = SamSize(
        32, 1, 2, (), window=3, image_size=64, decoder_width=32, decoder_heads=2, decoder_mlp=16, iou_hidden=8
    )
    monkeypatch.setitem(sam.SIZES, "tiny-sam", small)
    torch.manual_seed(0)
    return SamModel("tiny-sam").eval()


def test_the_halves_give_the_features_and_masks_of_torch(model: SamModel, tmp_path: Path) -> None:
    speeds = export_sam(model, tmp_path / "out", PIXELS)
    assert {name: set(own) for name, own in speeds.items()} == {IMAGE: set(RUNTIMES), MASKS: set(RUNTIMES)}
    record = json.loads((tmp_path / "out" / INFO).read_text())
    assert record["fingerprint"] == model.fingerprint
    steps = record["preprocessing"]
    square = np.zeros((1, 3, 64, 64), np.float32)
    square[0, :, :40] = ((PIXELS - np.array(steps["mean"])) / np.array(steps["std"])).transpose(2, 0, 1)
    points, labels = np.array([[[9, 5], [30, 20], [0, 0]]], np.float32), np.array([[1, 0, -1]])
    embedding = model.embed(PIXELS)
    tokens = model.encode_prompts(torch.from_numpy(points[:, :2]), torch.from_numpy(labels[:, :2]), None)
    with torch.no_grad():
        expected = model.decode(embedding.features, tokens)
    for runtime in RUNTIMES:
        (features,) = open_onnx(tmp_path / "out" / IMAGE, runtime)(square)
        assert np.allclose(features, embedding.features.numpy(), atol=1e-4)
        logits, ious = open_onnx(tmp_path / "out" / MASKS, runtime)(features, points, labels)
        assert np.allclose(logits, expected.logits.numpy(), atol=1e-3)
        assert np.allclose(ious, expected.ious.numpy(), atol=1e-4)


def test_graphs_with_other_masks_are_not_kept(model: SamModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decode = sam.decode_each

    def other(*given: Any) -> DecodedMasks:
        logits, ious = decode(*given)
        return DecodedMasks(-logits if torch.compiler.is_exporting() else logits, ious)

    monkeypatch.setattr(exported, "decode_each", other)
    with pytest.raises(InputError, match=r"masks\.onnx by onnx: expected the outputs of torch, found them equal to"):
        export_sam(model, tmp_path / "out", PIXELS)
    assert not [*tmp_path.iterdir()]


@pytest.mark.slow
def test_the_packaged_sam_is_exported(tmp_path: Path) -> None:
    assert export_sam(SamModel(weights="tiny-sam"), tmp_path / "out", PIXELS)
