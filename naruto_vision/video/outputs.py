"""Files of a search: copies of the frames, videos of them, clips, tables, a page, an EDL and a list for FFmpeg."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import cv2
import numpy as np

from naruto_vision.errors import InputError
from naruto_vision.io.atomic import atomic_folder, lines_bytes, write_json, write_text
from naruto_vision.io.images import write_image
from naruto_vision.io.names import folder_name
from naruto_vision.io.text import csv_text, printable, time_code
from naruto_vision.io.video import VideoReader, VideoWriter, copy_part, frames_and_parts, resize_frame, writable_fps
from naruto_vision.io.video_process import IsolatedVideoReader
from naruto_vision.records import ImageArray
from naruto_vision.video.index import frame_id
from naruto_vision.video.search import FoundMoments, FrameHit, Moment
from naruto_vision.viz.scene_page import escaped

RESULT = "moments.json"
_TOP = 5  # frames of each video that are copied whatever their score


def write_moments(
    found: FoundMoments, out: str | Path, *, clips: bool = False, exact: bool = False, now: datetime | None = None
) -> Path:
    """Write the files of one search; those of an earlier search with the same query are replaced.

    - ``AboveThreshold/AbTH_Frames/AbTH_<video>/frame_NNNNNN.png``: the frames, and ``AboveThreshold/
      <video>_above_threshold.mp4``: a video of them, as the reference system writes them; ``abTH_info.txt``.
    - ``top_x_similar/``: the best frames of each video, whatever their score.
    - ``moments.json``, ``moments.csv`` with time codes, ``index.html``, ``moments.edl`` (CMX 3600) and
      ``moments.ffconcat`` (``ffmpeg -f concat -safe 0 -i``).
    - With ``clips``: ``clips/`` with each moment, and ``all_moments.mp4``, one video of all of them.

    Args:
        found: What a search found.
        out: The folder in which ``Request_<query>`` is made.
        clips: Also cut the moments.
        exact: Encode clips again, so that they start at their first frame, without sound; otherwise packets are copied
            where possible, from the key frame before.
        now: Date of ``abTH_info.txt``; None is the current one.

    Returns:
        The folder of the files.

    Raises:
        InputError: If the folder has files of another origin.
        MissingPathError: If a video is not where it was indexed.
        BadVideoError: If a video can no longer be read.
    """
    folder = Path(out) / f"Request_{folder_name(found.query)}"
    if folder.exists() and not (folder / RESULT).is_file() and any(folder.iterdir()):
        raise InputError(f"{folder}: has files that are not of a search; give another --out")
    with atomic_folder(folder) as new:
        short = Counter(folder_name(video).casefold() for video in found.searched)
        names = {video: folder_name(video, always=short[folder_name(video).casefold()] > 1) for video in found.searched}
        copies, readers = _copy_frames(found, new, names)
        _write_tables(found, new, copies, readers)
        write_text(new / "AboveThreshold" / "abTH_info.txt", info_text(found, now or datetime.now().astimezone()))
        if clips and found.moments:
            _write_clips(found.moments, new, names, readers, exact=exact)
    return folder


def _copy_frames(
    found: FoundMoments, folder: Path, names: Mapping[str, str]
) -> tuple[dict[tuple[str, int], str], dict[str, VideoReader]]:
    """Copy the frames, write the video of each collection; return each frame's file in the folder, and the readers."""
    copies: dict[tuple[str, int], str] = {}
    readers: dict[str, VideoReader] = {}
    above, best = found.by_video(), _best_of_each(found.nearest)
    for video in dict.fromkeys([*above, *best]):
        hits = {hit.frame: hit for hit in above.get(video, ())}
        top = {hit.frame: rank for rank, hit in enumerate(best.get(video, ()), start=1)}
        source = next(hit.source for hit in (*above.get(video, ()), *best.get(video, ())))
        target = folder / "AboveThreshold" / "AbTH_Frames" / f"AbTH_{names[video]}"
        with ExitStack() as stack:
            writer: VideoWriter | None = None
            if hits:
                film = folder / "AboveThreshold" / f"{names[video]}_above_threshold.mp4"
                writer = stack.enter_context(VideoWriter(film, fps=_play_rate(hits.values())))
            reader = readers[video] = IsolatedVideoReader(source)
            wanted = sorted({*hits, *top})
            if wanted[-1] >= reader.info.frames:
                msg = f"{source}: has {reader.info.frames} frames, but frame {wanted[-1]} is indexed; index it again"
                raise InputError(msg)
            reader.pick(np.array(wanted, np.int64))
            for frame in reader:
                if writer is not None and frame.index in hits:
                    path = target / frame_id(frame.index)
                    write_image(path, frame.image)
                    writer.write(frame.image)
                    copies[video, frame.index] = path.relative_to(folder).as_posix()
                if frame.index in top:
                    path = folder / "top_x_similar" / f"{names[video]}_{top[frame.index]:02}_{frame_id(frame.index)}"
                    write_image(path, frame.image)
                    copies.setdefault((video, frame.index), path.relative_to(folder).as_posix())
    return copies, readers


