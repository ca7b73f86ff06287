"""The same images searched in a gallery in a folder and in vector stores, through the command line."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from drawn_gallery import build
from store_servers import PACKAGES

from naruto_vision.cli.main import main
from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.gallery.stored import connect

QUIET = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--data.num_workers=0"]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    build(tmp_path, ClipEncoder("tiny-clip"))
    counts = [f"--{name}=1" for name in ("train", "valid", "test", "scenes", "valid-scenes")]
    assert main(["draw", "--out", "drawn", *counts]) == 0
    yield tmp_path
    connect.cache_clear()


def _search(gallery: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    assert (
        main(["search", "data/kenta/1.png", "data/ayame/2.png", "--text", "red", "--gallery", gallery, "--json"]) == 0
    )
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert found.pop("gallery") == gallery
    return found


def _predictions(gallery: str, out: str) -> bytes:
    assert main(["predict", "drawn/scenes/test", "--gallery", gallery, "--out", out, *QUIET]) == 0
    return Path(out, "predictions.jsonl").read_bytes()


@pytest.mark.slow
@pytest.mark.usefixtures("world")
def test_stores_answer_as_the_folder_does(capsys: pytest.CaptureFixture[str]) -> None:
    folder = "runs/gallery"
    found, predicted = _search(folder, capsys), _predictions(folder, "out")
    assert found["queries"][0]["neighbours"][0]["score"] == pytest.approx(1, abs=1e-3)
    assert json.loads(predicted)["regions"]
    for package, uri in (("chroma", "chroma:store"), ("milvus", "milvus:store.db")):
        for name in PACKAGES[package]:
            pytest.importorskip(name)
        assert main(["gallery", "copy", folder, uri]) == 0
        assert _search(uri, capsys) == found
        assert _predictions(uri, f"out {package}") == predicted
        assert json.loads(Path(f"out {package}", "run.json").read_text("utf-8"))["index"] == package
        connect(uri).close()
