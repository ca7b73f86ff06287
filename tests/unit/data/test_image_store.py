"""Decoded images in memory, shards as files, and datasets over both."""

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from naruto_vision.data.sampling import Draw, ResumableLoader, ShareSampler, checked_batch_size
from naruto_vision.data.shards import (
    FolderReader,
    ShardList,
    ShardPlan,
    ShardReader,
    SplitIndex,
    check_out,
    class_source,
    image_reader,
    read_part,
    read_shards,
    shrink,
    write_split,
)
from naruto_vision.data.store import ImageStore, TableDataset, TableQuarantine
from naruto_vision.data.tables import ClassTable, sorted_rows
from naruto_vision.errors import BadImageError, FormatError, InputError, JsonError, MissingPathError
from naruto_vision.io.images import decode_image, encode_image, write_image
from naruto_vision.io.quarantine import Quarantine
from naruto_vision.records import ImageArray

_NAMES = ("a/0.png", "a/1.png", "b/ü.png")


def _image(seed: int, height: int = 8, width: int = 6) -> ImageArray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _pixels(image: ImageArray) -> Tensor:
    return torch.from_numpy(image.copy()).permute(2, 0, 1).float()


@pytest.fixture
def table(tmp_path: Path) -> ClassTable:
    for k, name in enumerate(_NAMES):
        write_image(tmp_path / "set" / name, _image(k))
    return ClassTable(tmp_path / "set", sorted_rows([(name, name[0]) for name in _NAMES]), ("a", "b"))


@pytest.mark.parametrize(
    ("height", "width", "side", "expected"),
    [
        (40, 20, 10, (10, 5)),
        (20, 40, 10, (5, 10)),
        (40, 40, 40, (40, 40)),
        (30, 40, 100, (30, 40)),
        (40, 20, 0, (40, 20)),
        (200, 1, 10, (10, 1)),
        (3, 2, 1, (1, 1)),
    ],
)
def test_only_what_is_too_large_is_scaled_down(height: int, width: int, side: int, expected: tuple[int, int]) -> None:
    image = _image(0, height, width)
    small = shrink(image, side)
    assert small.shape == (*expected, 3)
    assert small.dtype == np.uint8
    if expected == (height, width):
        assert small is image


def test_scaling_down_by_a_whole_number_takes_means() -> None:
    image = _image(1, 8, 12)
    means = image.reshape(4, 2, 6, 2, 3).astype(float).mean(axis=(1, 3))
    assert np.abs(shrink(image, 6) - means).max() <= 0.51


@pytest.mark.parametrize("budget", [0, 143, 144, 288, 10_000])
def test_a_store_gives_the_same_pixels_whatever_fits(table: ClassTable, budget: int) -> None:
    store = ImageStore(table, 0, budget)
    for k in (0, 1, 2, 2, 0, 1):
        assert np.array_equal(store[k], _image(k))


def test_what_fits_is_not_decoded_again_and_the_rest_is(table: ClassTable) -> None:
    store = ImageStore(table, 0, 8 * 6 * 3)
    for row in (0, 1, 2):
        _ = store[row]
    for name in _NAMES:
        (table.root / name).unlink()
    assert np.array_equal(store[0], _image(0))
    assert np.array_equal(store[2], _image(2))  # the latest
    with pytest.raises(MissingPathError, match=r"a/1\.png"):
        _ = store[1]


def test_a_small_image_is_kept_where_a_large_one_did_not_fit(tmp_path: Path) -> None:
    write_image(tmp_path / "large.png", _image(0, 50, 50))
    write_image(tmp_path / "small.png", _image(1, 4, 4))
    store = ImageStore(ClassTable(tmp_path, sorted_rows([("large.png", "a"), ("small.png", "a")]), ("a",)), 0, 100)
    for row in (0, 1, 0):
        _ = store[row]
    (tmp_path / "small.png").unlink()
    assert np.array_equal(store[1], _image(1, 4, 4))


def _quarantine(table: ClassTable, share: float = 0.9, *, every_class: bool = False) -> TableQuarantine:
    return TableQuarantine("images", table.rows, share, every_class=every_class)


