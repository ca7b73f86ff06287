"""The task of the tab Search, and what wrong queries are told."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import torch
from drawn_gallery import build, noisy

from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.encoders.dino import DinoEncoder
from naruto_vision.errors import InputError
from naruto_vision.io.images import write_image
from naruto_vision.ui.models import Models
from naruto_vision.ui.service import Service
from naruto_vision.ui.settings import UiConfig
from naruto_vision.ui.tasks.search import search


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("searched")
    build(folder, ClipEncoder("tiny-clip"), each=10)
    write_image(folder / "green.png", noisy((60, 200, 60), 40))
    return folder


@pytest.fixture(scope="module")
def models(place: Path) -> Models:
    return Models({"p": str(place / "runs")}, ("tiny-sam",), "faiss:none")


def ask(models: Models, **query: Any) -> dict[str, Any]:
    return search(models, **{"preset": "p", "text": "", "path": "", "k": 3} | query)


def test_an_image_is_named_with_its_nearest_images(models: Models, place: Path) -> None:
    found = ask(models, path=str(place / "data" / "kenta" / "2.png"))
    assert (found["answer"]["name"], found["answer"]["known"]) == ("kenta", True)
    assert found["sentence"].startswith("kenta (score 1.000")
    assert [row["label"] for row in found["neighbours"]] == ["kenta"] * 3
    assert found["neighbours"][0]["path"] == "kenta/2.png"
    assert all(jpeg[:2] == b"\xff\xd8" for jpeg in found["thumbnails"])
    assert str(place) not in str({key: value for key, value in found.items() if key != "thumbnails"})


def test_an_unknown_image_is_not_in_the_gallery(models: Models, place: Path) -> None:
    found = ask(models, path=str(place / "green.png"))
    assert found["answer"]["known"] is False
    assert found["answer"]["name"] == "unknown"
    assert "below the threshold" in found["sentence"]


def test_a_text_has_no_threshold(models: Models) -> None:
    found = ask(models, text="a <b>red</b> square", k=8)
    assert (found["kind"], found["query"], found["answer"]["known"]) == ("text", "a <b>red</b> square", None)
    assert "texts have no threshold" in found["sentence"]
    assert len(found["neighbours"]) == 8


def test_an_encoder_without_a_text_tower_says_so(tmp_path: Path) -> None:
    torch.save(DinoEncoder("test_vit.r160_in1k", "random", image_size=32).tower.state_dict(), tmp_path / "dino.pth")
    build(tmp_path, DinoEncoder("test_vit.r160_in1k", str(tmp_path / "dino.pth"), image_size=32).eval())
    models = Models({"p": str(tmp_path / "runs")}, ("tiny-sam",), "faiss:none")
    with pytest.raises(InputError, match="no text tower"):
        ask(models, text="a red square")
    assert ask(models, path=str(tmp_path / "data" / "kenta" / "2.png"))["answer"]["label"] == "kenta"


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"text": "", "k": 5}, "expected an image or a text"),
        ({"text": "   ", "k": 5}, "expected an image or a text"),
        ({"text": "red", "k": 0}, "expected 1 to 20 entries, found 0"),
        ({"text": "red", "k": 21}, "expected 1 to 20 entries, found 21"),
    ],
)
def test_a_wrong_query_is_refused_in_one_line(place: Path, query: dict[str, Any], said: str) -> None:
    service = Service(UiConfig(presets={"p": place / "runs"}))
    with pytest.raises(InputError, match=said) as refused:
        asyncio.run(service.search(service.open_session(), "p", path="", **query))
    service.close()
    assert "\n" not in str(refused.value)
