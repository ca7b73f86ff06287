"""CLIP through open_clip: a bundle, an architecture with weights, or a local checkpoint."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from open_clip.model import convert_to_custom_text_state_dict, get_model_preprocess_cfg
from open_clip.transform import PreprocessCfg, image_transform_v2, merge_preprocess_dict
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import normalize

from naruto_vision.encoders.base import Encoder
from naruto_vision.encoders.class_token import clip_class_token, clip_patches
from naruto_vision.encoders.lora import plain_state
from naruto_vision.encoders.preprocess import Preparation, middle
from naruto_vision.encoders.prompts import TEMPLATES
from naruto_vision.encoders.tiny import TINY_CLIP, TINY_PREPROCESS, TinySizes, build_tiny_clip, vocabulary_of
from naruto_vision.errors import FormatError, InputError
from naruto_vision.io.bundles import INFO, bundle_path, check_fits, load_bundle, read_bundle_info, save_bundle
from naruto_vision.io.checkpoints import load_state_dict
from naruto_vision.io.downloads import official_file
from naruto_vision.records import ImageArray

RANDOM = "random"
KIND = "clip"

_LOG = logging.getLogger(__name__)
_WRAPPERS = ("clip.", "model.", "clip_model.", "backbone.")  # prefixes that training scripts add to parameter names
_OPENAI_ONLY = ("input_resolution", "context_length", "vocab_size")


@dataclass(frozen=True)
class _Parts:
    """The parts of a CLIP encoder.

    ``record`` holds the JSON values that, with the weights, determine the vectors; ``info`` is a bundle's whole record.
    """

    model: Any
    tokenizer: Callable[[Sequence[str]], Tensor]
    dim: int
    record: Mapping[str, Any]
    info: Mapping[str, Any] = field(default_factory=dict)


def _tiny_parts(sizes: TinySizes, vocabulary: Sequence[str] | None = None) -> _Parts:
    """Build a tiny CLIP with random weights; the default vocabulary is that of the packaged tiny-clip."""
    if vocabulary is None:
        vocabulary = read_bundle_info(bundle_path(TINY_CLIP), KIND)["vocabulary"]
    tokenizer = sizes.tokenizer(vocabulary)
    record = {
        "architecture": TINY_CLIP,
        "quick_gelu": False,
        "sizes": asdict(sizes),
        "vocabulary": list(tokenizer.vocabulary),
        "preprocessing": {**TINY_PREPROCESS, "size": sizes.image_size},
    }
    return _Parts(build_tiny_clip(sizes, tokenizer.size), tokenizer, sizes.embed_dim, record)


def _open_clip_parts(architecture: str, pretrained: str | None, *, trust_pickle: bool) -> _Parts:
    """Build an open_clip architecture with the weights of a tag or a local file, or ``random`` ones."""
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    named = f"{architecture}.{pretrained}" if pretrained in tags else pretrained or architecture
    file = official_file(named, "ClipEncoder", missing_ok=pretrained in {*tags, RANDOM})
    if file is None and pretrained is None:
        known = ", ".join([*tags[:4], "…"]) if tags else "none"
        msg = f"{architecture}: give pretrained weights: a local file, 'random', or an open_clip tag ({known})"
        raise InputError(msg)
    if pretrained == RANDOM:
        return _published_parts(architecture, None, quick_gelu=False)
    if file is None and pretrained in tags:
        config = open_clip.get_pretrained_cfg(architecture, pretrained) or {}
        return _published_parts(architecture, pretrained, quick_gelu=bool(config.get("quick_gelu")))
    source = file or Path(pretrained or "")
    if not source.exists() and (near := get_close_matches(str(source), tags, n=1)):
        raise InputError(f"{source}: no such weights file or tag of {architecture}; did you mean {near[0]}?")
    state = load_state_dict(source, trust_pickle=trust_pickle)
    prefix = next((each for each in _WRAPPERS if state and all(name.startswith(each) for name in state)), "")
    state = {name.removeprefix(prefix): value for name, value in state.items()}
    quick_gelu = any(name in state for name in _OPENAI_ONLY)
    state = {name: value for name, value in state.items() if name not in _OPENAI_ONLY}
    for device in ("meta", "cpu"):  # a file that does not fit is refused before memory is taken
        parts = _published_parts(architecture, None, quick_gelu=quick_gelu, device=device)
        if "positional_embedding" in state and not hasattr(parts.model, "positional_embedding"):
            state = convert_to_custom_text_state_dict(state)  # older files have no prefix for the text tower
        check_fits(parts.model, state, source, architecture)
    parts.model.load_state_dict(state)
    return parts


def _bundle_parts(folder: Path) -> _Parts:
    """Open a bundle."""
    state, info = load_bundle(folder, KIND)
    architecture = str(info.get("architecture"))
    try:
        preprocessing = _lists(asdict(PreprocessCfg(**info["preprocessing"])))
        image_transform_v2(PreprocessCfg(**preprocessing), is_train=False)
        for device in ("meta", "cpu"):  # sizes that the weights do not have are refused before memory is taken
            with torch.device(device):
                parts = _stated_parts(folder, info, device)
            check_fits(parts.model, state, folder, architecture)
        if len({tuple(np.broadcast_to(one["size"], 2)) for one in (preprocessing, parts.record["preprocessing"])}) > 1:
            raise FormatError(folder / INFO, "preprocessing of the model's size", f"{preprocessing['size']}"[:60])
    except (LookupError, TypeError, ValueError, AssertionError, ArithmeticError, RuntimeError) as error:
        raise FormatError(folder / INFO, "the record of a CLIP bundle", f"{type(error).__name__}: {error}") from None
    parts.model.load_state_dict(state)
    return replace(parts, record={**parts.record, "preprocessing": preprocessing}, info=info)


def _stated_parts(folder: Path, info: Mapping[str, Any], device: str) -> _Parts:
    """Build what the record of a bundle states, with random weights."""
    architecture = str(info["architecture"])
    if architecture == TINY_CLIP:
        return _tiny_parts(TinySizes(**info["sizes"]), info["vocabulary"])
    if architecture in open_clip.list_models():
        return _published_parts(architecture, None, quick_gelu=bool(info["quick_gelu"]), device=device)
    raise FormatError(folder / INFO, f"{TINY_CLIP} or an open_clip architecture", architecture)


def _published_parts(architecture: str, tag: str | None, *, quick_gelu: bool, device: str = "cpu") -> _Parts:
    """Build an open_clip architecture with the weights of a tag, or with random ones."""
    config = open_clip.get_model_config(architecture)
    if quick_gelu and not config.get("quick_gelu"):
        _LOG.info("%s: these weights were trained with QuickGELU, so QuickGELU is enabled", architecture)
    quick_gelu = quick_gelu or bool(config.get("quick_gelu"))
    try:
        with torch.device(device):
            model: nn.Module = open_clip.create_model(
                architecture,
                pretrained=tag,
                device=device,
                force_quick_gelu=quick_gelu,
                pretrained_text=False,
                require_pretrained=bool(tag),
            )
    except RuntimeError as error:
        if tag is None or "download" not in str(error).lower():
            raise
        fetch = f"`naruto-vision weights download {architecture}.{tag}` on a machine with a network"
        msg = f"{architecture}: the weights of {tag} cannot be downloaded here; fetch them ({fetch}) and give the file"
        raise InputError(msg) from None
    agreed = {} if tag else _agreed_preprocessing(architecture)
    preprocessing = {**asdict(PreprocessCfg()), **merge_preprocess_dict(get_model_preprocess_cfg(model), agreed)}
    record = {
        "architecture": architecture,
        "quick_gelu": quick_gelu,
        "sizes": None,
        "vocabulary": [],
        "preprocessing": _lists(preprocessing),
    }
    return _Parts(model, open_clip.get_tokenizer(architecture), int(config["embed_dim"]), record)


def _lists(values: Mapping[str, Any]) -> dict[str, Any]:
    """Turn tuples into lists, as JSON has them."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


