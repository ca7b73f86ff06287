"""Synthetic videos: frames and tracks agree, shots and cuts, occlusion, entering and leaving, equal pixels per seed."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from naruto_vision.cli.main import main
from naruto_vision.io.bundles import config_path
from naruto_vision.io.video import VideoReader
from naruto_vision.records import UNKNOWN
from naruto_vision.synthetic.attributes import Cast, read_cast
from naruto_vision.synthetic.videos import SyntheticFrame, SyntheticVideo, VideoConfig, frame_document

_CONFIG = VideoConfig(seconds=40, fps=6, width=160, height=90)


@pytest.fixture(scope="module")
def cast() -> Cast:
    return read_cast(config_path("cast.yaml"))


@pytest.fixture(scope="module")
def video(cast: Cast) -> SyntheticVideo:
    return SyntheticVideo(5, cast, _CONFIG)


@pytest.fixture(scope="module")
def frames(video: SyntheticVideo) -> list[SyntheticFrame]:
    return list(video)


def test_equal_seeds_give_equal_pixels_and_others_do_not(
    cast: Cast, video: SyntheticVideo, frames: list[SyntheticFrame]
) -> None:
    other = SyntheticVideo(5, cast, _CONFIG)
    again = [frame for shot in other.shots[:3] for frame in other.draw_shot(shot)]
    assert len(frames) == len(video) == 240
    assert all(np.array_equal(one.image, two.image) for one, two in zip(frames, again, strict=False))
    assert [one.figures for one in frames[: len(again)]] == [two.figures for two in again]
    shot = video.shots[3]  # a shot alone is the same as in its place
    assert np.array_equal(next(video.draw_shot(shot)).image, frames[shot.start].image)
    assert not np.array_equal(frames[0].image, next(iter(SyntheticVideo(6, cast, _CONFIG))).image)


def test_shots_cover_the_video_and_cuts_change_the_image_more_than_motion(
    video: SyntheticVideo, frames: list[SyntheticFrame]
) -> None:
    assert video.shots[0].start == 0
    assert video.shots[-1].end == 240
    assert all(one.end == two.start for one, two in itertools.pairwise(video.shots))
    assert video.cuts == [shot.start for shot in video.shots[1:]]
    change = [np.abs(a.image.astype(int) - b.image).mean() for a, b in itertools.pairwise(frames)]
    at_cuts = [change[cut - 1] for cut in video.cuts]
    assert np.median(at_cuts) > 4 * np.median(change)


def test_tracks_do_not_pass_a_cut_and_have_one_name(video: SyntheticVideo, frames: list[SyntheticFrame]) -> None:
    truth = video.truth([frame_document(frame.figures) for frame in frames])
    shot_of = {track: each["shot"] for track, each in truth["tracks"].items()}
    names = set()
    for index, figures in enumerate(truth["frames"]):
        tracks = [each["track"] for each in figures]
        assert len(set(tracks)) == len(tracks)
        for each in figures:
            shot = video.shots[shot_of[str(each["track"])]]
            assert shot.start <= index < shot.end
            assert each["label"] == truth["tracks"][str(each["track"])]["label"]
            names.add(each["label"])
    assert UNKNOWN in names
    assert len(names) > 3


def test_boxes_lie_in_the_frame_and_are_tight_around_what_is_drawn(frames: list[SyntheticFrame]) -> None:
    for frame in frames:
        for figure in frame.figures:
            x1, y1, x2, y2 = figure.box
            assert 0 <= x1 < x2 < 160
            assert 0 <= y1 < y2 < 90
            assert 0.25 <= figure.visible <= 1


def test_figures_move_hide_each_other_enter_and_leave(video: SyntheticVideo, frames: list[SyntheticFrame]) -> None:
    seen: dict[int, list[tuple[int, float, int]]] = {}
    for index, frame in enumerate(frames):
        for figure in frame.figures:
            seen.setdefault(figure.track, []).append((index, figure.visible, figure.box[0] + figure.box[2]))
    ends = {role.track: (shot.start, shot.end - 1) for shot in video.shots for role in shot.roles}
    assert any(track[0][0] > ends[name][0] for name, track in seen.items())  # enters
    assert any(track[-1][0] < ends[name][1] for name, track in seen.items())  # leaves
    assert any(share < 0.7 for track in seen.values() for _, share, _ in track)  # is hidden or cut
    moved = [abs(track[-1][2] - track[0][2]) / 2 for track in seen.values()]
    assert max(moved) > 40
    assert min(moved) < 12


def test_a_shots_caption_describes_its_figures(video: SyntheticVideo) -> None:
    for shot in video.shots:
        assert shot.caption.count(" hair") == len(shot.roles)
        assert all(role.attributes.hair_colour in shot.caption for role in shot.roles)


@pytest.mark.parametrize("wrong", [{"width": 161}, {"height": 8}, {"seconds": 0}, {"shot_seconds": (3.0, 1.0)}])
def test_impossible_sizes_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        VideoConfig(**wrong)  # type: ignore[arg-type]  # numbers of each kind


def test_draw_writes_videos_with_their_truth(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["draw", "--out", str(tmp_path / "clips"), "--videos", "2", "--seconds", "3", "--fps", "6"]
    size = ["--width", "96", "--height", "64"]
    assert main([*argv, *size]) == 0
    assert "drew 2 videos of 18 frames" in capsys.readouterr().out
    files = sorted(file.name for file in (tmp_path / "clips").iterdir())
    assert files == ["video_000.json", "video_000.mp4", "video_001.json", "video_001.mp4", "world.json"]
    truth = json.loads((tmp_path / "clips" / "video_000.json").read_text())
    frames = list(VideoReader(tmp_path / "clips" / "video_000.mp4"))
    assert len(truth["frames"]) == len(frames) == 18
    assert frames[0].image.shape == (truth["height"], truth["width"], 3)
    assert len(truth["captions"]) == len(truth["cuts"]) + 1
    assert main([*argv, "--width", "97", "--height", "64"]) == 2
    assert main(argv) == 2  # not empty
    assert main([*argv, *size, "--force"]) == 0
