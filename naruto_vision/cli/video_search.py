"""``naruto-vision video index``, ``search``, ``list``, ``delete``, ``copy``, ``cut``, ``history``: find moments."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias, TypedDict

from msgspec import Meta

from naruto_vision.cli.console import (
    add_json_option,
    cosine,
    count,
    count_progress,
    fraction,
    make_table,
    progress,
    show,
    show_json,
    warn,
    warn_left_out,
    whole_number,
)
from naruto_vision.cli.gallery import add_encoder_options
from naruto_vision.cli.trainer_args import GALLERY, check_gallery, gallery_place
from naruto_vision.cli.video import frame_rate, seconds
from naruto_vision.errors import InputError
from naruto_vision.io.text import quantity, time_code

if TYPE_CHECKING:
    from rich.table import Table

    from naruto_vision.encoders.base import Encoder
    from naruto_vision.gallery.vector_store import VectorStore
    from naruto_vision.video.search import FoundMoments, ThresholdRule

_Score: TypeAlias = Annotated[float, Meta(ge=-2, le=2)]  # no NaN


class _Asked(TypedDict):
    """A line of the history."""

    time: str
    query: str
    text: list[str]
    image: list[str]
    character: str | None
    store: str
    video: list[str]
    threshold: _Score
    rule: str
    moments: int
    best: _Score | None
    out: str | None


STORE, OUT, HISTORY = "runs/videos", "runs/moments", "runs/video_history.jsonl"


def _threshold(text: str) -> "ThresholdRule":
    """Read a threshold, for argparse's ``type``."""
    if text == "auto":
        return "auto"
    if text == "auto90":
        return "auto90"
    try:
        return cosine(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"expected auto, auto90 or a number from -1 to 1, found {text!r}") from None


def _store_option(parser: argparse.ArgumentParser) -> None:
    text = (
        "vector store: a folder, faiss:DIR, chroma:DIR, chroma+http://HOST:PORT, milvus:FILE or milvus+http://HOST:PORT"
    )
    parser.add_argument("--store", default=STORE, metavar="URI", help=text)


def _index_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("videos", nargs="+", metavar="VIDEO", help="videos, or folders of them")
    _store_option(parser)
    add("--fps", type=frame_rate, metavar="N", help="frames per second (default: the key frames of every shot)")
    add("--key-frames", type=count, default=3, metavar="N", help="key frames of a long shot, at most 3")
    add("--windows", type=whole_number, default=3, metavar="N", help="pairs of windows that are indexed with a frame")
    add("--batch-size", type=count, default=32, metavar="N", help="images of one forward pass")
    add_encoder_options(parser, without="that of the packaged configs, or the one of the store")
    add_json_option(parser)


def index(arguments: argparse.Namespace) -> int:
    """Index videos, and print what was indexed."""
    from naruto_vision.gallery.vector_store import open_store
    from naruto_vision.video.index import FrameSampling, index_videos

    sampling = FrameSampling(arguments.fps, arguments.key_frames, arguments.windows)
    with open_store(arguments.store) as store, count_progress() as watch:
        encoder = _index_encoder(arguments, store)
        report = index_videos(
            arguments.videos, store, encoder, sampling=sampling, batch_size=arguments.batch_size, watch=watch
        )
    warn_left_out(report.quarantine)
    for name, lost in report.lost.items():
        warn(f"{name}: {lost}")
    if arguments.json:
        show_json({"store": arguments.store, "encoder": encoder.short_name, **report.as_json()})
        return 0
    new = [name for name in report.videos if name not in report.skipped]
    entries = sum(report.videos[name] for name in new)
    skipped = f", {len(report.skipped)} were there before" * bool(report.skipped)
    refused = f", {report.quarantine.quarantined} left out" * bool(report.quarantine.quarantined)
    show(f"{quantity(len(new), 'video')} indexed in {arguments.store}: {quantity(entries, 'entry')}{skipped}{refused}")
    show(f'search them: naruto-vision video search --text "..." --store {arguments.store}')
    return 0


def _index_encoder(arguments: argparse.Namespace, store: "VectorStore") -> "Encoder":
    """Open the encoder that is named, that of the store, or the default one."""
    from naruto_vision.encoders.opening import open_encoder
    from naruto_vision.video.search import store_encoder

    if arguments.encoder:
        return open_encoder(arguments.encoder, arguments.weights)
    if store.collections():
        return store_encoder(store)
    from naruto_vision.encoders.ensemble import ClipEnsemble

    return ClipEnsemble().eval()


