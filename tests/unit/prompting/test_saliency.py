"""Maps of saliency, their objects, prompts of them, and masks of these."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import timm
import torch
from numpy.typing import NDArray
from packaged_models import tiny_sam
from timm.layers import set_fused_attn
from timm.utils import AttentionExtract

import naruto_vision as nv
from naruto_vision.errors import InputError, MissingPathError, StateDictError
from naruto_vision.io.bundles import config_path
from naruto_vision.prompting.saliency import object_prompts, salient_objects, segment_prompts, unit_range
from naruto_vision.records import Prompt, Region
from naruto_vision.segmentation.protocol import Prompts
from naruto_vision.synthetic.attributes import read_cast
from naruto_vision.synthetic.scene import draw_scene

VIT = "test_vit.r160_in1k"  # timm's own smallest transformer, patches of 16 pixels
SAM = tiny_sam()
LITE0 = nv.SaliencyPrompter()


class Hills(nv.SaliencyPrompter):
    """Finds three hills in any image; the network is not asked."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(VIT, "random", image_size=64, **settings)

    def saliency(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        return hills((40, 50, 1.0), (120, 52, 0.9), (80, 20, 0.8), shape=image.shape[:2])


def scene(height: int = 96, width: int = 160) -> NDArray[np.uint8]:
    """Draw two things on a plain ground."""
    image = np.full((height, width, 3), 225, np.uint8)
    cv2.circle(image, (40, 50), 22, (200, 40, 30), -1)
    cv2.rectangle(image, (100, 25), (140, 80), (30, 60, 180), -1)
    return image


def hills(*tops: tuple[int, int, float], shape: tuple[int, ...] = (60, 120)) -> NDArray[np.float32]:
    """Return a map of smooth hills (x, y, height)."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    each = [top * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 200) for x, y, top in tops]
    highest: NDArray[np.float32] = np.max(each, axis=0).astype(np.float32)
    return highest


@pytest.fixture
def unfused() -> Iterator[None]:
    set_fused_attn(enable=False)
    yield
    set_fused_attn(enable=True)


@pytest.mark.usefixtures("unfused")
@pytest.mark.parametrize("name", [VIT, "vit_tiny_patch16_dinov3_qkvb"])
def test_the_map_is_the_attention_of_the_class_token_as_timm_extracts_it(name: str) -> None:
    torch.manual_seed(0)
    found = nv.SaliencyPrompter(name, "random", image_size=96)
    assert found.map == "attention"
    seen: list[torch.Tensor] = []
    found.encoder.tower.patch_embed.register_forward_hook(lambda _module, inputs, _out: seen.append(inputs[0]))
    image = np.random.default_rng(0).integers(0, 256, (60, 140, 3), dtype=np.uint8)
    whole = found.saliency(image)
    assert seen[0].shape == (1, 3, 64, 144)  # 4 x 9 patches, in the proportions of the image
    oracle = timm.create_model(name, num_classes=0, dynamic_img_size=True)
    oracle.load_state_dict(found.encoder.tower.state_dict())
    with torch.no_grad():
        rows = list(AttentionExtract(oracle, method="hook")(seen[0]).values())[-1]  # of the last block
    grid = rows[0, :, 0, oracle.num_prefix_tokens :].mean(dim=0).reshape(4, 9).numpy()
    expected = cv2.resize(grid, (140, 60), interpolation=cv2.INTER_LINEAR)
    assert np.allclose(whole, (expected - expected.min()) / np.ptp(expected), atol=1e-4)


def test_the_norm_of_features_is_an_option_and_the_map_of_backbones_without_a_class_token() -> None:
    vit = nv.SaliencyPrompter(VIT, "random", map="norm", image_size=64)
    found = vit.saliency(scene())
    assert not np.allclose(found, nv.SaliencyPrompter(VIT, "random", image_size=64).saliency(scene()), atol=0.01)
    assert LITE0.map == "norm"
    with pytest.raises(InputError, match="efficientnet-lite0: map 'attention' expected a model with a class token"):
        nv.SaliencyPrompter(map="attention")


@pytest.mark.parametrize("size", [(96, 160), (160, 96), (40, 400), (3, 3000), (1, 1)])
def test_a_map_has_the_size_of_any_image_and_is_float32_from_0_to_1(size: tuple[int, int]) -> None:
    image = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    for prompter in (nv.SaliencyPrompter(VIT, "random", image_size=64), LITE0):
        found = prompter.saliency(image)
        assert found.shape == size
        assert found.dtype == np.float32
        assert 0 <= found.min() <= found.max() <= 1


def test_the_packaged_network_finds_the_figures_of_drawn_scenes() -> None:
    cast, found = read_cast(config_path("cast.yaml")), list[bool]()
    for seed in (2, 3, 4):
        drawn = draw_scene(seed, cast, size=160, difficulty="easy")
        centres = [each.prompt.points[0] for each in LITE0.find(drawn.image).objects]
        found += [any(figure.mask[int(y), int(x)] for x, y, _ in centres) for figure in drawn.objects]
    assert found == [True] * 6


def test_a_map_is_scaled_to_0_and_1_and_a_constant_one_is_nothing() -> None:
    assert unit_range(np.array([[2.0, 4.0], [3.0, 2.5]], np.float32)).tolist() == [[0, 1], [0.5, 0.25]]
    assert unit_range(np.full((3, 4), 7, np.float32)).tolist() == np.zeros((3, 4)).tolist()


def test_components_become_boxes_and_centres_with_the_mean_of_the_map_best_first() -> None:
    values = np.zeros((40, 60), np.float32)
    values[5:15, 10:30] = 0.7
    values[20:35, 40:50] = 0.9
    values[0:2, 0:2] = 1.0  # 4 pixels
    found = salient_objects(values, 0.6, 5)
    assert [each.box for each in found] == [(40, 20, 49, 34), (10, 5, 29, 14)]
    assert [round(each.prompt.confidence or 0, 3) for each in found] == [0.9, 0.7]
    assert [each.area for each in found] == [150, 200]
    assert [each.prompt.points[0][:2] for each in found] == [(44, 27), (19, 9)]
    assert [each.box for each in salient_objects(values, 0.8, 4)] == [(0, 0, 1, 1), (40, 20, 49, 34)]
    assert salient_objects(values, 0.95, 5) == []


def test_the_centre_lies_on_a_hollow_object() -> None:
    values = np.zeros((60, 60), np.float32)
    cv2.circle(values, (30, 30), 20, 1.0, 5)
    (ring,) = salient_objects(values, 0.6, 5)
    x, y, positive = ring.prompt.points[0]
    assert positive
    assert values[int(y), int(x)] == 1


def test_objects_that_touch_are_divided_at_their_peaks_if_wanted() -> None:
    values = hills((35, 30, 1.0), (62, 30, 0.9), (105, 30, 0.7))
    whole = salient_objects(values, 0.3, 20, split=False)
    assert len(whole) == 2
    parts = salient_objects(values, 0.3, 20)
    assert len(parts) == 3
    for x, each in zip((35, 62, 105), sorted(parts, key=lambda one: one.box), strict=True):
        assert each.box[0] <= x <= each.box[2]
        assert abs(each.prompt.points[0][0] - x) <= 4
    masks = np.sum([each.full_mask(60, 120) for each in parts], axis=0)
    assert masks.max() == 1  # no pixel belongs to two


def test_prompts_are_boxes_or_points_with_their_confidence() -> None:
    objects = salient_objects(hills((35, 30, 1.0), (90, 30, 0.8)), 0.6, 20)
    boxes, points = object_prompts(objects, "box"), object_prompts(objects, "point")
    assert boxes.boxes is not None
    assert boxes.boxes.tolist() == [list(each.box) for each in objects]
    assert boxes.points.shape == (2, 0, 2)
    assert points.boxes is None
    assert points.points[:, 0].tolist() == [list(each.prompt.points[0][:2]) for each in objects]
    assert points.labels.tolist() == [[1], [1]]
    for prompts in (boxes, points):
        assert prompts.scores is not None
        assert prompts.scores.tolist() == pytest.approx([each.prompt.confidence for each in objects])
        origin = prompts.origin(0)
        assert origin.name
        assert origin.confidence == pytest.approx(objects[0].prompt.confidence)


@pytest.mark.parametrize("prompt_type", ["box", "point"])
def test_the_prompter_stands_in_front_of_any_model_also_where_nothing_is_salient(prompt_type: Any) -> None:
    for prompter, count in (
        (Hills(prompt_type=prompt_type, num_objects=2), 2),
        (Hills(prompt_type=prompt_type, min_area=10**6), 0),
    ):
        prompts = prompter(scene())
        assert len(prompts.points) == count
        regions = nv.Segmenter(prompter, SAM)(scene())
        assert len(regions) <= 3 * len(prompts.points)
        assert all(region.prompt.confidence is not None for region in regions)


def test_the_fingerprint_changes_with_every_setting_and_the_weights() -> None:
    torch.manual_seed(0)
    kinds: list[dict[str, Any]] = [{}, {"threshold": 0.5}, {"prompt_type": "point"}, {"split": False}, {"map": "norm"}]
    prompters = [nv.SaliencyPrompter(VIT, "random", **kind) for kind in kinds]
    for each in prompters[1:]:
        each.encoder.load_state_dict(prompters[0].encoder.state_dict())
    found = {each.fingerprint for each in prompters} | {nv.SaliencyPrompter(VIT, "random").fingerprint}
    assert len(found) == len(kinds) + 1


def test_a_local_file_is_read_and_a_missing_model_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    first = nv.SaliencyPrompter(VIT, "random", image_size=64)
    torch.save(first.encoder.tower.state_dict(), tmp_path / "vit.pth")
    again = nv.SaliencyPrompter(VIT, "vit.pth", image_size=64)
    assert again.fingerprint == first.fingerprint
    assert np.array_equal(again.saliency(scene()), first.saliency(scene()))
    with pytest.raises(MissingPathError, match=r"dinov2_vits14: .* weights download dinov2_vits14"):
        nv.SaliencyPrompter("dinov2_vits14")
    with pytest.raises(MissingPathError, match=r"gone\.pth"):
        nv.SaliencyPrompter("dinov2_vits14", "gone.pth")
    with pytest.raises(StateDictError):
        nv.SaliencyPrompter("vit_tiny_patch16_224", "vit.pth")


@pytest.mark.parametrize(
    "wrong", [{"num_objects": 0}, {"threshold": 1.5}, {"min_area": -1}, {"image_size": 8}, {"image_size": 9999}]
)
def test_numbers_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"saliency: expected .* found .*{next(iter(wrong))}"):
        nv.SaliencyPrompter(**wrong)


def test_too_little_memory_names_the_smaller_model(monkeypatch: pytest.MonkeyPatch) -> None:
    prompter = nv.SaliencyPrompter(VIT, "random")

    def full(_pixels: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(prompter.encoder.tower, "forward_features", full)
    with pytest.raises(InputError, match="out of memory; choose a smaller model"):
        prompter.saliency(scene())


def test_each_prompt_has_its_best_mask_and_equal_masks_are_one() -> None:
    image = scene()
    embedding = SAM.embed(image)
    rows = np.array([[14, 24, 66, 76], [98, 22, 143, 83], [13, 23, 67, 77]], np.float32)
    scores = np.array([0.7, 0.9, 0.8], np.float32)
    empty = np.zeros((3, 0, 2), np.float32), np.zeros((3, 0), np.int64)
    prompts = Prompts(*empty, rows, scores=scores)
    found = segment_prompts(SAM, embedding, prompts)
    assert [region.prompt.box for region in found] == [tuple(rows[1].tolist()), tuple(rows[2].tolist())]
    for region, row in zip(found, (1, 2), strict=True):
        best = max(
            float(some.ious.max())
            for some in SAM.predict_masks(embedding, Prompts(empty[0][:1], empty[1][:1], rows[row : row + 1]), -1e9)
        )
        assert region.predicted_iou == pytest.approx(best, abs=1e-4)
    assert segment_prompts(SAM, embedding, Prompts(empty[0][:0], empty[1][:0], rows[:0])) == []


def test_from_python_there_are_masks_and_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    image = scene()
    found = nv.SaliencyMode(Hills(), SAM, visualize=False)(image)
    assert found.regions
    assert not found.images
    assert not found.texts
    pixels = image[found.regions[0].full_mask(*image.shape[:2])]
    assert pixels.shape == (found.regions[0].area, 3)
    sure = [region.prompt.confidence or 0 for region in found.regions]
    assert sure == sorted(sure, reverse=True)
    assert list(tmp_path.iterdir()) == []


def test_three_labelled_panels_masks_with_texts_and_a_summary() -> None:
    image = scene()
    found = nv.SaliencyMode(Hills(), SAM)(image, "a/scene.jpg")
    panels = found.images["_visualization.jpg"]
    assert panels.shape[1] > 3 * image.shape[1]
    first = panels[-image.shape[0] :, : image.shape[1]]
    assert np.array_equal(first, image)  # under its title
    assert (panels[: panels.shape[0] - image.shape[0], : image.shape[1]] < 128).any()  # the title
    region = found.regions[0]
    mask = found.images["_masks/mask_000.png"]
    assert np.array_equal(mask[..., 0] > 0, region.full_mask(*image.shape[:2]))
    lines = dict(line.split(": ") for line in found.texts["_masks/mask_000.txt"].splitlines())
    assert float(lines["score"]) == pytest.approx(region.predicted_iou, abs=1e-4)
    assert [int(side) for side in lines["bbox"].split(",")] == list(region.box)
    assert float(lines["confidence"]) == pytest.approx(region.prompt.confidence, abs=1e-4)
    summary = found.texts["_summary.txt"]
    assert "image: a/scene.jpg (160x96)" in summary
    assert f"map: attention of {VIT}" in summary
    assert f"objects: {len(found.facts['salient'])} " in summary
    assert f"segments: {len(found.regions)}" in summary
    assert f"mask {len(found.regions) - 1:03d}: score" in summary
    assert len(found.texts) == len(found.images) == 1 + len(found.regions)


def test_nothing_and_too_much_say_what_to_turn() -> None:
    nothing = nv.SaliencyMode(Hills(min_area=10**6), SAM)(scene())
    assert nothing.regions == ()
    assert nothing.note == "nothing salient was found: lower --threshold or --min-area"
    assert nothing.note in nothing.texts["_summary.txt"]
    more = nv.SaliencyMode(Hills(num_objects=1), SAM)(scene())
    assert "raise --threshold or --min-area" in more.note
    assert more.facts["salient_more"] == 2
    assert len(more.regions) == 1
    assert nv.SaliencyMode(Hills(num_objects=3), SAM)(scene()).note == ""


def test_a_region_of_an_object_names_its_prompt() -> None:
    (only,) = salient_objects(hills((35, 30, 1.0)), 0.6, 20)
    assert isinstance(only, Region)
    assert isinstance(only.prompt, Prompt)
    assert only.prompt.box == only.box
