import numpy as np
import pytest
import torch
from segment_anything import SamPredictor

from naruto_vision.segmentation.postprocess import mask_iou
from naruto_vision.segmentation.sam import SamModel
from naruto_vision.segmentation.training import PromptBatch, predict_batch, prompt_losses, prompt_quality


def _batch(*, with_boxes: bool = True) -> PromptBatch:
    rng = np.random.default_rng(0)
    pixels = torch.from_numpy(rng.integers(0, 256, (2, 3, 256, 256), dtype=np.uint8))
    masks = torch.zeros(4, 256, 256, dtype=torch.bool)
    masks[0, 20:90, 30:80] = True
    masks[2, 100:200, 10:200] = True
    masks[3, 10:50, 10:60] = True  # row 1 stays empty: a point on no figure
    batch = PromptBatch(
        pixels,
        torch.tensor([0, 1, 1, 0]),
        torch.tensor([[50.0, 40.0], [250.0, 250.0]]),
        torch.tensor([[10.0, 100.0, 199.0, 199.0], [10.0, 10.0, 59.0, 49.0]]),
        masks,
    )
    if with_boxes:
        return batch
    return batch._replace(image=batch.image[:2], boxes=batch.boxes[:0], masks=masks[:2])


@pytest.fixture(scope="module")
def model() -> SamModel:
    torch.manual_seed(0)
    return SamModel("tiny-sam")


def test_a_mixed_batch_answers_like_the_stock_predictor_prompt_by_prompt(model: SamModel) -> None:
    batch = _batch()
    with torch.no_grad():
        answer = predict_batch(model, batch)
    predictor = SamPredictor(model.sam)
    for row in range(4):
        predictor.set_image(batch.pixels[batch.image[row]].permute(1, 2, 0).numpy())
        asked = (batch.points[row][None, None], torch.ones(1, 1)) if row < 2 else (None, None)
        box = None if row < 2 else batch.boxes[row - 2][None]
        _, ious, logits = predictor.predict_torch(*asked, boxes=box, multimask_output=True)
        assert torch.allclose(answer.logits[row], logits[0], atol=1e-5)
        assert torch.allclose(answer.ious[row], ious[0], atol=1e-5)


def test_a_few_steps_lower_the_loss() -> None:
    torch.manual_seed(0)
    model, batch = SamModel("tiny-sam"), _batch()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    totals = []
    for _ in range(6):
        losses = prompt_losses(model, batch, resolution=64)
        totals.append(losses.total.item())
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
    assert totals[-1] < 0.8 * totals[0]
    parts = losses.total.item() - losses.iou_head.item()
    assert parts == pytest.approx(20 * losses.focal.item() + losses.dice.item(), rel=1e-4)


def test_only_the_best_mask_of_a_prompt_learns(model: SamModel) -> None:
    batch = _batch(with_boxes=False)
    model.zero_grad()
    prompt_losses(model, batch, resolution=64).total.backward()
    moved = [
        any((parameter.grad is not None and parameter.grad.abs().max() > 0) for parameter in mlp.parameters())
        for mlp in model.sam.mask_decoder.output_hypernetworks_mlps
    ]
    assert moved[0] is False
    assert sum(moved) == 1


def test_a_point_on_no_figure_teaches_the_iou_head_alone() -> None:
    torch.manual_seed(0)
    model, batch = SamModel("tiny-sam"), _batch(with_boxes=False)
    batch = batch._replace(image=batch.image[1:], points=batch.points[1:], masks=batch.masks[1:])
    losses = prompt_losses(model, batch, resolution=64)
    losses.total.backward()
    assert losses.focal.item() == losses.dice.item() == 0
    assert losses.iou_head.item() > 0
    head = model.sam.mask_decoder.iou_prediction_head.layers[-1].weight.grad
    assert head.abs().max() > 0
    hyper = [p.grad for p in model.sam.mask_decoder.output_hypernetworks_mlps.parameters()]
    assert all(gradient is None or gradient.abs().max() == 0 for gradient in hyper)


def test_quality_is_the_iou_of_the_answers(model: SamModel) -> None:
    batch = _batch()._replace(masks=torch.ones(4, 256, 256, dtype=torch.bool))
    quality = prompt_quality(model, batch)
    with torch.no_grad():
        answer = predict_batch(model, batch)
    whole = torch.nn.functional.interpolate(answer.logits, (256, 256), mode="bilinear") > 0
    ious = mask_iou(whole, batch.masks[:, None])
    assert torch.equal(quality.best, ious.max(dim=1).values)
    assert torch.equal(quality.chosen, ious[torch.arange(4), answer.ious.argmax(dim=1)])
    assert torch.equal(quality.estimated, answer.ious.max(dim=1).values)
    assert quality.is_box.tolist() == [False, False, True, True]
