"""Images with masks, their prompts, and the batches that a promptable model learns from."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from naruto_vision.data.masks import (
    CocoMasks,
    MaskData,
    MaskedImage,
    MaskSource,
    SyntheticMasks,
    all_prompts,
    box_around,
    collate,
    point_in,
    sample_prompts,
    to_square,
)
from naruto_vision.errors import FormatError, InputError, MissingPathError
from naruto_vision.geometry import rle_from_mask
from naruto_vision.io.images import write_image
from naruto_vision.records import Mask
from naruto_vision.segmentation.training import PromptBatch


def _folder(tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    masks = np.zeros((2, 20, 30), dtype=bool)
    masks[0, 3:9, 4:10] = masks[1, 10:18, 11:29] = True
    write_image(tmp_path / "images" / "a.png", np.full((20, 30, 3), 7, np.uint8))
    write_image(tmp_path / "images" / "b.png", np.full((20, 30, 3), 9, np.uint8))
    annotations = [{"image_id": 5, "segmentation": rle_from_mask(mask), "category_id": 1} for mask in masks]
    images = [{"id": 5, "file_name": "a.png"}, {"id": 8, "file_name": "b.png"}]
    record = {"images": images, "annotations": annotations}
    _write(tmp_path, record)
    return tmp_path, record


def _write(folder: Path, record: object) -> None:
    (folder / "coco.json").write_text(json.dumps(record), encoding="utf-8")


def test_a_coco_folder_gives_images_and_masks(tmp_path: Path) -> None:
    folder, _ = _folder(tmp_path)
    source = CocoMasks(str(folder))
    assert len(source) == 2
    image, masks = source[0]
    assert (image == 7).all()
    assert masks.shape == (2, 20, 30)
    assert masks[1, 10:18, 11:29].all()
    assert masks.sum() == 36 + 144
    assert source[1].masks.shape == (0, 20, 30)


def test_what_is_no_coco_truth_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingPathError, match=r"coco\.json"):
        CocoMasks(str(tmp_path))
    folder, record = _folder(tmp_path)
    for broken in ([], {"images": []}, {**record, "images": [{"id": 5}]}, {**record, "images": record["images"][1:]}):
        _write(folder, broken)
        with pytest.raises(FormatError, match=r"coco\.json"):
            CocoMasks(str(folder))


@pytest.mark.parametrize(
    "segmentation", [[[1, 2, 3, 4]], {"size": [20, 30], "counts": "P"}, {"size": [2, 2], "counts": [4]}]
)
def test_a_broken_mask_names_its_image(tmp_path: Path, segmentation: object) -> None:
    folder, record = _folder(tmp_path)
    record["annotations"][0]["segmentation"] = segmentation
    _write(folder, record)
    with pytest.raises(FormatError, match=r"a\.png"):
        CocoMasks(str(folder))[0]


def test_drawn_scenes_are_the_same_whenever_asked_and_differ_between_seeds() -> None:
    source = SyntheticMasks(seed=4, count=3, size=64)
    first, again, other = source[1], source[1], SyntheticMasks(seed=5, count=3, size=64)[1]
    assert (first.image == again.image).all()
    assert (first.masks == again.masks).all()
    assert (first.image != other.image).any()
    assert first.masks.shape[1:] == (64, 64)
    with pytest.raises(IndexError):
        source[3]


def _scene(height: int = 40, width: int = 60, figures: int = 2) -> MaskedImage:
    masks = np.zeros((figures, height, width), dtype=bool)
    image = np.zeros((height, width, 3), dtype=np.uint8)
    for row in range(figures):
        masks[row, 5 + row : 25 + row, 2 + 20 * row : 18 + 20 * row] = True
        image[masks[row]] = 90 + 60 * row
    return MaskedImage(image, masks)


class Scenes(MaskSource):
    """Five scenes whose top-left pixel says which they are."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> MaskedImage:
        self.asked.append(index)
        scene = _scene(32, 32, figures=1)
        scene.image[0] = index + 1
        return scene


