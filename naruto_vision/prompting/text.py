"""Text prompts: where a CLIP finds a phrase in an image, and boxes of transformers' open-vocabulary detectors."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from naruto_vision.encoders.base import Encoder
from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.encoders.dense import dense_map, window_map
from naruto_vision.encoders.ensemble import EnsembleEncoder
from naruto_vision.encoders.prompts import text_prototypes
from naruto_vision.encoders.tiny import TINY_CLIP, split_words
from naruto_vision.errors import FormatError, InputError, MissingPathError
from naruto_vision.io.bundles import model_fingerprint
from naruto_vision.io.machine import require_package
from naruto_vision.io.pretrained import open_pretrained
from naruto_vision.io.typed_json import read_json
from naruto_vision.prompting.exemplar import Fusion, PrototypePrompter
from naruto_vision.prompting.mode import Segmented, SegmentMode
from naruto_vision.prompting.saliency import PromptType, SaliencyPrompter, segment_prompts
from naruto_vision.records import ImageArray
from naruto_vision.segmentation.prompts import box_prompts
from naruto_vision.segmentation.protocol import PromptableModel, Prompter, Prompts

TextMap: TypeAlias = Literal["windows", "patches"]
"""What is compared with texts: the vectors of overlapping windows, or the projected patch tokens of one pass."""

BACKGROUND = ("a picture", "a drawing", "background", "sky", "grass", "trees", "a wall", "the floor", "a house")
"""Phrases that texts are ranked against."""

_WINDOW = 0.5
_DETECTORS = ("grounding-dino", "mm-grounding-dino", "owlv2", "owlvit")


class TextPrompter(PrototypePrompter):
    """Prompts where a phrase fits an image better than the background phrases.

    Args:
        texts: One phrase for each class; it is also the name of the class.
        encoder: A CLIP; None takes the packaged tiny-clip.
        background: Phrases for everything else.
        map: ``windows`` embeds overlapping windows of half the image's longer side, ``patches`` the patches of one
            pass (MaskCLIP), which is faster and finer; with tiny-clip it is much worse.
        similarity: Least similarity, in [0, 1]; at 0.5 a text fits as well as the best background phrase.
        min_area: Least size of an object in pixels of the image.
        num_objects: Most objects of an image.
        prompt_type: Whether the box or the centre of each object is the prompt.
        saliency: Finds what is salient, to fuse its map with the similarity; None takes the similarity alone.
        fusion: ``multiply`` takes the product of the two maps, ``max`` the larger, ``weighted`` 0.6 and 0.4 of them.
        detection: Least saliency, in [0, 1]. A pixel is kept if its fused value reaches that of the two least values.

    Raises:
        InputError: If there is no text, the encoder has no text tower, or a number is out of its range.

    Examples:
        >>> import naruto_vision as nv
        >>> prompter = nv.TextPrompter(["a girl with pink hair"])
        >>> segmenter = nv.Segmenter(prompter, nv.SamModel(weights="tiny-sam"))
    """

    def __init__(
        self,
        texts: Sequence[str],
        encoder: Encoder | None = None,
        background: Sequence[str] = BACKGROUND,
        *,
        map: TextMap = "windows",
        similarity: float = 0.5,
        min_area: int = 100,
        num_objects: int = 12,
        prompt_type: PromptType = "box",
        saliency: SaliencyPrompter | None = None,
        fusion: Fusion = "weighted",
        detection: float = 0.3,
    ) -> None:
        reading = _clip_of(encoder or ClipEncoder(TINY_CLIP))
        named, others = _distinct(texts), _distinct(background)
        with torch.inference_mode():
            vectors = text_prototypes(reading, [(text,) for text in named]).float().cpu()
            around = reading.encode_texts(others).float().cpu()
        super().__init__(
            reading,
            dict(zip(named, vectors[:, None], strict=True)),
            around,
            temperature=math.exp(-reading.logit_scale.item()),
            similarity=similarity,
            min_area=min_area,
            num_objects=num_objects,
            prompt_type=prompt_type,
            saliency=saliency,
            fusion=fusion,
            detection=detection,
        )
        self.map: TextMap = map

    @property
    def fingerprint(self) -> str:
        """Text that changes with the encoder, any text or any setting."""
        return f"{super().fingerprint} {self.map}"

    def features(self, image: ImageArray) -> Tensor:
        """Embed the windows or the patches of an image (H, W, 3): (h, w, D), float32, unit vectors."""
        return dense_map(self.encoder, image) if self.map == "patches" else window_map(self.encoder, image, _WINDOW)


def _clip_of(encoder: Encoder) -> ClipEncoder:
    members = encoder.own_members if isinstance(encoder, EnsembleEncoder) else [encoder]
    found = next((each for each in members if isinstance(each, ClipEncoder)), None)
    if found is None:
        msg = f"text prompts: expected a CLIP (ClipEncoder), found {encoder.short_name}, which reads no texts"
        raise InputError(msg)
    return found.eval()


class OpenVocabularyPrompter(Prompter):
    """Prompts with the boxes that an open-vocabulary detector finds for texts: Grounding DINO, OWLv2, OWL-ViT.

    Needs the extra ``sam2`` (transformers). The folder is as ``save_pretrained`` or a download of the model's page has
    it, with its tokenizer; only safetensors are read, and no code of the folder runs.

    Args:
        texts: One phrase for each class; it is also the name of the class.
        folder: Folder of the detector.
        threshold: Least score of a box, in [0, 1].
        num_objects: Most boxes of an image.

    Raises:
        MissingPackageError: If transformers is not installed.
        MissingPathError: If there is no such folder.
        InputError: If there is no text, or the folder has no such detector.
        StateDictError: If the weights do not fit the model.

    Examples:
        >>> import naruto_vision as nv
        >>> prompter = nv.OpenVocabularyPrompter(["a red cat"], "weights/owlv2")  # doctest: +SKIP
        >>> segmenter = nv.Segmenter(prompter, nv.SamModel(weights="tiny-sam"))  # doctest: +SKIP
    """

    def __init__(self, texts: Sequence[str], folder: str, *, threshold: float = 0.25, num_objects: int = 20) -> None:
        self.texts = _distinct(texts)
        if not 0 <= threshold <= 1 or num_objects < 1:
            msg = f"detector: expected threshold in [0, 1] and num_objects >= 1, found {threshold} and {num_objects}"
            raise InputError(msg)
        self.threshold, self.num_objects = threshold, num_objects
        self.detector, self._processor = _open_detector(Path(folder))

    @property
    def fingerprint(self) -> str:
        """Text that changes with the weights, any text or any setting."""
        own: Any = self.detector
        weights = model_fingerprint(own.config.to_dict(), own.state_dict())
        return f"{weights} {self.texts} {self.threshold} {self.num_objects}"

    @torch.no_grad()
    def __call__(self, image: ImageArray) -> Prompts:
        """Return one box per object found in an image (H, W, 3), best first, with its text and score."""
        height, width = image.shape[:2]
        inputs = self._processor(images=image, text=[list(self.texts)], return_tensors="pt")
        outputs = self.detector(**inputs.to(next(self.detector.parameters()).device))
        (found,) = self._processor.post_process_grounded_object_detection(
            outputs, threshold=self.threshold, target_sizes=[(height, width)], text_labels=[list(self.texts)]
        )
        names = [self.text_of(phrase) for phrase in found["text_labels"]]
        last = np.array([width - 1, height - 1] * 2, np.float32)
        boxes = found["boxes"].float().cpu().numpy().reshape(-1, 4).clip(0, last)
        scores = found["scores"].float().cpu().numpy()
        large = (boxes[:, 2:] - boxes[:, :2] >= 1).all(axis=1)
        order = [index for index in np.argsort(-scores, kind="stable").tolist() if large[index] and names[index]]
        order = order[: self.num_objects]
        return box_prompts(boxes[order], tuple(names[index] for index in order), scores[order])

    def text_of(self, phrase: str) -> str:
        """Return the text that shares most words of its own with a phrase, which may be a part of one; "" if none."""
        if len(self.texts) == 1 or phrase in self.texts:
            return phrase if phrase in self.texts else self.texts[0]
        own = [set(split_words(text)) for text in self.texts]
        said = set(split_words(phrase)) - own[0].intersection(*own[1:])
        shared = [len(said & words) for words in own]
        return self.texts[shared.index(max(shared))] if max(shared) else ""


def _open_detector(folder: Path) -> tuple[nn.Module, Any]:
    """Open a detector of transformers and its processor from a local folder, in evaluation mode."""
    require_package("transformers", "sam2")  # before a file is searched
    if not folder.is_dir():
        raise MissingPathError(
            folder, "detector folder", "give one with config.json, model.safetensors and a tokenizer"
        )
    file = folder / "config.json"
    kind = read_json(file, dict[str, Any]).get("model_type") if file.is_file() else None
    if kind not in _DETECTORS or not any(folder.glob("*.safetensors")):
        found = "no config.json" if not file.is_file() else f"model_type {kind!r}"
        found = "no *.safetensors" if kind in _DETECTORS else found
        raise FormatError(folder, f"config.json of {', '.join(_DETECTORS)}, and *.safetensors", found)
    return open_pretrained(folder, "AutoModelForZeroShotObjectDetection", "detects objects by texts")


class DetectorMode(SegmentMode):
    """Segments the object in each box of a detector, and names it by the detector's text."""

    def __init__(self, prompter: OpenVocabularyPrompter, model: PromptableModel) -> None:
        self.prompter, self.model = prompter, model

    @property
    def identity(self) -> Mapping[str, Any]:
        """The JSON values that determine the result."""
        return {"prompter": self.prompter.fingerprint, "model": self.model.fingerprint}

    def __call__(self, image: ImageArray, name: str = "") -> Segmented:  # noqa: ARG002 - the protocol's
        """Segment an image (H, W, 3), uint8, RGB, upright; its regions are the most confident ones first."""
        prompts = self.prompter(image)
        regions = segment_prompts(self.model, self.model.embed(image), prompts)
        facts = tuple({"label": each.prompt.name} for each in regions)
        note = "" if regions else "the detector finds none of the texts: lower --threshold, or use other words"
        return Segmented(tuple(regions), facts={"prompts": len(prompts.points)}, region_facts=facts, note=note)


def _distinct(texts: Sequence[str]) -> tuple[str, ...]:
    named = tuple(dict.fromkeys(text.strip() for text in texts if text.strip()))
    if not named:
        raise InputError(f"text prompts: expected at least one text, found {list(texts)}")
    return named
