"""One writer for one folder, whatever becomes of the writer."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from naruto_vision.errors import InputError
from naruto_vision.io.locks import folder_lock, is_in_use, lock_beside

HOLDER = """
import os, sys, time
from naruto_vision.io.locks import folder_lock
with folder_lock(sys.argv[1]):
    if len(sys.argv) > 2 and os.fork() == 0:  # a worker that outlives its parent
        print("worker", flush=True)
        time.sleep(60)
        os._exit(0)
    print("locked", flush=True)
    time.sleep(60)
"""


@contextmanager
def holder(folder: Path, *more: str) -> Iterator["subprocess.Popen[str]"]:
    words = [sys.executable, "-c", HOLDER, str(folder), *more]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    for _ in range(1 + len(more)):
        process.stdout.readline()
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_a_second_writer_is_refused_and_told_which_process_has_the_folder(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    with (
        holder(out) as process,
        pytest.raises(InputError, match=rf"out: process {process.pid} is writing.*, or give another --out"),
        folder_lock(out, "--out"),
    ):
        pass
    with folder_lock(out, "--out"):  # a killed process has no lock
        assert [path.name for path in out.iterdir()] == [".lock"]
        assert not is_in_use(out)
    assert list(out.iterdir()) == []


def test_a_folder_with_leftovers_only_is_not_in_use(tmp_path: Path) -> None:
    for name in (".lock", ".out.lock", ".tmp-nv-abcdefgh.json"):
        (tmp_path / name).touch()
    assert not is_in_use(tmp_path)
    (tmp_path / ".tmp-of-another-program").touch()
    assert is_in_use(tmp_path)


def test_a_worker_that_outlives_a_killed_writer_does_not_keep_the_lock(tmp_path: Path) -> None:
    with holder(tmp_path / "out", "fork") as process:
        process.kill()
        process.wait()
        with folder_lock(tmp_path / "out"):
            pass


def test_a_folder_that_was_made_for_the_lock_goes_unless_it_has_files(tmp_path: Path) -> None:
    with pytest.raises(KeyError), folder_lock(tmp_path / "a" / "b"):
        raise KeyError
    assert list(tmp_path.iterdir()) == []
    with folder_lock(tmp_path / "a" / "b"):
        (tmp_path / "a" / "b" / "results.json").write_text("{}")
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["results.json"]


def test_the_lock_of_a_folder_that_is_replaced_stands_beside_it(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    with folder_lock(folder, "--out", file=lock_beside(folder)):
        assert [path.name for path in tmp_path.iterdir()] == [".bundle.lock"]
        with pytest.raises(InputError, match="bundle: process"), folder_lock(folder, file=lock_beside(folder)):
            pass
    assert list(tmp_path.iterdir()) == []


def test_two_folders_do_not_disturb_each_other(tmp_path: Path) -> None:
    with folder_lock(tmp_path / "a"), folder_lock(tmp_path / "b"):
        pass