def _search_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--text", nargs="+", default=[], metavar="TEXT", help="query texts")
    add("--image", nargs="+", default=[], metavar="FILE", help="query images; joined with texts, if there are any")
    add("--character", metavar="NAME", help="a character of --gallery as the query")
    add("--gallery", type=gallery_place, default=GALLERY, metavar="DIR", help="gallery of --character")
    add("--text-weight", type=fraction, default=0.5, metavar="W", help="weight of texts where there are images too")
    _store_option(parser)
    add("--video", nargs="+", default=[], metavar="NAME", help="videos, as `video list` names them (default: all)")
    text = "minimum cosine of a frame; auto: above those of unrelated texts or frames; auto90: 90 %% of the best score"
    add("--threshold", type=_threshold, default="auto", metavar="X", help=text)
    add("--top-k", type=count, default=50, metavar="K", help="maximum number of moments")
    add("--per-video", type=count, metavar="K", help="maximum number of moments of one video (default: no limit)")
    add("--join", type=seconds, metavar="SECONDS", help="join moments that are less apart (default: those of one shot)")
    add("--keep-similar", action="store_true", help="keep moments that look the same as a better one")
    add("--out", type=Path, metavar="DIR", help="write frames, tables, a page and lists for editors")
    add("--clips", action="store_true", help=f"also cut each moment and join them to a video (--out: {OUT})")
    add("--exact", action="store_true", help="encode clips again: they start at their first frame, without sound")
    add("--history", default=HISTORY, metavar="FILE", help="file that queries are noted in; '' notes none")
    add_encoder_options(parser, without="the one of the store")
    add_json_option(parser)


def search(arguments: argparse.Namespace) -> int:
    """Search, print the moments, and write their files."""
    if not (any(text.strip() for text in arguments.text) or arguments.image or arguments.character):
        raise InputError("video search: no query; give --text TEXT, --image FILE or --character NAME")
    from naruto_vision.gallery.vector_store import open_store
    from naruto_vision.video.outputs import note_query, write_moments

    with open_store(arguments.store, existing=True) as store:
        found = _search(arguments, store)
    out = arguments.out or (Path(OUT) if arguments.clips or arguments.exact else None)
    folder = None
    if out is not None:
        folder = write_moments(found, out, clips=arguments.clips or arguments.exact, exact=arguments.exact)
    if arguments.history:
        asked = {"text": arguments.text, "image": arguments.image, "character": arguments.character}
        note_query(arguments.history, found, asked, store=arguments.store, videos=arguments.video, out=folder)
    if arguments.json:
        show_json({"store": arguments.store, **found.as_json(), "out": None if folder is None else str(folder)})
        return 0
    if found.moments:
        show(_moment_table(found))
    show(found.sentence())
    if not found.frames and arguments.threshold != "auto90":
        show("show the nearest frames all the same: --threshold auto90, or a number")
    if folder is not None:
        show(f"the files are in {folder}; open {folder / 'index.html'}")
    return 0


def _search(arguments: argparse.Namespace, store: "VectorStore") -> "FoundMoments":
    from naruto_vision.gallery.gallery import Gallery
    from naruto_vision.video.search import SAME, search_videos, store_encoder

    encoder = store_encoder(store, arguments.encoder, arguments.weights)
    character = None
    if arguments.character:
        check_gallery(arguments.gallery)
        character = Gallery.open(arguments.gallery), arguments.character
    return search_videos(
        store,
        texts=arguments.text,
        images=arguments.image,
        character=character,
        videos=arguments.video,
        encoder=encoder,
        text_weight=arguments.text_weight,
        threshold=arguments.threshold,
        top_k=arguments.top_k,
        per_video=arguments.per_video,
        join=arguments.join,
        same=2.0 if arguments.keep_similar else SAME,
    )


def _moment_table(found: "FoundMoments") -> "Table":
    rows = [
        (each.best.video, time_code(each.start), time_code(each.end), each.best.frame, f"{each.best.score:.3f}")
        for each in found.moments
    ]
    return make_table(("video", "from", "to", "best frame", "score"), rows, f'"{found.query}"')


def _history_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--history", type=Path, default=Path(HISTORY), metavar="FILE", help="file of the history")
    parser.add_argument("-n", type=count, default=20, metavar="N", help="number of queries, the last ones")
    add_json_option(parser)


def history(arguments: argparse.Namespace) -> int:
    """Print the last queries."""
    from naruto_vision.io.typed_json import read_json_lines

    lines = list(read_json_lines(arguments.history, _Asked))[-arguments.n :]
    if arguments.json:
        show_json(lines)
        return 0
    rows = [
        (line["query"], line["time"][:16], line["moments"], f"{line['threshold']:.3f}", line["out"] or "")
        for line in lines
    ]
    show(make_table(("query", "time", "moments", "threshold", "files"), rows) if rows else "no queries yet")
    return 0


def _list_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("video", nargs="?", metavar="NAME", help="list the entries of this video")
    _store_option(parser)
    add_json_option(parser)


