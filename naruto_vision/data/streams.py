"""Training on shards that are read from front to back: of a folder, of a web server or object store, or of a command.

``webdataset.WebDataset`` reads a file of any size into memory, its decoders may unpickle, and what it cannot read it
passes over; so only its grouping of samples, loader and command pipes are used, on the bounded ``TarReader``.

The order of an epoch is a pure function of the seed, the epoch, and the numbers of processes and workers: the shards in
a random order, cut into equal parts for the processes and then for the workers, in each of which groups of ``shuffle``
images are mixed. An index (``index.json`` of ``data shard``) says how many images each shard has; so an epoch has each
image once, and an interrupted run goes on with the next image.
"""

import urllib.error
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from http.client import HTTPException
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple, TypeVar, cast

import numpy as np

from naruto_vision.data.shards import INDEX, Kind, SplitIndex
from naruto_vision.errors import FormatError, InputError, MissingPathError, first_line
from naruto_vision.io.downloads import open_web
from naruto_vision.io.images import is_image_name
from naruto_vision.io.tars import MAX_BYTES, TarReader, expand_braces, member_refusal
from naruto_vision.io.typed_json import parse_json, require_regular

T = TypeVar("T")

PIPE = "pipe:"
TEXTS = ("json", "cls", "txt")
"""The files of a sample that are read beside its image."""
_ORDER_STREAM, _SHUFFLE_STREAM = 6, 7  # keep the random numbers of different uses apart
_TIMEOUT = 60.0  # seconds without data after which a connection counts as broken
_LONGEST_TEXT = 1 << 20  # bytes of the texts of one sample
_MOST_FILES = 16  # of one sample, which are in memory together
_LONGEST_INDEX = 1 << 28
_STORES = ("s3", "gs", "az", "abfs", "hf", "memory")  # of fsspec; its other kinds open, unpack or render anything
_FAULTS = (OSError, HTTPException, ValueError, EOFError)  # of opening and reading a stream


def open_stream(address: str, *, allow_pipe: bool = False) -> BinaryIO:
    """Open a file, a web address, an address of fsspec (``s3://``), or the output of a command (``pipe:``) to read.

    InputError if a command is not allowed, or a package for this kind of address is not installed.
    """
    scheme = address.partition(":")[0]
    if scheme in ("http", "https"):
        return cast("BinaryIO", open_web(address, _TIMEOUT))
    if address.startswith(PIPE):
        if not allow_pipe:
            raise InputError(pipe_refusal(address))
        from webdataset import gopen

        return cast("BinaryIO", gopen(address))
    if "://" not in address:
        require_regular(Path(address))
        return Path(address).open("rb")
    if scheme not in _STORES or "::" in address:
        raise InputError(f"{address[:80]}: expected a path or an address of https, {', '.join(_STORES)}")
    import fsspec

    try:
        return cast("BinaryIO", fsspec.open(address, "rb").open())
    except (ImportError, ValueError) as error:  # ValueError: an unknown scheme
        raise InputError(f"{address}: cannot be opened ({first_line(error)})") from None


def pipe_refusal(address: str) -> str:
    """Say why a command is not run, and how to run it."""
    return f"{address[:80]}: runs a command; type --data.allow_pipe true after the command's name to allow it"


@dataclass(frozen=True)
class Shards:
    """Shards by address, with what their index says, if there is one."""

    addresses: tuple[str, ...]
    counts: tuple[int, ...] = ()  # images of each; none without an index
    classes: tuple[str, ...] = ()
    kind: Kind = "classes"
    digests: tuple[str, ...] = ()

    @property
    def images(self) -> int:
        """How many images they have; 0 without an index."""
        return sum(self.counts)


def read_remote_json(address: str, kind: type[T]) -> T:
    """Read a JSON file of any address as a type that ``msgspec`` understands."""
    with closing(open_stream(address)) as stream:
        data = stream.read(_LONGEST_INDEX + 1)
    if len(data) > _LONGEST_INDEX:
        raise FormatError(address, f"at most {_LONGEST_INDEX} bytes", "more")
    return parse_json(address, data, kind)


def index_of(folder: str) -> SplitIndex | None:
    """Read the index of a folder or web address; None if there is none."""
    try:
        return read_remote_json(f"{folder}/{INDEX}", SplitIndex)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except urllib.error.HTTPError as error:
        if error.code in (403, 404, 410):  # object stores answer 403 for what is not there
            return None
        raise InputError(f"{folder}/{INDEX}: the server answered {error.code} {error.reason}") from None
    except OSError as error:
        raise InputError(f"{folder}/{INDEX}: {getattr(error, 'reason', error)}") from None


