"""Prompts of one object: history, three masks, metrics, refining, cleaning, choice by name."""

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from packaged_models import tiny_sam
from torch import Tensor

import naruto_vision as nv
from naruto_vision.errors import InputError
from naruto_vision.prompting.session import PromptSession, clean_mask, draw_prompts
from naruto_vision.prompting.user import UserPrompts, read_prompts
from naruto_vision.prompting.writer import components, perimeter
from naruto_vision.records import Identity, ImageArray, Mask, Region
from naruto_vision.segmentation.postprocess import xyxy_from_masks
from naruto_vision.segmentation.protocol import (
    FullMask,
    MaskPredictions,
    MaskThresholds,
    Prompts,
    SceneEmbedding,
)

HEIGHT, WIDTH = 60, 80
IMAGE = np.full((HEIGHT, WIDTH, 3), 100, np.uint8)


def disc(x: int, y: int, radius: int) -> Mask:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    return np.asarray((rows - y) ** 2 + (columns - x) ** 2 <= radius**2)


class Answers:
    """Answers every prompt with given masks (3, H, W) and scores, and keeps what it was asked."""

    thresholds = MaskThresholds()
    fingerprint = "0" * 64

    def __init__(self, masks: Sequence[Mask], scores: Sequence[float]) -> None:
        self.logits = torch.from_numpy(np.stack(masks)).float() * 20 - 10
        self.scores = torch.tensor(scores)
        self.asked: list[Prompts] = []
        self.embedded = 0

    def embed(self, image: ImageArray) -> SceneEmbedding:
        self.embedded += 1
        return SceneEmbedding(None, image.shape[:2], image.shape[:2])

    def predict_masks(
        self, _embedding: SceneEmbedding, prompts: Prompts, above: float, _batch: int | None = None
    ) -> Iterator[MaskPredictions]:
        self.asked.append(prompts)
        wanted = self.scores > above
        yield MaskPredictions(
            torch.zeros(int(wanted.sum()), dtype=torch.long), self.logits[wanted], self.scores[wanted]
        )

    def full_masks(
        self, logits: Tensor, _embedding: SceneEmbedding, _stability: float, _offset: float
    ) -> Iterator[FullMask]:
        for index, box in enumerate(xyxy_from_masks(logits > 0).tolist()):
            if (logits[index] > 0).any():
                x1, y1, x2, y2 = box
                yield FullMask(index, (x1, y1, x2, y2), (logits[index] > 0).numpy()[y1 : y2 + 1, x1 : x2 + 1], 1.0)


@pytest.fixture
def model() -> Answers:
    return Answers([disc(30, 30, 5), disc(30, 30, 12), np.zeros((HEIGHT, WIDTH), bool)], [0.7, 1.0119, 0.4])


@pytest.fixture
def session(model: Answers) -> PromptSession:
    return PromptSession(IMAGE, model)


def test_three_masks_of_a_box_and_points_on_object_and_background(session: PromptSession, model: Answers) -> None:
    session.set_box(10, 8, 50, 52)
    session.add_point(30, 30)
    session.add_point(60, 5, positive=False)
    found = session.predict()
    assert len(found.masks) == 3
    (asked,) = model.asked
    assert asked.points.tolist() == [[[30, 30], [60, 5]]]
    assert asked.labels.tolist() == [[1, 0]]
    assert asked.boxes is not None
    assert asked.boxes.tolist() == [[10, 8, 50, 52]]
    region = found.mask.region
    assert region is not None
    assert region.prompt.points == ((30.0, 30.0, True), (60.0, 5.0, False))
    assert region.prompt.box == (10.0, 8.0, 50.0, 52.0)


def test_the_default_is_the_highest_score_which_may_exceed_one_and_any_may_be_chosen(session: PromptSession) -> None:
    session.add_point(30, 30)
    assert session.predict().chosen == 1
    assert session.predict().mask.score == pytest.approx(1.0119)
    session.choose(0)
    assert session.predict().mask.score == pytest.approx(0.7)
    session.choose(3)
    with pytest.raises(InputError, match="mask 3: expected an index from 0 to 2"):
        session.predict()


def test_metrics_of_a_mask_and_of_an_empty_one(session: PromptSession) -> None:
    session.add_point(30, 30)
    found = session.predict()
    metrics = found.metrics()
    assert list(metrics) == ["score", "time_ms", "area_px", "mask_bbox", "perimeter"]
    assert (metrics["area_px"], metrics["mask_bbox"]) == (disc(30, 30, 12).sum(), [18, 18, 42, 42])
    assert metrics["time_ms"] > 0
    empty = found.metrics(2)
    assert (empty["area_px"], empty["mask_bbox"], empty["perimeter"]) == (0, None, 0.0)
    json.dumps([metrics, empty], allow_nan=False)


