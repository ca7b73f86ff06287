"""Data module of images with classes or captions that are streamed from shards."""

import logging
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec
import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info
from typing_extensions import override

from naruto_vision.data.augmentation import augment
from naruto_vision.data.caption_data import CaptionBatch, caption_batch, number_subjects
from naruto_vision.data.class_data import ClassBatch
from naruto_vision.data.sampling import Resumed, checked_batch_size, consumed_batches, of_all_processes, process_share
from naruto_vision.data.shards import INDEX, ShardList
from naruto_vision.data.store import (
    AUGMENT_STREAM,
    TRAINING_SIDE,
    Preprocess,
    RunQuarantine,
    SampleDataModule,
    module_preprocess,
)
from naruto_vision.data.streams import (
    PIPE,
    TEXTS,
    RawSample,
    Shards,
    StreamPlan,
    find_shards,
    index_of,
    pipe_refusal,
    read_remote_json,
)
from naruto_vision.encoders.base import prepared
from naruto_vision.encoders.tiny import vocabulary_of
from naruto_vision.errors import BadImageError, FormatError, InputError
from naruto_vision.io.images import decode_image, shrink
from naruto_vision.io.processes import end_with_parent

_TEXT_STREAM = 8  # keeps the choice of captions apart from other random numbers
_MOST_BAD = 20_000  # unreadable images in a row, before one that can be read: an index may state any number
_LOG = logging.getLogger(__name__)

StreamKind: TypeAlias = Literal["classes", "captions"]


class _Record(msgspec.Struct):
    """What is read of a sample's ``.json``; other keys are ignored."""

    path: str = ""
    labels: list[str] = []
    texts: list[str] = []


class StreamedImage(NamedTuple):
    """One decoded and prepared image."""

    pixels: torch.Tensor  # (3, S, S), float32
    path: str
    label: int  # -1 of captions
    text: str
    sole: bool  # whether the image has no other caption


@dataclass(frozen=True)
class Decoder:
    """Makes an image and its label or caption of a sample."""

    kind: StreamKind
    classes: tuple[str, ...]
    preprocess: Preprocess
    seed: int
    augment: Callable[[Any, np.random.Generator], Any] | None = None

    def __call__(self, sample: RawSample) -> StreamedImage:
        """Decode a sample; BadImageError if it is unusable."""
        if sample.error:
            raise BadImageError(sample.name, sample.error)
        suffix = next((each for each in sample.content if each not in TEXTS and not each.startswith("__")), "")
        if not suffix:
            raise BadImageError(sample.name, "the sample has no image")
        record = self._record(sample)
        label, text = -1, ""
        if self.kind == "classes":
            label = self._label(sample, record)
        else:
            texts = record.texts or [self._text(sample, "txt")]
            text = texts[np.random.default_rng([_TEXT_STREAM, self.seed, sample.position]).integers(len(texts))]
        image = shrink(decode_image(sample.content[suffix], f"{sample.name}.{suffix}"), TRAINING_SIDE)
        if self.augment is not None:
            image = self.augment(image, np.random.default_rng([AUGMENT_STREAM, self.seed, sample.position]))
        path = record.path or sample.name
        return StreamedImage(prepared(self.preprocess, image, path), path, label, text, len(record.texts) < 2)

    def _record(self, sample: RawSample) -> _Record:
        try:
            return msgspec.json.decode(sample.content.get("json", b"{}"), type=_Record)
        except (msgspec.DecodeError, RecursionError) as error:
            raise BadImageError(sample.name, f"its .json cannot be used ({error})") from None

    @staticmethod
    def _text(sample: RawSample, suffix: str) -> str:
        text = sample.content.get(suffix, b"").decode("utf-8", "replace").strip()
        if not text:
            raise BadImageError(sample.name, f"the sample has no .{suffix}")
        return str(text)

    def _label(self, sample: RawSample, record: _Record) -> int:
        name = record.labels[0] if record.labels else self._text(sample, "cls")
        number = int(name) if name.isdecimal() and name not in self.classes and len(name) < 8 else -1
        if name in self.classes:
            number = self.classes.index(name)
        if not 0 <= number < len(self.classes):
            raise BadImageError(sample.name, f"its class {name[:40]!r} is none of data.classes")
        return number


def make_batch(kind: StreamKind, items: Sequence[StreamedImage]) -> ClassBatch | CaptionBatch:
    """Put decoded images into one batch; images whose only captions are equal are one subject."""
    pixels = [item.pixels for item in items]
    if kind == "classes":
        labels = torch.tensor([item.label for item in items])
        return ClassBatch(torch.stack(pixels), labels, [item.path for item in items])
    subjects = number_subjects((item.path, item.text, item.sole) for item in items)
    return caption_batch(pixels, subjects, [item.text for item in items])


