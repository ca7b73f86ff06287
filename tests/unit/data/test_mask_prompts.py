import numpy as np
import pytest
import torch

from naruto_vision.data.masks import (
    MaskData,
    MaskedImage,
    MaskSource,
    all_prompts,
    box_around,
    collate,
    point_in,
    sample_prompts,
    to_square,
)
from naruto_vision.segmentation.training import PromptBatch


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
