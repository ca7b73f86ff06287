"""The tab Video: indexing into two stores, searching both, thumbnails of moments, clips and the command's files."""

import json
from pathlib import Path
from typing import Any

import clips
import numpy as np
import pytest

from naruto_vision.cli.main import main
from naruto_vision.encoders.base import embed_images
from naruto_vision.encoders.ensemble import ClipEnsemble
from naruto_vision.errors import InputError
from naruto_vision.gallery.content import GalleryRow
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.gallery.vector_store import open_store
from naruto_vision.io.images import read_image, write_image
from naruto_vision.io.video import VideoReader, video_info
from naruto_vision.synthetic.captions import aliases
from naruto_vision.synthetic.scene import draw_image
from naruto_vision.ui.engine import CancelledError
from naruto_vision.ui.models import Models
from naruto_vision.ui.tasks import videos
from naruto_vision.video.search import search_videos

TEXT = aliases(clips.FIGURES[3])[1]


class Steps(list[Any]):
    """What a job has reported."""

    def __call__(self, done: int, total: int, news: Any = None) -> None:
        assert 0 <= done <= total
        self.append((done, total, news))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video in the server's store, and one in that of a session; two shots of a figure each."""
    folder = tmp_path_factory.mktemp("videos")
    clips.write_figures(folder / "in")
    return folder


@pytest.fixture(scope="module")
def own(place: Path) -> str:
    return f"faiss:{place / 'session'}"


@pytest.fixture(scope="module")
def models(place: Path, own: str) -> Models:
    """With both videos indexed."""
    models, steps = Models({}, ("tiny-sam",), f"faiss:{place / 'store'}"), Steps()
    with pytest.raises(InputError, match="none are indexed yet"):
        videos.search(models, own=own, text="a girl")
    assert videos.banks(models, own=own) == []
    paths = [str(place / "in" / f"{number}.mp4") for number in range(2)]
    done = videos.index(models, steps, uploaded=paths[1:], others=paths[:1], frames=48, own=own, out="")
    assert set(done["videos"]) == {"0.mp4", "uploads/1.mp4"}
    assert (done["skipped"], done["lost"]) == ([], {})
    assert (steps[-1][:2], steps[0][1]) == ((48, 48), 48)
    assert [done for done, _, _ in steps] == sorted(done for done, _, _ in steps)
    return models


def test_videos_of_both_stores_are_listed_and_are_not_indexed_twice(models: Models, own: str, place: Path) -> None:
    assert [each["name"] for each in videos.banks(models, own=own)] == ["0.mp4", "uploads/1.mp4"]
    assert all(each["entries"] > 0 for each in videos.banks(models, own=own))
    path = str(place / "in" / "0.mp4")
    done = videos.index(models, Steps(), uploaded=[], others=[path], frames=24, own=own, out="")
    assert done["skipped"] == ["0.mp4"]


def test_a_text_finds_the_moment_of_its_figure_as_the_command_does(models: Models, own: str, place: Path) -> None:
    found = videos.search(models, own=own, text=TEXT)
    best = found["moments"][0]
    assert (best["video"], best["best"]["shot"]) == ("uploads/1.mp4", 1)
    assert TEXT in found["query"]
    assert "moments" in found["sentence"]
    assert {hit["video"] for hit in found["nearest"]} == {"0.mp4", "uploads/1.mp4"}
    store = place / "together"
    assert main(["video", "index", str(place / "in"), "--store", str(store)]) == 0
    with open_store(str(store)) as opened:
        expected = search_videos(opened, texts=[TEXT], top_k=20).as_json()
    assert found["threshold"] == expected["threshold"]
    assert [each["start"] for each in found["moments"]] == [each["start"] for each in expected["moments"]]


def test_an_image_and_chosen_videos_limit_the_search(models: Models, own: str, tmp_path: Path) -> None:
    write_image(tmp_path / "asked.png", draw_image(clips.FIGURES[0], 0, 128).image)
    found = videos.search(models, own=own, path=str(tmp_path / "asked.png"), videos=["0.mp4"])
    assert found["query"] == "asked.png"
    assert [(each["video"], each["best"]["shot"]) for each in found["moments"]] == [("0.mp4", 0)]
    assert {hit["video"] for hit in found["nearest"]} == {"0.mp4"}
    with pytest.raises(InputError, match=r"there is no 'gone\.mp4'; there are: 0\.mp4, uploads/1\.mp4"):
        videos.search(models, own=own, text="a girl", videos=["gone.mp4"])
    with pytest.raises(InputError, match="no query"):
        videos.search(models, own=own, text="  ")


def test_a_character_of_a_gallery_is_found(models: Models, own: str, tmp_path: Path) -> None:
    encoder = ClipEnsemble().eval()
    vectors = embed_images(encoder, [draw_image(clips.FIGURES[2], 2, 128).image]).numpy()
    rows = [GalleryRow("ann/0.png", "ann")]
    note = {"encoder": dict(encoder.recipe)}
    Gallery.build(vectors, rows, fingerprint=encoder.fingerprint, note=note).save(tmp_path / "gallery")
    gallery = str(tmp_path / "gallery")
    found = videos.search(models, own=own, character="ann", gallery=gallery, top_k=1)
    assert [(each["video"], each["best"]["shot"]) for each in found["moments"]] == [("uploads/1.mp4", 0)]
    with pytest.raises(InputError, match="no character 'bob'"):
        videos.search(models, own=own, character="bob", gallery=gallery)


