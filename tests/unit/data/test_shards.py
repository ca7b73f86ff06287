"""Shards give what the folder gives: the same images, labels, order and length, in any number of processes."""

import hashlib
import json
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from naruto_vision.cli.main import main
from naruto_vision.data.class_data import ClassDataModule
from naruto_vision.data.readers import read_present
from naruto_vision.data.shards import ShardPlan, ShardReader, read_shards
from naruto_vision.data.tables import ReadRules, Split
from naruto_vision.errors import FormatError, InputError, MissingPathError
from naruto_vision.io.images import decode_image, read_image, shrink, write_image
from naruto_vision.records import ImageArray

COUNTS: dict[Split, dict[str, int]] = {"train": {"Ada": 9, "Bo": 5, "Cy": 3}, "valid": {"Ada": 2, "Bo": 1, "Cy": 1}}
SIDE = 24


@pytest.fixture
def root(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for split, classes in COUNTS.items():
        for name, count in classes.items():
            for number in range(count):
                image = rng.integers(0, 256, (48, 36, 3)).astype(np.uint8)
                write_image(tmp_path / "data" / split / name / f"a.b.{number}.jpg", image)
    return tmp_path / "data"


def _pack(root: Path, out: Path, *more: str) -> int:
    return main(["data", "shard", str(root), "--out", str(out), "--size", str(SIDE), "--shard-size", "4", *more])


def _plain(image: ImageArray) -> torch.Tensor:
    side = np.zeros((3, SIDE, SIDE), dtype=np.float32)
    side[:, : image.shape[0], : image.shape[1]] = image.transpose(2, 0, 1)
    return torch.from_numpy(side)


def _batches(root: Path, rank: int = 0, world: int = 1, **options: Any) -> list[tuple[torch.Tensor, list[str]]]:
    given: dict[str, Any] = {"batch_size": 4, "cache_side": SIDE, "preprocess": _plain, "augmented": False, "seed": 3}
    data = ClassDataModule(str(root), **(given | options))
    if world > 1:
        progress = SimpleNamespace(state_dict=lambda: {"total": {"processed": 0}})
        loop = SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=progress))
        vars(data)["trainer"] = SimpleNamespace(global_rank=rank, world_size=world, fit_loop=loop)
    data.setup("fit")
    loader = data.train_dataloader()
    found = [(torch.cat([batch.pixels.flatten(1), batch.labels[:, None]], dim=1), batch.paths) for batch in loader]
    assert len(found) == len(loader)
    return found


def _same(first: list[Any], second: list[Any]) -> bool:
    return len(first) == len(second) and all(
        torch.equal(one[0], other[0]) and one[1] == other[1] for one, other in zip(first, second, strict=True)
    )


def test_pc_05_shards_give_the_folders_batches_in_the_same_order(root: Path, tmp_path: Path) -> None:
    assert _pack(root, tmp_path / "shards") == 0
    for options in ({}, {"balanced": False}, {"augmented": True, "seed": 5}, {"cache_bytes": 0}):
        assert _same(_batches(root, **options), _batches(tmp_path / "shards", **options))
    assert not _same(_batches(root), _batches(tmp_path / "shards", seed=4))


def test_pc_05_the_order_does_not_depend_on_worker_processes(root: Path, tmp_path: Path) -> None:
    assert _pack(root, tmp_path / "shards") == 0
    alone = _batches(tmp_path / "shards", cache_bytes=0)
    assert _same(alone, _batches(tmp_path / "shards", cache_bytes=0, num_workers=2))
    assert _same(alone, _batches(root))


def test_pc_05_the_tables_are_equal_and_their_length_is_exact(root: Path, tmp_path: Path) -> None:
    assert _pack(root, tmp_path / "shards") == 0
    folder, shards = read_present(root), read_present(tmp_path / "shards")
    assert list(shards) == ["train", "valid"]
    for split, classes in COUNTS.items():
        assert shards[split].rows == folder[split].rows
        assert shards[split].classes == folder[split].classes
        assert len(shards[split]) == sum(classes.values())
        assert shards[split].report.missing == ()


