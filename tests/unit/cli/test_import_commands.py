"""Galleries and checkpoints of the reference system come in checked, or not at all."""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import open_clip.factory
import pytest
import torch

from naruto_vision.cli.main import main
from naruto_vision.encoders.base import embed_images
from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.encoders.tiny import TinySizes
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.io.images import write_image

SIZES = TinySizes(
    embed_dim=16, image_size=24, patch_size=12, vision_width=32, vision_layers=1, text_width=32, text_layers=1
)
SMALL: dict[str, Any] = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 600, "width": 64, "heads": 1, "layers": 1},
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand beside a bundle and an index folder of six images that it made."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "ViT-small-test", SMALL)
    torch.manual_seed(0)
    ClipEncoder("tiny-clip", "random", sizes=SIZES).save("bundle")
    ClipEncoder("tiny-clip", "random", sizes=SIZES).save("other")
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (20, 20, 3), dtype=np.uint8) for _ in range(6)]
    index = tmp_path / "index"
    index.mkdir()
    lines = []
    for number, image in enumerate(images):
        write_image(tmp_path / "data" / f"{number}.png", image)
        lines.append(json.dumps({"path": f"data/{number}.png", "label": "ab"[number % 2], "aug": "none"}))
    (index / "meta.jsonl").write_text("\n".join(lines) + "\n")
    np.save(index / "embeddings.npy", embed_images(ClipEncoder("bundle").eval(), images, mirror=False).numpy())
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(list(words)) == 2
    return capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.usefixtures("place")
def test_an_index_becomes_a_gallery_that_remembers_its_encoder(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gallery", "import", "index", "--out", "gallery", "--encoder", "bundle"]) == 0
    assert "6 entries of 2 labels are in gallery; 6 images embedded again agree" in capsys.readouterr().out
    gallery = Gallery.open("gallery", fingerprint=ClipEncoder("bundle").fingerprint)
    assert np.allclose(gallery.vectors, np.load("index/embeddings.npy", allow_pickle=False), atol=1e-6)
    assert gallery.note["mirror"] is False  # found out, so that queries are treated alike
    assert main(["search", "--gallery", "gallery", "--image", "data/3.png", "-k", "1", "--json"]) == 0
    (query,) = json.loads(capsys.readouterr().out)["queries"]
    assert query["neighbours"][0]["path"] == "data/3.png"
    assert query["neighbours"][0]["score"] == pytest.approx(1.0, abs=1e-5)


@pytest.mark.usefixtures("place")
def test_an_encoder_that_did_not_make_it_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("gallery", "import", "index", "--out", "gallery", "--encoder")
    assert "not built by other" in refused(capsys, *words, "other")
    assert "not built by other" in refused(capsys, *words, "other", "--assert-encoder")
    assert "16 dimensions, tiny-clip gives 192" in refused(capsys, *words, "tiny-clip", "--assert-encoder")
    assert not Path("gallery").exists()


def test_without_images_somebody_has_to_vouch(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "data").rename(place / "away")
    words = ("gallery", "import", "index", "--out", "gallery", "--encoder", "bundle")
    assert "--root DIR, or --assert-encoder" in refused(capsys, *words)
    assert main([*words, "--assert-encoder"]) == 0
    assert "no image was found" in capsys.readouterr().out
    (place / "old").mkdir()
    (place / "away").rename(place / "old" / "data")
    assert main([*words[:4], "again", *words[5:], "--root", "old"]) == 0
    assert "6 images embedded again agree" in capsys.readouterr().out


@pytest.mark.usefixtures("place")
def test_nothing_is_overwritten(capsys: pytest.CaptureFixture[str]) -> None:
    assert "is not empty" in refused(capsys, "gallery", "import", "index", "--out", "index", "--encoder", "bundle")
    torch.save({}, "best.pt")
    assert "is not empty" in refused(capsys, "weights", "import", "best.pt", "--out", "bundle")


def checkpoint(path: Path, *, prefix: str = "", **more: Any) -> ClipEncoder:
    """Save a checkpoint as a training script does: epoch, model, optimizer, scaler."""
    torch.manual_seed(3)
    encoder = ClipEncoder("ViT-small-test", "random").eval()
    optimizer = torch.optim.AdamW(encoder.clip.parameters())
    state = {prefix + name: value for name, value in encoder.clip.state_dict().items()}
    torch.save({"epoch": 4, "model": state, "optimizer": optimizer.state_dict(), "scaler": {}, **more}, path)
    return encoder


@pytest.mark.parametrize("prefix", ["", "module.", "model."])
def test_best_pt_becomes_a_bundle(place: Path, capsys: pytest.CaptureFixture[str], prefix: str) -> None:
    made = checkpoint(place / "best.pt", prefix=prefix)
    assert main(["weights", "import", "best.pt", "--encoder", "ViT-small-test", "--out", "tuned"]) == 0
    assert "tensors of ViT-small-test are in tuned" in capsys.readouterr().out
    found = ClipEncoder("tuned").eval()
    assert found.fingerprint == made.fingerprint
    assert found.info["imported_from"] == "best.pt"


def test_tuned_weights_are_an_option(place: Path) -> None:
    made = checkpoint(place / "best.pt")
    assert ClipEncoder("ViT-small-test", "best.pt").fingerprint == made.fingerprint


def test_weights_that_do_not_fit_are_refused_by_name(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = checkpoint(place / "best.pt").clip.state_dict()
    state["visual.renamed"] = state.pop("visual.proj")
    torch.save({"model": state}, place / "best.pt")
    error = refused(capsys, "weights", "import", "best.pt", "--encoder", "ViT-small-test", "--out", "tuned")
    assert "visual.proj" in error
    assert "visual.renamed" in error
    assert not Path("tuned").exists()


def test_numbers_and_options_in_a_pickle_need_trust(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = {"best": np.float64(0.9), "scores": np.ones(3, np.float32), "args": argparse.Namespace(out=Path("runs"))}
    made = checkpoint(place / "best.pt", **more)
    words = ("weights", "import", "best.pt", "--encoder", "ViT-small-test", "--out", "tuned")
    assert "try --trust-pickle" in refused(capsys, *words)
    assert main([*words, "--trust-pickle"]) == 0
    assert ClipEncoder("tuned").fingerprint == made.fingerprint


class Touch:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("touched"),)


def test_code_in_a_pickle_is_never_run(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint(place / "best.pt", args=Touch())
    words = ("weights", "import", "best.pt", "--encoder", "ViT-small-test", "--out", "tuned", "--trust-pickle")
    assert "refused" in refused(capsys, *words)
    assert not Path("touched").exists()
    assert "no such checkpoint" in refused(capsys, *words[:2], "nowhere.pt", *words[3:])
