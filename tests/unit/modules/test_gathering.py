"""What processes tell each other, with threads in place of processes."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from naruto_vision.data.sampling import ShareSampler
from naruto_vision.errors import InputError
from naruto_vision.modules.gathering import check_same, check_shared, folder_leaders, gather_batches, gather_file


class _Rank:
    """Stands for a Trainer and its strategy."""

    def __init__(self, rank: int, world: int, barrier: threading.Barrier, board: dict[int, Any]) -> None:
        self.global_rank, self.world_size, self.strategy = rank, world, self
        self._barrier, self.board = barrier, board

    def barrier(self, _name: str = "") -> None:
        self._barrier.wait(20)

    def exchange(self, value: Any) -> list[Any]:
        self.board[self.global_rank] = value
        self.barrier()
        found = [self.board[rank] for rank in range(self.world_size)]
        self.barrier()
        return found

    def broadcast(self, value: Any) -> Any:
        return self.exchange(value)[0]


@pytest.fixture
def together(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[Any], Any]], list[Any]]:
    """Return what runs a function in several threads, each with the Trainer of a rank."""
    own = threading.local()

    def gather(parts: list[Any], value: Any) -> None:
        parts[:] = own.rank.exchange(value)

    monkeypatch.setattr("torch.distributed.all_gather_object", gather)

    def run(world: int, function: Callable[[Any], Any]) -> list[Any]:
        barrier, board = threading.Barrier(world), dict[int, Any]()

        def one(rank: int) -> Any:
            own.rank = _Rank(rank, world, barrier, board)
            return function(own.rank)

        with ThreadPoolExecutor(world) as pool:
            return list(pool.map(one, range(world)))

    return run


@pytest.mark.parametrize("world", [1, 2, 3, 4])
@pytest.mark.parametrize("count", [0, 1, 3, 7, 40])
def test_batches_come_back_in_the_order_of_one_process(together: Any, world: int, count: int) -> None:
    def own(trainer: Any) -> list[Any]:
        share = list(ShareSampler(count, trainer.global_rank, world, batch_size=3))
        return gather_batches(trainer, [share[start : start + 3] for start in range(0, len(share), 3)])

    assert together(world, own) == [[list(range(count))[at : at + 3] for at in range(0, count, 3)]] * world


def test_processes_that_see_the_same_go_on_and_others_name_the_first_difference(together: Any) -> None:
    def compare(lines: list[list[str]]) -> Callable[[Any], str]:
        def own(trainer: Any) -> str:
            try:
                check_same(trainer, "scenes", lines[trainer.global_rank], "copy them")
            except InputError as error:
                return str(error)
            return ""

        return own

    assert together(3, compare([["a", "b"]] * 3)) == [""] * 3
    for message in together(3, compare([["a", "b"], ["a", "b"], ["a"]])):
        assert message.startswith("scenes: rank 0 on ")
        assert " has b, rank 2 on " in message
        assert message.endswith(" has nothing; copy them")


def test_files_of_any_size_are_sent_in_parts(together: Any, tmp_path: Path) -> None:
    data = {0: b"", 1: bytes(range(256)) * 70_000, 2: b"short\n"}
    for rank, own in data.items():
        (tmp_path / str(rank)).write_bytes(own)

    def receive(trainer: Any) -> dict[int, bytes]:
        found: dict[int, bytes] = {}
        for sender, part in gather_file(trainer, tmp_path / str(trainer.global_rank) if trainer.global_rank else None):
            found[sender] = found.get(sender, b"") + part
        return found

    assert together(3, receive) == [{1: data[1], 2: data[2]}] * 3


def test_folders_that_ranks_share_have_one_leader(together: Any, tmp_path: Path) -> None:
    places = [tmp_path / name for name in ("a", "b", "a", "b")]
    assert together(4, lambda trainer: folder_leaders(trainer, places[trainer.global_rank])) == [[0, 1, 0, 1]] * 4
    assert not list(tmp_path.rglob("*"))  # neither marks nor folders

    def check(trainer: Any) -> str:
        with pytest.raises(InputError) as caught:
            check_shared(trainer, places[trainer.global_rank], "--gallery", "so it is missing")
        return str(caught.value)

    assert all("do not see the same folder, so it is missing; give a shared one" in text for text in together(4, check))
    together(2, lambda trainer: check_shared(trainer, tmp_path, "--gallery", ""))
