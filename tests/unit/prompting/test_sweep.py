from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from naruto_vision.errors import InputError
from naruto_vision.geometry import xyxy_from_mask
from naruto_vision.prompting.contours import ContourPrompter
from naruto_vision.prompting.sweep import SweepConfig, SweepSegmenter, Swept
from naruto_vision.records import ImageArray, Mask, Region
from naruto_vision.segmentation.generator import RegionFilter
from naruto_vision.segmentation.prompts import BoxPrompter, GridPrompter
from naruto_vision.segmentation.protocol import FullMask, MaskPredictions, MaskThresholds, Prompts, SceneEmbedding
from naruto_vision.segmentation.sam import SamModel
from naruto_vision.segmentation.sam2 import Sam2Model, Sam2Size

HEIGHT, WIDTH = 24, 32
IMAGE = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
GRID = ContourPrompter(grid=(8, 6))
EVERYTHING = SweepConfig(min_area=1, same_iou=1.0)


def box_mask(x1: int, y1: int, x2: int, y2: int) -> Mask:
    mask = np.zeros((HEIGHT, WIDTH), np.bool_)
    mask[y1 : y2 + 1, x1 : x2 + 1] = True
    return mask


class PointModel:
    """Answers each point with the masks, (H, W) of any size, and estimated IoUs that a function gives."""

    thresholds = MaskThresholds()
    fingerprint = "points"

    def __init__(self, answer: Callable[[int, int], list[tuple[Mask, float]]]) -> None:
        self.answer = answer
        self.calls, self.embedded = list[int](), 0

    def embed(self, image: ImageArray) -> SceneEmbedding:
        self.embedded += 1
        return SceneEmbedding(torch.zeros(1), image.shape[:2], image.shape[:2])

    def predict_masks(
        self, _: SceneEmbedding, prompts: Prompts, above: float, batch: int | None = None
    ) -> Iterator[MaskPredictions]:
        self.calls.append(len(prompts.points))
        for start in range(0, len(prompts.points), batch or 5):
            rows = [
                (index, torch.from_numpy(mask.astype(np.float32)) * 20 - 10, iou)
                for index in range(start, min(start + (batch or 5), len(prompts.points)))
                for mask, iou in self.answer(*_asked(prompts, index))
                if iou > above
            ]
            if rows:
                index, logits, ious = zip(*rows, strict=True)
                yield MaskPredictions(torch.tensor(index), torch.stack(logits), torch.tensor(ious))

    def full_masks(self, logits: Tensor, embedding: SceneEmbedding, *_: float) -> Iterator[FullMask]:
        height, width = embedding.original_size
        for index, each in enumerate(logits.numpy()):
            whole = cv2.resize(each, (width, height), interpolation=cv2.INTER_NEAREST) > 0
            if (box := xyxy_from_mask(whole)) is not None:
                yield FullMask(index, box, whole[box[1] : box[3] + 1, box[0] : box[2] + 1], 1.0)


def _asked(prompts: Prompts, index: int) -> tuple[int, int]:
    if prompts.boxes is not None:
        return tuple(prompts.boxes[index].astype(int).tolist()[:2])
    return tuple(prompts.points[index, 0].astype(int).tolist())


def always(*masks: Mask) -> Callable[[int, int], list[tuple[Mask, float]]]:
    """Answer every point with the masks in a fixed order, one mask for each point in turn."""
    seen: dict[tuple[int, int], Mask] = {}

    def answer(x: int, y: int) -> list[tuple[Mask, float]]:
        return [(seen.setdefault((x, y), masks[len(seen) % len(masks)]), 0.9)]

    return answer


def random_answers(seed: int) -> Callable[[int, int], list[tuple[Mask, float]]]:
    """Answer each point with three rectangles, most of which have the point inside; some are empty or tiny."""

    def answer(x: int, y: int) -> list[tuple[Mask, float]]:
        rng = np.random.default_rng((seed, x, y))
        found = []
        for _ in range(3):
            left, up, right, down = rng.integers(-2, 8, 4)
            found.append((box_mask(max(x - left, 0), max(y - up, 0), x + right, y + down), float(rng.random())))
        return found

    return answer


