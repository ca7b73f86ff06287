"""Precision and compilation of SAM's networks at inference."""

from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any, Literal, TypeAlias

import torch
from segment_anything.modeling import Sam
from torch import Tensor

from naruto_vision.errors import InputError
from naruto_vision.io.machine import has_fast_bf16
from naruto_vision.segmentation.fast_decoder import (
    Finer,
    decode_prompts,
    mask_logits,
    repeat_first,
    share_image,
    upscaled_masks,
)
from naruto_vision.segmentation.fast_encoder import Products, encode_image, products_of
from naruto_vision.segmentation.protocol import MaskPredictions

Precision: TypeAlias = Literal["float32", "bfloat16", "float16"]
"""Precision of large matrix products; with 16 bits, sums, norms and prompts stay in float32."""

Compile: TypeAlias = Literal["none", "encoder", "all"]
"""What ``torch.compile`` compiles: nothing, the image encoder, or the mask decoder too."""

IMAGES_AT_ONCE = {"cpu": 1, "cuda": 4}
"""Images per image-encoder batch: one already fills a CPU, and more need more memory."""

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_IMAGES_BYTES = {"cpu": 1 << 23, "cuda": 1 << 30}
"""Image tokens per decoder batch, one set per prompt: 2 prompts of the official sizes on a CPU, 256 on a GPU."""


BACKEND = "inductor"
"""Backend of ``torch.compile``: without CUDA graphs, whose outputs the next call overwrites."""

_COMPILED_PROMPTS = 32
"""Prompts per batch of compiled mask upscaling: enough for a GPU, with little padding."""


def check_precision(precision: Precision, device: torch.device) -> None:
    """Raise InputError for a precision that is slower than float32 on a device."""
    if device.type != "cpu" or precision == "float32" or (precision == "bfloat16" and _fast_bf16()):
        return
    why = {
        "bfloat16": "this CPU has neither AMX nor AVX512-BF16 and is far slower than in float32; use float32",
        "float16": "a CPU is no faster with it than with float32; use a GPU, or bfloat16 or float32",
    }
    raise InputError(f"precision {precision}: {why[precision]}")


_fast_bf16 = cache(has_fast_bf16)


@cache
def compile_once(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function on its first call, and again for each new input size."""
    return torch.compile(function, backend=BACKEND, dynamic=False)


def few_sizes(count: int, most: int) -> int:
    """Choose a batch size for code compiled for each size: a power of two with no more batches than ``most``.

    Examples:
        >>> few_sizes(1024, 256), few_sizes(300, 256), few_sizes(25, 256), few_sizes(9, 6)
        (256, 256, 32, 6)
    """
    batches = -(-count // most)
    each = -(-count // batches)
    return min(most, 1 << (each - 1).bit_length())


class ForwardPasses:
    """The image encoder, and the mask decoder for many prompts, without gradients.

    Autocast, for instance from a Trainer's ``precision``, has no effect here; the given precision decides.
    """

    def __init__(self, sam: Sam, precision: Precision, compile: Compile) -> None:
        self.sam = sam
        self.precision: Precision = precision
        self.compile: Compile = compile
        self._products: tuple[object, list[Products]] | None = None
        sam.image_encoder.register_load_state_dict_post_hook(self.forget_rounded)

    @torch.no_grad()
    def encode(self, squares: Tensor) -> Tensor:
        """Run the image encoder on squares (B, 3, S, S), float32, normalised and padded: (B, C, S / 16, S / 16)."""
        check_precision(self.precision, squares.device)
        run = encode_image if self.compile == "none" else compile_once(encode_image)
        with torch.autocast(squares.device.type, enabled=False):
            features: Tensor = run(self.sam.image_encoder, squares, self._rounded())
        if self.precision == "float16" and not features.isfinite().all():
            raise InputError("precision float16: the activations of these weights overflow; use bfloat16")
        return features

    def images_at_once(self, count: int, device: torch.device) -> int:
        """Return the batch size for the next ``count`` images."""
        most = IMAGES_AT_ONCE.get(device.type, 1)
        # compiled code is compiled per size: full batches and single images are only two sizes
        return 1 if self.compile != "none" and count < most else min(most, count)

    def forget_rounded(self, *_: object) -> None:
        """Drop the rounded copies of weights after a change by loading or training (``SamModel.encode``)."""
        self._products = None

    def _rounded(self) -> list[Products]:
        """Return the image encoder's linear layers, rounded once until weights change."""
        encoder = self.sam.image_encoder
        if self.precision == "float32":
            return products_of(encoder)
        where = [each.data_ptr() for each in encoder.parameters()]
        if self._products is None or self._products[0] != where:
            with torch.inference_mode(mode=False):
                self._products = (where, products_of(encoder, _DTYPES[self.precision]))
        return self._products[1]

    @torch.no_grad()
    def predict_masks(
        self, features: Tensor, tokens: Tensor, above: float, batch: int | None = None, finer: Finer | None = None
    ) -> Iterator[MaskPredictions]:
        """Yield the masks whose estimated IoU is above a threshold, from features (1, C, h, w) and tokens (P, T, C)."""
        encoder, decoder, device = self.sam.prompt_encoder, self.sam.mask_decoder, features.device
        check_precision(self.precision, device)
        compiled, dtype = self.compile == "all", _DTYPES[self.precision]
        run = compile_once(decode_prompts) if compiled else decode_prompts
        upscale = partial(upscaled_masks, finer=finer) if finer else upscaled_masks
        masks = (compile_once(upscale), _COMPILED_PROMPTS) if compiled else (upscale, None)
        rows, columns = features.shape[2:]
        with torch.autocast(device.type, enabled=False):
            positions, no_mask = encoder.get_dense_pe(), encoder.no_mask_embed.weight
            shared = share_image(decoder, features, positions, no_mask, dtype)
        bytes_each = dtype.itemsize * shared.tokens.numel()
        step = batch or max(1, _IMAGES_BYTES.get(device.type, 1 << 26) // bytes_each)
        if compiled and len(tokens):
            step = few_sizes(len(tokens), step)
        for start in range(0, len(tokens), step):
            some = tokens[start : start + step]
            with torch.autocast(device.type, enabled=False):
                decoded = run(decoder, shared, repeat_first(some, step) if compiled else some)
                wanted = decoded.ious > above
                wanted[len(some) :] = False  # padding of the batch
                logits = mask_logits(decoder, decoded, wanted, (rows, columns), *masks)
            yield MaskPredictions(wanted.nonzero()[:, 0] + start, logits, decoded.ious[wanted])