def test_each_row_counts_once_and_too_many_stop_as_soon_as_it_is_certain(table: ClassTable) -> None:
    quarantine = _quarantine(table, 0.4)
    for _ in range(2):
        quarantine.note([0, 0], [(1, "a/1.png: broken"), (0, "broken since")])
    assert quarantine.counts() == {"seen": 2, "ok": 1, "quarantined": 1}
    assert quarantine.summary() == "1 of 3 images could not be read and were left out (a 1 of 2)"
    with pytest.raises(InputError, match=r"2 of 3 images cannot be read, more than the 40%.*first a/1\.png"):
        quarantine.note([], [(2, "b/ü.png: broken")])
    with pytest.raises(InputError, match="none of 3 images can be read"):
        _quarantine(table, 1.0).note([], [(row, "broken") for row in range(3)])


def test_each_class_needs_a_readable_image_only_where_asked(table: ClassTable) -> None:
    _quarantine(table).note([], [(2, "b/ü.png: broken")])
    _quarantine(table, every_class=True).note([], [(1, "broken")])
    with pytest.raises(InputError, match=r"class 'b': none of 1 images can be read; first b/ü\.png: broken"):
        _quarantine(table, every_class=True).note([], [(2, "b/ü.png: broken")])


def test_a_sample_says_what_was_tried(table: ClassTable) -> None:
    (table.root / "a/1.png").write_bytes(b"")
    store = ImageStore(table, 0, 0)
    dataset = TableDataset(table, store, _pixels)
    [(row, reason)] = dataset[1].bad
    assert (row, dataset[1].item, dataset[1].read) == (1, None, ())
    assert reason.endswith("a/1.png: the file is empty (0 bytes)")
    drawn = dataset[Draw(1, 7)]
    assert (drawn.item[1], drawn.read, drawn.bad) == (0, (0,), ((1, reason),))
    (table.root / "a/0.png").unlink()
    gone = TableDataset(table, ImageStore(table, 0, 0), _pixels)[Draw(1, 7)]
    assert gone.item is None
    assert [row for row, _ in gone.bad] == [1, 0]


def test_only_draws_are_changed_and_by_their_place_and_the_seed(table: ClassTable) -> None:
    store = ImageStore(table, 0, 10_000)

    def shift(image: ImageArray, rng: np.random.Generator) -> ImageArray:
        return image + np.uint8(rng.integers(1, 200))

    def item(index: int | Draw, seed: int = 0) -> Tensor:
        pixels: Tensor = TableDataset(table, store, _pixels, shift, seed)[index].item[0]
        return pixels

    dataset = TableDataset(table, store, _pixels, shift)
    assert len(dataset) == 3
    assert dataset[2].item[1] == 2
    assert torch.equal(dataset[1].item[0], _pixels(_image(1)))
    assert torch.equal(item(Draw(1, 7)), item(Draw(1, 7)))
    assert not torch.equal(item(Draw(1, 7)), item(Draw(1, 8)))
    assert not torch.equal(item(Draw(1, 7)), item(Draw(1, 7), seed=1))
    assert not torch.equal(item(Draw(1, 7)), item(1))
    assert torch.equal(TableDataset(table, store, _pixels)[Draw(1, 7)].item[0], item(1))


@pytest.mark.parametrize("size", [1, 2, 5])
def test_loaders_give_every_item_once_and_have_no_state(size: int) -> None:
    loader = ResumableLoader(range(5), ShareSampler(5), size, list)  # type: ignore[arg-type]  # a list is a dataset too
    before = torch.random.get_rng_state()
    assert [item for batch in loader for item in batch] == list(range(5))
    assert torch.equal(torch.random.get_rng_state(), before)  # the global generator is left alone
    assert loader.state_dict() == {"resumable": 1}
    loader.load_state_dict({"resumable": 1})
    assert [len(batch) for batch in loader] == [min(size, 5 - start) for start in range(0, 5, size)]


@pytest.mark.parametrize("size", [0, -1])
def test_a_batch_has_something_in_it(size: int) -> None:
    with pytest.raises(InputError, match=f"batch_size {size}: expected at least 1"):
        checked_batch_size(size)
    assert checked_batch_size(1) == 1


