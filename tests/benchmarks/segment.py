"""T1 to T5: automatic masks, and the parts of SAM, against `segment_anything` and transformers themselves."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain

import numpy as np
import torch
from segment_anything import SamPredictor
from segment_anything.modeling import Sam
from segment_anything.utils.amg import batched_mask_to_box, calculate_stability_score, mask_to_rle_pytorch
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.ops import batched_nms

from benchmarks.stock import random_sam2, stock_regions, stock_sam2, stock_sam2_regions
from benchmarks.timing import Row, compare, draw_image
from naruto_vision.cli.bench import Timing
from naruto_vision.records import ImageArray, Region
from naruto_vision.segmentation.generator import RegionFilter, Segmenter
from naruto_vision.segmentation.prompts import GridPrompter
from naruto_vision.segmentation.protocol import (
    FullMask,
    MaskPredictions,
    MaskThresholds,
    PromptableModel,
    Prompts,
    SceneEmbedding,
)
from naruto_vision.segmentation.sam import SamModel
from naruto_vision.segmentation.sam2 import Sam2Size

SAME, FOUND, FOUND_SHARE, MEAN = 0.99, 0.9, 0.97, 0.98
"""IoU of equal masks; in 16 bits: IoU of a mask that was found again, how many have to be, and their mean IoU."""
CLOSE = 1e-3  # features and logits; a hundred times what float32 rounds off here
PASSING = 0.4  # share of random weights' masks that pass the threshold
STOCK_BATCH = 64  # prompts
ALL = RegionFilter(min_area=0, max_masks=None)


def official(quick: bool) -> Iterator[Row]:
    """T1: ViT-B with random weights, 32 x 32 points. Stock takes minutes an image, so each is one round."""
    model = _random_model()
    sizes = [(240, 320)] if quick else [(384, 512), (683, 1024), (1080, 1920)]
    for height, width in sizes:
        image = draw_image(height, width)
        yield _masks(f"ViT-B, {height} x {width}", _segmenter(model, image, 3 if quick else 32), image, repeats=1)


def second(quick: bool) -> Iterator[Row]:
    """T1s: SAM 2.1 with random weights against transformers, on images of the input's size, which neither resizes."""
    small = Sam2Size(32, 1, (1, 2, 3, 1), (4,), image_size=256)  # the official decoder behind a small encoder
    full = (("a small encoder", small, 16, 3), ("tiny", "tiny", 8, 1))
    for what, size, points, repeats in (("a small encoder", small, 3, 1),) if quick else full:
        model = random_sam2(size)
        image = draw_image(model.image_size, model.image_size)
        segmenter = _segmenter(model, image, points)
        stock = partial(stock_sam2_regions, segmenter, stock_sam2(model))
        name = f"SAM 2.1, {what}, {points} x {points} points"
        yield _masks(name, segmenter, image, repeats, baseline=stock)


def packaged(quick: bool) -> Iterator[Row]:
    """T1t: tiny-sam, 16 x 16 points."""
    model = SamModel("tiny-sam", "tiny-sam").eval()
    for side in (384,) if quick else (384, 512, 640):
        segmenter = Segmenter(GridPrompter(16), model, keep=ALL)
        yield _masks(f"tiny-sam, {side} x {side}", segmenter, draw_image(side, side), repeats=2 if quick else 5)


def low_precision(quick: bool) -> Iterator[Row]:
    """T2: bfloat16 against stock in float32: masks may differ, so the gate is another one. Not on a CPU without it."""
    model, found = SamModel("tiny-sam", "tiny-sam", precision="bfloat16").eval(), list[float]()
    segmenter = Segmenter(GridPrompter(16), model, keep=ALL)
    rows = []
    for seed in range(2 if quick else 12):
        side = (384, 512, 640)[seed % 3]
        image = draw_image(side, side, seed)
        rows.append(_masks(f"{side} x {side}", segmenter, image, repeats=1, into=found))
    ours, stock = (_all_runs(timings) for timings in zip(*((row.ours, row.baseline) for row in rows), strict=True))
    again, mean = sum(iou >= FOUND for iou in found), float(np.mean(found or [1.0]))
    same = f"{again}/{len(found)} masks at IoU {FOUND}, mean IoU {mean:.4f}"
    what = f"tiny-sam in bfloat16, {len(rows)} images"
    yield Row(what, ours, stock, same, again >= FOUND_SHARE * len(found) and mean >= MEAN)


def _all_runs(timings: Sequence[Timing | None]) -> Timing:
    """Join the rounds of several images."""
    runs = [timing for timing in timings if timing is not None]
    return Timing(
        *(tuple(chain.from_iterable(getattr(one, name) for one in runs)) for name in ("seconds", "cpu_seconds"))
    )


