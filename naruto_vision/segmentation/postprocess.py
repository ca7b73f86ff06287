"""From low-resolution logits to masks at the image's size, looking only where a mask can be.

A resampled logit is a mix of its neighbours and cannot be above all of them. So outside the box of those low-resolution
logits that are above the laxest threshold (and one step around it), every pixel is off and counts nowhere: not in the
mask, not in its box, not in either side of the stability score.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from naruto_vision.geometry import mask_area, packed_rows, stability_score, turned, xyxy_from_mask, xyxy_from_masks
from naruto_vision.records import ImageArray, Mask
from naruto_vision.segmentation.protocol import FullMask, SceneEmbedding


class Blend(NamedTuple):
    """How each of L outputs along an axis is mixed of two inputs.

    Attributes:
        before: Shape (L,), int64: the input before or at the output's place; never falls.
        after: Shape (L,), int64: the input after it, or the same at the axis' end.
        pairs: Shape (2 L,), int64: of each output the input after it, then that before it.
        shares: Shape (2 L,), float32: how much of each; the two of an output sum to 1.
        ends: Shape (L + 1,), int64: where the outputs' pairs end, from 0 on.
    """

    before: Tensor
    after: Tensor
    pairs: Tensor
    shares: Tensor
    ends: Tensor


def blend(source: int, target: int) -> Blend | None:
    """Tabulate bilinear resampling along one axis, as ``interpolate(..., align_corners=False)`` does.

    Args:
        source: Length of the axis before.
        target: Length after.

    Returns:
        The table, or None where the lengths are equal and nothing has to be done.
    """
    if source == target:
        return None
    scale = torch.tensor(source, dtype=torch.float32) / target
    places = (scale * (torch.arange(target) + 0.5) - 0.5).clamp(min=0)
    before = places.long().clamp(max=source - 1)
    after = (before + 1).clamp(max=source - 1)
    share = (places - before).clamp(0, 1)
    pairs, shares = torch.stack([after, before], 1).flatten(), torch.stack([share, 1 - share], 1).flatten()
    return Blend(before, after, pairs, shares, torch.arange(0, 2 * target + 1, 2))


def reach(table: Blend | None, first: int, last: int) -> tuple[int, int]:
    """Find the outputs that inputs have a part in.

    Args:
        table: Of the axis.
        first: First input.
        last: Last input, inclusive.

    Returns:
        The first and the last output, inclusive; the last is before the first where the inputs have no part at all.
    """
    if table is None:
        return first, last
    lowest = int(torch.searchsorted(table.after, first))
    return lowest, int(torch.searchsorted(table.before, last, right=True)) - 1


def needs(table: Blend | None, first: int, last: int) -> tuple[int, int]:
    """Find the inputs that outputs are mixed of.

    Args:
        table: Of the axis.
        first: First output.
        last: Last output, inclusive.

    Returns:
        The first and the last input, inclusive.
    """
    return (first, last) if table is None else (int(table.before[first]), int(table.after[last]))


def mix_rows(rows: Tensor, table: Blend | None, start: int, first: int, last: int) -> Tensor:
    """Resample a window along its first axis.

    Args:
        rows: Shape (h, w), float32: the inputs from ``start`` on, as far as ``needs`` says.
        table: Of the axis.
        start: Which input the first row is.
        first: First output.
        last: Last output, inclusive.

    Returns:
        Shape (last - first + 1, w), float32.
    """
    if table is None:
        return rows[first - start : last - start + 1]
    part = slice(2 * first, 2 * last + 2)
    # a sum of weighted rows in one pass, with vector instructions: the input after is multiplied and rounded, the one
    # before comes with a fused multiply-add, which is what the stock kernel does: the same bits, not nearly the same
    inputs, ends, shares = table.pairs[part] - start, table.ends[: last - first + 2], table.shares[part]
    mixed: Tensor = torch.embedding_bag(rows, inputs, ends, per_sample_weights=shares, include_last_offset=True)[0]
    return mixed


def mix_columns(rows: Tensor, table: Blend | None, start: int, first: int, last: int) -> Tensor:
    """Resample a window along its second axis.

    Args:
        rows: Shape (h, w), float32: the columns from ``start`` on, as far as ``needs`` says.
        table: Of the axis.
        start: Which input the first column is.
        first: First output.
        last: Last output, inclusive.

    Returns:
        Shape (h, last - first + 1), float32, contiguous where anything was done.
    """
    if table is None:
        return rows[:, first - start : last - start + 1]
    # mixing whole rows is vectorised, mixing columns would go number by number and take longer than turning twice
    return turned(mix_rows(turned(rows), table, start, first, last))


Span: TypeAlias = tuple[int, int]
"""The first and the last place along an axis, inclusive."""

Spans: TypeAlias = tuple[Span, Span, Span]
"""One stretch of an axis at three sizes: of the logits, of the model's input, of the image."""

_BAND_PIXELS = 1 << 17  # pixels that are resampled at once: half a megabyte, and what they are mixed of
_DENSE_BYTES = 1 << 28  # whole maps are resampled in chunks of at most 256 MiB of logits
_SLACK = 1e-3  # in logits and in scores; rounding moves a mix of negative numbers by a millionth of itself


