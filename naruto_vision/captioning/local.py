"""Describe regions with a local image-text-to-text model of transformers."""

import gc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor

from naruto_vision.captioning.protocol import QUESTION, SHORTER, Describer, Description, ImageRegion
from naruto_vision.errors import InputError, MissingPackageError, MissingPathError
from naruto_vision.io.bundles import file_sha256
from naruto_vision.io.machine import has_package
from naruto_vision.io.pretrained import open_pretrained
from naruto_vision.io.text import printable
from naruto_vision.segmentation.crops import CropConfig, crop_region

_CROP = CropConfig(background=255)
_CONFIG = "config.json"


class _Loaded(NamedTuple):
    model: Any
    processor: Any


class TransformersDescriber(Describer):
    """Describes the cut-out of a region with a captioning or image-text-to-text model in a local folder.

    Any architecture of transformers' ``AutoModelForImageTextToText`` works (BLIP, GIT, LLaVA, Qwen-VL, SmolVLM,
    Florence-2 …), from its own folder with ``config.json``, safetensors and processor files. Nothing is downloaded,
    no code of the folder runs, and no pickle is read. The score is the mean probability of the words.

    Args:
        folder: The model's folder, as ``save_pretrained`` or ``hf download --local-dir`` write it.
        question: What is asked; None for the usual question of models that answer questions. Others caption the image
            and take a text only if one is given (``<MORE_DETAILED_CAPTION>`` of Florence-2).
        max_tokens: Tokens of a description at most.
        batch_size: Regions per forward pass.
        device: Of PyTorch; None for a GPU if there is one.

    Raises:
        MissingPackageError: If transformers is not installed.
        MissingPathError: If there is no such folder, or no ``config.json`` in it.
        InputError: If ``max_tokens`` or ``batch_size`` is not positive.

    Examples:
        >>> import naruto_vision as nv
        >>> with nv.TransformersDescriber("models/blip") as describer:  # doctest: +SKIP
        ...     print(describer.describe([(image, region)])[0].text)
    """

    def __init__(
        self,
        folder: str | Path,
        question: str | None = None,
        *,
        max_tokens: int = 64,
        batch_size: int = 8,
        device: str | None = None,
    ) -> None:
        self.folder = Path(folder)
        if max_tokens < 1 or batch_size < 1:
            raise InputError(f"describer: expected max_tokens and batch_size >= 1, found {max_tokens} and {batch_size}")
        if not has_package("transformers"):
            raise MissingPackageError("transformers", "sam2")
        if not (self.folder / _CONFIG).is_file():
            hint = "give the folder of a transformers model, with config.json, safetensors and processor files"
            raise MissingPathError(self.folder / _CONFIG, "config of a model", hint)
        self.question, self.max_tokens, self.batch_size = question, max_tokens, batch_size
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._loaded: _Loaded | None = None

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.resolve().name

    @property
    def identity(self) -> Mapping[str, Any]:
        """Hash of the configuration, size of the weights, and the question; weights are too large to hash each time."""
        size = sum(path.stat().st_size for path in self.folder.glob("*.safetensors"))
        facts = {"config": file_sha256(self.folder / _CONFIG), "bytes": size}
        return {"describer": "transformers", **facts, "question": self.question, "max_tokens": self.max_tokens}

    def load(self) -> None:
        """Load model and processor.

        Raises:
            FormatError: If the folder has no such model, or needs code or pickles.
            StateDictError: If weights are missing, which transformers would fill with random numbers.
        """
        if self._loaded is not None:
            return
        dtype = "auto" if self.device.startswith("cuda") else torch.float32
        model, processor = open_pretrained(self.folder, "AutoModelForImageTextToText", "describes images", dtype=dtype)
        if tokenizer := getattr(processor, "tokenizer", None):
            tokenizer.padding_side = "left"  # answers continue the question
        self._loaded = _Loaded(model.to(self.device), processor)

    def unload(self) -> None:
        """Free the model's memory, also on the GPU."""
        self._loaded = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    @torch.inference_mode()
    def describe(self, items: Sequence[ImageRegion], *, again: bool = False) -> list[Description]:
        """Describe cut-outs in batches: images (H, W, 3), uint8, RGB, upright, each with a region of it."""
        self.load()
        found: list[Description] = []
        for start in range(0, len(items), self.batch_size):
            crops = [crop_region(*item, _CROP) for item in items[start : start + self.batch_size]]
            found += self._answers([Image.fromarray(crop) for crop in crops], again=again)
        return found

    def _answers(self, images: Sequence[Image.Image], *, again: bool) -> list[Description]:
        loaded = self._loaded
        if loaded is None:
            return []
        inputs = self._inputs(loaded.processor, images, again=again).to(self.device, loaded.model.dtype)
        answer = loaded.model.generate(
            **inputs,
            max_new_tokens=self.max_tokens,
            do_sample=False,
            num_beams=1,
            output_scores=True,
            return_dict_in_generate=True,
        )
        words = answer.sequences[:, -len(answer.scores) :]  # without the question
        texts = loaded.processor.batch_decode(words, skip_special_tokens=True)
        scores = _scores(words, torch.stack(answer.scores, dim=1), loaded.model.generation_config)
        lines = [printable(" ".join(text.split())) for text in texts]
        return [Description(line, score if line else None) for line, score in zip(lines, scores, strict=True)]

    def _inputs(self, processor: Any, images: Sequence[Image.Image], *, again: bool) -> Any:  # noqa: ANN401 - of transformers
        """Return the inputs of a batch: a question in the model's own chat form, or the images and a text if given."""
        if getattr(processor, "chat_template", None):
            question = (self.question or QUESTION) + (SHORTER if again else "")
            said = {"type": "text", "text": question}
            chats = [[{"role": "user", "content": [{"type": "image", "image": each}, said]}] for each in images]
            form = {"add_generation_prompt": True, "tokenize": True, "return_dict": True, "return_tensors": "pt"}
            return processor.apply_chat_template(chats, processor_kwargs={"padding": True}, **form)
        text = {"text": [self.question] * len(images)} if self.question else {}
        return processor(images=list(images), return_tensors="pt", **text)


def _scores(words: Tensor, logits: Tensor, settings: Any) -> list[float]:  # noqa: ANN401 - of transformers
    """Return the geometric mean probability of the words in front of the end: words (B, N), logits (B, N, V)."""
    chances = logits.float().log_softmax(dim=-1).gather(-1, words[..., None])[..., 0]
    ends = torch.tensor(settings.eos_token_id if settings.eos_token_id is not None else [], device=words.device)
    said = torch.isin(words, ends.to(words.dtype)).cumsum(dim=1) == 0
    scores: list[float] = ((chances * said).sum(dim=1) / said.sum(dim=1).clamp(min=1)).exp().tolist()
    return scores