class _Decoded(NamedTuple):
    batch: Any
    read: int
    bad: list[tuple[str, str]]


class _Worker(IterableDataset[_Decoded]):
    """What one worker decodes; each worker takes over the role whose batch comes next."""

    def __init__(self, plan: StreamPlan, decode: Decoder, epoch: int, done: int, *, fill: bool) -> None:
        self._plan, self._decode, self._epoch, self._done, self._fill = plan, decode, epoch, done, fill

    def __iter__(self) -> Iterator[_Decoded]:
        info = get_worker_info()
        role = ((info.id if info else 0) + self._done) % self._plan.workers
        done = len(range(role, self._done, self._plan.workers))
        good: deque[StreamedImage] = deque(maxlen=self._plan.batch_size)  # in place of what cannot be read
        waiting: list[tuple[list[StreamedImage], list[tuple[str, str]]]] = []  # until one is read
        for samples in self._plan.samples(self._epoch, role, done):
            waiting.append(self._decoded(samples))
            good.extend(waiting[-1][0])
            if good or not self._fill:
                yield from (self._batch(items, bad, good) for items, bad in waiting)
                waiting = []
            elif sum(len(own) for _, own in waiting) > _MOST_BAD:
                break
        if waiting:
            bad = [one for _, own in waiting for one in own]
            raise InputError(f"none of {len(bad)} images in a row can be read; first {bad[0][1]}")

    def _decoded(self, samples: Iterable[RawSample]) -> tuple[list[StreamedImage], list[tuple[str, str]]]:
        items, bad = list[StreamedImage](), list[tuple[str, str]]()
        for sample in samples:
            try:
                items.append(self._decode(sample))
            except BadImageError as error:
                bad.append((sample.name, error.reason))
        return items, bad

    def _batch(
        self, items: Sequence[StreamedImage], bad: list[tuple[str, str]], good: Sequence[StreamedImage]
    ) -> _Decoded:
        more = [good[number % len(good)] for number in range(len(bad))] if self._fill else []
        batch = make_batch(self._decode.kind, [*items, *more]) if items or more else None
        return _Decoded(batch, len(items), bad)


def _same(value: Any) -> Any:  # noqa: ANN401 - a batch
    return value


@dataclass
class StreamLoader(Resumed):
    """The batches of one process from the run's current step on, a new iteration for each epoch."""

    plan: StreamPlan
    decode: Decoder
    note: Callable[[int, list[tuple[str, str]]], None]
    num_workers: int = 0
    consumed: Callable[[], int] | None = None  # of training; validation has no position

    def __len__(self) -> int:
        if not self.plan.shards.counts and self.plan.epoch_images is None:
            raise TypeError("the length of shards without an index is not known")
        return self.plan.batches

    def __iter__(self) -> Iterator[Any]:
        from webdataset import WebLoader

        epoch, done = divmod(self.consumed(), max(self.plan.batches, 1)) if self.consumed is not None else (0, 0)
        worker = _Worker(self.plan, self.decode, epoch, done, fill=self.consumed is not None)
        generator = torch.Generator()  # otherwise every epoch consumes a number of the global generator
        options = {"collate_fn": _same, "generator": generator, "worker_init_fn": end_with_parent}
        for batch, read, bad in WebLoader(worker, batch_size=None, num_workers=self.num_workers, **options):
            self.note(read, bad)
            if batch is not None:
                yield batch


class StreamQuarantine(RunQuarantine):
    """Counts images as streams read them; an unusable one once, however often it comes."""

    def __init__(self, what: str, listed: int, max_bad_fraction: float) -> None:
        super().__init__(what, listed)
        self._max_bad_fraction = max_bad_fraction
        self._known: set[str] = set()

    def note(self, read: int, bad: Iterable[tuple[str, str]]) -> None:
        """Count images; InputError if too many are unusable."""
        self.ok = min(self.ok + read, (self.listed or sys.maxsize) - self.quarantined)  # epochs repeat images
        new = [(name, reason) for name, reason in bad if name not in self._known]
        reasons = dict.fromkeys(reason for _, reason in new)
        for name, reason in new:
            self._known.add(name)
            self.refuse(name, reason)
        for reason in reasons:
            _LOG.warning("left out: %s", reason)
        if new:
            self.check(self._max_bad_fraction)

    @override
    def gather(self, world: int) -> None:
        if world > 1:
            parts = of_all_processes(world, (self.ok, self.rows))
            self.ok = 0
            for read, bad in parts:
                self.note(read, bad)


