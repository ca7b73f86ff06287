import errno
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from naruto_vision.io import atomic
from naruto_vision.io.atomic import remove_leftovers, write_bytes, write_json, write_text
from naruto_vision.io.locks import folder_lock, lock_beside


class StopError(Exception):
    """Stands for whatever ends a writer in the middle."""


def write_half(writer: AbstractContextManager[Path], name: str) -> None:
    with writer as temporary:
        (temporary / name).write_text("half")
        raise StopError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_failed_write_leaves_the_old_file_and_no_leftover(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(StopError):
        write_half(atomic.atomic_file(target), "")
    assert target.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_the_temporary_file_is_in_the_same_folder_with_the_same_suffix(tmp_path: Path) -> None:
    with atomic.atomic_file(tmp_path / "deep" / "a.png") as temporary:
        assert temporary.parent == tmp_path / "deep"
        assert temporary.suffix == ".png"
        temporary.write_bytes(b"x")
    assert names(tmp_path / "deep") == ["a.png"]


def test_files_and_folders_get_the_mode_of_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        atomic.write_text(tmp_path / "a.txt", "x")
        with atomic.atomic_folder(tmp_path / "f") as temporary:
            (temporary / "b.txt").write_text("x")
            (temporary / "b.txt").chmod(0o600)
    finally:
        os.umask(before)
    for file in (tmp_path / "a.txt", tmp_path / "f" / "b.txt"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o750


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    for content in ("one", "two"):
        with atomic.atomic_folder(tmp_path / "f") as temporary:
            (temporary / f"{content}.txt").write_text(content)
    assert names(tmp_path / "f") == ["two.txt"]
    assert names(tmp_path) == ["f"]


def test_a_failed_folder_leaves_the_old_one(tmp_path: Path) -> None:
    with atomic.atomic_folder(tmp_path / "f") as temporary:
        (temporary / "a.txt").write_text("old")
    with pytest.raises(StopError):
        write_half(atomic.atomic_folder(tmp_path / "f"), "a.txt")
    assert (tmp_path / "f" / "a.txt").read_text() == "old"
    assert names(tmp_path) == ["f"]


def test_a_folder_that_cannot_be_renamed_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with atomic.atomic_folder(tmp_path / "f") as temporary:
        (temporary / "a.txt").write_text("old")
    rename = Path.rename

    def fail(path: Path, target: Path) -> Path:
        if path.name.startswith(".tmp-") and not path.name.endswith("-old"):
            raise StopError
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(StopError), atomic.atomic_folder(tmp_path / "f"):
        pass
    assert (tmp_path / "f" / "a.txt").read_text() == "old"
    assert names(tmp_path) == ["f"]


def test_json_never_holds_a_number_that_json_has_not(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        atomic.write_json(tmp_path / "a.json", {"x": float("nan")})
    assert names(tmp_path) == []
    atomic.write_json(tmp_path / "a.json", {"名": 1})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"名": 1}


def test_leftovers_of_a_killed_process_are_removed_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / ".tmp-abc.json").write_text("half")
    (tmp_path / ".tmp-folder").mkdir()
    (tmp_path / "kept.json").write_text("{}")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / ".tmp-def.jpg").write_text("half")
    assert atomic.remove_leftovers(tmp_path) == 3
    assert names(tmp_path) == ["kept.json", "sub"]
    assert names(tmp_path / "sub") == []
    assert atomic.remove_leftovers(tmp_path / "none") == 0


def test_a_folder_in_a_file_s_place_is_named_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "report.json").mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        atomic.write_json(tmp_path / "report.json", {})
    assert caught.value.filename == str(tmp_path / "report.json")
    assert names(tmp_path) == ["report.json"]


