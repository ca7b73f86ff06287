"""SQLite files from others: what stands beside one makes SQLite delete or write other files, so it is checked first."""

import os
from pathlib import Path

from naruto_vision.errors import FormatError
from naruto_vision.io.typed_json import require_regular

_MAGIC = bytes.fromhex("d9d505f920a163d7")  # https://www.sqlite.org/fileformat.html#the_rollback_journal
_AGAIN = "it is of another program, or damaged: remove it"


def check_plain(file: Path) -> None:
    """Raise FormatError if a file is a link, which leads elsewhere, or a pipe or device, which may never end."""
    if file.is_symlink():
        raise FormatError(file, "a file", "a link", _AGAIN)
    require_regular(file)


def check_sqlite(path: Path) -> None:
    """Raise FormatError if a file or its journals are links, pipes or devices, or the journal names a super-journal.

    SQLite deletes the super-journal that a journal names, which can be any file. Transactions over several files have
    one, and none is used here.
    """
    for ending in ("", "-journal", "-wal", "-shm"):
        check_plain(path.with_name(path.name + ending))
    journal = path.with_name(f"{path.name}-journal")
    if journal.is_file() and journal.stat().st_size >= len(_MAGIC):
        with journal.open("rb") as handle:
            handle.seek(-len(_MAGIC), os.SEEK_END)
            if handle.read() == _MAGIC:
                raise FormatError(journal, "the journal of one file", "one that names another file", _AGAIN)
