"""``SceneAnalyzer``: segment, crop, embed, search and name one scene."""

import logging
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import chain, islice, takewhile
from pathlib import Path
from threading import Barrier
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import nn

from naruto_vision.encoders.base import Encoder, embed_images
from naruto_vision.errors import BadImageError, FingerprintError, InputError, MissingPathError
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.gallery.info import encoder_options
from naruto_vision.gallery.thresholds import DEFAULT_AIM, Aim
from naruto_vision.io.bundles import file_sha256
from naruto_vision.io.images import ImageSource, read_image
from naruto_vision.io.inputs import ImageNames, find_images
from naruto_vision.recognition.decision import Decision, recorded_rule
from naruto_vision.recognition.explain import explain_identity, row_image, why_named
from naruto_vision.recognition.heads import score_classes
from naruto_vision.recognition.lookup import SearchResult, look_up, measure_threshold
from naruto_vision.recognition.merging import MergeConfig, merge_parts
from naruto_vision.recognition.negatives import search_allowed
from naruto_vision.recognition.open_set import thresholds_of
from naruto_vision.recognition.result import SceneResult
from naruto_vision.records import Box, Explanation, Identity, ImageArray, Region, ScenePrediction, Vectors
from naruto_vision.segmentation.crops import CropConfig, DenseEmbedder, Embedding, crop_layout, embed_regions
from naruto_vision.segmentation.generator import Segmenter
from naruto_vision.segmentation.protocol import SceneEmbedding
from naruto_vision.viz.overlay import OverlayConfig, choose_for_overlay, label_colours

_LOG = logging.getLogger(__name__)

EmbedScenes: TypeAlias = Callable[..., list[torch.Tensor]]
"""``embed_regions`` of an encoder, or a ``DenseEmbedder``."""


