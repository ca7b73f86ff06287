"""Embed the frames of videos into a vector store, one collection a video: resumable, and one pass over each file."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice, pairwise, repeat
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from naruto_vision.encoders.base import Encoder, embed_pixels, prepared
from naruto_vision.errors import REINDEX, BadVideoError, FingerprintError, InputError, MissingPathError
from naruto_vision.gallery.vector_store import Collection, Metadata, VectorStore
from naruto_vision.io.inputs import ImageNames, find_videos
from naruto_vision.io.quarantine import Quarantine
from naruto_vision.io.video import VideoFrame, resize_frame
from naruto_vision.io.video_process import IsolatedVideoReader
from naruto_vision.records import ImageArray
from naruto_vision.video.shots import ShotConfig, shots_with_key_frames

DONE = "done"
"""Metadata of a collection's first entry once all frames of its video are there."""

_FRAMES = 32  # that are embedded and stored at a time
_TOLD = 8  # frames that are read between two reports
_LONGEST = 768  # pixels; encoders take smaller images
_WIDE, _HIGH = 0.6, 0.75  # of the shorter side


@dataclass(frozen=True)
class FrameSampling:
    """Which frames of a video are embedded, and how.

    Args:
        fps: Frames per second; None takes the key frames of every shot.
        key_frames: Key frames of a long shot, 1 to 3; short ones have fewer.
        windows: Overlapping windows along the longer side of a frame, in two rows, that are embedded beside the whole
            frame, as encoders see a frame small. 0 embeds the whole frame only.

    Raises:
        InputError: If a number is out of range.

    Examples:
        >>> import naruto_vision as nv
        >>> nv.FrameSampling(fps=1, windows=0).as_json()
        {'fps': 1, 'key_frames': None, 'windows': 0}
    """

    fps: float | None = None
    key_frames: int = 3
    windows: int = 3

    def __post_init__(self) -> None:
        if not 1 <= self.key_frames <= 3 or not 0 <= self.windows <= 16 or (self.fps is not None and not self.fps > 0):
            raise InputError(
                "frames to index: expected fps above 0, 1 to 3 key frames and 0 to 16 windows, "
                f"found {self.fps}, {self.key_frames} and {self.windows}"
            )

    def as_json(self) -> dict[str, Any]:
        """Return the JSON values."""
        return {"fps": self.fps, "key_frames": None if self.fps else self.key_frames, "windows": self.windows}


class FrameSample(NamedTuple):
    """A frame to embed, and the part of the video that it represents, in seconds."""

    frame: VideoFrame
    shot: int  # -1 where shots are not looked for
    start: float
    end: float


class SampledVideo:
    """Yields the frames of a video that are embedded, decoded in a process that is ended if it stalls or crashes.

    ``advance`` is called with the number of a frame, every few frames that are read. MissingPathError or BadVideoError
    if there is no such video.
    """

    def __init__(
        self, path: Path, sampling: FrameSampling, advance: Callable[[int], None] = lambda _index: None
    ) -> None:
        self._sampling, self._advance = sampling, advance
        self._reader = IsolatedVideoReader(path, fps=sampling.fps)
        self.frames = self._reader.info.frames

    @property
    def lost(self) -> str:
        """After an iteration, what could not be read."""
        return self._reader.lost

    def _read(self) -> Iterator[VideoFrame]:
        for number, frame in enumerate(self._reader):
            if number % _TOLD == 0:
                self._advance(frame.index)
            yield frame

    def __iter__(self) -> Iterator[FrameSample]:
        """Yield the frames in order of presentation."""
        if self._sampling.fps is None:
            shots = shots_with_key_frames(self._read(), ShotConfig(key_frames=self._sampling.key_frames))
            for number, (shot, frames) in enumerate(shots):
                middles = [(one.time + other.time) / 2 for one, other in pairwise(frames)]
                starts, ends = [shot.start, *middles], [*middles, shot.end]
                yield from map(FrameSample, frames, repeat(number), starts, ends)
        else:
            for frame, after in pairwise(chain(self._read(), [None])):
                if frame is not None:
                    yield FrameSample(
                        frame, -1, frame.time, self._reader.info.duration if after is None else after.time
                    )


