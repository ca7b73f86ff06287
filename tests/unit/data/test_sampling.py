"""Draws, shares and batch sizes."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from cluster import workers_left_by
from hypothesis import given, settings
from hypothesis import strategies as st

from naruto_vision.data.class_data import ClassDataModule
from naruto_vision.data.gallery_data import GalleryDataModule
from naruto_vision.data.sampling import (
    NOTHING,
    DrawSampler,
    ResumableLoader,
    ShareSampler,
    consumed_batches,
    draw_rows,
    process_share,
)
from naruto_vision.data.scenes import SceneDataModule
from naruto_vision.data.synthetic_captions import SyntheticCaptionData
from naruto_vision.errors import InputError

GROUPS = [[0, 1, 2, 3, 4, 5, 6], [7, 8], [9, 10, 11]]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 99), st.integers(0, 50), st.integers(0, 40), st.integers(0, 40))
def test_any_part_equals_the_same_part_of_the_whole(seed: int, start: int, first: int, second: int) -> None:
    whole = draw_rows(GROUPS, seed, 0, start + first + second)
    parts = draw_rows(GROUPS, seed, start, first) + draw_rows(GROUPS, seed, start + first, second)
    assert whole[start:] == parts


def test_every_round_takes_each_class_once_and_every_class_uses_all_its_rows() -> None:
    draws = draw_rows(GROUPS, 5, 0, 3 * 42)
    group_of = {row: number for number, rows in enumerate(GROUPS) for row in rows}
    for start in range(0, len(draws), 3):
        assert sorted(group_of[draw.row] for draw in draws[start : start + 3]) == [0, 1, 2]
    counts = Counter(draw.row for draw in draws)
    assert [counts[row] for row in range(12)] == [6] * 7 + [21] * 2 + [14] * 3
    assert [draw.position for draw in draws] == list(range(126))


def test_seeds_and_epochs_differ() -> None:
    orders = {
        tuple(draw.row for draw in draw_rows([list(range(50))], seed, start, 50))
        for seed in (1, 2)
        for start in (0, 50)
    }
    assert len(orders) == 4
    assert all(sorted(order) == list(range(50)) for order in orders)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_processes_share_every_batch_without_overlap(world: int) -> None:
    whole = [draw.position for draw in draw_rows(GROUPS, 3, 0, 4 * 5 * world)]
    samplers = [DrawSampler(GROUPS, 3, 4, 5, lambda: 0, rank, world) for rank in range(world)]
    shares = [[draw.position for draw in sampler] for sampler in samplers]
    assert sorted(place for share in shares for place in share) == whole
    assert {len(share) for share in shares} == {20} == {len(sampler) for sampler in samplers}


def test_a_sampler_goes_on_behind_the_consumed_batches() -> None:
    consumed = [0]
    sampler = DrawSampler(GROUPS, 3, 4, 5, lambda: consumed[0])
    first = list(sampler)
    consumed[0] = 2
    assert list(sampler)[:12] == first[8:]


@pytest.mark.parametrize("world", [1, 2, 3, 4])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 7, 9])
def test_shares_hold_everything_exactly_once(count: int, world: int) -> None:
    shares = [list(ShareSampler(count, rank, world)) for rank in range(world)]
    assert sorted(index for share in shares for index in share) == list(range(count))
    assert all(share == sorted(share) for share in shares)


@pytest.mark.parametrize("world", [1, 2, 3, 4])
@pytest.mark.parametrize("count", [0, 1, 3, 7, 40])
def test_batches_are_the_same_in_any_number_of_processes(count: int, world: int) -> None:
    whole = [list(range(count))[start : start + 3] for start in range(0, count, 3)]
    loaders = [
        ResumableLoader(range(count), ShareSampler(count, rank, world, batch_size=3), 3, list)  # type: ignore[arg-type]
        for rank in range(world)
    ]
    batches = [list(loader) for loader in loaders]
    assert [len(loader) for loader in loaders] == [len(own) for own in batches]
    assert sorted(batch for own in batches for batch in own if batch is not None) == whole
    assert all(own == ([None] if world > 1 else []) for own in batches if None in own or not own)


def test_shares_pass_over_what_is_done_meanwhile() -> None:
    done: set[int] = set()
    sampler = ShareSampler(6, skipped=done.__contains__)
    visited = []
    for index in sampler:
        visited.append(index)
        done.update({1, 4})
    assert visited == [0, 2, 3, 5]
    assert len(sampler) == 4


def test_a_process_without_a_share_gets_nothing_rather_than_no_batch() -> None:
    shares = [list(ShareSampler(1, rank, 3, lambda _: False, never_empty=True)) for rank in range(3)]
    assert shares == [[0], [NOTHING], [NOTHING]]
    done = ShareSampler(3, 0, 1, lambda _: True, never_empty=True)  # hooks run though all scenes are done already
    assert (list(done), len(done)) == ([NOTHING], 1)
    assert list(ShareSampler(3, 0, 1, lambda _: True)) == []


def test_without_a_trainer_there_is_one_process_that_has_done_nothing() -> None:
    assert consumed_batches(None) == 0
    assert process_share(None) == (0, 1)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ClassDataModule("data", batch_size=0),
        lambda: SyntheticCaptionData(batch_size=0),
        lambda: SceneDataModule(batch_size=0),
        lambda: GalleryDataModule("data", enrol_batch_size=0),
    ],
)
def test_a_batch_of_nothing_is_refused_in_one_line(make: Callable[[], Any]) -> None:
    with pytest.raises(InputError, match="batch_size 0: expected at least 1"):
        make()


def test_workers_of_a_killed_process_end() -> None:
    loader = ResumableLoader(range(9), ShareSampler(9), 1, list, num_workers=2)  # type: ignore[arg-type]
    assert workers_left_by(loader) == set()
