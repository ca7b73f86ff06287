"""SAM 2.1: official files, and the answers of transformers' own model with the same weights."""

import hashlib
import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks.segment import best_ious
from benchmarks.stock import random_sam2, stock_sam2, stock_sam2_regions
from torch import Tensor
from torchvision import transforms

from naruto_vision.errors import FormatError, InputError, MissingPackageError, MissingPathError, StateDictError
from naruto_vision.records import ImageArray, Region
from naruto_vision.segmentation import runtime, sam2
from naruto_vision.segmentation.generator import RegionFilter, Segmenter
from naruto_vision.segmentation.opening import open_promptable_model
from naruto_vision.segmentation.prompts import GridPrompter
from naruto_vision.segmentation.protocol import Prompts, SceneEmbedding
from naruto_vision.segmentation.sam import SamModel
from naruto_vision.segmentation.sam2 import SIZES, Sam2Architecture, Sam2Model, Sam2Network, Sam2Size, official_key

SMALL = Sam2Size(
    width=16, heads=1, blocks=(1, 2, 3, 1), global_blocks=(4,), windows=(8, 4, 6, 2), position_grid=4, image_size=128,
    decoder_width=32, decoder_heads=2, decoder_mlp=48, iou_hidden=16,
)  # fmt: skip
"""8 x 8 tokens in windows of 6, so that the last windows are padded, as those of the official sizes are."""
VIDEO = {
    "maskmem_tpos_enc": (7, 1, 1, 64),
    "no_mem_pos_enc": (1, 1, 256),
    "no_obj_ptr": (1, 256),
    "mask_downsample.weight": (1, 1, 4, 4),
    "memory_attention.layers.0.cross_attn_image.k_proj.weight": (256, 64),
    "memory_encoder.mask_downsampler.encoder.12.bias": (256,),
    "obj_ptr_proj.layers.2.weight": (256, 256),
    "sam_mask_decoder.pred_obj_score_head.layers.2.bias": (1,),
}
"""Some keys of an official file that only videos need, with their shapes; SAM 2.1 has two kinds more than SAM 2.0."""
NEW_VIDEO = {"no_obj_embed_spatial": (1, 64), "obj_ptr_tpos_proj.bias": (64,)}
KEEP = RegionFilter(min_area=0, max_masks=None)


@cache
def _model() -> Sam2Model:
    return random_sam2(SMALL)


@cache
def _stock() -> Any:
    return stock_sam2(_model())


def _image(height: int, width: int) -> ImageArray:
    """Draw blobs, which are alike when resized."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x * a / width + y * b / height) for a, b in ((7, 3), (2, 9), (11, 5))]
    return (127.5 + 127.5 * np.stack(waves, axis=-1)).astype(np.uint8)


def _official(model: Sam2Model, video: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    state = {official_key(name): value for name, value in model.sam.state_dict().items()}
    return {**state, **{name: torch.zeros(shape) for name, shape in video.items()}}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a file in the official layout, of a size that is small here."""
    monkeypatch.setitem(SIZES, "small", SMALL)
    path = tmp_path / "sam2.1_hiera_small.pt"
    torch.save({"model": _official(_model(), VIDEO | NEW_VIDEO)}, path)
    return path


@pytest.mark.parametrize(
    ("architecture", "count", "digest"),
    [
        ("tiny", 305, "fd1d7e7a2bdfa26839ecee42607af7907e01e00f8f975db94de20e643fbe9c53"),
        ("small", 353, "79988f66d2a2f3536eee6bad9ac6fb67ad1f7ad3cdb2bec7881d5151c6b789bd"),
        ("base_plus", 449, "c395e3c3ee1050aaf41f0a765ec2c210f0dc7d470a8e893048775cd059f284c7"),
        ("large", 737, "3233b98aa52b16e6acb8d8df4bd2e518f9bec8062ad832044adb723c4a2e8846"),
    ],
)
def test_names_and_shapes_are_those_of_the_official_code(
    architecture: Sam2Architecture, count: int, digest: str
) -> None:
    """The digests were made from the state dicts of the original code, built from its own YAML files."""
    with torch.device("meta"):
        network = Sam2Network(SIZES[architecture])
    lines = sorted(f"{official_key(name)} {tuple(value.shape)}" for name, value in network.state_dict().items())
    assert (len(lines), hashlib.sha256("\n".join(lines).encode()).hexdigest()) == (count, digest)


