"""Bad videos: each is refused in one line, or gives what can be read and says what is missing."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import av
import clips
import numpy as np
import pytest

from naruto_vision.errors import BadVideoError, MissingPackageError, MissingPathError
from naruto_vision.io import video
from naruto_vision.io.video import VideoReader, video_info
from naruto_vision.io.video_process import IsolatedVideoReader


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _text(path: Path) -> None:
    path.write_text("not a video\n" * 100)


def _zeros(path: Path) -> None:
    path.write_bytes(bytes(5000))


def _noise(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(5000))


def _header_only(path: Path) -> None:
    clips.write(path)
    path.write_bytes(path.read_bytes()[:40])


def _without_index(path: Path) -> None:
    clips.truncate(clips.write(path), 0.6)  # "moov" is at the end


def _folder(path: Path) -> None:
    path.mkdir()


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _playlist(path: Path) -> None:
    other = clips.write(path.with_name("other.mp4"))
    path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{other}\n#EXT-X-ENDLIST\n")


def _list_of_files(path: Path) -> None:
    path.write_text(f"ffconcat version 1.0\nfile {clips.write(path.with_name('other.mp4'))}\n")


def _image(path: Path) -> None:
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))


def _audio_only(path: Path) -> None:
    with av.open(str(path), "w") as out:
        stream = out.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def _no_frames(path: Path) -> None:
    with av.open(str(path), "w", options={"movflags": "empty_moov"}) as out:
        stream = out.add_stream("libx264", rate=24)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        out.start_encoding()


def _garbled_frames(path: Path) -> None:
    clips.write(path, container={"movflags": "+faststart"}, options={"x264-params": "keyint=240"})
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 4
    data[start:] = bytes(len(data) - start)
    path.write_bytes(data)


REFUSED: dict[str, tuple[Callable[[Path], None], str]] = {
    "empty": (_empty, "0 bytes"),
    "text": (_text, "no video that can be read"),
    "zeros": (_zeros, "no video that can be read"),
    "noise": (_noise, "no video that can be read"),
    "header only": (_header_only, "no video that can be read"),
    "without its index": (_without_index, "no video that can be read"),
    "folder": (_folder, "found a folder"),
    "pipe": (_pipe, "a pipe"),
    "playlist": (_playlist, "no video that can be read"),
    "list of files": (_list_of_files, "no video that can be read"),
    "image": (_image, "no video that can be read"),
    "audio only": (_audio_only, "no video stream; found audio"),
    "no frames": (_no_frames, "without frames"),
    "garbled frames": (_garbled_frames, "none of its frames can be decoded"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_video_is_refused_in_one_line(kind: str, tmp_path: Path) -> None:
    make, reason = REFUSED[kind]
    path = tmp_path / "bad.mp4"
    make(path)
    with pytest.raises(BadVideoError, match=reason) as caught:
        video_info(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingPathError, match="no such video"):
        video_info(tmp_path / "none.mp4")
    path = clips.write(tmp_path / "a.mp4", frames=1)
    monkeypatch.setattr("naruto_vision.io.machine.has_package", lambda _name: False)
    with pytest.raises(MissingPackageError, match=r"naruto-vision\[video\]"):
        video_info(path)


def test_frames_that_are_too_large_are_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = clips.write(tmp_path / "a.mp4", frames=1)
    monkeypatch.setattr(video, "MAX_SIDE", 60)
    with pytest.raises(BadVideoError, match="frames of 64x48 pixels"):
        video_info(path)


def test_frames_that_grow_are_read_up_to_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = clips.write(tmp_path / "small.h264", frames=5, form="h264")
    large = clips.write(tmp_path / "large.h264", frames=[clips.image(0, 320, 240)] * 5, form="h264")
    path = tmp_path / "a.h264"
    path.write_bytes(small.read_bytes() + large.read_bytes())
    for reader in (VideoReader(path), IsolatedVideoReader(path)):
        assert [frame.image.shape for frame in reader] == [(48, 64, 3)] * 5 + [(240, 320, 3)] * 5
    monkeypatch.setattr(video, "MAX_PIXELS", 40_000)
    reader = VideoReader(path)
    assert len(list(reader)) == 5
    assert "5 of 10 frames could not be decoded" in reader.lost


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_a_truncated_video_gives_what_is_there(name: str, share: float, tmp_path: Path) -> None:
    container = {"movflags": "+faststart"} if name == "a.mp4" else {}
    path = clips.write(tmp_path / name, frames=120, container=container, options={"bf": "2"})
    whole = list(VideoReader(path))
    clips.truncate(path, share)
    try:
        reader = VideoReader(path)
    except BadVideoError:
        assert share == 0.1  # the index alone is longer
        return
    frames, expected = list(reader), clips.decoded(path)
    assert len(frames) == len(expected) < 120
    assert all(np.array_equal(frame.image, image) for frame, (_, image) in zip(frames, expected, strict=True))
    assert {frame.time for frame in frames} <= {frame.time for frame in whole}
    if share < 0.9 and name != "a.ts":  # a transport stream does not say how long it is
        assert "truncated" in reader.lost


def test_damage_in_the_middle_is_counted_and_repeatable(tmp_path: Path) -> None:
    path = clips.write(tmp_path / "a.mp4", frames=96, options={"x264-params": "keyint=24", "bf": "2"})
    data = bytearray(path.read_bytes())
    middle = data.index(b"mdat") + (len(data) - data.index(b"mdat")) // 3
    data[middle : middle + 60] = bytes(60)
    path.write_bytes(data)
    reader = VideoReader(path)
    first, second, expected = list(reader), list(reader), clips.decoded(path)
    assert [frame.time for frame in first] == pytest.approx([time for time, _ in expected])
    for frame, again, (_, image) in zip(first, second, expected, strict=True):
        assert np.array_equal(frame.image, again.image)
        assert np.array_equal(frame.image, image)
    assert len(first) == 96 or f"{96 - len(first)} of 96 frames could not be decoded" in reader.lost


_others: set[int] = set()  # children that other tests have started


@pytest.fixture(autouse=True)
def _note_other_children() -> None:
    _others.clear()
    _others.update(_children())


def _children() -> list[int]:
    found = [path.read_text().split() for path in Path("/proc/self/task").glob("*/children")]
    return [int(each) for own in found for each in own if int(each) not in _others]


def _child() -> int:
    (process,) = _children()
    return process


@pytest.mark.parametrize(
    ("sent", "reason"), [(signal.SIGSTOP, "no frame for 2 s"), (signal.SIGSEGV, "crashed (SIGSEGV)")]
)
def test_a_decoder_that_stalls_or_crashes_is_ended(sent: signal.Signals, reason: str, tmp_path: Path) -> None:
    path = clips.write(tmp_path / "a.mp4", frames=60)
    reader, frames, start = IsolatedVideoReader(path, stall=2.0), [], 0.0
    for frame in reader:
        frames.append(frame)
        if len(frames) == 20:
            os.kill(_child(), sent)
            start = time.monotonic()
    assert time.monotonic() - start < 2.0 + 2.0
    assert 20 <= len(frames) < 60
    assert reason in reader.lost
    assert f"{60 - len(frames)} of 60 frames" in reader.lost
    assert _children() == []


def test_a_slow_reader_gets_every_frame_of_a_fast_decoder(tmp_path: Path) -> None:
    reader = IsolatedVideoReader(clips.write(tmp_path / "a.mp4", frames=7))
    frames = []
    for frame in reader:
        frames.append(frame)
        time.sleep(0.1)  # the decoder is done meanwhile
    assert (len(frames), reader.lost) == (7, "")


def test_a_process_of_its_own_gives_the_same_frames_and_errors(tmp_path: Path) -> None:
    path = clips.write(tmp_path / "a.mp4", frames=30, options={"bf": "2"})
    plain, isolated = VideoReader(path, fps=10, start=0.2), IsolatedVideoReader(path, fps=10, start=0.2)
    for _ in range(2):
        pairs = list(zip(plain, isolated, strict=True))
        assert len(pairs) == len(isolated) > 5
        assert all(np.array_equal(a.image, b.image) and (a.index, a.time) == (b.index, b.time) for a, b in pairs)
    assert isolated.info == plain.info
    _text(path)
    with pytest.raises(BadVideoError, match="no video that can be read") as caught:
        IsolatedVideoReader(path)
    assert str(caught.value).count(str(path)) == 1
    assert _children() == []
