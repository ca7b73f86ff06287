"""Search the frames of videos by text, image or character: from scores to moments, or to "nothing found"."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from naruto_vision.encoders.base import Encoder, embed_images
from naruto_vision.encoders.opening import recorded_encoder
from naruto_vision.errors import REINDEX, FingerprintError, InputError
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.gallery.vector_store import Collection, Hit, VectorStore
from naruto_vision.io.images import ImageSource
from naruto_vision.io.text import abbreviate, quantity
from naruto_vision.io.video import MAX_SECONDS
from naruto_vision.records import Vectors

ThresholdRule: TypeAlias = float | Literal["auto", "auto90"]
"""Least cosine of a frame: a number, or how it is found.

- ``auto`` is calibrated on the store: what the best scores of texts of other things (``UNRELATED``) stay below, or, for
  images and characters, those of frames among the frames of other videos.
- ``auto90`` is 90 % of the best score in all collections, as in the reference system, which always finds something.
"""

UNRELATED: tuple[str, ...] = (
    "a bowl of soup", "a plate of fruit on a table", "a cup of coffee", "a loaf of bread",
    "a birthday cake with candles",
    "a red car in the street", "a train at a station", "an aeroplane above the clouds", "a ship at sea",
    "a bicycle against a fence", "a motorcycle race", "a tractor in a field", "a rocket on its launch pad",
    "a dog on a beach", "a horse in a meadow", "two birds on a branch", "a fish under water", "a herd of elephants",
    "a spider in its web", "a mountain in the snow", "a waterfall in a forest", "a desert with dunes",
    "an empty road at sunset", "a city at night from above", "the night sky with stars", "a lake in autumn",
    "a stormy sea", "a cave with stalactites", "a volcano erupting", "a football match", "a swimming pool",
    "a chess board", "a computer screen with text", "a keyboard and a mouse", "a page of a newspaper",
    "a map of a country", "a diagram with arrows", "a clock on a wall", "a pair of scissors", "a hammer and nails",
    "a piano in a concert hall", "a bookshelf", "an empty classroom", "an office with desks", "a hospital corridor",
    "a kitchen with a stove", "a bathroom with a mirror", "a staircase", "a castle on a hill", "a bridge over a river",
    "a windmill", "a lighthouse", "a factory with chimneys", "a church interior", "a shop window",
    "a market with vegetables", "a bouquet of flowers", "a cactus in a pot",
)  # fmt: skip
"""Texts of things of which few are in any one store; their best scores show what chance reaches there."""

SAME = 0.98
"""Least cosine of frames that look the same."""

_SPREAD = 1.4826  # median deviations to standard deviations of a normal distribution
_TEXTS = 2.5  # standard deviations above the median of the best scores of unrelated texts
_IMAGES, _CLASSES = 2.0, 0.75  # above that of frames elsewhere; the mean of a class is less near to single frames
_NEAREST = 5  # frames of a video that are shown whatever their score
_FIRST = 1024  # entries of a collection that are asked for at first
_VIDEOS, _FRAMES = 16, 64  # videos, and entries of each, that stand for all
_APART = 10.0  # seconds between frames that are of other things


@dataclass(frozen=True)
class FrameHit:
    """A frame that a query found; it represents the part of the video from ``start`` to ``end``, in seconds."""

    video: str  # name of the collection
    source: str  # path of the video file, as it was indexed
    frame: int  # its number, from 0
    time: float  # seconds from the start of the video
    shot: int  # its number, from 0; -1 where shots were not looked for
    start: float
    end: float
    score: float  # cosine with the query
    id: str  # of the entry in the store

    @classmethod
    def from_entry(cls, video: str, hit: Hit) -> "FrameHit":
        """Read what the index has stored with an entry; InputError for an entry that it did not write."""
        try:
            facts: Mapping[str, Any] = hit.metadata
            numbers = [float(facts[name]) for name in ("time", "start", "end")]
            frame, shot, source = int(facts["frame"]), int(facts["shot"]), str(facts["video"])
            if not (0 <= frame < 2**31 and all(0 <= number <= MAX_SECONDS for number in numbers)) or "\0" in source:
                raise ValueError  # noqa: TRY301 - one message for whatever is wrong
        except (LookupError, TypeError, ValueError, OverflowError):
            msg = f"collection {video!r}: its entries are not of `naruto-vision video index`; index the video again"
            raise InputError(msg) from None
        return cls(video, source, frame, numbers[0], shot, numbers[1], numbers[2], hit.score, hit.id)

    def as_json(self) -> dict[str, Any]:
        """Return the JSON values."""
        times = {"time": round(self.time, 3), "start": round(self.start, 3), "end": round(self.end, 3)}
        return {"video": self.video, "frame": self.frame, "shot": self.shot, **times, "score": self.score}


@dataclass(frozen=True)
class Moment:
    """An interval of one video, joined of neighbouring frames, at least one, by time."""

    frames: tuple[FrameHit, ...]

    @property
    def best(self) -> FrameHit:
        """The frame with the highest score; of equal ones the first."""
        return max(self.frames, key=lambda hit: hit.score)

    @property
    def start(self) -> float:
        """Seconds."""
        return self.frames[0].start

    @property
    def end(self) -> float:
        """Seconds."""
        return max(hit.end for hit in self.frames)

    def as_json(self) -> dict[str, Any]:
        """Return the JSON values."""
        times = {"start": round(self.start, 3), "end": round(self.end, 3), "frames": len(self.frames)}
        return {"video": self.best.video, **times, "score": self.best.score, "best": self.best.as_json()}


@dataclass(frozen=True)
class FoundMoments:
    """What a query found."""

    query: str  # in words, which name it in outputs
    threshold: float  # least cosine of a frame
    rule: str  # where the threshold comes from, in words
    frames: tuple[FrameHit, ...]  # all with at least that score, best first
    moments: tuple[Moment, ...]  # what they are joined to, best first
    nearest: tuple[FrameHit, ...]  # the best five frames of each video, whatever their score, best first
    searched: Mapping[str, int]  # number of entries of each collection

    def by_video(self) -> dict[str, tuple[FrameHit, ...]]:
        """Return the frames of each video, best first; the videos by their best frame."""
        found: dict[str, list[FrameHit]] = defaultdict(list)
        for hit in self.frames:
            found[hit.video].append(hit)
        return {video: tuple(hits) for video, hits in found.items()}

    def sentence(self) -> str:
        """Describe the result in one line."""
        where = f"{quantity(sum(self.searched.values()), 'entry')} of {quantity(len(self.searched), 'video')}"
        limit = f"threshold {self.threshold:.3f} ({self.rule})"
        if not self.frames:
            best = f"; the best score is {self.nearest[0].score:.3f}" if self.nearest else ""
            return f"nothing found in {where}: {limit}{best}"
        frames = f"{quantity(len(self.frames), 'frame')} of {quantity(len(self.by_video()), 'video')}"
        return f"{quantity(len(self.moments), 'moment')}, {frames}, in {where}: {limit}"

    def as_json(self) -> dict[str, Any]:
        """Return the JSON values."""
        threshold = {"score": self.threshold, "rule": self.rule}
        lists = {name: [hit.as_json() for hit in getattr(self, name)] for name in ("moments", "frames", "nearest")}
        return {"query": self.query, "found": bool(self.frames), "threshold": threshold, **lists}


def fuse_queries(texts: Vectors, images: Vectors, text_weight: float = 0.5) -> Vectors:
    """Join texts (T, D) and images (I, D), unit rows of which one kind may be missing, to one query (1, D), a unit row.

    The means of both are weighted with ``text_weight`` and the rest. InputError if there is no vector, or they cancel
    out.

    Examples:
        >>> fuse_queries(np.array([[1, 0]], np.float32), np.array([[0, 1]], np.float32)).round(2).tolist()
        [[0.7099999785423279, 0.7099999785423279]]
    """
    weights = (text_weight, 1 - text_weight) if len(texts) and len(images) else (1.0, 1.0)
    parts = [weight * rows.mean(axis=0) for weight, rows in zip(weights, (texts, images), strict=True) if len(rows)]
    if not parts:
        raise InputError("video search: no query; give a text, an image or a character")
    joined = np.sum(parts, axis=0)
    length = float(np.linalg.norm(joined))
    if length < 1e-6:
        raise InputError("video search: the queries cancel each other out; give fewer of them, or another weight")
    query: Vectors = (joined / length).astype(np.float32)[None]
    return query


def character_query(gallery: Gallery, label: str) -> Vectors:
    """Return the mean of a class of a gallery as a query (1, D), a unit row; InputError if there is no such label."""
    own = [number for number, row in enumerate(gallery.rows) if row.label == label]
    if not own:
        known = abbreviate(gallery.labels, 8)
        raise InputError(f"{gallery.folder or 'gallery'}: no character {label!r}; there are: {known}")
    return fuse_queries(gallery.vectors[:0], gallery.vectors[own])


def store_encoder(store: VectorStore, model: str = "", pretrained: str | None = None) -> Encoder:
    """Open the encoder that a store was indexed with; InputError if it has no videos."""
    names = store.collections()
    if not names:
        raise InputError(f"{store.uri}: has no videos; index some with `naruto-vision video index`")
    return collection_encoder(store.open(names[0]).note, store.uri, model, pretrained)


def collection_encoder(note: Mapping[str, Any], where: str, model: str = "", pretrained: str | None = None) -> Encoder:
    """Open the encoder that the note of a collection records, or check that ``model`` is it."""
    made_by = note.get("encoder"), str(note.get("fingerprint"))
    return recorded_encoder(where, *made_by, model, pretrained, options="--encoder", again=REINDEX)


def search_videos(
    store: VectorStore,
    *,
    texts: Sequence[str] = (),
    images: Sequence[ImageSource] = (),
    character: tuple[Gallery, str] | None = None,
    videos: Sequence[str] = (),
    encoder: Encoder | None = None,
    text_weight: float = 0.5,
    **options: Any,
) -> "FoundMoments":
    """Search the videos of a store by texts, images, a character of a gallery, or these together.

    Args:
        store: What ``index_videos`` filled.
        texts: Query texts; their vectors are averaged.
        images: Query images, as ``read_image`` takes them: files, or arrays of shape (H, W, 3), uint8, RGB.
        character: A gallery of the store's encoder, and one of its labels; the mean of the class counts as an image.
        videos: Names of collections; none are all.
        encoder: That of the store; None opens what the store has recorded.
        text_weight: Weight of the texts where there are images too, in [0, 1].
        options: Further arguments of ``search_moments``: threshold, top_k, per_video, join, same.

    Returns:
        The frames and moments that reach the threshold, which may be none.

    Raises:
        InputError: If there is no query or no video, or the encoder reads no texts.
        FingerprintError: If the gallery or the store is of another encoder.

    Examples:
        >>> import naruto_vision as nv
        >>> with nv.open_store("runs/videos") as store:  # doctest: +SKIP
        ...     found = nv.search_videos(store, texts=["a girl with pink hair"])
        >>> found.moments[0].start, found.moments[0].end  # doctest: +SKIP
        (61.2, 64.8)
    """
    encoder = store_encoder(store) if encoder is None else encoder
    collections = [store.open(name) for name in dict.fromkeys(videos) or store.collections()]
    asked: dict[str, Any] = {"texts": texts, "images": images, "character": character, "text_weight": text_weight}
    return search_collections(collections, encoder, **asked, **options)


def search_collections(
    collections: Sequence[Collection],
    encoder: Encoder,
    *,
    texts: Sequence[str] = (),
    images: Sequence[ImageSource] = (),
    character: tuple[Gallery, str] | None = None,
    text_weight: float = 0.5,
    **options: Any,
) -> "FoundMoments":
    """Search collections, which may be of several stores, as ``search_videos`` does; all are of one encoder."""
    shown = embed_images(encoder, images).numpy()
    names = [*texts, *(Path(image).name if isinstance(image, (str, Path)) else "an image" for image in images)]
    if character is not None:
        gallery, label = character
        if gallery.fingerprint != encoder.fingerprint:
            place = gallery.folder or "gallery"
            raise FingerprintError(place, gallery.fingerprint, encoder.fingerprint, again=REINDEX)
        shown = np.concatenate([shown, character_query(gallery, label)])
        names.append(label)
    written, unrelated = shown[:0], None
    if texts:
        with torch.inference_mode():
            vectors = encoder.encode_texts([*texts, *UNRELATED]).float().cpu().numpy()
        written, others = vectors[: len(texts)], vectors[len(texts) :]
        unrelated = np.concatenate([fuse_queries(other[None], shown, text_weight) for other in others])
    query = fuse_queries(written, shown, text_weight)
    of_class = len(names) == 1 and character is not None
    return search_moments(collections, query, " + ".join(names), unrelated=unrelated, of_class=of_class, **options)


def search_moments(
    collections: Sequence[Collection],
    query: Vectors,
    name: str,
    *,
    threshold: ThresholdRule = "auto",
    unrelated: Vectors | None = None,
    of_class: bool = False,
    top_k: int = 50,
    per_video: int | None = None,
    join: float | None = None,
    same: float = SAME,
) -> FoundMoments:
    """Search collections with one query.

    Args:
        collections: What ``index_videos`` wrote, one collection a video.
        query: Shape (1, D), float32, a unit row.
        name: The query in words.
        threshold: Least cosine of a frame, or how it is found.
        unrelated: Shape (U, D), float32, unit rows: the texts ``UNRELATED``, for ``auto`` with a text; None for others.
        of_class: Whether the query is the mean of a class, as ``character_query`` gives it, for ``auto``.
        top_k: Maximum number of moments.
        per_video: Maximum number of moments of one video; None does not limit them.
        join: Seconds between frames that are one moment; None joins those of one shot (see ``join_frames``).
        same: Of moments whose best frames have at least this cosine with each other, the best one is kept; above 1
            keeps all.

    Returns:
        The frames and moments that reach the threshold, which may be none.

    Raises:
        InputError: If there is no collection, or the query is not of its encoder.
    """
    if not collections:
        raise InputError("video search: no videos to search; index some with `naruto-vision video index`")
    nearest = sorted((hit for each in collections for hit in _best_frames(each, query)), key=_order)
    value, rule = find_threshold(collections, threshold, unrelated, nearest, of_class=of_class)
    frames = sorted((hit for each in collections for hit in _frames_above(each, query, value)), key=_order)
    moments = sorted(join_frames(frames, join), key=lambda moment: _order(moment.best))
    moments = _select(moments, collections, same, top_k, per_video)
    searched = {each.name: len(each) for each in collections}
    return FoundMoments(name, value, rule, tuple(frames), tuple(moments), tuple(nearest), searched)


def _order(hit: FrameHit) -> tuple[float, str, int]:
    return -hit.score, hit.video, hit.frame


def _best_frames(collection: Collection, query: Vectors) -> list[FrameHit]:
    """Return the best frames of a collection, each once, as a frame may have several entries."""
    (hits,) = collection.search(query, min(len(collection), _FIRST))
    return _frames(collection.name, hits)[:_NEAREST]


def _frames_above(collection: Collection, query: Vectors, threshold: float) -> list[FrameHit]:
    """Return all frames that reach a score; asks for more entries as long as the last one does."""
    count = _FIRST
    while True:
        (hits,) = collection.search(query, min(len(collection), count))
        if count >= len(collection) or hits[-1].score < threshold:
            return _frames(collection.name, [hit for hit in hits if hit.score >= threshold])
        count *= 4


def _frames(video: str, hits: Sequence[Hit]) -> list[FrameHit]:
    found: dict[int, FrameHit] = {}
    for hit in hits:  # best first
        frame = FrameHit.from_entry(video, hit)
        found.setdefault(frame.frame, frame)
    return list(found.values())


def find_threshold(
    collections: Sequence[Collection],
    rule: ThresholdRule,
    unrelated: Vectors | None,
    nearest: Sequence[FrameHit],
    *,
    of_class: bool = False,
) -> tuple[float, str]:
    """Return the least score of a frame, and where it comes from, in words.

    ``nearest`` are the best frames, best first; the other arguments are those of ``search_moments``.
    """
    best = nearest[0].score if nearest else 0.0
    match rule:
        case "auto" if unrelated is not None and len(unrelated):
            return _text_threshold(collections, unrelated), f"what {len(unrelated)} unrelated texts stay below here"
        case "auto" if (limit := _image_threshold(collections, _CLASSES if of_class else _IMAGES)) is not None:
            return limit, "what frames of other videos or shots stay below here"
        case "auto" | "auto90":
            return best - 0.1 * abs(best), "90 % of the best score"  # below the best score where that is negative, too
        case _:
            return float(rule), "as given"


def _text_threshold(collections: Sequence[Collection], unrelated: Vectors) -> float:
    """Return what the best scores of unrelated texts stay below."""
    best = np.full(len(unrelated), -1.0)
    for collection in collections:
        found = [hits[0].score if hits else -1.0 for hits in collection.search(unrelated, 1)]
        best = np.maximum(best, found)
    return min(_above(best, _TEXTS), 1.0)


def _image_threshold(collections: Sequence[Collection], deviations: float) -> float | None:
    """Return what the best scores of frames elsewhere stay below: in other videos or, of a single one, other shots.

    Frames that look the same are above it. None if there is nothing else.
    """
    best: list[float] = []
    for collection in collections[:: -(-len(collections) // _VIDEOS)]:
        _, rows, facts = collection.read()
        chosen = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), _FRAMES)).astype(np.int64)).tolist()
        queries, found = rows[chosen], np.full(len(chosen), -1.0)
        others = [each for each in collections if each is not collection]
        for other in others:
            scores = [hits[0].score if hits else -1.0 for hits in other.search(queries, 1)]
            if chosen and np.median(scores) < SAME:  # otherwise it is the same video again
                found = np.maximum(found, scores)
        if chosen and found.max() == -1:
            shots, times = (np.array([float(fact[name]) for fact in facts]) for name in ("shot", "time"))
            apart = (shots[chosen, None] != shots) | (np.abs(times[chosen, None] - times) > _APART)
            found = np.where(apart, queries @ rows.T, -1.0).max(axis=1)
        best += found[found > -1].tolist()
    return min(_above(np.asarray(best), deviations), SAME) if best else None


def _above(scores: NDArray[np.float64], deviations: float) -> float:
    """Return the median and some standard deviations; robust, as some of these queries may be of what is there."""
    middle = float(np.median(scores))
    return middle + deviations * _SPREAD * float(np.median(np.abs(scores - middle)))


def join_frames(frames: Iterable[FrameHit], gap: float | None = None) -> list[Moment]:
    """Join neighbouring frames of one video to moments, by video and time.

    ``gap`` are the seconds that they may be apart. None: frames of one shot are joined; where shots were not looked
    for, those that are at most a second apart.
    """
    moments: list[list[FrameHit]] = []
    for hit in sorted(frames, key=lambda hit: (hit.video, hit.start, hit.frame)):
        last = moments[-1][-1] if moments else None
        if last is not None and last.video == hit.video and _belong(last, hit, gap):
            moments[-1].append(hit)
        else:
            moments.append([hit])
    return [Moment(tuple(hits)) for hits in moments]


def _belong(last: FrameHit, hit: FrameHit, gap: float | None) -> bool:
    if gap is None and (last.shot != hit.shot or hit.shot >= 0):
        return last.shot == hit.shot
    return hit.start - last.end <= (1.0 if gap is None else gap)


def _select(
    moments: Sequence[Moment], collections: Sequence[Collection], same: float, top_k: int, per_video: int | None
) -> list[Moment]:
    """Keep the best moments, without those whose best frame looks like that of a better one."""
    vectors = _vectors_of(moments, collections) if same <= 1 else {}
    counts: Counter[str] = Counter()
    kept: list[Moment] = []
    rows: list[NDArray[np.float32]] = []
    for moment in moments:
        key = moment.best.video, moment.best.id
        if per_video is not None and counts[moment.best.video] >= per_video:
            continue
        if rows and float(np.max(np.stack(rows) @ vectors[key])) >= same:
            continue
        rows += [vectors[key]] if vectors else []
        counts[moment.best.video] += 1
        kept.append(moment)
        if len(kept) == top_k:
            break
    return kept


def _vectors_of(
    moments: Sequence[Moment], collections: Sequence[Collection]
) -> dict[tuple[str, str], NDArray[np.float32]]:
    """Read the vectors of the best frames, all of a video at once."""
    wanted: dict[str, list[str]] = defaultdict(list)
    for moment in moments:
        wanted[moment.best.video].append(moment.best.id)
    vectors: dict[tuple[str, str], NDArray[np.float32]] = {}
    for collection in collections:
        if ids := wanted.get(collection.name):
            names, rows, _ = collection.read(ids)
            vectors |= {(collection.name, name): row for name, row in zip(names, rows, strict=True)}
    return vectors