@pytest.mark.parametrize("video", [VIDEO, VIDEO | NEW_VIDEO], ids=["2.0", "2.1"])
def test_an_official_file_opens_with_its_size_and_all_its_image_keys(
    file: Path, video: dict[str, tuple[int, ...]]
) -> None:
    torch.save({"model": _official(_model(), video)}, file)
    loaded = open_promptable_model(file)
    assert isinstance(loaded, Sam2Model)
    assert (loaded.architecture, loaded.training, loaded.device.type) == ("small", False, "cpu")
    assert loaded.thresholds.predicted_iou == 0.8
    state = _model().sam.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in loaded.sam.state_dict().items())
    found, expected = (model.embed(_image(40, 60)).features.image for model in (loaded, _model()))
    assert torch.equal(found, expected)


@pytest.mark.parametrize("kind", ["missing", "extra", "reshaped"])
def test_one_wrong_key_is_enough_to_refuse_and_is_named(file: Path, kind: str) -> None:
    state = _official(_model(), VIDEO)
    name = "sam_mask_decoder.transformer.layers.1.mlp.layers.0.weight"
    match kind:
        case "missing":
            del state[name]
        case "extra":
            name = "sam_mask_decoder.hq_token.weight"
            state[name] = torch.zeros(1)
        case _:
            state["sam_mask_decoder.conv_s0.weight"], name = torch.zeros(2, 3), "mask_decoder.conv_s0.weight"
    torch.save({"model": state}, file)
    with pytest.raises(StateDictError, match=rf"{file.name}: not weights of SAM 2 small: 1 .*{re.escape(name)}"):
        Sam2Model(file)


def test_a_file_of_another_model_or_size_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(SIZES, "small")
    with pytest.raises(FormatError, match=r"an official file of SAM 2 .*, found an image encoder of width 16 with 7"):
        Sam2Model(file)
    torch.save({"image_encoder.pos_embed": torch.zeros(1)}, file)
    with pytest.raises(FormatError, match=r"official file of SAM 2 .*, found image_encoder\.pos_embed"):
        Sam2Model(file)


def test_what_cannot_be_opened_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert isinstance(open_promptable_model("tiny-sam"), SamModel)
    with pytest.raises(MissingPathError, match=r"run: naruto-vision weights download sam_vit_b$"):
        open_promptable_model("sam_vit_b")
    with pytest.raises(MissingPathError, match=r"run: naruto-vision weights download sam2\.1_hiera_large$"):
        open_promptable_model("models/sam2.1_hiera_large.pt")
    with pytest.raises(MissingPathError, match=r"my_sam2\.pt: no such weights file of SAM 2; give an official file"):
        open_promptable_model("my_sam2.pt")
    Path("weights.pth").touch()
    with pytest.raises(
        InputError, match=r"weights\.pth: cannot tell the model from the name: expected sam2, or one of"
    ):
        open_promptable_model("weights.pth")
    Path("sam2.1_hiera_tiny.pt").touch()
    monkeypatch.setattr("naruto_vision.io.machine.has_package", lambda _name: False)
    with pytest.raises(MissingPackageError, match=r"transformers is not installed; run: .*naruto-vision\[sam2\]"):
        open_promptable_model("sam2.1_hiera_tiny.pt")


def _prompts(kind: str, **options: Any) -> Prompts:
    points = np.array([[[20.0, 30.0], [90.0, 60.0]], [[100.0, 9.0], [7.0, 80.0]]], np.float32)
    labels, boxes = np.array([[1, 0], [1, 1]]), np.array([[5, 8, 60, 90], [30, 2, 120, 70]], np.float32)
    if kind == "boxes":
        points, labels = points[:, :0], labels[:, :0]
    return Prompts(points, labels, None if kind == "points" else boxes, **options)


def _stock_answers(prompts: Prompts, size: tuple[int, int], pixels: Tensor) -> Any:
    side = SMALL.image_size
    scale = torch.tensor([side / size[1], side / size[0]])
    boxes = None if prompts.boxes is None else (torch.from_numpy(prompts.boxes) * scale.repeat(2))[None]
    given = prompts.points.shape[1] > 0
    with torch.no_grad():
        return _stock()(
            pixel_values=pixels,
            input_points=(torch.from_numpy(prompts.points) * scale)[None] if given else None,
            input_labels=torch.from_numpy(prompts.labels)[None] if given else None,
            input_boxes=boxes,
            input_masks=None if prompts.masks is None else torch.from_numpy(prompts.masks)[:, None],
            multimask_output=prompts.multimask,
        )