class Frame:
    """The sizes between a model's logits and an image, with the tables to get from one to the other.

    Args:
        low: Side of the square of low-resolution logits.
        square: Side of the model's square input.
        inner: Height and width of the resized image inside that square; the rest is padding.
        outer: Height and width of the image.
    """

    def __init__(self, low: int, square: int, inner: tuple[int, int], outer: tuple[int, int]) -> None:
        self.low = low
        self.outer = outer
        rise = blend(low, square)
        self.rows = (rise, blend(inner[0], outer[0]))
        self.columns = (rise, blend(inner[1], outer[1]))
        self.inner = inner

    def full_masks(self, logits: Tensor, stability: float, offset: float) -> Iterator[FullMask]:
        """Bring logits to the image's size and keep the stable masks.

        Args:
            logits: Shape (M, low, low), float32, on the CPU.
            stability: The least stability score, in [0, 1].
            offset: How far the stability score moves the threshold, in logits.

        Yields:
            The masks that are stable and not empty, in the order of ``logits``.
        """
        for index, each in enumerate(logits):
            box = xyxy_from_mask(each.numpy() > -offset - _SLACK)
            rows = None if box is None else _spans(self.rows, box[1], box[3], self.inner[0])
            columns = None if box is None else _spans(self.columns, box[0], box[2], self.inner[1])
            if rows is None or columns is None:  # nothing is above the bar, or only in the padding
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
        """Threshold a window of one map: its mask and stability score, which is 0 where it is sure to be too low."""
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
            if strict + rest < (stability - _SLACK) * (lax + rest):  # too low even if all the rest were on
                return mask, np.float32(0)
            np.greater(values, 0, out=mask[first - top : first - top + step])
        return mask, np.float32(strict) / np.float32(max(1, lax))

    def _resample(self, part: Tensor, start: int, rows: Spans, columns: Spans) -> Tensor:
        """Resample a band of a window whose columns the first stage has mixed; columns come first in the second too."""
        part = mix_rows(part[rows[0][0] - start :], self.rows[0], rows[0][0], *rows[1])
        part = mix_columns(part, self.columns[1], columns[1][0], *columns[2])
        return mix_rows(part, self.rows[1], rows[1][0], *rows[2])


def dense_masks(
    logits: Tensor, upscale: Callable[[Tensor], Tensor], pixels: int, stability: float, offset: float
) -> Iterator[FullMask]:
    """Bring whole maps to the image's size: what a GPU does faster than looking for windows.

    Args:
        logits: Shape (M, h, w), float32, any device.
        upscale: Brings maps of shape (m, h, w) to the image's size (m, H, W).
        pixels: H times W.
        stability: The least stability score, in [0, 1].
        offset: How far the stability score moves the threshold, in logits.

    Yields:
        The masks that are stable and not empty, in the order of ``logits``.
    """
    step = max(1, _DENSE_BYTES // (4 * pixels))
    for start in range(0, len(logits), step):
        whole = upscale(logits[start : start + step])
        scores = stability_score(whole, offset)
        masks = whole > 0
        passed = ((scores >= stability) & (mask_area(masks) > 0)).nonzero()[:, 0]
        masks = masks[passed]
        boxes, indices = xyxy_from_masks(masks).tolist(), (passed + start).tolist()
        packed = packed_rows(masks).cpu().numpy()  # one transfer a chunk, of an eighth of a byte a pixel
        rows = zip(indices, boxes, packed, scores[passed].tolist(), strict=True)
        for index, (x1, y1, x2, y2), bits, score in rows:
            inside = np.unpackbits(bits[y1 : y2 + 1], axis=1).view(np.bool_)[:, x1 : x2 + 1]
            yield FullMask(index, (x1, y1, x2, y2), inside, float(score))


def _spans(tables: tuple[Blend | None, Blend | None], first: int, last: int, inner: int) -> Spans | None:
    """Find what inputs reach at the image's size, and what that takes; None where it is all in the padding."""
    middle = reach(tables[0], first, last)
    outer = reach(tables[1], middle[0], min(middle[1], inner - 1))
    return None if outer[1] < outer[0] else _back(tables, outer)


def _back(tables: tuple[Blend | None, Blend | None], outer: Span) -> Spans:
    middle = needs(tables[1], *outer)
    return needs(tables[0], *middle), middle, outer


def resize_longest(image: ImageArray, side: int) -> ImageArray:
    """Scale an image so that its longest side fills the model's input.

    Args:
        image: Shape (H, W, 3), uint8, RGB.
        side: Of the input, in pixels.

    Returns:
        Shape (h, w, 3), uint8, with ``max(h, w) == side``.
    """
    height, width = image.shape[:2]
    scale = side / max(height, width)
    size = (max(1, int(width * scale + 0.5)), max(1, int(height * scale + 0.5)))
    return np.array(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))


@torch.no_grad()
def upscale(logits: Tensor, embedding: SceneEmbedding, side: int) -> Tensor:
    """Bring low-resolution logits to the upright image's size.

    Args:
        logits: Shape (P, h, w), float32.
        embedding: Of the image that was asked about.
        side: Of the model's input, in pixels.

    Returns:
        Shape (P, H, W), float32.
    """
    height, width = embedding.input_size
    square = interpolate(logits[:, None], (side, side), mode="bilinear")
    whole = interpolate(square[..., :height, :width], embedding.original_size, mode="bilinear")
    return whole[:, 0]


@torch.no_grad()
def stable_masks(
    logits: Tensor, embedding: SceneEmbedding, side: int, stability: float, offset: float
) -> Iterator[FullMask]:
    """Bring masks to the upright image's size and keep the stable ones.

    Args:
        logits: Shape (M, h, w), float32.
        embedding: Of the image that was asked about.
        side: Of the model's input, in pixels.
        stability: The least stability score, in [0, 1].
        offset: How far the stability score moves the threshold, in logits.

    Yields:
        The masks that are stable and not empty, in the order of ``logits``.
    """
    height, width = embedding.original_size
    if logits.device.type == "cpu":
        frame = Frame(logits.shape[-1], side, embedding.input_size, (height, width))
        yield from frame.full_masks(logits, stability, offset)
    else:
        whole = partial(upscale, embedding=embedding, side=side)
        yield from dense_masks(logits, whole, height * width, stability, offset)
