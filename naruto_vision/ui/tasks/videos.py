"""Index videos, find moments in them, and show or cut the moments."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from naruto_vision.encoders.base import Encoder
from naruto_vision.encoders.ensemble import ClipEnsemble
from naruto_vision.errors import BadVideoError, InputError, MissingPathError
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.gallery.vector_store import Collection, open_store
from naruto_vision.io.images import shrink, write_image
from naruto_vision.io.video import VideoInfo
from naruto_vision.io.video_process import IsolatedVideoReader, cut_video
from naruto_vision.ui.engine import Watch
from naruto_vision.ui.models import Models
from naruto_vision.video.index import IndexReport, index_videos
from naruto_vision.video.outputs import note_query, write_moments
from naruto_vision.video.search import FoundMoments, collection_encoder, search_collections

UPLOADS = "uploads/"
"""Prefix of the names of a session's own videos, which distinguishes them from those of the server's store."""

_STALL = 30.0  # seconds
_THUMBNAIL = 320
_LONGEST = 120.0  # seconds of a clip
_CODECS = {"h264", "vp8", "vp9", "av1", "libvpx", "libvpx-vp9", "libdav1d"}
_SUFFIXES = {".mp4", ".webm"}  # what all browsers play


def check(models: Models, *, path: str) -> dict[str, Any]:  # noqa: ARG001 - every task takes the models
    """Open a video, in a process that is ended if its decoder stalls; returns its frames, width and height."""
    reader = IsolatedVideoReader(path, stall=_STALL)
    reader.close()
    return {"frames": reader.info.frames, "width": reader.info.width, "height": reader.info.height}


def banks(models: Models, *, own: str) -> list[dict[str, Any]]:
    """List the indexed videos of the server's store and of the session's own one (a URI): name and entries."""
    with _collections(models, own) as found:
        return [{"name": name, "entries": len(bank)} for name, bank in found.items()]


@contextmanager
def _collections(models: Models, own: str) -> Iterator[dict[str, Collection]]:
    """Open all collections of both stores, by the names that users see."""
    found: dict[str, Collection] = {}
    with ExitStack() as stack:
        for uri, prefix in ((models.store, ""), (own, UPLOADS)):
            try:
                store = stack.enter_context(closing(open_store(uri, existing=True)))
            except MissingPathError:
                continue
            for name in store.collections():
                bank = store.open(name)
                bank.name = prefix + name
                found[bank.name] = bank
        yield found


def _encoder(models: Models, collections: Sequence[Collection]) -> Encoder:
    """Open the encoder of collections, or the default one if there are none; InputError if they have several."""
    marks = {str(each.note.get("fingerprint")): each for each in collections}
    if len(marks) > 1:
        one, other = list(marks.values())[:2]
        raise InputError(f"videos: {one.name} and {other.name} are indexed with different encoders; choose one of them")
    if not marks:
        default: Encoder = models.kept.get_or(("videos", ""), lambda: ClipEnsemble().eval())
        return models.kept.get_or(("videos", default.fingerprint), lambda: default)  # type: ignore[no-any-return]  # made here
    ((mark, bank),) = marks.items()
    return models.kept.get_or(("videos", mark), lambda: collection_encoder(bank.note, bank.name))  # type: ignore[no-any-return]  # made here


def index(
    models: Models, step: Watch, *, uploaded: Sequence[str], others: Sequence[str], frames: int, own: str, out: str
) -> dict[str, Any]:  # fmt: skip
    """Index videos: the uploaded ones into the session's own store (a URI), others into the server's store.

    ``step`` gets how many of all ``frames`` were passed. Returns the entries of each video by the name that users see,
    which were there before, and what could not be read.
    """
    del out
    with _collections(models, own) as found:
        encoder = _encoder(models, list(found.values())[:1])
    passed: dict[str, int] = {}

    def watch(name: str, done: int, _total: int) -> None:
        passed[name] = done
        step(min(frames, sum(passed.values())), frames, None)

    done: dict[str, Any] = {"videos": {}, "skipped": [], "lost": {}}
    for uri, prefix, paths in ((own, UPLOADS, uploaded), (models.store, "", others)):
        if paths:
            with closing(open_store(uri)) as store:
                _add(done, prefix, index_videos(list(paths), store, encoder, watch=watch))
    return done


def _add(done: dict[str, Any], prefix: str, report: IndexReport) -> None:
    done["videos"] |= {prefix + name: count for name, count in report.videos.items()}
    done["skipped"] += [prefix + name for name in report.skipped]
    done["lost"] |= {prefix + name: what for name, what in report.lost.items()}
    done["lost"] |= {Path(row.path).name: row.reason for row in report.quarantine.rows}


def search(
    models: Models,
    *,
    own: str,
    text: str = "",
    path: str = "",
    character: str = "",
    gallery: str = "",
    videos: Sequence[str] = (),
    top_k: int = 20,
    history: str = "",
) -> dict[str, Any]:
    """Find moments in the indexed videos, named as ``banks`` does, as ``naruto-vision video search`` does.

    ``path`` is an image, ``gallery`` the folder of the gallery that has the character, ``history`` a file in which the
    query is noted. Returns the JSON values of ``FoundMoments``, and its sentence.
    """
    with _collections(models, own) as found:
        moments = _find(models, found, text, path, character, gallery, videos, top_k)
    if history:
        asked = {"text": [text] * bool(text), "image": [Path(path).name] * bool(path), "character": character or None}
        note_query(history, moments, asked, store=models.store, videos=videos)
    return moments.as_json() | {"sentence": moments.sentence()}


def _find(
    models: Models,
    found: Mapping[str, Collection],
    text: str,
    path: str,
    character: str,
    gallery: str,
    videos: Sequence[str],
    top_k: int,
) -> FoundMoments:
    if not found:
        raise InputError("videos: none are indexed yet; upload one, or run `naruto-vision video index VIDEO`")
    if missing := next((name for name in videos if name not in found), ""):
        raise InputError(f"videos: there is no {missing!r}; there are: {', '.join(list(found)[:5])}")
    chosen = [found[name] for name in dict.fromkeys(videos) or found]
    return search_collections(
        chosen,
        _encoder(models, chosen),
        texts=[text] if text.strip() else [],
        images=[path] if path else [],
        character=(Gallery.open(Path(gallery)), character) if character else None,
        top_k=top_k,
    )


def thumbnails(models: Models, step: Watch, *, own: str, frames: Mapping[str, Sequence[int]], out: str) -> None:
    """Write thumbnails of frames, given by their numbers for each video.

    ``step`` gets for each video, after its frames, its length in seconds, whether browsers play it, its path, and the
    file of each frame; or ``error`` if it can no longer be read.
    """
    with _collections(models, own) as found:
        sources = {name: str(found[name].note.get("source")) for name in frames if name in found}
    for number, (video, source) in enumerate(sources.items(), start=1):
        news: dict[str, Any] = {"video": video}
        try:
            reader = IsolatedVideoReader(source, stall=_STALL)
            reader.pick(np.array(sorted(frames[video]), np.int64))
            files = {}
            for frame in reader:
                files[frame.index] = f"{number}_{frame.index}.jpg"
                write_image(Path(out) / files[frame.index], shrink(frame.image, _THUMBNAIL))
                step(number - 1, len(sources), None)
        except (BadVideoError, MissingPathError):
            news["error"] = f"{video}: is no longer where it was indexed, or cannot be read; index it again"
        else:
            news |= {"seconds": reader.info.duration, "plays": _plays(reader.info), "path": source, "files": files}
        step(number, len(sources), news)


def _plays(info: VideoInfo) -> bool:
    """Whether browsers play a video as it is."""
    return Path(info.path).suffix.lower() in _SUFFIXES and info.codec in _CODECS


def clip(models: Models, step: Watch, *, own: str, video: str, start: float, end: float, out: str) -> str:
    """Cut at most two minutes out of a video, encoded so that browsers play it; returns the path of the file."""
    step(0, 1, None)
    with _collections(models, own) as found:
        if video not in found:
            raise InputError(f"videos: there is no {video!r}")
        source = str(found[video].note.get("source"))
    path = cut_video(source, start, min(end, start + _LONGEST), Path(out) / "clip", exact=True)
    step(1, 1, None)
    return str(path)


def export(models: Models, step: Watch, *, own: str, out: str, **query: Any) -> str:
    """Write the files of a search, of arguments as in ``search``, with clips; returns the folder of the files."""
    step(0, 2, None)
    with _collections(models, own) as found:
        moments = _find(models, found, **query)
    step(1, 2, None)
    folder = write_moments(moments, out, clips=True)
    step(2, 2, None)
    return str(folder)