def _pixels(image: ImageArray) -> Tensor:
    """Prepare an image as the official predictor does."""
    mean, deviation = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    steps = [transforms.Resize((SMALL.image_size,) * 2), transforms.Normalize(mean, deviation)]
    pixels: Tensor = transforms.Compose([transforms.ToTensor(), *steps])(image)[None]
    return pixels


@pytest.mark.parametrize("kind", ["points", "boxes", "both"])
@pytest.mark.parametrize(("height", "width"), [(128, 128), (70, 300)])
def test_answers_are_those_of_transformers(kind: str, height: int, width: int) -> None:
    image, prompts = _image(height, width), _prompts(kind)
    expected = _stock_answers(prompts, (height, width), _pixels(image))
    embedding = _model().embed(image)
    found = _model().predict_all(embedding, prompts)
    assert expected.pred_masks.std() > 0.5
    assert (found.logits - expected.pred_masks[0]).abs().max() < 1e-4
    assert (found.ious - expected.iou_scores[0]).abs().max() < 1e-5
    assert (found.logits[0] - found.logits[1]).abs().max() > 0.05  # other prompts, other masks
    above = float(found.ious.flatten().sort().values[2:4].mean())  # between two estimates
    (some,) = _model().predict_masks(embedding, prompts, above)
    wanted = (found.ious > above).nonzero()
    assert len(wanted) == 3
    assert some.prompt.tolist() == wanted[:, 0].tolist()
    assert (some.logits - found.logits[tuple(wanted.T)]).abs().max() < 1e-4
    assert (some.ious - found.ious[tuple(wanted.T)]).abs().max() < 1e-5


