"""Exemplars: from images, boxes, masks and galleries to prompts, and to masks with names."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from packaged_models import tiny_sam

import naruto_vision as nv
from naruto_vision.cli.main import main
from naruto_vision.errors import BadImageError, InputError, MissingPathError
from naruto_vision.io.images import write_image
from naruto_vision.prompting.exemplar import (
    PrototypePrompter,
    SimilarityMaps,
    centres,
    fuse,
    gallery_exemplars,
    parse_exemplar,
)
from naruto_vision.records import ImageArray, Mask

SAM = tiny_sam()
LITE0 = nv.TimmEncoder().eval()
RED, BLUE = (190, 40, 40), (40, 60, 190)


def plain(height: int = 96, width: int = 144) -> ImageArray:
    image = np.full((height, width, 3), 215, np.uint8)
    image[::8] = 200
    return image


def disc(image: ImageArray, x: int, y: int, colour: tuple[int, int, int] = RED, radius: int = 20) -> Mask:
    """Draw a striped disc, and return its mask."""
    mask = np.zeros(image.shape[:2], np.uint8)
    cv2.circle(mask, (x, y), radius, 1, -1)
    image[mask > 0] = colour
    image[(mask > 0) & (np.arange(image.shape[0])[:, None] % 10 < 4)] = (240, 230, 90)
    return mask.astype(np.bool_)


def square(image: ImageArray, x: int, y: int, half: int = 18) -> Mask:
    mask = np.zeros(image.shape[:2], np.bool_)
    mask[y - half : y + half, x - half : x + half] = True
    image[mask] = BLUE
    image[mask & (np.arange(image.shape[1]) % 9 < 3)] = (20, 20, 20)
    return mask


def exemplar(label: str = "disc") -> nv.Exemplar:
    image = plain(96, 96)
    mask = disc(image, 48, 48) if label == "disc" else square(image, 48, 48)
    return nv.Exemplar(image, label, mask=mask)


def scene() -> tuple[ImageArray, Mask, Mask]:
    """Draw a disc on the left and a square on the right."""
    image = plain()
    return image, disc(image, 38, 50), square(image, 110, 45)


def iou(region: nv.Region, mask: Mask) -> float:
    own = region.full_mask(*mask.shape)
    return float((own & mask).sum() / (own | mask).sum())


def both() -> tuple[ImageArray, Mask, Mask]:
    """Draw a square on the left and a disc on the right, to show what an exemplar is not."""
    image = plain()
    return image, square(image, 40, 48), disc(image, 105, 50)


def test_only_what_looks_like_the_exemplar_is_prompted() -> None:
    image, left, right = scene()
    teach, *masks = both()
    for label, mask, wanted, other in (("disc", masks[1], left, right), ("square", masks[0], right, left)):
        prompter = nv.ExemplarPrompter([nv.Exemplar(teach, label, mask=mask)], encoder=LITE0)
        maps = prompter.compare(image)
        assert maps.fused.shape == image.shape[:2]
        assert maps.fused[wanted].mean() > 0.5 > maps.fused[other].mean()
        prompts = prompter(image)
        assert prompts.boxes is not None
        assert set(prompts.names) == {label}
        x1, y1, x2, y2 = prompts.boxes[0].astype(int)
        assert wanted[y1 : y2 + 1, x1 : x2 + 1].sum() > 0.6 * wanted.sum()
        assert prompts.scores is not None
        assert prompts.scores[0] > 0.5


def test_several_classes_are_found_at_once_and_told_apart() -> None:
    image, left, right = scene()
    mode = nv.ExemplarMode(nv.ExemplarPrompter([exemplar(), exemplar("square")], encoder=LITE0), SAM)
    found = mode(image)
    named = {facts["label"]: region for facts, region in zip(found.region_facts, found.regions, strict=True)}
    assert set(named) == {"disc", "square"}
    assert iou(named["disc"], left) > 0.7
    assert iou(named["square"], right) > 0.7
    assert all(0.5 < facts["similarity"] <= 1 for facts in found.region_facts)
    assert found.images["_similarity.jpg"].shape[1] > 3 * image.shape[1]
    assert found.facts["prompts"] >= 2
    assert not found.note


def test_points_are_prompts_too() -> None:
    image, left, _ = scene()
    prompts = nv.ExemplarPrompter([exemplar()], encoder=LITE0, prompt_type="point")(image)
    x, y = prompts.points[0, 0].astype(int)
    assert prompts.boxes is None
    assert left[y, x]


def test_a_box_and_a_whole_image_find_it_too() -> None:
    image, left, right = scene()
    beside, alone = nv.Exemplar(both()[0], box=(84, 29, 126, 71)), nv.Exemplar(exemplar().image)
    for given, margin in ((beside, 0.1), (alone, 0.0)):  # an image of it alone does not show what it is not
        fused = nv.ExemplarPrompter([given], encoder=LITE0).compare(image).fused
        assert fused[left].mean() > fused[right].mean() + margin
        assert fused[left].mean() > fused[~left & ~right].mean() + 0.1


def test_nothing_alike_gives_a_note_and_no_region() -> None:
    found = nv.ExemplarMode(nv.ExemplarPrompter([exemplar()], encoder=LITE0, similarity=0.9), SAM)(plain())
    assert found.regions == ()
    assert "lower --similarity" in found.note


def test_fusion_is_that_of_the_reference() -> None:
    similarity, saliency = np.float32([[0.9, 0.2]]), np.float32([[0.5, 0.8]])
    assert np.allclose(fuse(similarity, saliency, "multiply"), [[0.45, 0.16]])
    assert np.allclose(fuse(similarity, saliency, "max"), [[0.9, 0.8]])
    assert np.allclose(fuse(similarity, saliency, "weighted"), [[0.74, 0.44]])


@pytest.mark.parametrize(("fusion", "kept"), [("multiply", False), ("max", True), ("weighted", False)])
def test_saliency_decides_together_with_similarity(fusion: str, kept: bool) -> None:
    class Dark(nv.SaliencyPrompter):
        def saliency(self, image: ImageArray) -> np.ndarray:
            return np.zeros(image.shape[:2], np.float32)

    image, _, _ = scene()
    dark = Dark("test_vit.r160_in1k", "random", image_size=64)
    prompter = nv.ExemplarPrompter([exemplar()], encoder=LITE0, saliency=dark, fusion=fusion)  # type: ignore[arg-type]  # a case
    assert bool(len(prompter(image).points)) == kept or fusion == "weighted"
    assert prompter.compare(image).fused.max() <= {"multiply": 0.0, "max": 1.0, "weighted": 0.6}[fusion]


class Given(PrototypePrompter):
    """Has the same map for every image."""

    def __init__(self, similarity: np.ndarray) -> None:
        one = torch.ones(1, 1)
        settings = {"similarity": 0.5, "min_area": 4, "num_objects": 5, "temperature": 0.1}
        super().__init__(LITE0, {"a": one, "b": one}, one, prompt_type="box", **settings)
        self.maps = SimilarityMaps(similarity, similarity.sum(axis=0))

    def compare(self, image: ImageArray) -> SimilarityMaps:  # noqa: ARG002 - the same for all
        return self.maps


def test_components_come_before_their_parts_and_at_most_so_many() -> None:
    values = np.zeros((2, 40, 60), np.float32)
    values[0, 10:30, 5:55] = 0.6
    values[0, 12:28, 8:20] = values[1, 12:28, 38:52] = 0.39
    values[1, 12:28, 38:52] = 0.95
    values[0, 12:28, 38:52] = 0.0
    values[0, 12:28, 8:20] = 0.9
    prompter = Given(values)
    prompts = prompter.prompts(prompter.maps)
    assert prompts.boxes is not None
    assert prompts.boxes.tolist() == [[5, 10, 54, 29], [38, 12, 51, 27], [8, 12, 19, 27]]
    assert prompts.names == ("a", "b", "a")
    prompter.num_objects = 1
    assert prompter.prompts(prompter.maps).names == ("a",)


@pytest.mark.parametrize(("between", "labels"), [(0.6, ["a"]), (0.5, ["b", "a"])])
def test_a_mask_replaces_those_in_it_if_it_explains_as_much(between: float, labels: list[str]) -> None:
    values = np.zeros((2, 40, 60), np.float32)
    values[0, 10:30, 5:55] = between
    values[:, 12:28, 8:20], values[:, 12:28, 38:52] = [[[0.9]], [[0.0]]], [[[0.0]], [[0.95]]]
    prompter = Given(values)
    found = nv.ExemplarMode(prompter, nv.BoxModel(), visualize=False)(np.zeros((40, 60, 3), np.uint8))
    assert [facts["label"] for facts in found.region_facts] == labels
    assert found.facts["prompts"] == 3


def test_a_mask_that_agrees_with_no_class_is_dropped() -> None:
    values = np.zeros((2, 40, 60), np.float32)
    values[0, 10:30, 5:55] = 0.7
    prompter = Given(values)
    mode = nv.ExemplarMode(prompter, nv.BoxModel(), visualize=False)
    assert len(mode(np.zeros((40, 60, 3), np.uint8)).regions) == 1
    prompter.maps = SimilarityMaps(values / 2, values[0])  # salient, but similar to nothing
    assert mode(np.zeros((40, 60, 3), np.uint8)).regions == ()


def test_a_region_is_named_by_the_mean_over_its_mask() -> None:
    values = np.zeros((2, 4, 4), np.float32)
    values[0, :, :2], values[1, :, 2:] = 0.9, 0.3
    prompter = Given(values)
    left, right = (nv.Region((x, 0, x + 1, 3), np.ones((4, 2), np.bool_)) for x in (0, 2))
    first, second = prompter.name(prompter.maps, [left, right])
    assert (first.label, second.label) == ("a", "b")
    assert (first.score, second.score) == (pytest.approx(0.9), pytest.approx(0.3))
    assert (first.known, second.known) == (True, False)


def test_clusters_are_unit_vectors_and_follow_the_groups() -> None:
    generator = torch.Generator().manual_seed(0)
    groups = torch.eye(3).repeat_interleave(20, dim=0) + 0.05 * torch.randn(60, 3, generator=generator)
    found = centres(torch.nn.functional.normalize(groups, dim=-1), 3)
    assert torch.allclose(found.norm(dim=-1), torch.ones(3), atol=1e-5)
    assert sorted(found.argmax(dim=-1).tolist()) == [0, 1, 2]
    assert found.amax(dim=-1).min() > 0.99
    assert len(centres(groups[:2], 3)) == 2


def test_the_text_of_an_exemplar_has_a_name_a_box_or_a_mask(tmp_path: Path) -> None:
    own = exemplar()
    write_image(tmp_path / "cat.png", np.asarray(own.image))
    assert own.mask is not None
    write_image(tmp_path / "mask.png", np.repeat(own.mask[..., None], 3, axis=2).astype(np.uint8) * 255)
    file = tmp_path / "cat.png"
    assert parse_exemplar(str(file)).label == "cat"
    assert parse_exemplar(f"tom={file}:3,4,50,60.4").box == (3, 4, 50, 60)
    read = parse_exemplar(f"tom={file}:{tmp_path / 'mask.png'}")
    assert read.label == "tom"
    assert read.mask is not None
    assert np.array_equal(read.mask, own.mask)


def test_what_cannot_be_an_exemplar_is_refused(tmp_path: Path) -> None:
    image = np.asarray(exemplar().image)
    with pytest.raises(InputError, match="exemplars: expected images or a gallery"):
        nv.ExemplarPrompter(encoder=LITE0)
    with pytest.raises(BadImageError, match="expected a box x1,y1,x2,y2 inside 96x96"):
        nv.ExemplarPrompter([nv.Exemplar(image, box=(5, 5, 200, 20))], encoder=LITE0)
    with pytest.raises(BadImageError, match="expected a mask of 96x96"):
        nv.ExemplarPrompter([nv.Exemplar(image, mask=np.ones((4, 5), np.bool_))], encoder=LITE0)
    with pytest.raises(BadImageError, match="an empty one"):
        nv.ExemplarPrompter([nv.Exemplar(image, mask=np.zeros((96, 96), np.bool_))], encoder=LITE0)
    with pytest.raises(MissingPathError):
        nv.ExemplarPrompter([str(tmp_path / "none.png")], encoder=LITE0)
    with pytest.raises(InputError, match="similarity 2"):
        nv.ExemplarPrompter([exemplar()], encoder=LITE0, similarity=2)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A gallery of discs and squares, whose vectors do not matter, and a folder of scenes."""
    monkeypatch.chdir(tmp_path)
    rows = []
    for label in ("disc", "square"):
        for index in range(2):
            image = np.roll(np.asarray(exemplar(label).image), 2 * index, axis=1)
            write_image(tmp_path / "cast" / label / f"{index}.png", image)
            rows.append(nv.GalleryRow(f"{label}/{index}.png", label))
    vectors = np.eye(len(rows), dtype=np.float32)
    nv.Gallery.build(vectors, rows, fingerprint="0" * 64, note={"root": "cast"}).save("runs/gallery")
    write_image(tmp_path / "in" / "a.png", scene()[0])
    write_image(tmp_path / "in" / "b.png", plain())
    return tmp_path