def list_videos(arguments: argparse.Namespace) -> int:
    """Print the videos of a store, or the entries of one."""
    from naruto_vision.gallery.vector_store import open_store

    with open_store(arguments.store, existing=True) as store:
        if arguments.video:
            ids, _, facts = store.open(arguments.video).read()
            columns = ["id", "frame", "time", "shot", "start", "end"]
            rows = [{"id": id_, **fact} for id_, fact in zip(ids, facts, strict=True)]
        else:
            columns = ["video", "entries", "source"]
            opened = [store.open(name) for name in store.collections()]
            rows = [{"video": one.name, "entries": len(one), "source": one.note.get("source", "")} for one in opened]
    if arguments.json:
        show_json(rows)
        return 0
    show(make_table(columns, [[_cell(row.get(name, "")) for name in columns] for row in rows]) if rows else "no videos")
    return 0


def _cell(value: object) -> object:
    return f"{value:.3f}" if isinstance(value, float) else value


def _delete_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("videos", nargs="*", metavar="NAME", help="videos, as `video list` names them")
    parser.add_argument("--all", action="store_true", help="delete every video of the store")
    _store_option(parser)


def delete(arguments: argparse.Namespace) -> int:
    """Delete videos from a store; the video files stay."""
    from naruto_vision.gallery.vector_store import open_store

    if bool(arguments.videos) == arguments.all:
        raise InputError("video delete: give the names of videos, or --all")
    with open_store(arguments.store, existing=True) as store:
        names = list(dict.fromkeys(arguments.videos))
        for name in names:
            store.delete(name)
        deleted = store.reset() if arguments.all else len(names)
    show(f"{quantity(deleted, 'video')} deleted from {arguments.store}; the files themselves stay")
    return 0


def _copy_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("videos", nargs="*", metavar="NAME", help="videos, as `video list` names them (default: all)")
    _store_option(parser)
    parser.add_argument("--to", required=True, metavar="URI", help="vector store to write, named like --store")


def copy(arguments: argparse.Namespace) -> int:
    """Copy collections with their vectors, ids and metadata; entries that are there already are replaced."""
    from naruto_vision.gallery.vector_store import open_store
    from naruto_vision.video.index import DONE

    with open_store(arguments.store, existing=True) as source, open_store(arguments.to) as target:
        names = list(dict.fromkeys(arguments.videos)) or source.collections()
        originals, entries = [source.open(name) for name in names], 0
        made = {str(each.note.get("fingerprint")) for each in (*originals, *map(target.open, target.collections()[:1]))}
        if len(made) > 1:
            raise InputError(f"{arguments.to}: has videos of another encoder; give another --to")
        with progress("videos", len(names)) as advance:
            for original in originals:
                ids, vectors, metadata = original.read()
                order = sorted(range(len(ids)), key=lambda row: DONE in metadata[row])  # which says that all are there
                copied = target.create(original.name, original.note)
                copied.add([ids[row] for row in order], vectors[order], [metadata[row] for row in order])
                entries += len(ids)
                advance()
    show(f"{quantity(len(names), 'video')} with {quantity(entries, 'entry')} copied to {arguments.to}")
    return 0


def _cut_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("video", metavar="VIDEO", help="video file")
    add("--start", type=seconds, default=0.0, metavar="TIME", help="start: seconds, or 1:02:03.5")
    add("--end", type=seconds, required=True, metavar="TIME", help="end: seconds, or 1:02:03.5")
    text = "file to write; its suffix is that of the video's own container, or .mp4"
    add("--out", type=Path, required=True, metavar="FILE", help=text)
    add("--exact", action="store_true", help="encode again, so that it starts at its first frame, without sound")


def cut(arguments: argparse.Namespace) -> int:
    """Cut a part out of a video."""
    from naruto_vision.io.video import is_video_name
    from naruto_vision.io.video_process import IsolatedVideoReader, cut_video

    if arguments.end <= arguments.start:
        raise InputError(f"--end: expected a time after --start, found {arguments.end:g} s and {arguments.start:g} s")
    stem = arguments.out.with_suffix("") if is_video_name(arguments.out.name) else arguments.out
    path = cut_video(arguments.video, arguments.start, arguments.end, stem, exact=arguments.exact)
    reader = IsolatedVideoReader(path)
    reader.close()
    info = reader.info
    early = info.duration > arguments.end - arguments.start + 0.5 and not arguments.exact
    why = "; a copy starts at the key frame before: --exact starts at --start" * early
    show(f"{path}: {quantity(info.frames, 'frame')}, {info.duration:.2f} s{why}")
    return 0


COMMANDS = {
    "video index": (_index_options, index),
    "video search": (_search_options, search),
    "video list": (_list_options, list_videos),
    "video delete": (_delete_options, delete),
    "video copy": (_copy_options, copy),
    "video cut": (_cut_options, cut),
    "video history": (_history_options, history),
}