@pytest.mark.parametrize("sharpness", [1.0, 1e4])
@pytest.mark.parametrize("refine", [False, True])
def test_a_single_mask_is_replaced_where_it_is_not_stable(
    sharpness: float, refine: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for model in (_model().sam, _stock()):  # only a sharp mask is stable
        mlp = model.mask_decoder.output_hypernetworks_mlps[0]
        last = mlp.layers[2] if model is _model().sam else mlp.proj_out
        monkeypatch.setattr(last.weight, "data", last.weight.data * sharpness)
        monkeypatch.setattr(last.bias, "data", last.bias.data * sharpness)
    image = _image(128, 128)
    earlier = np.random.default_rng(5).normal(size=(1, 32, 32)).astype(np.float32) if refine else None
    both = _prompts("points")
    prompts = Prompts(both.points[:1], both.labels[:1], masks=earlier, multimask=False)
    expected = _stock_answers(prompts, (128, 128), _pixels(image))
    embedding = _model().embed(image)
    found = _model().predict_all(embedding, prompts)
    assert found.logits.shape == (1, 1, 32, 32)
    assert (found.logits - expected.pred_masks[0]).abs().max() < 1e-5 * expected.pred_masks.abs().max()
    assert torch.allclose(found.ious, expected.iou_scores[0], atol=1e-5)
    three = _model().predict_all(embedding, Prompts(prompts.points, prompts.labels, masks=earlier))
    assert (float(found.ious) == float(three.ious.max())) == (sharpness == 1.0)
    (some,) = _model().predict_masks(embedding, prompts, 0.0)
    assert torch.equal(some.logits, found.logits[0])


def test_an_earlier_mask_changes_the_answer_within_the_official_bounds() -> None:
    embedding = _model().embed(_image(60, 80))
    earlier = np.random.default_rng(2).normal(size=(2, 32, 32)).astype(np.float32)
    plain, refined = (_model().predict_all(embedding, _prompts("both", masks=masks)) for masks in (None, earlier))
    assert (plain.logits - refined.logits).abs().max() > 0.01
    large, clipped = (
        _model().predict_all(embedding, _prompts("both", masks=masks))
        for masks in (100 * earlier, (100 * earlier).clip(-32, 32))
    )
    assert torch.equal(large.logits, clipped.logits)


@pytest.mark.parametrize("batch", [None, 1, 4])
def test_batches_do_not_change_the_masks(batch: int | None) -> None:
    image = _image(50, 70)
    embedding, prompts = _model().embed(image), GridPrompter(3)(image)
    every = _model().predict_all(embedding, prompts)
    above = float(every.ious.flatten().sort().values[12:14].mean())
    some = list(_model().predict_masks(embedding, prompts, above, batch))
    wanted = every.ious > above
    assert len(some) == (9 if batch == 1 else 3 if batch else 1)
    assert torch.cat([part.prompt for part in some]).tolist() == wanted.nonzero()[:, 0].tolist()
    assert (torch.cat([part.logits for part in some]) - every.logits[wanted]).abs().max() < 1e-4


@pytest.mark.parametrize(("height", "width"), [(128, 128), (90, 171), (300, 20)])
def test_full_masks_are_those_of_the_stock_processor(height: int, width: int) -> None:
    import transformers

    image = _image(height, width)
    embedding = _model().embed(image)
    logits = _model().predict_all(embedding, _prompts("points")).logits.flatten(0, 1)
    processor = transformers.Sam2ImageProcessor()
    (expected,) = processor.post_process_masks([logits[:, None]], [(height, width)])
    found = {each.index: each for each in _model().full_masks(logits, embedding, 0.0, 0.5)}
    assert sorted(found) == [i for i, mask in enumerate(expected) if mask.any()]
    for i, each in found.items():
        mask = Region(each.box, each.mask).full_mask(height, width)
        assert np.count_nonzero(mask != expected[i, 0].numpy()) <= 1  # PyTorch rounds otherwise on one thread


def _segmenter(points: int, image: ImageArray) -> Segmenter:
    """Build a segmenter whose thresholds let some masks pass, in a gap between two estimates."""
    embedding, prompts = _model().embed(image), GridPrompter(points)(image)
    ious = torch.cat([some.ious for some in _model().predict_masks(embedding, prompts, -1.0)]).sort().values
    middle = len(ious) // 2
    gap = middle - 4 + int(ious[middle - 4 : middle + 4].diff().argmax())
    above = float(ious[gap : gap + 2].mean())
    offset = {"predicted_iou": above, "stability": 0.3, "stability_offset": 0.1}
    return Segmenter(GridPrompter(points), _model(), **offset, box_nms=0.999, keep=KEEP)


def test_automatic_masks_are_those_of_the_stock_pipeline() -> None:
    image = _image(128, 128)
    segmenter = _segmenter(4, image)
    expected = stock_sam2_regions(segmenter, _stock(), image)
    found = segmenter(image)
    assert 2 < len(expected) < 24
    assert len(found) == len(expected)
    assert min(best_ious(found, expected)) >= 0.99


def test_an_image_is_embedded_once_for_all_prompts_and_alike_with_others(monkeypatch: pytest.MonkeyPatch) -> None:
    images = [_image(64, 48), _image(30, 90), _image(128, 128)]
    monkeypatch.setitem(runtime.IMAGES_AT_ONCE, "cpu", 2)
    together = _model().embed_all(images)
    assert [each.original_size for each in together] == [(64, 48), (30, 90), (128, 128)]
    monkeypatch.setitem(runtime.IMAGES_AT_ONCE, "cpu", 1)
    for image, one in zip(images, together, strict=True):
        alone = _model().embed(image).features
        assert torch.allclose(one.features.image, alone.image, atol=1e-5)
        assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(one.features.finer, alone.finer, strict=True))
    runs: list[SceneEmbedding] = []
    embed = Sam2Model.embed_all
    monkeypatch.setattr(Sam2Model, "embed_all", lambda self, some: runs.extend(embed(self, some)) or runs)
    Segmenter(GridPrompter(4), _model(), predicted_iou=0.0)(images[0])
    assert len(runs) == 1


def test_in_bfloat16_masks_are_nearly_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sam2, "check_precision", lambda *_: None)
    monkeypatch.setattr(runtime, "check_precision", lambda *_: None)
    low = Sam2Model(None, SMALL, precision="bfloat16")
    low.sam.load_state_dict(_model().sam.state_dict())
    image = _image(60, 90)
    exact, found = (
        next(model.predict_masks(model.embed(image), GridPrompter(2)(image), -1.0)) for model in (_model(), low)
    )
    assert found.logits.dtype == torch.float32
    assert not torch.equal(found.logits, exact.logits)
    cosine = torch.nn.functional.cosine_similarity(found.logits.flatten(), exact.logits.flatten(), dim=0)
    assert cosine > 0.99
    assert low.fingerprint != _model().fingerprint


def test_the_fingerprint_changes_with_any_weight() -> None:
    other = Sam2Model(architecture=SMALL)
    other.sam.load_state_dict(_model().sam.state_dict())
    assert other.fingerprint == _model().fingerprint
    other.sam.no_mem_embed.data[0, 0, 0] += 1
    assert other.fingerprint != _model().fingerprint
