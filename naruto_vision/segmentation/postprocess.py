"""Resample mask logits to image size, only inside each mask's box.

A bilinear logit is a weighted mean of its neighbours and cannot exceed all of them. So outside the box of the
low-resolution logits above the lowest threshold, plus a margin of one, every pixel is background and affects neither
the mask, nor its box, nor the stability score. A resampled window is bit-identical to that part of the resampled whole:
``torch.nn.functional.interpolate`` mixes two input rows or columns per output, so a table of indices and weights for
the whole axis also applies to a part of it. Columns come before rows, in the stock order and with the stock rounding
(x86 processors with AVX2).

PyTorch has a second bilinear kernel, which multiplies the row and column weights first and sums four products. It runs
if height and width of the output sum to at most 128 and, on a single thread, for three channels: so the three maps of a
prompt, resampled in one call, differ slightly between one thread and two. This module reproduces the kernel of two or
more threads for any number of threads.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple, TypeAlias

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate, pad
from torchvision.ops import nms

from naruto_vision.geometry import xyxy_from_mask
from naruto_vision.records import ImageArray, Mask
from naruto_vision.segmentation.protocol import FullMask, SceneEmbedding

Span: TypeAlias = tuple[int, int]
"""First and last index along an axis, inclusive."""

Spans: TypeAlias = tuple[Span, Span, Span]
"""One interval of an axis at three sizes: logits, model input, image."""

_BAND_PIXELS = 1 << 17  # pixels per resampled band: half a megabyte, plus inputs
_DENSE_BYTES = 1 << 28  # bytes of logits per chunk of whole maps: 256 MiB
_SLACK = 1e-3  # in logits and in scores; the relative rounding error of a mix is about 1e-6


def resize_longest(image: ImageArray, side: int) -> ImageArray:
    """Scale an image (H, W, 3), uint8, so that its longest side is ``side`` pixels."""
    height, width = image.shape[:2]
    scale = side / max(height, width)
    size = (max(1, int(width * scale + 0.5)), max(1, int(height * scale + 0.5)))
    return np.array(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))


@torch.no_grad()
def upscale(logits: Tensor, embedding: SceneEmbedding, side: int) -> Tensor:
    """Resample logits (P, h, w) of a model with input side ``side`` to the image's size: (P, H, W), float32."""
    height, width = embedding.input_size
    square = interpolate(logits[:, None], (side, side), mode="bilinear")
    whole = interpolate(square[..., :height, :width], embedding.original_size, mode="bilinear")
    return whole[:, 0]


@torch.no_grad()
def stable_masks(
    logits: Tensor, embedding: SceneEmbedding, side: int, stability: float, offset: float
) -> Iterator[FullMask]:
    """Resample logits (M, h, w), float32, to the image's size and yield the masks that are stable and not empty."""
    height, width = embedding.original_size
    if logits.device.type == "cpu":
        frame = Frame(logits.shape[-1], side, embedding.input_size, (height, width))
        yield from frame.full_masks(logits, stability, offset)
    else:
        whole = partial(upscale, embedding=embedding, side=side)
        yield from dense_masks(logits, whole, height * width, stability, offset)


