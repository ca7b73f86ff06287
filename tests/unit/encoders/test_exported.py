"""Encoders as ONNX graphs: the vectors are torch's, the fingerprint is the encoder's, and other files are refused."""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import Tensor

from naruto_vision.encoders.backbone import TimmEncoder
from naruto_vision.encoders.base import Encoder, embed_images
from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.encoders.dino import DinoEncoder
from naruto_vision.encoders.ensemble import ClipEnsemble, EnsembleEncoder
from naruto_vision.encoders.exported import GRAPH, ExportedEncoder, export_encoder
from naruto_vision.encoders.tiny import TinySizes
from naruto_vision.errors import FingerprintError, FormatError, InputError
from naruto_vision.io.bundles import INFO, file_sha256
from naruto_vision.io.onnx_files import RUNTIMES, Runtime

if TYPE_CHECKING:
    from collections.abc import Callable

pytest.importorskip("onnxscript")
SIZES = TinySizes(embed_dim=8, image_size=24, vision_width=32, vision_layers=2, text_width=32, text_layers=1)
IMAGES = [np.random.default_rng(seed).integers(0, 256, (30, 20 + seed, 3), np.uint8) for seed in range(3)]


def _tiny(seed: int = 0) -> Encoder:
    torch.manual_seed(seed)
    return ClipEncoder("tiny-clip", "random", sizes=SIZES).eval()


def _pixels(encoder: Encoder) -> Tensor:
    return torch.stack([encoder.preprocess(image) for image in IMAGES])


def _exported(encoder: Encoder, folder: Path) -> Encoder:
    speeds = export_encoder(encoder, folder, _pixels(encoder))
    assert set(speeds) == set(RUNTIMES)
    assert min(speeds.values()) > 0
    return encoder


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Encoder, Path]:
    folder = tmp_path_factory.mktemp("exported") / "tiny"
    return _exported(_tiny(), folder), folder


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_vectors_and_all_else_are_the_encoders(exported: tuple[Encoder, Path], runtime: Runtime) -> None:
    encoder, folder = exported
    other = ExportedEncoder(encoder, folder, runtime)
    for count in (1, 3):
        found, expected = (embed_images(each, IMAGES[:count], mirror=True) for each in (other, encoder))
        assert torch.allclose(found, expected, atol=1e-5)
    assert torch.equal(other.encode_texts(["a hat"]), encoder.encode_texts(["a hat"]))
    assert (other.fingerprint, other.dim, other.preparation) == (encoder.fingerprint, 8, encoder.preparation)
    assert (other.arithmetic, other.recipe) == (runtime, encoder.recipe)
    with pytest.raises(InputError, match=f"{runtime}: expected images on the CPU, found meta"):
        other.encode_images(torch.zeros(1, 3, 24, 24, device="meta"))


def test_the_folder_says_what_it_is(exported: tuple[Encoder, Path]) -> None:
    encoder, folder = exported
    record = json.loads((folder / INFO).read_text())
    assert {path.name for path in folder.iterdir()} == {INFO, GRAPH}
    assert (record["fingerprint"], record["dim"], record["shape"]) == (encoder.fingerprint, 8, [3, 24, 24])
    assert record["graphs"][GRAPH]["sha256"] == file_sha256(folder / GRAPH)
    assert record["lowest_cosine"] > 0.9999


def test_the_export_of_other_weights_is_refused(exported: tuple[Encoder, Path], tmp_path: Path) -> None:
    with pytest.raises(FingerprintError, match="export this one with `naruto-vision export-model`"):
        ExportedEncoder(_tiny(1), exported[1])
    forged = _exported(_tiny(1), tmp_path / "forged")
    path = tmp_path / "forged" / INFO
    path.write_text(path.read_text().replace(forged.fingerprint, exported[0].fingerprint))
    with pytest.raises(FormatError, match="expected the vectors of its encoder, found cosines of"):
        ExportedEncoder(exported[0], tmp_path / "forged")


def test_a_graph_for_other_images_is_refused(exported: tuple[Encoder, Path], tmp_path: Path) -> None:
    torch.manual_seed(0)
    larger = ClipEncoder("tiny-clip", "random", sizes=TinySizes(**{**vars(SIZES), "image_size": 36})).eval()
    folder = tmp_path / "copy"
    shutil.copytree(exported[1], folder)
    text = (folder / INFO).read_text().replace(exported[0].fingerprint, larger.fingerprint)
    (folder / INFO).write_text(text)
    for runtime in RUNTIMES:
        with pytest.raises(FormatError, match=r"expected a graph for images of \(3, 36, 36\)"):
            ExportedEncoder(larger, folder, runtime)


def test_a_graph_with_other_vectors_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("naruto_vision.encoders.exported.LEAST_COSINE", 1.1)
    with pytest.raises(InputError, match="expected a graph with torch's vectors, found cosines of"):
        _exported(_tiny(), tmp_path / "bad")
    assert not [*tmp_path.iterdir()]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["packaged", "timm", "vit", "dino", "open_clip"])
def test_every_kind_of_encoder_is_exported(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    make: dict[str, Callable[[], Encoder]] = {
        "packaged": lambda: ClipEnsemble("tiny-clip"),
        "timm": lambda: TimmEncoder("resnet18", "random", image_size=64),
        "vit": lambda: EnsembleEncoder([DinoEncoder("vit_tiny_patch16_224", "random", image_size=32, pooling="mean")]),
        "dino": lambda: DinoEncoder("dinov2_vits14", "random", image_size=28),
        "open_clip": lambda: ClipEncoder("RN50", "random"),
    }
    encoder = _exported(make[kind]().eval(), tmp_path / kind)
    for runtime in RUNTIMES:
        found = embed_images(ExportedEncoder(encoder, tmp_path / kind, runtime), IMAGES)
        assert float((found * embed_images(encoder, IMAGES)).sum(dim=1).min()) > 0.9999
