"""From low-resolution logits to masks at the picture's size, looking only where a mask can be.

A resampled logit is a mix of its neighbours and cannot be above all of them. So outside the box of those low-resolution
logits that are above the laxest threshold (and one step around it), every pixel is off and counts nowhere: not in the
mask, not in its box, not in either side of the stability score.
"""

from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np
from torch import Tensor

from naruto_vision.records import Mask
from naruto_vision.segmentation.base import FullMask
from naruto_vision.segmentation.boxes import xyxy_from_mask, xyxy_from_masks
from naruto_vision.segmentation.masks import mask_area, packed_rows, stability_score
from naruto_vision.segmentation.resampling import Blend, blend, mix_columns, mix_rows, needs, reach

Span: TypeAlias = tuple[int, int]
"""The first and the last place along an axis, inclusive."""

Spans: TypeAlias = tuple[Span, Span, Span]
"""One stretch of an axis at three sizes: of the logits, of the model's input, of the picture."""

_BAND_PIXELS = 1 << 17  # pixels that are resampled at once: half a megabyte, and what they are mixed of
_DENSE_BYTES = 1 << 28  # whole maps are resampled in chunks of at most 256 MiB of logits
_SLACK = 1e-3  # in logits and in scores; rounding moves a mix of negative numbers by a millionth of itself


class Frame:
    """The sizes between a model's logits and a picture, with the tables to get from one to the other.

    Args:
        low: Side of the square of low-resolution logits.
        square: Side of the model's square input.
        inner: Height and width of the resized picture inside that square; the rest is padding.
        outer: Height and width of the picture.
    """

    def __init__(self, low: int, square: int, inner: tuple[int, int], outer: tuple[int, int]) -> None:
        self.low = low
        self.outer = outer
        rise = blend(low, square)
        self.rows = (rise, blend(inner[0], outer[0]))
        self.columns = (rise, blend(inner[1], outer[1]))
        self.inner = inner

    def full_masks(self, logits: Tensor, stability: float, offset: float) -> Iterator[FullMask]:
        """Bring logits to the picture's size and keep the stable masks.

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
    """Bring whole maps to the picture's size: what a GPU does faster than looking for windows.

    Args:
        logits: Shape (M, h, w), float32, any device.
        upscale: Brings maps of shape (m, h, w) to the picture's size (m, H, W).
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
    """Find what inputs reach at the picture's size, and what that takes; None where it is all in the padding."""
    middle = reach(tables[0], first, last)
    outer = reach(tables[1], middle[0], min(middle[1], inner - 1))
    return None if outer[1] < outer[0] else _back(tables, outer)


def _back(tables: tuple[Blend | None, Blend | None], outer: Span) -> Spans:
    middle = needs(tables[1], *outer)
    return needs(tables[0], *middle), middle, outer