class SceneAnalyzer:
    """Segments a scene and names its regions; ``naruto_vision.load`` builds one from a config.

    Args:
        segmenter: Segments an image into regions.
        encoder: Embeds the crops; must be the encoder that the gallery was built with.
        gallery: The labelled rows that are searched.
        crop: How a region is cropped for the encoder.
        more_crops: Further crops, whose vectors are averaged with the first.
        neighbours: How many gallery rows vote on each region; 1 takes the nearest.
        mirror: Average each crop's vector with that of the horizontally flipped crop.
        renormalise: Normalise averaged vectors to length 1. If off, every score is multiplied by the length of
            the average, as in the reference system.
        decision: Rule that turns gallery rows into a name; see ``recognition.decision.decide``. "auto" takes the one
            that the gallery has recorded.
        merge: When parts of a character are merged; None never merges.
        overlay: Which regions the overlay shows; None takes the defaults.
        batch_size: Crops per forward pass; None takes 16 on a CPU and 256 elsewhere.
        at_once: Scenes that ``analyze_many`` segments in parallel; above 1 needs more memory and is slower on a CPU.
        aim: What thresholds are chosen for; those of validation scenes stay as they were chosen.
        embedding: ``crops`` embeds each region as a cut-out; ``dense`` takes the mean over its mask from one forward
            pass over the scene, for encoders that pool by the mean.

    Raises:
        FingerprintError: If the gallery was built with another encoder.
        InputError: If ``at_once`` is below 1, or the encoder does not support the embedding.

    Examples:
        >>> import numpy as np
        >>> import naruto_vision as nv
        >>> encoder = nv.ClipEncoder("tiny-clip")
        >>> image = np.full((64, 64, 3), 255, dtype=np.uint8)
        >>> vectors = nv.embed_images(encoder, [image]).numpy()
        >>> gallery = nv.Gallery.build(vectors, [nv.GalleryRow("a.png", "ayame")], fingerprint=encoder.fingerprint)
        >>> segmenter = nv.Segmenter(nv.GridPrompter(4), nv.SamModel(weights="tiny-sam"))
        >>> analyzer = nv.SceneAnalyzer(segmenter, encoder, gallery)
        >>> set(analyzer.analyze(image).names) <= {"ayame"}
        True
        >>> [found.scene for found in analyzer.analyze_many((image, f"{number}.png") for number in range(3))]
        ['0.png', '1.png', '2.png']
    """

    def __init__(
        self,
        segmenter: Segmenter,
        encoder: Encoder,
        gallery: Gallery,
        *,
        crop: CropConfig | None = None,
        more_crops: Sequence[CropConfig] = (),
        neighbours: int = 20,
        mirror: bool = True,
        renormalise: bool = True,
        decision: Decision = "auto",
        merge: MergeConfig | None = None,
        overlay: OverlayConfig | None = None,
        batch_size: int | None = None,
        at_once: int = 1,
        aim: Aim = DEFAULT_AIM,
        embedding: Embedding = "crops",
    ) -> None:
        self._decision: Decision = decision  # as it was asked for
        fingerprint = encoder.fingerprint  # hashes all weights, so once
        if gallery.fingerprint != fingerprint:
            options = encoder_options(gallery.note)
            raise FingerprintError(gallery.folder or "gallery", gallery.fingerprint, fingerprint, " ".join(options))
        self.segmenter = segmenter
        self.encoder = encoder.eval()  # batch norms of a backbone would otherwise depend on the batch
        self.gallery = gallery
        self.crops = (crop or CropConfig(), *more_crops)
        self.neighbours = neighbours
        self.mirror = mirror
        self.renormalise = renormalise
        self.decision = recorded_rule(gallery, decision)
        self.thresholds = thresholds_of(gallery, self.decision, aim)
        self.merge = merge
        self.overlay = overlay or OverlayConfig()
        self.batch_size = batch_size
        self.at_once = at_once
        self.aim = aim
        self.embedding: Embedding = embedding
        by_crops = partial(embed_regions, self.encoder)
        self._embed_scenes: EmbedScenes = by_crops if embedding == "crops" else DenseEmbedder(self.encoder)
        self._ahead = SegmenterAhead(segmenter, at_once)

    def replaced(self, **changes: Any) -> "SceneAnalyzer":
        """Return an analyzer with other arguments of the constructor, which shares everything else.

        Args:
            changes: Arguments of the constructor by name, such as ``gallery`` or ``overlay``.

        Raises:
            FingerprintError: If another gallery was built with another encoder.
        """
        own: dict[str, Any] = {
            **{name: getattr(self, name) for name in ("segmenter", "encoder", "gallery", "neighbours", "mirror")},
            **{name: getattr(self, name) for name in ("renormalise", "merge", "overlay", "batch_size", "at_once")},
            "aim": self.aim,
            "embedding": self.embedding,
            "decision": self._decision,
            "crop": self.crops[0],
            "more_crops": self.crops[1:],
        }
        return SceneAnalyzer(**own | changes)

    def analyze(self, image: ImageSource, scene: str = "") -> SceneResult:
        """Analyze one scene and keep its image, for overlays and notebooks.

        Args:
            image: An image file, a Pillow image, or an array of shape (H, W, 3), uint8, RGB, upright.
            scene: Name of the scene in the prediction; "" takes the file's.

        Returns:
            The regions and their names, which can be shown, saved, or converted to JSON values.

        Raises:
            MissingPathError: If there is no such file.
            BadImageError: If the file cannot be read as an image.
            InputError: If the image is of another kind.
        """
        pixels, sha256 = read_image(image), ""
        if isinstance(image, (str, Path)):
            scene, sha256 = scene or Path(image).name, file_sha256(image)
        prediction = self(pixels, scene)
        shown = choose_for_overlay(prediction, self.overlay)
        return SceneResult(pixels, prediction, shown, label_colours(self.gallery.labels), sha256)

    def analyze_files(self, images: ImageNames) -> Iterator[SceneResult]:
        """Analyze files one after the other; those that cannot be read are left out and logged.

        Args:
            images: What ``naruto-vision predict`` takes: an image, a folder, a pattern, ``@FILE`` with a name per
                line, or a sequence of these.

        Yields:
            The results, whose scenes are paths relative to the folder, as in its ``gt.json``.

        Raises:
            InputError: If there is no image.
        """
        files = find_images(images)
        for reason in files.refused.values():
            _LOG.warning("left out: %s", reason)
        for name in files.names[len(files.refused) :]:
            try:
                result = self.analyze(files.root / name, name)
            except (BadImageError, MissingPathError) as error:
                _LOG.warning("left out: %s", error)
            else:
                yield result

    def search(self, image: ImageSource | None = None, *, text: str = "", k: int = 5) -> SearchResult:
        """Name a whole image or a text by the gallery, as ``naruto-vision search`` does.

        Args:
            image: An image file, a Pillow image, or an array of shape (H, W, 3), uint8, RGB, upright; or None.
            text: What to search for instead, for encoders with a text tower.
            k: How many rows the result shows, at least 1.

        Returns:
            The name, and the nearest rows with their scores; ``sentence()`` says it in a line.

        Raises:
            MissingPathError: If there is no such file.
            InputError: If the image cannot be used, or not exactly one of image and text is given.
        """
        if (image is None) == (not text):
            raise InputError("search: expected an image or a text")
        if image is None:
            with torch.inference_mode():
                vectors = self.encoder.encode_texts([text]).float().cpu()
            return look_up(self.gallery, vectors.numpy(), [text], "text", k=k)[0]
        vectors = embed_images(self.encoder, [image], mirror=self.gallery.mirror)
        query = str(image) if isinstance(image, (str, Path)) else "image"
        return look_up(self.gallery, vectors.numpy(), [query], "image", k=k, threshold=self._image_threshold)[0]

    def explain(self, found: SceneResult | ScenePrediction, index: int, image: ImageArray | None = None) -> Explanation:
        """Explain the name of a region: its nearest entries, votes, class scores, and maps of the patches that count.

        The maps are measured by occlusion, of the first crop: about fifty forward passes, and as many for an image of
        the gallery that was not compared lately.

        Args:
            found: From ``analyze`` or a call of this analyzer.
            index: Which of its regions.
            image: The scene, of a ``ScenePrediction``: shape (H, W, 3), uint8, RGB, upright.

        Returns:
            The evidence; images of the gallery that are missing, and what depends on them, are None.

        Raises:
            InputError: If a prediction is given without its image.

        Examples:
            >>> import naruto_vision as nv
            >>> encoder, image = nv.ClipEncoder("tiny-clip"), np.full((64, 64, 3), 255, dtype=np.uint8)
            >>> rows = [nv.GalleryRow("a.png", "ayame")]
            >>> vectors = nv.embed_images(encoder, [image]).numpy()
            >>> gallery = nv.Gallery.build(vectors, rows, fingerprint=encoder.fingerprint)
            >>> segmenter = nv.Segmenter(nv.GridPrompter(4), nv.SamModel(weights="tiny-sam"))
            >>> analyzer = nv.SceneAnalyzer(segmenter, encoder, gallery)
            >>> region = nv.Region((8, 8, 39, 39), np.ones((32, 32), dtype=bool))
            >>> named = nv.ScenePrediction("a.png", 64, 64, (region,), analyzer.identify(image, [region]))
            >>> found = analyzer.explain(named, 0, image)
            >>> found.votes, found.heat.values.shape, found.images
            ({'ayame': 1.0}, (8, 8), (None,))
        """
        if isinstance(found, SceneResult):
            image, found = found.image, found.prediction
        if image is None:
            raise InputError("explain: expected the image of the prediction")
        region, who, crop = found.regions[index], found.identities[index], self.crops[:1]
        width, height = found.width, found.height
        frame: Box = (0, 0, width - 1, height - 1)
        x1, y1, x2, y2 = frame if self.embedding == "dense" else crop_layout(region, crop[0], width, height)[0]
        left, top, right, bottom = region.box
        window = np.ascontiguousarray(image[y1 : y2 + 1, x1 : x2 + 1])
        moved = Region((left - x1, top - y1, right - x1, bottom - y1), region.mask)

        def embed(images: Sequence[ImageArray]) -> Vectors:
            views = self._embed_scenes([(each, [moved]) for each in images], crop, batch_size=self.batch_size)
            vectors: Vectors = torch.cat([each[0] for each in views]).numpy()
            return vectors

        threshold = self.thresholds.threshold(who.label)
        return explain_identity(
            who,
            self.gallery,
            self.encoder,
            self.embed([(image, [region])])[0][0] if who.vector is None else who.vector,
            self.decision,
            partial(row_image, self.gallery.folder, self.gallery.note),
            why=why_named(who, threshold),
            threshold=threshold,
            image=window,
            mask=moved.full_mask(*window.shape[:2]),
            embed=embed,
        )

    @cached_property
    def _image_threshold(self) -> float | None:
        return measure_threshold(self.gallery, aim=self.aim).score

    def __call__(self, image: ImageArray, scene: str = "") -> ScenePrediction:
        """Analyze one scene.

        Args:
            image: Shape (H, W, 3), uint8, RGB, upright.
            scene: Name of the scene in the prediction.

        Returns:
            Regions with their identities, largest region first, and the milliseconds of each step.
        """
        image, start = read_image(image), time.perf_counter()
        regions = self.segment(image)
        segmented = SegmentedScene(image, scene, regions, (time.perf_counter() - start) * 1e3)
        return next(self._name([segmented]))

    def analyze_many(
        self, scenes: Iterable[tuple[ImageArray, str]], group: int | None = None
    ) -> Iterator[ScenePrediction]:
        """Analyze a stream of scenes in groups; predictions equal those of single scenes up to rounding.

        The crops of a group go through the encoder in full batches and are searched at once. On a GPU the image encoder
        is batched too, and the next group is segmented meanwhile. At most two groups are in memory. An error is
        raised after the predictions of all earlier scenes were yielded.

        Args:
            scenes: Images (H, W, 3), uint8, RGB, upright, with their names; a generator is
                consumed one group at a time.
            group: Scenes that are embedded together; None takes 8 on a GPU and 1 on a CPU.

        Yields:
            The predictions, in the order of the scenes. A group's time is divided among its scenes by their regions.

        Raises:
            ValueError: If ``group`` is below 1.
        """
        size = group_size(next(self.encoder.parameters()).device) if group is None else group
        if size < 1:
            raise ValueError(f"analyze_many: expected groups of 1 scene or more, found {size}")
        if size == 1:
            yield from (self(image, scene) for image, scene in scenes)
            return
        for started in self._ahead.groups(((read_image(image), scene) for image, scene in scenes), size):
            whole = list(takewhile(lambda one: one.exception() is None, started))
            if whole:
                yield from self._name([one.result() for one in whole])
            for failed in started[len(whole) :]:
                failed.result()

    def segment(self, image: ImageArray) -> tuple[Region, ...]:
        """Segment an image (H, W, 3), uint8, RGB, into regions."""
        return tuple(self.segmenter(image))

    def _name(self, scenes: Sequence["SegmentedScene"]) -> Iterator[ScenePrediction]:
        found, times = self._identify([(one.image, one.regions) for one in scenes])
        total = max(1, sum(map(len, found)))
        for one, identities in zip(scenes, found, strict=True):
            own = {step: value * len(identities) / total for step, value in times.items()}
            yield self._prediction(one, identities, {"segment": one.milliseconds, **own})

    def _prediction(
        self, one: "SegmentedScene", identities: tuple[Identity, ...], times: dict[str, float]
    ) -> ScenePrediction:
        regions, (height, width) = one.regions, one.image.shape[:2]
        if self.merge is not None:
            with _timed(times, "merge"):
                regions, identities = merge_parts(regions, identities, partial(self.identify, one.image), self.merge)
        return ScenePrediction(one.scene, width, height, regions, identities, times)

    def identify(self, image: ImageArray, regions: Sequence[Region]) -> tuple[Identity, ...]:
        """Name given regions of an image, for instance those of another detector.

        Args:
            image: Shape (H, W, 3), uint8, RGB, upright.
            regions: Regions of this image.

        Returns:
            The identity of each region, in the same order.
        """
        return self._identify([(read_image(image), regions)])[0][0]

    def _identify(
        self, scenes: Sequence[tuple[ImageArray, Sequence[Region]]]
    ) -> tuple[list[tuple[Identity, ...]], dict[str, float]]:
        """Identify the regions of several images; also return the milliseconds of embedding and of searching."""
        times: dict[str, float] = {}
        with _timed(times, "embed"):
            vectors, lengths = self.embed(scenes)
        with _timed(times, "search"):
            named = iter(self.name_vectors(vectors, lengths))
        return [tuple(islice(named, len(regions))) for _, regions in scenes], times

    def name_vectors(self, vectors: Vectors, lengths: Vectors | None = None) -> tuple[Identity, ...]:
        """Name regions by their vectors.

        Args:
            vectors: Shape (R, D), float32, unit rows, of this analyzer's encoder.
            lengths: Shape (R,), float32: multiply the scores; None are ones.

        Returns:
            The identity of each, in the same order.
        """
        rows = search_allowed(self.gallery, vectors, self.neighbours)
        scores = score_classes(self.gallery, self.decision, vectors)
        factors = [1.0] * len(vectors) if lengths is None else lengths.tolist()
        return tuple(
            replace(found.decide(self.thresholds, self.decision, classes, length=length), vector=vector)
            for found, classes, length, vector in zip(rows, scores, factors, vectors, strict=True)
        )

    def embed(self, scenes: Sequence[tuple[ImageArray, Sequence[Region]]]) -> tuple[Vectors, Vectors]:
        """Embed the R regions of several images: unit rows (R, D), and lengths (R,) that multiply the scores."""
        views = self._embed_scenes(
            scenes,
            self.crops,
            mirror=self.mirror,
            renormalise=self.renormalise,
            batch_size=self.batch_size,
        )
        average = torch.cat([each.mean(dim=0) for each in views])  # (crops, R, D) each -> (R, D)
        lengths = torch.ones(len(average)) if self.renormalise else average.norm(dim=-1)
        unit = nn.functional.normalize(average, dim=-1)
        return unit.numpy().astype(np.float32, copy=False), lengths.numpy().astype(np.float32, copy=False)

    def facts(self) -> dict[str, Any]:
        """Return the JSON values that determine the predictions."""
        return {
            "encoder": self.gallery.fingerprint,  # equal to the encoder's, checked in the constructor
            "arithmetic": self.encoder.arithmetic,  # for int8, the fingerprint is that of the float weights
            "gallery": self.gallery.digest,
            "segmenter": self.segmenter.fingerprint,
            "crop": repr(self.crops),
            "neighbours": self.neighbours,
            "mirror": self.mirror,
            "renormalise": self.renormalise,
            "decision": self.decision,
            "merge": repr(self.merge),
            **({"embedding": self.embedding} if self.embedding != "crops" else {}),  # older runs have none
        }


