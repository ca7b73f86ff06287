"""Bilinear resampling of a window of a picture, with bit for bit the numbers that resampling the whole would give.

``torch.nn.functional.interpolate`` can only start at a picture's corner. What it computes for one output row or column
is a mix of two input rows or columns, so a table of who is mixed with whom, made for the whole axis, can be applied to
a part of it: columns first, then rows, in the stock order and with the stock rounding (x86 processors with AVX2).

PyTorch has a second bilinear kernel, which multiplies the shares of row and column first and sums four products. It is
for outputs whose height and width add up to 128 or less and, on a single thread, for three channels: so the three maps
of a prompt, brought to size in one call, come out a little different on one thread and on two. What is here is the
kernel of two threads and more, whatever their number.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from naruto_vision.segmentation.turning import turned


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