@pytest.mark.parametrize("world", [2, 3, 5])
def test_pc_05_several_processes_share_the_draws_and_see_each_validation_image_once(
    root: Path, tmp_path: Path, world: int
) -> None:
    assert _pack(root, tmp_path / "shards") == 0
    shares = [_batches(tmp_path / "shards", rank, world, batch_size=1) for rank in range(world)]
    assert len({len(share) for share in shares}) == 1  # no process waits for another one's batch
    drawn = [path for turn in zip(*shares, strict=True) for _, paths in turn for path in paths]
    whole = [path for _, paths in _batches(root, batch_size=world) for path in paths]
    assert drawn == whole[: len(drawn)]
    seen = []
    for rank in range(world):
        data = ClassDataModule(str(tmp_path / "shards"), preprocess=_plain, cache_side=SIDE)
        vars(data)["trainer"] = SimpleNamespace(global_rank=rank, world_size=world)
        seen += [path for batch in data.val_dataloader() if batch is not None for path in batch.paths]
    assert sorted(seen) == sorted(row.path for row in read_present(root)["valid"].rows)


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    assert file is not None
    return file.read()


def test_pc_05_the_tar_files_are_what_webdataset_reads(root: Path, tmp_path: Path) -> None:
    assert _pack(root, tmp_path / "shards") == 0
    shards = sorted((tmp_path / "shards" / "train").glob("*.tar"))
    assert [shard.name for shard in shards] == [f"train-{number:06d}.tar" for number in range(5)]
    names, classes = [], []
    for shard in shards:
        with tarfile.open(shard) as tar:
            members = tar.getmembers()
            names += [member.name for member in members]
            samples = zip(members[::3], members[1::3], members[2::3], strict=True)
            for label, told, image in samples:
                key = image.name.split(".")[0]  # WebDataset's key ends at the first dot: all three have the same
                assert [label.name, told.name, image.name] == [f"{key}.cls", f"{key}.json", f"{key}.png"]
                record, number = (json.loads(_content(tar, member)) for member in (told, label))
                assert record["labels"] == [("Ada", "Bo", "Cy")[number]]
                assert record["path"].startswith(record["labels"][0])
                classes.append(number)
    assert len(set(names)) == len(names) == 3 * 17
    assert len(set(classes[:8])) > 1  # a stream meets several classes at once


def test_webdataset_streams_the_tar_files(root: Path, tmp_path: Path) -> None:
    wds = pytest.importorskip("webdataset")
    assert _pack(root, tmp_path / "shards") == 0
    shards = sorted(map(str, (tmp_path / "shards" / "train").glob("*.tar")))
    streamed = {}
    for sample in wds.WebDataset(shards, shardshuffle=False):  # nothing is decoded: bytes of the members
        record = json.loads(sample["json"])
        streamed[record["path"]] = (int(sample["cls"]), decode_image(sample["png"], record["path"]))
    reader = ShardReader(tmp_path / "shards" / "train")
    assert list(streamed) == list(reader.images)
    for path, (number, image) in streamed.items():
        assert reader.images[path].labels == (reader.classes[number],)
        assert np.array_equal(image, reader.read(path))


def test_jpeg_shards_lose_a_little_and_png_nothing(root: Path, tmp_path: Path) -> None:
    assert _pack(root, tmp_path / "png") == 0
    assert _pack(root, tmp_path / "jpeg", "--quality", "95") == 0
    path = "Ada/a.b.0.jpg"
    exact, lossy = (ShardReader(tmp_path / name / "train").read(path).astype(int) for name in ("png", "jpeg"))
    assert np.array_equal(exact, shrink(read_image(root / "train" / path), SIDE))
    assert 0 < np.abs(exact - lossy).mean() < 30


def _states(folder: Path) -> dict[str, tuple[int, str]]:
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_ino, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in sorted(folder.rglob("*.tar"))
    }


