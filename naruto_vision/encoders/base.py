"""The encoder interface: images (and for some encoders texts) to unit vectors."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from naruto_vision.encoders.preprocess import BatchPreparation
from naruto_vision.errors import BadImageError, InputError
from naruto_vision.io.bundles import model_fingerprint
from naruto_vision.io.images import ImageSource, read_image
from naruto_vision.records import ImageArray


class Encoder(nn.Module, ABC):
    """A frozen or trainable map from images to unit vectors."""

    dim: int
    has_text: bool = False
    arithmetic: Literal["float32", "int8", "onnx", "openvino"] = "float32"
    mixes: bool = False

    @abstractmethod
    def preprocess(self, image: ImageArray) -> Tensor:
        """Preprocess one image as in the training of the weights.

        Shapes: image (H, W, 3), uint8; returns (3, S, S), float32.
        """

    @abstractmethod
    def encode_images(self, pixels: Tensor) -> Tensor:
        """Embed preprocessed images; gradients flow: pixels (B, 3, S, S), float32; returns (B, D), float32."""

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Embed texts; gradients flow: returns (T, D), float32."""
        raise InputError(
            f"{type(self).__name__} has no text tower, so it cannot read {list(texts)[:1]}; use a CLIP encoder for text"
        )

    @property
    def stride(self) -> int:
        """Side in pixels of a patch of ``dense``; the sides of its images are multiples of it."""
        return 1

    def dense(self, pixels: Tensor) -> Tensor:  # noqa: ARG002 - the parameter of those that have patch features
        """Return the patch features of preprocessed images (B, 3, H, W) of any size: (B, C, h, w), float32."""
        msg = f"{type(self).__name__} has no patch features; use ClipEncoder (of a vision transformer) or TimmEncoder"
        raise InputError(msg)

    @abstractmethod
    def describe(self) -> Mapping[str, Any]:
        """Return the JSON values (architecture, preprocessing) that, with the weights, determine the vectors."""

    def mirrored(self, pixels: Tensor) -> Tensor:
        """Flip preprocessed images from left to right."""
        return pixels.flip(-1)

    @property
    def preparation(self) -> BatchPreparation | None:
        """Batched preprocessing on the encoder's device; None if only ``preprocess`` is available."""
        return None

    @property
    def image_tower(self) -> nn.Module:
        """The layers that ``encode_images`` runs; by default the whole encoder."""
        return self

    @property
    def recipe(self) -> Mapping[str, Any]:
        """JSON values from which ``open_recipe`` opens this encoder again; empty if it cannot."""
        return {}

    @property
    def short_name(self) -> str:
        """Model and weights, for logs."""
        return (
            " ".join(str(value) for key, value in self.recipe.items() if key != "kind" and value) or type(self).__name__
        )

    @property
    def fingerprint(self) -> str:
        """64 hexadecimal digits that change with the architecture, the preprocessing or any weight."""
        return model_fingerprint(self.describe(), self.state_dict())


class WrappedEncoder(Encoder):
    """An encoder whose images are computed in another way; all else, and the fingerprint, is the wrapped encoder's."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.dim = encoder.dim
        self.has_text = encoder.has_text

    @property
    def image_tower(self) -> nn.Module:
        """That of the wrapped encoder."""
        return self.encoder.image_tower

    @property
    def preparation(self) -> BatchPreparation | None:
        """That of the wrapped encoder."""
        return self.encoder.preparation

    @property
    def recipe(self) -> Mapping[str, Any]:
        """That of the wrapped encoder, which it opens in float32."""
        return self.encoder.recipe

    @property
    def fingerprint(self) -> str:
        """That of the wrapped encoder."""
        return self.encoder.fingerprint

    def preprocess(self, image: ImageArray) -> Tensor:
        """Preprocess one image as the wrapped encoder does."""
        return self.encoder.preprocess(image)

    def mirrored(self, pixels: Tensor) -> Tensor:
        """Flip preprocessed images as the wrapped encoder does."""
        return self.encoder.mirrored(pixels)

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Embed texts as the wrapped encoder does."""
        return self.encoder.encode_texts(texts)

    def describe(self) -> Mapping[str, Any]:
        """Return the description of the wrapped encoder."""
        return self.encoder.describe()


def require_cpu(pixels: Tensor, what: str) -> None:
    """Refuse images on another device."""
    if pixels.device.type != "cpu":
        raise InputError(f"{what}: expected images on the CPU, found {pixels.device}; use the encoder itself there")


def encode_images(encoder: Encoder, pixels: Tensor, *, mirror: bool = False, renormalise: bool = True) -> Tensor:
    """Embed preprocessed images (B, 3, S, S), with ``mirror`` averaged over flips: (B, D), float32.

    Without ``renormalise`` an average keeps its length, which is at most 1.
    """
    vectors = encoder.encode_images(pixels)
    if not mirror:
        return vectors
    average = (vectors + encoder.encode_images(encoder.mirrored(pixels))) / 2
    return nn.functional.normalize(average, dim=-1) if renormalise else average


def prepared(preprocess: Callable[[ImageArray], Tensor], image: ImageArray, name: str | Path) -> Tensor:
    """Preprocess one image (H, W, 3) for an encoder: (3, S, S); BadImageError, with its name, where that fails."""
    try:
        return preprocess(image)
    except (ValueError, RuntimeError, ArithmeticError, MemoryError) as error:
        size = f"{image.shape[1]}x{image.shape[0]} pixels"
        raise BadImageError(name, f"{size} cannot be prepared for the encoder ({error})") from None


@contextmanager
def evaluating(encoder: nn.Module) -> Iterator[None]:
    """Set evaluation mode, and leave every module as it was: in training mode batch norms depend on the batch."""
    training = [module for module in encoder.modules() if module.training]
    encoder.train(False)
    try:
        yield
    finally:
        for module in training:
            module.training = True


@torch.inference_mode()
def embed_images(
    encoder: Encoder, images: Sequence[ImageSource], *, batch_size: int = 32, mirror: bool = False
) -> Tensor:
    """Embed images in batches on the encoder's device.

    Args:
        encoder: The encoder, whose device is used.
        images: N images, as ``read_image`` takes them: files, Pillow images, or arrays of shape (H, W, 3), uint8, RGB.
        batch_size: Images per forward pass.
        mirror: Average each vector with that of the horizontally flipped image, and renormalise.

    Returns:
        Shape (N, D), float32, unit rows, on the CPU.
    """
    starts = range(0, len(images), batch_size)
    rows = [
        embed_pixels(
            encoder,
            [encoder.preprocess(read_image(image)) for image in images[start : start + batch_size]],
            mirror=mirror,
        )
        for start in starts
    ]
    return torch.cat(rows) if rows else torch.zeros(0, encoder.dim)


@torch.inference_mode()
def embed_pixels(encoder: Encoder, pixels: Sequence[Tensor], *, mirror: bool = False) -> Tensor:
    """Embed N preprocessed images (3, S, S) in one batch on the encoder's device: (N, D), float32, on the CPU."""
    batch = torch.stack(list(pixels)).to(next(encoder.parameters()).device)
    with evaluating(encoder):
        return encode_images(encoder, batch, mirror=mirror).float().cpu()