@contextmanager
def _timed(times: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    times[name] = (time.perf_counter() - start) * 1000.0


Embedded: TypeAlias = Future[tuple[Sequence[SceneEmbedding | None], float]]
"""Image-encoder outputs of several images, and the milliseconds per image."""


def group_size(device: torch.device) -> int:
    """Return the default number of scenes per group: 8 on a GPU, 1 on a CPU.

    A GPU needs many images and crops per batch. One scene already fills a CPU, so a group only delays results and
    loses more work after a kill.
    """
    return 1 if device.type == "cpu" else 8


@dataclass(frozen=True)
class SegmentedScene:
    """A segmented scene without names, with the milliseconds of its segmentation."""

    image: ImageArray
    scene: str
    regions: tuple[Region, ...]
    milliseconds: float


class SegmenterAhead:
    """A segmenter in ``at_once`` worker threads, which start with the first scene and divide PyTorch's threads.

    On a CPU one worker with all of PyTorch's threads is faster than two, which compete for the GIL at every small
    product. On a GPU a second worker can use the device while the first one's masks are filtered.
    """

    def __init__(self, segmenter: Segmenter, at_once: int = 1) -> None:
        if at_once < 1:
            raise InputError(f"at_once {at_once}: expected at least 1")
        self._segmenter = segmenter
        self._at_once = at_once

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        pool = ThreadPoolExecutor(self._at_once, thread_name_prefix="segmenter")
        _share_out(pool, self._at_once)
        return pool

    @property
    def _device(self) -> torch.device:
        model = self._segmenter.model
        return next(model.parameters()).device if isinstance(model, nn.Module) else torch.device("cpu")

    def groups(self, scenes: Iterable[tuple[ImageArray, str]], size: int) -> Generator[list[Future[SegmentedScene]]]:
        """Segment a stream of named scenes in groups; except on a CPU with one worker, one group ahead of the caller.

        Yields a future for each scene of a group. Pending futures are cancelled when the generator is closed.
        """
        source, begun = iter(scenes), deque[list[Future[SegmentedScene]]]()
        ahead = int(self._at_once > 1 or self._device.type != "cpu")
        try:
            while some := list(islice(source, size)):
                begun.append(self.start(some))
                if len(begun) > ahead:
                    yield begun[0]
                    begun.popleft()
            while begun:
                yield begun[0]
                begun.popleft()
        finally:
            for future in chain.from_iterable(begun):
                future.cancel()

    def start(self, scenes: Sequence[tuple[ImageArray, str]]) -> list[Future[SegmentedScene]]:
        """Queue several scenes; on anything but a CPU the image encoder runs on them as a batch."""
        device = self._device
        modes = _modes(device)
        embedded: Embedded | None = None
        if device.type != "cpu":
            embedded = self._pool.submit(self._embed, modes, [image for image, _ in scenes])
        return [
            self._pool.submit(self._segment, modes, image, scene, embedded, index)
            for index, (image, scene) in enumerate(scenes)
        ]

    def _embed(
        self, modes: partial[torch.autocast], images: Sequence[ImageArray]
    ) -> tuple[Sequence[SceneEmbedding | None], float]:
        start = time.perf_counter()
        with modes():
            embeddings = self._segmenter.embed_all(images)
        return embeddings, (time.perf_counter() - start) * 1e3 / max(1, len(images))

    def _segment(
        self,
        modes: partial[torch.autocast],
        image: ImageArray,
        scene: str,
        embedded: Embedded | None,
        index: int,
    ) -> SegmentedScene:
        embedding, before = None, 0.0
        if embedded is not None:
            embeddings, before = embedded.result()  # queued earlier, so this cannot deadlock
            embedding = embeddings[index]
        start = time.perf_counter()
        with modes():
            regions = self._segmenter(image, embedding)
        return SegmentedScene(image, scene, tuple(regions), before + (time.perf_counter() - start) * 1e3)


def _share_out(pool: ThreadPoolExecutor, workers: int) -> None:
    """Start a pool's threads, and divide PyTorch's threads among them."""
    total, barrier = torch.get_num_threads(), Barrier(workers)

    def begin() -> None:
        torch.get_num_threads()  # the first call copies the process's number, which would undo the next line
        torch.set_num_threads(max(1, total // workers))
        barrier.wait()

    for begun in [pool.submit(begin) for _ in range(workers)]:
        begun.result()
    torch.set_num_threads(total)  # else threads that start later would inherit the reduced number


def _modes(device: torch.device) -> partial[torch.autocast]:
    """Return a factory of this thread's autocast context, for another thread."""
    dtype, enabled = torch.get_autocast_dtype(device.type), torch.is_autocast_enabled(device.type)
    return partial(torch.autocast, device.type, dtype=dtype, enabled=enabled)