@pytest.mark.parametrize("wrong", [{"side": -1}, {"shard_size": 0}, {"quality": -1}, {"quality": 101}])
def test_a_plan_that_packs_nothing_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(InputError, match="expected a side >= 0, at least 1 image per shard and a quality of 0 to 100"):
        ShardPlan(**wrong)
    ShardPlan(side=0, shard_size=1, quality=100)


@pytest.mark.parametrize(("quality", "suffix"), [(0, "png"), (1, "jpg"), (100, "jpg")])
def test_images_are_packed_as_their_suffix_says(quality: int, suffix: str) -> None:
    found, data = ShardPlan(side=9, quality=quality).encode(_image(0, 9, 9))
    assert found == suffix
    assert data.startswith(b"\x89PNG" if suffix == "png" else b"\xff\xd8")
    assert np.array_equal(decode_image(data, "x"), _image(0, 9, 9)) == (suffix == "png")


@pytest.mark.parametrize(("suffix", "kept"), [("png", True), ("jpg", True), ("webp", False)])
def test_a_file_is_packed_as_it_is_if_nothing_is_to_be_changed(suffix: str, kept: bool) -> None:
    file = encode_image(_image(0, 9, 9), f".{suffix}")
    pixels = decode_image(file, "x")
    assert (ShardPlan(side=0).encode(pixels, file) == (suffix, file)) == kept
    for plan in (ShardPlan(side=9), ShardPlan(side=0, quality=90)):
        assert plan.encode(pixels, file)[1] != file


def test_images_are_packed_scaled_down() -> None:
    _, data = ShardPlan(side=4).encode(_image(0, 16, 8))
    assert decode_image(data, "x.png").shape == (4, 2, 3)


def test_only_an_empty_folder_or_one_of_shards_is_written_to(tmp_path: Path) -> None:
    check_out(tmp_path / "new")
    assert json.loads((tmp_path / "new" / "shards.json").read_text()) == {"format": 1}
    (tmp_path / "new" / "train").mkdir()
    (tmp_path / "new" / "train" / ".tmp-half.tar").write_bytes(b"left by a kill")
    check_out(tmp_path / "new")
    assert not list((tmp_path / "new").rglob(".tmp-*"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "diary.txt").write_text("dear diary")
    with pytest.raises(InputError, match=r"mine: is not empty and has no shards; give another --out"):
        check_out(tmp_path / "mine")
    assert [file.name for file in (tmp_path / "mine").iterdir()] == ["diary.txt"]


def _packed(table: ClassTable, out: Path, plan: ShardPlan | None = None) -> int:
    return write_split(out, "train", class_source(table), plan or ShardPlan(side=0, shard_size=2), Quarantine())


def test_packing_again_keeps_every_shard_and_says_how_many(table: ClassTable, tmp_path: Path) -> None:
    assert _packed(table, tmp_path / "out") == 0
    before = {file.name: file.read_bytes() for file in (tmp_path / "out" / "train").iterdir()}
    assert _packed(table, tmp_path / "out") == 2
    assert {file.name: file.read_bytes() for file in (tmp_path / "out" / "train").iterdir()} == before


@pytest.mark.parametrize(
    "plan",
    [ShardPlan(side=4, shard_size=2), ShardPlan(side=0, shard_size=2, quality=90), ShardPlan(side=0, shard_size=1)],
)
def test_another_plan_packs_anew(table: ClassTable, tmp_path: Path, plan: ShardPlan) -> None:
    _packed(table, tmp_path / "out")
    assert _packed(table, tmp_path / "out", plan) == 0
    assert len(ShardReader(tmp_path / "out" / "train").images) == 3


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"wanted": 1, "shard": {}}', "\ufffd{"])
def test_a_shard_whose_list_is_broken_is_packed_anew(table: ClassTable, tmp_path: Path, damage: str) -> None:
    _packed(table, tmp_path / "out")
    record = tmp_path / "out" / "train" / "train-000000.json"
    record.write_text(damage, encoding="utf-8")
    assert _packed(table, tmp_path / "out") == 1
    assert len(read_part(record, ShardList).images) == 2


def test_every_step_of_packing_advances_once_also_where_nothing_is_to_do(table: ClassTable, tmp_path: Path) -> None:
    steps: list[int] = []
    for expected in (3, 6):
        write_split(
            tmp_path, "train", class_source(table), ShardPlan(shard_size=2), Quarantine(), lambda: steps.append(1)
        )
        assert len(steps) == expected


