"""Why a query has its name: the maps show what the score is due to, and what is missing is said."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn.functional import normalize

from naruto_vision.encoders.base import Encoder, embed_images
from naruto_vision.errors import InputError
from naruto_vision.gallery.content import GalleryRow
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.gallery.thresholds import Thresholds
from naruto_vision.io.images import write_image
from naruto_vision.recognition.analyzer import SceneAnalyzer
from naruto_vision.recognition.decision import Rule
from naruto_vision.recognition.explain import (
    embed_hidden,
    explain_search,
    hide_patches,
    occlusion_map,
    patch_slices,
    row_image,
)
from naruto_vision.recognition.lookup import look_up
from naruto_vision.records import Explanation, Identity, ImageArray, Region, ScenePrediction, Vectors
from naruto_vision.segmentation.crops import CropConfig
from naruto_vision.segmentation.generator import Segmenter
from naruto_vision.segmentation.prompts import GridPrompter
from naruto_vision.segmentation.sam import SamModel
from naruto_vision.viz.explain_page import explained_sheet, write_explained

RED, BLUE, GREY = (220, 30, 30), (30, 30, 220), (120, 120, 120)


class MeanColour(Encoder):
    """Embeds an image of 64 pixels a side as its mean colour above grey; texts are colours."""

    dim, has_text = 3, True

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def preprocess(self, image: ImageArray) -> torch.Tensor:
        scaled = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float()
        return torch.nn.functional.interpolate(scaled, (64, 64), mode="area")[0] / 255

    def encode_images(self, pixels: torch.Tensor) -> torch.Tensor:
        return normalize(self.weight * pixels.mean(dim=(2, 3)), dim=-1)

    def encode_texts(self, texts: Sequence[str]) -> torch.Tensor:
        return torch.tensor([[1.0, 0.0, 0.0] if text == "red" else [0.0, 0.0, 1.0] for text in texts])

    def describe(self) -> Mapping[str, Any]:
        return {"name": "mean colour"}


def patched(colour: tuple[int, int, int], at: tuple[int, int], shape: tuple[int, int] = (64, 64)) -> ImageArray:
    """Draw a grey image (H, W, 3) with one patch of 8 pixels a side in a colour."""
    image = np.full((*shape, 3), GREY, np.uint8)
    image[8 * at[0] : 8 * at[0] + 8, 8 * at[1] : 8 * at[1] + 8] = colour
    return image


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    rows = [GalleryRow("ayame/0.png", "ayame"), GalleryRow("ayame/1.png", "ayame"), GalleryRow("kenta/0.png", "kenta")]
    images = [patched(RED, (2, 3)), patched(RED, (5, 5)), patched(BLUE, (1, 1))]
    for row, image in zip(rows, images, strict=True):
        write_image(tmp_path / "data" / row.path, image)
    encoder = MeanColour().eval()
    note = {"root": str(tmp_path / "data"), "mirror": False}
    thresholds = Thresholds(0.5, {}, "by hand", decision="vote")
    vectors = embed_images(encoder, images).numpy()
    built = Gallery.build(vectors, rows, fingerprint=encoder.fingerprint, note=note, thresholds=thresholds)
    built.save(tmp_path / "gallery")
    return Gallery.open(tmp_path / "gallery", index="exact")


def explained(gallery: Gallery, image: ImageArray | None, query: str = "query", rule: Rule = "vote") -> Explanation:
    encoder = MeanColour().eval()
    vectors = encoder.encode_texts([query]).numpy() if image is None else embed_images(encoder, [image]).numpy()
    (found,) = look_up(gallery, vectors, [query], "text" if image is None else "image", decision=rule)
    return explain_search(
        found, gallery, encoder, lambda path: row_image(gallery.folder, gallery.note, path), image, rule
    )


def hottest(values: NDArray[np.float32]) -> tuple[int, int]:
    row, column = np.argwhere(values == values.max())[0].tolist()
    return row, column


def score(gallery: Gallery, image: ImageArray, row: int) -> float:
    return float(embed_images(MeanColour().eval(), [image])[0].numpy() @ gallery.vector_of(row))


@pytest.mark.parametrize("at", [(0, 0), (3, 6), (7, 7)])
def test_the_patch_that_the_score_is_due_to_is_the_hottest_and_hiding_it_costs_what_is_said(
    gallery: Gallery, at: tuple[int, int]
) -> None:
    image = patched(RED, at)
    found = explained(gallery, image)
    assert (found.identity.label, found.matched) == ("ayame", 0)
    assert found.heat is not None
    values = found.heat.values
    assert (values.shape, float(values.min()), float(values.max())) == ((8, 8), 0.0, 1.0)
    assert values.dtype == np.float32
    assert hottest(values) == at
    cells, _ = patch_slices((64, 64))
    hidden = hide_patches(image, [cells[8 * at[0] + at[1]]], image.mean(axis=(0, 1)))
    row = found.identity.neighbours[0].row
    assert found.heat.largest == pytest.approx(score(gallery, image, row) - score(gallery, hidden, row), abs=1e-6)
    assert found.matched_heat is not None
    hot = hottest(found.matched_heat.values)
    assert hot == {"ayame/0.png": (2, 3), "ayame/1.png": (5, 5)}[found.identity.neighbours[0].path]


def test_votes_and_classes_are_those_of_the_rule(gallery: Gallery) -> None:
    voted = explained(gallery, patched(RED, (1, 2)))
    assert voted.classes == {}
    assert next(iter(voted.votes)) == "ayame"
    assert sum(voted.votes.values()) == pytest.approx(1)
    means = explained(gallery, patched(RED, (1, 2)), rule="prototype")
    assert list(means.classes) == ["ayame", "kenta"]
    assert means.classes["ayame"] == pytest.approx(means.identity.score)
    assert means.heat is not None
    assert hottest(means.heat.values) == (1, 2)


def test_a_text_has_the_map_of_the_image_that_it_found(gallery: Gallery) -> None:
    found = explained(gallery, None, "red")
    assert (found.identity.label, found.image, found.heat) == ("ayame", None, None)
    assert found.matched_heat is not None
    assert hottest(found.matched_heat.values) in {(2, 3), (5, 5)}


def test_a_missing_image_is_said_and_the_rest_stands(gallery: Gallery, tmp_path: Path) -> None:
    for path in ("ayame/0.png", "ayame/1.png"):
        (tmp_path / "data" / path).unlink()
    found = explained(gallery, patched(RED, (4, 4)))
    assert [image is None for image in found.images] == [True, True, False]
    assert found.matched_heat is None
    assert found.heat is not None
    document = found.as_json()
    assert [row["found"] for row in document["neighbours"]] == [False, False, True]
    assert document["heat"]["values"][4][4] == 1.0
    write_explained(tmp_path / "card.html", "scene", {0: found}, {})
    assert (tmp_path / "card.html").read_text().count("image not found") == 2


def test_a_region_is_explained_within_its_mask(gallery: Gallery) -> None:
    segmenter = Segmenter(GridPrompter(2), SamModel(weights="tiny-sam"))
    analyzer = SceneAnalyzer(segmenter, MeanColour().eval(), gallery, crop=CropConfig(background=0, pad=0, pad_min=0))
    scene = np.full((96, 128, 3), GREY, np.uint8)
    scene[16:80, 32:96] = patched((150, 100, 100), (6, 2))
    mask = np.ones((64, 64), np.bool_)
    mask[:, 32:] = False
    region = Region((32, 16, 95, 79), mask)
    prediction = ScenePrediction("s.png", 128, 96, (region,), analyzer.identify(scene, [region]))
    found = analyzer.explain(prediction, 0, scene)
    assert found.image is not None
    assert found.image.shape == (64, 64, 3)
    assert found.threshold == 0.5
    assert found.why.startswith("score ")
    assert found.heat is not None
    assert hottest(found.heat.values) == (6, 2)
    assert not found.heat.values[:, 4:].any()
    with pytest.raises(InputError, match="expected the image"):
        analyzer.explain(prediction, 0)


def test_images_of_any_shape_have_patches() -> None:
    for shape in ((1, 1), (3, 200), (200, 3), (65, 63)):
        cells, (rows, columns) = patch_slices(shape)
        assert len(cells) == rows * columns <= 64
        image = np.zeros((*shape, 3), np.uint8)
        assert all(image[cell].size for cell in cells)
        vectors = embed_hidden(image, lambda images: np.ones((len(images), 1), np.float32))
        found = occlusion_map(image, vectors[:, 0])
        assert (found.values.shape, found.values.max(), found.largest) == ((rows, columns), 0.0, 0.0)


def test_hiding_the_hottest_patches_costs_twice_what_random_ones_cost() -> None:
    random = np.random.default_rng(0)
    direction = np.array([1.0, 0, 0], np.float32)
    ratios = []
    for _ in range(10):
        image = random.integers(0, 256, (64, 64, 3), dtype=np.uint8).astype(np.uint8)
        image = np.kron(image[::8, ::8], np.ones((8, 8, 1), np.uint8))

        def embed(images: Sequence[ImageArray]) -> Vectors:
            return embed_images(MeanColour().eval(), images).numpy()

        found = occlusion_map(image, embed_hidden(image, embed) @ direction)
        cells, _ = patch_slices((64, 64))
        top = np.argsort(-found.values.ravel())[:6]
        fill = image.mean(axis=(0, 1))
        variants = [hide_patches(image, [cells[at] for at in own], fill) for own in (top, random.permutation(64)[:6])]
        lost = embed([image])[0] @ direction - embed(variants) @ direction
        ratios.append((lost[0], abs(lost[1])))
    first, second = np.mean(ratios, axis=0)
    assert first > 2 * second


def test_a_page_loads_nothing_and_runs_nothing(gallery: Gallery, tmp_path: Path) -> None:
    found = explained(gallery, patched(RED, (4, 4)))
    bad = "<img src=x onerror=alert(1)>"
    rows = tuple(replace(row, label=bad, path=f"http://x/{bad}") for row in found.identity.neighbours)
    evil = replace(found, identity=Identity(bad, 0.9, neighbours=rows), votes={bad: 1.0}, why=bad)
    write_explained(tmp_path / "card.html", bad, {bad: evil}, {})
    page = (tmp_path / "card.html").read_text()
    assert "<script" not in page
    assert bad not in page
    assert set(re.findall(r"<[^>]*(?:src|href)=\"?(.{5})", page)) == {"data:"}
    assert len(page) < 100_000
    sheet = explained_sheet("scene", {0: found}, {})
    assert sheet.dtype == np.uint8
    assert sheet.shape[2] == 3