def test_a_scene_is_scaled_into_the_square_with_its_masks() -> None:
    square = to_square(_scene(), 30)
    assert square.image.shape == (30, 30, 3)
    assert (square.image[20:] == 0).all()
    assert square.masks.shape == (2, 30, 30)
    assert not square.masks[:, 20:].any()
    assert abs(int(square.masks[0].sum()) - 80) <= 20  # 20x16 pixels at half scale
    assert (square.image[7, 4] == 90).all()


def test_a_mask_that_vanishes_is_left_out() -> None:
    scene = _scene()
    scene.masks[1] = False
    scene.masks[1, 0, 0] = True
    assert len(to_square(scene, 12).masks) == 1


def test_points_lie_in_the_mask_and_boxes_around_it() -> None:
    rng = np.random.default_rng(0)
    mask = _scene().masks[1]
    points = np.array([point_in(mask, rng) for _ in range(200)]).astype(int)
    assert mask[points[:, 1], points[:, 0]].all()
    assert len(np.unique(points, axis=0)) > 100
    assert box_around(mask, rng, 0.0).tolist() == [22, 6, 37, 25]
    boxes = np.array([box_around(mask, rng, 0.1) for _ in range(100)])
    assert (np.abs(boxes - [22, 6, 37, 25]) <= 2).all()
    assert boxes.std(axis=0).min() > 0.3


def test_training_asks_figures_and_the_background_and_flips() -> None:
    scene = to_square(_scene(), 60)
    flipped = 0
    for seed in range(40):
        asked = sample_prompts(scene, np.random.default_rng(seed), figures=2, off_figure=1, boxes=0.5)
        assert len(asked.points) + len(asked.boxes) == 3
        for (x, y), mask in zip(asked.points.astype(int), asked.point_masks, strict=True):
            on_figure = asked.image[y, x, 0] > 60
            assert on_figure == mask.any()
            assert bool(mask[y, x]) == bool(on_figure)
        flipped += bool(asked.image[10, 50, 0] > 60)
    assert 8 < flipped < 32


def test_a_scene_without_figures_asks_the_background_alone() -> None:
    asked = sample_prompts(_scene(figures=0), np.random.default_rng(0), figures=3, off_figure=2, boxes=0.5)
    assert asked.points.shape == (2, 2)
    assert asked.boxes.shape == (0, 4)
    assert not asked.point_masks.any()


def test_a_figure_that_fills_the_image_leaves_no_background_to_ask() -> None:
    full = MaskedImage(np.zeros((8, 8, 3), np.uint8), np.ones((1, 8, 8), dtype=bool))
    assert len(sample_prompts(full, np.random.default_rng(0), figures=1, off_figure=1, boxes=0.0).points) == 1


def test_a_batch_keeps_prompts_with_their_images_and_masks() -> None:
    items = [all_prompts(to_square(_scene(figures=count), 60), np.random.default_rng(count)) for count in (2, 0, 1)]
    batch = collate(items)
    assert batch.pixels.shape == (3, 3, 60, 60)
    assert batch.image.tolist() == [0, 0, 2, 0, 0, 2]
    for row, (x, y) in enumerate(batch.points.long().tolist()):
        assert batch.masks[row, y, x]
    for row, (x1, y1, x2, y2) in enumerate(batch.boxes.long().tolist(), len(batch.points)):
        assert batch.masks[row].any(dim=0).nonzero().flatten()[[0, -1]].tolist() == [x1, x2]
        assert batch.masks[row].any(dim=1).nonzero().flatten()[[0, -1]].tolist() == [y1, y2]


def _epoch(data: MaskData) -> list[PromptBatch]:
    return list(data.train_dataloader())