def find_shards(address: str) -> Shards:
    """Find the shards of a folder or web address, of a list in braces (``train-{000..009}.tar``), or of ``pipe:``.

    A list takes the index in its folder if that has them all.
    """
    names = expand_braces(address)
    plain = address.startswith(PIPE)
    if not plain and not address.endswith(".tar") and len(names) == 1:
        folder = address.rstrip("/")
        index = index_of(folder)
        if index is not None:
            return _indexed(folder, index, [shard.name for shard in index.shards])
        names = sorted(map(str, Path(folder).glob("*.tar"))) if "://" not in folder else []
        if not names:
            raise MissingPathError(address, f"folder of shards: expected {INDEX} or tar files in it")
        return Shards(tuple(names))
    folders = {name.rpartition("/")[0] for name in names}
    if not plain and len(folders) == 1:
        index = index_of(folders.pop() or ".")
        own = [name.rpartition("/")[2] for name in names]
        if index is not None and {shard.name for shard in index.shards}.issuperset(own):
            return replace(_indexed("", index, own), addresses=tuple(names))
    return Shards(tuple(names))


def _indexed(folder: str, index: SplitIndex, names: Sequence[str]) -> Shards:
    of = {shard.name: shard for shard in index.shards}
    chosen = [of[name] for name in names if of[name].images > 0]
    return Shards(
        tuple(f"{folder}/{shard.name}" for shard in chosen),
        tuple(shard.images for shard in chosen),
        index.classes,
        index.kind,
        tuple(shard.sha256 for shard in chosen),
    )


class RawSample(NamedTuple):
    """A sample before decoding: its bytes by suffix, or why there is none."""

    name: str  # address and key
    position: int  # in the epoch's order over all processes
    content: dict[str, Any] = {}  # noqa: RUF012 - never changed
    error: str = ""


def read_samples(address: str, *, allow_pipe: bool = False) -> Iterator[RawSample]:
    """Stream the samples of one shard; a damaged or missing one ends with a sample that says why."""
    from webdataset.tariterators import group_by_keys

    passed = 0
    try:
        with closing(open_stream(address, allow_pipe=allow_pipe)) as stream:
            for sample in group_by_keys(_files(address, stream), handler=_as_error):
                yield RawSample(f"{address}: {sample['__key__']}", passed, sample)
                passed += 1
    except _FAULTS as error:
        yield RawSample(address, passed, error=f"{address}: ends behind {passed} images: {first_line(error)}")


def _as_error(error: Exception) -> bool:
    raise ValueError(str(error.args[0]))  # a name twice in one sample


def _files(address: str, stream: BinaryIO) -> Iterator[dict[str, Any]]:
    """Yield the files that samples are made of; others, and links, are not read."""
    reader, files = TarReader(stream), Counter[str]()
    for member in reader:
        suffix = PurePosixPath(member.name).name.partition(".")[2].lower()
        if member_refusal(member) or not (suffix in TEXTS or is_image_name(member.name)):
            continue
        if member.size > (_LONGEST_TEXT if suffix in TEXTS else MAX_BYTES):
            raise ValueError(f"{member.name} has {member.size} bytes, more than are read")
        key = member.name.removesuffix(PurePosixPath(member.name).name.partition(".")[2])
        files = Counter({key: files[key] + 1})
        if files[key] > _MOST_FILES:
            raise ValueError(f"{key} has more than {_MOST_FILES} files")
        yield {"fname": member.name, "data": reader.read(member), "__url__": address}


class _Segment(NamedTuple):
    """A part of a shard: ``take`` images behind the first ``skip``; all if ``take`` is None."""

    address: str
    skip: int = 0
    take: int | None = None
    position: int = 0  # of the first image in the epoch's order


def segments(shards: Shards, order: Iterable[int], first: int, last: int) -> Iterator[_Segment]:
    """Yield what images number ``first`` to ``last`` (exclusive) of the shards in an order are made of."""
    start = 0
    for index in order:
        count = shards.counts[index]
        low, high = max(first, start), min(last, start + count)
        if low < high:
            yield _Segment(shards.addresses[index], low - start, high - low, low)
        start += count


def read_segment(segment: _Segment, *, allow_pipe: bool = False) -> Iterator[RawSample]:
    """Yield exactly the images of a segment; those that a damaged shard does not have are samples with its reason."""
    done, reason = 0, ""
    for number, sample in enumerate(read_samples(segment.address, allow_pipe=allow_pipe)):
        if sample.error:
            reason = sample.error
        elif number >= segment.skip:
            yield sample._replace(position=segment.position + done)
            done += 1
        if done == segment.take:
            return
    if segment.take is None:
        yield from [RawSample(segment.address, segment.position + done, error=reason)] if reason else []
        return
    reason = reason or f"{segment.address}: has fewer images than its index says"
    for position in range(done, segment.take):
        name = f"{segment.address}: image {segment.skip + position}"
        yield RawSample(name, segment.position + position, error=reason)