def test_the_perimeter_runs_through_the_border_pixels_of_external_contours() -> None:
    square = np.zeros((20, 20), bool)
    square[3:13, 2:12] = True
    assert perimeter(square) == 4 * 9
    square[6:9, 5:8] = False  # a hole does not count
    assert perimeter(square) == 4 * 9
    square[16:19, 2:5] = True  # another part does
    assert perimeter(square) == 4 * 9 + 4 * 2
    assert components(square) == 2
    assert perimeter(square) == perimeter(np.pad(square, 3))
    blob = disc(30, 30, 17) & (np.random.default_rng(0).random((HEIGHT, WIDTH)) < 0.9)
    every, _ = cv2.findContours(blob.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    assert perimeter(blob) == pytest.approx(sum(cv2.arcLength(one, closed=True) for one in every), rel=1e-6)
    diamond = np.abs(np.arange(11) - 5)[:, None] + np.abs(np.arange(11) - 5)[None] <= 5
    assert perimeter(diamond) == pytest.approx(4 * 5 * math.sqrt(2), rel=1e-6)  # as the reference: whole + n * sqrt 2
    assert (perimeter(np.zeros((4, 4), bool)), components(np.zeros((4, 4), bool))) == (0.0, 0)


def test_the_image_is_embedded_once_and_equal_prompts_are_answered_once(session: PromptSession, model: Answers) -> None:
    session.add_point(30, 30)
    session.predict()
    session.predict()
    session.add_point(10, 10, positive=False)
    session.predict()
    assert (model.embedded, len(model.asked)) == (1, 2)


def test_every_change_is_undone_and_made_again(session: PromptSession) -> None:
    session.add_point(1, 2)
    session.add_point(3, 4, positive=False)
    session.move_point(0, 5, 6)
    session.set_box(40, 50, 20, 10)
    session.remove_point(1)
    session.choose(2)
    session.refine()
    session.reset()
    states = [session.state]
    while session.undo():
        states.append(session.state)
    assert len(states) == 9
    assert [len(state.points) for state in states] == [0, 1, 1, 1, 2, 2, 2, 1, 0]
    assert states[2].choice == 2
    assert states[1].previous is not None
    assert states[4].box == (20.0, 10.0, 40.0, 50.0)
    assert states[5].points == ((5.0, 6.0, True), (3.0, 4.0, False))
    assert not session.undo()
    again = [session.state]
    while session.redo():
        again.append(session.state)
    assert again == states[::-1]
    session.undo()
    session.add_point(7, 7)
    assert not session.redo()  # a new change replaces what was undone


def test_refining_asks_again_with_the_chosen_mask(session: PromptSession, model: Answers) -> None:
    session.add_point(30, 30)
    session.choose(0)
    session.refine()
    assert model.asked[0].masks is None
    refined = model.asked[1].masks
    assert refined is not None
    assert np.array_equal(refined[0], model.logits[0].numpy())
    session.undo()
    session.predict()
    assert model.asked[-1].masks is None


def test_real_masks_are_refined_and_differ() -> None:
    image = np.full((48, 64, 3), 240, np.uint8)
    image[10:40, 20:45] = (200, 60, 40)
    session = nv.PromptSession(image, tiny_sam())
    session.set_box(20, 10, 44, 39)
    first = session.predict()
    second = session.refine()
    assert first.mask.region is not None
    assert [mask.score for mask in first.masks] != [mask.score for mask in second.masks]


@pytest.mark.parametrize("x", [-1, WIDTH, math.nan])
def test_what_is_outside_the_image_is_refused(session: PromptSession, x: float) -> None:
    with pytest.raises(InputError, match=r"outside the image of 80x60 pixels"):
        session.add_point(x, 5)
    with pytest.raises(InputError, match=r"outside the image of 80x60 pixels"):
        session.set_box(x, 5, WIDTH + 5, 20)
    assert session.state.empty


def test_nothing_to_ask_and_images_of_another_shape_are_refused(session: PromptSession, model: Answers) -> None:
    with pytest.raises(InputError, match="expected a point or a box, found none"):
        session.predict()
    with pytest.raises(InputError, match=r"expected a path, a Pillow image or an array \(H, W, 3\)"):
        PromptSession(np.zeros((8, 8), np.uint8), model)


def test_a_small_box_is_warned_of_and_sizes_may_be_limited(session: PromptSession, model: Answers) -> None:
    session.set_box(10, 10, 40, 30)
    assert session.warnings() == ()
    session.set_box(10, 10, 40, 29)
    assert session.warnings() == ("a box of 30x19 pixels has a side under 20; its mask may be poor",)
    session.remove_box()
    session.add_point(5, 5, positive=False)
    assert session.warnings() == ("there are only points on the background: add one on the object, or a box",)
    session.add_point(20, 20)
    assert session.warnings() == ()
    strict = PromptSession(IMAGE, model, min_side=10, max_side=40)
    for box in ((10, 10, 19, 40), (10, 10, 51, 40)):
        with pytest.raises(InputError, match="expected sides of at least 10, at most 40 pixels"):
            strict.set_box(*box)
    strict.set_box(10, 10, 50, 20)


def test_masks_that_disagree_are_ambiguous() -> None:
    same = PromptSession(IMAGE, Answers([disc(30, 30, 9)] * 3, [0.9, 0.8, 0.7]))
    apart = PromptSession(IMAGE, Answers([disc(15, 30, 5), disc(40, 30, 5), disc(65, 30, 5)], [0.9, 0.8, 0.7]))
    half = PromptSession(IMAGE, Answers([disc(15, 30, 5), disc(15, 30, 5), disc(65, 30, 5)], [0.9, 0.8, 0.7]))
    for one in (same, apart, half):
        one.add_point(15, 30)
    assert same.predict().ambiguity == 0.0
    assert apart.predict().ambiguity == 1.0
    assert half.predict().ambiguity == pytest.approx(2 / 3)


def test_the_margin_of_the_name_decides_among_masks_of_a_good_shape() -> None:
    model = Answers([disc(30, 30, 5), disc(30, 30, 9), disc(30, 30, 14)], [0.95, 0.90, 0.5])
    session = PromptSession(IMAGE, model)
    session.add_point(30, 30)
    margins = {disc(30, 30, 5).sum(): 0.05, disc(30, 30, 9).sum(): 0.3, disc(30, 30, 14).sum(): 0.6}

    def identify(_image: ImageArray, regions: Sequence[Region]) -> list[Identity]:
        return [Identity("ayame", 0.8, margin=margins[region.area]) for region in regions]

    found = session.predict().named(IMAGE, identify)
    assert found.chosen == 1  # the third has the largest margin, but a poor shape
    assert [one.margin for one in found.identities if one] == [0.05, 0.3, 0.6]


def test_empty_masks_have_no_name(session: PromptSession) -> None:
    session.add_point(30, 30)
    found = session.predict().named(IMAGE, lambda _, regions: [Identity("ayame", 0.8)] * len(regions))
    assert found.identities[2] is None
    assert found.chosen == 1


def test_clean_keeps_the_largest_part_without_holes_and_spurs() -> None:
    mask = disc(30, 30, 15)
    whole = int(mask.sum())
    mask[29:31, 29:31] = False  # a reflection inside
    mask[2:6, 70:76] = True  # and one outside
    mask[30, 44:60] = True  # a spur of one pixel
    clean = clean_mask(mask)
    assert components(clean) == 1
    assert clean[30, 30]
    assert not clean[3, 72]
    assert not clean[30, 55]
    assert abs(int(clean.sum()) - whole) < 0.03 * whole
    assert not clean_mask(np.zeros((5, 5), bool)).any()
    line = np.zeros((9, 9), bool)
    line[4, 1:8] = True
    assert np.array_equal(clean_mask(line), line)  # smoothing never leaves nothing


def test_clean_is_off_by_default_and_gives_tight_boxes() -> None:
    mask = disc(30, 30, 12)
    mask[2:6, 70:76] = True
    boxes = []
    for clean in (False, True):
        session = PromptSession(IMAGE, Answers([mask] * 3, [0.9, 0.8, 0.7]), clean=clean)
        session.add_point(30, 30)
        boxes.append(session.predict().metrics()["mask_bbox"])
    assert boxes == [[18, 2, 75, 42], [18, 18, 42, 42]]


def test_the_mask_is_tinted_red_by_half_and_the_box_is_green() -> None:
    region = Region((10, 10, 39, 39), np.ones((30, 30), bool))
    drawn = draw_prompts(IMAGE, [region], [(5.0, 5.0, 60.0, 50.0)])
    assert drawn[20, 20].tolist() == [(100 + 255) // 2, 50, 50]
    assert drawn[5, 30].tolist() == drawn[30, 60].tolist() == [0, 255, 0]
    assert drawn[55, 70].tolist() == [100, 100, 100]
    assert (IMAGE == 100).all()


def test_the_preview_shows_the_box_and_points_by_their_label(session: PromptSession) -> None:
    session.set_box(5, 5, 70, 50)
    session.add_point(20, 20)
    session.add_point(50, 40, positive=False)
    drawn = session.preview()
    assert drawn[20, 20].tolist() == drawn[5, 30].tolist() == [0, 255, 0]
    assert drawn[40, 50].tolist() == [255, 0, 0]


def test_points_json_is_read_back(session: PromptSession, tmp_path: Path) -> None:
    session.add_point(3, 4)
    session.add_point(5.5, 6, positive=False)
    session.set_box(1, 2, 30, 40)
    document = session.points_json()
    assert document["n_points"] == 2
    assert document["points"] == [{"x": 3.0, "y": 4.0, "label": 1}, {"x": 5.5, "y": 6.0, "label": 0}]
    file = tmp_path / "points.json"
    file.write_text(json.dumps(document), encoding="utf-8")
    assert read_prompts(file) == UserPrompts(session.state.points, ((1.0, 2.0, 30.0, 40.0),))


def test_a_session_counts_retries_and_is_abandoned_until_a_mask_is_accepted(session: PromptSession) -> None:
    assert not session.use.abandoned
    session.add_point(30, 30)
    session.predict()
    session.refine()
    assert (session.use.predictions, session.use.retries, session.use.abandoned) == (2, 0, True)
    session.add_point(20, 20, positive=False)
    session.accept()
    assert (session.use.predictions, session.use.retries, session.use.abandoned) == (3, 1, False)
