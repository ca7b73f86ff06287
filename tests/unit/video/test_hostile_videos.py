"""Files and names that another hand made: an error of one line, and nothing outside the output changes."""

import json
import os
from pathlib import Path
from typing import Any

import clips
import numpy as np
import pytest

from naruto_vision.cli.main import main
from naruto_vision.errors import InputError, NarutoVisionError
from naruto_vision.gallery.vector_store import Hit, collection_key, info_text, open_store
from naruto_vision.io.video import VideoReader, VideoWriter
from naruto_vision.io.video_process import cut_video
from naruto_vision.recognition.writer import LOG, vector_text
from naruto_vision.video.frames import FrameChoice, extract_frames, read_frames
from naruto_vision.video.index import DONE
from naruto_vision.video.search import FrameHit
from naruto_vision.video.track_files import SearchedVideo, write_tracks
from naruto_vision.viz.timeline import draw_timeline


@pytest.fixture(name="clip")
def _clip(tmp_path: Path) -> Path:
    return clips.write(tmp_path / "clip.mp4", frames=12)


def test_a_cut_does_not_replace_its_video(clip: Path) -> None:
    before = clip.read_bytes()
    for exact in (False, True):
        with pytest.raises(InputError, match="is the video that is cut"):
            cut_video(clip, 0, 0.2, clip.with_suffix(""), exact=exact)
    assert clip.read_bytes() == before