def one_by_one(model: PointModel, points: Sequence[tuple[int, int]], config: SweepConfig) -> list[tuple[int, Mask]]:
    """Sweep by the plain sequential definition: the number of the point and the mask (H, W) of each region."""
    ignored, kept = np.zeros((HEIGHT, WIDTH), np.bool_), list[tuple[int, Mask]]()
    for number, (x, y) in enumerate(points):
        if config.mode != "overlap_tolerance" and ignored[y, x]:
            continue
        answers = model.answer(x, y)
        whole, iou = answers[0] if config.mask == "first" else max(answers, key=lambda pair: pair[1])
        mask = whole & ~ignored if config.mode == "subtract" else whole
        tolerance = 1.0 if config.mode == "skip" else config.tolerance
        wanted = iou > config.predicted_iou and mask.sum() >= config.min_area
        wanted = wanted and (whole & ignored).sum() <= tolerance * whole.sum()
        if wanted and all((mask & other).sum() / (mask | other).sum() <= config.same_iou for _, other in kept):
            kept.append((number, mask))
            if whole.sum() <= config.max_cover * mask.size:
                ignored |= mask
    return kept


@pytest.mark.parametrize("mask", ["best", "first"])
@pytest.mark.parametrize("mode", ["skip", "subtract", "overlap_tolerance"])
def test_batches_give_what_asking_one_by_one_gives(mode: str, mask: str) -> None:
    kept = 0
    for seed in range(6):
        rng = np.random.default_rng(seed)
        config = SweepConfig(
            mode=mode,
            mask=mask,
            tolerance=float(rng.choice([0.0, 0.3, 0.7])),
            min_area=int(rng.choice([1, 10, 30])),
            predicted_iou=float(rng.choice([0.0, 0.4])),
            same_iou=float(rng.choice([0.4, 0.8, 1.0])),
            max_cover=float(rng.choice([0.1, 1.0])),
        )
        model = PointModel(random_answers(seed))
        swept = SweepSegmenter(model, GRID, config).sweep(IMAGE)
        points = [(x, y) for x, y in GRID.find(IMAGE).points.tolist()]
        expected = one_by_one(model, points, config)
        assert list(swept.points) == [points[number] for number, _ in expected]
        found = [region.full_mask(HEIGHT, WIDTH) for region in swept.regions]
        assert all(np.array_equal(one, other) for one, (_, other) in zip(found, expected, strict=True))
        assert len(model.calls) < swept.asked
        kept += len(expected)
    assert kept > 20


SMALL = Sam2Size(
    width=16, heads=1, blocks=(1, 2, 3, 1), global_blocks=(4,), windows=(8, 4, 6, 2), position_grid=4, image_size=128,
    decoder_width=32, decoder_heads=2, decoder_mlp=48, iou_hidden=16,
)  # fmt: skip


@pytest.mark.parametrize("version", [1, 2])
def test_batches_of_a_real_model_give_its_single_answers(version: int) -> None:
    torch.manual_seed(3)
    model = (SamModel("tiny-sam") if version == 1 else Sam2Model(architecture=SMALL)).eval()
    image = np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8)
    swept = SweepSegmenter(model, GRID, EVERYTHING).sweep(image)
    assert len(swept.regions) > 0
    embedding, prompts = model.embed(image), GRID(image)
    for region, point in list(zip(swept.regions, swept.points, strict=True))[:6]:
        row = [int(np.flatnonzero((prompts.points[:, 0] == point).all(axis=1))[0])]
        single = Prompts(prompts.points[row], prompts.labels[row])
        (decoded,) = model.predict_masks(embedding, single, -1e9)
        (full,) = model.full_masks(decoded.logits[decoded.ious.argmax()][None], embedding, 0.0, 1.0)
        alone = Region(full.box, full.mask).full_mask(40, 56)
        assert (alone & region.full_mask(40, 56)).sum() / (alone | region.full_mask(40, 56)).sum() >= 0.99


def test_points_inside_what_is_covered_are_skipped_and_the_cover_grows() -> None:
    model = PointModel(lambda x, _: [(box_mask(0, 0, 15, 23) if x < 16 else box_mask(16, 0, 31, 23), 0.9)])
    swept = SweepSegmenter(model, GRID).sweep(IMAGE)
    assert [region.box for region in swept.regions] == [(0, 0, 15, 23), (16, 0, 31, 23)]
    assert swept.covered == 1.0
    assert swept.asked == 2
    assert swept.skipped == {"covered": 46}


def test_masks_that_are_empty_or_too_small_are_skipped_and_counted() -> None:
    def answer(x: int, _: int) -> list[tuple[Mask, float]]:
        return [(box_mask(x, 0, x, 0) if x > 16 else np.zeros((HEIGHT, WIDTH), np.bool_), 0.5)]

    swept = SweepSegmenter(PointModel(answer), GRID, SweepConfig(min_area=2)).sweep(IMAGE)
    assert swept.regions == ()
    assert swept.skipped == {"no mask": 24, "too small": 24}


