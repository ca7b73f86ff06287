from pathlib import Path

import av
import clips
import numpy as np
import pytest

from naruto_vision.errors import InputError
from naruto_vision.io.video import VideoReader, VideoWriter, is_video_name, resize_frame, video_info

KINDS = {
    "constant rate": ("a.mp4", {"options": {"bf": "0"}}),
    "B-frames": ("a.mp4", {"options": {"bf": "3"}}),
    "variable rate": ("a.mp4", {"milliseconds": clips.IRREGULAR, "frames": 20}),
    "variable rate, Matroska": ("a.mkv", {"milliseconds": clips.IRREGULAR, "frames": 20}),
    "QuickTime": ("a.mov", {}),
    "HEVC": ("a.mp4", {"codec": "libx265", "options": {"x265-params": "log-level=none"}}),
    "AV1": ("a.mkv", {"codec": "libsvtav1", "options": {"preset": "12"}}),
    "VP9": ("a.webm", {"codec": "libvpx-vp9"}),
    "VP8 with hidden frames": ("a.webm", {"codec": "libvpx", "options": {"auto-alt-ref": "1", "lag-in-frames": "12"}}),
    "MPEG-2": ("a.mpg", {"codec": "mpeg2video"}),
    "transport stream": ("a.ts", {}),
    "AVI": ("a.avi", {"codec": "mpeg4"}),
    "GIF with delays": (
        "a.gif",
        {"codec": "gif", "pixels": "rgb8", "milliseconds": [10 * t for t in range(0, 100, 5)], "frames": 20},
    ),
}