def test_names_with_colons_are_files_and_no_protocols(clip: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    with VideoWriter("a:b/http:c.mp4", fps=10) as writer:
        for frame in VideoReader(clip):
            writer.write(frame.image)
    assert VideoReader("a:b/http:c.mp4").info.frames == 12
    assert cut_video("a:b/http:c.mp4", 0, 0.5, "a:b/x:y") == Path("a:b/x:y.mp4")


def test_times_that_no_video_has_take_no_memory_and_no_time(tmp_path: Path) -> None:
    far = clips.write(tmp_path / "far.mkv", milliseconds=[0, 40, 4_000_000_000_000], frames=3)
    reader = VideoReader(far, fps=1000)
    assert len(reader) == reader.info.frames == 3
    assert reader.info.duration < 10
    long = VideoReader(clips.write(tmp_path / "long.mkv", milliseconds=[0, 40, 9_000_000_000], frames=3), fps=1000)
    assert long.indices.tolist() == [0, 1, 2]
    assert draw_timeline("long", {"x" * 50_000: [(0.0, 1e9)]}, {}, 1e12, [], {}).shape[2] == 3


def test_leftovers_of_others_stay(clip: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "out" / "work" / ".tmp-theirs"
    foreign.mkdir(parents=True)
    (tmp_path / "out" / ".tmp-frame_000001.png").write_bytes(b"half")
    extract_frames(VideoReader(clip), tmp_path / "out", FrameChoice())
    assert foreign.exists()
    assert not list((tmp_path / "out").glob(".tmp-frame*"))


@pytest.mark.parametrize(
    "row", ["a.png,0,nan", "a.png,0,1e300", "a.png,0,-1", "\0.png,0,0", f"{'x' * 200_000},0,0", "a.png,x,0", "a.png,0"]
)
def test_damaged_lists_of_frames_are_refused(tmp_path: Path, row: str) -> None:
    (tmp_path / "frames.csv").write_text(f"file,frame,time\n{row}\n")
    with pytest.raises(InputError, match=r"frames\.csv: expected"):
        read_frames(tmp_path)


def test_folders_that_are_no_collections_are_not_deleted(tmp_path: Path) -> None:
    note = info_text("w", {"dim": 2})
    for name in ("theirs", collection_key("w")):
        (tmp_path / "elsewhere" / name).mkdir(parents=True)
        (tmp_path / "elsewhere" / name / "collection.json").write_text(note)
    (tmp_path / "store" / "theirs").mkdir(parents=True)
    (tmp_path / "store" / "theirs" / "collection.json").write_text(note)
    link = tmp_path / "store" / collection_key("w")
    link.symlink_to(tmp_path / "elsewhere" / link.name)
    assert main(["video", "delete", "--all", "--store", str(tmp_path / "store")]) == 0
    assert not link.is_symlink()
    assert len(list(tmp_path.rglob("collection.json"))) == 3


def test_reading_makes_no_store_of_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.db").mkdir()
    (tmp_path / "mine.db" / "diary.txt").write_text("")
    assert main(["video", "list", "--store", f"chroma:{tmp_path}"]) == 2
    assert "no such vector store" in capsys.readouterr().err
    pytest.importorskip("pymilvus")
    assert main(["video", "list", "--store", f"milvus:{tmp_path / 'mine.db'}"]) == 2
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["diary.txt", "mine.db"]


def test_a_stopped_copy_is_not_done_and_encoders_are_not_mixed(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("naruto_vision.gallery.vector_store.BATCH", 1)
    with open_store(str(tmp_path / "from")) as store:
        made = store.create("v", {"dim": 2, "fingerprint": "one"})
        made.add(["a", "b"], np.eye(2, dtype=np.float32), [{DONE: 1}, {}])
        copied: list[str] = []
        monkeypatch.setattr(type(made), "_publish", lambda _own, part, _rows: copied.extend(dict(part["added"])))
    assert main(["video", "copy", "--store", str(tmp_path / "from"), "--to", str(tmp_path / "to")]) == 0
    assert copied == ["b", "a"]
    with open_store(str(tmp_path / "other")) as store:
        store.create("w", {"dim": 2, "fingerprint": "two"})
    assert main(["video", "copy", "--store", str(tmp_path / "from"), "--to", str(tmp_path / "other")]) == 2


@pytest.mark.parametrize(
    "change",
    [{"frame": 1e400}, {"frame": -1}, {"frame": 2**40}, {"time": float("nan")}, {"end": 1e300}, {"video": "\0"}],
)
def test_entries_that_the_index_did_not_write_are_refused(change: dict[str, Any]) -> None:
    facts = {"frame": 1, "shot": 0, "time": 0.0, "start": 0.0, "end": 1.0, "video": "a.mp4"}
    assert FrameHit.from_entry("v", Hit("x", 0.5, facts)).frame == 1
    with pytest.raises(InputError, match="index the video again"):
        FrameHit.from_entry("v", Hit("x", 0.5, facts | change))


@pytest.mark.parametrize(
    "change",
    [
        {"vector": "!!!"}, {"vector": "QQ=="}, {"vector": vector_text(np.ones(3, np.float32))},
        {"vector": vector_text(np.full(2, np.nan, np.float32))}, {"score": float("nan")},
        {"bbox": [0, 0, 10**30, 1]}, {"bbox": [0, 0, 2**62, 1]}, {"bbox": "x"},
    ],
)  # fmt: skip
def test_damaged_logs_of_regions_are_refused(clip: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    good = {"bbox": [0, 0, 9, 9], "label": "Mira", "name": "Mira", "score": 0.5, "p_value": None, "shown": True}
    good["vector"] = vector_text(np.array([1, 0], np.float32))
    lines = [{"scene": f"clip.mp4/{k}", "regions": [region]} for k, region in enumerate((good, good | change))]
    (tmp_path / LOG).write_text("".join(json.dumps(line) + "\n" for line in lines))
    video = SearchedVideo(clip, {"clip.mp4/0": 0, "clip.mp4/1": 3}, 3.0, 12)
    with pytest.raises(NarutoVisionError, match=LOG):
        write_tracks(tmp_path, {"clip.mp4": video}, {}, annotate=False)


_SCENE, _BOX = "clip.mp4/frame_000000", {"track": 1, "label": "M", "bbox": [0, 0, 9, 9]}
_TRACK = {"video": "clip.mp4", "id": 1, "name": "M", "frames": [0], "boxes": [[0, 0, 9, 9]], "frame_names": ["M"]}


@pytest.mark.parametrize(
    ("scene", "track", "boxes"),
    [
        (_SCENE.replace("frame", "image"), _TRACK, [_BOX]),
        (_SCENE.replace("0", "9" * 900), _TRACK, [_BOX]),
        (_SCENE, _TRACK | {"boxes": []}, [_BOX]),
        (_SCENE, _TRACK | {"frames": [0, 0], "boxes": [[0, 0, 9, 9]] * 2, "frame_names": ["M"] * 2}, [_BOX]),
        (_SCENE, _TRACK, [_BOX, _BOX]),
    ],
)
def test_damaged_tracks_and_truth_are_refused(tmp_path: Path, scene: str, track: object, boxes: object) -> None:
    (tmp_path / LOG).write_text(json.dumps({"scene": scene}) + "\n")
    (tmp_path / "tracks.jsonl").write_text(json.dumps(track) + "\n")
    (tmp_path / "truth.json").write_text(json.dumps({"cuts": [], "frames": [boxes]}))
    assert main(["evaluate", "tracks", "--gt", str(tmp_path / "truth.json"), "--preds-dir", str(tmp_path)]) == 2


@pytest.mark.parametrize("option", ["--start", "--end", "--stall"])
def test_endless_times_are_refused(clip: Path, option: str) -> None:
    assert main(["video", "info", str(clip), option, f"{'9' * 400}:00"]) == 2


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_pipes_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "frames.csv")
    with pytest.raises(InputError, match="a pipe"):
        read_frames(tmp_path)