def test_points_of_the_user_come_first_and_those_outside_the_image_are_skipped() -> None:
    model = PointModel(lambda x, y: [(box_mask(x, y, x + 1, y + 1), 0.9)])
    swept = SweepSegmenter(model, GRID, EVERYTHING).sweep(IMAGE, points=[(40, 2), (20.5, 9.0), (3, 24), (2, 6)])
    assert swept.points[:2] == ((20, 9), (2, 6))
    assert swept.sources == ("user",) * 2 + ("grid",) * 47  # one of the grid is the user's
    assert swept.regions[0].prompt.points == ((20.5, 9.0, True),)
    assert swept.skipped["outside the image"] == 2


def test_points_and_boxes_of_other_prompters_come_before_contours() -> None:
    model = PointModel(lambda x, y: [(box_mask(x, y, x + 3, y + 3), 0.9)])
    before = [GridPrompter(1), BoxPrompter([(20, 2, 29, 11)])]
    swept = SweepSegmenter(model, GRID, EVERYTHING, before).sweep(IMAGE)
    assert swept.sources[:3] == ("grid", "box", "grid")
    assert swept.regions[1].prompt.box == (20.0, 2.0, 29.0, 11.0)
    assert swept.points[:2] == ((16, 12), (24, 6))  # the middle of a box stands for it


def test_regions_of_subtract_share_no_pixel() -> None:
    swept = SweepSegmenter(
        PointModel(random_answers(1)), GRID, SweepConfig(mode="subtract", min_area=3, tolerance=0.9)
    ).sweep(IMAGE)
    masks = np.array([region.full_mask(HEIGHT, WIDTH) for region in swept.regions])
    assert len(masks) > 3
    assert masks.sum(axis=0).max() == 1


def test_a_mask_is_tolerated_up_to_the_covered_fraction() -> None:
    first, second = box_mask(0, 0, 9, 9), box_mask(5, 0, 14, 9)  # half of the second is covered by the first
    for mode in ("subtract", "overlap_tolerance"):
        for tolerance, count in ((0.49, 1), (0.5, 2)):
            config = SweepConfig(mode=mode, tolerance=tolerance, min_area=1)
            assert len(SweepSegmenter(PointModel(always(first, second)), GRID, config).sweep(IMAGE).regions) == count


def test_a_mask_that_is_too_large_is_kept_once_and_hides_nothing() -> None:
    small = box_mask(20, 10, 27, 17)

    def answer(x: int, y: int) -> list[tuple[Mask, float]]:
        return [(small if small[y, x] else np.ones((HEIGHT, WIDTH), np.bool_), 0.9)]

    hidden = SweepSegmenter(PointModel(answer), GRID).sweep(IMAGE)
    assert [region.area for region in hidden.regions] == [HEIGHT * WIDTH]
    swept = SweepSegmenter(PointModel(answer), GRID, SweepConfig(max_cover=0.5)).sweep(IMAGE)
    assert sorted(region.area for region in swept.regions) == [64, HEIGHT * WIDTH]
    assert swept.covered == pytest.approx(64 / (HEIGHT * WIDTH))


def test_repeated_masks_are_dropped_unless_all_are_wanted() -> None:
    figure = box_mask(24, 0, 31, 23)  # every point of the background is answered with it
    dropped = SweepSegmenter(PointModel(lambda *_: [(figure, 0.9)]), GRID).sweep(IMAGE)
    assert (len(dropped.regions), dropped.skipped["repeated"]) == (1, 35)
    kept = SweepSegmenter(PointModel(lambda *_: [(figure, 0.9)]), GRID, SweepConfig(same_iou=1.0)).sweep(IMAGE)
    assert len(kept.regions) == 36


def test_pixels_may_be_ignored_from_the_start_by_a_mask_of_another_size() -> None:
    model = PointModel(lambda x, y: [(box_mask(x, y, x, y), 0.9)])
    left = np.array([[True, False]])
    swept = SweepSegmenter(model, GRID, EVERYTHING).sweep(IMAGE, ignored=left)
    assert len(swept.regions) == 24
    assert min(x for x, _ in swept.points) >= 16