@dataclass(frozen=True)
class StreamPlan:
    """Which images a process reads in an epoch, and in which batches.

    Without an index, or with ``epoch_images``, training draws shards at random without end, and validation reads each
    shard in exactly one worker of one process.
    """

    shards: Shards
    batch_size: int
    workers: int = 1
    rank: int = 0
    world: int = 1
    seed: int = 0
    shuffle: int = 0  # images that are mixed; 0 keeps the order of the shards
    epoch_images: int | None = None
    allow_pipe: bool = False

    @property
    def exact(self) -> bool:
        """Whether each image comes once, and the number of batches is known."""
        return bool(self.shards.counts) and self.epoch_images is None

    @cached_property
    def share(self) -> range:
        """This process's part of the epoch's order."""
        images = self.shards.images
        return range(images * self.rank // self.world, images * (self.rank + 1) // self.world)

    @property
    def batches(self) -> int:
        """Batches of each process: equally many, so that none waits for another; the last may have one image more."""
        if self.epoch_images is not None:
            return -(-self.epoch_images // (self.batch_size * self.world))
        fewest = self.shards.images // self.world
        return max(-(-fewest // self.batch_size), int(bool(self.share)))

    def role(self, worker: int) -> range:
        """Return the numbers of a worker's batches: a loader takes one from each in turn."""
        return range(worker, self.batches, self.workers)

    def _size(self, batch: int) -> int:
        return len(self.share) - self.batch_size * batch if batch == self.batches - 1 else self.batch_size

    def _images(self, worker: int, batches: int | None = None) -> int:
        """Return how many images the first batches of a worker have; an index may state any number of them."""
        role, last = self.role(worker)[:batches], self.batches - 1
        return len(role) * self.batch_size + (self._size(last) - self.batch_size if last in role else 0)

    def samples(self, epoch: int, worker: int, done: int = 0) -> Iterator[list[RawSample]]:
        """Yield a worker's batches of an epoch behind those that are ``done``, before decoding."""
        if not self.exact:
            yield from self._endless(epoch, worker, done) if self.epoch_images is not None else self._all_once(worker)
            return
        order = np.random.default_rng([_ORDER_STREAM, self.seed, epoch]).permutation(len(self.shards.counts))
        first = self.share.start + sum(self._images(each) for each in range(worker))
        last = first + self._images(worker)
        behind = self._images(worker, done)
        group = behind // self.shuffle if self.shuffle else 0
        start = first + (group * self.shuffle if self.shuffle else behind)
        mine = segments(self.shards, order.tolist() if self.shuffle else range(len(order)), start, last)
        shift = epoch * self.shards.images
        raw = (one._replace(position=one.position + shift) for part in mine for one in self._read(part))
        mixed = self._mixed(raw, [epoch, worker], group)
        mixed = islice(mixed, first + behind - start, None)
        for batch in self.role(worker)[done:]:
            yield list(islice(mixed, self._size(batch)))

    def _read(self, part: _Segment) -> Iterator[RawSample]:
        return read_segment(part, allow_pipe=self.allow_pipe)

    def _mixed(self, raw: Iterator[RawSample], seeds: list[int], group: int = 0) -> Iterator[RawSample]:
        while self.shuffle and (own := list(islice(raw, self.shuffle))):
            rng = np.random.default_rng([_SHUFFLE_STREAM, self.seed, self.rank, *seeds, group])
            yield from (own[row] for row in rng.permutation(len(own)))
            group += 1
        yield from raw

    def _endless(self, epoch: int, worker: int, done: int) -> Iterator[list[RawSample]]:
        seeds = [self.seed, epoch, self.rank, worker, done]
        rng = np.random.default_rng([_ORDER_STREAM, *seeds])

        def raw() -> Iterator[RawSample]:
            position = epoch << 40 | self.rank << 30 | worker << 24
            while True:
                for sample in self._read(_Segment(self.shards.addresses[rng.integers(len(self.shards.addresses))])):
                    yield sample._replace(position=position)
                    position += 1

        mixed = self._mixed(raw(), [epoch, worker, done])
        for _ in self.role(worker)[done:]:
            yield list(islice(mixed, self.batch_size))

    def _all_once(self, worker: int) -> Iterator[list[RawSample]]:
        own = self.shards.addresses[self.rank :: self.world][worker :: self.workers]
        raw = (sample for address in own for sample in self._read(_Segment(address)))
        while batch := list(islice(raw, self.batch_size)):
            yield batch