def _agreed_preprocessing(architecture: str) -> dict[str, Any]:
    """Return the preprocessing that all published weights of an architecture share, as a local file has none.

    SigLIP's, for example, all squash to a square and normalise by 0.5, unlike OpenAI's.
    """
    keys = asdict(PreprocessCfg()).keys() - {"size", "mode"}
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    configs = [{key: (open_clip.get_pretrained_cfg(architecture, tag) or {}).get(key) for key in keys} for tag in tags]
    agreed = bool(configs) and all(config == configs[0] for config in configs)
    return {key: value for key, value in configs[0].items() if value is not None} if agreed else {}


class ClipEncoder(Encoder):
    """A CLIP model with its own tokenizer and preprocessing.

    Args:
        model: ``tiny-clip``, a bundle folder, or an open_clip architecture such as ``ViT-B-32``.
        pretrained: For an architecture: None for the file that ``weights download`` saved, a name that `weights list`
            shows, a weights file, an open_clip tag (downloaded by open_clip unless it is in ``weights/``), or
            ``random`` for untrained weights. For ``tiny-clip``: None for the packaged weights, or ``random``.
            For a bundle folder: None, or an empty string.
        sizes: Sizes of a tiny CLIP that starts from random weights.
        trust_pickle: Also read a local weights file whose pickle contains NumPy scalars, paths and namespaces.

    Attributes:
        clip: The open_clip model.
        info: Content of the bundle's ``model.json`` (classes, templates, metrics); empty without a bundle.

    Examples:
        >>> import naruto_vision as nv
        >>> encoder = nv.ClipEncoder("tiny-clip", pretrained="random")
        >>> encoder.encode_texts(["short pink hair"]).shape
        torch.Size([1, 192])

    Raises:
        InputError: If the name is unknown, or an architecture is given without weights.
        MissingPathError: If the weights were not downloaded; it names the command that does so.
        StateDictError: If a weights file does not fit the architecture.
    """

    has_text = True

    def __init__(
        self,
        model: str = TINY_CLIP,
        pretrained: str | None = None,
        *,
        sizes: TinySizes | None = None,
        trust_pickle: bool = False,
    ) -> None:
        super().__init__()
        pretrained = pretrained or None  # the command line can set an empty string, but not always null
        parts = _find_parts(model, pretrained, sizes or TinySizes(), trust_pickle=trust_pickle)
        self.clip: Any = parts.model
        self.dim = parts.dim
        self.info = parts.info
        self.tokenizer = parts.tokenizer
        self._record = parts.record
        self._recipe = {"kind": KIND, "model": model, "pretrained": pretrained}
        self._transform = image_transform_v2(PreprocessCfg(**parts.record["preprocessing"]), is_train=False)

    @property
    def logit_scale(self) -> nn.Parameter:
        """Shape (), float32: the natural log of the factor that multiplies the cosines."""
        scale: nn.Parameter = self.clip.logit_scale
        return scale

    def text_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters of the text tower."""
        own = (value for name, value in self.clip.named_parameters() if not name.startswith("visual."))
        yield from (value for value in own if value.ndim > 0)  # the logit scale belongs to no tower

    @property
    def trains_text(self) -> bool:
        """Whether any parameter of the text tower is trained."""
        return any(value.requires_grad for value in self.text_parameters())

    @property
    def image_size(self) -> int:
        """Side S of the square input in pixels."""
        size = self._record["preprocessing"]["size"]
        return int(size if isinstance(size, int) else size[0])

    def preprocess(self, image: ImageArray) -> Tensor:
        """Preprocess one image (H, W, 3), uint8, RGB, as in training: (3, S, S), float32, normalised."""
        pixels: Tensor = self._transform(Image.fromarray(np.ascontiguousarray(image[middle(*image.shape[:2])])))
        return pixels

    def encode_images(self, pixels: Tensor) -> Tensor:
        """Embed preprocessed images (B, 3, S, S), float32: (B, D), float32, unit rows; gradients flow."""
        token = clip_class_token(self.clip.visual, pixels)
        pooled = self.clip.encode_image(pixels) if token is None else token
        return normalize(pooled.float(), dim=-1)

    @property
    def stride(self) -> int:
        """Side in pixels of a patch of ``dense``."""
        sizes: Any = getattr(self.clip.visual, "patch_size", (1,))
        return int(sizes[0])

    def dense(self, pixels: Tensor) -> Tensor:
        """Embed the patches of preprocessed images (B, 3, H, W), any size, in the space of texts: (B, D, h, w).

        Raises:
            InputError: If the image tower is no vision transformer of open_clip.
        """
        patches = clip_patches(self.clip.visual, pixels)
        return super().dense(pixels) if patches is None else patches

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Embed T texts: (T, D), float32, unit rows; gradients flow."""
        if not texts:
            return self.logit_scale.new_zeros(0, self.dim)
        tokens = self.tokenizer(list(texts)).to(self.logit_scale.device)
        return normalize(self._encode_tokens(tokens).float(), dim=-1)

    def _encode_tokens(self, tokens: Tensor) -> Tensor:
        """Embed tokens (T, L); tiny-clip leaves out the padding that all texts share.

        Its text tower is causal and pools the end token, so padding changes nothing, but takes most of the time.
        """
        if self._record["sizes"] is None:
            embedded: Tensor = self.clip.encode_text(tokens)
            return embedded
        ends = tokens.argmax(dim=-1)  # the end token has the highest id
        length = int(ends.max()) + 1
        hidden = self.clip.token_embedding(tokens[:, :length]) + self.clip.positional_embedding[:length]
        hidden = self.clip.transformer(hidden, attn_mask=self.clip.attn_mask[:length, :length])  # (T, length, width)
        pooled = self.clip.ln_final(hidden[torch.arange(len(tokens), device=tokens.device), ends])
        projected: Tensor = pooled @ self.clip.text_projection
        return projected

    @property
    def preparation(self) -> Preparation | None:
        """The steps of ``preprocess`` for batches; None if the input is not square."""
        config = PreprocessCfg(**self._record["preprocessing"])
        if not isinstance(config.size, int) and len(set(config.size)) != 1:
            return None
        return Preparation(
            size=self.image_size,
            fit=config.resize_mode,
            resize_to=self.image_size,
            mean=tuple(config.mean),
            std=tuple(config.std),
            filter="bilinear" if config.interpolation == "bilinear" else "bicubic",
            fill=config.fill_color,
        )

    @property
    def image_tower(self) -> nn.Module:
        """The vision transformer."""
        tower: nn.Module = self.clip.visual
        return tower

    @property
    def recipe(self) -> Mapping[str, Any]:
        """JSON values from which ``open_recipe`` opens this encoder again; empty for random weights."""
        return {} if self._recipe["pretrained"] == RANDOM else dict(self._recipe)

    def describe(self) -> Mapping[str, Any]:
        """Return the JSON values that, with the weights, determine the vectors."""
        return dict(self._record)

    def build_vocabulary(self, texts: Iterable[str]) -> None:
        """Set the vocabulary of a tiny CLIP with random weights to its training texts; other models keep theirs.

        Args:
            texts: Every text of the training data; the words of the templates are added.
        """
        words = vocabulary_of((*TEMPLATES, *texts))
        untrained = self._recipe["model"] == TINY_CLIP and self._recipe["pretrained"] == RANDOM
        if not untrained or words == tuple(self._record["vocabulary"]):
            return
        self.tokenizer = TinySizes(**self._record["sizes"]).tokenizer(words)
        self._record = {**self._record, "vocabulary": list(words)}
        old = self.clip.token_embedding.weight
        table = nn.Embedding(self.tokenizer.size, old.shape[1]).requires_grad_(old.requires_grad)
        nn.init.normal_(table.weight, std=0.02)  # as open_clip initialises it
        self.clip.token_embedding, self.clip.vocab_size = table.to(old), self.tokenizer.size

    def save(
        self, folder: str | Path, extra: Mapping[str, Any] | None = None, *, dtype: torch.dtype = torch.float32
    ) -> None:
        """Write the model as a bundle; low-rank updates are merged into the weights.

        Args:
            folder: Folder of the bundle; an older bundle is replaced as a whole.
            extra: Further JSON values for ``model.json`` (classes, templates, licence, metrics).
            dtype: Stored type of the weights; ``torch.float16`` halves the file and rounds the weights.
        """
        state = {name: value.to(dtype) for name, value in plain_state(self.clip).items()}
        save_bundle(folder, state, {"kind": KIND, **self.describe(), **(extra or {})})


def _find_parts(model: str, pretrained: str | None, sizes: TinySizes, *, trust_pickle: bool) -> _Parts:
    # an existing path is not an architecture
    if model != TINY_CLIP and Path(model).name == model and model in open_clip.list_models():
        return _open_clip_parts(model, pretrained, trust_pickle=trust_pickle)
    if model == TINY_CLIP and pretrained == RANDOM:
        return _tiny_parts(sizes)
    known = [] if model == TINY_CLIP or Path(model).exists() else [TINY_CLIP, *open_clip.list_models()]
    if close := get_close_matches(model, known, n=3, cutoff=0.6):
        raise InputError(f"{model}: no such model bundle or open_clip architecture; did you mean {', '.join(close)}?")
    folder = bundle_path(model)
    if pretrained is not None:
        raise InputError(f"{folder}: a bundle has weights of its own; omit pretrained={pretrained!r}")
    return _bundle_parts(folder)