@pytest.mark.parametrize(("workers", "keep"), [(0, False), (1, True)])
def test_batches_depend_on_the_seed_alone(workers: int, keep: bool) -> None:
    plain = MaskData(Scenes(), Scenes(), side=32, batch_size=2, epoch_batches=4, seed=3)
    other = MaskData(Scenes(), Scenes(), side=32, batch_size=2, epoch_batches=4, seed=3, num_workers=workers, keep=keep)
    for first, second in zip(_epoch(plain), _epoch(other), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    changed = MaskData(Scenes(), Scenes(), side=32, batch_size=2, epoch_batches=4, seed=4)
    assert any(not torch.equal(a.points, b.points) for a, b in zip(_epoch(plain), _epoch(changed), strict=True))


def test_every_scene_comes_once_before_any_comes_again_and_is_made_once() -> None:
    source = Scenes()
    data = MaskData(source, Scenes(), side=32, batch_size=1, epoch_batches=10)
    seen = [int(batch.pixels[0, 0, 0, 0]) for batch in _epoch(data)]
    assert sorted(seen[:5]) == sorted(seen[5:]) == [1, 2, 3, 4, 5]
    assert len(source.asked) == 5


def test_validation_is_every_figure_in_order_and_always_the_same() -> None:
    data = MaskData(Scenes(), Scenes(), side=32, batch_size=2)
    first, second = list(data.val_dataloader()), list(data.test_dataloader())
    assert [len(batch.points) for batch in first] == [2, 2, 1]
    assert all(torch.equal(a.points, b.points) for a, b in zip(first, second, strict=True))


def test_unequal_numbers_of_points_and_boxes_stay_with_their_images() -> None:
    two, none, one = (
        all_prompts(to_square(_scene(figures=count), 60), np.random.default_rng(0)) for count in (2, 0, 1)
    )
    items = [two._replace(boxes=two.boxes[:0], box_masks=two.box_masks[:0]), none, one]
    batch = collate(items)
    assert batch.image.tolist() == [0, 0, 2, 2]
    assert batch.masks.shape[0] == 4


def test_a_scene_that_comes_again_is_asked_about_differently() -> None:
    data = MaskData(Scenes(), Scenes(), side=32, batch_size=5, epoch_batches=2, boxes=0.0)
    first, second = _epoch(data)
    assert not torch.equal(first.points.sort(dim=0).values, second.points.sort(dim=0).values)
    assert len(torch.unique(first.points, dim=0)) == len(first.points)


_QUICK = settings(max_examples=40, deadline=None, derandomize=True)


_SEED = st.integers(0, 10_000)


_SIDE = st.integers(1, 40)


def _mask(box: tuple[int, int, int, int], height: int, width: int) -> Mask:
    mask = np.zeros((height, width), dtype=np.bool_)
    mask[box[1] : box[3] + 1, box[0] : box[2] + 1] = True
    return mask


@_QUICK
@given(_SIDE, _SIDE, st.integers(4, 32))
def test_squares_hold_the_whole_scene_at_one_scale(height: int, width: int, side: int) -> None:
    image = np.full((height, width, 3), 200, np.uint8)
    square = to_square(MaskedImage(image, np.ones((1, height, width), dtype=np.bool_)), side)
    lit = square.image[..., 0] == 200
    assert (lit.any(axis=0).sum(), lit.any(axis=1).sum())[height > width] == side
    assert np.array_equal(square.masks[0], lit)
    short, long = sorted((height, width))
    assert min(lit.any(axis=0).sum(), lit.any(axis=1).sum()) == max(1, int(short * side / long + 0.5))


@_QUICK
@given(st.integers(2, 20), st.integers(2, 20), _SEED, st.floats(0, 0.5))
def test_boxes_stay_inside_the_image_and_near_the_mask(height: int, width: int, seed: int, jitter: float) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random((height, width)) < 0.2
    mask[int(rng.integers(height)), int(rng.integers(width))] = True
    x1, y1, x2, y2 = box_around(mask, rng, jitter).tolist()
    assert 0 <= x1 <= width - 1
    assert 0 <= y2 <= height - 1
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    reach = jitter * (columns[-1] - columns[0] + 1) + 1e-4
    assert abs(x1 - columns[0]) <= reach
    assert abs(x2 - columns[-1]) <= reach
    assert abs(y1 - rows[0]) <= jitter * (rows[-1] - rows[0] + 1) + 1e-4
    x, y = point_in(mask, rng).astype(int)
    assert mask[y, x]


def test_an_edge_never_moves_by_more_than_twenty_pixels() -> None:
    mask = _mask((100, 100, 899, 899), 1000, 1000)
    boxes = np.array([box_around(mask, np.random.default_rng(seed), 0.5) for seed in range(100)])
    moved = np.abs(boxes - [100, 100, 899, 899])
    assert moved.max() <= 20
    assert moved.max() > 15


@pytest.mark.parametrize("boxes", [0.0, 1.0])
@pytest.mark.parametrize(("figures", "asked"), [(0, 0), (1, 1), (2, 2), (9, 2)])
def test_as_many_figures_are_asked_for_as_wanted_and_there(boxes: float, figures: int, asked: int) -> None:
    masks = np.stack([_mask((0, 0, 3, 3), 20, 20), _mask((10, 10, 15, 15), 20, 20)])
    scene = MaskedImage(np.zeros((20, 20, 3), np.uint8), masks)
    found = sample_prompts(scene, np.random.default_rng(0), figures=figures, off_figure=2, boxes=boxes)
    assert len(found.boxes) == (asked if boxes else 0)
    assert len(found.points) == 2 + (0 if boxes else asked)
    assert len(found.point_masks) == len(found.points)
    assert len(found.box_masks) == len(found.boxes)
    assert found.points.dtype == found.boxes.dtype == np.dtype(np.float32)


def test_validation_asks_with_the_exact_box_of_every_figure() -> None:
    masks = np.stack([_mask((0, 1, 3, 4), 20, 20), _mask((10, 11, 15, 19), 20, 20)])
    asked = all_prompts(MaskedImage(np.zeros((20, 20, 3), np.uint8), masks), np.random.default_rng(0))
    assert asked.boxes.tolist() == [[0, 1, 3, 4], [10, 11, 15, 19]]
    assert np.array_equal(asked.point_masks, masks)
    assert all(mask[int(y), int(x)] for mask, (x, y) in zip(masks, asked.points, strict=True))


def test_a_batch_of_one_image_without_prompts() -> None:
    asked = all_prompts(
        MaskedImage(np.zeros((8, 8, 3), np.uint8), np.zeros((0, 8, 8), np.bool_)), np.random.default_rng(0)
    )
    batch = collate([asked])
    assert tuple(batch.pixels.shape) == (1, 3, 8, 8)
    assert tuple(batch.points.shape) == (0, 2)
    assert tuple(batch.boxes.shape) == (0, 4)
    assert tuple(batch.masks.shape) == (0, 8, 8)
    assert batch.image.tolist() == []


def test_images_that_cannot_be_decoded_are_left_out_of_training_and_validation(tmp_path: Path) -> None:
    folder, _ = _folder(tmp_path)
    whole = MaskData(CocoMasks(str(folder)), CocoMasks(str(folder)), side=32, batch_size=2, max_bad_fraction=0.5)
    assert [len(batch.pixels) for batch in whole.val_dataloader()] == [2]
    (folder / "images" / "b.png").write_bytes(b"no image")
    data = MaskData(CocoMasks(str(folder)), CocoMasks(str(folder)), side=32, batch_size=2, max_bad_fraction=0.5)
    assert [len(batch.pixels) for batch in data.val_dataloader()] == [1]
    assert [len(batch.pixels) for batch in data.train_dataloader()] == [2]  # the next image stands in
    assert [row.path for row in data.quarantines["valid"].rows] == ["b.png"]
    strict = MaskData(CocoMasks(str(folder)), CocoMasks(str(folder)), side=32, batch_size=2)
    with pytest.raises(InputError, match="1 of 2 images of split 'train' cannot be read"):
        list(strict.train_dataloader())
