"""What stands beside an SQLite file does not make SQLite delete or write other files."""

import os
import sqlite3
import struct
from pathlib import Path

import pytest

from naruto_vision.errors import FormatError
from naruto_vision.io.sqlite_files import check_sqlite


@pytest.fixture
def database(tmp_path: Path) -> Path:
    with sqlite3.connect(tmp_path / "a.sqlite") as own:
        own.execute("CREATE TABLE results (name TEXT PRIMARY KEY, value BLOB)")
    return tmp_path / "a.sqlite"


def test_a_journal_that_makes_sqlite_delete_another_file_is_refused(database: Path) -> None:
    magic, victim = bytes.fromhex("d9d505f920a163d7"), database.with_name("victim")
    name = str(victim).encode()
    header = magic + struct.pack(">IIIII", 0, 1234, database.stat().st_size // 4096, 512, 4096)
    record = struct.pack(">I", (1 << 30) // 4096 + 1) + name + struct.pack(">II", len(name), sum(name)) + magic
    victim.write_text("kept")
    database.with_name("a.sqlite-journal").write_bytes(header.ljust(512, b"\0") + record)
    with pytest.raises(FormatError, match="names another file"):
        check_sqlite(database)
    assert victim.read_text() == "kept"
    sqlite3.connect(database).execute("SELECT * FROM results")
    assert not victim.exists()  # that is what the check is for


def test_the_journal_of_a_stopped_writer_passes(database: Path) -> None:
    check_sqlite(database.with_name("not_there"))
    own = sqlite3.connect(database, isolation_level=None)
    own.execute("BEGIN IMMEDIATE")
    own.execute("INSERT INTO results VALUES ('a', 'b')")
    assert database.with_name("a.sqlite-journal").is_file()
    check_sqlite(database)


@pytest.mark.parametrize("ending", ["", "-journal", "-wal", "-shm"])
def test_links_and_pipes_are_refused(ending: str, database: Path) -> None:
    file = database.with_name(f"b.sqlite{ending}")
    file.symlink_to(database)
    with pytest.raises(FormatError, match="a link"):
        check_sqlite(database.with_name("b.sqlite"))
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(FormatError, match="a pipe"):
        check_sqlite(database.with_name("b.sqlite"))
