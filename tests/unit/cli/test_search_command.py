"""``search``: tables, JSON and sheets over a small gallery, and what wrong input is told."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from naruto_vision.cli.main import main
from naruto_vision.cli.search import ImageFinder, tile_row
from naruto_vision.encoders.base import embed_images
from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.encoders.dino import DinoEncoder
from naruto_vision.encoders.tiny import TinySizes
from naruto_vision.gallery.content import GalleryRow
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.gallery.thresholds import Thresholds
from naruto_vision.io.images import read_image, write_image
from naruto_vision.recognition.lookup import Hit, SearchResult
from naruto_vision.records import Identity, ImageArray, Neighbour
from naruto_vision.viz.sheets import draw_rows

SIZES = TinySizes(
    embed_dim=16, image_size=24, patch_size=12, vision_width=32, vision_layers=1, text_width=32, text_layers=1
)
COLOURS = {"ayame": (220, 60, 60), "kenta": (60, 60, 220)}


def noisy(colour: tuple[int, int, int], seed: int) -> ImageArray:
    noise = np.random.default_rng(seed).integers(-30, 30, (24, 24, 3))
    return np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle, a gallery that remembers it, and its images; we stand beside them."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    ClipEncoder("tiny-clip", "random", sizes=SIZES).save("bundle")
    encoder = ClipEncoder("bundle").eval()
    rows, images = [], []
    for label, colour in COLOURS.items():
        for number in range(3):
            images.append(noisy(colour, len(images)))
            rows.append(GalleryRow(f"{label}/{number}.png", label))
            write_image(tmp_path / "data" / rows[-1].path, images[-1])
    vectors = embed_images(encoder, images, mirror=True).numpy()
    note = {"encoder": encoder.recipe, "mirror": True, "root": "data"}
    Gallery.build(vectors, rows, fingerprint=encoder.fingerprint, note=note).save("runs/gallery")
    return tmp_path


def found(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert main(["search", *words, "--json"]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["search", *words]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("naruto-vision: error: ")
    return error


@pytest.mark.usefixtures("place")
def test_a_gallery_image_finds_itself(capsys: pytest.CaptureFixture[str]) -> None:
    document = found(capsys, "data/kenta/1.png", "-k", "2")
    assert document == found(capsys, "--image", "data/kenta/1.png", "-k", "2")
    (query,) = document["queries"]
    assert query["answer"]["name"] == "kenta"
    assert [row["rank"] for row in query["neighbours"]] == [1, 2]
    best = query["neighbours"][0]
    assert (best["path"], best["id"]) == ("kenta/1.png", 4)
    assert best["score"] == pytest.approx(1.0, abs=1e-5)
    assert document["counts"] == {"seen": 1, "ok": 1, "quarantined": 0, "texts": 0}


@pytest.mark.usefixtures("place")
def test_texts_and_folders_are_queries_too(capsys: pytest.CaptureFixture[str]) -> None:
    document = found(capsys, "--image", "data/ayame", "--text", "red hair", "a blue coat")
    kinds = [(query["kind"], query["query"]) for query in document["queries"]]
    assert kinds == [("image", f"data/ayame/{n}.png") for n in range(3)] + [
        ("text", "red hair"),
        ("text", "a blue coat"),
    ]
    assert document["queries"][3]["answer"]["threshold"] is None
    vector = ClipEncoder("bundle").eval().encode_texts(["red hair"]).detach().numpy()
    nearest = Gallery.open("runs/gallery").search(vector, 1)[0][0]
    assert document["queries"][3]["neighbours"][0]["id"] == nearest.row


@pytest.mark.usefixtures("place")
def test_the_table_says_rank_label_score_margin_path_and_id(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "--image", "data/ayame/0.png"]) == 0
    shown = capsys.readouterr().out
    for word in ("rank", "label", "score", "margin", "path", "id", "ayame/0.png"):
        assert word in shown
    assert "no threshold, so no image is unknown" in shown
    assert "no threshold, so no image is unknown: of 6 gallery images named by the others, " in shown


@pytest.mark.usefixtures("place")
def test_a_stranger_is_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    write_image("stranger.png", noisy((20, 200, 20), 9))
    document = found(capsys, "--image", "stranger.png", "--known-from", "0.999999")
    (query,) = document["queries"]
    assert (query["answer"]["name"], query["answer"]["known"]) == ("unknown", False)
    assert document["threshold"] == {"score": 0.999999, "asked": 0, "right": 0, "kept": None, "rule": ""}
    assert "--known-from: expected a number from -1 to 1" in refused(capsys, "--image", "x.png", "--known-from", "2")


@pytest.mark.usefixtures("place")
def test_thresholds_of_regions_do_not_judge_whole_images(capsys: pytest.CaptureFixture[str]) -> None:
    chosen = Thresholds(1.0, rule="largest f1 on validation regions")
    Gallery.open("runs/gallery").with_thresholds(chosen).save("runs/gallery")
    write_image("other.png", noisy(COLOURS["ayame"], 77))
    (query,) = found(capsys, "--image", "other.png")["queries"]
    assert (query["answer"]["known"], query["answer"]["threshold"]) == (True, None)


@pytest.mark.usefixtures("place")
def test_unreadable_images_are_counted_and_the_others_answered(capsys: pytest.CaptureFixture[str]) -> None:
    Path("broken.png").write_bytes(b"no image")
    assert main(["search", "--image", "broken.png", "data/ayame/0.png", "--json"]) == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert document["counts"]["quarantined"] == 1
    assert [bad["path"] for bad in document["quarantined"]] == ["broken.png"]
    assert "not an image" in document["quarantined"][0]["reason"]
    assert "left out: broken.png" in captured.err
    assert refused(capsys, "--image", "broken.png").startswith("naruto-vision: error: broken.png: not an image")
    assert "none of 2 query images can be read; first broken.png" in refused(
        capsys, "--image", "broken.png", "gone.png"
    )


@pytest.mark.usefixtures("place")
def test_a_sheet_shows_the_query_and_its_neighbours(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "--image", "data/kenta/0.png", "--text", "red", "-k", "3", "--sheet", "out/sheet.png"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "the sheet is out/sheet.png"
    sheet = read_image("out/sheet.png")
    blue = (np.abs(sheet.astype(int) - (60, 60, 220)) < 40).all(axis=2)
    assert blue.sum() > 3 * 160 * 160  # the query and two neighbours at least, as large tiles


def test_images_that_are_gone_are_placeholders_and_counted(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "data" / "kenta" / "1.png").rename(place / "moved.png")
    assert main(["search", "--image", "moved.png", "-k", "1", "--sheet", "sheet.png"]) == 0
    assert "1 gallery images not found (give --root)" in capsys.readouterr().out


def test_another_root_finds_moved_images(place: Path) -> None:
    (place / "data").rename(place / "elsewhere")
    assert ImageFinder([Path("data")]).read("kenta/1.png") is None
    finder = ImageFinder([Path("elsewhere"), Path("data")])
    assert finder.read("kenta/1.png") is not None
    assert finder.lost == 0
    (place / "cast").mkdir()
    (place / "elsewhere").rename(place / "cast" / "train")
    assert ImageFinder([Path("cast")]).read("kenta/1.png") is not None  # the folder that was enrolled from


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_themes_differ_and_long_texts_fit(theme: str) -> None:
    row = Neighbour(0, "somebody with a very long name indeed", 0.5, "folder/" * 12 + "1.png")
    answer = SearchResult("words " * 40, "text", Identity(row.label, 0.5), None, (Hit(1, row, None),))
    finder = ImageFinder([])
    sheet = draw_rows([tile_row(answer, finder, {})], "gallery", theme)  # type: ignore[arg-type]
    assert (sheet[0, 0].mean() < 60) == (theme == "dark")
    assert finder.lost == 1
    assert (sheet[:, -18:] == sheet[0, 0]).all()  # nothing runs over the edge


def test_wrong_words_are_told_what_to_do(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "give image files or --text TEXT" in refused(capsys)
    assert "no such gallery" in refused(capsys, "--gallery", "nowhere", "--text", "a")
    assert "argument -k/--top-k: expected a whole number of 1 or more" in refused(capsys, "--text", "a", "-k", "0")
    assert ".png or .jpg or .webp" in refused(capsys, "--text", "a", "--sheet", "sheet.txt")
    assert "--explain FILE: a value is missing; see `naruto-vision search --help`" in refused(
        capsys, "--text", "a", "--explain"
    )
    (place / "empty").mkdir()
    assert "empty: no images in it or its sub-folders" in refused(capsys, "--image", "empty")


def test_the_encoder_is_asked_for_where_it_is_not_found(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "bundle").rename(place / "moved")
    assert "give --encoder where it is now" in refused(capsys, "--text", "red")
    assert found(capsys, "--text", "red", "--encoder", "moved")["queries"]
    assert "built by encoder" in refused(capsys, "--text", "red", "--encoder", "tiny-clip")
    gallery = Gallery.open("runs/gallery")
    Gallery.build(gallery.vectors, gallery.rows, fingerprint=gallery.fingerprint).save("plain")
    assert "give --encoder MODEL" in refused(capsys, "--gallery", "plain", "--text", "red")


@pytest.mark.usefixtures("place")
def test_text_needs_an_encoder_that_reads(capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    made = DinoEncoder("test_vit.r160_in1k", "random", image_size=32)
    torch.save(made.tower.state_dict(), "dino.pth")
    encoder = DinoEncoder("test_vit.r160_in1k", "dino.pth", image_size=32).eval()
    vectors = embed_images(encoder, [noisy((200, 30, 30), 0)]).numpy()
    note = {"encoder": encoder.recipe, "mirror": False}
    rows = [GalleryRow("a.png", "ayame")]
    Gallery.build(vectors, rows, fingerprint=encoder.fingerprint, note=note).save("dino")
    assert "no text tower" in refused(capsys, "--gallery", "dino", "--text", "red")
    (query,) = found(capsys, "--gallery", "dino", "--image", "data/ayame/0.png")["queries"]
    assert query["answer"]["label"] == "ayame"
