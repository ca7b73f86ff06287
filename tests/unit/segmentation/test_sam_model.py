from pathlib import Path

import numpy as np
import pytest
import torch
from segment_anything import SamPredictor

from naruto_vision.errors import FormatError, MissingPathError, StateDictError
from naruto_vision.records import Prompt
from naruto_vision.segmentation.postprocess import upscale
from naruto_vision.segmentation.protocol import MaskThresholds, Prompts
from naruto_vision.segmentation.sam import SIZES, Architecture, SamModel, build_sam, load_sam


@pytest.fixture(scope="module")
def model() -> SamModel:
    torch.manual_seed(0)
    return SamModel("tiny-sam")


@pytest.fixture(scope="module")
def checkpoint(model: SamModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "sam.pth"
    torch.save(model.sam.state_dict(), path)
    return path


def _image(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(("height", "width"), [(48, 64), (64, 33), (300, 20)])
def test_answers_are_those_of_the_stock_predictor(model: SamModel, height: int, width: int) -> None:
    image = _image(height, width)
    predictor = SamPredictor(model.sam)
    predictor.set_image(image)
    points = np.array([[[5.0, 7.0], [12.0, 3.0]], [[19.0, 30.0], [1.0, 1.0]]], dtype=np.float32)
    labels = np.array([[1, 0], [1, 1]])
    scaled = predictor.transform.apply_coords(points, image.shape[:2])
    expected, ious, low = predictor.predict_torch(
        torch.from_numpy(scaled), torch.from_numpy(labels), multimask_output=True, return_logits=True
    )
    embedding = model.embed(image)
    logits, estimated = model.predict_all(embedding, Prompts(points, labels))
    assert torch.allclose(logits, low, atol=1e-5)
    assert torch.allclose(estimated, ious, atol=1e-5)
    assert torch.allclose(upscale(logits[:, 1], embedding, model.image_size), expected[:, 1], atol=1e-4)


def test_box_prompts_answer_like_the_stock_predictor(model: SamModel) -> None:
    image, boxes = _image(40, 64), np.array([[3, 4, 30, 33], [10, 0, 63, 39]], dtype=np.float32)
    predictor = SamPredictor(model.sam)
    predictor.set_image(image)
    scaled = torch.from_numpy(predictor.transform.apply_boxes(boxes, image.shape[:2]))
    _, ious, low = predictor.predict_torch(None, None, boxes=scaled, multimask_output=True)
    nothing = np.zeros((2, 0, 2), np.float32)
    logits, estimated = model.predict_all(model.embed(image), Prompts(nothing, np.zeros((2, 0), np.int64), boxes))
    assert torch.allclose(logits, low, atol=1e-5)
    assert torch.allclose(estimated, ious, atol=1e-5)


def test_earlier_logits_and_a_single_mask_answer_like_the_stock_predictor(model: SamModel) -> None:
    image = _image(40, 64)
    predictor = SamPredictor(model.sam)
    predictor.set_image(image)
    earlier = np.random.default_rng(5).normal(size=(2, 64, 64)).astype(np.float32)
    points = np.array([[[5.0, 7.0], [12.0, 3.0]], [[19.0, 30.0], [0.0, 0.0]]], dtype=np.float32)
    labels = np.array([[1, 0], [1, -1]])  # two points for the first object, one for the second
    scaled = torch.from_numpy(predictor.transform.apply_coords(points, image.shape[:2]))
    embedding = model.embed(image)
    for multimask in (True, False):
        _, ious, low = predictor.predict_torch(
            scaled, torch.from_numpy(labels), None, torch.from_numpy(earlier)[:, None], multimask
        )
        prompts = Prompts(points, labels, masks=earlier, multimask=multimask)
        logits, estimated = model.predict_all(embedding, prompts)
        assert torch.allclose(logits, low, atol=1e-5)
        assert torch.allclose(estimated, ious, atol=1e-5)
        (found,) = model.predict_masks(embedding, prompts, float(ious.median()))
        wanted = (estimated > ious.median()).nonzero()
        assert found.prompt.tolist() == wanted[:, 0].tolist()
        assert torch.equal(found.logits, logits[tuple(wanted.T)])


def test_a_row_says_where_it_was_asked() -> None:
    points, boxes = np.array([[[5.0, 7.0], [2.0, 3.0]]], np.float32), np.array([[1, 2, 30, 31]], np.float32)
    prompts = Prompts(points, np.array([[0, -1]]), boxes, ("both",))
    assert prompts.origin(0, 10, 20) == Prompt("both", ((15.0, 27.0, False),), (11.0, 22.0, 40.0, 51.0))


def test_each_prompt_may_have_its_own_image(model: SamModel) -> None:
    images = torch.from_numpy(np.stack([_image(256, 256), 255 - _image(256, 256)])).permute(0, 3, 1, 2)
    with torch.no_grad():
        features = model.encode(images)
        tokens = model.encode_prompts(torch.full((2, 1, 2), 99.0), torch.ones(2, 1, dtype=torch.int64), None)
        together = model.decode(features, tokens)
        apart = [model.decode(features[i : i + 1], tokens[i : i + 1]) for i in range(2)]
    assert torch.allclose(together.logits, torch.cat([answer.logits for answer in apart]), atol=1e-5)
    assert not torch.allclose(together.logits[0], together.logits[1], atol=1e-3)


def test_the_official_layout_loads_and_gives_the_same_weights(model: SamModel, checkpoint: Path) -> None:
    loaded = SamModel("tiny-sam", weights=checkpoint)
    pairs = zip(model.sam.state_dict().items(), loaded.sam.state_dict().items(), strict=True)
    assert all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


def test_a_missing_an_extra_and_a_reshaped_name_are_told(checkpoint: Path, tmp_path: Path) -> None:
    state = torch.load(checkpoint, weights_only=True)
    del state["mask_decoder.iou_token.weight"]
    state["mask_decoder.hq_token.weight"] = torch.zeros(1)
    state["image_encoder.pos_embed"] = torch.zeros(1, 2, 2, 3)
    torch.save(state, tmp_path / "bad.pth")
    with pytest.raises(StateDictError) as caught:
        SamModel("tiny-sam", weights=tmp_path / "bad.pth")
    line = str(caught.value)
    assert all(part in line for part in ("bad.pth", "iou_token", "hq_token", "pos_embed", "(1, 2, 2, 3)"))


@pytest.mark.parametrize("kind", ["missing", "extra", "reshaped"])
def test_one_wrong_name_is_enough_to_refuse(checkpoint: Path, tmp_path: Path, kind: str) -> None:
    state = torch.load(checkpoint, weights_only=True)
    name = "mask_decoder.iou_token.weight"
    match kind:
        case "missing":
            del state[name]
        case "extra":
            name = "mask_decoder.hq_token.weight"
            state[name] = torch.zeros(1)
        case _:
            state[name] = torch.zeros(2, 3)
    torch.save(state, tmp_path / "bad.pth")
    with pytest.raises(StateDictError, match=name.replace(".", r"\.")):
        SamModel("tiny-sam", weights=tmp_path / "bad.pth")


def test_a_bundle_keeps_weights_and_thresholds(model: SamModel, tmp_path: Path) -> None:
    copy = SamModel("tiny-sam")
    copy.sam.load_state_dict(model.sam.state_dict())
    copy.thresholds = MaskThresholds(predicted_iou=0.6, stability_offset=0.5)
    copy.save(tmp_path / "bundle", licence="Apache-2.0")
    loaded = SamModel("tiny-sam", weights=tmp_path / "bundle")
    assert loaded.thresholds == copy.thresholds
    image = _image(32, 32)
    assert torch.equal(loaded.embed(image).features, model.embed(image).features)
    with pytest.raises(FormatError, match="vit_b"):
        load_sam(copy.sam, "vit_b", tmp_path / "bundle")


def test_absent_weights_are_told(tmp_path: Path) -> None:
    with pytest.raises(MissingPathError, match="SAM weights"):
        SamModel("tiny-sam", weights=tmp_path / "none.pth")


@pytest.mark.parametrize(
    ("name", "parameters"), [("vit_b", 93_735_472), ("vit_l", 312_342_832), ("vit_h", 641_090_608)]
)
def test_official_sizes_have_the_official_number_of_parameters(name: Architecture, parameters: int) -> None:
    with torch.device("meta"):
        sam = build_sam(SIZES[name])
    assert sum(parameter.numel() for parameter in sam.parameters()) == parameters


@pytest.mark.slow
def test_vit_b_in_the_official_layout_loads_and_refuses_a_missing_name(tmp_path: Path) -> None:
    state = build_sam(SIZES["vit_b"]).state_dict()
    torch.save(state, tmp_path / "sam_vit_b_01ec64.pth")
    model = SamModel("vit_b", weights=tmp_path / "sam_vit_b_01ec64.pth")
    assert torch.equal(model.sam.state_dict()["image_encoder.pos_embed"], state["image_encoder.pos_embed"])
    embedding = model.embed(_image(64, 64))
    point = Prompts(np.full((1, 1, 2), 30, np.float32), np.ones((1, 1), np.int64))
    assert model.predict_all(embedding, point)[0].shape == (1, 3, 256, 256)
    del state["image_encoder.neck.0.weight"]
    torch.save(state, tmp_path / "short.pth")
    with pytest.raises(StateDictError, match=r"image_encoder\.neck\.0\.weight"):
        SamModel("vit_b", weights=tmp_path / "short.pth")
