"""The files of a search: copies, videos, clips, tables and lists, under names that are safe for any query."""

import csv
import json
import re
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from urllib.parse import unquote

import clips
import numpy as np
import pytest
from test_video_index import COLOURS, write_video

from naruto_vision.errors import InputError, MissingPathError
from naruto_vision.io import video_process
from naruto_vision.io.images import read_image
from naruto_vision.io.text import time_code
from naruto_vision.io.video import VideoReader, video_info
from naruto_vision.io.video_process import cut_video
from naruto_vision.video.outputs import concat_text, write_moments
from naruto_vision.video.search import FoundMoments, FrameHit, Moment, join_frames

NOW = datetime(2026, 1, 2, 3, 4, 5)


def _hit(path: Path, frame: int, score: float, video: str = "") -> FrameHit:
    time = frame / 8
    return FrameHit(video or path.name, str(path), frame, time, 0, time, time + 1, score, f"frame_{frame:06}.png")


def _found(hits: list[FrameHit], query: str = "red", nearest: list[FrameHit] | None = None) -> FoundMoments:
    best = sorted(hits, key=lambda hit: -hit.score)
    moments = tuple(sorted(join_frames(hits, 0.5), key=lambda moment: -moment.best.score))
    near = tuple(best if nearest is None else nearest)
    return FoundMoments(
        query, 0.25, "as given", tuple(best), moments, near, dict.fromkeys({hit.video: 0 for hit in near}, 3)
    )


def _colour(image: np.ndarray) -> str:
    return min(COLOURS, key=lambda name: float(np.abs(image.mean(axis=(0, 1)) - COLOURS[name]).sum()))


@pytest.fixture
def videos(tmp_path: Path) -> tuple[Path, Path]:
    first = write_video(tmp_path / "one.mp4", ["red", "green", "blue"])
    return first, write_video(tmp_path / "two.mp4", ["blue", "white"], size=(48, 64))


def test_folders_copies_video_and_info_as_the_reference_writes_them(tmp_path: Path, videos: tuple[Path, Path]) -> None:
    found = _found([_hit(videos[0], 4, 0.5), _hit(videos[0], 12, 0.7), _hit(videos[1], 10, 0.6)], "a red cap")
    folder = write_moments(found, tmp_path / "out", now=NOW)
    assert folder == tmp_path / "out" / "Request_a_red_cap"
    above = folder / "AboveThreshold"
    copies = sorted(path.relative_to(above).as_posix() for path in above.rglob("*.png"))
    assert copies == [
        "AbTH_Frames/AbTH_one.mp4/frame_000004.png",
        "AbTH_Frames/AbTH_one.mp4/frame_000012.png",
        "AbTH_Frames/AbTH_two.mp4/frame_000010.png",
    ]
    assert [_colour(read_image(above / name)) for name in copies] == ["red", "green", "white"]
    film = list(VideoReader(above / "one.mp4_above_threshold.mp4"))
    assert [_colour(frame.image) for frame in film] == ["red", "green"]
    assert (above / "abTH_info.txt").read_text() == (
        "Date: 2026-01-02 03:04:05\nPrompt: a red cap\nThreshold: 0.2500 (as given)\nCollections: 2\n\n"
        "Collection: one.mp4\n  Frames above the threshold: 2\n  Best frame: frame_000012.png at 00:00:01.500\n"
        "  Similarity: 0.7000\n  Mean similarity: 0.6000\n\n"
        "Collection: two.mp4\n  Frames above the threshold: 1\n  Best frame: frame_000010.png at 00:00:01.250\n"
        "  Similarity: 0.6000\n  Mean similarity: 0.6000\n"
    )
    assert len(list((folder / "top_x_similar").iterdir())) == 3


def test_tables_and_lists_have_the_moments_best_first(tmp_path: Path, videos: tuple[Path, Path]) -> None:
    found = _found([_hit(videos[0], 0, 0.5), _hit(videos[0], 8, 0.7), _hit(videos[1], 10, 0.6)])
    folder = write_moments(found, tmp_path / "out")
    rows = list(csv.DictReader((folder / "moments.csv").open(encoding="utf-8")))
    assert [(row["video"], row["from"], row["to"], row["frames"]) for row in rows] == [
        ("one.mp4", "00:00:00.000", "00:00:02.000", "2"),
        ("two.mp4", "00:00:01.250", "00:00:02.250", "1"),
    ]
    document = json.loads((folder / "moments.json").read_text())
    assert [moment["score"] for moment in document["moments"]] == [0.7, 0.6]
    assert concat_text(found.moments).splitlines()[:4] == [
        "ffconcat version 1.0", f"file '{videos[0]}'", "inpoint 0.000000", "outpoint 2.000000",
    ]  # fmt: skip
    lines = (folder / "moments.edl").read_text(encoding="utf-8").splitlines()
    assert lines[3] == "001  AX       V     C        00:00:00:00 00:00:02:00 00:00:00:00 00:00:02:00"
    assert lines[6] == "002  AX       V     C        00:00:01:02 00:00:02:02 00:00:02:00 00:00:03:00"
    assert lines[7] == "* FROM CLIP NAME: two.mp4"


