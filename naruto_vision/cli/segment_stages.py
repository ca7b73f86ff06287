"""What ``naruto-vision bench segment`` times of SAM behind the image encoder: the mask decoder, and what follows it."""

from collections.abc import Callable
from typing import Any

import torch
from segment_anything import SamPredictor
from segment_anything.modeling import Sam
from segment_anything.utils.amg import batched_mask_to_box, calculate_stability_score, mask_to_rle_pytorch
from torch import Tensor
from torch.nn.functional import interpolate

from naruto_vision.cli.segment_parts import OURS, STOCK, Bench, Part
from naruto_vision.geometry import counts_from_mask, runs_of_cut
from naruto_vision.records import ImageArray
from naruto_vision.segmentation.postprocess import Frame, nms_xyxy, resize_longest
from naruto_vision.segmentation.prompts import GridPrompter
from naruto_vision.segmentation.protocol import MaskThresholds
from naruto_vision.segmentation.sam import MaskPrediction, SamModel

_STOCK_BATCH = 64  # prompts: the stock default
_NOISE = 8  # prompts of three masks each


@torch.no_grad()
def decoder(bench: Bench, image: ImageArray) -> Part:
    """Compare the mask decoders on the whole grid, both with the bar of the estimated IoU.

    Args:
        bench: The model and the settings.
        image: Shape (H, W, 3), uint8, RGB.
    """
    model, bar = bench.model, bench.bars(image).predicted_iou
    embedding, prompts = model.embed(image), GridPrompter(bench.points)(image)
    found: dict[str, list[Tensor]] = {}

    def ours() -> None:
        found[OURS] = [some.logits for some in model.answers(embedding, prompts, bar)]

    def stock() -> None:
        predictor = SamPredictor(model.sam)
        predictor.features, predictor.is_image_set = embedding.features, True
        predictor.input_size, predictor.original_size = embedding.input_size, embedding.original_size
        points = torch.from_numpy(predictor.transform.apply_coords(prompts.points, image.shape[:2])).to(model.device)
        found[STOCK] = [_stock_decode(predictor, part, bar) for part in _batches(points)]

    times = bench.timed(ours, stock)
    one, other = torch.cat(found[OURS]), torch.cat(found[STOCK])
    parity: dict[str, float] = {"masks": len(one), "stock masks": len(other)}
    if one.shape == other.shape:
        flipped = (one > 0) != (other > 0)
        parity["largest difference"] = float((one - other).abs().max())
        parity["largest flipped"] = float((other.abs() * flipped).max())
    return Part(f"decoder, {len(prompts.points)} prompts", times, parity, bench.on_gpu)


def _stock_decode(predictor: SamPredictor, points: Tensor, bar: float) -> Tensor:
    sam = predictor.model
    labels = torch.ones(points.shape[:2], dtype=torch.int64, device=points.device)
    sparse, dense = sam.prompt_encoder(points=(points, labels), boxes=None, masks=None)
    logits, ious = sam.mask_decoder(
        image_embeddings=predictor.features,
        image_pe=sam.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=True,
    )
    chosen: Tensor = logits[ious > bar]
    return chosen


@torch.no_grad()
def post(bench: Bench, image: ImageArray) -> Part:
    """Compare what is done with the same logits up to run lengths: tiny-sam's logits at the model's resolution.

    Args:
        bench: The model and the settings.
        image: Shape (H, W, 3), uint8, RGB.
    """
    source = SamModel("tiny-sam", weights="tiny-sam")
    answer = source.answer(source.embed(image), GridPrompter(bench.points)(image))
    side = bench.model.image_size // 4
    logits = interpolate(answer.logits, (side, side), mode="bicubic")
    return _compare_post(bench, image, "post-processing", MaskPrediction(logits, answer.ious), source.thresholds)


@torch.no_grad()
def noise(bench: Bench, image: ImageArray) -> Part:
    """Compare the same for the worst masks there can be: noise that fills the image, of which everything is kept.

    Args:
        bench: The model and the settings.
        image: Shape (H, W, 3), uint8, RGB.
    """
    side, generator = bench.model.image_size // 4, torch.Generator().manual_seed(0)
    answer = MaskPrediction(torch.randn(_NOISE, 3, side, side, generator=generator), torch.ones(_NOISE, 3))
    bars = MaskThresholds(predicted_iou=0.0, stability=0.0, stability_offset=1.0, box_nms=1.0)
    return _compare_post(bench, image, "post-processing of noise", answer, bars)


def _compare_post(bench: Bench, image: ImageArray, name: str, answer: MaskPrediction, bars: MaskThresholds) -> Part:
    side, logits, ious = bench.model.image_size, answer.logits, answer.ious
    inner, outer = resize_longest(image, side).shape[:2], image.shape[:2]
    found: dict[str, list[list[int]]] = {}

    def ours() -> None:
        passed = ious > bars.predicted_iou
        frame = Frame(side // 4, side, inner, outer)
        full = list(frame.full_masks(logits[passed], bars.stability, bars.stability_offset))
        scores = ious[passed][[each.index for each in full]]
        kept = nms_xyxy(torch.tensor([each.box for each in full]), scores, bars.box_nms)
        found[OURS] = [runs_of_cut(counts_from_mask(full[i].mask), full[i].box, *outer) for i in kept.tolist()]

    def stock() -> None:
        rows = zip(_batches(logits), _batches(ious), strict=True)
        batches = [_stock_post(bench.model.sam, part, some, inner, outer, bars) for part, some in rows]
        boxes, scores = torch.cat([batch[0] for batch in batches]), torch.cat([batch[1] for batch in batches])
        runs = [record["counts"] for batch in batches for record in batch[2]]
        found[STOCK] = [runs[i] for i in nms_xyxy(boxes, scores, bars.box_nms).tolist()]

    times = bench.timed(ours, stock)
    parity: dict[str, float] = {"masks": len(found[OURS]), "stock masks": len(found[STOCK])}
    parity |= _identical(found, stock)
    return Part(f"{name}, {ious.numel()} masks {outer[0]}x{outer[1]}", times, parity)


def _identical(found: dict[str, list[list[int]]], stock: Callable[[], None]) -> dict[str, float]:
    """Count the masks with the same run lengths; on one thread against stock on two threads too, where some differ."""
    same: dict[str, float] = {"identical run lengths": _same(found)}
    if torch.get_num_threads() == 1 and _same(found) < len(found[STOCK]):
        torch.set_num_threads(2)  # PyTorch rounds a prompt's three maps in a way of its own on a single thread
        try:
            stock()
        finally:
            torch.set_num_threads(1)
        same["identical to stock on two threads"] = _same(found)
    return same


def _same(found: dict[str, list[list[int]]]) -> int:
    return sum(one == other for one, other in zip(found[OURS], found[STOCK], strict=False))


def _stock_post(
    sam: Sam, logits: Tensor, ious: Tensor, inner: tuple[int, int], outer: tuple[int, int], bars: MaskThresholds
) -> tuple[Tensor, Tensor, list[dict[str, Any]]]:
    whole, scores = sam.postprocess_masks(logits, inner, outer).flatten(0, 1), ious.flatten()
    keep = scores > bars.predicted_iou
    whole, scores = whole[keep], scores[keep]
    keep = calculate_stability_score(whole, 0.0, bars.stability_offset) >= bars.stability
    on, scores = whole[keep] > 0, scores[keep]
    return batched_mask_to_box(on), scores, mask_to_rle_pytorch(on)


def _batches(rows: Tensor) -> tuple[Tensor, ...]:
    return torch.tensor_split(rows, list(range(_STOCK_BATCH, len(rows), _STOCK_BATCH)))
