"""What training draws: classes, strangers and masks, each a pure function of its seed and place."""

from collections import Counter
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from naruto_vision.data.class_data import ClassDataModule
from naruto_vision.data.masks import MaskData, MaskedImage, MaskSource, SyntheticMasks
from naruto_vision.data.sampling import Draw, DrawSampler, ShareSampler, draw_rows
from naruto_vision.data.store import module_preprocess
from naruto_vision.data.synthetic_captions import (
    SyntheticCaptionData,
    SyntheticCaptions,
    character_at,
    draw_character,
    draw_view,
)
from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.errors import InputError
from naruto_vision.io.images import write_image
from naruto_vision.records import ImageArray
from naruto_vision.synthetic.attributes import random_attributes
from naruto_vision.synthetic.captions import full_caption

_QUICK = settings(max_examples=40, deadline=None, derandomize=True)


def _pixels(image: ImageArray) -> Tensor:
    side = np.zeros((3, 8, 8), np.float32)
    part = image[:8, :8].transpose(2, 0, 1)
    side[:, : part.shape[1], : part.shape[2]] = part
    return torch.from_numpy(side)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for split, counts in (("train", {"ann": 4, "bob": 1}), ("valid", {"bob": 2}), ("test", {"cid": 1, "ann": 1})):
        for name, count in counts.items():
            for k in range(count):
                write_image(tmp_path / split / name / f"{k}.png", np.full((8, 6, 3), 40 * k + 10, np.uint8))
    return tmp_path


def _data(root: Path, **options: Any) -> ClassDataModule:
    return ClassDataModule(str(root), preprocess=_pixels, **options)


def test_classes_are_those_of_every_split_and_counts_of_training_only(root: Path) -> None:
    data = _data(root)
    assert data.classes == ("ann", "bob", "cid")
    assert data.class_counts == (4, 1, 0)
    assert data.quarantines == {}  # nothing has been opened yet


def test_labels_are_places_among_the_classes_in_every_split(root: Path) -> None:
    data = _data(root, batch_size=8)
    for loader, labels in ((data.val_dataloader(), [1, 1]), (data.test_dataloader(), [0, 2])):
        [batch] = loader
        assert batch.labels.tolist() == labels
        assert batch.labels.dtype == torch.int64


@pytest.mark.parametrize(
    ("stage", "splits"),
    [("fit", {"train", "valid"}), ("validate", {"valid"}), ("test", {"test"}), ("predict", {"test"})],
)
def test_a_verb_opens_only_what_it_needs(root: Path, stage: str, splits: set[str]) -> None:
    data = _data(root)
    data.setup(stage)
    data.setup(stage)
    assert set(data.quarantines) == splits


def test_mended_names_are_one_class(root: Path) -> None:
    data = _data(root, aliases={"bob": "ann"})
    assert data.classes == ("ann", "cid")
    assert data.class_counts == (5, 0)