def test_queries_are_noted_as_the_command_notes_them(
    models: Models, own: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    history = tmp_path / "history.jsonl"
    found = videos.search(models, own=own, text=TEXT, videos=["uploads/1.mp4"], history=str(history))
    capsys.readouterr()
    assert main(["video", "history", "--history", str(history), "--json"]) == 0
    (line,) = json.loads(capsys.readouterr().out)
    assert (line["query"], line["text"], line["image"], line["character"]) == (TEXT, [TEXT], [], None)
    assert (line["moments"], line["video"]) == (len(found["moments"]), ["uploads/1.mp4"])


def test_thumbnails_are_frames_and_say_how_to_play_them(models: Models, own: str, place: Path, tmp_path: Path) -> None:
    steps = Steps()
    videos.thumbnails(models, steps, own=own, frames={"0.mp4": [20, 3], "uploads/1.mp4": [0]}, out=str(tmp_path))
    first, second = (news for _, _, news in steps if news)
    assert (first["video"], second["video"]) == ("0.mp4", "uploads/1.mp4")
    assert sorted(first["files"]) == [3, 20]
    assert (first["seconds"], first["plays"]) == (pytest.approx(3.0, abs=0.2), True)
    frames = [frame.image.astype(int) for frame in VideoReader(place / "in" / "0.mp4")]
    for index, name in first["files"].items():
        assert np.abs(read_image(tmp_path / name).astype(int) - frames[index]).mean() < 6
    assert np.abs(frames[3] - frames[20]).mean() > 10


def test_a_video_that_is_gone_is_an_error_of_its_own(place: Path, tmp_path: Path) -> None:
    path, uri = clips.write(tmp_path / "gone.mp4"), f"faiss:{tmp_path / 'store'}"
    models = Models({}, ("tiny-sam",), "faiss:none")
    videos.index(models, Steps(), uploaded=[str(path)], others=[], frames=24, own=uri, out="")
    path.unlink()
    steps = Steps()
    videos.thumbnails(models, steps, own=uri, frames={"uploads/gone.mp4": [0]}, out=str(tmp_path / "out"))
    assert "no longer where it was indexed" in steps[-1][2]["error"]
    assert str(place) not in steps[-1][2]["error"]


def test_other_codecs_are_not_played_as_they_are_but_as_clips(tmp_path: Path) -> None:
    path, uri = clips.write(tmp_path / "old.mp4", "mpeg4"), f"faiss:{tmp_path / 'store'}"
    models, steps = Models({}, ("tiny-sam",), "faiss:none"), Steps()
    videos.index(models, Steps(), uploaded=[str(path)], others=[], frames=24, own=uri, out="")
    videos.thumbnails(models, steps, own=uri, frames={"uploads/old.mp4": [5]}, out=str(tmp_path / "out"))
    assert steps[-1][2]["plays"] is False
    made = videos.clip(models, Steps(), own=uri, video="uploads/old.mp4", start=0.25, end=0.75, out=str(tmp_path / "c"))
    info = video_info(made)
    assert (info.codec, info.frames) == ("h264", 12)
    with pytest.raises(InputError, match=r"there is no 'other\.mp4'"):
        videos.clip(models, Steps(), own=uri, video="other.mp4", start=0, end=1, out=str(tmp_path / "c"))


def test_export_writes_the_files_of_the_command(models: Models, own: str, tmp_path: Path) -> None:
    steps = Steps()
    query = {"text": TEXT, "path": "", "character": "", "gallery": "", "videos": [], "top_k": 1}
    folder = Path(videos.export(models, steps, own=own, out=str(tmp_path), **query))
    assert folder.parent == tmp_path
    assert [done for done, _, _ in steps] == [0, 1, 2]
    names = {path.relative_to(folder).parts[0] for path in folder.rglob("*")}
    assert {"clips", "moments.json", "moments.csv", "moments.edl", "index.html", "all_moments.mp4"} <= names
    assert len(list((folder / "clips").iterdir())) == 1


def test_an_indexing_is_cancelled_and_continued(tmp_path: Path) -> None:
    path, uri = clips.write(tmp_path / "long.mp4", frames=24), f"faiss:{tmp_path / 'store'}"
    models = Models({}, ("tiny-sam",), "faiss:none")

    def stop(_done: int, _total: int, _news: Any = None) -> None:
        raise CancelledError

    with pytest.raises(CancelledError):
        videos.index(models, stop, uploaded=[str(path)], others=[], frames=24, own=uri, out="")
    done = videos.index(models, Steps(), uploaded=[str(path)], others=[], frames=24, own=uri, out="")
    assert (list(done["videos"]), done["skipped"]) == (["uploads/long.mp4"], [])


def test_a_video_is_opened_before_it_is_taken(models: Models, tmp_path: Path) -> None:
    facts = videos.check(models, path=str(clips.write(tmp_path / "good.mp4")))
    assert facts == {"frames": 24, "width": clips.WIDTH, "height": clips.HEIGHT}
    (tmp_path / "bad.mp4").write_bytes(b"no video at all")
    with pytest.raises(InputError, match=r"bad\.mp4: "):
        videos.check(models, path=str(tmp_path / "bad.mp4"))
