"""`naruto-vision video extract`, `rebuild` and `info`, as a user runs them."""

import json
import re
from pathlib import Path

import clips
import numpy as np
import pytest

from naruto_vision.cli.main import main
from naruto_vision.errors import InputError
from naruto_vision.io.images import read_image, write_image
from naruto_vision.io.video import VideoReader, video_info
from naruto_vision.video.frames import FrameChoice, extract_frames, read_frames, rebuild_video


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_frames_are_extracted_into_a_dated_folder_with_their_times(capsys: pytest.CaptureFixture[str]) -> None:
    path = clips.write(Path("a.mp4"), frames=20, milliseconds=clips.IRREGULAR)
    assert main(["video", "extract", "a.mp4"]) == 0
    (folder,) = Path().glob("frames_resized_*")
    assert re.fullmatch(r"frames_resized_\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d", folder.name)
    rows = read_frames(folder)
    frames = list(VideoReader(path))
    assert [row.file for row in rows] == [f"frame_{index:06d}.png" for index in range(20)]
    assert [row.time for row in rows] == pytest.approx([frame.time for frame in frames], abs=1e-6)
    assert all(np.array_equal(read_image(folder / row.file), frames[row.frame].image) for row in rows)
    text = (folder / "info.txt").read_text()
    assert "frames: 20\n" in text
    assert "duration: 1.1" in text
    assert "original fps: " in text
    assert "target fps: " in text
    assert "20 frames of a.mp4" in capsys.readouterr().out


def test_options_of_the_reference() -> None:
    clips.write(Path("a.mp4"), frames=60, rate=30)
    options = ["--fps", "24", "--size", "32x20", "--fit", "stretch", "--start-frame", "10", "--out", "out"]
    assert main(["video", "extract", "a.mp4", *options]) == 0
    rows = read_frames("out")
    assert len(rows) == 40  # of 50 frames at 30 a second
    assert rows[0].frame == 10
    assert read_image(Path("out") / rows[0].file).shape == (20, 32, 3)


def test_an_extraction_continues_and_refuses_another_one(capsys: pytest.CaptureFixture[str]) -> None:
    clips.write(Path("a.mp4"), frames=48)
    command = ["video", "extract", "a.mp4", "--fps", "12", "--out", "out"]
    assert main(command) == 0
    whole = {path.name: path.read_bytes() for path in Path("out").iterdir()}
    lines = (Path("out") / "frames.csv").read_text().splitlines(keepends=True)
    (Path("out") / "frames.csv").write_text("".join(lines[:10]) + "frame_0000")  # killed while it wrote a row
    (Path("out") / "frame_000040.png").unlink()
    (Path("out") / ".tmp-frame_000040.png").write_bytes(b"half")
    capsys.readouterr()
    assert main(command) == 0
    assert "24 frames of a.mp4, 9 of which were there" in capsys.readouterr().out
    assert {path.name: path.read_bytes() for path in Path("out").iterdir()} == whole
    assert main([*command[:-4], "--fps", "6", "--out", "out"]) == 2
    assert "has frames of another video or of other options" in capsys.readouterr().err


def test_frames_of_a_stranger_are_not_overwritten() -> None:
    path = clips.write(Path("a.mp4"), frames=2)
    write_image(Path("out/frame_000000.png"), clips.image(3))
    with pytest.raises(InputError, match="no frames of this video"):
        extract_frames(VideoReader(path), "out", FrameChoice())


