"""The box detector, its bundle, its prompts and regions."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import naruto_vision as nv
from naruto_vision.errors import FormatError, InputError, MissingPathError
from naruto_vision.segmentation.detector import BoxDetector, BoxModel, DetectorPrompter, boxes_from_edges, fuse_boxes
from naruto_vision.segmentation.prompts import BoxPrompter

IMAGE = np.random.default_rng(0).integers(0, 255, (70, 100, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def detector() -> BoxDetector:
    torch.manual_seed(0)
    return BoxDetector("random", image_size=64).eval()


def test_boxes_are_inclusive_pixels_inside_the_image(detector: BoxDetector) -> None:
    boxes, scores = detector.detect(IMAGE, 0.0)
    assert len(boxes) == len(scores) > 0
    assert all(0 <= x1 <= x2 < 100 and 0 <= y1 <= y2 < 70 for x1, y1, x2, y2 in boxes)
    assert (np.diff(scores) <= 0).all()


def test_what_two_views_agree_on_counts_more_than_what_one_alone_has_found() -> None:
    first = torch.tensor([[0.0, 0, 10, 10], [50, 50, 60, 60], [0, 0, 10, 9]]), torch.tensor([0.6, 0.8, 0.3])
    second = torch.tensor([[0.0, 0, 10, 12]]), torch.tensor([0.6])
    edges, scores = fuse_boxes([first, second])
    assert scores.tolist() == pytest.approx([0.6, 0.4])
    assert edges[0].tolist() == pytest.approx([0, 0, 10, 11])
    assert edges[1].tolist() == [50, 50, 60, 60]


def test_views_without_a_box_have_none() -> None:
    edges, scores = fuse_boxes([(torch.zeros(0, 4), torch.zeros(0))] * 2)
    assert edges.shape == (0, 4)
    assert scores.shape == (0,)


def test_finding_leaves_the_training_scales_as_they_are(detector: BoxDetector) -> None:
    before = detector.fcos.transform.min_size
    detector.detect(IMAGE, 0.0)
    assert detector.fcos.transform.min_size == before


def test_edges_become_the_pixels_between_them() -> None:
    assert boxes_from_edges(np.array([[2.0, 3.0, 8.0, 9.0], [-4, -4, 200, 200], [5, 5, 5, 5]]), 20, 30) == [
        (2, 3, 7, 8),
        (0, 0, 29, 19),
        (5, 5, 5, 5),
    ]


def test_a_saved_detector_finds_the_same(detector: BoxDetector, tmp_path: Path) -> None:
    detector.threshold = 0.0
    detector.save(tmp_path / "bundle", licence="none")
    again = BoxDetector(str(tmp_path / "bundle")).eval()
    assert again.fingerprint == detector.fingerprint
    assert again.detect(IMAGE)[0] == detector.detect(IMAGE)[0]
    prompts = DetectorPrompter(str(tmp_path / "bundle"))(IMAGE)
    assert prompts.boxes is not None
    assert prompts.boxes.tolist() == [list(box) for box in detector.detect(IMAGE)[0]]


@pytest.mark.parametrize(("key", "value"), [("architecture", "vit"), ("image_size", "64"), ("threshold", None)])
def test_a_bundle_of_another_model_is_refused(detector: BoxDetector, tmp_path: Path, key: str, value: object) -> None:
    detector.save(tmp_path)
    info = json.loads((tmp_path / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps({**info, key: value}))
    with pytest.raises(FormatError, match="a detector over"):
        BoxDetector(str(tmp_path))


def test_a_missing_bundle_and_a_tiny_input_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingPathError):
        DetectorPrompter(str(tmp_path / "none"))
    with pytest.raises(InputError, match="image_size >= 64"):
        BoxDetector("random", image_size=16)


def test_training_learns_one_object() -> None:
    """A white square on black: after some steps the best box is on it."""
    torch.manual_seed(0)
    model = BoxDetector("random", image_size=64).train()
    image = np.zeros((64, 64, 3), np.uint8)
    image[16:48, 12:44] = 255
    pixels = torch.from_numpy(image.transpose(2, 0, 1).copy()).float() / 255
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-3)
    first = last = 0.0
    for step in range(25):
        total = torch.stack(list(model.losses([pixels] * 2, [torch.tensor([[12.0, 16, 44, 48]])] * 2).values())).sum()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        first, last = (total.item(), last) if step == 0 else (first, total.item())
    assert last < 0.7 * first
    frozen = model.fcos.backbone.body.conv_stem.weight
    assert frozen.grad is None


def test_boxes_become_regions_with_full_masks_and_their_scores() -> None:
    segmenter = nv.Segmenter(BoxPrompter([(2, 3, 29, 30), (50, 10, 70, 40)]), BoxModel())
    regions = segmenter(IMAGE)
    assert {region.box for region in regions} == {(2, 3, 29, 30), (50, 10, 70, 40)}
    assert all(region.mask.all() for region in regions)


def test_points_are_refused_by_the_box_model() -> None:
    with pytest.raises(InputError, match="expected box prompts"):
        nv.Segmenter(nv.GridPrompter(2), BoxModel())(IMAGE)


def test_another_threshold_changes_the_segmenters_fingerprint(detector: BoxDetector, tmp_path: Path) -> None:
    detector.save(tmp_path)
    one, other = (nv.Segmenter(DetectorPrompter(str(tmp_path), at), BoxModel()) for at in (0.1, 0.2))
    assert one.fingerprint != other.fingerprint