@settings(max_examples=20, deadline=None)
@given(st.text(max_size=40).filter(lambda text: text < "\ud800" or text.isascii()))
def test_text_and_bytes_are_written_as_they_are(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.mktemp("text")
    write_text(folder / "a", text)
    assert (folder / "a").read_bytes() == text.encode()
    write_bytes(folder / "a", b"\r\n\0")
    assert (folder / "a").read_bytes() == b"\r\n\0"


@pytest.mark.parametrize(("indent", "text"), [(None, '{"a": [1, "é"]}\n'), (1, '{\n "a": [\n  1,\n  "é"\n ]\n}\n')])
def test_json_is_written_on_one_line_or_laid_out(tmp_path: Path, indent: int | None, text: str) -> None:
    write_json(tmp_path / "a.json", {"a": [1, "é"]}, indent=indent)
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == text


def test_leftovers_that_are_links_go_and_what_they_point_to_stays(tmp_path: Path) -> None:
    (tmp_path / "kept.txt").write_text("x")
    (tmp_path / ".tmp-link").symlink_to(tmp_path / "kept.txt")
    assert remove_leftovers(tmp_path) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["kept.txt"]


KILLED = """
import os, sys
from pathlib import Path
from naruto_vision.io import atomic
target = Path(sys.argv[2])
if sys.argv[1] == "file":
    with atomic.atomic_file(target) as temporary:
        os.kill(os.getpid(), 9)
if sys.argv[1] == "swap":
    rename = Path.rename
    Path.rename = lambda path, other: rename(path, other) if path == target else os.kill(os.getpid(), 9)
with atomic.atomic_folder(target) as temporary:
    (temporary / "new.txt").write_text("half")
    if sys.argv[1] == "folder":
        os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("kind", ["file", "folder", "swap"])
def test_what_a_killed_writer_leaves_beside_its_target_goes_with_the_next_write(kind: str, tmp_path: Path) -> None:
    target = tmp_path / "target"
    if kind == "swap":
        target.mkdir()
        (target / "old.txt").write_text("old")
    done = subprocess.run([sys.executable, "-c", KILLED, kind, str(target)], check=False)
    assert done.returncode == -9
    assert [name for name in names(tmp_path) if name.startswith(".tmp-")]
    (tmp_path / ".tmp-of-another-program").write_text("kept")
    if kind == "file":
        write_text(target, "whole")
    else:
        with atomic.atomic_folder(tmp_path / "other"):
            pass
        (tmp_path / "other").rmdir()
    assert names(tmp_path) == [".tmp-of-another-program", *(["target"] if kind != "folder" else [])]
    if kind == "swap":  # neither the old nor the new folder had the name: the old one is put back
        assert names(target) == ["old.txt"]


def test_the_files_of_a_live_writer_stay(tmp_path: Path) -> None:
    with atomic.atomic_file(tmp_path / "a.txt") as mine, atomic.atomic_folder(tmp_path / "f") as folder:
        script = "import sys; from naruto_vision.io import atomic; atomic.write_text(sys.argv[1], 'x')"
        subprocess.run([sys.executable, "-c", script, str(tmp_path / "b.txt")], check=True)
        assert atomic.remove_leftovers(tmp_path) == 0
        mine.write_text("mine")
        (folder / "c.txt").write_text("mine")
    assert names(tmp_path) == ["a.txt", "b.txt", "f"]


@pytest.mark.parametrize("writer", [atomic.atomic_file, atomic.atomic_folder, folder_lock])
def test_a_full_disk_is_named_by_what_was_to_be_written(
    writer: Callable[[Path], AbstractContextManager[object]], tmp_path: Path
) -> None:
    for inner in (None, str(tmp_path / f"{atomic.TEMPORARY}x" / "b")):  # of an open file, and of one in the folder
        with pytest.raises(OSError, match="full") as caught, writer(tmp_path / "a"):
            raise OSError(errno.ENOSPC, "full", inner)
        assert caught.value.filename == str(tmp_path / "a")


@pytest.mark.parametrize(
    "writer", [atomic.atomic_file, atomic.atomic_folder, lambda path: folder_lock(path, file=lock_beside(path))]
)
def test_a_read_only_disk_is_named_by_what_was_to_be_written(
    writer: Callable[[Path], AbstractContextManager[object]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str, *_rest: object, **_options: object) -> None:
        raise OSError(errno.EROFS, "read-only", path)

    for name in ("open", "mkdir"):
        monkeypatch.setattr(os, name, refuse)
    with pytest.raises(OSError, match="read-only") as caught, writer(tmp_path / "a"):
        pass
    monkeypatch.undo()
    assert caught.value.filename == str(tmp_path / "a")


def test_a_folder_that_cannot_be_put_in_its_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("a")
    with pytest.raises(OSError, match="directory") as caught, atomic.atomic_folder(tmp_path / "a"):
        pass
    assert caught.value.filename == str(tmp_path / "a")