def test_an_interrupted_run_goes_on_behind_the_last_whole_shard(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _pack(root, tmp_path / "whole") == 0
    encode, calls = ShardPlan.encode, []

    def stopping(self: ShardPlan, image: ImageArray, data: bytes) -> tuple[str, bytes]:
        calls.append(1)
        if len(calls) == 11:
            raise KeyboardInterrupt
        return encode(self, image, data)

    with monkeypatch.context() as patch:
        patch.setattr(ShardPlan, "encode", stopping)
        assert _pack(root, tmp_path / "shards") == 130
    before = _states(tmp_path / "shards")
    assert len(before) == 2
    assert not list((tmp_path / "shards").rglob(".tmp-*"))
    with pytest.raises(InputError):
        read_present(tmp_path / "shards")  # half a data set is not read as a whole one
    capsys.readouterr()
    assert _pack(root, tmp_path / "shards") == 0
    assert "2 shards were kept" in capsys.readouterr().out
    after = _states(tmp_path / "shards")
    assert {name: after[name] for name in before} == before
    assert {name: digest for name, (_, digest) in after.items()} == {
        name: digest for name, (_, digest) in _states(tmp_path / "whole").items()
    }


def test_a_split_that_is_being_packed_anew_is_not_read(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopping(*_: Any) -> bytes:
        raise KeyboardInterrupt

    assert _pack(root, tmp_path / "shards") == 0
    monkeypatch.setattr(ShardPlan, "encode", stopping)
    assert _pack(root, tmp_path / "shards", "--quality", "90") == 130
    with pytest.raises(InputError):
        read_present(tmp_path / "shards")


def test_changed_images_are_packed_again_and_superfluous_shards_go(root: Path, tmp_path: Path) -> None:
    assert _pack(root, tmp_path / "shards") == 0
    for number in range(4, 9):
        (root / "train" / "Ada" / f"a.b.{number}.jpg").unlink()
    write_image(root / "train" / "Bo" / "a.b.0.jpg", np.zeros((20, 20, 3), dtype=np.uint8))
    assert _pack(root, tmp_path / "shards") == 0
    table = read_shards(tmp_path / "shards" / "train")
    assert table.rows == read_present(root)["train"].rows
    assert len(list((tmp_path / "shards" / "train").glob("*.tar"))) == 3
    assert ShardReader(tmp_path / "shards" / "train").read("Bo/a.b.0.jpg").max() == 0


def test_bad_images_are_counted_and_too_many_stop(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "train" / "Ada" / "a.b.1.jpg").write_bytes(b"no image")
    assert _pack(root, tmp_path / "few", "--max-bad-fraction", "0.2") == 0
    assert "20 of 21 images are in" in capsys.readouterr().out
    assert "a.b.1.jpg" in (tmp_path / "few" / "quarantine.jsonl").read_text()
    assert len(read_shards(tmp_path / "few" / "train")) == 16
    assert _pack(root, tmp_path / "none", "--max-bad-fraction", "0.01") == 2
    assert "1 of 17 images cannot be read" in capsys.readouterr().err
    with pytest.raises(InputError):
        read_present(tmp_path / "none")


def test_a_shard_that_is_cut_short_is_refused(root: Path, tmp_path: Path) -> None:
    assert _pack(root, tmp_path / "shards") == 0
    folder = tmp_path / "shards" / "train"
    shard = folder / "train-000001.tar"
    data = shard.read_bytes()
    shard.write_bytes(data[:-512])
    with pytest.raises(FormatError, match=f"expected {len(data)} bytes"):
        read_shards(folder)
    shard.unlink()
    with pytest.raises(FormatError, match="found 0"):
        read_shards(folder)
    shard.write_bytes(data)
    shard.with_suffix(".json").write_text('{"format": 1, "images": []}')
    with pytest.raises(FormatError, match="an object with 'wanted'"):
        read_shards(folder)
    shard.with_suffix(".json").unlink()
    with pytest.raises(MissingPathError, match="make the shards again"):
        read_shards(folder)
    (folder / "index.json").write_text('{"format": 99}')
    with pytest.raises(FormatError, match="in format"):
        read_shards(folder)


def test_rules_hold_for_shards_too(root: Path, tmp_path: Path) -> None:
    assert _pack(root, tmp_path / "shards", "--rename", "Cy=Bo") == 0
    table = read_shards(tmp_path / "shards" / "train", ReadRules(aliases={"Ada": "Ann"}))
    assert table.counts() == {"Ann": 9, "Bo": 8}


def test_what_cannot_be_packed_is_told(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _pack(root, root) == 2
    assert "is not empty and has no shards" in capsys.readouterr().err
    assert _pack(tmp_path / "nothing", tmp_path / "out") == 2
    assert _pack(root, tmp_path / "out", "--quality", "101") == 2
    assert "quality of 0 to 100" in capsys.readouterr().err