def _masks(
    what: str,
    segmenter: Segmenter,
    image: ImageArray,
    repeats: int,
    into: list[float] | None = None,
    baseline: Callable[[ImageArray], list[Region]] | None = None,
) -> Row:
    found: dict[str, list[Region]] = {}

    def same() -> tuple[str, bool]:
        ious = best_ious(found["ours"], found["stock"])
        if into is not None:
            into.extend(ious)
            return f"{len(found['ours'])} and {len(ious)} masks", True
        equal = sum(iou >= SAME for iou in ious)
        return f"{equal}/{len(ious)} masks", equal == len(ious) == len(found["ours"])

    def ours() -> None:
        found["ours"] = segmenter(image)

    def stock() -> None:
        found["stock"] = baseline(image) if baseline else stock_regions(segmenter, image)

    return compare(what, ours, stock, same, repeats)


def best_ious(ours: Sequence[Region], stock: Sequence[Region]) -> list[float]:
    """Find for each stock region its mask IoU with the best of ours; one of 0.99 or more ends the search."""
    return [_best(region, ours) for region in stock]


def _best(region: Region, others: Sequence[Region]) -> float:
    def unlikeness(other: Region) -> tuple[bool, int]:  # only the names: stock does not say which points they were
        far = sum(abs(a - b) for a, b in zip(region.box, other.box, strict=True))
        return other.prompt.name != region.prompt.name, far

    best = 0.0
    for other in sorted(others, key=unlikeness):
        best = max(best, _iou(region, other))
        if best >= SAME:
            break
    return best


def _iou(one: Region, other: Region) -> float:
    if one.box[2] < other.box[0] or other.box[2] < one.box[0] or one.box[3] < other.box[1] or other.box[3] < one.box[1]:
        return 0.0
    height, width = (max(one.box[side], other.box[side]) + 1 for side in (3, 2))
    mine, theirs = one.full_mask(height, width), other.full_mask(height, width)
    return float(np.count_nonzero(mine & theirs) / np.count_nonzero(mine | theirs))


def decoder(quick: bool) -> Iterator[Row]:
    """T3: ViT-B's mask decoder on one image, both with the threshold of the estimated IoU."""
    model, image = _random_model(), draw_image(683, 1024)
    segmenter = _segmenter(model, image, 3 if quick else 12)
    threshold, embedding, prompts = segmenter.thresholds.predicted_iou, model.embed(image), segmenter.prompter(image)
    found: dict[str, Tensor] = {}

    @torch.no_grad()
    def ours() -> None:
        found["ours"] = torch.cat([some.logits for some in model.predict_masks(embedding, prompts, threshold)])

    @torch.no_grad()
    def stock() -> None:
        predictor = SamPredictor(model.sam)
        predictor.features, predictor.is_image_set = embedding.features, True
        predictor.input_size, predictor.original_size = embedding.input_size, embedding.original_size
        points = torch.from_numpy(predictor.transform.apply_coords(prompts.points, image.shape[:2]))
        found["stock"] = torch.cat([_stock_decode(predictor, part, threshold) for part in points.split(STOCK_BATCH)])

    def same() -> tuple[str, bool]:
        one, other = found["ours"], found["stock"]
        if one.shape != other.shape:
            return f"{len(one)} and {len(other)} masks", False
        gap, flipped = float((one - other).abs().max()), (one > 0) != (other > 0)
        edge = float((other.abs() * flipped).max())
        return f"{len(one)} masks, largest difference {gap:.0e}, of a flipped sign {edge:.0e}", gap <= CLOSE

    yield compare(f"ViT-B's mask decoder, {len(prompts.points)} prompts", ours, stock, same, 1 if quick else 3)


def _stock_decode(predictor: SamPredictor, points: Tensor, threshold: float) -> Tensor:
    sam, labels = predictor.model, torch.ones(points.shape[:2], dtype=torch.int64)
    sparse, dense = sam.prompt_encoder(points=(points, labels), boxes=None, masks=None)
    logits, ious = sam.mask_decoder(
        image_embeddings=predictor.features,
        image_pe=sam.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=True,
    )
    chosen: Tensor = logits[ious > threshold]
    return chosen


