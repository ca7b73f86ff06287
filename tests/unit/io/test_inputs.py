"""What users name for ``predict``: files, folders, patterns and lists, each image once and under a stable path."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from naruto_vision.cli.main import main
from naruto_vision.cli.trainer_args import expand_argv
from naruto_vision.data.scenes import SceneDataset
from naruto_vision.errors import InputError, MissingPathError
from naruto_vision.io.images import write_image
from naruto_vision.io.inputs import ImageNames, find_images

ROOT = Path(__file__).parents[3]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("a/1.png", "a/2.jpg", "a/deep/1.png", "b/1.png", "b/[x] 1.png"):
        write_image(tmp_path / name, np.zeros((4, 4, 3), np.uint8))
    (tmp_path / "empty").mkdir()
    (tmp_path / "b/notes.txt").write_text("no image")
    (tmp_path / "names.txt").write_bytes(b"\xef\xbb\xbfa/1.png\r\n\nb/[x] 1.png\r\n")
    (tmp_path / "b/near.txt").write_text("1.png\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("sources", "root", "names"),
    [
        ("a", "a", ["1.png", "2.jpg", "deep/1.png"]),
        ("a/1.png", "a", ["1.png"]),
        (["a/1.png", "a/2.jpg"], "a", ["1.png", "2.jpg"]),
        (["a", "a/1.png", "./a/../a/2.jpg"], "a", ["1.png", "2.jpg", "deep/1.png"]),
        (["a/deep", "b"], "", ["a/deep/1.png", "b/1.png", "b/[x] 1.png"]),
        ("*/1.png", "", ["a/1.png", "b/1.png"]),
        ("a/**/1.png", "a", ["1.png", "deep/1.png"]),
        (["b/[x] 1.png"], "b", ["[x] 1.png"]),
        ("@names.txt", "", ["a/1.png", "b/[x] 1.png"]),
        (["@names.txt", "a/deep"], "", ["a/1.png", "a/deep/1.png", "b/[x] 1.png"]),
        ("@b/near.txt", "b", ["1.png"]),
        ("a/1.png\na/2.jpg", "a", ["1.png", "2.jpg"]),
        (Path("b"), "b", ["1.png", "[x] 1.png"]),
    ],
)
def test_each_image_is_found_once_below_the_common_folder(
    here: Path, sources: ImageNames, root: str, names: list[str]
) -> None:
    found = find_images(sources)
    assert (found.root.absolute(), list(found.names), dict(found.refused)) == (here / root, names, {})
    assert find_images([str(here / each) for each in sorted(names)] if root == "" else sources).names == found.names


def test_a_folder_named_alone_stays_the_folder_of_its_scenes(here: Path) -> None:
    (here / "set").mkdir()
    (here / "a").rename(here / "set/images")
    found = find_images("set")
    assert (found.folder, found.root, found.names[0]) == (Path("set"), Path("set/images"), "1.png")
    assert find_images(["set", "b"]).folder is None


def test_what_is_missing_costs_the_others_nothing(here: Path) -> None:
    items = list(SceneDataset(["b/notes.txt", "a/1.png", "gone.png", "no/*.png", "empty"]))
    assert [item.scene for item in items if item.image is not None] == ["a/1.png"]
    assert sorted(item.error for item in items if item.image is None) == [
        f"{here}/b/notes.txt: not an image of a format that is read (JPEG, PNG, WEBP, BMP, GIF, TIFF, AVIF)",
        "empty: no images in this folder",
        "gone.png: no such image or folder",
        "no/*.png: no such image or folder",
    ]
    assert not [item.scene for item in items if item.error and not (here / item.scene).is_absolute()]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["gone.png"], "gone.png: no such image or folder"),
        (["gone.png", "*.gif"], "none of 2 images can be read; first gone.png: no such image or folder"),
        (["b/notes.txt"], "{here}/b/notes.txt: not an image of a format that is read"),
        (["b/notes.txt", "gone.png"], "none of 2 images can be read; first gone.png: no such"),
        (["@gone.txt"], "gone.txt: no such list of images"),
        (["--list", "gone.txt"], "gone.txt: no such list of images"),
        (["--list"], "--list FILE: a value is missing"),
        (["@empty.txt"], "empty.txt: lists no images; expected a name per line"),
        (["empty"], "empty: no images in it"),
    ],
)
def test_nothing_to_read_is_one_line_before_torch(
    here: Path, names: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "empty.txt").write_text("\n\n")
    assert main(["predict", *names]) == 2
    assert capsys.readouterr().err.startswith(f"naruto-vision: error: {message.format(here=here)}")


def test_the_check_imports_no_torch(here: Path) -> None:
    code = "import sys; from naruto_vision.cli.trainer_args import check_scenes as check; check(sys.argv[1:])"
    command = [sys.executable, "-c", f"{code}; print(*sys.modules)", str(here / "a"), str(here / "b")]
    done = subprocess.run(command, capture_output=True, check=True, text=True, cwd=ROOT)
    assert not {"torch", "lightning"} & set(done.stdout.split())


def found_by(argv: list[str]) -> tuple[list[str], list[str]]:
    """Return the names that reach the data module, and the other arguments."""
    expanded = expand_argv("predict", argv)
    (option,) = [each for each in expanded if each.startswith("--data.predict=")]
    (names,) = json.loads(option.partition("=")[2])
    rest = [each for each in expanded[1:] if each != option and not each.endswith("scenes.yaml") and each != "--config"]
    return names.split("\n"), rest


@pytest.mark.parametrize(
    "argv",
    [
        ["a/1.png", "a/2.jpg", "--fail-fast", "--out", "o"],
        ["--fail-fast", "--out", "o", "a/1.png", "a/2.jpg"],
        ["a/1.png", "--fail-fast", "a/2.jpg", "--out", "o"],
        ["--fail-fast", "--data.predict", "a/1.png", "--out", "o", "--", "a/2.jpg"],
        ["--fail-fast", "--out", "o", "--data.predict=[a/1.png, a/2.jpg]"],
    ],
)
@pytest.mark.usefixtures("here")
def test_options_stand_anywhere(argv: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("naruto_vision.cli.trainer_args.check_gallery", str)
    assert found_by(argv) == (["a/1.png", "a/2.jpg"], ["--fail_fast=true", "--out", "o"])


@pytest.mark.parametrize("data", [b"a/1.png\nb/1.png\n", b"a/1.png\0b/1.png\0", b"a/1.png\r\n\r\nb/1.png"])
@pytest.mark.usefixtures("here")
def test_names_come_from_standard_input(data: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("naruto_vision.cli.trainer_args.check_gallery", str)
    (tmp_path / "stdin").write_bytes(data)
    with (tmp_path / "stdin").open() as stream:
        monkeypatch.setattr("sys.stdin", stream)
        assert found_by(["-"])[0] == ["a/1.png", "b/1.png"]


def test_a_name_that_is_not_unicode_becomes_a_pattern(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("naruto_vision.cli.trainer_args.check_gallery", str)
    name = "a/caf\udce9.png"
    (here / name).write_bytes((here / "a/1.png").read_bytes())
    names, _ = found_by([name])
    assert find_images(names).names == ("caf\udce9.png",)


def test_a_list_that_is_missing_is_named_in_python_too() -> None:
    with pytest.raises(MissingPathError, match=r"gone\.txt: no such list"):
        find_images("@gone.txt")
    with pytest.raises(InputError, match="no images are named"):
        find_images([])