@pytest.fixture(params=KINDS, name="clip", scope="module")
def _clip(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    name, options = KINDS[request.param]
    return clips.write(tmp_path_factory.mktemp("clips") / name, **options)


def test_times_and_pixels_are_those_of_pyav(clip: Path) -> None:
    reader = VideoReader(clip)
    frames, expected = list(reader), clips.decoded(clip)
    assert [frame.index for frame in frames] == list(range(len(expected)))
    assert np.allclose([frame.time for frame in frames], [time - expected[0][0] for time, _ in expected], atol=1e-9)
    assert all(np.array_equal(frame.image, image) for frame, (_, image) in zip(frames, expected, strict=True))
    assert (reader.lost, reader.info.frames, len(reader)) == ("", len(frames), len(frames))
    assert np.array_equal(VideoReader(clip).times, [frame.time for frame in frames])


@pytest.mark.parametrize("options", [{"fps": 7}, {"start": 0.3, "end": 0.7}, {"start_frame": 13, "fps": 10}])
def test_a_part_has_the_same_frames_as_the_whole(clip: Path, options: dict[str, float]) -> None:
    whole = {frame.index: frame for frame in VideoReader(clip)}
    part = list(VideoReader(clip, **options))
    assert 2 <= len(part) < len(whole)
    assert all(np.array_equal(frame.image, whole[frame.index].image) for frame in part)
    assert [frame.time for frame in part] == [whole[frame.index].time for frame in part]


def test_b_frames_in_avi_are_in_order_of_presentation(tmp_path: Path) -> None:
    path = clips.write(tmp_path / "a.avi", options={"bf": "2"})  # it stores times in the order of decoding
    frames = list(VideoReader(path))
    assert np.allclose([frame.time for frame in frames], np.arange(24) / 24)
    assert all(np.abs(frame.image.astype(int) - clips.image(frame.index)).mean() < 12 for frame in frames)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("degrees", [0, 90, 180, -90])
def test_frames_are_turned_upright(tmp_path: Path, degrees: int, mirrored: bool) -> None:
    path = clips.write(tmp_path / "a.mp4", frames=2, rotation=(degrees, mirrored))
    stored = clips.decoded(path)[0][1]
    turned = np.rot90(stored, degrees // 90)
    expected = turned[:, ::-1] if mirrored else turned
    info, first = video_info(path), next(iter(VideoReader(path))).image
    assert np.array_equal(first, expected)
    assert (info.width, info.height) == (first.shape[1], first.shape[0])
    assert mirrored or info.rotation == -degrees % 360


def test_seeking_gives_the_frames_of_reading_on(tmp_path: Path) -> None:
    options = {"bf": "2", "x264-params": "keyint=12:open-gop=1"}
    path = clips.write(tmp_path / "a.mp4", frames=100, options=options)
    whole = list(VideoReader(path))
    for first in (30, 47, 60, 71, 99):
        part = list(VideoReader(path, start_frame=first))
        assert [frame.index for frame in part] == list(range(first, 100))
        assert all(np.array_equal(frame.image, whole[frame.index].image) for frame in part)


def test_no_frame_is_repeated_at_a_higher_rate(tmp_path: Path) -> None:
    path = clips.write(tmp_path / "a.mkv", rate=30)  # its times are rounded to milliseconds
    assert [frame.index for frame in VideoReader(path, fps=30)] == list(range(24))
    assert [frame.index for frame in VideoReader(path, fps=100)] == list(range(24))


def test_the_frame_nearest_to_each_tick_is_picked(tmp_path: Path) -> None:
    path = clips.write(tmp_path / "a.mkv", milliseconds=clips.IRREGULAR, frames=20)
    times, fps = VideoReader(path).times, 5
    picked = [frame.index for frame in VideoReader(path, fps=fps)]
    ticks = np.arange(0, times[-1] + 0.02, 1 / fps)
    assert picked == sorted({int(np.abs(times - tick).argmin()) for tick in ticks})


def test_the_source_rate_is_followed(tmp_path: Path) -> None:
    path = clips.write(tmp_path / "a.mp4", frames=60, rate=30)
    assert len(VideoReader(path, fps=24)) == 48
    assert [frame.index for frame in VideoReader(path, fps=15)] == list(range(0, 60, 2))
    assert video_info(path).fps == 30
    assert video_info(path).duration == pytest.approx(2.0)


def test_one_frame_and_odd_sides(tmp_path: Path) -> None:
    info = video_info(clips.write(tmp_path / "a.mp4", frames=1))
    assert (info.frames, info.fps) == (1, 0.0)
    assert len(VideoReader(tmp_path / "a.mp4", fps=1)) == 1


@pytest.mark.parametrize(
    ("fit", "expected"), [("fit", (90, 160, 3)), ("fill", (120, 160, 3)), ("stretch", (120, 160, 3))]
)
def test_a_frame_is_scaled_by_areas(fit: str, expected: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (180, 320, 3), np.uint8)
    scaled = resize_frame(image, (160, 120), fit)  # type: ignore[arg-type]
    assert scaled.shape == expected
    if fit == "fit":
        mean = image.reshape(90, 2, 160, 2, 3).mean((1, 3))
        assert np.abs(scaled - mean).max() <= 0.5


def test_a_reader_scales_like_one_frame(tmp_path: Path) -> None:
    path = clips.write(tmp_path / "a.mp4", frames=2)
    whole, scaled = list(VideoReader(path)), list(VideoReader(path, size=(20, 20), fit="fill"))
    assert np.array_equal(scaled[1].image, resize_frame(whole[1].image, (20, 20), "fill"))


@pytest.mark.parametrize("options", [{"size": (0, 5)}, {"fps": 0}, {"fps": -1}])
def test_options_out_of_range_are_refused(tmp_path: Path, options: dict[str, float]) -> None:
    path = clips.write(tmp_path / "a.mp4", frames=2)
    with pytest.raises(InputError, match="expected"):
        VideoReader(path, **options)


def test_videos_are_known_by_name() -> None:
    assert is_video_name("a.MKV")
    assert is_video_name("b.gif")
    assert not is_video_name("c.png")


@pytest.mark.parametrize(("codec", "tag"), [("h264", "avc1"), ("mpeg4", "mp4v")])
@pytest.mark.parametrize("times", [None, (2.0, 2.5, 2.6, 3.4, 3.5)])
def test_a_written_video_has_its_frames_and_times(
    tmp_path: Path, codec: str, tag: str, times: tuple[float, ...] | None
) -> None:
    path, images = tmp_path / "out.mp4", [clips.image(index, 63, 47) for index in range(5)]
    with VideoWriter(path, 24, codec=codec) as writer:  # type: ignore[arg-type]
        for index, image in enumerate(images):
            writer.write(image, times[index] if times else None)
        assert not path.exists()
    frames = list(VideoReader(path))
    expected = np.array(times) - 2.0 if times else np.arange(5) / 24
    assert np.allclose([frame.time for frame in frames], expected, atol=1e-4)
    assert video_info(path).duration == pytest.approx(expected[-1] + 1 / 24, abs=1e-3)
    assert frames[0].image.shape == (48, 64, 3)  # even sides
    pairs = zip(frames, images, strict=True)
    errors = [np.abs(frame.image[24:47, :63].astype(int) - image[24:]) for frame, image in pairs]
    assert max(error.mean() for error in errors) < 4
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # plays before it is loaded
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_tag, stream.codec_context.pix_fmt) == (tag, "yuv420p")


def _write_and_fail(path: Path) -> None:
    with VideoWriter(path) as writer:
        writer.write(clips.image(0))
        msg = "stop"
        raise RuntimeError(msg)


def _write_two_sizes(path: Path) -> None:
    with VideoWriter(path) as writer:
        writer.write(clips.image(0))
        writer.write(clips.image(0, 32))


def test_an_unfinished_video_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="stop"):
        _write_and_fail(tmp_path / "a.mp4")
    with pytest.raises(InputError, match="no frames"), VideoWriter(tmp_path / "b.mp4"):
        pass
    with pytest.raises(InputError, match="expected frames of 64x48, found 32x48"):
        _write_two_sizes(tmp_path / "c.mkv")
    assert list(tmp_path.iterdir()) == []