def post(quick: bool) -> Iterator[Row]:
    """T4: what follows the decoder, up to run lengths; the worst case is noise, whose every mask fills its image."""
    model = SamModel("tiny-sam", "tiny-sam").eval()
    official_side, keep_all = 1024, MaskThresholds(0.0, stability=0.0, stability_offset=1.0, box_nms=1.0)
    for height, width in [(240, 320)] if quick else [(683, 1024), (1080, 1920)]:
        image, points = draw_image(height, width), 3
        answer = model.predict_all(model.embed(image), GridPrompter(points)(image))
        smooth = interpolate(answer.logits, (official_side // 4,) * 2, mode="bicubic")
        noise = torch.randn(smooth.shape, generator=torch.Generator().manual_seed(0))
        for name, logits in (("tiny-sam's logits", smooth), ("noise", noise)):
            what = f"{logits.shape[0] * 3} masks of {name}, {height} x {width}"
            yield _post(what, image, points, logits, keep_all, 1 if quick else 3)


class _Given:
    """A promptable model whose decoder has answered already, so that only what follows it is timed."""

    fingerprint = ""

    def __init__(self, image: ImageArray, logits: Tensor, thresholds: MaskThresholds) -> None:
        self.model = SamModel("tiny-sam", None)
        self.model.image_size = 4 * logits.shape[-1]
        self.logits, self.thresholds = logits, thresholds
        scale = self.model.image_size / max(image.shape[:2])
        height, width = (int(side * scale + 0.5) for side in image.shape[:2])
        self.embedding = SceneEmbedding(torch.zeros(1, 1, 1, 1), image.shape[:2], (height, width))

    def embed(self, _image: ImageArray) -> SceneEmbedding:
        return self.embedding

    def predict_masks(
        self, _embedding: SceneEmbedding, prompts: Prompts, _above: float, _batch: int | None = None
    ) -> Iterator[MaskPredictions]:
        indices = torch.arange(len(prompts.points)).repeat_interleave(3)
        yield MaskPredictions(indices, self.logits.flatten(0, 1), torch.ones(len(indices)))

    def full_masks(
        self, logits: Tensor, embedding: SceneEmbedding, stability: float, offset: float
    ) -> Iterator[FullMask]:
        return self.model.full_masks(logits, embedding, stability, offset)


def _post(what: str, image: ImageArray, points: int, logits: Tensor, thresholds: MaskThresholds, repeats: int) -> Row:
    given = _Given(image, logits, thresholds)
    segmenter, outer = Segmenter(GridPrompter(points), given, keep=ALL), image.shape[:2]
    found: dict[str, list[Region]] = {}
    runs: dict[str, list[list[int]]] = {}

    def ours() -> None:
        found["ours"] = segmenter(image)

    def stock() -> None:
        every = _stock_post(given.model.sam, logits, given.embedding.input_size, outer, thresholds)
        runs["stock"] = [counts for counts in every if len(counts) > 1]  # ours has no empty masks

    def identical() -> int:
        masks = torch.stack([torch.from_numpy(region.full_mask(*outer)) for region in found["ours"]])
        mine = sorted(record["counts"] for record in mask_to_rle_pytorch(masks))
        return sum(one == other for one, other in zip(mine, sorted(runs["stock"]), strict=False))

    def same() -> tuple[str, bool]:
        count, equal, threads = len(runs["stock"]), identical(), torch.get_num_threads()
        if equal < count and threads == 1:  # PyTorch rounds three maps in a way of its own on a single thread
            torch.set_num_threads(2)
            stock()
            torch.set_num_threads(1)
            equal = identical()
        return f"{equal}/{count} run lengths", equal == count == len(found["ours"])

    return compare(what, ours, stock, same, repeats)


@torch.no_grad()
def _stock_post(
    sam: Sam, logits: Tensor, inner: tuple[int, int], outer: tuple[int, int], thresholds: MaskThresholds
) -> list[list[int]]:
    before, sam.image_encoder.img_size = sam.image_encoder.img_size, 4 * logits.shape[-1]
    whole = sam.postprocess_masks(logits, inner, outer).flatten(0, 1)
    sam.image_encoder.img_size = before
    stable = calculate_stability_score(whole, 0.0, thresholds.stability_offset) >= thresholds.stability
    masks = whole[stable] > 0
    boxes, scores = batched_mask_to_box(masks), torch.ones(len(masks))
    runs = [record["counts"] for record in mask_to_rle_pytorch(masks)]
    kept = batched_nms(boxes.float(), scores, torch.zeros(len(masks)), thresholds.box_nms)
    return [runs[i] for i in kept.tolist()]


def encoder(quick: bool) -> Iterator[Row]:
    """T5: ViT-B's image encoder, with the resizing in front of it."""
    model, image = _random_model(), draw_image(683, 1024)
    found: dict[str, Tensor] = {}

    def ours() -> None:
        found["ours"] = model.embed(image).features

    def stock() -> None:
        predictor = SamPredictor(model.sam)
        predictor.set_image(image)
        found["stock"] = predictor.features

    def same() -> tuple[str, bool]:
        gap = float((found["ours"] - found["stock"]).abs().max())
        return f"largest difference {gap:.0e}", gap <= CLOSE

    yield compare("ViT-B's image encoder", ours, stock, same, 1 if quick else 5)


def segment_once(height: int, width: int, points: int) -> int:
    """Segment one image with ViT-B (T17 runs it in a process of its own) and count the regions."""
    image = draw_image(height, width)
    return len(_segmenter(_random_model(), image, points)(image))


def _random_model() -> SamModel:
    torch.manual_seed(0)
    return SamModel("vit_b", None).eval()


def _segmenter(model: PromptableModel, image: ImageArray, points: int) -> Segmenter:
    """Build a segmenter whose threshold lets 40 % of random weights' masks pass, in a gap between two estimates.

    Random masks fill their image, so every box is alike: none is dropped because of another.
    """
    prompts = GridPrompter(points)(image)
    found = model.predict_masks(model.embed(image), prompts, float("-inf"))
    ious = torch.cat([some.ious for some in found]).sort().values
    middle = int((1 - PASSING) * len(ious))
    near = ious[max(0, middle - 20) : middle + 20]
    gap = int(near.diff().argmax())
    threshold = float(near[gap : gap + 2].mean())
    return Segmenter(GridPrompter(points), model, predicted_iou=threshold, stability=0.0, box_nms=1.0, keep=ALL)
