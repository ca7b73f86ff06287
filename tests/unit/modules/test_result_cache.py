"""Results of an ablation are made once, and again where the file was damaged."""

import sqlite3
import zlib
from pathlib import Path

import msgspec
import pytest

from naruto_vision.errors import InputError
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


@pytest.mark.parametrize("value", [7, None, "text", b"", b"\xc1", msgspec.msgpack.encode("x"), b"\x91" * 100_000])
def test_a_value_of_another_type_is_made_again(value: object, tmp_path: Path) -> None:
    cache = ResultCache(tmp_path / "cache.sqlite")
    cache.get("a", list[int], lambda: [1])
    if isinstance(value, bytes):
        value = zlib.crc32(value).to_bytes(4, "little") + value
    with sqlite3.connect(tmp_path / "cache.sqlite") as database:
        database.execute("UPDATE results SET value = ?", (value,))
    assert cache.get("a", list[int], lambda: [2]) == [2]
    assert cache.get("a", list[int], lambda: [3], fits=lambda kept: kept != [2]) == [3]


@pytest.mark.parametrize(
    "command",
    [
        "CREATE TRIGGER t AFTER INSERT ON results BEGIN DELETE FROM results; END",
        "CREATE VIEW v AS SELECT 1",
        "ALTER TABLE results RENAME COLUMN value TO other",
    ],
)
def test_a_file_with_other_tables_or_triggers_is_refused(command: str, tmp_path: Path) -> None:
    ResultCache(tmp_path / "cache.sqlite").close()
    with sqlite3.connect(tmp_path / "cache.sqlite") as database:
        database.execute(command)
    with pytest.raises(InputError, match="tables of another program"):
        ResultCache(tmp_path / "cache.sqlite")
