"""``video index``, ``search``, ``list``, ``delete``, ``cut`` and ``history``, as a user runs them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import clips
import numpy as np
import pytest

from naruto_vision.cli import main as cli
from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.gallery.content import GalleryRow
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.io.images import write_image
from naruto_vision.io.video import VideoReader, video_info
from naruto_vision.synthetic.attributes import Attributes
from naruto_vision.synthetic.captions import aliases
from naruto_vision.synthetic.scene import draw_image

Search: TypeAlias = Callable[..., dict[str, Any]]


def _caption(attributes: Attributes) -> str:
    return aliases(attributes)[1]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos of two shots each, indexed."""
    folder = tmp_path_factory.mktemp("episodes")
    clips.write_figures(folder / "in")
    argv = ["video", "index", str(folder / "in"), "--encoder", "tiny-clip", "--store", str(folder / "store")]
    assert cli.main(argv) == 0
    return folder


@pytest.fixture
def search(place: Path, capsys: pytest.CaptureFixture[str]) -> Search:
    def run(*options: str) -> dict[str, Any]:
        argv = [
            "video",
            "search",
            "--store",
            str(place / "store"),
            "--json",
            "--history",
            str(place / "h.jsonl"),
            *options,
        ]
        assert cli.main(argv) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    return run


def test_a_figure_is_found_by_its_description_with_files(search: Search, place: Path, tmp_path: Path) -> None:
    found = search("--text", _caption(clips.FIGURES[3]), "--out", str(tmp_path), "--clips")
    best = found["moments"][0]
    assert (best["video"], best["best"]["shot"]) == ("1.mp4", 1)
    assert (best["start"], best["end"]) == (1.5, pytest.approx(3.0, abs=0.2))
    folder = Path(found["out"])
    assert folder.parent == tmp_path
    clip = next((folder / "clips").glob("001_*"))
    shown = list(VideoReader(clip))[-1].image.astype(int)
    truth = list(VideoReader(place / "in" / "1.mp4"))[20].image.astype(int)
    assert np.abs(shown - truth).mean() < 3


def test_an_unrelated_text_finds_nothing_and_the_reference_rule_something(search: Search) -> None:
    none = search("--text", "the surface of the moon")
    assert (none["found"], none["moments"]) == (False, [])
    assert none["nearest"]
    assert search("--text", "the surface of the moon", "--threshold", "auto90")["found"]


def test_an_image_is_found_alone_and_with_a_text(search: Search, tmp_path: Path) -> None:
    write_image(tmp_path / "q.png", draw_image(clips.FIGURES[0], 0, 128).image[4:120, 4:124])
    alone = search("--image", str(tmp_path / "q.png"), "--top-k", "1")
    assert (alone["moments"][0]["video"], alone["moments"][0]["best"]["shot"]) == ("0.mp4", 0)
    both = ["--image", str(tmp_path / "q.png"), "--text", _caption(clips.FIGURES[3]), "--threshold", "-1"]
    firsts = [search(*both, "--text-weight", weight)["frames"][0]["video"] for weight in ("0.02", "1")]
    assert firsts == ["0.mp4", "1.mp4"]
    only = search("--image", str(tmp_path / "q.png"), "--video", "1.mp4", "--threshold", "-1")
    assert {hit["video"] for hit in only["frames"]} == {"1.mp4"}