def test_a_larger_image_is_swept_small_and_its_regions_have_its_own_pixels(caplog: pytest.LogCaptureFixture) -> None:
    small = box_mask(4, 4, 19, 15)
    model = PointModel(lambda x, _: [(small if x < 64 else box_mask(16, 0, 31, 23), 0.9)])
    image = np.zeros((HEIGHT * 3, WIDTH * 3, 3), np.uint8)
    points = ContourPrompter(grid=(8, 6), max_size=(WIDTH, HEIGHT))
    segmenter = SweepSegmenter(model, points, SweepConfig(mode="subtract"))
    for _ in range(2):
        swept = segmenter.sweep(image)
    assert [region.box for region in swept.regions] == [(12, 12, 59, 47), (48, 0, 95, 71)]
    assert [region.area for region in swept.regions] == [48 * 36, 48 * 72 - 12 * 36]  # without what they share
    assert swept.points == ((7, 7), (67, 7))
    assert [record.message for record in caplog.records] == [
        "images of 96x72 are swept at 32x24, and their regions given at full size; see max_size"
    ]


@pytest.mark.parametrize(("order", "first"), [("area", (2, 2)), ("centre", (14, 10)), ("iou", (30, 2))])
def test_the_order_of_points_is_an_option(order: str, first: tuple[int, int]) -> None:
    model = PointModel(lambda x, y: [(box_mask(x, y, x, y), 0.3 + x / 100 - y / 1000)])
    swept = SweepSegmenter(model, GRID, replace(EVERYTHING, order=order)).sweep(IMAGE)
    assert swept.points[0] == first
    assert len(swept.points) == 48


def test_order_stability_is_1_for_masks_apart_and_less_where_the_first_hides_the_second() -> None:
    apart = PointModel(lambda x, _: [(box_mask(x // 8 * 8, 0, x // 8 * 8 + 7, 23), 0.9)])
    found = SweepSegmenter(apart, GRID).order_stability(IMAGE, orders=3)
    assert found.as_json()["regions_found_again"] == {"mean": 1.0, "min": 1.0}
    assert found.union_iou == (1.0,) * 3
    assert found.regions == (4,) * 4
    assert sum(apart.calls) <= 48  # every point at most once for all orders
    nested = PointModel(lambda x, y: [(box_mask(0, 0, x, y), 0.9)])
    loose = SweepSegmenter(nested, GRID).order_stability(IMAGE, orders=5)
    assert loose.as_json()["regions_found_again"]["mean"] < 1
    assert loose == SweepSegmenter(nested, GRID).order_stability(IMAGE, orders=5)
    with pytest.raises(InputError, match="at least one random order"):
        SweepSegmenter(apart, GRID).order_stability(IMAGE, orders=0)


def test_order_stability_of_nothing_found() -> None:
    nothing = PointModel(lambda *_: [])
    assert SweepSegmenter(nothing, GRID).order_stability(IMAGE, orders=2).found == (1.0, 1.0)


def test_a_call_returns_the_regions_of_the_filter_and_takes_an_embedding() -> None:
    model = PointModel(lambda x, y: [(box_mask(x, y, x + y // 8, y), 0.9)])
    segmenter = SweepSegmenter(model, GRID, EVERYTHING, keep=RegionFilter(min_area=2, max_masks=5))
    (embedding,) = segmenter.embed_all([IMAGE])
    regions: list[Region] = segmenter(IMAGE, embedding)
    assert [region.area for region in regions] == [3] * 5
    assert model.embedded == 1


def test_every_setting_changes_the_fingerprint() -> None:
    model = PointModel(lambda *_: [])
    kinds = [
        SweepSegmenter(model),
        SweepSegmenter(model, GRID),
        SweepSegmenter(model, sweep=SweepConfig(mode="subtract")),
        SweepSegmenter(model, before=[GridPrompter(2)]),
        SweepSegmenter(model, before=[GridPrompter(3)]),
        SweepSegmenter(model, keep=RegionFilter(min_area=1)),
    ]
    assert len({each.fingerprint for each in kinds}) == len(kinds)


@pytest.mark.parametrize("settings", [{"tolerance": 1.1}, {"min_area": 0}, {"max_cover": -0.1}, {"same_iou": 2.0}])
def test_wrong_settings_are_told(settings: dict[str, float]) -> None:
    with pytest.raises(InputError, match="sweep: expected"):
        SweepConfig(**settings)


def test_nothing_to_ask_is_no_error() -> None:
    swept: Swept = SweepSegmenter(PointModel(lambda *_: []), ContourPrompter(grid=(0, 0))).sweep(IMAGE)
    assert (swept.regions, swept.asked, swept.covered) == ((), 0, 0.0)