class Frame:
    """The sizes of a model's logits, its input and an image, with the resampling tables between them."""

    def __init__(self, low: int, square: int, inner: tuple[int, int], outer: tuple[int, int]) -> None:
        self.low = low
        self.outer = outer
        rise = blend(low, square)
        self.rows = (rise, blend(inner[0], outer[0]))
        self.columns = (rise, blend(inner[1], outer[1]))
        self.inner = inner

    def full_masks(self, logits: Tensor, stability: float, offset: float) -> Iterator[FullMask]:
        """Yield the masks of logits (M, low, low), float32, on the CPU, that are stable and not empty, in order."""
        for index, each in enumerate(logits):
            box = xyxy_from_mask(each.numpy() > -offset - _SLACK)
            rows = None if box is None else _spans(self.rows, box[1], box[3], self.inner[0])
            columns = None if box is None else _spans(self.columns, box[0], box[2], self.inner[1])
            if rows is None or columns is None:  # no logit is above the threshold outside the padding
                continue
            mask, score = self._threshold(each, rows, columns, stability, offset)
            inside = xyxy_from_mask(mask) if score >= stability else None
            if inside is not None:
                x1, y1, x2, y2 = inside
                left, top = columns[2][0], rows[2][0]
                found = x1 + left, y1 + top, x2 + left, y2 + top
                yield FullMask(index, found, mask[y1 : y2 + 1, x1 : x2 + 1], float(score))

    def _threshold(
        self, logits: Tensor, rows: Spans, columns: Spans, stability: float, offset: float
    ) -> tuple[Mask, np.float32]:
        """Threshold a window of one map: its mask and stability score, 0 if it is certainly too low."""
        (top, bottom), (left, right) = rows[2], columns[2]
        mask = np.empty((bottom - top + 1, right - left + 1), dtype=np.bool_)
        strict, lax, rest, step = 0, 0, mask.size, max(1, _BAND_PIXELS // mask.shape[1])
        part = logits[rows[0][0] : rows[0][1] + 1, columns[0][0] : columns[0][1] + 1]
        part = mix_columns(part, self.columns[0], columns[0][0], *columns[1])
        for first in range(top, bottom + 1, step):
            band = _back(self.rows, (first, min(first + step - 1, bottom)))
            values = self._resample(part, rows[0][0], band, columns).numpy()
            strict += int(np.count_nonzero(values > offset))
            lax += int(np.count_nonzero(values > -offset))
            rest -= values.size
            if strict + rest < (stability - _SLACK) * (lax + rest):  # too low even if all other pixels are foreground
                return mask, np.float32(0)
            np.greater(values, 0, out=mask[first - top : first - top + step])
        return mask, np.float32(strict) / np.float32(max(1, lax))

    def _resample(self, part: Tensor, start: int, rows: Spans, columns: Spans) -> Tensor:
        """Resample a band of a window whose columns are already at input size; columns come before rows."""
        part = mix_rows(part[rows[0][0] - start :], self.rows[0], rows[0][0], *rows[1])
        part = mix_columns(part, self.columns[1], columns[1][0], *columns[2])
        return mix_rows(part, self.rows[1], rows[1][0], *rows[2])


def dense_masks(
    logits: Tensor, upscale: Callable[[Tensor], Tensor], pixels: int, stability: float, offset: float
) -> Iterator[FullMask]:
    """Do the same with whole maps of H x W ``pixels``, which is faster on a GPU."""
    step = max(1, _DENSE_BYTES // (4 * pixels))
    for start in range(0, len(logits), step):
        whole = upscale(logits[start : start + step])
        scores = stability_score(whole, offset)
        masks = whole > 0
        passed = ((scores >= stability) & (mask_area(masks) > 0)).nonzero()[:, 0]
        masks = masks[passed]
        boxes, indices = xyxy_from_masks(masks).tolist(), (passed + start).tolist()
        packed = packed_rows(masks).cpu().numpy()  # one transfer per chunk, of one bit per pixel
        rows = zip(indices, boxes, packed, scores[passed].tolist(), strict=True)
        for index, (x1, y1, x2, y2), bits, score in rows:
            inside = np.unpackbits(bits[y1 : y2 + 1], axis=1).view(np.bool_)[:, x1 : x2 + 1]
            yield FullMask(index, (x1, y1, x2, y2), inside, float(score))


def _spans(tables: tuple["Blend | None", "Blend | None"], first: int, last: int, inner: int) -> Spans | None:
    """Map logits to the image pixels they affect and the inputs these need; None if all is padding."""
    middle = reach(tables[0], first, last)
    outer = reach(tables[1], middle[0], min(middle[1], inner - 1))
    return None if outer[1] < outer[0] else _back(tables, outer)


def _back(tables: tuple["Blend | None", "Blend | None"], outer: Span) -> Spans:
    middle = needs(tables[1], *outer)
    return needs(tables[0], *middle), middle, outer


class Blend(NamedTuple):
    """Indices and weights of the two inputs of each of L outputs along an axis."""

    before: Tensor
    after: Tensor
    pairs: Tensor
    shares: Tensor
    ends: Tensor


def blend(source: int, target: int) -> Blend | None:
    """Tabulate bilinear resampling of an axis, as ``interpolate(..., align_corners=False)``; None for equal lengths."""
    if source == target:
        return None
    scale = torch.tensor(source, dtype=torch.float32) / target
    positions = (scale * (torch.arange(target) + 0.5) - 0.5).clamp(min=0)
    before = positions.long().clamp(max=source - 1)
    after = (before + 1).clamp(max=source - 1)
    share = (positions - before).clamp(0, 1)
    pairs, shares = torch.stack([after, before], 1).flatten(), torch.stack([share, 1 - share], 1).flatten()
    return Blend(before, after, pairs, shares, torch.arange(0, 2 * target + 1, 2))


def reach(table: Blend | None, first: int, last: int) -> Span:
    """Find the outputs that a span of inputs affects; last < first if there are none."""
    if table is None:
        return first, last
    lowest = int(torch.searchsorted(table.after, first))
    return lowest, int(torch.searchsorted(table.before, last, right=True)) - 1


def needs(table: Blend | None, first: int, last: int) -> Span:
    """Find the inputs that a span of outputs needs."""
    return (first, last) if table is None else (int(table.before[first]), int(table.after[last]))


def mix_rows(rows: Tensor, table: Blend | None, start: int, first: int, last: int) -> Tensor:
    """Resample a window (h, w), whose first row is input ``start``, to the outputs ``first`` to ``last``: (n, w)."""
    if table is None:
        return rows[first - start : last - start + 1]
    part = slice(2 * first, 2 * last + 2)
    # one vectorised pass: the second input is multiplied and rounded, the first is added with a fused multiply-add, as
    # in the stock kernel, so the result is bit-identical
    inputs, ends, shares = table.pairs[part] - start, table.ends[: last - first + 2], table.shares[part]
    mixed: Tensor = torch.embedding_bag(rows, inputs, ends, per_sample_weights=shares, include_last_offset=True)[0]
    return mixed


def mix_columns(rows: Tensor, table: Blend | None, start: int, first: int, last: int) -> Tensor:
    """Do the same along the second axis: (h, w) to (h, n)."""
    if table is None:
        return rows[:, first - start : last - start + 1]
    # row mixing is vectorised; column mixing is scalar and slower than two transposes
    return _transpose_2d(mix_rows(_transpose_2d(rows), table, start, first, last))


def _transpose_2d(rows: Tensor) -> Tensor:
    """Transpose a matrix contiguously; OpenCV is two to six times faster than ``rows.t().contiguous()``."""
    return torch.from_numpy(cv2.transpose(rows.numpy()))


def xyxy_from_masks(masks: Tensor) -> Tensor:
    """Find the tight boxes of masks (N, H, W), bool: (N, 4), int64, inclusive; all zeros for an empty mask."""
    rows, columns = masks.any(dim=2).byte(), masks.any(dim=1).byte()
    height, width = masks.shape[1:]
    # argmax of 0/1 values is the first 1; on the flipped axis it counts the zeros after the last 1
    boxes = torch.stack(
        [
            columns.argmax(dim=1),
            rows.argmax(dim=1),
            width - 1 - columns.flip(1).argmax(dim=1),
            height - 1 - rows.flip(1).argmax(dim=1),
        ],
        dim=1,
    )
    return boxes * rows.any(dim=1, keepdim=True)


def nms_xyxy(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """Drop every box (N, 4) whose IoU with a better one is above ``threshold``: returns the kept indices, best first.

    Sides are ``x2 - x1`` here, without the 1 of inclusive corners, to keep the same masks as SAM's own generator.
    """
    kept: Tensor = nms(boxes.float(), scores, threshold)
    return kept


def mask_area(masks: Tensor) -> Tensor:
    """Count the pixels of masks (..., H, W), bool, narrower than 32,768 pixels: (...), int32."""
    # rows first, in the smallest sufficient integer type: a third of the time of one 64-bit sum
    return masks.sum(dim=-1, dtype=torch.int16).sum(dim=-1, dtype=torch.int32)


def packed_rows(masks: Tensor) -> Tensor:
    """Pack eight pixels of a row into a byte, as ``numpy.unpackbits`` reads them: (N, H, W) to (N, H, W / 8), uint8."""
    count, height, width = masks.shape
    eights = pad(masks, (0, -width % 8)).view(count, height, -(-width // 8), 8)
    values = 1 << torch.arange(7, -1, -1, dtype=torch.uint8, device=masks.device)
    return (eights * values).sum(dim=-1, dtype=torch.uint8)


def stability_score(logits: Tensor, offset: float, threshold: float = 0.0) -> Tensor:
    """IoU of masks (N, H, W) thresholded ``offset`` higher and lower: (N,), float32; 0 if both are empty."""
    strict, lax = mask_area(logits > threshold + offset), mask_area(logits > threshold - offset)
    return strict / lax.clamp(min=1)


def mask_iou(first: Tensor, second: Tensor) -> Tensor:
    """IoU of masks (..., H, W), bool, pair by pair: (...), float32, in [0, 1]; 0 if both are empty."""
    both, either = mask_area(torch.logical_and(first, second)), mask_area(torch.logical_or(first, second))
    return both / either.clamp(min=1)
