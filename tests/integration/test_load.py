"""``naruto_vision.load``: what ``predict`` found is found again, from every kind of folder."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import naruto_vision as nv
from naruto_vision.cli.main import main
from naruto_vision.errors import InputError, MissingPathError
from naruto_vision.gallery.stored import connect


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a gallery of two colours, one scene, and the results of ``predict``."""
    root = tmp_path_factory.mktemp("load")
    encoder = nv.ClipEncoder("tiny-clip").eval()
    images = [np.full((32, 32, 3), colour, dtype=np.uint8) for colour in ((200, 30, 30), (30, 30, 200))]
    rows = [nv.GalleryRow("red.png", "<b>red</b>"), nv.GalleryRow("blue.png", "blue")]
    vectors = nv.embed_images(encoder, images).numpy()
    note = {"encoder": dict(encoder.recipe)}
    nv.Gallery.build(vectors, rows, fingerprint=encoder.fingerprint, note=note).save(root / "gallery")
    scene = np.full((96, 128, 3), 240, dtype=np.uint8)
    scene[20:70, 20:60], scene[30:80, 80:110] = (200, 30, 30), (30, 30, 200)
    (root / "images").mkdir()
    Image.fromarray(scene).save(root / "images" / "a.png")
    options = ["--gallery", str(root / "gallery"), "--out", str(root / "scenes"), "--top-k", "1"]
    quiet = ["--trainer.logger=false", "--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu"]
    assert main(["predict", str(root / "images"), *options, *quiet, "--data.num_workers=0"]) == 0
    return root


@pytest.mark.parametrize("source", ["scenes", ".", "gallery"])
def test_it_finds_what_predict_found(folder: Path, source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    record = json.loads((folder / "scenes" / "predictions.jsonl").read_text(encoding="utf-8"))
    result = nv.load(source, device="cpu").analyze(folder / "images" / "a.png")
    names = tuple(region["name"] for region in record["regions"])
    assert result.names == names
    assert names
    if source == "scenes":  # with the options of the run
        assert result.to_dict() == record
        assert len(result.shown) == 1


def test_a_gallery_in_a_vector_store_is_opened(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("chromadb")
    uri = f"chroma:{tmp_path / 'store'}"
    assert main(["gallery", "copy", str(folder / "gallery"), uri]) == 0
    scene = folder / "images" / "a.png"
    found = [nv.load(source, device="cpu").analyze(scene).to_dict() for source in (folder / "gallery", uri)]
    assert found[0]["regions"] == found[1]["regions"]
    connect(uri).close()
    connect.cache_clear()


def test_a_result_is_saved_and_shown_in_a_notebook(folder: Path, tmp_path: Path) -> None:
    result = nv.load(folder / "scenes", device="cpu").analyze(folder / "images" / "a.png")
    result.save(tmp_path / "a.jpg")
    assert (tmp_path / "a.jpg").read_bytes() == (folder / "scenes" / "overlay" / "a_overlay.jpg").read_bytes()
    page = result._repr_html_()
    assert page.startswith('<img src="data:image/jpeg;base64,')
    assert page.count("<tr>") == 1 + len(result.shown)
    assert "<b>" not in page
    array = nv.load(folder / "scenes", device="cpu").analyze(result.image, "again")
    assert (array.names, array.prediction.scene, array.sha256) == (result.names, "again", "")
    with pytest.raises(InputError, match=r"expected a name ending in \.jpg"):
        result.save(tmp_path / "a.txt")


def test_what_is_missing_is_named(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(MissingPathError, match="nowhere: no such folder; give one that"):
        nv.load(tmp_path / "nowhere")
    with pytest.raises(MissingPathError, match=r"gallery: no such gallery; build one with `naruto-vision fit"):
        nv.load(tmp_path)
    with pytest.raises(MissingPathError, match=r"nothing\.yaml: no such config"):
        nv.load(folder, config="nothing.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data: {}", "expected the key model"),
        ("model: {class_path: os.system}", "Importing 'os.system' is not allowed in a config"),
        ("model: {class_path: SceneRetriver}", r"no class SceneRetriver; did you mean SceneRetriever\?"),
        ("model: {class_path: ContrastiveTuner}", "no class ContrastiveTuner of the expected type"),
        ("model: {class_path: SceneRetriever, init_args: {encoder: ClipEncoder}}", "expected a segmenter"),
    ],
)
def test_a_wrong_config_is_one_line(folder: Path, tmp_path: Path, text: str, message: str) -> None:
    config = tmp_path / "own.yaml"
    config.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message) as raised:
        nv.load(folder, config=config)
    assert "\n" not in str(raised.value)