def test_a_character_of_a_gallery_of_the_same_encoder(
    search: Search, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from naruto_vision.encoders.base import embed_images

    encoder = ClipEncoder("tiny-clip").eval()
    vectors = embed_images(encoder, [draw_image(clips.FIGURES[k], k, 128).image for k in (0, 2)]).numpy()
    rows = [GalleryRow("a.png", "Aya"), GalleryRow("b.png", "Ben")]
    Gallery.build(vectors, rows, fingerprint=encoder.fingerprint).save(tmp_path / "g")
    found = search("--character", "Ben", "--gallery", str(tmp_path / "g"), "--threshold", "0.5")
    assert (found["moments"][0]["video"], found["moments"][0]["best"]["shot"]) == ("1.mp4", 0)
    Gallery.build(vectors, rows, fingerprint="0" * 64).save(tmp_path / "other")
    argv = ["video", "search", "--character", "Ben", "--store", str(place / "store"), "--gallery"]
    assert cli.main([*argv, str(tmp_path / "other")]) == 2
    assert "or index the videos again, into another --store" in capsys.readouterr().err
    assert cli.main([*argv, str(tmp_path / "g"), "--character", "Cy"]) == 2
    assert "no character 'Cy'; there are: Aya, Ben" in capsys.readouterr().err


def test_queries_are_noted_and_listed(search: Search, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    search("--text", 'a "quoted" ナルト\n/ text')
    assert cli.main(["video", "history", "--history", str(place / "h.jsonl"), "--json", "-n", "1"]) == 0
    (line,) = json.loads(capsys.readouterr().out)
    assert line["query"] == 'a "quoted" ナルト\n/ text'
    assert line["store"] == str(place / "store")
    assert cli.main(["video", "history", "--history", str(place / "h.jsonl"), "-n", "1"]) == 0
    assert f"{line['threshold']:.3f} " in capsys.readouterr().out
    assert cli.main(["video", "history", "--history", str(place / "none.jsonl")]) == 0
    assert "no queries yet" in capsys.readouterr().out


def test_a_torn_line_of_the_history_is_dropped_and_a_wrong_one_is_named(
    search: Search, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    history = tmp_path / "h.jsonl"
    for text in ("one", "two"):
        search("--text", text, "--history", str(history))
        history.write_bytes(history.read_bytes() + b'{"query": "of a killed r')
    assert cli.main(["video", "history", "--history", str(history), "--json"]) == 0
    lines = json.loads(capsys.readouterr().out)
    assert [line["query"] for line in lines] == ["one", "two"]
    for wrong in ({**lines[0], "threshold": float("nan")}, {"query": "one"}, {**lines[0], "time": 3}):
        history.write_text(json.dumps(wrong) + "\n")
        for more in ([], ["--json"]):
            assert cli.main(["video", "history", "--history", str(history), *more]) == 2
            assert f"{history}: line 1" in capsys.readouterr().err


def test_videos_are_listed_and_deleted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = f"faiss:{tmp_path / 'store'}"
    argv = ["video", "index", str(place / "in"), "--encoder", "tiny-clip", "--windows", "0", "--store", store]
    assert cli.main(argv) == 0
    assert "2 videos indexed" in capsys.readouterr().out
    assert cli.main(argv) == 0
    assert "0 videos indexed" in (again := capsys.readouterr().out)
    assert "2 were there before" in again
    assert cli.main(["video", "list", "--store", store, "--json"]) == 0
    assert [(row["video"], row["entries"]) for row in json.loads(capsys.readouterr().out)] == [
        ("0.mp4", 2),
        ("1.mp4", 2),
    ]
    assert cli.main(["video", "list", "0.mp4", "--store", store, "--json"]) == 0
    assert [row["shot"] for row in json.loads(capsys.readouterr().out)] == [0, 1]
    assert cli.main(["video", "list", "1.mp4", "--store", store]) == 0
    assert " 1.500 " in capsys.readouterr().out  # where the second shot starts
    monkeypatch.setenv("COLUMNS", "40")
    assert cli.main(["video", "list", "1.mp4", "--store", store]) == 0
    assert "…" not in capsys.readouterr().out
    assert cli.main(["video", "delete", "0.mp4", "--store", store]) == 0
    assert cli.main(["video", "delete", "--all", "--store", store]) == 0
    capsys.readouterr()
    assert cli.main(["video", "list", "--store", store]) == 0
    assert "no videos" in capsys.readouterr().out
    assert cli.main(["video", "search", "--text", "x", "--store", store]) == 2
    assert "has no videos; index some" in capsys.readouterr().err


def test_a_part_is_cut_out(tmp_path: Path, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = [
        "video",
        "cut",
        str(place / "in" / "0.mp4"),
        "--start",
        "0:00.5",
        "--end",
        "1",
        "--out",
        str(tmp_path / "c"),
    ]
    assert cli.main([*argv, "--exact"]) == 0
    assert video_info(tmp_path / "c.mp4").frames == 4
    assert "4 frames" in capsys.readouterr().out
    assert cli.main([*argv[:-1], str(tmp_path / "d.mp4")]) == 0  # copied from the key frame before
    assert video_info(tmp_path / "d.mp4").frames > 4
    assert not (tmp_path / "d.mp4.mp4").exists()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["search"], "no query; give --text TEXT"),
        (["search", "a red hat"], "unrecognized arguments: a red hat; a text is given by --text, see"),
        (["search", "--text", "x", "--store", "absent"], "absent: no such vector store"),
        (["search", "--text", "x", "--threshold", "2"], "auto, auto90 or a number from -1 to 1"),
        (["search", "--text", "x", "--video", "9.mp4", "--store", "STORE"], "no collection '9.mp4'; there are: 0.mp4"),
        (["index", "absent.mp4", "--encoder", "tiny-clip"], "absent.mp4: no such video"),
        (["index", "VIDEO", "--key-frames", "9"], "1 to 3 key frames"),
        (["delete", "--store", "STORE"], "give the names of videos, or --all"),
        (["cut", "VIDEO", "--start", "5", "--end", "2", "--out", "c"], "--end: expected a time after --start"),
        (["cut", "VIDEO", "--start", "5", "--end", "9", "--out", "c"], "no frames from 5 s on; it lasts 3.000 s"),
        (["search", "--text", " ", "--store", "STORE"], "no query; give --text TEXT"),
    ],
)
def test_mistakes_are_one_line(
    argv: list[str], message: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    names = {"STORE": str(place / "store"), "VIDEO": str(place / "in" / "0.mp4")}
    assert cli.main(["video", *(names.get(word, word) for word in argv)]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in error
    assert error.startswith("naruto-vision: error: ")
