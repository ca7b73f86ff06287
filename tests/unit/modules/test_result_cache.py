"""Results of an ablation are made once, and again where the file was damaged."""

import sqlite3
from pathlib import Path

from naruto_vision.modules.ablation import ResultCache


def test_a_result_is_made_once_and_again_if_it_was_damaged(tmp_path: Path) -> None:
    file, made = tmp_path / "cache.sqlite", list[int]()

    def make() -> list[int]:
        made.append(1)
        return [1, 2, 300]

    for times in (1, 1, 2, 2):
        if times > len(made) > 0:
            with sqlite3.connect(file) as database:
                (value,) = database.execute("SELECT value FROM results").fetchone()
                database.execute("UPDATE results SET value = ?", (value[:-1] + bytes([value[-1] ^ 1]),))
        cache = ResultCache(file)
        assert cache.get("a", list[int], make) == [1, 2, 300]
        cache.close()
        assert len(made) == times
