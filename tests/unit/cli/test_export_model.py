"""``naruto-vision export-model``, and ``predict --runtime`` with what it writes."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import naruto_vision as nv
from naruto_vision.cli.main import main
from naruto_vision.errors import InputError

pytest.importorskip("onnxscript")
QUIET = ("--trainer.logger=false", "--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a gallery of two colours and a scene with both."""
    root = tmp_path_factory.mktemp("exporting")
    encoder = nv.ClipEncoder("tiny-clip").eval()
    images = [np.full((32, 32, 3), colour, dtype=np.uint8) for colour in ((200, 30, 30), (30, 30, 200))]
    rows = [nv.GalleryRow("red.png", "red"), nv.GalleryRow("blue.png", "blue")]
    note = {"encoder": dict(encoder.recipe)}
    gallery = nv.Gallery.build(
        nv.embed_images(encoder, images).numpy(), rows, fingerprint=encoder.fingerprint, note=note
    )
    gallery.save(root / "gallery")
    scene = np.full((96, 128, 3), 240, dtype=np.uint8)
    scene[20:70, 20:60], scene[30:80, 80:110] = (200, 30, 30), (30, 30, 200)
    (root / "images").mkdir()
    Image.fromarray(scene).save(root / "images" / "a.png")
    return root


def _predict(folder: Path, out: str, *options: str) -> int:
    own = ["--gallery", str(folder / "gallery"), "--out", str(folder / out), "--data.num_workers=0"]
    return main(["predict", str(folder / "images"), *own, *QUIET, *options])


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_the_galleries_encoder_is_exported_and_predicts_the_same(
    folder: Path, runtime: str, capsys: pytest.CaptureFixture[str]
) -> None:
    exported = folder / "exported"
    assert main(["export-model", "--gallery", str(folder / "gallery"), "--out", str(exported)]) == 0
    said = capsys.readouterr().out
    assert "gives torch's vectors" in said
    assert "times as fast as torch here" in said
    assert _predict(folder, "by_torch") == 0
    options = ("--runtime", runtime, "--model.exported", str(exported))
    assert _predict(folder, runtime, *options) == 0
    runs = [json.loads((folder / out / "predictions.jsonl").read_text()) for out in ("by_torch", runtime)]
    names, boxes = ([[region[key] for region in run["regions"]] for run in runs] for key in ("name", "bbox"))
    assert names[0] == names[1]
    assert boxes[0] == boxes[1]
    assert names[0]
    assert json.loads((folder / runtime / "run.json").read_text())["identity"]["arithmetic"] == runtime
    capsys.readouterr()
    assert _predict(folder, runtime) == 2  # a run goes on with the arithmetic that it started with


def test_a_runtime_without_an_export_says_what_to_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _predict(folder, "none", "--runtime", "onnx", "--model.exported", str(folder / "nothing")) == 2
    assert "nothing: no such export; write one with `naruto-vision export-model`" in capsys.readouterr().err
    assert _predict(folder, "none", "--runtime", "tensorrt") == 2
    assert "--runtime: expected one of torch, onnx, openvino, found 'tensorrt'" in capsys.readouterr().err


def test_dense_vectors_are_not_exported() -> None:
    with pytest.raises(InputError, match="an export embeds crops, found embedding dense"):
        nv.SceneRetriever(nv.ClipEncoder("tiny-clip"), embedding="dense", runtime="onnx")


def test_without_the_extra_the_command_names_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("naruto_vision.io.machine.has_package", lambda _name: False)
    assert main(["export-model", "--gallery", str(folder / "gallery")]) == 2
    assert "pip install 'naruto-vision[onnx]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("speeds", "word"),
    [
        ({"onnx": 1.1, "openvino": 1.4}, "--runtime openvino"),
        ({"onnx": 1.2, "openvino": 0.9}, "gains nothing by --runtime"),
    ],
)
def test_the_next_command_is_the_faster_one(
    speeds: dict[str, float],
    word: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("naruto_vision.encoders.exported.export_encoder", lambda *_: speeds)
    assert main(["export-model", "--gallery", str(folder / "gallery")]) == 0
    assert word in capsys.readouterr().out