def _best_of_each(hits: Iterable[FrameHit]) -> dict[str, list[FrameHit]]:
    found: dict[str, list[FrameHit]] = {}
    for hit in hits:
        own = found.setdefault(hit.video, [])
        if len(own) < _TOP:
            own.append(hit)
    return found


def _play_rate(hits: Iterable[FrameHit]) -> float:
    """Return the frames per second at which the frames play about as fast as the video they are of, at most 30."""
    lengths = [hit.end - hit.start for hit in hits]
    return float(np.clip(1 / max(float(np.median(lengths)), 1e-3), 1.0, 30.0))


def _write_tables(
    found: FoundMoments, folder: Path, copies: Mapping[tuple[str, int], str], readers: Mapping[str, VideoReader]
) -> None:
    write_json(folder / RESULT, found.as_json())
    columns = ("rank", "video", "source", "start", "end", "from", "to", "best_frame", "best_time", "score", "frames")
    rows = [
        (
            rank, moment.best.video, moment.best.source, f"{moment.start:.3f}", f"{moment.end:.3f}",
            time_code(moment.start), time_code(moment.end), moment.best.frame, time_code(moment.best.time),
            f"{moment.best.score:.4f}", len(moment.frames),
        )
        for rank, moment in enumerate(found.moments, start=1)
    ]  # fmt: skip
    write_text(folder / "moments.csv", csv_text([columns, *rows]))
    write_text(folder / "moments.ffconcat", concat_text(found.moments))
    rates = {video: reader.info.fps for video, reader in readers.items()}
    write_text(folder / "moments.edl", edl_text(found.moments, found.query, rates))
    write_text(folder / "index.html", page_text(found, copies))


def note_query(
    history: str | Path,
    found: FoundMoments,
    asked: Mapping[str, Any],
    *,
    store: str,
    videos: Sequence[str],
    out: Path | None = None,
) -> None:
    """Append a query to a file of queries, a JSON line each, which ``video history`` prints.

    ``asked`` has the parts of the query (text, image, character), ``videos`` the names of the chosen collections, none
    for all, and ``out`` is the folder of the files of the search, if any were written.
    """
    line = {
        "time": datetime.now().astimezone().isoformat(timespec="seconds"),
        "query": found.query, **asked, "store": store, "video": list(videos),
        "threshold": found.threshold, "rule": found.rule, "moments": len(found.moments),
        "best": found.nearest[0].score if found.nearest else None, "out": None if out is None else str(out),
    }  # fmt: skip
    path = Path(history)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as lines:
        lines.seek(0)
        if (before := lines.read()) and not before.endswith(b"\n"):  # a torn line, of a killed run
            lines.truncate(before.rfind(b"\n") + 1)
        lines.write(lines_bytes([line]))


def info_text(found: FoundMoments, now: datetime) -> str:
    """Return ``abTH_info.txt``: date, prompt, threshold, and for each collection its frames and similarities."""
    lines = [
        f"Date: {now:%Y-%m-%d %H:%M:%S}",
        f"Prompt: {printable(found.query, one_line=True)}",
        f"Threshold: {found.threshold:.4f} ({found.rule})",
        f"Collections: {len(found.searched)}",
    ]
    above = found.by_video()
    for video in found.searched:
        hits = above.get(video, ())
        lines += ["", f"Collection: {printable(video, one_line=True)}", f"  Frames above the threshold: {len(hits)}"]
        if hits:
            mean = sum(hit.score for hit in hits) / len(hits)
            best = f"{frame_id(hits[0].frame)} at {time_code(hits[0].time)}"
            lines += [f"  Best frame: {best}", f"  Similarity: {hits[0].score:.4f}", f"  Mean similarity: {mean:.4f}"]
    return "\n".join(lines) + "\n"


def concat_text(moments: Sequence[Moment]) -> str:
    """Return a list of the moments for FFmpeg's concat demuxer."""
    lines = ["ffconcat version 1.0"]
    for moment in moments:
        path = str(Path(moment.best.source).absolute()).replace("'", "'\\''")
        if len(path.splitlines()) > 1:  # a line of its own, which could name any other file
            lines.append(f"# left out: {printable(path, one_line=True)}")
            continue
        lines += [f"file '{path}'", f"inpoint {moment.start:.6f}", f"outpoint {moment.end:.6f}"]
    return "\n".join(lines) + "\n"