def test_clips_and_one_video_of_all_moments(tmp_path: Path, videos: tuple[Path, Path]) -> None:
    found = _found([_hit(videos[0], 8, 0.7), _hit(videos[1], 8, 0.6)])
    folder = write_moments(found, tmp_path / "out", clips=True, exact=True)
    clips = sorted(path.name for path in (folder / "clips").iterdir())
    assert clips == ["001_one.mp4_00-00-01.000.mp4", "002_two.mp4_00-00-01.000.mp4"]
    frames = list(VideoReader(folder / "clips" / clips[0]))
    assert [_colour(frame.image) for frame in frames] == ["green"] * 8
    joined = list(VideoReader(folder / "all_moments.mp4"))
    assert len(joined) == 16
    assert {frame.image.shape for frame in joined} == {(36, 64, 3)}
    assert _colour(joined[3].image) == "green"
    assert joined[12].image[:, 28:36].mean() > 200  # the tall white frame lies in the middle
    assert joined[12].image[:, :8].mean() < 30


def test_all_exact_clips_of_a_video_are_decoded_in_one_pass(
    tmp_path: Path, videos: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    started = list[object]()
    start = video_process.start_process
    monkeypatch.setattr(video_process, "start_process", lambda target: started.append(target) or start(target))
    found = _found([_hit(videos[0], 0, 0.7), _hit(videos[0], 8, 0.6), _hit(videos[0], 16, 0.5)])
    found = replace(found, moments=tuple(Moment((hit,)) for moment in found.moments for hit in moment.frames))
    folder = write_moments(found, tmp_path / "out", clips=True, exact=True)
    clips = sorted((folder / "clips").iterdir())
    assert [[_colour(frame.image) for frame in VideoReader(clip)] for clip in clips] == [
        ["red"] * 8, ["green"] * 8, ["blue"] * 8,
    ]  # fmt: skip
    assert len(started) == 2  # for the copies of frames, and for all clips


def test_no_decoder_runs_in_this_process(
    tmp_path: Path, videos: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one of a damaged file may never return."""

    def never(reader: VideoReader) -> None:
        pytest.fail(f"{reader.info.path} is decoded here")

    monkeypatch.setattr(VideoReader, "__iter__", never)
    found = _found([_hit(videos[0], 8, 0.7), _hit(videos[0], 0, 0.6), _hit(videos[1], 8, 0.6)])
    folder = write_moments(found, tmp_path / "out", clips=True, exact=True)
    part = cut_video(videos[0], 0.5, 1.0, tmp_path / "part", exact=True)
    assert video_info(part).frames == 4
    assert video_info(folder / "all_moments.mp4").frames == 24


def test_the_moments_of_a_video_are_joined_by_time(tmp_path: Path, videos: tuple[Path, Path]) -> None:
    found = _found([_hit(videos[0], 0, 0.6), _hit(videos[1], 8, 0.7), _hit(videos[0], 16, 0.8)])
    joined = VideoReader(write_moments(found, tmp_path, clips=True) / "all_moments.mp4")
    colours = [_colour(frame.image) for frame in joined]
    assert colours[:8] + colours[8:16] == ["red"] * 8 + ["blue"] * 8
    assert joined.times == pytest.approx(np.arange(24) / 8, abs=0.01)


def test_a_copied_part_starts_at_the_key_frame_before_and_an_exact_one_at_its_frame(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mp4", ["red", "green", "blue"])
    copied = cut_video(source, 1.0, 2.0, tmp_path / "copied")
    frames = list(VideoReader(copied))
    assert copied.suffix == ".mp4"
    assert _colour(frames[-1].image) in {"green", "blue"}
    assert "green" in {_colour(frame.image) for frame in frames}
    original = {frame.index: frame.image for frame in VideoReader(source)}
    assert any(np.array_equal(frames[0].image, image) for image in original.values())  # not encoded again
    exact = cut_video(source, 1.0, 2.0, tmp_path / "exact", exact=True)
    assert [_colour(frame.image) for frame in VideoReader(exact)] == ["green"] * 8
    matroska = write_video(tmp_path / "b.mkv", ["red", "green"])
    assert video_info(cut_video(matroska, 0.0, 1.0, tmp_path / "part")).container == "matroska"
    with pytest.raises(InputError, match="no frames"):
        cut_video(source, 50.0, 60.0, tmp_path / "none", exact=True)
    with pytest.raises(MissingPathError):
        cut_video(tmp_path / "absent.mp4", 0, 1, tmp_path / "none")


@pytest.mark.parametrize(
    ("name", "codec", "options", "suffix"),
    [
        ("a.mp4", "libx264", {"g": "6"}, ".mp4"),
        ("a.mov", "libx264", {"g": "6", "bf": "2"}, ".mp4"),
        ("a.mkv", "libsvtav1", {"g": "6", "preset": "12"}, ".mkv"),
        ("a.webm", "libvpx-vp9", {"g": "6", "deadline": "realtime"}, ".mkv"),
        ("a.avi", "mpeg4", {"g": "6"}, ".mp4"),
    ],
)
def test_parts_of_any_codec_are_readable(
    tmp_path: Path, name: str, codec: str, options: dict[str, str], suffix: str
) -> None:
    source = clips.write(tmp_path / name, codec, options=options)
    part = cut_video(source, 0.5, 0.75, tmp_path / "part")
    assert part.suffix == suffix
    reader = VideoReader(part)
    frames = list(reader)
    assert reader.lost == ""
    assert 6 <= len(frames) <= 14
    wanted = list(VideoReader(source, start=0.5, end=0.75))
    nearest = [min(float(np.abs(one.image - two.image.astype(int)).mean()) for one in frames) for two in wanted]
    assert max(nearest) < 3


def test_a_turned_video_is_encoded_again_upright(tmp_path: Path) -> None:
    source = clips.write(tmp_path / "a.mp4", rotation=(90, False))
    part = cut_video(source, 0.0, 0.5, tmp_path / "part")
    assert next(iter(VideoReader(part))).image.shape == next(iter(VideoReader(source))).image.shape
    assert video_info(part).rotation == 0


@pytest.mark.parametrize(
    "query", ['"quoted" / ../etc', "x" * 3000, "ピンクの髪の女の子", ".", "<script>alert(1)</script>", "a\nb"]
)
def test_any_query_gives_a_safe_folder_and_page(tmp_path: Path, videos: tuple[Path, Path], query: str) -> None:
    video = tmp_path / "<b> 'x' & é.mp4"
    videos[0].rename(video)
    folder = write_moments(_found([_hit(video, 4, 0.5)], query), tmp_path / "out")
    assert folder.parent == tmp_path / "out"
    assert len(folder.name.encode()) < 160
    assert re.fullmatch(r"Request_[\w.~-]+", folder.name)
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "<b>" not in page
    (source,) = re.findall(r'<img src="([^"]+)"', page)
    assert (folder / unquote(source)).is_file()
    assert "'\\''x'\\''" in (folder / "moments.ffconcat").read_text(encoding="utf-8")


def test_queries_that_differ_only_in_signs_do_not_share_a_folder(tmp_path: Path, videos: tuple[Path, Path]) -> None:
    queries = ("a b", "a?b", "a!b", "a b ...")
    names = {write_moments(_found([_hit(videos[0], 4, 0.5)], query), tmp_path).name for query in queries}
    assert len(names) == 4


def test_videos_whose_names_would_be_equal_have_folders_of_their_own(tmp_path: Path, videos: tuple[Path, Path]) -> None:
    hits = [_hit(path, 4, 0.5, name) for path, name in zip(videos, ("a b.mp4", "A_b.mp4"), strict=True)]
    folder = write_moments(_found(hits), tmp_path)
    folders = [path.name for path in (folder / "AboveThreshold" / "AbTH_Frames").iterdir()]
    assert len({name.casefold() for name in folders}) == 2


def test_nothing_found_has_the_nearest_frames_and_no_moment(tmp_path: Path, videos: tuple[Path, Path]) -> None:
    folder = write_moments(_found([], nearest=[_hit(videos[0], 4, 0.2)]), tmp_path / "out", clips=True)
    assert not (folder / "clips").exists()
    assert not list((folder / "AboveThreshold").rglob("*.mp4"))
    assert "below the threshold" in (folder / "index.html").read_text()
    assert len(list((folder / "top_x_similar").iterdir())) == 1


def test_the_same_query_replaces_its_files_and_others_are_kept(tmp_path: Path, videos: tuple[Path, Path]) -> None:
    folder = write_moments(_found([_hit(videos[0], 4, 0.5), _hit(videos[1], 4, 0.5)]), tmp_path)
    write_moments(_found([_hit(videos[0], 4, 0.5)]), tmp_path)
    assert len(list(folder.rglob("AbTH_Frames/*/*.png"))) == 1
    (folder / "moments.json").unlink()
    with pytest.raises(InputError, match="not of a search"):
        write_moments(_found([_hit(videos[0], 4, 0.5)]), tmp_path)


def test_time_codes_of_hours_and_of_frames() -> None:
    assert (time_code(3725.5), time_code(59.9996)) == ("01:02:05.500", "00:01:00.000")
    assert (time_code(1.999, 24), time_code(2.0, 23.976)) == ("00:00:02:00", "00:00:02:00")
    assert Moment((_hit(Path("a.mp4"), 8, 0.5),)).as_json()["start"] == 1.0