@pytest.mark.usefixtures("place")
def test_images_of_a_gallery_are_exemplars_of_their_labels() -> None:
    assert [each.label for each in gallery_exemplars("runs/gallery")] == ["disc"] * 2 + ["square"] * 2
    assert {each.label for each in gallery_exemplars("runs/gallery", ["square"])} == {"square"}
    image, left, right = scene()
    fused = nv.ExemplarPrompter(gallery="runs/gallery", labels=["disc"], encoder=LITE0).compare(image).fused
    assert fused[left].mean() > fused[right].mean()
    with pytest.raises(InputError, match="has no label 'cat'; it has disc, square"):
        gallery_exemplars("runs/gallery", ["cat"])


def test_a_gallery_without_its_images_says_so(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "elsewhere").mkdir()
    monkeypatch.chdir(place / "elsewhere")
    assert {each.label for each in gallery_exemplars(place / "runs/gallery")} >= {"disc"}  # found above the gallery
    (place / "cast").rename(place / "gone")
    with pytest.raises(InputError, match="none of the 2 images of 'disc' can be read"):
        gallery_exemplars(place / "runs/gallery")


@pytest.mark.usefixtures("place")
def test_the_command_writes_masks_with_their_class_and_the_map(capsys: pytest.CaptureFixture[str]) -> None:
    box = "disc=cast/disc/0.png:27,27,69,69"
    assert main(["segment", "exemplar", "in", "--exemplar", box, "cast/square/0.png:29,29,66,66"]) == 0
    lines = [json.loads(line) for line in Path("runs/segment/predictions.jsonl").read_text().splitlines()]
    assert {region["label"] for region in lines[0]["regions"]} == {"disc", "0"}
    assert all(region["similarity"] > 0.4 for line in lines for region in line["regions"])
    assert Path("runs/segment/a_similarity.jpg").is_file()
    coco = json.loads(Path("runs/segment/coco.json").read_text())
    assert {"disc", "0"} <= {one["name"] for one in coco["categories"]}
    capsys.readouterr()
    assert main(["segment", "exemplar", "in", "--gallery", "runs/gallery", "--label", "disc"]) == 2
    assert "holds results of another run" in capsys.readouterr().err
    options = ["--label", "disc", "--fusion", "weighted", "--prompt-type", "point", "--merge", "--out", "other"]
    assert main(["segment", "exemplar", "in/a.png", "--gallery", "runs/gallery", *options]) == 0


@pytest.mark.usefixtures("place")
def test_a_command_without_exemplars_says_what_to_give(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["segment", "exemplar", "in"]) == 2
    assert "give --exemplar IMAGE, or --gallery DIR" in capsys.readouterr().err
    assert main(["segment", "exemplar", "in", "--exemplar", "in/a.png", "--label", "disc"]) == 2
    assert "--label: expected --gallery DIR" in capsys.readouterr().err