class StreamDataModule(SampleDataModule):
    """Images with classes or captions for ``fit``, ``validate`` and ``test``, streamed from shards of webdataset.

    With the index that ``naruto-vision data shard`` writes, an epoch has every image exactly once over all processes
    and workers, and an interrupted run goes on with the next batch, with the same numbers of processes and workers.
    Shards without an index need ``epoch_images``: training then draws shards at random, and a run that was interrupted
    goes on with other draws. In place of an image that cannot be read, training takes another one of its batch or of
    those before; missing and damaged shards are counted, image by image where an index tells their number.

    Args:
        root: Shards for training: a folder with ``train`` and ``valid`` as ``data shard`` writes it, a folder of
            shards, their web address (``https://``, ``s3://`` and others of fsspec), a list in braces
            (``train-{000..009}.tar``), or ``pipe:`` with a command that writes a shard.
        valid: Shards for validation, named in the same ways; by default those beside ``train``.
        test: Shards for testing; by default those beside ``train``, or those for validation.
        classes: Class names in the order of the numbers in ``.cls``, for shards without an index; without any, the
            ``.txt`` of samples are captions.
        batch_size: Images per batch and process.
        num_workers: Worker processes that read and decode; each reads its own shards.
        shuffle: How many images each worker mixes; they are kept in memory, as files.
        epoch_images: Images of an epoch that draws shards at random; None has each image once.
        augmented: Augment the training images.
        mirrored: Let augmentation swap left and right.
        seed: Random seed of order and augmentation.
        max_bad_fraction: Maximum fraction of unreadable images, in [0, 1].
        allow_pipe: Let ``pipe:`` run its command. A config cannot set this: type it on the command line.
        preprocess: From an image, shape (H, W, 3), to pixels (3, S, S); by default that of the module's encoder.

    Attributes:
        preprocess: As given.
        quarantines: Split name to the unreadable images found so far, with counts.

    Raises:
        InputError: If a number is out of range; later, if a command is not allowed, shards without an index have no
            ``epoch_images``, or there are fewer images than processes.
        MissingPathError: Later, if there are no shards.
        FormatError: Later, if an index is broken, or its classes are not those of the training split.

    Examples:
        >>> import naruto_vision as nv
        >>> data = nv.StreamDataModule("https://example.org/shards", batch_size=64)  # nothing is read yet
        >>> data.batch_size
        64
    """

    def __init__(
        self,
        root: str,
        valid: str | None = None,
        test: str | None = None,
        classes: list[str] | None = None,
        batch_size: int = 32,
        num_workers: int = 2,
        shuffle: int = 1000,
        epoch_images: int | None = None,
        augmented: bool = True,
        mirrored: bool = True,
        seed: int = 0,
        max_bad_fraction: float = 0.05,
        allow_pipe: bool = False,
        preprocess: Preprocess | None = None,
    ) -> None:
        super().__init__()
        self.allow_zero_length_dataloader_with_multiple_devices = True  # a split may be smaller than the world
        self.root, self.num_workers, self.seed, self.preprocess = root, num_workers, seed, preprocess
        self.batch_size = checked_batch_size(batch_size)
        if shuffle < 1 or (epoch_images is not None and epoch_images < 1):
            raise InputError(f"data.shuffle {shuffle}, data.epoch_images {epoch_images}: expected at least 1")
        self._addresses = {"train": root, "valid": valid, "test": test}
        self._classes, self._shuffle, self._epoch_images = classes, shuffle, epoch_images
        self._augment = partial(augment, mirrored=mirrored) if augmented else None
        self._max_bad_fraction, self._allow_pipe = max_bad_fraction, allow_pipe
        self.quarantines: dict[str, StreamQuarantine] = {}

    @cached_property
    def shards(self) -> dict[str, Shards]:
        """Split to its shards, found on first use."""
        plain = not self.root.startswith(PIPE) and not self.root.endswith(".tar") and "{" not in self.root
        beside = self.root.rstrip("/") if plain and index_of(f"{self.root.rstrip('/')}/train") is not None else ""
        found = {}
        for split, address in self._addresses.items():
            if beside and (split == "train" or address is None):
                address = f"{beside}/{split}" if index_of(f"{beside}/{split}") is not None else None
            if address is not None:
                if address.startswith(PIPE) and not self._allow_pipe:
                    raise InputError(pipe_refusal(address))
                found[split] = find_shards(address)
        for split, one in found.items():
            if one.kind not in ("classes", "captions"):
                raise FormatError(f"{self._addresses[split]}", "shards of classes or captions", f"of {one.kind}")
            how = f"{one.images} images" if one.counts else "no index: how many images is not known"
            _LOG.info("%s: %d shards, %s", split, len(one.addresses), how)
        return found

    @property
    def kind(self) -> StreamKind:
        """What the images come with."""
        train = self.shards["train"]
        indexed: StreamKind = "captions" if train.kind == "captions" else "classes"
        return indexed if train.counts else "classes" if self._classes else "captions"

    @property
    def classes(self) -> tuple[str, ...]:
        """Every class, in the order of the label numbers; none of captions."""
        return tuple(self._classes or self.shards["train"].classes)

    def _lists(self) -> Iterator[ShardList]:
        train = self.shards["train"]
        for address in train.addresses if train.counts else ():
            yield read_remote_json(f"{address.removesuffix('.tar')}.json", ShardList)

    @cached_property
    def class_counts(self) -> tuple[int, ...] | None:
        """Training images of each class, in the order of ``classes``; None where they are not known."""
        if self.kind != "classes" or not self.shards["train"].counts:
            return None
        labels = Counter(label for found in self._lists() for image in found.images for label in image.labels[:1])
        return tuple(labels[name] for name in self.classes)

    @cached_property
    def words(self) -> tuple[str, ...]:
        """Every word of the training captions once, sorted; none where they are not known."""
        if self.kind != "captions":
            return ()
        return vocabulary_of(text for found in self._lists() for image in found.images for text in image.texts)

    def setup(self, stage: str) -> None:
        """Find the shards that a stage needs, so that wrong ones are reported at once."""
        train, (_, world) = self.shards["train"], process_share(self.trainer)
        if stage != "fit":
            return
        if not train.counts and self._epoch_images is None:
            raise InputError(
                f"{self.root}: no {INDEX} beside the shards, so their number of images is not known: give "
                "--data.epoch_images N (shards are drawn at random), or pack them with `naruto-vision data shard`"
            )
        if train.counts and train.images < world:
            raise InputError(f"{self.root}: {train.images} images for {world} processes")

    def _loader(self, split: str, *, training: bool) -> StreamLoader:
        if split not in self.shards:
            raise InputError(f"{self.root}: no shards of split {split!r}; give --data.{split}")
        shards, (rank, world) = self.shards[split], process_share(self.trainer)
        own = self.classes if split == "train" or not shards.classes else shards.classes
        if own != self.classes:
            raise FormatError(str(self._addresses[split] or split), "the classes of the training split", ", ".join(own))
        self.quarantines.setdefault(
            split, StreamQuarantine(f"images of split {split!r}", shards.images, self._max_bad_fraction)
        )
        plan = StreamPlan(
            shards,
            self.batch_size,
            max(self.num_workers, 1),
            rank,
            world,
            self.seed,
            shuffle=self._shuffle if training else 0,
            epoch_images=self._epoch_images if training else None,
            allow_pipe=self._allow_pipe,
        )
        preprocess = self.preprocess or module_preprocess(self.trainer)
        decode = Decoder(self.kind, self.classes, preprocess, self.seed, self._augment if training else None)
        consumed = partial(consumed_batches, self.trainer) if training else None
        return StreamLoader(plan, decode, self.quarantines[split].note, self.num_workers, consumed)

    def train_dataloader(self) -> StreamLoader:
        """Return the training images from the run's current step on."""
        return self._loader("train", training=True)

    def val_dataloader(self) -> StreamLoader | list[Any]:
        """Return the validation images, each in exactly one process, or nothing if there are none."""
        return self._loader("valid", training=False) if "valid" in self.shards else []

    def test_dataloader(self) -> StreamLoader:
        """Return the test images."""
        return self._loader("test" if "test" in self.shards else "valid", training=False)

    def _identity(self) -> dict[str, Any]:
        """Return what determines the training order."""
        train, world = self.shards["train"], process_share(self.trainer)[1]
        return {
            "shards": list(train.digests),
            "plan": [self.batch_size, self.num_workers, world, self.seed, self._shuffle, self._epoch_images or 0],
        }

    def state_dict(self) -> dict[str, Any]:
        """Return what the data must match to resume an interrupted run exactly."""
        return {**self._identity(), "consumed": consumed_batches(self.trainer)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Say whether the run goes on exactly where it stopped; the position itself is the trainer's counter.

        Args:
            state: What ``state_dict`` returned.
        """
        if not self.shards["train"].counts or self._epoch_images is not None:
            _LOG.warning("%s: shards are drawn at random, so the run goes on with other images", self.root)
        elif {name: state.get(name) for name in ("shards", "plan")} != self._identity():
            _LOG.warning(
                "%s: shards, batch size, workers, processes or seed differ from the interrupted run's: "
                "some images of this epoch may come twice or not at all",
                self.root,
            )
