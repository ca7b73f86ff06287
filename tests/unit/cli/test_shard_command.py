"""``data shard`` from the command line: what it prints, what it leaves, and what it refuses."""

import json
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

from naruto_vision.cli.main import main
from naruto_vision.data.readers import read_present
from naruto_vision.data.shards import ShardList, ShardReader, SplitIndex, read_part, read_shards
from naruto_vision.errors import FormatError, InputError, MissingPathError
from naruto_vision.io.images import read_image, write_image

TRAIN = ("a/0.png", "a/1.png", "a/2.png", "b/0.png", "b/1.png")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Class folders of two splits, with images of different shapes; the working folder is beside them."""
    for split, names in (("train", TRAIN), ("valid", ("a/9.png", "b/9.png"))):
        for seed, name in enumerate(names):
            rng = np.random.default_rng([seed, len(split)])
            image = rng.integers(0, 256, (8 + seed, 20 - seed, 3), dtype=np.uint8)
            write_image(tmp_path / "cast" / split / name, image)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cast"


def shard(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    capsys.readouterr()
    assert main(["data", "shard", "cast", "--out", "shards", *words]) == code
    out, err = capsys.readouterr()
    return out if code == 0 else out + err


def state(folder: Path) -> dict[str, bytes]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def test_what_is_packed_is_told_with_how_to_use_it(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert shard(capsys) == (
        "7 of 7 images are in shards\n"
        "use them as any other data set: naruto-vision fit --config clip.yaml --data.root shards\n"
    )
    assert set(state(root.parent / "shards")) == {
        "shards.json",
        "quarantine.jsonl",
        *(f"{split}/{name}" for split in ("train", "valid") for name in ("index.json", f"{split}-000000.tar")),
        *(f"{split}/{split}-000000.json" for split in ("train", "valid")),
    }
    assert (root.parent / "shards" / "quarantine.jsonl").read_bytes() == b""


def test_the_shards_are_read_as_the_folders_were(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shard(capsys, "--size", "0")
    before, after = read_present(root), read_present("shards")
    for split in ("train", "valid"):
        assert after[split].rows == before[split].rows
        assert after[split].classes == before[split].classes == ("a", "b")
    reader = ShardReader(Path("shards/train"))
    for name in TRAIN:
        assert np.array_equal(reader.read(name), read_image(root / "train" / name))


@pytest.mark.usefixtures("root")
def test_images_are_scaled_down_to_their_longest_side_and_never_up(capsys: pytest.CaptureFixture[str]) -> None:
    shard(capsys, "--size", "12")
    shapes = {name: ShardReader(Path("shards/train")).read(name).shape[:2] for name in TRAIN}
    assert shapes["a/0.png"] == (5, 12)  # 8 x 20
    assert max(max(shape) for shape in shapes.values()) == 12
    shard(capsys, "--size", "64")
    assert ShardReader(Path("shards/train")).read("a/0.png").shape == (8, 20, 3)


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize(("size", "counts"), [(1, [1, 1, 1, 1, 1]), (2, [2, 2, 1]), (4, [4, 1]), (5, [5]), (99, [5])])
def test_shards_hold_as_many_images_as_asked_for(
    capsys: pytest.CaptureFixture[str], size: int, counts: list[int]
) -> None:
    shard(capsys, "--shard-size", str(size))
    index = read_part(Path("shards/train/index.json"), SplitIndex)
    assert [one.images for one in index.shards] == counts
    assert [one.name for one in index.shards] == [f"train-{n:06d}.tar" for n in range(len(counts))]
    assert set(ShardReader(Path("shards/train")).images) == set(TRAIN)


@pytest.mark.usefixtures("root")
def test_running_again_keeps_what_is_there_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    shard(capsys, "--shard-size", "2")
    before = state(Path("shards"))
    text = shard(capsys, "--shard-size", "2")
    assert "7 of 7 images are in shards; 4 shards were kept\n" in text
    assert state(Path("shards")) == before


def test_two_packings_of_the_same_images_are_equal_byte_for_byte(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shard(capsys, "--shard-size", "3")
    assert main(["data", "shard", "cast", "--out", "again", "--shard-size", "3"]) == 0
    assert state(root.parent / "again") == state(root.parent / "shards")


@pytest.mark.usefixtures("root")
def test_other_settings_pack_anew(capsys: pytest.CaptureFixture[str]) -> None:
    shard(capsys, "--shard-size", "2")
    assert "were kept" not in shard(capsys, "--shard-size", "2", "--size", "9")
    assert "were kept" not in shard(capsys, "--shard-size", "2", "--quality", "90")
    with tarfile.open("shards/train/train-000000.tar") as tar:
        assert sorted({Path(name).suffix for name in tar.getnames()}) == [".cls", ".jpg", ".json"]
    shard(capsys, "--shard-size", "99")
    assert sorted(path.name for path in Path("shards/train").glob("*.tar")) == ["train-000000.tar"]
    assert "were kept" in shard(capsys, "--shard-size", "99")


def test_a_changed_image_packs_its_own_shard_anew_and_no_other(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shard(capsys, "--shard-size", "1")
    write_image(root / "train" / "a" / "0.png", np.zeros((30, 30, 3), dtype=np.uint8))
    assert "6 shards were kept" in shard(capsys, "--shard-size", "1")
    assert not ShardReader(Path("shards/train")).read("a/0.png").any()


def test_a_member_tells_its_class_and_where_it_came_from(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shard(capsys)
    assert root.is_dir()
    with tarfile.open("shards/train/train-000000.tar") as tar:
        members = {member.name: member for member in tar}
        read = {name: tar.extractfile(member) for name, member in members.items()}
        texts = {name: file.read() for name, file in read.items() if file is not None}
    assert len(members) == 15
    assert all((member.mtime, member.uid, member.uname) == (0, 0, "") for member in members.values())
    for name in (name for name in texts if name.endswith(".json")):
        told = json.loads(texts[name])
        assert int(texts[name.replace(".json", ".cls")]) == "ab".index(told["labels"][0])
        assert told["path"].startswith(told["labels"][0])


def test_bad_images_are_set_aside_by_name(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "train" / "a" / "1.png").write_bytes(b"no image")
    text = shard(capsys, "--max-bad-fraction", "0.2")
    assert "6 of 7 images are in shards; 1 could not be read, see quarantine.jsonl\n" in text
    (line,) = Path("shards/quarantine.jsonl").read_text().splitlines()
    assert json.loads(line)["path"] == "a/1.png"
    assert "a/1.png" not in ShardReader(Path("shards/train")).images
    assert "2 shards were kept" in shard(capsys, "--max-bad-fraction", "0.2")  # and the bad one is still told
    assert len(Path("shards/quarantine.jsonl").read_text().splitlines()) == 1


def test_too_many_bad_images_stop_and_leave_nothing_to_read(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in TRAIN[:3]:
        (root / "train" / name).write_bytes(b"no image")
    text = shard(capsys, "--max-bad-fraction", "0.2", code=2)
    assert "3 of 5 images cannot be read, more than the 20% that may be unreadable" in text
    assert not Path("shards/train/index.json").exists()
    assert len(Path("shards/quarantine.jsonl").read_text().splitlines()) == 3


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--shard-size", "0"), "at least 1 image per shard"),
        (("--quality", "101"), "a quality of 0 to 100"),
        (("--size", "-1"), "expected a whole number of 0 or more, found '-1'"),
        (("--max-bad-fraction", "1.5"), "expected a number from 0 to 1, found '1.5'"),
        (("--labels", "c"), "no class c; there are a, b"),
        (("--reader", "roboflow"), "no class data of split 'train'"),
    ],
)
def test_wrong_words_pack_nothing(capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str) -> None:
    capsys.readouterr()
    try:
        code = main(["data", "shard", "cast", "--out", "shards", *words])
    except SystemExit as stop:  # argparse's own refusals
        code = int(stop.code or 0)
    assert code == 2
    assert message in capsys.readouterr().err
    assert not Path("shards").exists()


def test_a_folder_of_something_else_is_left_alone(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root.parent / "shards").mkdir()
    (root.parent / "shards" / "diary.txt").write_text("mine")
    assert "shards: is not empty and has no shards; give another --out" in shard(capsys, code=2)
    assert state(root.parent / "shards") == {"diary.txt": b"mine"}


@pytest.mark.usefixtures("root")
def test_classes_are_chosen_and_mended_on_the_way(capsys: pytest.CaptureFixture[str]) -> None:
    assert "4 of 4 images" in shard(capsys, "--rename", "a=Koba", "--labels", "Koba")
    assert {split: table.counts() for split, table in read_present("shards").items()} == {
        "train": {"Koba": 3},
        "valid": {"Koba": 1},
    }


@pytest.mark.usefixtures("root")
def test_shards_can_be_packed_from_shards(capsys: pytest.CaptureFixture[str]) -> None:
    shard(capsys, "--size", "0")
    assert main(["data", "shard", "shards", "--out", "small", "--size", "6"]) == 0
    assert read_present("small")["train"].rows == read_present("cast")["train"].rows
    assert max(ShardReader(Path("small/train")).read("a/0.png").shape) == 6


def _change(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("index.json", {"format": 2}, "in format"),
        ("index.json", {"classes": 3}, "in classes a list, found 3"),
        ("index.json", {"shards": [{}]}, r"in shards\[0\] an object with 'name'"),
        (
            "index.json",
            {"shards": [{"name": "x.tar", "bytes": 1, "images": 1}]},
            r"x\.tar: expected 1 bytes, found 0",
        ),
        ("train-000000.json", {"format": None}, "in format"),
        ("train-000000.json", {"images": 7}, "in images a list, found 7"),
        ("train-000000.json", {"images": [["a"]]}, r"in images\[0\]"),
        ("train-000000.json", {"images": []}, "5 images inside"),
        ("train-000000.json", {"images": [["a", ["a"], 10**9, 1]] * 5}, "5 images inside"),
    ],
)
def test_an_index_that_says_something_else_is_refused_by_file(
    capsys: pytest.CaptureFixture[str], name: str, values: dict[str, object], words: str
) -> None:
    shard(capsys)
    _change(Path("shards/train") / name, **values)
    with pytest.raises(FormatError, match=words) as caught:
        read_shards("shards/train")
    assert "shards/train/" in str(caught.value)


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize("name", ["index.json", "train-000000.json", "train-000000.tar"])
def test_a_part_that_is_gone_says_how_to_make_it_again(capsys: pytest.CaptureFixture[str], name: str) -> None:
    shard(capsys)
    (Path("shards/train") / name).unlink()
    with pytest.raises(InputError, match=r"make the shards again with `naruto-vision data shard`") as caught:
        read_shards("shards/train")
    assert name in str(caught.value)


def test_lists_of_images_are_read_or_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingPathError, match="part of a folder of shards"):
        read_part(tmp_path / "none.json", ShardList)
    for text in ("", "[", "3", "[]", "null"):
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(FormatError, match=r"x\.json"):
            read_part(tmp_path / "x.json", ShardList)


def test_packing_waits_for_no_lightning() -> None:
    """It takes several seconds to import, more than all else together, and packing trains nothing."""
    code = "import sys, naruto_vision.data.shards; print('lightning' in sys.modules, 'timm' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["False", "False"]