def test_shards_say_what_is_in_them(table: ClassTable, tmp_path: Path) -> None:
    _packed(table, tmp_path / "out")
    folder = tmp_path / "out" / "train"
    index = read_part(folder / "index.json", SplitIndex)
    assert (index.classes, index.side) == (("a", "b"), 0)
    assert [(one.name, one.images) for one in index.shards] == [
        ("train-000000.tar", 2),
        ("train-000001.tar", 1),
    ]
    for one in index.shards:
        assert one.bytes == (folder / one.name).stat().st_size
        for packed in read_part((folder / one.name).with_suffix(".json"), ShardList).images:
            data = (folder / one.name).read_bytes()[packed.offset : packed.offset + packed.size]
            assert data.startswith(b"\x89PNG")
            assert packed.labels == (packed.path[0],)
    with tarfile.open(folder / "train-000001.tar") as tar:
        assert [member.name for member in tar] == ["00000002.cls", "00000002.json", "00000002.png"]
        assert {member.mtime for member in tar} == {0}


def test_shards_and_folders_are_told_apart_and_read_alike(table: ClassTable, tmp_path: Path) -> None:
    _packed(table, tmp_path / "out")
    packed, files = image_reader(tmp_path / "out" / "train"), image_reader(table.root)
    assert isinstance(packed, ShardReader)
    assert files == FolderReader(table.root)
    for k, name in enumerate(_NAMES):
        assert np.array_equal(packed.read(name), files.read(name))
        assert np.array_equal(packed.read(name), _image(k))


def test_a_image_of_two_classes_keeps_both(tmp_path: Path) -> None:
    write_image(tmp_path / "set" / "p.png", _image(0))
    table = ClassTable(tmp_path / "set", sorted_rows([("p.png", "b"), ("p.png", "a")]), ("b", "a"))
    _packed(table, tmp_path / "out")
    images = ShardReader(tmp_path / "out" / "train").images
    assert {path: image.labels for path, image in images.items()} == {"p.png": ("a", "b")}


def test_a_image_of_broken_bytes_names_its_shard_and_path(table: ClassTable, tmp_path: Path) -> None:
    _packed(table, tmp_path / "out")
    folder = tmp_path / "out" / "train"
    reader = ShardReader(folder)
    [first, *_] = read_part(folder / "train-000000.json", ShardList).images
    data = bytearray((folder / "train-000000.tar").read_bytes())
    data[first.offset : first.offset + first.size] = bytes(first.size)
    (folder / "train-000000.tar").write_bytes(bytes(data))
    with pytest.raises(BadImageError, match=rf"train-000000\.tar: {first.path}"):
        reader.read(first.path)


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("{", JsonError, "JSON"),
        ("[1]", FormatError, "an object"),
        ('{"format": 2}', FormatError, "format"),
        ('{"format": "1"}', FormatError, "format"),
        ('{"format": 1}', FormatError, "classes"),
        ('{"format": 1, "classes": ["a"], "shards": [{"name": "x.tar"}]}', FormatError, "images"),
        (
            '{"format": 1, "classes": ["a"], "shards": [{"name": "x.tar", "bytes": 5, "images": 1}]}',
            FormatError,
            "x.tar",
        ),
    ],
)
def test_an_index_that_says_something_else_is_refused(
    tmp_path: Path, text: str, error: type[Exception], words: str
) -> None:
    (tmp_path / "index.json").write_text(text)
    with pytest.raises(error, match=words):
        read_shards(tmp_path)


def test_a_list_of_more_images_than_the_index_counts_is_refused(table: ClassTable, tmp_path: Path) -> None:
    _packed(table, tmp_path / "out")
    record = tmp_path / "out" / "train" / "train-000000.json"
    value = json.loads(record.read_text())
    for images in (value["images"][:1], [*value["images"][:1], ["x", ["a"], 10**9, 5]]):
        record.write_text(json.dumps({**value, "images": images}))
        with pytest.raises(FormatError, match=r"train-000000\.json: expected 2 images inside \d+ bytes"):
            read_shards(tmp_path / "out" / "train")