def edl_text(moments: Sequence[Moment], title: str, rates: Mapping[str, float]) -> str:
    """Return an edit decision list (CMX 3600) of the moments, which editors import; times at each video's rate."""
    lines = [f"TITLE: {printable(title, one_line=True)[:70]}", "FCM: NON-DROP FRAME"]
    position = 0.0
    for number, moment in enumerate(moments, start=1):
        fps = rates[moment.best.video] or 25.0
        ends = [moment.start, moment.end, position, position + moment.end - moment.start]
        lines += [
            "",
            f"{number:03}  AX       V     C        {' '.join(time_code(seconds, fps) for seconds in ends)}",
            f"* FROM CLIP NAME: {printable(Path(moment.best.source).name, one_line=True)}",
        ]
        position = ends[-1]
    return "\n".join(lines) + "\n"


def _write_clips(
    moments: Sequence[Moment],
    folder: Path,
    names: Mapping[str, str],
    readers: Mapping[str, VideoReader],
    *,
    exact: bool,
) -> None:
    """Cut each moment, and write all of them as one video of the first one's size, video by video and by time."""
    parts: dict[str, list[tuple[float, float, Path]]] = {moment.best.video: [] for moment in moments}
    for rank, moment in enumerate(moments, start=1):
        name = f"{rank:03}_{names[moment.best.video]}_{time_code(moment.start).replace(':', '-')}"
        stem, scan = folder / "clips" / name, readers[moment.best.video].scan
        if exact or copy_part(scan, moment.start, moment.end, stem) is None:
            parts[moment.best.video].append((moment.start, moment.end, stem.with_name(f"{name}.mp4")))
    first = readers[moments[0].best.video].info
    size = (first.width, first.height)
    position = 0.0
    with VideoWriter(folder / "all_moments.mp4", fps=writable_fps(first.fps), size=size) as writer:
        for video, own in parts.items():
            spans = sorted((each.start, each.end) for each in moments if each.best.video == video)
            reader, length = readers[video], sum(end - start for start, end in spans)
            inside = [np.flatnonzero((reader.times >= start) & (reader.times < end)) for start, end in spans]
            reader.pick(np.unique(np.concatenate(inside)))
            for frame in frames_and_parts(reader, own):  # all moments and clips of a video are decoded in one pass
                passed = sum(min(max(frame.time - start, 0.0), end - start) for start, end in spans)
                writer.write(_letterbox(frame.image, size), position + passed)
            position += length


def _letterbox(image: ImageArray, size: tuple[int, int]) -> ImageArray:
    """Fit a frame into the middle of a black one of width and height ``size``."""
    small = resize_frame(image, size)
    down, across = size[1] - small.shape[0], size[0] - small.shape[1]
    sides = down // 2, down - down // 2, across // 2, across - across // 2
    return np.asarray(cv2.copyMakeBorder(small, *sides, cv2.BORDER_CONSTANT), np.uint8)


_STYLE = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
body { max-width: 1300px; margin: 0 auto; padding: 20px; }
h1 { font-size: 22px; overflow-wrap: anywhere; margin: 0; }
h2 { font-size: 13px; margin: 0; overflow-wrap: anywhere; }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(240px, 1fr)); gap: 14px; margin-top: 14px; }
article { border: 1px solid #8885; border-radius: 8px; overflow: hidden; }
article div { padding: 8px 12px; font-size: 13px; }
img { width: 100%; aspect-ratio: 16 / 9; object-fit: contain; background: #8882; display: block; }
p { margin: 0; color: #777; overflow-wrap: anywhere; }
"""


def page_text(found: FoundMoments, copies: Mapping[tuple[str, int], str]) -> str:
    """Return a static HTML page of the moments or, if nothing is found, of the nearest frames; no script, no link out.

    ``copies`` has the file of each frame by video and number, relative to the page.
    """
    cards = [
        _card(moment.best, f"{time_code(moment.start)} to {time_code(moment.end)}", copies) for moment in found.moments
    ]
    if not cards:
        shown = [hit for hits in _best_of_each(found.nearest).values() for hit in hits]
        cards = [_card(hit, f"{time_code(hit.time)}, below the threshold", copies) for hit in shown]
    title, sentence = escaped(found.query), escaped(found.sentence())
    links = " · ".join(f'<a href="{name}">{name}</a>' for name in (RESULT, "moments.csv", "moments.edl"))
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>'
    return (
        f'<!doctype html>\n<html lang="en">\n<head>{head}<style>{_STYLE}</style></head>\n<body>\n'
        f"<h1>{title}</h1>\n<p>{sentence}</p>\n<p>{links}</p>\n<main>\n{''.join(cards)}</main>\n</body>\n</html>\n"
    )


def _card(hit: FrameHit, when: str, copies: Mapping[tuple[str, int], str]) -> str:
    name, file = escaped(hit.video), copies.get((hit.video, hit.frame), "")
    image = f'<img src="{quote(os.fsencode(file))}" alt="{name}, frame {hit.frame}" loading="lazy">' if file else ""
    return f"<article>{image}<div><h2>{name}</h2><p>{when}</p><p>score {hit.score:.3f}</p></div></article>\n"