def test_several_videos_have_a_folder_each(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("one/a.mp4", "one/A.mp4", "one/a.mkv", "two/a.mp4"):
        Path(name).parent.mkdir(exist_ok=True)
        clips.write(Path(name), frames=3)
    Path("one/bad.mp4").write_text("text")
    Path("one/notes.txt").write_text("text")
    assert main(["video", "extract", "one", "two", "--out", "out"]) == 0
    folders = sorted(path.parent for path in Path("out").rglob("frames.csv"))
    assert len(folders) == 4
    assert all(len(list(folder.glob("*.png"))) == 3 for folder in folders)
    shown = capsys.readouterr()
    assert "12 frames of 4 of 5 videos, 1 could not be used" in shown.out
    assert "left out: one/bad.mp4: no video that can be read" in shown.err


def test_a_folder_of_folders_of_frames_names_one(capsys: pytest.CaptureFixture[str]) -> None:
    Path("in").mkdir()
    for name in ("b", "a"):
        clips.write(Path(f"in/{name}.mp4"), frames=2)
    assert main(["video", "extract", "in", "--out", "out"]) == 0
    assert main(["video", "rebuild", "out"]) == 2
    assert "out: no frames in this folder; give one of the folders in it, such as out/a, as" in capsys.readouterr().err
    assert main(["video", "rebuild", "out/a", "--out", "a.mp4"]) == 0


def test_only_bad_videos_are_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.mp4").write_bytes(b"")
    Path("b.mp4").write_text("text")
    assert main(["video", "extract", "a.mp4"]) == 2
    assert "a.mp4: the file is empty (0 bytes)" in capsys.readouterr().err
    assert main(["video", "extract", "a.mp4", "b.mp4", "none.mp4"]) == 2
    assert "none of 3 videos can be read; first a.mp4" in capsys.readouterr().err
    assert main(["video", "info", "."]) == 2
    assert list(Path().glob("frames_*")) == []


def test_a_part_without_frames_is_an_error_and_leaves_no_folder(capsys: pytest.CaptureFixture[str]) -> None:
    Path("in").mkdir()
    clips.write(Path("in/a.mp4"), frames=24, rate=24)
    clips.write(Path("in/b.mp4"), frames=48, rate=24)
    assert main(["video", "extract", "in/a.mp4", "--start", "1:30", "--out", "out"]) == 2
    assert "in/a.mp4: --start, --end and --start-frame leave no frames; it has 24 frames" in capsys.readouterr().err
    assert not Path("out").exists()
    assert main(["video", "extract", "in", "--start", "1.5", "--out", "out"]) == 0
    assert "12 frames of 1 of 2 videos, 1 could not be used" in capsys.readouterr().out


def test_a_truncated_video_gives_its_frames_and_says_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    path = clips.write(Path("a.mp4"), frames=96, container={"movflags": "+faststart"})
    clips.truncate(path, 0.6)
    assert main(["video", "extract", "a.mp4", "--out", "out"]) == 0
    shown = capsys.readouterr()
    assert "the file is truncated" in shown.err
    assert 10 < len(read_frames("out")) < 96
    assert "the file is truncated" in (Path("out") / "info.txt").read_text()


@pytest.mark.parametrize(("options", "fps"), [([], None), (["--fps", "30"], 30.0)])
def test_a_video_is_rebuilt_of_its_frames(options: list[str], fps: float | None) -> None:
    path = clips.write(Path("a.mkv"), frames=20, milliseconds=clips.IRREGULAR)
    assert main(["video", "extract", "a.mkv", "--out", "out"]) == 0
    assert main(["video", "rebuild", "out", "--out", "b.mp4", *options]) == 0
    info, times = video_info("b.mp4"), [frame.time for frame in VideoReader(path)]
    rebuilt = [frame.time for frame in VideoReader("b.mp4")]
    assert rebuilt == pytest.approx([index / fps for index in range(20)] if fps else times, abs=1e-4)
    assert info.duration == pytest.approx(20 / fps if fps else times[-1] * 20 / 19, abs=0.01)


def test_a_folder_of_images_becomes_a_video(capsys: pytest.CaptureFixture[str]) -> None:
    for index in range(6):
        write_image(Path("in") / f"{index}.png", clips.image(index, 64 - index))
    Path("in/3.png").write_bytes(b"broken")
    assert main(["video", "rebuild", "in", "--codec", "mp4v"]) == 0
    assert video_info("rebuilt.mp4").codec == "mpeg4"
    assert video_info("rebuilt.mp4").duration == pytest.approx(5 / 30, abs=1e-3)
    shown = capsys.readouterr()
    assert "5 frames, 0.167 s" in shown.out
    assert "left out: " in shown.err
    with pytest.raises(InputError, match="no such folder"):
        rebuild_video("none", "b.mp4")
    Path("none").mkdir()
    with pytest.raises(InputError, match="no frames in this folder"):
        rebuild_video("none", "b.mp4")


def test_info_says_what_a_video_is(capsys: pytest.CaptureFixture[str]) -> None:
    clips.write(Path("a.mp4"), frames=48)
    assert main(["video", "info", "a.mp4", "--fps", "6"]) == 0
    shown = capsys.readouterr().out
    assert "frames: 48\nduration: 2.000 s\noriginal fps: 24\ntarget fps: 6 (12 frames)\n" in shown
    assert main(["video", "info", "a.mp4", "--json", "--shots"]) == 0
    document = json.loads(capsys.readouterr().out)["videos"][0]
    assert (document["frames"], document["codec"], document["width"]) == (48, "h264", 64)
    assert document["shots"] == [{"start_frame": 0, "end_frame": 48, "start": 0.0, "end": pytest.approx(47 / 24)}]


@pytest.mark.parametrize("option", [["--fps", "0"], ["--size", "3"], ["--start", "1:2:3:4"], ["--fit", "no"]])
def test_wrong_options_are_refused(option: list[str]) -> None:
    assert main(["video", "extract", "a.mp4", *option]) == 2
