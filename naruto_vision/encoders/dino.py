"""DINOv2 as image encoder, by its official names and with its official preprocessing."""

from collections.abc import Mapping
from typing import Any, Literal

from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from naruto_vision.encoders.backbone import RANDOM, TimmEncoder
from naruto_vision.encoders.preprocess import Preparation
from naruto_vision.io.bundles import model_fingerprint
from naruto_vision.io.downloads import official_file

KIND = "dino"
HUB_NAMES = {
    f"dinov2_{short}14{hub}": f"vit_{size}_patch14_{timm_name}dinov2.lvd142m"
    for short, size in (("vits", "small"), ("vitb", "base"), ("vitl", "large"), ("vitg", "giant"))
    for hub, timm_name in (("", ""), ("_reg", "reg4_"))
}
"""Names of the models in DINOv2's repository to those of timm."""

_RESIZE_RATIO = 256 / 224  # the short side before the centre crop, as in DINOv2's own evaluation


def local_dino(model: str, weights: str | None) -> tuple[str, str | None]:
    """Return timm's name of a model, and the local file of its weights if there is one, or else ``weights``."""
    model = HUB_NAMES.get(model, model)
    official = next((name for name, known in HUB_NAMES.items() if known == model), model)
    file = official_file(weights or official, "DinoEncoder", missing_ok=weights in {None, RANDOM})
    return model, str(file) if file else weights


class DinoEncoder(TimmEncoder):
    """A DINOv2 image tower, or another vision transformer of timm, preprocessed as DINOv2 is.

    The short side is resized to 8/7 of ``image_size``, the centre is cropped, and values are normalised as for
    ImageNet.

    Args:
        model: A timm name such as ``vit_small_patch14_dinov2.lvd142m``, or an official one such as ``dinov2_vits14``.
        weights: A local file of timm or the official one, or its name such as ``dinov2_vits14``; None takes the file
            that ``weights download`` saved, or else lets timm download it; ``random`` takes untrained ones.
        image_size: Side of the square input in pixels, a multiple of the patch size.
        pooling: ``cls`` takes the class token, ``mean`` averages the patch tokens.

    Examples:
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
        super().__init__(*local_dino(model, weights), image_size=image_size, pooling=pooling)
        self._weights = weights

    @property
    def preparation(self) -> Preparation:
        """The steps of ``preprocess`` for batches."""
        side = round(self.image_size * _RESIZE_RATIO)
        return Preparation(self.image_size, "shortest", side, mean=IMAGENET_DEFAULT_MEAN, std=IMAGENET_DEFAULT_STD)

    @property
    def recipe(self) -> Mapping[str, Any]:
        """JSON values from which ``open_recipe`` opens this encoder again; empty for random weights."""
        return {**super().recipe, "kind": KIND} if self._weights != RANDOM else {}

    def describe(self) -> Mapping[str, Any]:
        """Return the JSON values that, with the weights, determine the vectors."""
        return {"architecture": self.model, "image_size": self.image_size, "pooling": self.pooling}

    @property
    def fingerprint(self) -> str:
        """64 hexadecimal digits that change with the architecture, the preprocessing or any weight."""
        state = {f"vit.{name}": value for name, value in self.tower.state_dict().items()}  # as of the first release
        return model_fingerprint(self.describe(), state)