@pytest.mark.parametrize("batch_size", [1, 2, 5, 7])
def test_an_epoch_is_as_many_full_batches_as_hold_every_image(root: Path, batch_size: int) -> None:
    batches = list(_data(root, batch_size=batch_size).train_dataloader())
    assert len(batches) == -(-5 // batch_size)
    assert {len(batch.paths) for batch in batches} == {batch_size}


def test_plain_draws_go_through_every_image_and_balanced_ones_through_every_class(root: Path) -> None:
    plain = Counter(
        path for batch in _data(root, batch_size=5, balanced=False).train_dataloader() for path in batch.paths
    )
    assert set(plain.values()) == {1}
    balanced = [path for batch in _data(root, batch_size=4, augmented=False).train_dataloader() for path in batch.paths]
    assert Counter(path.split("/")[0] for path in balanced) == {"ann": 4, "bob": 4}


@pytest.mark.parametrize("changed", [{"seed": 1}, {"batch_size": 3}, {"balanced": False}])
def test_what_decides_the_order_is_remembered(
    root: Path, changed: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    state = _data(root).state_dict()
    assert state["consumed"] == 0
    _data(root).load_state_dict(state)
    assert caplog.text == ""
    _data(root, **changed).load_state_dict(state)
    assert f"{root}: data, batch size, world or seed differ from the interrupted run's" in caplog.text


def test_changed_images_are_another_order(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    state = _data(root).state_dict()
    write_image(root / "train" / "ann" / "new.png", np.zeros((8, 6, 3), np.uint8))
    _data(root).load_state_dict(state)
    assert "differ from the interrupted run's" in caplog.text


def test_images_are_prepared_for_the_modules_encoder() -> None:
    encoder = ClipEncoder("tiny-clip")
    trainer: Any = SimpleNamespace(lightning_module=SimpleNamespace(encoder=encoder))
    image = np.full((20, 20, 3), 9, np.uint8)
    assert torch.equal(module_preprocess(trainer)(image), encoder.preprocess(image))
    for wrong in (None, SimpleNamespace(), SimpleNamespace(lightning_module=SimpleNamespace(encoder="clip"))):
        with pytest.raises(InputError, match="give `preprocess` where there is none"):
            module_preprocess(wrong)  # type: ignore[arg-type]  # no trainers


@_QUICK
@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.integers(0, 20), st.integers(1, 30))
def test_draws_take_turns_and_use_every_row_before_one_again(sizes: list[int], seed: int, rounds: int) -> None:
    starts = np.cumsum([0, *sizes]).tolist()
    groups = [list(range(first, last)) for first, last in pairwise(starts)]
    draws = draw_rows(groups, seed, 0, rounds * len(groups))
    assert [draw.position for draw in draws] == list(range(len(draws)))
    for group in groups:
        taken = [draw.row for draw in draws if draw.row in group]
        assert len(taken) == rounds
        for start in range(0, rounds, len(group)):
            lap = taken[start : start + len(group)]
            assert len(set(lap)) == len(lap)


@_QUICK
@given(st.integers(0, 30), st.integers(1, 5), st.booleans())
def test_shares_say_their_length(count: int, world: int, never_empty: bool) -> None:
    for rank in range(world):
        share = ShareSampler(count, rank, world, never_empty=never_empty)
        assert len(share) == len(list(share))
        assert len(share) >= int(never_empty)


def test_processes_of_one_batch_draw_next_to_each_other() -> None:
    samplers = [DrawSampler([list(range(9))], 0, 2, 3, lambda: 4, rank, 2) for rank in range(2)]
    assert [[draw.position for draw in sampler] for sampler in samplers] == [
        [16, 17, 20, 21, 24, 25],
        [18, 19, 22, 23, 26, 27],
    ]


@pytest.mark.parametrize("twins", [0.0, 1.0])
def test_neighbours_are_twins_never_or_always(twins: float) -> None:
    numbers = [character_at(place, 0, 1, twins) for place in range(10)]
    assert numbers == ([0, 0, 2, 2, 4, 4, 6, 6, 8, 8] if twins else list(range(10)))


def test_strangers_are_of_their_seed_stream_and_number() -> None:
    who = {draw_character(number, seed, stream) for number in (0, 1) for seed in (0, 1) for stream in (1, 2)}
    assert len(who) == 8
    assert draw_character(3, 4, 2) == draw_character(3, 4, 2)


@pytest.mark.parametrize("cut", [0.0, 1.0])
def test_views_are_whole_or_cut_out(cut: float) -> None:
    who = random_attributes(np.random.default_rng(0))
    shapes = [draw_view(who, np.random.default_rng(seed), 40, cut).shape for seed in range(15)]
    assert all(max(shape) <= 40 for shape in shapes)
    assert ({shape[:2] for shape in shapes} == {(40, 40)}) == (cut == 0.0)


@pytest.mark.parametrize("full", [0.0, 1.0])
def test_captions_say_everything_as_often_as_asked(full: float) -> None:
    dataset = SyntheticCaptions(10, 1, 0, _pixels, size=32, cut=0.0, twins=0.0, full=full)
    assert len(dataset) == 10
    texts = [dataset[place][2] for place in range(10)]
    whole = [full_caption(draw_character(place, 0, 1)) for place in range(10)]
    assert (texts == whole) == (full == 1.0)
    drawn, plain = dataset[Draw(0, 3)], dataset[3]
    assert torch.equal(drawn[0], plain[0])
    assert drawn[1:3] == plain[1:3]


def test_processes_share_the_strangers_to_validate_on() -> None:
    seen: list[int] = []
    for rank in range(3):
        data = SyntheticCaptionData(batch_size=2, valid=7, num_workers=0, size=32, preprocess=_pixels)
        vars(data)["trainer"] = SimpleNamespace(global_rank=rank, world_size=3)
        seen += [int(number) for batch in data.val_dataloader() for number in batch.subjects]
    assert sorted(seen) == list(range(7))


class _Squares(MaskSource):
    """Images of one square each, grey by their number; the last one has no figure."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> MaskedImage:
        mask = np.zeros((1, 16, 16), np.bool_)
        mask[0, 4:9, 4:9] = index + 1 < self.count
        return MaskedImage(np.full((16, 16, 3), index, np.uint8), mask[mask.any(axis=(1, 2))])


@pytest.mark.parametrize(
    ("count", "batch_size", "epoch_batches", "batches"),
    [(6, 2, None, 3), (7, 2, None, 3), (1, 4, None, 1), (6, 2, 5, 5)],
)
def test_an_epoch_of_masks_is_once_through_or_as_long_as_asked(
    count: int, batch_size: int, epoch_batches: int | None, batches: int
) -> None:
    data = MaskData(_Squares(count), _Squares(1), side=16, batch_size=batch_size, epoch_batches=epoch_batches)
    loaded = list(data.train_dataloader())
    assert len(loaded) == batches
    assert {len(batch.pixels) for batch in loaded} == {batch_size}


@pytest.mark.parametrize("world", [1, 2, 3])
def test_every_validation_image_is_in_exactly_one_process(world: int) -> None:
    seen: list[int] = []
    for rank in range(world):
        data = MaskData(_Squares(5), _Squares(5), side=16, batch_size=2)
        vars(data)["trainer"] = SimpleNamespace(global_rank=rank, world_size=world)
        seen += [int(image[0, 0, 0]) for batch in data.val_dataloader() for image in batch.pixels]
    assert sorted(seen) == list(range(5))


def test_images_that_are_kept_give_the_same_masks_as_those_that_are_not() -> None:
    kept, fresh = (MaskData(_Squares(4), _Squares(4), side=16, batch_size=4, keep=keep) for keep in (True, False))
    for _ in range(2):
        for one, other in zip(kept.val_dataloader(), fresh.val_dataloader(), strict=True):
            assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("index", [-1, 2])
def test_drawn_masks_end_where_they_end(index: int) -> None:
    source = SyntheticMasks(seed=1, count=2, size=32)
    assert len(source) == 2
    with pytest.raises(IndexError, match=str(index)):
        _ = source[index]