@dataclass
class IndexReport:
    """What an indexing did."""

    videos: dict[str, int] = field(default_factory=dict)  # complete collections, with their number of entries
    skipped: list[str] = field(default_factory=list)  # those that were complete before
    lost: dict[str, str] = field(default_factory=dict)  # video → what of it could not be read
    quarantine: Quarantine = field(default_factory=lambda: Quarantine("videos"))

    def as_json(self) -> dict[str, Any]:
        """Return the JSON values."""
        refused = [bad._asdict() for bad in self.quarantine.rows]
        counts = {**self.quarantine.counts(), "skipped": len(self.skipped), "entries": sum(self.videos.values())}
        return {"counts": counts, "videos": self.videos, "lost": self.lost, "quarantined": refused}


Watch: TypeAlias = Callable[[str, int, int], None]
"""Is called with the name of a video, how many of its frames were passed, and how many there are."""


def index_videos(
    sources: ImageNames,
    store: VectorStore,
    encoder: Encoder,
    *,
    sampling: FrameSampling | None = None,
    batch_size: int = 32,
    watch: Watch = lambda _video, _done, _total: None,
) -> IndexReport:
    """Embed the frames of videos into a store; what is there already is skipped.

    A video is indexed again where its size or time of change, or the sampling, differ. A killed run is continued after
    its last batch. Videos that cannot be read are quarantined, and the others go on.

    Args:
        sources: Video files, folders that are searched for videos, or patterns.
        store: Where the vectors go, from ``open_store``.
        encoder: Embeds the frames; texts can be searched if it has a text tower.
        sampling: Which frames; None takes the key frames of all shots.
        batch_size: Images of one forward pass.
        watch: Is called every few frames with a video's name, the frames that were passed, and all frames of it.

    Returns:
        What was indexed, skipped and quarantined.

    Raises:
        InputError: If there is no video, or none can be read.
        FingerprintError: If the store was indexed with another encoder.

    Examples:
        >>> import naruto_vision as nv
        >>> with nv.open_store("runs/videos") as store:  # doctest: +SKIP
        ...     report = nv.index_videos("episodes", store, nv.ClipEncoder("tiny-clip").eval())
    """
    videos, report = find_videos(sources), IndexReport()
    check_encoder(store, encoder)
    indexer = _Indexer(store, encoder, sampling or FrameSampling(), batch_size, watch)
    for path in videos:
        try:
            indexer.index(path, report)
        except (BadVideoError, MissingPathError) as error:
            report.quarantine.refuse(path, str(error))
        else:
            report.quarantine.accept()
    report.quarantine.check(1.0)
    return report


def check_encoder(store: VectorStore, encoder: Encoder) -> None:
    """Raise FingerprintError if a store was indexed with another encoder."""
    for name in store.collections()[:1]:  # all of a store have the same
        found = str(store.open(name).note.get("fingerprint"))
        if found != encoder.fingerprint:
            raise FingerprintError(store.uri, found, encoder.fingerprint, "--encoder", REINDEX)


