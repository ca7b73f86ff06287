"""DINOv2 and other timm vision transformers as image encoders."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import timm
import torch
from PIL import Image
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn
from torch import Tensor, nn
from torch.nn.functional import normalize
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Normalize, Resize, ToTensor

from naruto_vision.encoders.base import Encoder
from naruto_vision.encoders.class_token import timm_class_token
from naruto_vision.encoders.preprocess import Preparation, middle
from naruto_vision.errors import InputError
from naruto_vision.io.bundles import check_fits
from naruto_vision.io.checkpoints import load_state_dict
from naruto_vision.io.downloads import official_file
from naruto_vision.records import ImageArray

RANDOM = "random"
KIND = "dino"
HUB_NAMES = {
    f"dinov2_{short}14{hub}": f"vit_{size}_patch14_{timm_name}dinov2.lvd142m"
    for short, size in (("vits", "small"), ("vitb", "base"), ("vitl", "large"), ("vitg", "giant"))
    for hub, timm_name in (("", ""), ("_reg", "reg4_"))
}
"""Names of the models in DINOv2's repository to those of timm."""

_LARGEST = 2048  # pixels a side; attention takes memory of the fourth power of the side
_RESIZE_RATIO = 256 / 224  # the short side before the centre crop, as in DINOv2's own evaluation


class DinoEncoder(Encoder):
    """A DINOv2 image tower; it has no text tower.

    Args:
        model: A timm name such as ``vit_small_patch14_dinov2.lvd142m``, or an official one such as ``dinov2_vits14``.
        weights: A local file of timm or the official one, or its name such as ``dinov2_vits14``; None takes the file
            that ``weights download`` saved, or else lets timm download it; ``random`` takes untrained ones.
        image_size: Side of the square input in pixels, a multiple of the patch size.
        pooling: ``cls`` takes the class token, ``mean`` averages the patch tokens.

    Example:
        >>> import naruto_vision as nv
        >>> encoder = nv.DinoEncoder("vit_tiny_patch16_224", weights="random", image_size=32)
        >>> encoder.dim
        192

    Raises:
        InputError: If timm has no such vision transformer, or ``image_size`` is not a multiple of the patch size.
        StateDictError: If the file does not fit the model.
    """

    def __init__(
        self,
        model: str = "vit_small_patch14_dinov2.lvd142m",
        weights: str | None = None,
        *,
        image_size: int = 224,
        pooling: Literal["cls", "mean"] = "cls",
    ) -> None:
        super().__init__()
        model = HUB_NAMES.get(model, model)
        if not timm.is_model(model):
            close = ", ".join(timm.list_models("*dinov2*", pretrained=True)[:4])
            msg = f"{model}: timm has no such model; DINOv2's are {close}, …"
            raise InputError(msg)
        if not 0 < image_size <= _LARGEST:
            msg = f"{model}: expected an image size from 1 to {_LARGEST} pixels, found {image_size}"
            raise InputError(msg)
        self.model = model
        self.pooling = pooling
        self.image_size = image_size
        official = next((name for name, known in HUB_NAMES.items() if known == model), model)
        file = official_file(weights or official, "DinoEncoder", missing_ok=weights in {None, RANDOM})
        self.vit: Any = _build(model, str(file) if file else weights, image_size)
        self.dim = int(self.vit.num_features)
        self._weights = weights
        self._transform = Compose(
            [
                Resize(round(image_size * _RESIZE_RATIO), interpolation=InterpolationMode.BICUBIC),
                CenterCrop(image_size),
                ToTensor(),
                Normalize(IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD),
            ]
        )

    def preprocess(self, image: ImageArray) -> Tensor:
        """Resize the short side to 8/7 of S (bicubic), crop the centre, normalise as for ImageNet: (3, S, S)."""
        pixels: Tensor = self._transform(Image.fromarray(np.ascontiguousarray(image[middle(*image.shape[:2])])))
        return pixels

    def encode_images(self, pixels: Tensor) -> Tensor:
        """Embed preprocessed images (B, 3, S, S), float32: (B, D), float32, unit rows; gradients flow."""
        pooled = timm_class_token(self.vit, pixels) if self.pooling == "cls" else None
        if pooled is None:
            tokens = self.vit.forward_features(pixels)  # (B, prefix + patches, D)
            pooled = tokens[:, 0] if self.pooling == "cls" else tokens[:, self.vit.num_prefix_tokens :].mean(dim=1)
        return normalize(pooled.float(), dim=-1)

    @property
    def preparation(self) -> Preparation:
        """The steps of ``preprocess`` for batches."""
        side = round(self.image_size * _RESIZE_RATIO)
        return Preparation(self.image_size, "shortest", side, mean=IMAGENET_DEFAULT_MEAN, std=IMAGENET_DEFAULT_STD)

    @property
    def image_tower(self) -> nn.Module:
        """The vision transformer."""
        tower: nn.Module = self.vit
        return tower

    @property
    def recipe(self) -> Mapping[str, Any]:
        """JSON values from which ``open_recipe`` opens this encoder again; empty for random weights."""
        options = {"model": self.model, "image_size": self.image_size, "pooling": self.pooling}
        return {} if self._weights == RANDOM else {"kind": KIND, "weights": self._weights, **options}

    def describe(self) -> Mapping[str, Any]:
        """Return the JSON values that, with the weights, determine the vectors."""
        return {"architecture": self.model, "image_size": self.image_size, "pooling": self.pooling}


def _build(model: str, weights: str | None, image_size: int) -> VisionTransformer:
    if weights in (None, RANDOM):
        return _create(model, image_size, pretrained=weights is None)
    state = load_state_dict(Path(weights))
    for device in ("meta", "cpu"):  # a file that does not fit is refused before memory is taken
        with torch.device(device):
            vit = _create(model, image_size, pretrained=False)
        own = vit.state_dict().keys()
        converted = {
            name: value
            for name, value in checkpoint_filter_fn(state, vit).items()
            if name in own or not name.startswith(("head.", "fc_norm."))  # a classification head is not used here
        }
        check_fits(vit, converted, weights, model)
    vit.load_state_dict(converted)
    return vit


def _create(model: str, image_size: int, *, pretrained: bool) -> VisionTransformer:
    try:
        vit = timm.create_model(model, pretrained=pretrained, num_classes=0, img_size=image_size)
    except (AssertionError, TypeError) as error:  # TypeError: another kind of network, without an image size
        msg = f"{model} at {image_size} pixels: expected a vision transformer ({error})"
        raise InputError(msg) from None
    except OSError:
        if not pretrained:
            raise
        official = next((name for name, known in HUB_NAMES.items() if known == model), "dinov2_vits14")
        fetch = f"naruto-vision weights download {official}"
        msg = f"{model}: its weights cannot be downloaded here; on a machine with a network, run: {fetch}"
        raise InputError(msg) from None
    if not isinstance(vit, VisionTransformer):
        msg = f"{model}: expected a vision transformer, found {type(vit).__name__}"
        raise InputError(msg)
    patch = int(vit.patch_embed.patch_size[0])
    if image_size % patch:  # timm crops every image without a message
        msg = f"{model}: expected an image size that is a multiple of its patch of {patch}, found {image_size}"
        raise InputError(msg)
    return vit