class _Indexer:
    """Indexes videos one after the other."""

    def __init__(
        self, store: VectorStore, encoder: Encoder, sampling: FrameSampling, batch_size: int, watch: Watch
    ) -> None:
        self._store, self._encoder, self._sampling = store, encoder, sampling
        self._batch_size, self._watch = batch_size, watch
        made = {"dim": encoder.dim, "encoder": dict(encoder.recipe), "fingerprint": encoder.fingerprint}
        self._made = {**made, "sampling": sampling.as_json()}

    def index(self, path: Path, report: IndexReport) -> None:
        """Index one video."""
        if not path.exists():
            raise MissingPathError(path, "video")
        status = path.stat()
        source, state = str(path.absolute()), {"size": status.st_size, "changed": status.st_mtime_ns}
        note = {**self._made, **state, "source": source}
        name, found = self._find(path, source, state)
        if found is not None and any(found.note.get(key) != value for key, value in note.items()):
            self._store.delete(name)  # of an earlier state or place of the file, or of another sampling
            found = None
        if found is not None and _is_done(found):
            report.skipped.append(name)
            report.videos[name] = len(found)
            return
        passed = 0

        def advance(index: int) -> None:
            nonlocal passed
            passed = max(passed, index)
            self._watch(name, passed, video.frames)

        video = SampledVideo(path, self._sampling, advance)
        samples = iter(video)
        batch = list(islice(samples, _FRAMES))
        if not batch:
            raise BadVideoError(path, "none of its frames can be decoded; it is corrupt")
        first = frame_id(batch[0].frame.index)
        collection = found or self._store.create(name, {**note, "first": first})
        while batch:
            self._add(collection, path, batch, lambda: advance(0))
            advance(batch[-1].frame.index + 1)
            batch = list(islice(samples, _FRAMES))
        ids, vectors, facts = collection.read([first])
        collection.add(ids, vectors, [{**facts[0], DONE: 1}])
        advance(video.frames)
        report.videos[name] = len(collection)
        if video.lost:
            report.lost[name] = video.lost

    def _find(self, path: Path, source: str, state: Mapping[str, int]) -> tuple[str, Collection | None]:
        """Return the name of a video's collection and, if there is one, the collection.

        The name is that of the file, with as many of its folders as distinguish it from other videos.
        """
        parts, names = path.absolute().parts, set(self._store.collections())
        for depth in range(1, len(parts) + 1):
            name = "/".join(parts[-depth:])
            if name not in names:
                return name, None
            found = self._store.open(name)
            old = str(found.note.get("source"))
            moved = all(found.note.get(key) == value for key, value in state.items()) and not Path(old).exists()
            if moved or old == source:
                return name, found
        raise InputError(f"{path}: its collection is of another video; give another --store")

    def _add(
        self, collection: Collection, path: Path, samples: Sequence[FrameSample], alive: Callable[[], None]
    ) -> None:
        """Embed frames with their windows, and store those that are not there yet; ``alive`` is called meanwhile."""
        known = set(collection.read([frame_id(sample.frame.index) for sample in samples])[0])
        samples = [sample for sample in samples if frame_id(sample.frame.index) not in known]
        ids: list[str] = []
        facts: list[Metadata] = []
        pixels = []
        for frame, shot, start, end in samples:
            place: dict[str, str | int | float] = {"video": str(path.absolute()), "frame": frame.index, "shot": shot}
            place |= {"time": frame.time, "start": start, "end": end}
            for number, view in enumerate(frame_views(_shrunk(frame.image), self._sampling.windows)):
                ids.append(frame_id(frame.index, number))
                facts.append({**place, "window": number})
                pixels.append(prepared(self._encoder.preprocess, view, path))
        size, rows = self._batch_size, []
        for at in range(0, len(pixels), size):
            rows.append(embed_pixels(self._encoder, pixels[at : at + size]).numpy())
            alive()
        if rows:
            collection.add(ids, np.concatenate(rows), facts)


def _shrunk(image: ImageArray) -> ImageArray:
    """Scale a large frame down to what encoders can use, as they prepare large images slowly."""
    return resize_frame(image, (_LONGEST, _LONGEST)) if max(image.shape[:2]) > _LONGEST else image


def _is_done(collection: Collection) -> bool:
    _, _, facts = collection.read([str(collection.note.get("first"))])
    return bool(facts) and DONE in facts[0]


def frame_id(frame: int, window: int = 0) -> str:
    """Name an entry as the reference system names frame files; windows of the frame have a number.

    Examples:
        >>> frame_id(12), frame_id(12, 2)
        ('frame_000012.png', 'frame_000012.png#2')
    """
    return f"frame_{frame:06d}.png" + (f"#{window}" if window else "")


def frame_views(image: ImageArray, windows: int) -> list[ImageArray]:
    """Return a frame (H, W, 3), uint8, whole, and overlapping windows of it in two rows along the longer side.

    Windows are 3/5 of the shorter side wide and 3/4 of it high, as figures stand upright; from left to right, top to
    bottom.

    Examples:
        >>> [view.shape for view in frame_views(np.zeros((200, 320, 3), np.uint8), 1)]
        [(200, 320, 3), (150, 120, 3), (150, 120, 3)]
    """
    height, width = image.shape[:2]
    side = min(height, width)
    high, wide = max(1, round(_HIGH * side)), max(1, round(_WIDE * side))
    across, down = (windows, 2) if width >= height else (2, windows)
    if not windows:
        return [image]
    lefts, tops = _spread(width - wide, across), _spread(height - high, down)
    return [image, *(image[top : top + high, left : left + wide] for top in tops for left in lefts)]


def _spread(room: int, count: int) -> list[int]:
    """Return the starts of windows, from the first to the last possible one; a single one in the middle."""
    starts = np.linspace(0, room, count) if count > 1 else np.array([room / 2])
    found: list[int] = starts.round().astype(int).tolist()
    return found
